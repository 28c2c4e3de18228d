"""What solvers of ``(C + λI) x = v`` share: the curvature ``C``, the damping ``λ``, the report."""

import copy
import numbers
from functools import partial
from threading import Lock

import numpy as np

from .._blocks import block_length, blocks
from .base import Solver

CURVATURES = ("gauss_newton", "hessian", "fisher", "empirical_fisher")
GAUSS_NEWTON = ("gauss_newton", "fisher")
_REPORT_LOCK = Lock()  # blocks of right sides may be solved in several threads


class DampedSolver(Solver):
    """Base class of solvers with a ``damping`` added to the curvature.

    A subclass's ``fit`` calls :meth:`_start`, prepares what does not depend on the damping, and
    ends with :meth:`_set_damping`. Right sides are checked here, so that nothing that is not
    finite goes in.
    """

    # True where the solver divides by penalty + damping: then neither may vanish together.
    needs_positive_diagonal = False
    # False where the approximation itself keeps rows from fitting themselves (Kronecker factors,
    # a diagonal): more damping makes these no better.
    inverts_curvature = True
    # True where right sides in single precision stay so: solvers that work in the net's dtype.
    keeps_single = False

    def with_damping(self, damping):
        """This fitted solver with another damping; everything that was computed is shared."""
        other = copy.copy(self)
        other.damping = damping
        other.report_ = dict(self.report_)
        other._set_damping()
        return other

    def solve(self, V):
        """Approximate ``(C + damping·I)⁻¹ V``.

        Parameters
        ----------
        V : ndarray of shape (n_params, m)
            Any number of right sides, more than parameters included.

        Returns
        -------
        ndarray of shape (n_params, m)
        """
        V = self._checked(V)
        return self._solve(V) if V.shape[1] else V.copy()

    def _checked(self, V):
        single = self.keeps_single and getattr(V, "dtype", None) == np.float32
        V = np.asarray(V, dtype=np.float32 if single else np.float64)
        if V.ndim != 2 or len(V) != self.n_params_:
            raise ValueError(f"V has shape {V.shape}; ({self.n_params_}, m) is needed")
        if not np.isfinite(V).all():
            raise ValueError("V holds NaN or infinity: a gradient of the model is not finite")
        return V

    def _start(self, objective):
        check_unrestricted(objective, type(self).__name__)
        self._objective = objective
        self.n_params_ = objective.n_params
        self.report_ = {}

    def _set_damping(self):
        self.damping_ = resolve_damping(
            self.damping,
            self._objective,
            self._product,
            self.needs_positive_diagonal,
            self.inverts_curvature and getattr(self, "curvature", None) in GAUSS_NEWTON,
        )
        self.report_ = self.report_ | {"damping": self.damping_}

    def _record(self, **worst):
        """Keep the largest value of each key over all solves (the smallest of a curvature)."""
        with _REPORT_LOCK:
            for key, value in worst.items():
                pick = min if key in ("smallest_curvature", "converged") else max
                self.report_[key] = pick(value, self.report_.get(key, value))

    def _record_residual(self, V, X):
        """Relative residual of a few of the solved columns."""
        few = slice(0, 4)
        left = V[:, few] - self._product(X[:, few]) - self.damping_ * X[:, few]
        norms = np.linalg.norm(V[:, few], axis=0)
        ratios = np.linalg.norm(left, axis=0) / np.where(norms > 0, norms, 1.0)
        self._record(residual=float(ratios.max(initial=0.0)))


# -- the curvature ---------------------------------------------------------------------------
def curvature_operator(objective, kind):
    """``V -> C V`` for the curvature ``kind`` of an objective, its penalty included.

    For a linear predictor the Gauss-Newton matrix is the Hessian, and the products with the
    Hessian serve both.
    """
    check_curvature(kind)
    if hasattr(objective, "curvature_product"):
        return partial(objective.curvature_product, kind=kind)
    if kind == "empirical_fisher":
        return EmpiricalFisher(objective)
    if kind == "fisher":
        raise ValueError(
            f"curvature='fisher' is not known for {type(objective).__name__}; "
            "curvature='gauss_newton' equals it for a loss of an exponential family"
        )
    return objective.hessian_product


def check_unrestricted(objective, name):
    """Refuse objectives without a Hessian, or with its inverse on some parameters only."""
    from ..objectives.base import Objective  # objectives build on this package

    for _, part in parts_of(objective):
        products = hasattr(part, "curvature_product")
        own = getattr(part.hessian_product, "__func__", None)
        if not products and own is Objective.hessian_product:
            raise TypeError(
                f"{name} needs products with a Hessian, and {type(part).__name__} has none; use "
                "solver='auto'"
            )
    if any(part.restricted for _, part in parts_of(objective)):
        raise TypeError(
            f"{name} inverts the whole Hessian, but an L1 penalty or a kink holds parameters; use "
            "solver='direct', which inverts it on the others"
        )


def check_curvature(kind, known=CURVATURES):
    """Refuse an unknown name."""
    if kind not in known:
        raise ValueError(f"curvature={kind!r} is not one of {sorted(known)}")


