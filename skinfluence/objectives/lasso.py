"""Lasso and elastic net: ``Σ s_i r_i² / 2 + Σs (α ρ ‖w‖₁ + α (1 - ρ) ‖w‖² / 2)``, mean form."""

import numpy as np
from sklearn.linear_model import ElasticNet, ElasticNetCV, Lasso, LassoCV

from .base import objective_for
from .composite import IndependentOutputs
from .design import Design
from .heads import RegressionHead
from .linear import stack_parameters
from .losses import HalfSquaredLoss
from .ridge import each_output
from .rules import RemovalRule, row_weights
from .sparse import SparseObjective


@objective_for.register(Lasso)
def lasso_objective(estimator, X, y, sample_weight=None):
    """All of the penalty is L1."""
    return _elastic(estimator, estimator.alpha, 1.0, X, y, sample_weight)


@objective_for.register(ElasticNet)
def elastic_net_objective(estimator, X, y, sample_weight=None):
    """``l1_ratio`` of the penalty is L1."""
    return _elastic(estimator, estimator.alpha, estimator.l1_ratio, X, y, sample_weight)


@objective_for.register(LassoCV)
def lasso_cv_objective(estimator, X, y, sample_weight=None):
    """Lasso at the chosen ``alpha``, which is held fixed."""
    return _elastic(estimator, estimator.alpha_, 1.0, X, y, sample_weight)


@objective_for.register(ElasticNetCV)
def elastic_net_cv_objective(estimator, X, y, sample_weight=None):
    """Elastic net at the chosen ``alpha`` and ``l1_ratio``, which are held fixed."""
    return _elastic(estimator, estimator.alpha_, estimator.l1_ratio_, X, y, sample_weight)


def _elastic(estimator, alpha, ratio, X, y, sample_weight):
    if estimator.positive:
        raise ValueError(
            f"{type(estimator).__name__}(positive=True) is a constrained fit that is not "
            "supported; use positive=False"
        )
    y = np.asarray(y, dtype=np.float64)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    weights = row_weights(sample_weight, len(y))
    column = 1.0 if estimator.fit_intercept else None
    design, theta = Design(X, column), stack_parameters(estimator, column)
    penalty = np.full(theta.shape[1], alpha * weights.sum())
    if column is not None:
        penalty[-1] = 0.0
    loss, rule = HalfSquaredLoss(), RemovalRule(len(y), penalty_measure=weights)
    parts = [
        SparseObjective(
            design,
            loss,
            target,
            weights,
            (1 - ratio) * penalty[None],
            theta[[k]],
            RegressionHead(loss),
            l1=ratio * penalty,
            rule=rule,
        )
        for k, target in enumerate(y.reshape(len(y), -1).T)
    ]
    if len(parts) == 1:
        return parts[0]
    head = RegressionHead(loss, len(parts))
    return IndependentOutputs(parts, head, range(len(parts)), y, each_output)
