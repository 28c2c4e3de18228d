"""Prediction intervals from leave-one-out fits: the jackknife+."""

import numpy as np

from .._blocks import block_length, blocks


def jackknife_interval(objective, effects, X, y, level, kind):
    """Lower and upper ends at rows ``X``, (m, 2).

    Parameters
    ----------
    objective : Objective
        Of a regressor with one output.
    effects : Effects
    X : ndarray or CSR of shape (m, n_features)
    y : ndarray of shape (n,)
    level : float
    kind : {"plus", "minmax"}
    """
    n = objective.n_rows
    rows = np.arange(n)
    head, first = objective.head, np.zeros(1, dtype=np.intp)
    own = np.array(objective.outputs, dtype=np.float64)
    for part in effects.row_blocks(rows):
        own[part] += effects.own_outputs(part)
    residuals = np.abs(y - head.decision(own, np.zeros(n, dtype=np.intp)))
    rank = int(np.ceil(level * (n + 1) - 1e-9))
    if rank > n:
        raise ValueError(
            f"confidence_level={level} needs at least {int(np.ceil(level / (1 - level) - 1e-9))} "
            f"training rows for a finite interval; there are {n}"
        )
    quantile = np.partition(residuals, rank - 1)[rank - 1]
    out = np.empty((X.shape[0], 2))
    deltas = np.concatenate([effects.parameters(part) for part in effects.row_blocks(rows)])
    for part in blocks(len(out), block_length(32 * n, share=1 / 8)):
        queries = objective.queries(X[part])
        moved = queries.outputs[:, None] + queries.changes(deltas)
        left_out = head.decision(moved, first)
        if kind == "minmax":
            out[part, 0] = left_out.min(axis=1) - quantile
            out[part, 1] = left_out.max(axis=1) + quantile
        else:
            # the n+1-rank-th smallest below is the mirror image of the rank-th smallest above
            lower, upper = left_out - residuals, left_out + residuals
            out[part, 0] = np.partition(lower, n - rank, axis=1)[:, n - rank]
            out[part, 1] = np.partition(upper, rank - 1, axis=1)[:, rank - 1]
    return out
