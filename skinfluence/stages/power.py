"""Power transforms: exponents at the maximum of a likelihood, then standardised."""

import copy

import numpy as np
from sklearn.preprocessing import PowerTransformer

from .base import Opaque, numeric, stage_for
from .compose import Chain
from .scalers import ColumnWise

# Step of the differences in the exponent: their error is its square.
STEP = 1e-4


class PowerStage(ColumnWise):
    """``ψ(x; λ)`` with ``λ`` the root of the likelihood's derivative
    ``L'(λ) = -W c / v + Σ w J``, ``v`` the variance of ``ψ``, ``c`` its covariance with ``∂ψ/∂λ``.
    """

    def _prepare(self):
        X = numeric(self.X)
        self.lambdas = np.asarray(self.step.lambdas_, dtype=float)
        self.n_params = len(self.lambdas)
        self.seen = ~np.isnan(X)
        self.rows = np.where(self.seen, X, 1.0)
        self.counts = self.seen.sum(axis=0)
        up = self._total(self.lambdas + STEP)
        down = self._total(self.lambdas - STEP)
        self.curvature = (up - down) / (2 * STEP)

    def _value(self, X, lambdas):
        step = copy.copy(self.step)
        step.lambdas_ = lambdas
        return numeric(step.transform(X))

    def _slope(self, X, lambdas):
        """``∂ψ/∂λ`` by fourth-order differences."""
        h = STEP
        near = self._value(X, lambdas + h) - self._value(X, lambdas - h)
        far = self._value(X, lambdas + 2 * h) - self._value(X, lambdas - 2 * h)
        return (8 * near - far) / (12 * h)

    def _moments(self, lambdas):
        """Centred values and slopes, their covariance and the variance."""
        value, slope = (
            np.where(self.seen, part, 0.0)
            for part in (self._value(self.rows, lambdas), self._slope(self.rows, lambdas))
        )
        value = np.where(self.seen, value - value.sum(axis=0) / self.counts, 0.0)
        slope = np.where(self.seen, slope - slope.sum(axis=0) / self.counts, 0.0)
        n = self.counts
        return value, slope, (value * slope).sum(axis=0) / n, (value**2).sum(axis=0) / n

    def _jacobian(self):
        X = self.rows
        if self.step.method == "box-cox":
            return np.where(self.seen, np.log(X), 0.0)
        return np.where(self.seen, np.sign(X) * np.log1p(np.abs(X)), 0.0)

    def _total(self, lambdas):
        _, _, c, v = self._moments(lambdas)
        return -self.counts * c / v + self._jacobian().sum(axis=0)

    def derivatives(self, rows):
        """Of the likelihood's root."""
        if not hasattr(self, "_scores"):
            value, slope, c, v = self._moments(self.lambdas)
            scores = -value * slope / v + c * (value**2 - v) / v**2 + self._jacobian()
            self._scores = np.where(self.seen, scores, 0.0)
        return self._scores[rows] / self.curvature

    def pull_params(self, X, C):
        """``c ∂ψ/∂λ``."""
        X = numeric(X)
        return np.where(np.isnan(X), 0.0, C * self._slope(X, self.lambdas))

    def pull_inputs(self, X, C):
        """``c ∂ψ/∂x``."""
        X = numeric(X)
        return np.where(np.isnan(X), 0.0, C * self._in_x(X)[0])

    def _in_x(self, X):
        """``∂ψ/∂x`` and its derivative in ``λ``."""
        p = self.lambdas - 1
        if self.step.method == "box-cox":
            base = X**p
            return base, base * np.log(X)
        size = np.log1p(np.abs(X))
        base = np.exp(np.where(X >= 0, p, -p) * size)
        return base, np.where(X >= 0, 1.0, -1.0) * size * base

    def pull_fit(self, v):
        """To every row of the column."""
        value, slope, c, variance = self._moments(self.lambdas)
        first, mixed = self._in_x(self.rows)
        box_cox = self.step.method == "box-cox"
        jacobian = 1 / self.rows if box_cox else 1 / (1 + np.abs(self.rows))
        total = (
            -(first * slope + value * mixed) / variance
            + 2 * c * value * first / variance**2
            + jacobian
        )
        return np.where(self.seen, -total / self.curvature * v, 0.0)


@stage_for.register(PowerTransformer)
def power_stage(step, X, y=None, sample_weight=None):
    """The power, then the scaler that ``standardize`` adds."""
    if sample_weight is not None:
        return Opaque(step, X, y, sample_weight, "weights are not followed")
    if not step.standardize:
        return PowerStage(step, X, y)
    bare = copy.copy(step).set_params(standardize=False)
    return Chain([("power", bare), ("standardize", step._scaler)], X, y)
