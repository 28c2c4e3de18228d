"""Low-rank solvers: Arnoldi, Lanczos and Nyström eigenpairs of the curvature."""

import numbers

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh_tridiagonal
from sklearn.utils import check_random_state

from .damped import CURVATURES, DampedSolver, check_curvature, curvature_operator, penalty_diagonal
from .factor import inner_root


class Arnoldi(DampedSolver):
    """``x = U (Λ + λ)⁻¹ U' v`` with the eigenpairs of largest magnitude of the curvature.

    What is left out of the kept directions is dropped: directions of small curvature, along
    which an exact influence is largest, count for nothing. At full rank this is the damped
    inverse. Eigenvalues are sorted by magnitude, so that negative ones are among them; a
    negative one would turn the sign of its direction, and is dropped unless ``drop_negative`` is
    False.

    Parameters
    ----------
    rank : int, default=100
        Eigenpairs to keep.
    n_iter : int, default=200
        Dimension of the Krylov space; products with the curvature.
    damping : float or "auto", default="auto"
    curvature : {"hessian", "gauss_newton", "fisher", "empirical_fisher"}, default="hessian"
    drop_negative : bool, default=True
    random_state : int, RandomState or None, default=0
        Start of the Krylov space.

    Attributes
    ----------
    eigenvalues_ : ndarray of shape (rank,)
        Kept eigenvalues, largest magnitude first.
    report_ : dict
        ``damping``, ``iterations``, ``rank`` (kept), ``n_negative`` (dropped or not),
        ``smallest_curvature`` (smallest eigenvalue seen), ``residual`` of the solves.

    References
    ----------
    Schioppa, A., Zablotskaia, P., Vilar, D. and Sokolov, A. (2022). Scaling up influence
    functions. AAAI. https://arxiv.org/abs/2112.03052

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.solvers import Arnoldi
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> explainer = InfluenceExplainer(
    ...     LogisticRegression(), method="influence", solver=Arnoldi(rank=10, n_iter=31)
    ... )
    >>> explainer.fit(scale(X), y).solver_.eigenvalues_.shape
    (10,)
    """

    rough = True

    def __init__(
        self,
        rank=100,
        *,
        n_iter=200,
        damping="auto",
        curvature="hessian",
        drop_negative=True,
        random_state=0,
    ):
        self.rank = rank
        self.n_iter = n_iter
        self.damping = damping
        self.curvature = curvature
        self.drop_negative = drop_negative
        self.random_state = random_state

    def fit(self, objective):
        """Eigenpairs of the objective's curvature."""
        self._start(objective)
        check_rank(self.rank, self.n_iter)
        self._product = curvature_operator(objective, self.curvature)
        values, vectors = lanczos(self._product, objective.n_params, self.n_iter, self.random_state)
        noise = 1e-12 * np.abs(values).max(initial=0.0)
        values = np.where(np.abs(values) <= noise, 0.0, values)
        kept = np.flatnonzero(values >= 0 if self.drop_negative else np.isfinite(values))
        kept = kept[np.argsort(-np.abs(values[kept]), kind="stable")][: self.rank]
        if not (values[kept] != 0).any():
            raise ValueError(
                f"no eigenvalue of the curvature was kept (the largest seen is "
                f"{values.max():.1e}): use curvature='gauss_newton', or a larger n_iter"
            )
        self.eigenvalues_, self._vectors = values[kept], vectors[:, kept]
        self.report_ = {
            "iterations": len(values),
            "rank": len(kept),
            "n_negative": int((values < 0).sum()),
            "smallest_curvature": float(values.min()),
        }
        self._set_damping()
        return self

    def _set_damping(self):
        super()._set_damping()
        shifted = self.eigenvalues_ + self.damping_
        zero = np.abs(shifted) <= 1e-12 * np.abs(self.eigenvalues_).max(initial=0.0)
        if (zero & (self.eigenvalues_ != 0)).any():
            raise ValueError(
                f"damping={self.damping_:.3g} cancels an eigenvalue of the curvature; use another "
                "damping or drop_negative=True"
            )
        self._inverse = np.where(zero, 0.0, 1 / np.where(zero, 1.0, shifted))[:, None]

    def _solve(self, V):
        X = self._vectors @ (self._inverse * (self._vectors.T @ V))
        self._record_residual(V, X)
        return X

    def root(self, V):
        """``R' V`` with ``R R'`` the inverse on the kept directions; ``rank`` rows."""
        if (self._inverse < 0).any():
            raise ValueError(
                "a negative eigenvalue was kept, so the inverse has no square root; use "
                "drop_negative=True, or a larger damping"
            )
        return np.sqrt(self._inverse) * (self._vectors.T @ self._checked(V))


