"""The rows of a linear predictor, dense or sparse, with an implied intercept column."""

import numpy as np
from scipy import sparse
from scipy.linalg import get_blas_funcs

from .._blocks import block_length, blocks, map_threads, n_threads, one_blas_thread
from .._tensors import tensor_of

# Entries of a design below which one thread is faster than starting two.
THREADED_SIZE = 400_000

# Rows of a block whose product with a small matrix is wanted while it is still in cache.
CACHED_ROWS = 1024


class Design:
    """Rows ``[x_i, s]`` of a linear predictor; the column ``s`` is implied, never stored.

    Parameters
    ----------
    X : ndarray or CSR of shape (n, n_features)
        float32 or float64, C-ordered or CSR.
    intercept : float or None
        Value of the intercept column (liblinear's ``intercept_scaling``, else 1); None for none.
    """

    def __init__(self, X, intercept=1.0):
        self.sparse = sparse.issparse(X)
        # BLAS takes aligned rows only, and others give other last digits
        self.X = X.tocsr() if self.sparse else np.require(X, requirements="A")
        self.intercept = intercept
        self.shape = (X.shape[0], X.shape[1] + (intercept is not None))
        self.dtype = self.X.dtype

    def __reduce__(self):
        return Design, (self.X, self.intercept)  # without the device where rows lie

    @property
    def one_pass(self):
        """Whether a block of rows is best read once for all products with it."""
        return not self.sparse

    def __len__(self):
        return self.shape[0]

    def like(self, X):
        """The design of other rows."""
        return Design(X, self.intercept)

    def subset(self, rows):
        """The design of some of the rows."""
        return Design(self.X[contiguous(rows)], self.intercept)

    def block(self, rows, dtype=None):
        """Dense rows with the intercept column, shape (b, d)."""
        part = self.X[contiguous(rows)]
        part = part.toarray() if self.sparse else part
        dtype = self.dtype if dtype is None else dtype
        if self.intercept is None:
            return part.astype(dtype, copy=False)
        out = np.empty((part.shape[0], self.shape[1]), dtype)
        out[:, :-1] = part
        out[:, -1] = self.intercept
        return out

    def block_length(self):
        """Rows of a dense float64 block that stays in a core's cache."""
        return max(256, 2**20 // (8 * self.shape[1]))

    def _blocks(self):
        """Slices of rows that are made float64 together."""
        if not self.sparse:
            return blocks(self.shape[0], self.block_length())
        per_row = 24 * (self.X.nnz // max(1, self.shape[0]) + 1)
        return blocks(self.shape[0], block_length(per_row, share=1 / 8))

    def predict(self, coef):
        """``rows @ coef.T`` in float64 for ``coef`` of shape (K, d); returns (n, K)."""
        weights = coef if self.intercept is None else coef[:, :-1]
        if self.dtype == np.float64:
            out = np.asarray(self.X @ weights.T)
        else:
            out = np.empty((self.shape[0], len(coef)))
            for rows in self._blocks():
                out[rows] = self.X[rows].astype(np.float64) @ weights.T
        if self.intercept is not None:
            out += self.intercept * coef[:, -1]
        return out

    def tdot(self, R):
        """``rows.T @ R`` in float64 for ``R`` of shape (n, m); returns (d, m)."""
        if self.dtype == np.float64:
            top = np.asarray(self.X.T @ R)
        else:
            top = np.zeros((self.X.shape[1], R.shape[1]))
            for rows in self._blocks():
                top += self.X[rows].astype(np.float64).T @ R[rows]
        if self.intercept is None:
            return top
        return np.concatenate([top, self.intercept * R.sum(axis=0, keepdims=True)])

    def gram(self, weights):
        """``rows.T @ diag(weights) @ rows`` in float64, shape (d, d)."""
        if self.sparse:
            return self._sparse_gram(weights)
        positive = weights.min(initial=0.0) >= 0
        scales = np.sqrt(weights) if positive else weights

        def part(rows):
            scaled = self.double(rows).scaled(scales[rows])
            # one array with itself: BLAS does the symmetric half only
            return (scaled.T @ (scaled if positive else self.block(rows, np.float64)),)

        return self.sums(part)[0]

    def sums(self, part):
        """Sums of the arrays that ``part(rows)`` gives for each cached block of rows.

        Blocks are dealt to the cores in contiguous shares, so that each core adds up its own.
        """

        def share(piece):
            totals = None
            for rows in self._cached_blocks(piece):
                values = part(rows)
                if totals is None:
                    totals = list(values)
                else:
                    for total, value in zip(totals, values, strict=True):
                        total += value
            return totals

        shares = self._shared(share)
        return [sum(values[1:], values[0]) for values in zip(*shares, strict=True)]

    def _shared(self, share):
        """``share(slice)`` of the rows of each core."""
        n = self.shape[0]
        if n * self.shape[1] < THREADED_SIZE:  # telling BLAS would take longer than the work
            return [share(slice(0, n))]
        with one_blas_thread():  # a block is too small for BLAS to share out
            return map_threads(share, blocks(n, -(-n // n_threads())))

    def _cached_blocks(self, piece):
        """Short slices of a slice; an empty one of no rows."""
        for rows in blocks(max(1, piece.stop - piece.start), self.block_length()):
            yield slice(piece.start + rows.start, piece.start + rows.stop)

    def double(self, rows):
        """The design of some rows (a slice), dense, in float64: a view where it is."""
        return Design(self.X[rows].astype(np.float64, copy=False), self.intercept)

    def scaled(self, scales):
        """Dense rows with the intercept column, each times its scale, in float64: (n, d)."""
        out = np.empty(self.shape)
        np.multiply(self.X, scales[:, None], out=out[:, : self.X.shape[1]])
        if self.intercept is not None:
            out[:, -1] = self.intercept * scales
        return out

    def squared_lengths(self, rows, W):
        """``‖W x_i‖²`` of some rows, (b,), by products in the dtype of a lower triangular ``W``."""
        X, columns = self.X[contiguous(rows)], self.X.shape[1]
        multiply = get_blas_funcs("trmm", (W,))
        inner = np.asfortranarray(W[:columns, :columns])
        out = np.empty(X.shape[0])
        for piece in blocks(len(out), CACHED_ROWS):
            x = X[piece].toarray() if self.sparse else X[piece]
            x = x.astype(W.dtype, copy=False)
            moved = multiply(1.0, inner, x.T, lower=True).T
            out[piece] = np.einsum("ij,ij->i", moved, moved)
            if self.intercept is not None:
                out[piece] += (x @ W[-1, :-1] + self.intercept * W[-1, -1]) ** 2
        return out

    def largest(self):
        """Largest absolute value of each column, shape (d,)."""
        low, high = self.X.min(axis=0), self.X.max(axis=0)
        if self.sparse:
            low, high = low.toarray().ravel(), high.toarray().ravel()
        top = np.maximum(high, -low).astype(np.float64)
        return top if self.intercept is None else np.append(top, abs(self.intercept))

    def _sparse_gram(self, weights):
        n_features = self.X.shape[1]
        out = np.zeros(2 * (self.shape[1],))
        for rows in self._blocks():
            part = self.X[rows].astype(np.float64)
            scaled = sparse.diags_array(weights[rows]) @ part
            out[:n_features, :n_features] += (part.T @ scaled).toarray()
            if self.intercept is not None:
                out[:n_features, -1] += self.intercept * np.asarray(scaled.sum(axis=0)).ravel()
        if self.intercept is not None:
            out[-1, :n_features] = out[:n_features, -1]
            out[-1, -1] = self.intercept**2 * weights.sum()
        return out

    def kernel(self, inverse_penalty):
        """``rows @ diag(inverse_penalty) @ rows.T`` in float64, shape (n, n)."""
        q = inverse_penalty if self.intercept is None else inverse_penalty[:-1]
        if self.sparse:
            out = (self.X @ sparse.diags_array(q) @ self.X.T).toarray().astype(np.float64)
        else:
            out = np.zeros(2 * (self.shape[0],))
            for columns in blocks(
                len(q), block_length(16 * self.shape[0], share=1 / 8, smallest=64)
            ):
                part = self.X[:, columns] * np.sqrt(q[columns])  # float64, as q is
                out += part @ part.T
        if self.intercept is not None:
            out += self.intercept**2 * inverse_penalty[-1]
        return out


def design_of(X, intercept=1.0):
    """The design of training rows, on the device where they came from."""
    tensor = tensor_of(X)
    if tensor is None:
        return Design(X, intercept)
    from .device_design import DeviceDesign  # torch is imported no earlier than this

    return DeviceDesign(X, tensor, intercept)


class ColumnDesign:
    """A design with one more dense column, after those of ``X`` and before the intercept.

    Parameters
    ----------
    design : Design
    column : ndarray of shape (n,)
    """

    def __init__(self, design, column):
        self.design, self.column = design, column
        self.place = design.X.shape[1]
        self.shape = (design.shape[0], design.shape[1] + 1)
        self.sparse, self.dtype, self.intercept = design.sparse, design.dtype, design.intercept

    def subset(self, rows):
        """The design of some of the rows."""
        return ColumnDesign(self.design.subset(rows), self.column[rows])

    def block(self, rows, dtype=None):
        """Dense rows, shape (b, d)."""
        out = np.insert(self.design.block(rows, dtype), self.place, 0.0, axis=1)
        out[:, self.place] = self.column[rows]
        return out

    def predict(self, coef):
        """``rows @ coef.T`` in float64; returns (n, K)."""
        out = self.design.predict(np.delete(coef, self.place, axis=1))
        out += self.column[:, None] * coef[:, self.place]
        return out

    def tdot(self, R):
        """``rows.T @ R`` in float64; returns (d, m)."""
        return np.insert(self.design.tdot(R), self.place, self.column @ R, axis=0)

    def gram(self, weights):
        """``rows.T @ diag(weights) @ rows`` in float64, shape (d, d)."""
        own = np.insert(self.design.tdot((weights * self.column)[:, None])[:, 0], self.place, 0.0)
        out = np.insert(self.design.gram(weights), self.place, 0.0, axis=1)
        out = np.insert(out, self.place, own, axis=0)
        out[:, self.place] = own
        out[self.place, self.place] = weights @ self.column**2
        return out

    def kernel(self, inverse_penalty):
        """``rows @ diag(inverse_penalty) @ rows.T`` in float64, shape (n, n)."""
        out = self.design.kernel(np.delete(inverse_penalty, self.place))
        out += inverse_penalty[self.place] * np.multiply.outer(self.column, self.column)
        return out


def contiguous(rows):
    """An index array that counts up by one, as the slice it is: taken without a copy."""
    if isinstance(rows, slice) or len(rows) < 2 or rows[-1] - rows[0] != len(rows) - 1:
        return rows
    return slice(int(rows[0]), int(rows[-1]) + 1) if (np.diff(rows) == 1).all() else rows
