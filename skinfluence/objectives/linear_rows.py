"""The queries and the curvature rows of a linear predictor."""

import numpy as np

from .._blocks import block_length, blocks
from ..gradients import KroneckerRows
from .base import Queries

# Multiplications that take less time than calls of a product for every pair of classes.
SMALL_PRODUCT = 4_000_000


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
        """One matrix product in the dtype of the queries, in blocks of many of them."""
        m, d, K = len(self), self.objective.d, self.objective.n_outputs
        stacked = delta.reshape(-1, d).astype(self.design.dtype, copy=False)
        length = block_length(8 * d, share=1 / 8)
        if m <= length:
            return (self.block @ stacked.T).reshape(m, len(delta), K)
        out = np.empty((m, len(stacked)), self.design.dtype)
        for rows in blocks(m, length):
            np.matmul(self.design.block(rows), stacked.T, out=out[rows])
        return out.reshape(m, len(delta), K)

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

    def gram_product(self, V):
        """``BᵀB V`` in blocks of rows."""
        curvatures = self.roots**2
        out = np.zeros(V.shape)
        for rows in blocks(self.n_rows, block_length(16 * V.shape[1], share=1 / 8)):
            part = self.design.subset(rows)
            out += part.tdot(curvatures[rows, None] * part.predict(V.T))
        return out

    def gram(self):
        """``BᵀB``."""
        return self.design.gram(self.roots**2)

    def kernel(self, q):
        """``B diag(q) Bᵀ``."""
        return self.design.kernel(q) * self.roots[:, None] * self.roots


class FactoredRows:
    """Curvature rows of a loss with coupled outputs: ``K`` rows ``L_i[:, k] ⊗ x_i`` a row.

    ``L_i`` of shape (K, K) is the factor of the row's curvature, made anew in blocks.
    """

    def __init__(self, design, loss, Z, y, weights):
        self.design, self.loss = design, loss
        self.Z, self.y, self.weights = Z, y, weights
        self.n_outputs = Z.shape[1]
        self.n_rows = len(Z) * self.n_outputs

    def factors(self, rows=slice(None)):
        """``L_i``, shape (b, K, K)."""
        roots = np.sqrt(self.weights[rows])[:, None, None]
        return self.loss.curvature_factor(self.Z[rows], self.y[rows]) * roots

    def subset(self, rows):
        """Those of some of the rows, a slice."""
        parts = self.Z[rows], self.y[rows], self.weights[rows]
        return FactoredRows(self.design.subset(rows), self.loss, *parts)

    def dot(self, V):
        """``B V``."""
        K, m = self.n_outputs, V.shape[1]
        parts = V.reshape(K, -1, m).transpose(0, 2, 1).reshape(-1, self.design.shape[1])
        out = np.empty((len(self.Z), K, m))
        for rows in self._blocks(m):
            Y = self.design.subset(rows).predict(parts).reshape(-1, K, m)
            np.matmul(self.factors(rows).transpose(0, 2, 1), Y, out=out[rows])
        return out.reshape(-1, m)

    def tdot(self, U):
        """``Bᵀ U``."""
        K, d, m = self.n_outputs, self.design.shape[1], U.shape[1]
        U, out = U.reshape(-1, K, m), np.zeros((d, K * m))
        for rows in self._blocks(m):
            Y = self.factors(rows) @ U[rows]
            out += self.design.subset(rows).tdot(Y.reshape(len(Y), -1))
        return out.reshape(d, K, m).transpose(1, 0, 2).reshape(-1, m)

    def gram_product(self, V):
        """``BᵀB V`` in blocks of rows."""
        out = np.zeros(V.shape)
        for rows in self._blocks(V.shape[1]):
            part = self.subset(rows)
            out += part.tdot(part.dot(V))
        return out

    def _blocks(self, m):
        K = self.n_outputs
        return blocks(len(self.Z), block_length(16 * K * (K + m), share=1 / 8))

    def gram(self):
        """``BᵀB``, class by class; at once where that is little."""
        K, d = self.n_outputs, self.design.shape[1]
        if self.n_rows * (K * d) ** 2 < SMALL_PRODUCT:
            x = self.design.block(slice(None), np.float64)
            B = self.factors(slice(None)).transpose(0, 2, 1)[:, :, :, None] * x[:, None, None, :]
            B = B.reshape(self.n_rows, K * d)
            return B.T @ B
        out = np.empty((K, d, K, d))
        for a in range(K):
            columns = self.loss.curvature_column(self.Z, self.y, a)
            for b in range(a, K):
                out[a, :, b] = self.design.gram(self.weights * columns[:, b])
                out[b, :, a] = out[a, :, b].T
        return out.reshape(K * d, K * d)

    def kernel(self, q):
        """``B diag(q) Bᵀ``."""
        n, K = self.Z.shape
        out, factors = np.zeros((n, K, n, K)), self.factors()
        q = q.reshape(K, -1)
        for k in range(K):
            G = self.design.kernel(q[k])
            left = factors[:, k]
            out += left[:, :, None, None] * G[:, None, :, None] * left[None, None]
        return out.reshape(n * K, n * K)


class GramRows:
    """Curvature rows known only through ``BᵀB``."""

    def __init__(self, gram):
        self._gram, self.n_rows = gram, len(gram)

    def gram_product(self, V):
        """``BᵀB V``."""
        return self._gram @ V
