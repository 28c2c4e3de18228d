"""Some of the rows of a linear predictor, which know what all rows add up to."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..solvers.factor import QuadraticBlock, join_outputs, split_outputs
from .base import objective_for
from .composite import IndependentOutputs
from .linear import LinearObjective, unevaluated
from .linear_rows import GramRows
from .minimum import running_rows
from .piecewise import PiecewiseObjective
from .sparse import SparseObjective


@dataclass
class Whole:
    """What all rows together are, as far as some of them have to know it.

    Attributes
    ----------
    class_counts : ndarray of shape (n_classes,)
        Rows of positive weight; of a regression one number.
    sums, penalty_total : ndarray of shape (G,), float
        Measures of the removal rule.
    penalty : ndarray of shape (K, d)
    l1 : ndarray of shape (K * d,) or None
    theta, group_gradients : ndarray
        Parameters at the minimum and the gradient of each class's losses there, (G, n_params),
        once they are known.
    group_matrices, matrix : ndarray
        Hessians of each class's losses and of it all (of one output, where outputs share it),
        once something needs them.
    solver : Solver
        Fitted on the objective of all rows.
    """

    class_counts: np.ndarray
    sums: np.ndarray
    penalty_total: float
    penalty: np.ndarray
    l1: np.ndarray | None = None
    theta: np.ndarray | None = None
    group_gradients: np.ndarray | None = None
    group_matrices: np.ndarray | None = None
    matrix: np.ndarray | None = None
    solver: Any = None


class Shard(LinearObjective):
    """A linear objective of some rows; what other rows matter to is that of all.

    Row-wise quantities (outputs, residuals, leverages, removal gradients) are those of its rows.

    Parameters
    ----------
    objective : LinearObjective
        Of the rows, as if there were no others.
    whole : Whole
    """

    def __init__(self, objective, whole):
        vars(self).update(vars(objective))
        self.whole = whole
        factors = self.rule.extend(whole.sums, whole.penalty_total)
        # of a class that has no weight here the own rule made nothing of nothing
        self.weights = np.where(factors > 0, self.weights * factors, 0.0)
        self.penalty = whole.penalty
        if whole.l1 is not None:
            self.l1 = whole.l1
        if whole.theta is not None:
            self._set_theta(whole.theta)

    def class_counts(self):
        """Rows of each class, of all rows."""
        return self.whole.class_counts

    def group_gradients(self):
        """Gradient of each class's loss sum over all rows, and of the penalty."""
        return np.array([*self.whole.group_gradients, self.penalty_gradient(self.theta)])

    def group_blocks(self):
        """Curvature of each class's rows, of all rows."""
        repeats = self.n_outputs if self.loss.scalar else 1
        penalty = np.zeros(len(self.whole.matrix))
        return [
            QuadraticBlock(penalty, GramRows(matrix), None, repeats)
            for matrix in self.whole.group_matrices
        ]

    def hessian_product(self, V):
        """``H @ V`` with the Hessian of all rows."""
        return curvature_product(self, V)

    def fit_solver(self, solver):
        """The one fitted on all rows."""
        return self.whole.solver


def curvature_product(objective, V):
    """``H @ V`` from the Hessian that the objective of all rows, or of some, knows."""
    repeats = objective.n_outputs if objective.loss.scalar else 1
    return join_outputs(objective.whole.matrix @ split_outputs(V, repeats), repeats)


class PiecewiseShard(PiecewiseObjective, Shard):
    """Rows of a piecewise quadratic loss."""


class SparseShard(SparseObjective, Shard):
    """Rows of a linear predictor with an L1 penalty."""

    def __init__(self, objective, whole):
        Shard.__init__(self, objective, whole)


KINDS = {
    LinearObjective: Shard,
    PiecewiseObjective: PiecewiseShard,
    SparseObjective: SparseShard,
}


def parts_of(objective):
    """The objectives side by side in one, or the one."""
    return getattr(objective, "parts", [objective])


