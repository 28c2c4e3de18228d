"""Kernel matrices reached by rows, held only where they fit the memory budget."""

from functools import partial

import numpy as np
from scipy import sparse
from sklearn.metrics.pairwise import pairwise_kernels

from .._blocks import working_bytes


class KernelRows:
    """The kernel matrix of some training rows.

    Held whole when it fits the working memory; otherwise rows are computed when they are asked
    for, and kept while the memory lasts.

    Parameters
    ----------
    X : ndarray or CSR of shape (n, n_features)
    function : callable
        ``function(A, B)`` gives the kernel between rows, shape (len(A), len(B)).
    """

    def __init__(self, X, function):
        self.X, self.function = X, function
        self.n = X.shape[0]
        self._full = None
        self._kept = {}
        if 8 * self.n**2 <= working_bytes():
            self._full = np.asarray(function(X, X), dtype=np.float64)

    def rows(self, index):
        """Rows ``index``, shape (len(index), n)."""
        index = np.asarray(index, dtype=np.intp)
        if self._full is not None:
            return self._full[index]
        missing = [i for i in index.tolist() if i not in self._kept]
        if 8 * self.n * (len(self._kept) + len(missing)) > working_bytes():
            self._kept = {i: self._kept[i] for i in index.tolist() if i in self._kept}
        if missing:
            new = np.asarray(self.function(self.X[missing], self.X), dtype=np.float64)
            self._kept.update(zip(missing, new, strict=True))
        return np.array([self._kept[i] for i in index.tolist()]).reshape(len(index), self.n)

    def row(self, i):
        """Row ``i``."""
        return self._full[i] if self._full is not None else self.rows([i])[0]

    def between(self, X):
        """The kernel between other rows and these, shape (len(X), n)."""
        return np.asarray(self.function(X, self.X), dtype=np.float64)


def svm_kernel(estimator):
    """``function(A, B)`` of a fitted SVC or SVR, at its fitted ``gamma``."""
    kernel = estimator.kernel
    if callable(kernel):
        return kernel
    if kernel == "precomputed":
        return _given
    options = {}
    if kernel in ("rbf", "poly", "sigmoid"):
        options["gamma"] = estimator._gamma  # what "scale" and "auto" came to at the fit
    if kernel in ("poly", "sigmoid"):
        options["coef0"] = estimator.coef0
    if kernel == "poly":
        options["degree"] = estimator.degree
    return partial(pairwise_kernels, metric=kernel, **options)


def _given(A, B):
    """Rows of a precomputed kernel are the kernel."""
    return A


def as_double(X):
    """Rows in float64, dense or CSR: the precision of the kernel."""
    if sparse.issparse(X):
        return X.tocsr().astype(np.float64)
    return np.asarray(X, dtype=np.float64)
