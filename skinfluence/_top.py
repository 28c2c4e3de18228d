"""The largest values of each query over streamed blocks of columns."""

from numbers import Integral
from threading import Lock

import numpy as np
from sklearn.utils import Bunch


class TopInfluences(Bunch):
    """A Bunch whose ``values`` is the array, not the method of a dictionary."""

    @property
    def values(self):
        """Influences, most influential first."""
        return self["values"]


def check_top(k, by, n_rows):
    """Refuse an order that is not known, or more rows than there are."""
    if by not in ("magnitude", "helpful", "harmful"):
        raise ValueError(f"by={by!r} is not one of 'magnitude', 'helpful', 'harmful'")
    if not isinstance(k, Integral) or not 1 <= k <= n_rows:
        raise ValueError(f"k={k!r} must be an integer between 1 and {n_rows}")


class TopValues:
    """Keeps the ``k`` best columns a row of a matrix that arrives in blocks.

    A block is compared with each row's worst kept value; only what beats it is sorted.

    Parameters
    ----------
    n : int
        Rows (queries).
    k : int
    by : {"magnitude", "helpful", "harmful"}
    """

    def __init__(self, n, k, by):
        self.k, self.by = k, by
        self.values = np.zeros((n, 0))
        self.indices = np.zeros((n, 0), dtype=np.intp)
        self._lock = Lock()

    def update(self, columns, values):
        """Take in the columns ``columns`` (a slice)."""
        scores = self._scores(values)
        with self._lock:
            if self.values.shape[1] < self.k:
                self._merge(columns.start, values, scores)
            else:
                self._merge_better(columns.start, values, scores)

    def result(self):
        """``(indices, values)`` of shape (n, k), best first; ties by position."""
        order = np.lexsort((self.indices, -self._scores(self.values)), axis=1)
        take = np.take_along_axis
        return take(self.indices, order, axis=1), take(self.values, order, axis=1)

    def _scores(self, values):
        if self.by == "magnitude":
            return np.abs(values)
        return values if self.by == "helpful" else -values

    def _merge(self, start, values, scores):
        k = min(self.k, values.shape[1])
        part = np.argpartition(scores, -k, axis=1)[:, -k:]
        self._keep(np.take_along_axis(values, part, axis=1), part + start)

    def _merge_better(self, start, values, scores):
        worst = self._scores(self.values).min(axis=1)
        better = np.flatnonzero(scores.max(axis=1) > worst)
        for row in better:
            found = np.flatnonzero(scores[row] > worst[row])
            if len(found) > self.k:
                found = found[np.argpartition(scores[row, found], -self.k)[-self.k :]]
            new = np.concatenate([self.values[row], values[row, found]])
            index = np.concatenate([self.indices[row], found + start])
            best = np.argpartition(self._scores(new), -self.k)[-self.k :]
            self.values[row], self.indices[row] = new[best], index[best]

    def _keep(self, values, indices):
        values = np.concatenate([self.values, values], axis=1)
        indices = np.concatenate([self.indices, indices], axis=1)
        if values.shape[1] > self.k:
            best = np.argpartition(self._scores(values), -self.k, axis=1)[:, -self.k :]
            values = np.take_along_axis(values, best, axis=1)
            indices = np.take_along_axis(indices, best, axis=1)
        self.values, self.indices = values, indices
