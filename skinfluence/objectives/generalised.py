"""Generalised linear models with a log link: Poisson, gamma, Tweedie; and the normal one."""

import numpy as np
from scipy.special import xlogy
from sklearn.linear_model import GammaRegressor, PoissonRegressor, TweedieRegressor

from .base import objective_for
from .design import design_of
from .heads import RegressionHead
from .linear import LinearObjective, stack_parameters
from .losses import HalfSquaredLoss, Loss
from .rules import RemovalRule, row_weights


@objective_for.register(PoissonRegressor)
def poisson_objective(estimator, X, y, sample_weight=None):
    """``Σ s_i d_i / 2 + (α Σs / 2) ‖w‖²``, ``d`` the Poisson deviance."""
    return _generalised(estimator, 1.0, X, y, sample_weight)


@objective_for.register(GammaRegressor)
def gamma_objective(estimator, X, y, sample_weight=None):
    """``Σ s_i d_i / 2 + (α Σs / 2) ‖w‖²``, ``d`` the gamma deviance."""
    return _generalised(estimator, 2.0, X, y, sample_weight)


@objective_for.register(TweedieRegressor)
def tweedie_objective(estimator, X, y, sample_weight=None):
    """As the others, for the powers and links of a convex half deviance."""
    power = float(estimator.power)
    identity = estimator.link == "identity" or (estimator.link == "auto" and power <= 0)
    if (power != 0) if identity else not 1 <= power <= 2:
        raise ValueError(
            f"TweedieRegressor(power={estimator.power!r}, link={estimator.link!r}) minimises a "
            "deviance that is not convex in the linear predictor; supported are power=0 with the "
            "identity link, and 1 <= power <= 2 with the log link"
        )
    return _generalised(estimator, None if identity else power, X, y, sample_weight)


def _generalised(estimator, power, X, y, sample_weight):
    if power is None:
        loss = HalfSquaredLoss()
        head = RegressionHead(loss)
    else:
        loss = HalfDeviance(power)
        head = MeanHead(loss)
    y = head.encode(y)
    weights = row_weights(sample_weight, len(y))
    column = 1.0 if estimator.fit_intercept else None
    theta = stack_parameters(estimator, column)
    penalty = np.full(theta.shape, estimator.alpha * weights.sum())
    if column is not None:
        penalty[:, -1] = 0.0
    rule = RemovalRule(len(y), penalty_measure=weights if estimator.alpha > 0 else None)
    return LinearObjective(design_of(X, column), loss, y, weights, penalty, theta, head, rule=rule)


class HalfDeviance(Loss):
    """Half the Tweedie deviance of ``μ = exp(z)``, ``1 <= power <= 2``.

    Derivatives of order ``k`` are ``b^{k-1} exp(b z) - y a^{k-1} exp(a z)`` with ``a = 1 - power``
    and ``b = 2 - power``: convex for these powers alone.

    References
    ----------
    Jørgensen, B. (1987). Exponential dispersion models. JRSS B 49.
    """

    def __init__(self, power):
        self.power, self.a, self.b = power, 1.0 - power, 2.0 - power
        # both terms of every even derivative are positive, and each grows by |a| or b an order
        most = max(abs(self.a), self.b)
        self.relative_bounds = (most, most**2, most**3)

    def value(self, Z, y):
        """Half deviance, zero where ``exp(z) = y``."""
        z = Z[..., 0]
        if self.power == 1:
            return xlogy(y, y) - y * z + np.exp(z) - y
        if self.power == 2:
            return z - np.log(y) + y * np.exp(-z) - 1
        saturated = np.power(y, self.b) / (self.a * self.b)
        return saturated - y * np.exp(self.a * z) / self.a + np.exp(self.b * z) / self.b

    def gradient(self, Z, y):
        """First derivative."""
        return self._derivative(Z, y, 1)[..., None]

    def curvature(self, Z, y):
        """Second derivative."""
        return self._derivative(Z, y, 2)

    def third(self, Z, y):
        """Third derivative."""
        return self._derivative(Z, y, 3)

    def fourth(self, Z, y):
        """Fourth derivative."""
        return self._derivative(Z, y, 4)

    def _derivative(self, Z, y, k):
        z = Z[..., 0]
        left, right = self.b ** (k - 1), self.a ** (k - 1)
        return left * np.exp(self.b * z) - right * y * np.exp(self.a * z)


class MeanHead(RegressionHead):
    """A regressor that predicts ``exp(z)``: its decision is the mean, not the predictor."""

    def encode(self, y):
        """Targets that the deviance is defined for."""
        y = super().encode(y)
        power = self.loss_function.power
        if (y < 0).any() or (power == 2 and (y == 0).any()):
            bound = "positive" if power == 2 else "zero or positive"
            raise ValueError(f"y must be {bound} for a deviance of power {power:g}: {y.min():g}")
        return y

    def decision(self, Z, index):
        """The predicted mean."""
        return np.exp(super().decision(Z, index))

    def decision_gradient(self, Z, index):
        """The predicted mean: it is its own derivative."""
        return np.exp(Z) * super().decision_gradient(Z, index)

    def decision_change(self, Z, dZ, index):
        """``exp(z) (exp(dz) - 1)``."""
        return self.decision(Z, index) * np.expm1(super().decision_change(Z, dZ, index))
