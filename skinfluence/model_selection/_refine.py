"""The leave-one-out loss along a penalty, with its analytic derivative."""

import numpy as np

from .._blocks import block_length, blocks
from ..methods.joint import is_smooth
from ..objectives.losses import LogisticLoss, MultinomialLoss, SquaredLoss


def check_refinable(objective):
    """Refuse objectives along whose penalty the leave-one-out loss has no known derivative."""
    losses = (LogisticLoss, MultinomialLoss, SquaredLoss)
    if not is_smooth(objective) or not isinstance(objective.loss, losses):
        raise TypeError(
            f"refine is not known for {type(objective).__name__}: only for logistic regression "
            "and least squares with a quadratic penalty"
        )
    if not objective.rule.trivial:
        raise ValueError(
            "refine is not known where other rows' weights or the penalty move with a row "
            "(class_weight='balanced', a penalty on the mean loss)"
        )


def leave_one_out_loss(objective, solver):
    """Mean leave-one-out loss, and its derivative along the logarithm of the penalty.

    Each left-out output is one Newton step from the fit, ``z + A (I - S A)⁻¹ r`` (exact for
    squared loss). Along ``log ρ``, ``F = Σ w ℓ + ρ R``, the fit moves by ``-H⁻¹ ∇R``, and with it
    residuals, curvatures and ``H`` in ``A = x' H⁻¹ x``.

    Parameters
    ----------
    objective : LinearObjective
    solver : Solver
        Fitted on it, direct.

    Returns
    -------
    value, slope : float
    """
    penalty = objective.penalty.ravel()
    moved = -solver.solve((penalty * objective.theta)[:, None])[:, 0]
    dz = objective.predict(moved)
    each = _scalar if objective.loss.scalar else _coupled
    left_out, slopes = each(objective, solver, dz)
    y, head = objective.head_targets, objective.head
    value = head.loss(left_out, y).mean()
    slope = (head.loss_gradient(left_out, y) * slopes).sum(axis=-1).mean()
    return float(value), float(slope)


def _scalar(objective, solver, dz):
    """Left-out outputs and their derivatives, one curvature a row."""
    design, z = objective.design, objective.outputs
    third = objective.weights * objective.loss.third(z, objective.y) * dz[:, 0]
    r, h = objective.residuals, objective.curvatures
    change = design.gram(third)
    change[np.diag_indices_from(change)] += objective.penalty[0]
    a, da = np.empty(objective.n_rows), np.empty(objective.n_rows)
    d = objective.d
    for rows in _row_blocks(objective):
        x = design.block(rows, np.float64)
        stacked = np.zeros((objective.n_params, len(x)))
        stacked[:d] = x.T
        solved = solver.solve(stacked)[:d]
        a[rows] = np.einsum("ij,ji->i", x, solved)
        da[rows] = -np.einsum("ij,ij->j", solved, change @ solved)
    left = 1 - h * a
    if (left <= 1e-10).any():
        raise ValueError("a row has leverage 1: without it the fit is not identified")
    dleft = -(third * a + h * da)
    step = a / left
    dstep = (da - step * dleft) / left
    return z + step[:, None] * r, dz + dstep[:, None] * r + (step * h)[:, None] * dz


def _coupled(objective, solver, dz):
    """Left-out outputs and their derivatives, a ``K × K`` curvature a row."""
    K, d, weights = objective.n_outputs, objective.d, objective.weights
    P = objective.head.proba(objective.outputs)
    dp = P * (dz - (P * dz).sum(axis=1, keepdims=True))
    dS = -dp[:, :, None] * P[:, None, :]
    dS += dS.transpose(0, 2, 1)
    dS[:, np.arange(K), np.arange(K)] += dp
    dS *= weights[:, None, None]
    change = np.zeros((K, d, K, d))
    for a in range(K):
        for b in range(K):
            change[a, :, b] = objective.design.gram(dS[:, a, b])
    change = change.reshape(K * d, K * d)
    change[np.diag_indices_from(change)] += objective.penalty.ravel()
    left_out, slopes = np.empty(dz.shape), np.empty(dz.shape)
    for rows in _row_blocks(objective):
        x = objective.design.block(rows, np.float64)
        stacked = np.einsum("kc,ij->kjic", np.eye(K), x).reshape(K * d, len(x) * K)
        solved = solver.solve(stacked)
        moved = (change @ solved).reshape(K * d, len(x), K)
        solved = solved.reshape(K * d, len(x), K)
        A = np.einsum("kjic,ij->ikc", solved.reshape(K, d, len(x), K), x)
        dA = -np.einsum("pia,pib->iab", solved, moved)
        S = objective.curvature_matrices(rows)
        system = np.eye(K) - S @ A
        s = np.linalg.solve(system, objective.residuals[rows][:, :, None])
        dr = S @ dz[rows][:, :, None] + (dS[rows] @ A + S @ dA) @ s
        ds = np.linalg.solve(system, dr)
        left_out[rows] = objective.outputs[rows] + (A @ s)[:, :, 0]
        slopes[rows] = dz[rows] + (dA @ s + A @ ds)[:, :, 0]
    return left_out, slopes


def _row_blocks(objective):
    per_row = 32 * objective.n_params * objective.n_outputs
    return blocks(objective.n_rows, block_length(per_row, share=1 / 8))