def rows_objective(estimator, X, y, sample_weight):
    """The objective of a fitted estimator on some rows alone, nothing computed.

    Refused where the sum over rows is not all there is to the fit.
    """
    with unevaluated(), np.errstate(divide="ignore", invalid="ignore"):
        objective = objective_for(estimator, X, y, sample_weight)
    composite = type(objective) is IndependentOutputs
    for part in objective.parts if composite else [objective]:
        if type(part) not in KINDS:
            raise TypeError(
                f"rows in shards are for linear predictors whose loss is smooth, or quadratic in "
                f"pieces; {type(estimator).__name__} has a {type(part).__name__}. Pass the rows as "
                f"one array{ADVICE.get(type(part).__name__, '')}"
            )
    return objective


# What else there is for a kind of objective.
ADVICE = {
    "KinkedObjective": ", or fit the squared hinge or the squared tube",
    "HuberObjective": ", or fit SGDRegressor(loss='huber'), whose scale is given",
    "GroupObjective": ", or fit one ElasticNet a target",
    "AnchoredObjective": ", or fit without a prior",
}


def shard_part(estimator, part, k, whole):
    """The ``k``-th of the objectives of some rows, with what all rows add up to."""
    objective = parts_of(rows_objective(estimator, *part))[k]
    return KINDS[type(objective)](objective, whole)


def shard_objective(estimator, part, wholes):
    """The objective of some rows with what all rows add up to, a :class:`Whole` a part."""
    objective = rows_objective(estimator, *part)
    shards = [
        KINDS[type(part)](part, whole)
        for part, whole in zip(parts_of(objective), wholes, strict=True)
    ]
    if not hasattr(objective, "parts"):
        return shards[0]
    return IndependentOutputs(
        shards, objective.head, objective.labels, objective.y, objective.split
    )


# -- what a shard adds to the sums ---------------------------------------------------------------
def rule_totals(objective):
    """Class counts and measures of the removal rule, part after part."""
    totals = []
    for part in parts_of(objective):
        totals += [present_rows(part, np.arange(part.n_rows)), *part.rule.totals()]
    return totals


def present_rows(objective, rows):
    """How many of some rows have a positive weight, class by class."""
    present = rows[objective.weights[rows] > 0]
    if objective.head.classes is None:
        return np.array([len(present)])
    return np.bincount(objective.head_targets[present], minlength=len(objective.head.classes))


def loss_model(shard, theta):
    """Gradient and Hessian (of one output, if they share it) of the loss, without the penalty."""
    _, gradient, block = shard.local_model(theta, rho=0.0)
    return gradient, block.matrix()


def loss_value(shard, theta):
    """Sum of the losses."""
    return (np.array(shard.weights @ shard.loss.value(shard.predict(theta), shard.y)),)


def group_gradients(shard, theta):
    """Gradient of the losses of each class: (G, n_params)."""
    slopes = shard.loss.gradient(shard.predict(theta), shard.y) * shard.weights[:, None]
    groups = [(shard.rule.groups == group)[:, None] for group in range(shard.rule.n_groups)]
    return (np.array([shard.design.tdot(slopes * mask).T.ravel() for mask in groups]),)


def group_matrices(shard, theta):
    """Hessian of the losses of each class, (G, size, size)."""
    groups = [shard.rule.groups == group for group in range(shard.rule.n_groups)]
    weights = [shard.weights * group for group in groups]
    return (np.array([loss_model_matrix(shard, theta, part) for part in weights]),)


def line_slopes(shard, theta, step, sizes):
    """Slopes of the losses along ``-step`` at ``theta - t step`` for each ``t`` of ``sizes``."""
    Z, moved = shard.predict(theta), shard.predict(step)
    slopes = [shard.loss.gradient(Z - t * moved, shard.y) * moved for t in sizes]
    return (np.array([shard.weights @ slope.sum(axis=1) for slope in slopes]),)


def loss_model_matrix(shard, theta, weights):
    """Hessian of the loss under other weights."""
    return shard.local_model(theta, weights, rho=0.0)[2].matrix()


def running_in_shard(shard, theta, step, null):
    """What :func:`~skinfluence.objectives.linear.running_rows` says of one shard."""
    return (running_rows(shard, theta, step, null),)
