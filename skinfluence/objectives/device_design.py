"""The rows of a linear predictor as a torch tensor: products are computed where it lies."""

import numpy as np
import torch

from .._blocks import block_length, blocks
from .design import Design, contiguous


class DeviceDesign(Design):
    """As :class:`~skinfluence.objectives.design.Design`, with products by torch.

    Products take and give numpy arrays, of the size of a column of numbers a row at most, or of a
    matrix of the columns. Sums over rows are in float64. A copy of the rows on the host
    serves what has no product here; pickles and copies hold that one alone.

    Parameters
    ----------
    X : ndarray of shape (n, n_features)
    tensor : torch.Tensor
        The same rows, in the same dtype.
    intercept : float or None
    """

    # Rows for which the host is slower than the device's answer is late.
    fewest = 512
    one_pass = False  # a product a pass: what is computed in between is on the host

    def __init__(self, X, tensor, intercept=1.0):
        super().__init__(X, intercept)
        self.tensor, self.device = tensor, tensor.device
        self._held = None, None  # the last matrix of forms, and its copy on the device

    def subset(self, rows):
        """The design of some of the rows."""
        rows = contiguous(rows)
        return DeviceDesign(self.X[rows], self.tensor[self._index(rows)], self.intercept)

    def like(self, X):
        """The design of other rows, brought to the device of these."""
        if not isinstance(X, np.ndarray):
            return super().like(X)
        return DeviceDesign(X, self.put(X), self.intercept)

    def put(self, array):
        """An array of the host as a tensor on the device."""
        array = np.ascontiguousarray(array)
        array = array if array.flags.writeable else array.copy()  # torch has no read-only tensors
        return torch.as_tensor(array, device=self.device)

    def rows(self, rows, scales=None, dtype=None):
        """Rows with the intercept column, times a scale each: a tensor of shape (b, d)."""
        part = self.tensor[self._index(contiguous(rows))]
        dtype = part.dtype if dtype is None else dtype
        if self.intercept is None and scales is None:
            return part.to(dtype)
        out = torch.empty((len(part), self.shape[1]), dtype=dtype, device=self.device)
        width = part.shape[1]
        column = 1.0 if self.intercept is None else self.intercept
        if scales is None:
            out[:, :width], out[:, width:] = part, column
            return out
        scales = scales.to(dtype)[:, None]
        torch.mul(part, scales, out=out[:, :width])
        out[:, width:] = column * scales
        return out

    def predict(self, coef):
        """``rows @ coef.T`` in float64; returns (n, K)."""
        weights = self.put(coef.T).to(torch.float64)
        parts = [self.rows(rows, dtype=torch.float64) @ weights for rows in self._pieces()]
        return _host(torch.cat(parts)) if parts else np.empty((0, len(coef)))

    def tdot(self, R):
        """``rows.T @ R`` in float64 for ``R`` of shape (n, m); returns (d, m)."""
        R = self.put(R).to(torch.float64)
        out = torch.zeros((self.shape[1], R.shape[1]), dtype=torch.float64, device=self.device)
        for rows in self._pieces():
            out += self.rows(rows, dtype=torch.float64).T @ R[rows]
        return _host(out)

    def gram(self, weights):
        """``rows.T @ diag(weights) @ rows`` in float64, shape (d, d)."""
        weights = self.put(weights).to(torch.float64)
        out = torch.zeros(2 * (self.shape[1],), dtype=torch.float64, device=self.device)
        for rows in self._pieces():
            x = self.rows(rows, dtype=torch.float64)
            out += x.T @ (x * weights[rows, None])
        out = (out + out.T) / 2  # as symmetric as the mathematics
        return _host(out)

    def forms(self, rows, matrix, K):
        """``x' M_kc x`` of each row, ``M`` of K by K blocks: (b, K, K), or (b,) for one."""
        d = self.shape[1]
        x = self.rows(rows, dtype=torch.float64)
        held, parts = self._held
        if held is not matrix:
            parts = self.put(matrix).reshape(K, d, K, d)
            self._held = matrix, parts
        out = torch.empty((len(x), K, K), dtype=torch.float64, device=self.device)
        for k in range(K):
            for c in range(k, K):
                out[:, k, c] = ((x @ parts[k, :, c]) * x).sum(dim=1)
                out[:, c, k] = out[:, k, c]
        return _host(out[:, 0, 0] if K == 1 else out)

    def kernel(self, inverse_penalty):
        """``rows @ diag(inverse_penalty) @ rows.T`` in float64, shape (n, n)."""
        x = self.rows(slice(None), dtype=torch.float64) * self.put(np.sqrt(inverse_penalty))
        return _host(x @ x.T)

    def _pieces(self):
        """Slices whose rows, in float64, take a share of the working memory."""
        return blocks(self.shape[0], block_length(2 * 8 * self.shape[1], share=1 / 4))

    def _index(self, rows):
        return rows if isinstance(rows, slice) else torch.as_tensor(rows, device=self.device)


def _host(tensor):
    return tensor.cpu().numpy()
