"""Lasso and elastic net over several targets that share their zeros: a group norm a feature."""

import copy
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError
from sklearn.linear_model import (
    MultiTaskElasticNet,
    MultiTaskElasticNetCV,
    MultiTaskLasso,
    MultiTaskLassoCV,
)

from ..solvers.factor import PrimalFactor, PseudoFactor, QuadraticBlock
from .base import objective_for
from .design import Design
from .heads import RegressionHead
from .linear import LinearObjective, stack_parameters
from .losses import HalfSquaredLoss
from .minimum import Minimum
from .rules import RemovalRule, row_weights
from .sparse import ActiveFactor


@objective_for.register(MultiTaskLasso)
def multi_task_lasso_objective(estimator, X, y, sample_weight=None):
    """``Σ s_i ‖r_i‖² / 2 + Σs α Σ_j ‖w_j‖``."""
    return _multi_task(estimator, estimator.alpha, 1.0, X, y, sample_weight)


@objective_for.register(MultiTaskElasticNet)
def multi_task_elastic_net_objective(estimator, X, y, sample_weight=None):
    """``l1_ratio`` of the penalty is the group norm, the rest quadratic."""
    return _multi_task(estimator, estimator.alpha, estimator.l1_ratio, X, y, sample_weight)


@objective_for.register(MultiTaskLassoCV)
def multi_task_lasso_cv_objective(estimator, X, y, sample_weight=None):
    """At the chosen ``alpha``, which is held fixed."""
    return _multi_task(estimator, estimator.alpha_, 1.0, X, y, sample_weight)


@objective_for.register(MultiTaskElasticNetCV)
def multi_task_elastic_net_cv_objective(estimator, X, y, sample_weight=None):
    """At the chosen ``alpha`` and ``l1_ratio``, which are held fixed."""
    return _multi_task(estimator, estimator.alpha_, estimator.l1_ratio_, X, y, sample_weight)


def _multi_task(estimator, alpha, ratio, X, y, sample_weight):
    y = np.asarray(y, dtype=np.float64)
    weights = row_weights(sample_weight, len(y))
    column = 1.0 if estimator.fit_intercept else None
    theta = stack_parameters(estimator, column)
    strength = np.full(theta.shape, alpha * weights.sum())
    if column is not None:
        strength[:, -1] = 0.0
    return GroupObjective(
        Design(X, column),
        JointHalfSquared(),
        y,
        weights,
        (1 - ratio) * strength,
        theta,
        RegressionHead(HalfSquaredLoss(), y.shape[1]),
        group=ratio * strength[0],
        rule=RemovalRule(len(y), penalty_measure=weights),
    )


class JointHalfSquared(HalfSquaredLoss):
    """``½ ‖z - y‖²`` of outputs that a penalty couples: its curvature as a matrix."""

    scalar = False

    def curvature_matrix(self, Z, y):
        """The identity."""
        return np.broadcast_to(np.eye(Z.shape[-1]), (*Z.shape, Z.shape[-1]))

    curvature_factor = curvature_matrix

    def curvature_column(self, Z, y, k):
        """Column ``k`` of it, shape (n, K)."""
        return np.broadcast_to(np.eye(Z.shape[-1])[k], Z.shape)


@dataclass
class GroupBlock(QuadraticBlock):
    """A quadratic block plus the curvature ``c_j (I - u_j u_j')`` of each feature's norm.

    Attributes
    ----------
    bend : ndarray of shape (d,)
        ``c_j``, zero for features that are zero.
    unit : ndarray of shape (K, d)
        ``u_j``, the direction of each feature's coefficients.
    """

    bend: np.ndarray | None = None
    unit: np.ndarray | None = None

    def curve(self, V):
        """The norms' curvature times ``V`` of shape (K * d, m)."""
        parts = V.reshape(*self.unit.shape, -1)
        along = (self.unit[:, :, None] * parts).sum(axis=0)
        out = self.bend[:, None] * (parts - self.unit[:, :, None] * along)
        return out.reshape(V.shape)

    def product(self, V):
        """The block times ``V``."""
        return super().product(V) + self.curve(V)

    def matrix(self):
        """The dense block."""
        return super().matrix() + self.curve(np.eye(self.size))


