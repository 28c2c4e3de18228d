"""Principal components and truncated singular vectors."""

import numpy as np
from sklearn.decomposition import PCA, TruncatedSVD

from .base import Opaque, Stage, numeric, refitted, stage_for
from .products import Products, Tall

# Below this gap, relative to the largest eigenvalue, components are not told apart.
SMALLEST_GAP = 1e-9
WARNED_GAP = 1e-3


class Projection(Stage):
    """``z = Vᵀ (x - μ)`` with ``V`` the leading eigenvectors of ``Σ w x̃ x̃ᵀ``.

    With eigenvalues ``λ``, ``dv_j = Σ_{l≠j} v_l (v_l' dS v_j) / (λ_j - λ_l)``. ``η`` is ``μ``
    (where rows are centred), then the coefficients of these sums, component by component (a
    product of two scores of the row that goes, each), then the eigenvalues (where the components
    are whitened).
    """

    centred, whiten = True, False

    def _prepare(self):
        X = numeric(self.X)
        self.n, self.d = X.shape
        self.mean = X.mean(axis=0) if self.centred else np.zeros(self.d)
        rows = X - self.mean
        self.rows, self.ones = Tall(rows), Tall(np.ones((self.n, 1)))
        values, vectors = np.linalg.eigh(rows.T @ rows)
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
        k = self.k = len(self.step.components_)
        signs = np.sign(np.einsum("kd,dk->k", self.step.components_, vectors[:, :k]))
        vectors[:, :k] *= np.where(signs == 0, 1.0, signs)
        self.values, self.vectors = values, vectors
        self.V = self.step.components_.T
        gaps = values[:k, None] - values[None, :]
        with np.errstate(divide="ignore"):
            inverse = np.where(np.abs(gaps) > SMALLEST_GAP * values[0], 1 / gaps, 0.0)
        self.inverse_gaps = inverse  # (k, d), zero at l = j and at ties
        self.n_mean = self.d if self.centred else 0
        self.n_params = self.n_mean + self.d * k + (k if self.whiten else 0)
        self.scores = rows @ vectors
        self._check()

    def _check(self):
        k, values = self.k, self.values
        away = np.abs(self.V - self.vectors[:, :k]).max(initial=0.0)
        self.close = k < self.d and values[k - 1] - values[k] < WARNED_GAP * values[0]
        self.inaccurate = away > 1e-2 and not self.close

    def derivatives(self, rows):
        """First order in the weight of each row."""
        return self._moves(rows, 1.0)

    def removals(self, rows):
        """Of the centred cross products, with the mean's own move included."""
        return self._moves(rows, self.n / (self.n - 1) if self.centred else 1.0)

    def _moves(self, rows, factor):
        t = self.scores[rows]
        kept, out = t[:, : self.k], np.empty((len(t), self.n_params))
        if self.centred:
            out[:, : self.d] = self.rows.array[rows] * (-factor / self.n)
        mixed = out[:, self.n_mean : self.n_mean + self.k * self.d].reshape(-1, self.k, self.d)
        np.multiply(kept[:, :, None], -factor * self.inverse_gaps, out=mixed)
        mixed *= t[:, None, :]
        if self.whiten:
            # explained_variance_ is λ / (n - 1) over the rows there are
            variance, place = self.values[: self.k] / (self.n - 1), self.n_params - self.k
            if factor == 1.0:
                out[:, place:] = -(kept**2 - variance) / (self.n - 1)
            else:
                left = self.values[: self.k] - factor * kept**2
                out[:, place:] = left / (self.n - 2) - variance
        return out

    def pull_params(self, X, C):
        """``-V c``, scores times ``c``, and ``-c z / 2e``."""
        X, parts = numeric(X) - self.mean, []
        scaled, scores = C / self._roots(), X @ self.vectors
        if self.centred:
            parts.append(-scaled @ self.V.T)
        parts.append((scaled[:, :, None] * scores[:, None, :]).reshape(len(C), -1))
        if self.whiten:
            Z = X @ self.V / self._roots()
            parts.append(-C * Z / (2 * self.step.explained_variance_))
        return np.hstack(parts)

    def pull_sum(self, C):
        """Over the training rows, without their outer products."""
        parts = []
        scaled = C / self._roots()
        if self.centred:
            parts.append(-self.V @ scaled.sum(axis=0))
        parts.append((scaled.T @ self.scores).ravel())
        if self.whiten:
            Z = self.rows.array @ self.V / self._roots()
            parts.append(-(C * Z).sum(axis=0) / (2 * self.step.explained_variance_))
        return np.concatenate(parts)

    def pull_columns(self, r):
        """Each component's own column, and the mean."""
        root = np.broadcast_to(self._roots(), self.k)
        moved = r @ self.scores
        out = np.zeros((self.k, self.n_params))
        for j in range(self.k):
            if self.centred:
                out[j, : self.d] = -self.V[:, j] * r.sum() / root[j]
            place = self.n_mean + j * self.d
            out[j, place : place + self.d] = moved / root[j]
            if self.whiten:
                z = (self.rows.array.T @ r) @ self.V[:, j] / root[j]
                out[j, self.n_params - self.k + j] = -z / (2 * self.step.explained_variance_[j])
        return out

    def pull_inputs(self, X, C):
        """``V c``."""
        return (C / self._roots()) @ self.V.T

    def pull_training(self, C):
        """The same, as a product."""
        return Products([(Tall(C), self.V / self._roots())])

    def pull_fit(self, v):
        """Through mean and cross products, back to every row."""
        W = v[self.n_mean : self.n_mean + self.d * self.k].reshape(self.k, self.d)
        # Q = Σ_jl W_jl v_l v_j' / (λ_j - λ_l)
        Q = self.vectors @ (W * self.inverse_gaps).T @ self.vectors[:, : self.k].T
        if self.whiten:
            e = v[self.n_params - self.k :] / (self.n - 1)
            Q = Q + (self.V * e) @ self.V.T
        terms = [(self.rows, Q + Q.T)]
        if self.centred:
            terms.append((self.ones, v[: self.d, None] / self.n))
        return Products(terms)

    def without(self, X, keep):
        """Refitted, each component on the side of the one it comes from."""
        fitted = refitted(self, X, keep)
        sides = np.einsum("kd,kd->k", fitted.components_, self.step.components_)
        fitted.components_ *= np.where(sides < 0, -1.0, 1.0)[:, None]
        return fitted.transform, fitted.transform(X)

    def _roots(self):
        return np.sqrt(self.step.explained_variance_) if self.whiten else 1.0


