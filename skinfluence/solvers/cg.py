"""Conjugate gradients on many right sides at once, with a preconditioner."""

import numbers
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .._blocks import block_length, blocks
from .base import fitted_solver
from .damped import CURVATURES, DampedSolver, check_curvature, curvature_operator
from .diagonal import Diagonal
from .kronecker import EKFAC, KFAC
from .low_rank import Nystrom

PRECONDITIONERS = {"diagonal": Diagonal, "kfac": KFAC, "ekfac": EKFAC, "nystrom": Nystrom}


# Default relative residuals.
NET_TOL, CONVEX_TOL = 0.05, 1e-8


class ConjugateGradient(DampedSolver):
    """``(C + λ)⁻¹ v`` to a tolerance, by preconditioned conjugate gradients.

    Right sides are solved side by side, so that each product with the curvature serves all;
    those that have converged leave the block. Needs no more memory than a few blocks of right
    sides, whatever the number of training rows.

    Parameters
    ----------
    tol : float or "auto", default="auto"
        Relative residual ``|v - (C + λ) x| / |v|`` at which a right side is done; "auto" is 0.05
        for nets, whose curvature is no more accurate, and 1e-8 for strictly convex models.
    max_iter : int, default=200
    damping : float, "auto" or "leverage", default="auto"
        Added to the curvature, in the units of the objective (a sum over rows). "auto" adds
        nothing where the objective's own penalty holds every parameter, else a tenth of the mean
        curvature. "leverage" adds to a net's
        Gauss-Newton matrix at least what keeps the mean leverage of its rows at 0.2: see the user
        guide.
    curvature : {"gauss_newton", "hessian", "fisher", "empirical_fisher"}, default="gauss_newton"
        The Hessian of a net may be indefinite. A right side that meets a direction of negative
        curvature stops where it is, and a warning says how many did.
    preconditioner : {"auto", "ekfac", "kfac", "diagonal", "nystrom"}, Solver or None
        "auto" (default): EKFAC for nets, the diagonal for other models. A solver object must be
        symmetric and positive definite; it is given this solver's damping.
    block_size : int, optional
        Right sides solved side by side; default from the memory budget.

    Attributes
    ----------
    damping_ : float
    tol_ : float
    report_ : dict
        ``damping``, ``iterations`` (most of any right side), ``residual`` (largest),
        ``smallest_curvature`` (smallest Rayleigh quotient met), ``n_negative`` (right sides that
        met negative curvature), ``preconditioner``.

    References
    ----------
    Martens, J. (2010). Deep learning via Hessian-free optimization. ICML.
    https://www.cs.toronto.edu/~jmartens/docs/Deep_HessianFree.pdf

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.solvers import ConjugateGradient
    >>> X, y = load_diabetes(return_X_y=True)
    >>> solver = ConjugateGradient(tol=1e-10)
    >>> explainer = InfluenceExplainer(Ridge(), method="influence", solver=solver).fit(X, y)
    >>> explainer.transform(X[:2], y[:2]).shape
    (2, 442)
    """

    keeps_single = True

    def __init__(
        self,
        tol="auto",
        *,
        max_iter=200,
        damping="auto",
        curvature="gauss_newton",
        preconditioner="auto",
        block_size=None,
    ):
        self.tol = tol
        self.max_iter = max_iter
        self.damping = damping
        self.curvature = curvature
        self.preconditioner = preconditioner
        self.block_size = block_size

    def fit(self, objective):
        """Fit the preconditioner."""
        check_curvature(self.curvature, CURVATURES)
        convex = getattr(objective, "strictly_convex", False)
        automatic = isinstance(self.tol, str) and self.tol == "auto"
        self.tol_ = (CONVEX_TOL if convex else NET_TOL) if automatic else self.tol
        if not isinstance(self.tol_, numbers.Real) or not 0 < self.tol_ < 1:
            raise ValueError(f"tol={self.tol!r} must be 'auto' or lie between 0 and 1")
        for name in ("max_iter", "block_size"):
            value = getattr(self, name)
            if value is None and name == "block_size":
                continue
            if not isinstance(value, numbers.Integral) or value < 1:
                raise ValueError(f"{name}={value!r} must be a positive integer")
        self._start(objective)
        self._product = curvature_operator(objective, self.curvature)
        self._tensors = hasattr(objective, "to_torch")
        chosen = self._choose(objective)
        self._fitted = None if chosen is None else fitted_solver(chosen, objective)
        name = None if chosen is None else type(chosen).__name__
        self._name = name
        self._set_damping()
        return self

    def _choose(self, objective):
        chosen = self.preconditioner
        if isinstance(chosen, str) and chosen == "auto":
            has_layers = bool(getattr(objective, "layers", list)())
            chosen = "ekfac" if has_layers else "diagonal"
        if chosen is None:
            return None
        if isinstance(chosen, str):
            if chosen not in PRECONDITIONERS:
                raise ValueError(
                    f"preconditioner={chosen!r} is not one of 'auto', {sorted(PRECONDITIONERS)}, "
                    "None"
                )
            chosen = PRECONDITIONERS[chosen]()
        if not hasattr(chosen, "with_damping"):
            raise TypeError(f"preconditioner={chosen!r} is no solver with a damping")
        return chosen

    def _set_damping(self):
        self.report_ = {"preconditioner": self._name, "n_negative": 0, "converged": True}
        super()._set_damping()
        self._preconditioner = self._fitted
        if self._fitted is not None and self._fitted.damping_ != self.damping_:
            floor = 0.0
            if self._fitted.needs_positive_diagonal or hasattr(self._fitted, "corrected"):
                floor = self._fitted.damping_ if self.damping_ == 0 else 0.0
            self._preconditioner = self._fitted.with_damping(max(self.damping_, floor))

    def _solve(self, V):
        out = np.empty(V.shape, V.dtype, order="F")
        length = block_length(64 * len(V), self.block_size, share=1 / 16, smallest=8)
        left = negative = 0
        for part in blocks(V.shape[1], length):
            right = np.ascontiguousarray(V[:, part].T)
            if self._tensors:
                right = self._objective.to_torch(right)
            X, stats = self._solve_rows(right)
            out[:, part] = (X.cpu().numpy() if self._tensors else X).T
            left, negative = left + stats.pop("unsolved"), negative + stats.pop("negative")
            self._record(**stats)
        self._warn(left, negative, V.shape[1])
        return out

    def _solve_rows(self, b):
        """Solve right sides that are the rows of ``b``, a Tensor or an ndarray."""
        x, residuals = 0 * b, 0 * b[:, 0]
        norms = (b * b).sum(1) ** 0.5
        left = _nonzero(norms > 0)
        at, r, x_left = left, b[left], x[left]
        z = self._precondition(r)
        p, rz = z, (r * z).sum(1)
        smallest, negative, n_iter = np.inf, 0, 0
        while len(at) and n_iter < self.max_iter:
            n_iter += 1
            q = self._times(p)
            pq, pp = (p * q).sum(1), (p * p).sum(1)
            smallest = min(smallest, float((pq / pp).min()))
            good = pq > 0
            step = rz * good / (pq * good + ~good)
            if n_iter == 1 and not bool(good.all()):
                step = step + ~good * rz / (abs(pq) + ~(abs(pq) > 0))  # a first step all the same
            x_left = x_left + step[:, None] * p
            r = r - step[:, None] * q
            size = (r * r).sum(1) ** 0.5 / norms[at]
            done = (size <= self.tol_) | ~good
            negative += int((~good).sum())
            x[at], residuals[at] = x_left, size
            if bool(done.any()):
                keep = _nonzero(~done)
                at, r, x_left, p, rz = at[keep], r[keep], x_left[keep], p[keep], rz[keep]
            z = self._precondition(r)
            new = (r * z).sum(1)
            p, rz = z + (new / rz)[:, None] * p, new
        return x, {
            "iterations": n_iter,
            "residual": float(residuals.max()),
            "smallest_curvature": smallest,
            "n_negative": negative,
            "negative": negative,
            "unsolved": len(at),
            "converged": not len(at) and not negative,
        }

    def _times(self, V):
        return self._product(V.T).T + self.damping_ * V

    def _precondition(self, V):
        if self._preconditioner is None or not len(V):
            return V
        if self._tensors and hasattr(self._preconditioner, "apply"):
            return self._preconditioner.apply(V)
        if self._tensors:
            objective = self._objective
            return objective.to_torch(self._preconditioner._solve(objective.to_numpy(V).T).T)
        return self._preconditioner._solve(V.T).T

    def _warn(self, unsolved, negative, total):
        if negative:
            warnings.warn(
                f"{negative} of {total} right sides met negative curvature "
                f"(down to {self.report_['smallest_curvature']:.2g}) and stopped early: the "
                "Hessian is indefinite here. Use curvature='gauss_newton', or a damping above it.",
                UserWarning,
                stacklevel=4,
            )
        if unsolved:
            warnings.warn(
                f"conjugate gradients stopped at max_iter={self.max_iter} with a relative "
                f"residual of {self.report_['residual']:.1e} (tol={self.tol_:g}) on {unsolved} of "
                f"{total} right sides; raise max_iter, tol or the damping.",
                ConvergenceWarning,
                stacklevel=4,
            )


def _nonzero(mask):
    """Positions where a mask holds, an index for Tensor and ndarray alike."""
    return mask.nonzero()[0] if isinstance(mask, np.ndarray) else mask.nonzero()[:, 0]
