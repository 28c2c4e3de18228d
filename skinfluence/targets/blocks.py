"""Query rows that are too many to hold at once."""

import numpy as np

from .._blocks import block_length, blocks
from ..objectives.base import Queries


def query_rows(objective, X):
    """The queries of an objective at rows ``X``, in blocks where all at once would be too large."""
    itemsize = np.dtype(getattr(objective, "dtype", np.float64)).itemsize
    length = block_length(4 * itemsize * objective.n_params, share=1 / 8)
    if X.shape[0] <= length:
        return objective.queries(X)
    return QueryBlocks(objective, X, length)


class QueryBlocks(Queries):
    """Queries made block by block, each time they are asked: only their outputs are kept.

    Parameters
    ----------
    objective : Objective
    X : rows as the objective takes them
    length : int
        Rows in a block.
    """

    def __init__(self, objective, X, length):
        self.objective, self.X, self.length = objective, X, length
        self.outputs = np.concatenate([queries.outputs for _, queries in self._each()])

    def _each(self):
        for part in blocks(self.X.shape[0], self.length):
            yield part, self.objective.queries(self.X[part])

    def _stacked(self, values):
        out = None
        for part, queries in self._each():
            piece = values(part, queries)
            if out is None:
                out = np.empty((self.X.shape[0], *piece.shape[1:]), piece.dtype)
            out[part] = piece
        return out

    def pullback(self, C):
        """Block by block."""
        return self._stacked(lambda part, queries: queries.pullback(C[part]))

    def pullback_sum(self, C):
        """Block by block."""
        return sum(queries.pullback_sum(C[part]) for part, queries in self._each())

    def moved(self, effects, rows):
        """Block by block."""
        return self._stacked(lambda part, queries: queries.moved(effects, rows))

    def joint_moved(self, effects, groups):
        """Block by block."""
        return self._stacked(lambda part, queries: queries.joint_moved(effects, groups))

    def changes(self, delta):
        """Block by block."""
        return self._stacked(lambda part, queries: queries.changes(delta))

    def linear_changes(self, delta):
        """Block by block."""
        return self._stacked(lambda part, queries: queries.linear_changes(delta))

    def paired_changes(self, delta):
        """Block by block."""
        return self._stacked(lambda part, queries: queries.paired_changes(delta[part]))
