"""Prediction intervals from predictions without each row: the jackknife+."""

import numpy as np

from .._blocks import block_length, blocks


class LeftOutRows:
    """Predictions by the fits without each row.

    Attributes
    ----------
    own : ndarray of shape (n,)
        Prediction of each training row by the fit without it.
    width : int
        Fits whose predictions are held for each query.
    """

    def __init__(self, objective, effects):
        self.objective, self.effects = objective, effects
        self.rows, self.width = np.arange(objective.n_rows), objective.n_rows
        Z = np.empty((objective.n_rows, objective.n_outputs))
        for part in effects.row_blocks(self.rows):
            Z[part] = objective.training_queries(part).outputs + effects.own_outputs(part)
        self.own = objective.head.decision(Z, np.zeros(len(Z), dtype=np.intp))

    def at(self, queries):
        """Predictions at queries without each row, (m, n)."""
        out = np.empty((len(queries), len(self.rows)))
        for part in self.effects.row_blocks(self.rows, len(queries)):
            changes = self.effects.outputs(queries, part)
            out[:, part] = _predicted(self.objective, queries, changes)
        return out


class LeftOutBags:
    """Means of the predictions of the bootstrap replicates that each row is not in.

    Parameters
    ----------
    objective : Objective
    absent : BitRows of shape (n_replicates, n)
        Whether each row is left out of each replicate.
    moves : ndarray of shape (n_replicates, n_params)
        Parameters of the replicates minus fitted ones.
    """

    def __init__(self, objective, absent, moves):
        self.objective, self.moves, self.width = objective, moves, len(moves)
        self.absent, n = absent, objective.n_rows
        self.own, self._number = np.empty(n), np.empty(n)
        for part in self._parts():
            outside = absent.columns(part)
            self._number[part] = outside.sum(axis=0)
            queries = objective.training_queries(np.arange(part.start, part.stop))
            bags = _predicted(objective, queries, queries.changes(moves))
            self.own[part] = np.einsum("ib,bi->i", bags, outside)
        if not self._number.all():
            raise ValueError(
                f"row {int(np.argmin(self._number))} is in each of the {len(moves)} bootstrap "
                "replicates; draw more"
            )
        self.own /= self._number

    def at(self, queries):
        """Mean predictions at queries without each row, (m, n)."""
        bags = _predicted(self.objective, queries, queries.changes(self.moves))
        out = np.empty((len(bags), len(self.own)))
        for part in self._parts():
            out[:, part] = bags @ self.absent.columns(part) / self._number[part]
        return out

    def _parts(self):
        length = block_length(32 * len(self.moves), share=1 / 8, smallest=8)
        return blocks(len(self.own), length // 8 * 8)


def _predicted(objective, queries, changes):
    Z = queries.outputs[:, None] + changes
    return objective.head.decision(Z, np.zeros(1, dtype=np.intp))


def check_rows_for(level, n):
    """Refuse a level that takes more rows than there are."""
    if np.ceil(level * (n + 1) - 1e-9) > n:
        raise ValueError(
            f"confidence_level={level} needs at least {int(np.ceil(level / (1 - level) - 1e-9))} "
            f"training rows for a finite interval; there are {n}"
        )


def jackknife_interval(left_out, X, y, level, kind):
    """Lower and upper ends at rows ``X``, (m, 2).

    Parameters
    ----------
    left_out : LeftOutRows or LeftOutBags
        Of a regressor with one output.
    X : ndarray or CSR of shape (m, n_features)
    y : ndarray of shape (n,)
    level : float
    kind : {"plus", "minmax"}
    """
    n = len(y)
    residuals = np.abs(y - left_out.own)
    rank = int(np.ceil(level * (n + 1) - 1e-9))
    quantile = np.partition(residuals, rank - 1)[rank - 1]
    out = np.empty((X.shape[0], 2))
    per_query = 16 * (n + left_out.width)
    for part in blocks(len(out), block_length(per_query, share=1 / 8)):
        values = left_out.at(left_out.objective.queries(X[part]))
        if kind == "minmax":
            out[part, 0] = values.min(axis=1) - quantile
            out[part, 1] = values.max(axis=1) + quantile
        else:
            # the n+1-rank-th smallest below is the mirror image of the rank-th smallest above
            lower, upper = values - residuals, values + residuals
            out[part, 0] = np.partition(lower, n - rank, axis=1)[:, n - rank]
            out[part, 1] = np.partition(upper, rank - 1, axis=1)[:, rank - 1]
    return out
