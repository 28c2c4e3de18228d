"""Influences of all pairs on the device where the training rows lie, for linear predictors."""

from weakref import WeakKeyDictionary

import numpy as np
import torch
from scipy.special import expit

from ._blocks import block_length, blocks
from ._tensors import is_tensor
from .gradients import KroneckerRows
from .methods.base import Effects
from .methods.first_order import FirstOrderEffects
from .methods.newton import FRAGILE_LEFT, LinearNewtonEffects, check_lone_rows
from .objectives.heads import BinaryHead, OneVsRestHead, RegressionHead, SoftmaxHead
from .objectives.linear_rows import LinearQueries
from .objectives.losses import LogisticLoss, MultinomialLoss
from .solvers.direct import Direct
from .solvers.factor import PrimalFactor
from .targets.base import BoundTarget
from .targets.predictions import Decision, Loss, Probability

# Heads whose decision is an output as it is.
LINEAR_HEADS = (RegressionHead, BinaryHead, SoftmaxHead, OneVsRestHead)

# Bytes of a block of values that a CPU keeps at hand.
CACHE = 2**23

# What is made once for the effects of a fit; kept here, so that no explainer pickles it.
_made = WeakKeyDictionary()


def walk(effects, bound, linear, use, batch_size=None, out=None):
    """Call ``use(rows, values)`` with the influences of every block of training rows.

    ``values`` (m, b) are a tensor on the device, or an array where the target is re-evaluated
    on the host. ``linear``: the target is linearised. Products that can be written to ``out``
    (m, n_rows) are, and ``use`` is not called.

    Returns
    -------
    bool
        False, and nothing done, where the effects are not known here.
    """
    if effects not in _made:
        _made[effects] = DevicePairs(effects)
    pairs = _made[effects]
    values = pairs.linearised(effects, bound) if linear else pairs.reevaluated(effects, bound)
    if values is None:
        return False
    objective = effects.objective
    out = _writable(out, objective.design.tensor) if linear else None
    n_values = 1 if linear and bound.target.scalar else len(bound.queries)
    n_values *= 1 if linear else objective.n_outputs
    for rows in blocks(objective.n_rows, _length(objective, n_values, batch_size, out)):
        if out is None:
            use(rows, values(rows))
        else:
            values(rows, out=out[:, rows])
    return True


