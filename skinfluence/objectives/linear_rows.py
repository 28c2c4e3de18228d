"""The queries and the curvature rows of a linear predictor."""

import numpy as np

from ..gradients import KroneckerRows
from .base import Queries


class LinearQueries(Queries):
    """Queries of a linear predictor."""

    def __init__(self, objective, design, outputs=None):
        self.objective, self.design = objective, design
        self.outputs = design.predict(objective.coef) if outputs is None else outputs
        self._block = None

    @property
    def block(self):
        """Dense rows, made once."""
        if self._block is None:
            self._block = self.design.block(slice(None))
        return self._block

    def pullback(self, C):
        """``c ⊗ x``."""
        return KroneckerRows(self.design, C).block(slice(None))

    def pullback_sum(self, C):
        """One product with the rows."""
        return self.design.tdot(C).T.ravel()

    def changes(self, delta):
        """One matrix product in the dtype of the queries."""
        K = self.objective.n_outputs
        stacked = delta.reshape(-1, self.objective.d).astype(self.design.dtype, copy=False)
        return (self.block @ stacked.T).reshape(len(self), len(delta), K)

    def paired_changes(self, delta):
        """Row by row."""
        parts = delta.reshape(len(delta), self.objective.n_outputs, -1)
        return np.einsum("ij,ikj->ik", self.design.block(slice(None), np.float64), parts)


class ScaledRows:
    """``B = diag(roots) A``: curvature rows of a scalar loss."""

    def __init__(self, design, roots):
        self.design, self.roots = design, roots
        self.n_rows = len(roots)

    def dot(self, V):
        """``B V``."""
        return self.roots[:, None] * self.design.predict(V.T)

    def tdot(self, U):
        """``Bᵀ U``."""
        return self.design.tdot(self.roots[:, None] * U)

    def gram(self):
        """``BᵀB``."""
        return self.design.gram(self.roots**2)

    def kernel(self, q):
        """``B diag(q) Bᵀ``."""
        return self.design.kernel(q) * self.roots[:, None] * self.roots


class FactoredRows:
    """Curvature rows of a loss with coupled outputs: ``K`` rows ``L_i[:, k] ⊗ x_i`` a row."""

    def __init__(self, design, factors):
        self.design, self.factors = design, factors
        self.n_outputs = factors.shape[1]
        self.n_rows = factors.shape[0] * self.n_outputs

    def dot(self, V):
        """``B V``."""
        n, K = self.factors.shape[:2]
        parts = V.reshape(K, -1, V.shape[1]).transpose(0, 2, 1).reshape(-1, self.design.shape[1])
        Y = self.design.predict(parts).reshape(n, K, V.shape[1])
        return (self.factors.transpose(0, 2, 1) @ Y).reshape(n * K, -1)

    def tdot(self, U):
        """``Bᵀ U``."""
        n, K = self.factors.shape[:2]
        Y = self.factors @ U.reshape(n, K, -1)
        out = self.design.tdot(Y.reshape(n, -1)).reshape(self.design.shape[1], K, -1)
        return out.transpose(1, 0, 2).reshape(-1, U.shape[1])

    def gram(self):
        """``BᵀB``, class by class."""
        K, d = self.n_outputs, self.design.shape[1]
        matrices = self.factors @ self.factors.transpose(0, 2, 1)
        out = np.empty((K, d, K, d))
        for a in range(K):
            for b in range(a, K):
                out[a, :, b] = self.design.gram(matrices[:, a, b])
                out[b, :, a] = out[a, :, b].T
        return out.reshape(K * d, K * d)

    def kernel(self, q):
        """``B diag(q) Bᵀ``."""
        n, K = self.factors.shape[:2]
        out = np.zeros((n, K, n, K))
        q = q.reshape(K, -1)
        for k in range(K):
            G = self.design.kernel(q[k])
            left = self.factors[:, k]
            out += left[:, :, None, None] * G[:, None, :, None] * left[None, None]
        return out.reshape(n * K, n * K)


class GramRows:
    """Curvature rows known only through ``BᵀB``: the product ``Bᵀ(B V)`` in one step."""

    def __init__(self, gram):
        self._gram, self.n_rows = gram, len(gram)

    def dot(self, V):
        """Passed on to :meth:`tdot`."""
        return V

    def tdot(self, U):
        """``BᵀB`` times what :meth:`dot` was given."""
        return self._gram @ U
