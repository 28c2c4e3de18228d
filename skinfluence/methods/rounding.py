"""What float64 leaves of a gradient that should vanish."""

import numpy as np

from .._blocks import blocks

UNIT = np.finfo(np.float64).eps / 2
BLOCK = 512


def gradient_floor(objective, scale, smallest, inverse_norm):
    """Norm in ``H⁻¹`` of the gradient at the fit, as computed, and of its rounding.

    Sums run over short blocks and then by pairs, so that their rounding stays a few hundred
    units of the sum of absolute values instead of ``n`` of them.

    Parameters
    ----------
    objective : LinearObjective
    scale : ndarray of shape (size,)
        Scaling of the parameters under which ``smallest`` is taken.
    smallest : float
        Smallest eigenvalue of the scaled Hessian block.
    inverse_norm : callable
        Norm of a vector in ``H⁻¹``.
    """
    design, residuals = objective.design, objective.residuals
    outputs_error = _outputs_error(objective)
    sums, sizes = [], []
    depth = BLOCK + 32
    for piece in blocks(objective.n_rows, BLOCK):
        x = design.block(piece, np.float64)
        sums.append((residuals[piece].T @ x).ravel())
        size = (depth + 8) * UNIT * np.abs(residuals[piece]) + outputs_error[piece, None]
        sizes.append((size.T @ np.abs(x)).ravel())
    linear = objective.penalty.ravel() * objective.theta
    gradient = np.ascontiguousarray(np.array(sums).T).sum(axis=1) + linear
    rounding = np.sum(sizes, axis=0) + 4 * UNIT * (np.abs(linear) + np.abs(gradient))
    scaled = rounding.reshape(-1, len(scale)) * scale
    return inverse_norm(gradient) + float(np.linalg.norm(scaled) / np.sqrt(smallest))


def _outputs_error(objective):
    """Rounding of the loss's slope at each row that comes from its linear predictor."""
    d = objective.d
    size = np.empty(objective.n_rows)
    coef = np.abs(objective.coef)
    for piece in blocks(objective.n_rows, 4096):
        x = np.abs(objective.design.block(piece, np.float64))
        size[piece] = (x @ coef.T).max(axis=1)
    curvature = objective.curvatures if objective.loss.scalar else 0.5 * objective.weights
    return (d + 2) * UNIT * curvature * size
