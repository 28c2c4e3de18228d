"""Removal of rows from nearest neighbours: the next neighbour takes the place."""

import numpy as np

from ..objectives.neighbors import Neighbors
from .base import Effects
from .exact import exact_effects
from .newton import newton_effects


@newton_effects.register(Neighbors)
def _(objective, problem):
    raise TypeError(
        "nearest neighbours minimise no objective, so there is no Newton step; use "
        "method='exact', which looks up the next neighbour"
    )


@exact_effects.register(Neighbors)
def _(objective, problem, tol):
    return NeighborEffects(problem)


class NeighborEffects(Effects):
    """Only queries that have a row among their ``k`` nearest change without it.

    Rows at equal distances are taken in the order in which the estimator returns them; a refit may
    break such ties in another way.
    """

    def outputs(self, queries, rows):
        """Zero but for the neighbours."""
        objective = self.objective
        for row in rows:
            objective.check_removable([row])
        place = np.full(objective.n_rows, -1, dtype=np.intp)
        place[rows] = np.arange(len(rows))
        out = np.zeros((len(queries), len(rows), objective.n_outputs))
        found = place[queries.index[:, : objective.n_neighbors]]
        query, position = np.nonzero(found >= 0)
        if len(query):
            changes = queries.without_each()
            out[query, found[query, position]] = changes[query, position]
        return out

    def joint_outputs(self, queries, groups):
        """Group by group, as many neighbours further as the group has rows."""
        for group in groups:
            self.objective.check_removable(group)
        return np.stack([queries.without(group) for group in groups], axis=1)

    def own_outputs(self, rows):
        """Each row's own prediction without it."""
        queries = self.objective.training_queries(rows)
        each = np.arange(len(rows))
        return self.outputs(queries, rows)[each, each]

    def parameters(self, rows):
        """Refused: there are none."""
        raise ValueError("nearest neighbours have no parameters; ask for outputs")
