"""A linear predictor whose rows lie in shards: sums over them come from elsewhere."""

import numpy as np

from ..solvers.factor import QuadraticBlock
from .base import objective_for
from .linear import LinearObjective, as_fitted


class ShardedObjective(LinearObjective):
    """The objective of all shards together; it holds no rows.

    Parameters
    ----------
    template : LinearObjective
        That of a few of the rows: its loss, penalty, head and parameters are those of all.
    n_rows : int
        In all shards.
    sums : callable
        ``sums(function, *args)`` is the sum over shards of the arrays that ``function(shard,
        *args)`` gives, ``shard`` the :class:`~skinfluence.objectives.linear.LinearObjective` of
        its rows.
    """

    def __init__(self, template, n_rows, sums):
        vars(self).update(vars(template))
        self.n_rows, self.sums = n_rows, sums
        self.outputs = self.residuals = self.curvatures = self.weights = self.y = None
        if n_rows * self.n_outputs < self.n_params:
            raise ValueError(
                f"{n_rows} rows for {self.n_params} parameters: shards are for more rows than "
                "parameters. Pass the rows as one array"
            )
        self._polish(self.theta)

    def local_model(self, theta, weights=None, rho=1.0):
        """``(None, gradient, QuadraticBlock)`` at ``theta``, by one pass over the shards."""
        gradient, matrix = self.sums(loss_model, theta)
        penalty = self.penalty[0] if self.loss.scalar else self.penalty.ravel()
        matrix[np.diag_indices_from(matrix)] += penalty
        repeats = self.n_outputs if self.loss.scalar else 1
        rows = CountedRows(self.n_rows * self.n_outputs // repeats)
        block = QuadraticBlock(penalty, rows, self.gauge(), repeats, matrix)
        return None, gradient + self.penalty_gradient(theta), block

    def value(self, theta, weights=None, rho=1.0, Z=None):
        """``F`` at ``theta``, by one pass."""
        penalty = 0.5 * (self.penalty.ravel() * theta * theta).sum()
        return float(self.sums(loss_value, theta)[0]) + penalty

    def leverage_bound(self, solver):
        """None is known without a pass over the shards."""
        return np.inf

    def _stationarity(self):
        return self.sums(loss_gradient, self.theta)[0] + self.penalty_gradient(self.theta)

    def _set_theta(self, theta):
        self.theta, self.coef = theta, theta.reshape(self.n_outputs, self.d)


class CountedRows:
    """Curvature rows of which only the number is known."""

    def __init__(self, n_rows):
        self.n_rows = n_rows


def shard_objective(estimator, X, y, sample_weight):
    """The objective of a fitted estimator on some of its rows, at the estimator's parameters.

    Refused where rows in other shards matter: balanced class weights, penalties of a mean.
    """
    with as_fitted():
        objective = objective_for(estimator, X, y, sample_weight)
    if type(objective) is not LinearObjective:
        raise TypeError(
            f"rows in shards are for linear predictors with a smooth loss and a quadratic penalty; "
            f"{type(estimator).__name__} has a {type(objective).__name__}. Pass the rows as one "
            "array"
        )
    if not objective.rule.trivial:
        raise ValueError(
            f"{type(estimator).__name__} balances its classes or penalises the mean loss: without "
            "a row all others count differently, which rows in shards do not follow. Pass "
            "class_weight as a dict, or the rows as one array"
        )
    return objective


def loss_model(shard, theta):
    """Gradient and Hessian (of one output, if they share it) of the loss, without the penalty."""
    shard.penalty = np.zeros_like(shard.penalty)
    _, gradient, block = shard.local_model(theta)
    return gradient, block.matrix()


def loss_value(shard, theta):
    """Sum of the losses."""
    shard.penalty = np.zeros_like(shard.penalty)
    return (np.array(shard.value(theta)),)


def loss_gradient(shard, theta):
    """Gradient of the losses."""
    shard.penalty = np.zeros_like(shard.penalty)
    return (shard.gradient(theta),)
