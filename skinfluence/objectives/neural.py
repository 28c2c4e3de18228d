"""The objective of a neural net: what solvers, methods and targets need, in blocks.

A net was trained on ``mean loss + ½ wd ‖θ‖²`` or on a sum. Here it is kept in total form, as for
every other model: ``F(θ) = Σ_i w_i ℓ_i(θ) + ½ Σ_j λ_j θ_j²`` with ``w_i = 1`` for a row the net
was trained on and 0 for a row of its validation split (influence 0), and ``λ_j = n · wd`` under
mean reduction. In that form the mean's penalty shrinks with each removed row (the removal rule).
Parameters held near others (fine-tuning) have ``½ λ_j (θ_j - c_j)²``.

Protocol
--------
Next to what :class:`~skinfluence.objectives.base.Objective` asks, :class:`NeuralObjective` has

``theta`` : float64 ndarray (n_params,)
    The selected trainable parameters, flat, in the order of ``module.named_parameters()``.
``penalty`` : float64 ndarray (n_params,)
    ``λ``: the diagonal second derivative of the weight decay, in total form.
``center`` : float64 ndarray (n_params,)
    ``c``; ``penalty_gradient`` is ``λ ∘ (θ - c)``.
``weights`` : float64 ndarray (n_rows,)
    ``w``; 0 for held-out rows. ``rule`` says how removal moves the penalty.
``gradients(rows)`` : Tensor (b, n_params)
    ``w_i ∇ℓ_i``, the plain row gradients (``removal_gradients`` adds the rule's part);
    ``loss_gradients()`` has them as Rows.
``curvature_product(V, kind="gauss_newton", penalty=True, rows=None)``
    ``C @ V`` for ``V`` of shape (n_params, m), without forming ``C``; ``kind`` is
    "gauss_newton" (``Σ w_i J_i' ∇²ℓ_i J_i``), "hessian", "fisher" (equal to Gauss-Newton for the
    losses whose outputs are natural parameters, refused for others) or "empirical_fisher"
    (``Σ w_i g_i g_i'``). ``penalty`` adds ``λ``. ``rows`` restricts the sum. A float64 ndarray
    comes back for an ndarray; a Tensor (dtype and device of the objective) for a Tensor.
    ``hessian_product``, ``gauss_newton_product``, ``fisher_product`` are short for it.
``curvature_diagonal(kind)``, ``curvature_trace(kind)``
    Of ``C`` without the penalty; not for the Hessian.
``curvature_columns(rows, n_samples=None, seed=0)``
    ``(x, Z, columns)``: ``columns`` (k, b, K) are cotangents of the outputs with
    ``Σ_k c_k c_k' = w_i ∇²ℓ_i`` (exact), or unbiased with ``n_samples`` random ones.
``row_blocks(bytes_per_row)``
    Index arrays of the trained rows, sized to the memory budget.
``pull(x, C, layers=None)`` / ``push(x, V)``
    ``J_i' c_i`` as (b, n_params), and ``J_i v`` as (m, b, K) for ``V`` (m, n_params).
``layers()``
    The structured layers (:class:`~skinfluence.objectives.net_layers.Layer`);
    ``uncovered`` names the parameters outside of them.
``layer_pass(rows, columns)``
    For each layer, ``a`` (b, T, d_in) and ``δ`` (k, b, T, d_out) for cotangents (k, b, K).
``dtype`` : numpy dtype of blocks; ``torch_dtype``, ``device``
``to_torch(V)``, ``to_numpy(T)``

Imported only when a net comes in.
"""

import copy
import fnmatch
import warnings
from functools import cached_property

import numpy as np
import torch

from .._blocks import block_length, index_blocks
from .base import Objective, relative_noise
from .net_curvature import NetCurvature
from .net_dropout import leave_out
from .net_layers import Recorder, find_layers
from .net_leverage import leverage_damping
from .net_queries import CHUNK_SHARE, NeuralQueries, NeuralRows, lift

with warnings.catch_warnings():  # of torch's own, at the first product in forward mode
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.func.jvp(torch.sin, (torch.zeros(()),), (torch.ones(()),))