class EmpiricalFisher:
    """``V -> Σ_i w_i g_i g_i' V + ∇²R V``, block by block where outputs are independent."""

    def __init__(self, objective):
        self.pieces = [(piece, *weighted_gradients(part)) for piece, part in parts_of(objective)]
        self.penalty = penalty_diagonal(objective)

    def __call__(self, V):
        """The product, in blocks of rows."""
        out = self.penalty[:, None] * V
        for piece, gradients, weights in self.pieces:
            for rows in gradient_blocks(gradients, V.shape[1]):
                G = gradients.block(rows).astype(np.float64, copy=False)
                out[piece] += G.T @ (divide(1.0, weights[rows])[:, None] * (G @ V[piece]))
        return out


def parts_of(objective):
    """``(slice, part)`` of the independent objectives that make up ``objective``."""
    if hasattr(objective, "parts"):
        return list(zip(objective.parameter_slices, objective.parts, strict=True))
    return [(slice(0, objective.n_params), objective)]


def weighted_gradients(objective):
    """Rows ``w_i g_i`` of the loss alone, and the weights ``w_i``."""
    if not hasattr(objective, "loss_gradients"):
        raise TypeError(
            f"{type(objective).__name__} gives no gradients of its rows' losses; use "
            "curvature='gauss_newton' or 'hessian'"
        )
    return objective.loss_gradients(), objective.weights


def layer_grids(objective):
    """Positions in ``θ`` of each layer's parameters, as (d_out, d_in) arrays.

    A dense layer's bias is its last column; parameters without such a structure are one row.
    """
    if not hasattr(objective, "layers"):
        return [np.arange(objective.n_params).reshape(objective.n_outputs, -1)]
    grids = []
    for layer in objective.layers():
        parts = [np.arange(s.start, s.stop) for s in (layer.weight, layer.bias) if s is not None]
        if layer.kind == "dense":
            rows = layer.d_out if layer.weight is None else len(layer.module.weight)
            grids.append(np.hstack([part.reshape(rows, -1) for part in parts]))
        else:
            grids.append(np.concatenate(parts)[None])
    rest = [objective.slices[name] for name in objective.uncovered]
    return grids + [np.arange(s.start, s.stop)[None] for s in rest]


def gradient_blocks(gradients, n_columns):
    """Slices of rows whose gradients, and products with ``n_columns``, fit the memory budget."""
    n, p = gradients.shape
    return blocks(n, block_length(8 * (2 * p + n_columns), share=1 / 8))


def penalty_diagonal(objective):
    """``∇²R`` of a quadratic penalty, as its diagonal: (n_params,)."""
    if hasattr(objective, "parts"):
        return np.concatenate([penalty_diagonal(part) for part in objective.parts])
    return np.broadcast_to(np.ravel(objective.penalty), (objective.n_params,)).astype(np.float64)


def divide(a, b):
    """``a / b``, zero where ``b`` is zero."""
    return np.divide(a, b, out=np.zeros(np.shape(b)), where=b != 0)


# -- the damping -----------------------------------------------------------------------------
def resolve_damping(damping, objective, product, positive, inverts):
    """The number ``λ`` that is added to the curvature, in the units of ``F``.

    ``"auto"`` adds nothing where the objective's own penalty holds every parameter, or where its
    minimum is unique and the solver can do without; else a tenth of the mean curvature.
    ``"leverage"`` adds at least what keeps the mean leverage of a net's rows at 0.2
    (:func:`~skinfluence.objectives.net_leverage.leverage_damping`); it is for solvers that
    ``invert`` a Gauss-Newton matrix.
    """
    if isinstance(damping, str) and damping in ("auto", "leverage"):
        held = penalty_diagonal(objective).min(initial=np.inf) > 0
        sure = held or (objective.strictly_convex and not positive)
        least = 0.0 if sure else 0.1 * mean_curvature(product, objective.n_params)
        if damping == "auto":
            return least
        if not inverts or not hasattr(objective, "leverage_damping"):
            raise ValueError(
                "damping='leverage' is for solvers that invert a net's Gauss-Newton matrix "
                "('direct', 'cg', 'lissa', 'lanczos', 'nystrom'); use 'auto' or a number"
            )
        return max(least, objective.leverage_damping)
    if not isinstance(damping, numbers.Real) or not 0 <= damping < np.inf:
        raise ValueError(
            f"damping={damping!r} must be 'auto', 'leverage' or a finite number of at least 0"
        )
    if damping == 0 and positive and penalty_diagonal(objective).min(initial=np.inf) <= 0:
        raise ValueError(
            "damping=0 leaves parameters without penalty nor damping, and this solver divides by "
            "their sum; pass a positive damping, or use solver='cg'"
        )
    return float(damping)


def mean_curvature(product, n_params, n_probes=16):
    """``trace(C) / p`` by random signs (Hutchinson); the same number at every call."""
    signs = np.random.default_rng(0).integers(0, 2, (n_params, n_probes)) * 2.0 - 1
    mean = float((signs * product(signs)).sum() / (n_probes * n_params))
    if not mean > 0:
        raise ValueError(
            f"the mean curvature is {mean:.1e}: damping='auto' cannot be derived from it; pass "
            "a number, or use curvature='gauss_newton'"
        )
    return mean
