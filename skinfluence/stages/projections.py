"""Principal components and truncated singular vectors."""

import numpy as np
from sklearn.decomposition import PCA, TruncatedSVD

from .base import Opaque, Stage, numeric, stage_for

# Below this gap, relative to the largest eigenvalue, components are not told apart.
SMALLEST_GAP = 1e-9
WARNED_GAP = 1e-3


class Projection(Stage):
    """``z = Vᵀ (x - μ)`` with ``V`` the leading eigenvectors of ``Σ w x̃ x̃ᵀ``.

    ``η`` is ``μ`` (where rows are centred), then ``V`` row by row, then the eigenvalues (where
    the components are whitened). With eigenvalues ``λ``,
    ``dv_j = Σ_{l≠j} v_l (v_l' dS v_j) / (λ_j - λ_l)``.
    """

    centred, whiten = True, False

    def _prepare(self):
        X = numeric(self.X)
        self.n, self.d = X.shape
        self.mean = X.mean(axis=0) if self.centred else np.zeros(self.d)
        self.rows = X - self.mean
        values, vectors = np.linalg.eigh(self.rows.T @ self.rows)
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
        self.scores = self.rows @ vectors
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
        kept = t[:, : self.k]
        mixed = self.inverse_gaps[None] * t[:, None, :] * kept[:, :, None]  # (b, k, d)
        dV = -factor * (mixed @ self.vectors.T).transpose(0, 2, 1).reshape(len(rows), -1)
        parts = [dV]
        if self.centred:
            parts.insert(0, -factor * self.rows[rows] / self.n)
        if self.whiten:
            # explained_variance_ is λ / (n - 1) over the rows there are
            variance = self.values[: self.k] / (self.n - 1)
            if factor == 1.0:
                parts.append(-(kept**2 - variance) / (self.n - 1))
            else:
                left = self.values[: self.k] - factor * kept**2
                parts.append(left / (self.n - 2) - variance)
        return np.hstack(parts)

    def pull_params(self, X, C):
        """``-V c``, ``x̃ cᵀ``, and ``-c z / 2e``."""
        X, parts = numeric(X) - self.mean, []
        scaled = C / self._roots()
        if self.centred:
            parts.append(-scaled @ self.V.T)
        parts.append((X[:, :, None] * scaled[:, None, :]).reshape(len(C), -1))
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
        parts.append((self.rows.T @ scaled).ravel())
        if self.whiten:
            Z = self.rows @ self.V / self._roots()
            parts.append(-(C * Z).sum(axis=0) / (2 * self.step.explained_variance_))
        return np.concatenate(parts)

    def pull_columns(self, r):
        """Each component's own column, and the mean."""
        root = np.broadcast_to(self._roots(), self.k)
        moved = self.rows.T @ r
        out = np.zeros((self.k, self.n_params))
        for j in range(self.k):
            if self.centred:
                out[j, : self.d] = -self.V[:, j] * r.sum() / root[j]
            place = self.n_mean + np.arange(self.d) * self.k + j
            out[j, place] = moved / root[j]
            if self.whiten:
                z = moved @ self.V[:, j] / root[j]
                out[j, self.n_mean + self.d * self.k + j] = -z / (
                    2 * self.step.explained_variance_[j]
                )
        return out

    def pull_inputs(self, X, C):
        """``V c``."""
        return (C / self._roots()) @ self.V.T

    def pull_fit(self, v):
        """Through mean and cross products, back to every row."""
        out = 0.0
        if self.centred:
            out = np.tile(v[: self.d] / self.n, (self.n, 1))
        W = v[self.n_mean : self.n_mean + self.d * self.k].reshape(self.d, self.k)
        # Q = Σ_j v_j (R_j w_j)' with R_j the resolvent of component j
        R = self.vectors @ (self.inverse_gaps.T * (self.vectors.T @ W))
        Q = self.V @ R.T
        if self.whiten:
            e = v[self.n_mean + self.d * self.k :] / (self.n - 1)
            Q = Q + (self.V * e) @ self.V.T
        return out + self.rows @ (Q + Q.T)

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
