"""Derivatives of the optimum in a training row's features and label."""

from functools import singledispatch

import numpy as np

from ..objectives.composite import IndependentOutputs
from ..objectives.linear import LinearObjective
from ..objectives.wrappers import TransformedHead
from .joint import is_smooth


@singledispatch
def feature_derivatives(objective, solved, rows):
    """``-s_q' ∂∇F/∂x_i``: derivative of ``t_q`` in the features of each row, (m, b, ...).

    Parameters
    ----------
    objective : Objective
    solved : ndarray of shape (m, n_params)
        ``s = H⁻¹ ∇t`` of each query.
    rows : ndarray of int
    """
    raise TypeError(_unknown(objective, "features"))


@feature_derivatives.register(LinearObjective)
def _(objective, solved, rows):
    if not is_smooth(objective):
        raise TypeError(_unknown(objective, "features"))
    K, width = objective.n_outputs, objective.design.X.shape[1]
    s = solved.reshape(len(solved), K, -1)
    x = objective.design.block(rows, np.float64)
    out = np.einsum("mkj,bk->mbj", s[:, :, :width], objective.residuals[rows])
    moved = np.einsum("mkd,bd->mbk", s, x)
    moved = np.einsum("mbk,bkc->mbc", moved, objective.curvature_matrices(rows))
    return -(out + moved @ objective.coef[:, :width])


@feature_derivatives.register(IndependentOutputs)
def _(objective, solved, rows):
    pairs = zip(objective.parameter_slices, objective.parts, strict=True)
    return sum(feature_derivatives(part, solved[:, piece], rows) for piece, part in pairs)


def label_derivatives(objective, solved, rows):
    """``-s_q' ∂∇F/∂y_i``: derivative of ``t_q`` in the label of each row, (m, b)."""
    known = is_smooth(objective) and objective.n_outputs == 1
    scaled = isinstance(objective.head, TransformedHead)  # its loss is of other units than y
    if not known or scaled or objective.head_targets is not objective.y:
        raise TypeError(_unknown(objective, "label"))
    Z, y = objective.outputs[rows], np.asarray(objective.y[rows], dtype=np.float64)
    step = 0.5 * np.maximum(1.0, np.abs(y))
    # the gradient of every such loss is linear in y: a difference of any length is exact
    up, down = objective.loss.gradient(Z, y + step), objective.loss.gradient(Z, y - step)
    slopes = objective.weights[rows] * (up - down)[:, 0] / (2 * step)
    return -(solved @ objective.design.block(rows, np.float64).T) * slopes


def _unknown(objective, what):
    return (
        f"the derivative in a training row's {what} is not known for "
        f"{type(objective).__name__}: it is for linear predictors with a smooth loss"
        + (" and nets. With a pipeline, use preprocessing='frozen'" if what == "features" else "")
    )
