"""LiSSA: the inverse as a truncated Neumann series."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from .damped import DampedSolver, curvature_operator


class LiSSA(DampedSolver):
    """``c ← v + (1 - d) c - C c / s``, then ``x = c / s``: a Neumann series with scale ``s``.

    The recursion solves ``(C + d·s·I) x = v``: its effective damping is ``d·s``, not ``d``. Here
    ``damping`` is that effective damping ``λ = d·s``, in the units of every other solver. It
    converges when ``0 < (κ + λ) / s < 2`` for every eigenvalue ``κ`` of ``C``, at the rate
    ``1 - (κ_min + λ) / s``, so that it needs about ``s / (κ_min + λ) · log(1 / tol)`` steps. Each
    step takes the curvature of all rows: nothing is drawn at random but the start of the power
    iteration.

    A column whose residual grows (a negative eigenvalue below ``-λ``, a ``scale`` too small) is
    stopped at its smallest residual, and a warning says so.

    Parameters
    ----------
    damping : float, "auto" or "leverage", default="auto"
        Added to the curvature. "auto" adds nothing where the objective's penalty or strict
        convexity makes it definite, else a tenth of its mean eigenvalue. "leverage" adds to a net's
        Gauss-Newton matrix at least what keeps the mean leverage of its rows at 0.2: see the user
        guide.
    scale : float or "auto", default="auto"
        ``s``; "auto" is 1.05 times the largest eigenvalue, found by power iteration, plus the
        damping.
    curvature : {"gauss_newton", "hessian", "fisher", "empirical_fisher"}, default="gauss_newton"
    tol : float, default=1e-6
        Residual relative to the right side at which a column is done.
    max_iter : int, default=1000
        The depth of the recursion.
    random_state : int, RandomState or None, default=0
        Start of the power iteration.

    Attributes
    ----------
    report_ : dict
        ``damping``, ``scale``, and over all solves: ``iterations``, ``residual`` (largest,
        relative), ``smallest_curvature`` (of ``C + λI``, seen along the last residuals),
        ``converged``, ``diverged``.

    References
    ----------
    Agarwal, N., Bullins, B. and Hazan, E. (2017). Second-order stochastic optimization for
    machine learning in linear time. JMLR 18. https://arxiv.org/abs/1602.03943

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.solvers import LiSSA
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> explainer = InfluenceExplainer(
    ...     LogisticRegression(), method="influence", solver=LiSSA(max_iter=5000)
    ... )
    >>> _ = explainer.fit(scale(X), y).transform(scale(X)[:3], y[:3])
    >>> bool(explainer.solver_.report_["residual"] < 1e-6)
    True
    """

    def __init__(
        self,
        *,
        damping="auto",
        scale="auto",
        curvature="gauss_newton",
        tol=1e-6,
        max_iter=1000,
        random_state=0,
    ):
        self.damping = damping
        self.scale = scale
        self.curvature = curvature
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, objective):
        """Find the scale of the objective's curvature."""
        self._start(objective)
        self._product = curvature_operator(objective, self.curvature)
        self._largest = None
        if self.scale == "auto":
            self._largest = abs(
                power_iteration(self._product, objective.n_params, self.random_state)
            )
        elif not 0 < self.scale < np.inf:
            raise ValueError(f"scale={self.scale!r} must be 'auto' or a positive number")
        self._set_damping()
        return self

    def _set_damping(self):
        super()._set_damping()
        self.scale_ = float(self.scale) if self._largest is None else 1.05 * self._largest
        self.scale_ += self.damping_ if self._largest is not None else 0.0
        if self.scale_ == 0:
            raise ValueError("the curvature is zero: pass a positive damping")
        self.report_["scale"] = self.scale_

    def _solve(self, V):
        total, residual = np.zeros_like(V), V.copy()
        norms = np.linalg.norm(V, axis=0)
        sizes, diverged = norms.copy(), np.zeros(V.shape[1], dtype=bool)
        active = np.flatnonzero(norms > 0)
        n_iter, lowest = 0, np.inf
        while len(active) and n_iter < self.max_iter:
            n_iter += 1
            total[:, active] += residual[:, active]
            old = residual[:, active]
            step = (self._product(old) + self.damping_ * old) / self.scale_
            with np.errstate(over="ignore", invalid="ignore"):
                new = old - step
                new_sizes = np.linalg.norm(new, axis=0)
            grown = ~(new_sizes <= sizes[active] * (1 + 1e-12))
            total[:, active[grown]] -= old[:, grown]
            diverged[active[grown]] = sizes[active[grown]] > 1e-10 * norms[active[grown]]
            lowest = np.min(self.scale_ * (old * step).sum(0) / sizes[active] ** 2)
            kept = active[~grown]
            residual[:, kept], sizes[kept] = new[:, ~grown], new_sizes[~grown]
            active = kept[sizes[kept] > self.tol * norms[kept]]
        relative = sizes / np.where(norms > 0, norms, 1.0)
        self._finish(relative, diverged, n_iter, lowest)
        return total / self.scale_

    def _finish(self, relative, diverged, n_iter, lowest):
        worst = float(relative.max(initial=0.0))
        converged = bool((relative <= max(self.tol, 1e-10)).all())
        self._record(iterations=n_iter, residual=worst, converged=converged)
        self._record(diverged=bool(diverged.any()))
        if np.isfinite(lowest):
            self._record(smallest_curvature=float(lowest))
        if diverged.any():
            warnings.warn(
                f"LiSSA diverged on {int(diverged.sum())} of {len(diverged)} columns and kept "
                f"their smallest residual (relative {worst:.1e}): the curvature has an eigenvalue "
                f"below -{self.damping_:.1e}, or scale={self.scale_:.1e} is below half the "
                "largest one. Raise damping, or use curvature='gauss_newton' and scale='auto'.",
                ConvergenceWarning,
                stacklevel=4,
            )
        elif not converged:
            warnings.warn(
                f"LiSSA stopped after {n_iter} steps at a relative residual of {worst:.1e}; raise "
                "max_iter or damping, or use solver='cg'.",
                ConvergenceWarning,
                stacklevel=4,
            )


def power_iteration(product, n_params, random_state, max_iter=100, tol=1e-3):
    """The eigenvalue of largest magnitude, with its sign, to a relative ``tol``."""
    vector = check_random_state(random_state).standard_normal((n_params, 1))
    vector /= np.linalg.norm(vector)
    value = 0.0
    for _ in range(max_iter):
        moved = product(vector)
        last, value = value, float((vector * moved).sum())
        size = np.linalg.norm(moved)
        if size == 0:
            return 0.0
        vector = moved / size
        if abs(value - last) <= tol * abs(value):
            break
    return value