class PCAStage(Projection):
    """Principal components, whitened or not."""

    def _prepare(self):
        self.whiten = self.step.whiten
        super()._prepare()


class TruncatedSVDStage(Projection):
    """Right singular vectors of the rows as they are."""

    centred = False


@stage_for.register(PCA)
def pca_stage(step, X, y=None, sample_weight=None):
    """The exact decomposition; an approximate one is not a stationary point."""
    return _checked(PCAStage(step, X, y))


@stage_for.register(TruncatedSVD)
def truncated_svd_stage(step, X, y=None, sample_weight=None):
    """The same without centring."""
    return _checked(TruncatedSVDStage(step, X, y))


def _checked(stage):
    if stage.inaccurate:
        reason = (
            "its components are not the exact ones; use svd_solver='full' (PCA) or "
            "algorithm='arpack' (TruncatedSVD)"
        )
        return Opaque(stage.step, stage.X, stage.y, None, reason)
    if stage.close:
        import warnings

        k = stage.k
        low, high = stage.values[k] / stage.values[0], stage.values[k - 1] / stage.values[0]
        warnings.warn(
            f"eigenvalues {k} and {k + 1} of {type(stage.step).__name__} are nearly equal "
            f"({high:.4g} and {low:.4g} of the largest): which directions are kept hangs on "
            "single rows, and first-order changes of the components are rough. Change "
            "n_components, or use method='exact'",
            UserWarning,
            stacklevel=2,
        )
    return stage
