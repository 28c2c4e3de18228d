"""What float64 leaves of a gradient that should vanish."""

import numpy as np

from .._blocks import block_length, blocks

UNIT = np.finfo(np.float64).eps / 2
BLOCK = 64


def gradient_floor(objective, solver, smallest):
    """Norm in ``H⁻¹`` of the gradient at the fit, as computed, and of its rounding.

    Sums run over short blocks and then by pairs, so that their rounding stays about a hundred
    units of the sum of absolute values instead of ``n`` of them.

    Parameters
    ----------
    objective : LinearObjective
    solver : Direct
    smallest : float
        Smallest eigenvalue of the Hessian.
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
    linear = objective.penalty_gradient(objective.theta)
    gradient = np.ascontiguousarray(np.array(sums).T).sum(axis=1) + linear
    rounding = np.sum(sizes, axis=0) + 4 * UNIT * (np.abs(linear) + np.abs(gradient))
    computed = np.sqrt(max(0.0, gradient @ solver.solve(gradient[:, None])[:, 0]))
    return float(computed) + _norm_of_size(rounding, solver, smallest)


def _norm_of_size(size, solver, smallest):
    """Largest norm in ``H⁻¹`` of a vector whose entries are at most ``size``."""
    inverse = solver.inverses()[0]
    if inverse is None:
        return float(np.linalg.norm(size) / np.sqrt(smallest))
    parts = size.reshape(-1, len(inverse))
    return float(np.sqrt(np.einsum("ka,ab,kb->", parts, np.abs(inverse), parts)))


def _outputs_error(objective):
    """Rounding of the loss's slope at each row that comes from its linear predictor."""
    d = objective.d
    size = np.empty(objective.n_rows)
    coef = np.abs(objective.coef)
    length = min(4096, block_length(32 * objective.n_params, share=1 / 8))
    for piece in blocks(objective.n_rows, length):
        x = np.abs(objective.design.block(piece, np.float64))
        # a row of a softmax's curvature has absolute values that add up to twice its diagonal
        own = np.einsum("ikk->ik", objective.curvature_matrices(piece)).max(axis=1)
        size[piece] = 2 * own * (x @ coef.T).max(axis=1)
    return (d + 2) * UNIT * size