class NeuralObjective(NetCurvature, Objective):
    """The objective of a fitted net.

    Parameters
    ----------
    source : object
        A net and its rows, e.g. :class:`~skinfluence.objectives.net_sources.SkorchSource`.
    parameters : str or list of str, optional
        Patterns (``"layers.2.*"``, or the path of a layer) of the parameters that move; the
        others stay as fitted. Default: all trainable ones.
    residual : bool, default=False
        What a fit that stopped short of a stationary point leaves, ``-∇F``, is the same with and
        without a row, and is left out of the difference. True adds it to every removal: the
        parameters then go to the optimum without the row, not only by the row's share.
    """

    default_method = "influence"
    strictly_convex = False
    # A pass swaps parameters into the one module: blocks of rows go one after the other.
    threaded = False

    def __init__(self, source, parameters=None, residual=False):
        self.source = source
        self.loss, self.head, self.rule = source.loss, source.head, source.rule
        self.weights, self.device, self.torch_dtype = source.weights, source.device, source.dtype
        self.dtype = np.dtype(str(source.dtype).removeprefix("torch."))
        self.n_rows = len(self.weights)
        self._select(parameters)
        self._layers, self.uncovered = find_layers(source.module, self.slices)
        self._outputs_and_slopes()
        total = self.weighted_gradient()
        self.gradient_norm = self.gradient_norm_fitted = float(np.abs(total).max())
        self.common_gradient = -total if residual else None

    def _select(self, patterns):
        source = self.source
        trainable = list(source.penalties)
        names = trainable if patterns is None else _matching(patterns, trainable, source.state)
        if not names:
            raise ValueError("the net has no trainable parameters")
        self.names, self.slices, start = names, {}, 0
        for name in names:
            stop = start + source.state[name].numel()
            self.slices[name], start = slice(start, stop), stop
        self.n_params = start
        self._fixed = {name: p for name, p in source.state.items() if name not in self.slices}
        self._shapes = {name: source.state[name].shape for name in names}
        self.flat = torch.cat([source.state[name].reshape(-1) for name in names])
        self.theta = self.to_numpy(self.flat)
        self._moving = self._entries_that_move()
        self.penalty, self.center = np.zeros(start), np.zeros(start)
        centers = getattr(source, "centers", {})
        for name, part in self.slices.items():
            self.penalty[part] = source.penalties[name]
            if name in centers:
                self.center[part] = centers[name]

    def _entries_that_move(self):
        """1 but at an embedding's padding row, which training leaves alone; None if all move."""
        out = torch.ones_like(self.flat)
        for path, module in self.source.module.named_modules():
            part = self.slices.get(f"{path}.weight" if path else "weight")
            padding = getattr(module, "padding_idx", None)
            if part is not None and padding is not None:
                out[part].reshape(module.weight.shape)[padding] = 0
        return None if bool((out == 1).all()) else out

    @property
    def default_solver(self):
        """By size: a dense factor, CG preconditioned by EKFAC, or EKFAC alone."""
        n_curved = np.count_nonzero(self.weights) * self.n_outputs
        if min(self.n_params, n_curved) <= 2000:
            return "direct"
        return "cg" if self.n_params <= 200_000 else "ekfac"

    @property
    def parameter_names(self):
        """``layer.weight[i, j]``."""
        out = []
        for name in self.names:
            shape = tuple(self._shapes[name])
            out += [f"{name}[{', '.join(map(str, i))}]" for i in np.ndindex(*shape)]
        return out

    # -- conversions -----------------------------------------------------------------------
    def to_torch(self, V):
        """A Tensor in the objective's dtype and on its device."""
        if isinstance(V, torch.Tensor):
            return V.to(self.device, self.torch_dtype)
        return torch.as_tensor(np.asarray(V), dtype=self.torch_dtype, device=self.device)

    def to_numpy(self, T):
        """A float64 ndarray."""
        return T.detach().to("cpu", torch.float64).numpy()

    def state(self, flat):
        """All parameters and buffers, the selected ones taken from ``flat``."""
        own = {name: flat[part].reshape(self._shapes[name]) for name, part in self.slices.items()}
        return {**self._fixed, **own}

    def outputs_at(self, flat, x):
        """Outputs (b, K) at parameters ``flat``."""
        return self.source.outputs(self.state(flat), x)

    def row_blocks(self, bytes_per_row=0, rows=None):
        """Index arrays of the trained rows, sized to the memory budget."""
        rows = np.flatnonzero(self.weights) if rows is None else np.asarray(rows)
        width = self._width * self.dtype.itemsize
        return index_blocks(rows, block_length(4 * width + bytes_per_row, share=CHUNK_SHARE))

    # -- the training side -----------------------------------------------------------------
    def _outputs_and_slopes(self):
        """Outputs of all rows, and ``w_i ∂ℓ_i/∂z_i`` of the trained ones."""
        x, y = self.source.batch(np.flatnonzero(self.weights)[:2])
        with Recorder(self._layers) as seen, torch.no_grad():
            Z = self.outputs_at(self.flat, x)
        sizes = [part.numel() // len(Z) for _, a, out in seen.passes for part in (a, out)]
        self.n_outputs = Z.shape[1]
        self._width = sum(sizes) + self.n_outputs
        self.outputs = np.empty((self.n_rows, self.n_outputs))
        slopes = torch.zeros(
            self.n_rows, self.n_outputs, dtype=self.torch_dtype, device=self.device
        )
        for rows in self.row_blocks(rows=np.arange(self.n_rows)):
            x, y = self.source.batch(rows)
            with torch.no_grad():
                Z = self.outputs_at(self.flat, x)
            self.outputs[rows] = self.to_numpy(Z)
            used = torch.as_tensor(self.weights[rows] > 0, device=self.device)
            if used.any():
                weight = self.to_torch(self.weights[rows])[used, None]
                where = torch.as_tensor(rows, device=self.device)[used]
                slopes[where] = self.loss.gradient(Z[used], y[used]) * weight
        if not np.isfinite(self.outputs).all() or not bool(torch.isfinite(slopes).all()):
            raise ValueError("the net's outputs or losses are not finite: did training diverge?")
        self.slopes = slopes

    def gradients(self, rows):
        """``w_i ∇ℓ_i`` for an index array or slice of rows: Tensor (b, n_params)."""
        rows = np.arange(self.n_rows)[rows]
        x, _ = self.source.batch(rows)
        return self.pull(x, self.slopes[torch.as_tensor(rows, device=self.device)])

    @property
    def penalty_gradient(self):
        """``∇R`` at the fit, float64."""
        return self.penalty * (self.theta - self.center)

    def weighted_gradient(self):
        """``∇F`` at the fit, float64."""
        return self.penalty_gradient + self.total_pull(self.slopes[None])[:, 0]

    def total_pull(self, C):
        """``Σ_i J_i' c_i`` over the trained rows, float64 (n_params, m), for ``C`` (m, n, K)."""
        total = np.zeros((self.n_params, len(C)))
        for rows in self.row_blocks():
            x, _ = self.source.batch(rows)
            part = C[:, torch.as_tensor(rows, device=self.device)]
            flat = self.flat.detach().requires_grad_()
            with torch.enable_grad():
                Z = self.outputs_at(flat, x)
            for k, c in enumerate(part):
                pulled = torch.autograd.grad(Z, flat, c, retain_graph=True)[0]
                total[:, k] += self.to_numpy(pulled)
        return total

    @cached_property
    def leverage_damping(self):
        """See :func:`~skinfluence.objectives.net_leverage.leverage_damping`."""
        return leverage_damping(self)

    def loss_gradients(self):
        """:class:`~skinfluence.gradients.Rows` of ``w_i ∇ℓ_i`` alone."""
        return NeuralRows(self, plain=True)

    def removal_gradients(self):
        """``w_i ∇ℓ_i`` plus the share of the penalty that goes with the row."""
        return NeuralRows(self)

    def at(self, state):
        """This objective at other parameters and buffers: a checkpoint's ``state_dict``."""
        return self._with_source(self.source.at(state))

    def with_noise(self, scale, rng):
        """This objective at parameters with noise, relative to those of the same array."""
        groups = np.repeat(
            np.arange(len(self.names)), [s.stop - s.start for s in self.slices.values()]
        )
        flat = self.to_torch(relative_noise(self.theta, groups, scale, rng))
        if self._moving is not None:
            flat = torch.where(self._moving > 0, flat, self.flat)
        return self._with_source(self.source.at(self.state(flat)))

    def with_dropout(self, p, rng):
        """This objective with units left out, the same ones for every row."""
        if not 0 < p < 1:
            raise ValueError(f"scale={p!r}: the share of units left out must lie between 0 and 1")
        source = self.source.at(self.source.state)
        leave_out(source.module, p, rng)
        return self._with_source(source)

    def _with_source(self, source):
        other = copy.copy(self)
        vars(other).pop("leverage_damping", None)
        other.source = source
        other._select(self.names)
        other._layers, other.uncovered = find_layers(source.module, other.slices)
        other._outputs_and_slopes()
        if self.common_gradient is not None:
            other.common_gradient = -other.weighted_gradient()
        return other

    # -- products with the Jacobian --------------------------------------------------------
    def layers(self):
        """Structured layers, in the order of the module."""
        return self._layers

    def push(self, x, V):
        """``J_i v``: (m, b, K) for ``V`` (m, n_params)."""

        def along(v):
            return torch.func.jvp(lambda flat: self.outputs_at(flat, x), (self.flat,), (v,))[1]

        with torch.no_grad():
            return torch.func.vmap(along)(V)

    def pull(self, x, C):
        """``J_i' c_i``: (b, n_params) for ``C`` (b, K)."""
        out = torch.empty(len(C), self.n_params, dtype=self.torch_dtype, device=self.device)
        if self._layers:
            seen = set()
            for layer, a, delta in self.layer_pass(x, C[None]):
                layer.add_gradients(a, delta[0], out, fresh=layer.name not in seen)
                seen.add(layer.name)
            for layer in self._layers:
                if layer.name not in seen:  # the pass does not use it
                    for part in filter(None, (layer.weight, layer.bias)):
                        out[:, part] = 0
        if self.uncovered:
            self._pull_uncovered(x, C, out)
        return out

    def layer_pass(self, x, columns):
        """``(layer, a, δ)`` for each use of each layer; ``columns`` (k, b, K)."""
        with torch.enable_grad(), Recorder(self._layers) as seen:
            Z = self.outputs_at(self.flat.detach().requires_grad_(), x)
        grads = torch.autograd.grad(
            Z,
            [output for _, _, output in seen.passes],
            columns,
            is_grads_batched=True,
            allow_unused=True,
        )
        for (layer, a, output), grad in zip(seen.passes, grads, strict=True):
            if grad is None:
                grad = output.new_zeros(len(columns), *output.shape)
            a = layer.inputs(a)
            yield layer, a, layer.slopes(grad)

    def _pull_uncovered(self, x, C, out):
        """Parameters without structure, one row at a time under vmap."""
        fixed = self.state(self.flat)
        own = {name: fixed.pop(name) for name in self.uncovered}

        def value(own, row, c):
            return (self.source.outputs({**fixed, **own}, lift(row))[0] * c).sum()

        grads = torch.func.vmap(torch.func.grad(value), in_dims=(None, 0, 0))(own, x, C)
        for name, grad in grads.items():
            out[:, self.slices[name]] = grad.reshape(len(C), -1)

    # -- the query side --------------------------------------------------------------------
    def queries(self, X):
        """Query rows."""
        return NeuralQueries(self, X)

    def input_gradient(self, X, C):
        """By one backward pass a block."""
        out = []
        for rows in self.row_blocks(rows=np.arange(X.shape[0])):
            x = self.source.inputs(X[rows]).detach().requires_grad_()
            with torch.enable_grad():
                total = (self.outputs_at(self.flat, x) * self.to_torch(C[rows])).sum()
                out.append(self.to_numpy(torch.autograd.grad(total, x)[0]))
        return np.concatenate(out)

    def training_queries(self, rows):
        """Training rows as queries."""
        return NeuralQueries(self, self.source.X[rows], self.outputs[rows])

    def training_targets(self, rows):
        """Targets of training rows for the head."""
        return self.head.encode(self.source.y)[rows]

    def read_parameters(self, estimator):
        """``θ`` of another fitted net."""
        return self.source.read(self.names, estimator)


def _matching(patterns, trainable, state):
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    names = set()
    for pattern in patterns:
        found = {name for name in trainable if matches(pattern, name)}
        if not found:
            frozen = [name for name in state if matches(pattern, name)]
            reason = "matches frozen parameters only" if frozen else "matches no parameter"
            raise ValueError(f"parameters={pattern!r} {reason}; the trainable ones: {trainable}")
        names |= found
    return [name for name in trainable if name in names]


def matches(pattern, name):
    """Whether a pattern, or the path of a layer, names a parameter."""
    return fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")
