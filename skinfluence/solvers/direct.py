"""Exact solves by a dense factorisation."""

import copy
import numbers

import numpy as np

from .base import Solver
from .factor import join_outputs, solve_repeated, split_outputs

FORMS = ("auto", "primal", "dual")


class Direct(Solver):
    """Exact ``(H + λ)⁻¹ v`` by Cholesky, or by Woodbury when rows are fewer than parameters.

    Parameters
    ----------
    damping : float, "auto" or "leverage", default="auto"
        ``λ``, in the units of the objective (a sum over rows). "auto" adds nothing to a convex
        model, nor to a net whose weight decay holds every parameter, else a tenth of the mean
        curvature. "leverage" adds to a net's
        Gauss-Newton matrix at least what keeps the mean leverage of its rows at 0.2: see the user
        guide.
    curvature : {"auto", "hessian", "gauss_newton", "fisher", "empirical_fisher"}, default="auto"
        What ``H`` is. "auto" is the Hessian of a convex model, and the Gauss-Newton matrix of a
        net, whose Hessian may be indefinite: ``report_["n_negative"]`` then counts its negative
        eigenvalues.
    form : {"auto", "primal", "dual"}, default="auto"
        For nets: the ``p × p`` matrix, or the kernel of the curvature's own rows (outputs times
        training rows, those of saturated predictions left out). "auto" takes the smaller.
    drop : float, default=1e-10
        For nets in dual form: the relative error that leaving out rows may cause.

    Attributes
    ----------
    report_ : dict
        ``form`` ("primal", "dual", "pseudo-inverse", "active set" or "pinned rows") of each
        diagonal block of the Hessian, and ``damping``; for nets also ``smallest_curvature``, and
        the number of ``rows`` in dual form.

    smallest_eigenvalue_, condition_number_ : float
        Of a convex model's Hessian, computed when asked for.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.solvers import Direct
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> InfluenceExplainer(Ridge(), solver=Direct()).fit(X, y).solver_.report_
    {'form': ['primal'], 'damping': 0.0}
    """

    def __init__(self, damping="auto", *, curvature="auto", form="auto", drop=1e-10):
        self.damping = damping
        self.curvature = curvature
        self.form = form
        self.drop = drop

    def fit(self, objective):
        """Factorise the Hessian of ``objective`` at its minimum."""
        if self.form not in FORMS:
            raise ValueError(f"form={self.form!r} is not one of {FORMS}")
        self.__dict__.pop("_net", None)
        if all(
            hasattr(part, "quadratic_blocks") for part in getattr(objective, "parts", [objective])
        ):
            self._check_convex(objective)
        elif hasattr(objective, "curvature_product"):
            self._fit_net(objective)
        else:
            raise TypeError(
                f"solver 'direct' needs an objective with explicit quadratic blocks; "
                f"{type(objective).__name__} has none. Use solver='cg'"
            )
        self._objective = objective
        self._factorise()
        return self

    def with_damping(self, damping):
        """This fitted solver with another damping; the matrix is kept, only factorised anew."""
        other = copy.copy(self)
        other.damping = damping
        if hasattr(other, "_net"):
            other._net = copy.copy(other._net)
        other._factorise()
        return other

    def _check_convex(self, objective):
        if self.curvature not in ("auto", "hessian", "gauss_newton"):
            raise ValueError(
                f"curvature={self.curvature!r} is not known for {type(objective).__name__}; use "
                "'auto', its Hessian"
            )
        if self.form != "auto":
            raise ValueError(
                f"form={self.form!r} is an option for nets; the form of "
                f"{type(objective).__name__} follows from its shape"
            )

    def _check_damped(self, objective):
        if any(part.restricted for part in getattr(objective, "parts", [objective])):
            raise ValueError(
                f"damping={self.damping!r} is not defined for {type(objective).__name__}, where "
                "an L1 penalty or a kink holds some of the parameters; use damping='auto'"
            )

    def _fit_net(self, objective):
        from .dense import DualNet, PrimalNet

        kind = "gauss_newton" if self.curvature == "auto" else self.curvature
        objective.check_kind(kind)
        n_curved = np.count_nonzero(objective.weights) * objective.n_outputs
        form = self.form
        if form == "auto":
            form = "dual" if n_curved < objective.n_params and kind != "hessian" else "primal"
        if form == "dual" and kind == "hessian":
            raise ValueError("a net's Hessian has no dual form; use curvature='gauss_newton'")
        self._kind = kind
        primal = form == "primal"
        self._net = PrimalNet(objective, kind) if primal else DualNet(objective, kind, self.drop)

    def _factorise(self):
        from .damped import GAUSS_NEWTON, curvature_operator, resolve_damping

        objective = self._objective
        for kept in ("_inverses", "_range"):  # of another objective or damping
            self.__dict__.pop(kept, None)
        if hasattr(self, "_net"):
            product = curvature_operator(objective, self._kind)
            inverts = self._kind in GAUSS_NEWTON
            self.damping_ = resolve_damping(self.damping, objective, product, False, inverts)
            self.report_ = {"form": [self._net.form], "damping": self.damping_}
            self.report_ |= self._net.factorise(self.damping_)
            return
        self.damping_ = 0.0 if self.damping == "auto" else self.damping
        if not isinstance(self.damping_, numbers.Real) or not 0 <= self.damping_ < np.inf:
            raise ValueError(
                f"damping={self.damping!r} must be 'auto' or a finite number of at least 0"
            )
        self.blocks_ = objective.quadratic_blocks()
        if self.damping_:
            self._check_damped(objective)
            self.blocks_ = [block.damped(self.damping_) for block in self.blocks_]
            self.factors_ = [block.factorise() for block in self.blocks_]
        else:
            self.factors_ = objective.factorise_blocks(self.blocks_)
        self.report_ = {
            "form": [factor.form for factor in self.factors_],
            "damping": float(self.damping_),
        }

    def solve(self, V):
        """``(H + λ)⁻¹ V``."""
        if hasattr(self, "_net"):
            return self._net.solve(np.asarray(V, dtype=np.float64))
        out, start = np.empty(V.shape), 0
        for block, factor in zip(self.blocks_, self.factors_, strict=True):
            stop = start + block.size * block.repeats
            out[start:stop] = solve_repeated(factor, V[start:stop], block.repeats)
            start = stop
        return out

    def root(self, V):
        """``R' V`` with ``R R' = (H + λ)⁻¹``."""
        if hasattr(self, "_net"):
            return self._net.root(np.asarray(V, dtype=np.float64))
        out, start = [], 0
        for block, factor in zip(self.blocks_, self.factors_, strict=True):
            if not hasattr(factor, "root"):
                raise TypeError(
                    f"the {factor.form} of {type(self._objective).__name__} have no square root: "
                    "no embedding has influences as inner products"
                )
            stop = start + block.size * block.repeats
            parts = factor.root(split_outputs(V[start:stop], block.repeats))
            out.append(join_outputs(parts, block.repeats))
            start = stop
        return np.concatenate(out)

    def inverses(self):
        """Explicit ``H⁻¹`` of each diagonal block, where the block was factorised as such."""
        if hasattr(self, "_net"):
            return [None]
        if not hasattr(self, "_inverses"):
            self._inverses = [
                factor.inverse() if hasattr(factor, "inverse") else None for factor in self.factors_
            ]
        return self._inverses

    @property
    def smallest_eigenvalue_(self):
        """Smallest eigenvalue of the Hessian, known gauges left out."""
        return self._extremes()[0]

    @property
    def condition_number_(self):
        """Largest over smallest eigenvalue of the Hessian, known gauges left out."""
        low, high = self._extremes()
        return high / low if low > 0 else np.inf

    def _extremes(self):
        if not hasattr(self, "_range"):
            pairs = zip(self.blocks_, self.factors_, strict=True)
            # under an L1 penalty the active parameters alone count
            ranges = [_eigenvalue_range(block, getattr(f, "index", None)) for block, f in pairs]
            self._range = min(low for low, _ in ranges), max(high for _, high in ranges)
        return self._range


def _eigenvalue_range(block, index=None):
    """Smallest and largest eigenvalue of a block; in dual form from the small matrix.

    With fewer curvature rows than parameters and one penalty for all, the smallest eigenvalue is
    that penalty; otherwise the dense block decides.
    """
    if index is not None:
        values = np.linalg.eigvalsh(block.matrix()[np.ix_(index, index)])
        return float(values[0]), float(values[-1])
    even = (block.penalty == block.penalty[0]).all()
    if not block.primal and even:
        kernel = block.rows.kernel(np.ones(block.size))
        return float(block.penalty[0]), float(np.linalg.eigvalsh(kernel)[-1] + block.penalty[0])
    values = np.linalg.eigvalsh(block.matrix())
    gauges = 0 if block.gauge is None else block.gauge.shape[1]
    return float(values[gauges]), float(values[-1])