class GroupObjective(LinearObjective):
    """Least squares with a group norm a feature, differentiated where no group is zero.

    Features that are zero stay so to first order; the norm's own curvature enters the Hessian of
    the others.

    Parameters
    ----------
    group : ndarray of shape (d,)
        Weight of ``‖w_j‖`` over the targets; zero for the intercept.
    """

    restricted = True

    def __init__(self, *args, group, **options):
        self.group = group
        super().__init__(*args, **options)

    def on_rows(self, design, y, keep):
        """With the same norms."""
        base = copy.copy(self)
        base.group = self.resized(self.group[None], design.shape[1])[0]
        return LinearObjective.on_rows(base, design, y, keep)

    def gauge(self):
        """None: a squared error sees every shift."""
        return None

    @property
    def l1(self):
        """Weight of the norm that each parameter is part of."""
        return np.tile(self.group, self.n_outputs)

    def value(self, theta, weights=None, rho=1.0, Z=None):
        """``F`` with its group norms."""
        norms = np.linalg.norm(theta.reshape(self.n_outputs, -1), axis=0)
        return super().value(theta, weights, rho, Z) + rho * (self.group @ norms)

    def penalty_gradient(self, theta):
        """Gradient of the penalty; zero for the norm of a zero feature."""
        return super().penalty_gradient(theta) + (self.group * self._unit(theta)[0]).ravel()

    def penalty_product(self, delta):
        """Hessian of the penalty at ``θ̂`` times each row of ``delta``."""
        block = self.quadratic(self.theta)
        return super().penalty_product(delta) + block.curve(delta.T).T

    def quadratic(self, theta, weights=None, rho=1.0, Z=None):
        """``∇²F`` on the features that are not zero."""
        plain = super().quadratic(theta, weights, rho, Z)
        unit, norms = self._unit(theta)
        bend = np.divide(rho * self.group, norms, out=np.zeros(self.d), where=norms > 0)
        return GroupBlock(plain.penalty, plain.rows, bend=bend, unit=unit)

    def _unit(self, theta):
        parts = theta.reshape(self.n_outputs, -1)
        norms = np.linalg.norm(parts, axis=0)
        return np.divide(parts, norms, out=np.zeros(parts.shape), where=norms > 0), norms

    # -- the minimum -----------------------------------------------------------------------
    def minimise(self, theta, weights=None, rho=1.0, *, max_iter=1000):
        """Passes of block coordinate descent find the zeros, Newton steps the rest.

        Raises
        ------
        ValueError
            If the minimum is not reached.
        """
        weights = self.weights if weights is None else weights
        start, first, decrement = theta, None, np.inf
        for n_steps in range(max_iter):  # noqa: B007
            residual = self._residual(theta, weights, rho)
            norm = float(np.abs(residual).max(initial=0.0))
            first = norm if first is None else first
            theta = self._pass(theta, residual, weights, rho)
            gradient, block = (
                self.gradient(theta, weights, rho),
                self.quadratic(theta, weights, rho),
            )
            step = self._factor_at(theta, block).solve(gradient[:, None])[:, 0]
            last, decrement = decrement, np.sqrt(max(0.0, float(gradient @ step)))
            size = block.length(theta)
            zeros = np.abs(self._residual(theta, weights, rho).reshape(self.n_outputs, -1))
            settled = not zeros[:, self._unit(theta)[1] == 0].any()
            if settled and decrement <= 1e-14 * size:
                break
            if settled and decrement <= 1e-9 * size and decrement > 0.3 * last:
                break
            value = self.value(theta, weights, rho)
            for length in (1.0, 0.5, 0.1):
                point = theta - length * step
                if decrement <= 1e-5 * size or self.value(point, weights, rho) < value:
                    theta = point
                    break
        else:
            raise ValueError(
                f"no minimum was reached in {max_iter} steps (optimality residual {norm:.1e})"
            )
        moved = block.length(theta - start) / max(size, 1e-300)
        return Minimum(theta, first, n_steps, moved, None)

    def _stationarity(self):
        return self._residual(self.theta, self.weights, 1.0)

    def _residual(self, theta, weights, rho):
        """How far each parameter is from optimality: for a zero feature, beyond its norm's hold."""
        gradient = self.gradient(theta, weights, rho).reshape(self.n_outputs, -1)
        norms = np.linalg.norm(gradient, axis=0)
        hold = np.where(self._unit(theta)[1] > 0, 0.0, rho * self.group) * (1 + 1e-12)
        keep = np.divide(norms - hold, norms, out=np.zeros(self.d), where=norms > hold)
        return (keep * gradient).ravel()

    def _pass(self, theta, residual, weights, rho):
        """One exact update of each feature that is not zero, or should not be."""
        parts = theta.reshape(self.n_outputs, -1).copy()
        moves = np.abs(residual).reshape(self.n_outputs, -1).any(axis=0) | parts.any(axis=0)
        slopes = weights[:, None] * (self.predict(theta) - self.y)
        for j in np.flatnonzero(moves):
            x = self._column(j)
            curvature = weights @ x**2 + rho * self.penalty[0, j]
            if curvature == 0:
                continue
            pull = curvature * parts[:, j] - x @ slopes - rho * self.penalty[0, j] * parts[:, j]
            length = np.linalg.norm(pull)
            shrink = max(0.0, 1 - rho * self.group[j] / length) if length > 0 else 0.0
            new = shrink * pull / curvature
            slopes += (weights * x)[:, None] * (new - parts[:, j])
            parts[:, j] = new
        return parts.ravel()

    def _column(self, j):
        if j == self.design.X.shape[1]:
            return np.full(self.n_rows, self.design.intercept)
        column = self.design.X[:, [j]]
        column = column.toarray() if self.design.sparse else column
        return column[:, 0].astype(np.float64)

    # -- the active features ---------------------------------------------------------------
    def _factor(self, block):
        return self._factor_at(self.theta, block)

    def _factor_at(self, theta, block):
        """``H⁻¹`` on the features that are not zero."""
        active = (self._unit(theta)[1] > 0) | (self.group == 0)
        index = np.flatnonzero(np.tile(active, self.n_outputs))
        matrix = block.matrix()[np.ix_(index, index)]
        try:
            return ActiveFactor(PrimalFactor(matrix), index)
        except LinAlgError:
            self.rank_deficient, self.strictly_convex = True, False
            return ActiveFactor(PseudoFactor(matrix), index)
