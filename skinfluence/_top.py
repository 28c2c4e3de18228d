"""The largest values of each query over streamed blocks of columns."""

from numbers import Integral
from threading import Lock

import numpy as np
from sklearn.utils import Bunch

from ._tensors import is_tensor


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
    """Keeps the ``k`` best columns a row of a matrix that arrives in blocks, in any order.

    A block is compared with each row's worst kept value; what beats it is collected, and sorted
    when enough has come together. Of equal values the first columns are kept.

    Parameters
    ----------
    n : int
        Rows (queries).
    k : int
    by : {"magnitude", "helpful", "harmful"}
    """

    def __init__(self, n, k, by):
        self.n, self.k, self.by = n, k, by
        self.limit = max(4 * n * k, 2**16)
        self._found, self._n_found, self._width = [], 0, 0
        # a row's worst kept score, and the last column that has it
        self._bar = np.full(n, -np.inf), np.full(n, np.iinfo(np.intp).max)
        self._lock = Lock()

    def update(self, columns, values):
        """Take in the columns ``columns`` (a slice) of an array or a tensor."""
        worst, last = self._bar
        if is_tensor(values):
            from ._device import candidates  # torch is imported no earlier than this

            found = candidates(values, self.by, self.k, worst, columns.start > last)
            self._take(columns, *found, prune=np.isneginf(worst).any())
            return
        best = self._best(values)
        rows = np.flatnonzero((best > worst) | ((best == worst) & (columns.start < last)))
        part = values[rows]
        scores = self._scores(part)
        least = worst[rows, None]
        if part.shape[1] > self.k and np.isneginf(least).any():
            kth = np.partition(scores, -self.k, axis=1)[:, [-self.k]]
            least = np.maximum(least, kth)
        row, column = np.nonzero(scores >= least)
        self._take(columns, rows[row], column, part[row, column])

    def _take(self, columns, rows, column, values, prune=False):
        with self._lock:
            self._width += columns.stop - columns.start
            self._found.append((rows, column + columns.start, values))
            self._n_found += len(rows)
            if prune or self._n_found > self.limit:
                self._prune()

    def result(self):
        """``(indices, values)`` of shape (n, k), best first; ties by position."""
        _, indices, values = self._prune()
        shape = (self.n, min(self.k, self._width))
        if len(values) != shape[0] * shape[1]:
            raise ValueError("some influences are not numbers: there is no order among them")
        return indices.reshape(shape), values.reshape(shape)

    def _prune(self):
        """Sort what was found, and keep the best of each row."""
        if not self._found:
            return np.empty((3, 0), dtype=np.intp)
        rows, columns, values = (np.concatenate(piece) for piece in zip(*self._found, strict=True))
        scores = self._scores(values)
        order = np.lexsort((columns, -scores, rows))
        rows = rows[order]
        rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = order[rank < self.k]
        ends = order[rank == self.k - 1]
        worst, last = (part.copy() for part in self._bar)
        full = rows[rank == self.k - 1]
        worst[full], last[full] = scores[ends], columns[ends]
        self._bar = worst, last
        self._found = [(rows[rank < self.k], columns[kept], values[kept])]
        self._n_found = len(kept)
        return self._found[0]

    def _best(self, values):
        if self.by == "magnitude":
            return np.maximum(values.max(axis=1), -values.min(axis=1))
        return values.max(axis=1) if self.by == "helpful" else -values.min(axis=1)

    def _scores(self, values):
        if self.by == "magnitude":
            return np.abs(values)
        return values if self.by == "helpful" else -values
