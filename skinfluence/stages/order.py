"""Order statistics of columns, and what they become without a row."""

import numpy as np


class Quantile:
    """A quantile of each column by linear interpolation, missing values left out.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    level : float in [0, 1]
    """

    def __init__(self, X, level):
        n, d = X.shape
        self.level, self.columns = level, np.arange(d)
        self.order = np.argsort(X, axis=0, kind="stable")  # missing values last
        self.ranks = np.empty_like(self.order)
        np.put_along_axis(self.ranks, self.order, np.arange(n)[:, None], axis=0)
        self.sorted = np.take_along_axis(X, self.order, axis=0)
        self.counts = (~np.isnan(X)).sum(axis=0)
        self.low, self.share = self._position(self.counts)
        self.value = self._interpolate(self.low, self.share)

    def _position(self, counts):
        place = self.level * np.maximum(counts - 1, 0)
        low = np.floor(place).astype(np.intp)
        return low, place - low

    def _interpolate(self, low, share, ranks=None):
        high = low + (share > 0)
        if ranks is not None:  # order statistics beyond the row that goes move down by one
            low, high = low + (low >= ranks), high + (high >= ranks)
        last = len(self.sorted) - 1
        a = self.sorted[np.minimum(low, last), self.columns]
        b = self.sorted[np.minimum(high, last), self.columns]
        return a + share * (b - a)

    def without(self, rows):
        """The quantile without each of ``rows``: (b, d)."""
        ranks = self.ranks[rows]
        low, share = self._position(self.counts - 1)
        moved = self._interpolate(np.broadcast_to(low, ranks.shape), share, ranks)
        usable = (ranks < self.counts) & (self.counts > 1)
        return np.where(usable, moved, self.value)

    def pull(self, v):
        """Cotangents (d,) back to the rows at the order statistics: (n, d)."""
        out = np.zeros(self.order.shape)
        high = np.minimum(self.low + (self.share > 0), len(self.sorted) - 1)
        out[self.order[self.low, self.columns], self.columns] += (1 - self.share) * v
        out[self.order[high, self.columns], self.columns] += self.share * v
        return out
