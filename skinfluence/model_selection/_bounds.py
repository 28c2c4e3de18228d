"""How far the predictions of a test fold can be from those of the optimum without it."""

import numpy as np

from .._blocks import block_length, index_blocks
from ..methods.certificate import certificate_for


def fold_error_bounds(model, folds):
    """Bounds on the Euclidean error of the outputs of any test row, (n_splits,).

    NaN for splits that the estimator itself fits.
    """
    if folds.splits is None:
        return _row_bounds(model)
    certificate = certificate_for(model.objective, model.effects.problem)
    out = np.full(len(folds), np.nan)
    for split, (train, test) in enumerate(folds.splits):
        rows = folds.removed[split]
        if len(np.unique(train)) < len(train) or not model.movable(rows) or len(test) == 0:
            continue
        try:
            move = model.move(rows) if len(rows) else np.zeros(model.objective.n_params)
        except ValueError:
            if not model.accurate:
                raise
            continue
        out[split] = certificate.joint_bound(rows, move) * _lengths(model.objective, test).max()
    return out


def _row_bounds(model):
    out = np.full(model.n_rows, np.nan)
    for rows in model.effects.row_blocks(np.flatnonzero(model.movable_rows())):
        out[rows] = model.effects.error_bound(rows) * _lengths(model.objective, rows)
    return out


def _lengths(objective, rows):
    """Norms of rows, intercept included: by how much a unit of the parameters moves an output."""
    design = getattr(objective, "parts", [objective])[0].design
    parts = index_blocks(rows, block_length(16 * design.shape[1], share=1 / 8))
    return np.concatenate(
        [np.linalg.norm(design.block(part, np.float64), axis=1) for part in parts]
    )