class LowRankPlusDiagonal(DampedSolver):
    """``x = (U Λ U' + D)⁻¹ v``: kept eigenpairs of the loss's curvature, ``D`` penalty + damping.

    Unlike :class:`Arnoldi`, directions outside the kept ones are not dropped: penalty and
    damping are their curvature.
    """

    needs_positive_diagonal = True

    rough = True

    def fit(self, objective):
        """Eigenpairs of the curvature of the loss."""
        self._start(objective)
        self._check()
        self._product = curvature_operator(objective, self.curvature)
        self._penalty = penalty_diagonal(objective)
        values, vectors, n_products = self._eigenpairs(self._loss_product, objective.n_params)
        lowest = float(values.min(initial=np.inf))
        order = np.argsort(-values, kind="stable")[: self.rank]
        order = order[values[order] > 1e-14 * max(values.max(initial=0.0), 0.0)]
        self.eigenvalues_ = values[order]
        self._root = vectors[:, order] * np.sqrt(values[order])
        self.report_ = {
            "iterations": n_products,
            "rank": len(order),
            "smallest_curvature": lowest + float(self._penalty.min(initial=np.inf)),
        }
        self._set_damping()
        return self

    def _loss_product(self, V):
        return self._product(V) - self._penalty[:, None] * V

    def _set_damping(self):
        super()._set_damping()
        self._scale = 1 / (self._penalty + self.damping_)[:, None]
        inner = self._root.T @ (self._scale * self._root)
        inner[np.diag_indices_from(inner)] += 1
        self._factor = cho_factor(inner, lower=True)

    def _solve(self, V):
        scaled = self._scale * V
        inner = cho_solve(self._factor, self._root.T @ scaled)
        X = scaled - self._scale * (self._root @ inner)
        self._record_residual(V, X)
        return X

    def root(self, V):
        """``R' V`` with ``R R' = (U Λ U' + D)⁻¹``."""
        V = self._checked(V)
        inner = inner_root(self._root.T @ (self._scale * self._root))
        moved = self._root @ (inner @ (self._root.T @ (self._scale * V)))
        return np.sqrt(self._scale) * (V + moved)


class Lanczos(LowRankPlusDiagonal):
    """The largest eigenpairs of the loss's curvature, plus penalty and damping elsewhere.

    Parameters
    ----------
    rank : int, default=100
        Eigenpairs to keep.
    n_iter : int, default=200
        Products with the curvature, one after the other.
    damping : float, "auto" or "leverage", default="auto"
        Added to the curvature. "auto" adds nothing where the penalty holds every parameter, else
        a tenth of the mean curvature. "leverage" adds to a net's
        Gauss-Newton matrix at least what keeps the mean leverage of its rows at 0.2: see the user
        guide.
    curvature : {"gauss_newton", "hessian", "fisher", "empirical_fisher"}, default="gauss_newton"
        Negative eigenvalues are dropped.
    random_state : int, RandomState or None, default=0

    Attributes
    ----------
    eigenvalues_ : ndarray of shape (rank,)
        Of the loss's curvature, without the penalty.
    report_ : dict
        ``damping``, ``iterations``, ``rank``, ``smallest_curvature``, ``residual``.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.solvers import Lanczos
    >>> X, y = load_diabetes(return_X_y=True)
    >>> explainer = InfluenceExplainer(Ridge(fit_intercept=False), solver=Lanczos(rank=5))
    >>> explainer.fit(X, y).solver_.report_["rank"]
    5
    """

    def __init__(
        self, rank=100, *, n_iter=200, damping="auto", curvature="gauss_newton", random_state=0
    ):
        self.rank = rank
        self.n_iter = n_iter
        self.damping = damping
        self.curvature = curvature
        self.random_state = random_state

    def _check(self):
        check_rank(self.rank, self.n_iter)

    def _eigenpairs(self, product, n_params):
        values, vectors = lanczos(product, n_params, self.n_iter, self.random_state)
        return values, vectors, len(values)