def _length(objective, n_values, batch_size, out):
    """Rows in a block, so that it takes a share of the working memory."""
    held = 3 * n_values if out is None else 0  # values, what becomes of them, a mask
    per_row = 8 * (held + 4 * objective.n_params)  # rows, rows times scales, moves in float64
    length = block_length(per_row, batch_size, share=1 / 2, smallest=256)
    if objective.design.device.type != "cpu" or batch_size is not None or out is not None:
        return length
    return min(length, max(64, CACHE // (8 * n_values)))  # what is looked through stays at hand


def _writable(out, like):
    """``out`` as a tensor of the dtype and device of another, if it is one or can be taken so."""
    if isinstance(out, np.ndarray) and like.device.type == "cpu" and out.flags.c_contiguous:
        out = torch.from_numpy(out)
    same = is_tensor(out) and (out.dtype, out.device) == (like.dtype, like.device)
    return out if same else None


class DevicePairs:
    """Influences of training rows on queries, by products on the device.

    Parameters
    ----------
    effects : Effects
        Of an objective with a :class:`~skinfluence.objectives.device_design.DeviceDesign`. It is
        not kept: what is made here is forgotten with it.
    """

    def __init__(self, effects):
        self.objective, self.design = effects.objective, effects.objective.design
        put = self.design.put
        factors = effects.solver.factors_ if type(effects.solver) is Direct else []
        primal = len(factors) == 1 and type(factors[0]) is PrimalFactor
        self.factor = DeviceFactor(factors[0], put) if primal else None
        self.scales = self.coefficients = self.basis = None
        if type(effects) is FirstOrderEffects and type(effects.gradients) is KroneckerRows:
            gradients = effects.gradients
            self.scales = put(gradients.scales)
            if gradients.coefficients is not None:
                self.coefficients, self.basis = put(gradients.coefficients), put(gradients.basis)
        elif type(effects) is LinearNewtonEffects and self.objective.rule.trivial:
            rows = np.arange(self.objective.n_rows)
            check_lone_rows(self.objective, effects.lone, rows)
            scales, _, left = zip(*map(effects._scales, effects.row_blocks(rows)), strict=True)
            if np.concatenate(left).min() >= FRAGILE_LEFT:  # else steps are refined on the host
                self.scales = put(np.concatenate(scales))

    def linearised(self, effects, bound):
        """One product with the released gradients, in the dtype of the rows."""
        if type(effects) is not FirstOrderEffects or self.scales is None:
            return None
        pulled = bound.pullback()
        if self.factor is None:
            adjoint = self.design.put(effects.adjoint(pulled))
        else:
            adjoint = self._solved(self.design.put(pulled).to(torch.float64).T)
        adjoint = adjoint.to(self.design.tensor.dtype).T
        return lambda rows, out=None: torch.mm(adjoint, self._released(rows).T, out=out)

    def reevaluated(self, effects, bound):
        """Changes of the outputs by products; of the target here too, where it is known."""
        known = type(bound) is BoundTarget and type(bound.queries) is LinearQueries
        if not known or type(effects).outputs is not Effects.outputs:
            return None
        moves = self._moves(effects, bound.queries)
        change = device_change(bound, self.design.put)

        def values(rows):
            moved = moves(rows)
            if change is not None:
                return change(moved)
            return bound.reevaluated(lambda queries: moved.cpu().numpy())

        return values

    def _moves(self, effects, queries):
        """Changes of the outputs at the queries as a function of rows: (m, b, K)."""
        design, K = self.design, self.objective.n_outputs
        own = hasattr(queries.design, "tensor")
        x = queries.design.rows(slice(None)) if own else design.put(queries.block)
        known = self.scales is not None and self.factor is not None
        if known and self.objective.loss.scalar and self.coefficients is None:
            # outputs share H: solved once a query
            solved = self.factor.solve(x.to(torch.float64).T).T.to(x.dtype)
            if K == 1:
                return lambda rows: (
                    solved @ design.rows(rows, self.scales[rows, 0], x.dtype).T
                ).unsqueeze(2)
            return lambda rows: (
                (solved @ design.rows(rows, dtype=x.dtype).T)[:, :, None]
                * self.scales[rows].to(x.dtype)
            )

        def moves(rows):
            if known:
                delta = self._solved(self._released(rows, torch.float64).T).T
            else:
                delta = design.put(effects.parameters(np.arange(rows.start, rows.stop)))
            delta = delta.to(x.dtype).reshape(-1, design.shape[1])
            return (x @ delta.T).reshape(len(x), -1, K)

        return moves

    def _released(self, rows, dtype=None):
        """What each row releases, ``s_i ⊗ x_i`` and what a rule adds: (b, n_params)."""
        scales = self.scales[rows]
        if scales.shape[1] == 1:
            out = self.design.rows(rows, scales[:, 0], dtype)
        else:
            x = self.design.rows(rows, dtype=dtype)
            out = (scales.to(x.dtype)[:, :, None] * x[:, None, :]).reshape(len(x), -1)
        if self.coefficients is not None:
            out += self.coefficients[rows].to(out.dtype) @ self.basis.to(out.dtype)
        return out

    def _solved(self, V):
        """``H⁻¹ V`` in float64: outputs of a scalar loss share a factor."""
        repeats = self.objective.n_outputs if self.objective.loss.scalar else 1
        parts = V.reshape(repeats, -1, V.shape[1]).transpose(0, 1)
        out = self.factor.solve(parts.reshape(len(V) // repeats, -1))
        return out.reshape(len(V) // repeats, repeats, -1).transpose(0, 1).reshape(V.shape)


class DeviceFactor:
    """The Cholesky factor of the host on the device."""

    def __init__(self, factor, put):
        lower, scale = factor.cholesky()
        self.lower, self.scale = put(lower), put(scale)[:, None]

    def solve(self, V):
        """``H⁻¹ V``."""
        return self.scale * torch.cholesky_solve(self.scale * V, self.lower)


def device_change(bound, put):
    """Change of a target as a function of changed outputs (m, b, K), or None if not known here."""
    target, head = bound.target, bound.head
    if type(target) is Decision and type(head) in LINEAR_HEADS:
        index = put(np.zeros_like(bound.context[0]) if head.n_outputs == 1 else bound.context[0])
        return lambda dZ: _picked(dZ, index)
    if type(target) is Loss:
        return _loss_change(bound, put)
    if type(target) is Probability and type(head) in (BinaryHead, SoftmaxHead):
        index, fitted = bound.context[0], put(bound.value())[:, None]
        if type(head) is SoftmaxHead:
            outputs, index = put(bound.queries.outputs)[:, None], put(index)
            return lambda dZ: _picked(torch.softmax(outputs + dZ, dim=2), index) - fitted
        sign = put(np.where(index == 1, 1.0, -1.0))[:, None]
        outputs = put(bound.queries.outputs)
        return lambda dZ: torch.sigmoid(sign * (outputs + dZ[:, :, 0])) - fitted
    return None


def _loss_change(bound, put):
    head, Z, y = bound.head, bound.queries.outputs, bound.context[0]
    loss = getattr(head, "loss_function", None)
    if type(head) in (RegressionHead, BinaryHead, OneVsRestHead) and _is_quadratic(loss):
        curvature = float(loss.curvature(Z[:1, :1], np.zeros(1))[0])
        slopes = put(head.loss_gradient(Z, y))[:, None]
        return lambda dZ: (dZ * (slopes + curvature / 2 * dZ)).sum(dim=2)
    if type(head) is BinaryHead and type(loss) is LogisticLoss:
        sign = np.where(y == 1, -1.0, 1.0)
        return _LogisticChange(put(sign), put(expit(sign * Z[:, 0])))
    if type(head) is SoftmaxHead and type(loss) is MultinomialLoss:
        outputs, fitted, index = put(Z)[:, None], put(head.loss(Z, y))[:, None], put(y)

        def change(dZ):
            moved = outputs + dZ
            return torch.logsumexp(moved, dim=2) - _picked(moved, index) - fitted

        return change
    return None


def _is_quadratic(loss):
    bounds = loss.relative_bounds
    return bounds is not None and not any(bounds)


class _LogisticChange:
    """As :meth:`~skinfluence.objectives.losses.LogisticLoss.change`, in the dtype of the moves."""

    def __init__(self, sign, q):
        self.sign, self.q = sign[:, None], q[:, None]

    def __call__(self, dZ):
        q, u = self.q.to(dZ.dtype), dZ[:, :, 0] * self.sign.to(dZ.dtype)
        large = None
        if u.numel() and u.max() > 30:  # exp would overflow: q e^u dominates
            large = torch.logaddexp(torch.log1p(-q), u + torch.log(q))
        u = u.expm1_().mul_(q).log1p_()
        return u if large is None else torch.where(torch.isfinite(u), u, large)


def _picked(values, index):
    """Entry ``index[q]`` of the last axis of (m, b, K)."""
    if values.shape[2] == 1:
        return values[:, :, 0]
    index = index[:, None, None].expand(-1, values.shape[1], 1)
    return torch.gather(values, 2, index)[:, :, 0]


def candidates(values, by, k, bar, strict):
    """Entries that may be among the ``k`` best of their row: ``(row, column, value)`` arrays.

    Parameters
    ----------
    values : tensor of shape (m, b)
    by : {"magnitude", "helpful", "harmful"}
    k : int
    bar : ndarray of shape (m,)
        Scores that are to be reached.
    strict : ndarray of shape (m,)
        Whether the bar is to be exceeded.
    """
    least = torch.as_tensor(bar, device=values.device).to(values.dtype)
    above = torch.nextafter(least, torch.full_like(least, torch.inf))
    least = torch.where(torch.as_tensor(strict, device=values.device), above, least)
    low, high = values.amin(dim=1), values.amax(dim=1)
    best = {"magnitude": torch.maximum(high, -low), "helpful": high, "harmful": -low}[by]
    rows = torch.nonzero(best >= least)[:, 0]  # few, once some blocks have been looked through
    values, least = values[rows], least[rows]
    scores = {"magnitude": torch.abs, "helpful": torch.positive, "harmful": torch.neg}[by](values)
    if scores.shape[1] > k and bool(torch.isneginf(least).any()):
        least = torch.maximum(least, torch.topk(scores, k, dim=1, sorted=False).values.amin(dim=1))
    row, column = torch.nonzero(scores >= least[:, None], as_tuple=True)
    return tuple(part.cpu().numpy() for part in (rows[row], column, values[row, column]))
