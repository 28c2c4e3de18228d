"""Row-gradient operators: ``n × p`` matrices known by their structure, not stored."""

import numpy as np

from ._blocks import block_length, blocks


class Rows:
    """An ``n × p`` matrix of rows, reached in blocks.

    A subclass has ``shape`` and :meth:`block`; the products below then follow. Subclasses
    override a product where the structure makes it cheaper.
    """

    shape: tuple

    def block(self, rows):
        """Dense rows ``rows`` (a slice or an index array), shape ``(b, p)``."""
        raise NotImplementedError

    def dot(self, V, rows=slice(None)):
        """``G[rows] @ V`` for ``V`` of shape ``(p, m)``."""
        return np.concatenate([self.block(part) @ V for _, part in self._pieces(rows)])

    def tdot(self, U, rows=slice(None)):
        """``G[rows].T @ U`` for ``U`` of shape ``(b, m)``."""
        return sum(self.block(part).T @ U[place] for place, part in self._pieces(rows))

    def _pieces(self, rows):
        """``(positions, rows)`` of blocks that stay in the memory budget; one where none is."""
        rows = np.arange(self.shape[0])[rows] if isinstance(rows, slice) else np.asarray(rows)
        length = block_length(16 * self.shape[1], share=1 / 8)
        for place in blocks(max(1, len(rows)), length):
            yield place, rows[place]


class KroneckerRows(Rows):
    """Rows ``s_i ⊗ x_i`` (+ ``c_i B``): the row gradients of a linear predictor.

    Parameters
    ----------
    design : Design of n rows and d columns
    scales : ndarray of shape (n, K)
        The K-vector of each row.
    coefficients : ndarray of shape (n, r), optional
    basis : ndarray of shape (r, K * d), optional
        A low-rank part common to the rows.
    """

    def __init__(self, design, scales, coefficients=None, basis=None):
        self.design, self.scales = design, scales
        self.coefficients, self.basis = coefficients, basis
        self.shape = (design.shape[0], scales.shape[1] * design.shape[1])

    def block(self, rows):
        """Dense rows in the dtype of the design."""
        x = self.design.block(rows)
        s = self.scales[rows].astype(x.dtype, copy=False)
        if s.shape[1] == 1:
            out = x * s
        else:
            out = (s[:, :, None] * x[:, None, :]).reshape(len(x), -1)
        if self.coefficients is not None:
            out += self.coefficients[rows].astype(x.dtype) @ self.basis.astype(x.dtype)
        return out

    def tdot(self, U, rows=slice(None)):
        """``G[rows].T @ U``, without forming the rows when every row is asked for."""
        if not isinstance(rows, slice) or rows != slice(None):
            return super().tdot(U, rows)
        parts = [self.design.tdot(U * self.scales[:, [k]]) for k in range(self.scales.shape[1])]
        out = np.concatenate(parts, axis=0)
        if self.coefficients is not None:
            out = out + self.basis.T @ (self.coefficients.T @ U)
        return out