class Nystrom(LowRankPlusDiagonal):
    """A randomised low-rank approximation, plus penalty and damping elsewhere.

    All products with the curvature are made at once, which suits batched hardware; Lanczos
    gets closer to the largest eigenpairs for as many products.

    Parameters
    ----------
    rank : int, default=100
        Columns of the sketch.
    damping : float or "auto", default="auto"
    curvature : {"gauss_newton", "fisher", "empirical_fisher", "hessian"}, default="gauss_newton"
        An indefinite one is refused.
    random_state : int, RandomState or None, default=0
        Of the sketch.

    Attributes
    ----------
    eigenvalues_ : ndarray of shape (rank,)
    report_ : dict
        ``damping``, ``iterations``, ``rank``, ``smallest_curvature``, ``residual``.

    References
    ----------
    Frangella, Z., Tropp, J. and Udell, M. (2023). Randomized Nyström preconditioning. SIAM J.
    Matrix Anal. Appl. 44. https://arxiv.org/abs/2110.02820

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.solvers import Nystrom
    >>> X, y = load_diabetes(return_X_y=True)
    >>> explainer = InfluenceExplainer(Ridge(fit_intercept=False), solver=Nystrom(rank=5))
    >>> explainer.fit(X, y).solver_.report_["rank"]
    5
    """

    def __init__(self, rank=100, *, damping="auto", curvature="gauss_newton", random_state=0):
        self.rank = rank
        self.damping = damping
        self.curvature = curvature
        self.random_state = random_state

    def _check(self):
        check_rank(self.rank)
        check_curvature(self.curvature, CURVATURES)

    def _eigenpairs(self, product, n_params):
        rank = min(self.rank, n_params)
        return *nystrom(product, n_params, rank, self.random_state), rank


def lanczos(product, n_params, n_iter, random_state):
    """Eigenvalues and vectors of a symmetric operator on a Krylov space, ``(k,)`` and ``(p, k)``.

    Every new direction is orthogonalised twice against all before it. Where the space is
    exhausted (a repeated eigenvalue), it goes on from a new random direction, so that
    ``n_iter >= n_params`` gives all eigenpairs.
    """
    rng = check_random_state(random_state)
    n_iter = min(n_iter, n_params)
    basis = np.zeros((n_params, n_iter), order="F")
    diagonal, off = np.zeros(n_iter), np.zeros(max(n_iter - 1, 0))
    vector, size = _fresh(rng, basis[:, :0]), 0.0
    for k in range(n_iter):
        basis[:, k] = vector
        moved = product(vector[:, None])[:, 0]
        if not np.isfinite(moved).all():
            raise ValueError("a product with the curvature is not finite")
        diagonal[k] = vector @ moved
        size = max(size, np.linalg.norm(moved))
        if k + 1 == n_iter:
            break
        vector = _orthogonal(moved, basis[:, : k + 1])
        norm = np.linalg.norm(vector)
        if norm <= 1e-13 * size:
            vector = _fresh(rng, basis[:, : k + 1])
        else:
            off[k], vector = norm, _orthogonal(vector / norm, basis[:, : k + 1])
            vector /= np.linalg.norm(vector)
    values, inner = eigh_tridiagonal(diagonal, off)
    return values, basis @ inner


def nystrom(product, n_params, rank, random_state):
    """Eigenvalues and vectors of ``(CΩ)(Ω'CΩ)⁺(CΩ)'``, ``(k,)`` and ``(p, k)``."""
    sketch = check_random_state(random_state).standard_normal((n_params, rank))
    sketch = np.linalg.qr(sketch)[0]
    moved = product(sketch)
    shift = np.finfo(float).eps * np.sqrt(n_params) * np.linalg.norm(moved)
    moved = moved + shift * sketch
    core = sketch.T @ moved
    values, vectors = np.linalg.eigh((core + core.T) / 2)
    if values[0] < -1e-8 * abs(values[-1]):
        raise ValueError(
            f"the curvature is indefinite (eigenvalue {values[0]:.1e} in the sketch): use "
            "curvature='gauss_newton', or solver='arnoldi', which drops negative eigenvalues"
        )
    kept = values > np.finfo(float).eps * values[-1]
    root = moved @ (vectors[:, kept] / np.sqrt(values[kept]))
    left, singular, _ = np.linalg.svd(root, full_matrices=False)
    return np.maximum(singular**2 - shift, 0.0), left


def check_rank(rank, n_iter=None):
    """Refuse ranks that are not positive integers, or above the Krylov dimension."""
    for name, value in (("rank", rank), ("n_iter", n_iter)):
        if value is not None and (not isinstance(value, numbers.Integral) or value < 1):
            raise ValueError(f"{name}={value!r} must be a positive integer")
    if n_iter is not None and rank > n_iter:
        raise ValueError(f"rank={rank} is above n_iter={n_iter}, the dimension of the space")


def _orthogonal(vector, basis):
    for _ in range(2):
        vector = vector - basis @ (basis.T @ vector)
    return vector


def _fresh(rng, basis):
    vector = _orthogonal(rng.standard_normal(len(basis)), basis)
    return vector / np.linalg.norm(vector)
