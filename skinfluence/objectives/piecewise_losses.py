"""Losses with a quadratic and a flat or linear piece: hinges, tubes, Huber.

Their slope is continuous but has kinks, so that the second derivative jumps: at a kink the
one-sided value of the quadratic piece is not taken. Margin losses take targets in {-1, 1}.
"""

import numpy as np

from .losses import Loss


class PiecewiseLoss(Loss):
    """A loss ``φ(u)`` of ``u = y z`` (margins) or ``u = z - y`` (residuals), with kinks."""

    smooth = False
    margin = False

    def value(self, Z, y):
        """``φ(u)``."""
        return self._value(self._argument(Z, y))

    def gradient(self, Z, y):
        """``φ'(u) du/dz``."""
        slope = self._slope(self._argument(Z, y))
        return (slope * y if self.margin else slope)[..., None]

    def curvature(self, Z, y):
        """``φ''(u)`` between kinks."""
        return self._curvature(self._argument(Z, y))

    def target_slope(self, Z, y):
        """Minus the curvature of a loss of residuals."""
        return super().target_slope(Z, y) if self.margin else -self.curvature(Z, y)[..., None]

    def third(self, Z, y):
        """0 between kinks."""
        return np.zeros(Z.shape[:-1])

    fourth = third

    def _argument(self, Z, y):
        return Z[..., 0] * y if self.margin else Z[..., 0] - y

    def _value(self, u):
        raise NotImplementedError

    def _slope(self, u):
        raise NotImplementedError

    def _curvature(self, u):
        raise NotImplementedError


class SquaredHinge(PiecewiseLoss):
    """``max(0, 1 - y z)²``."""

    margin = True

    def _value(self, u):
        return np.maximum(0, 1 - u) ** 2

    def _slope(self, u):
        return -2 * np.maximum(0, 1 - u)

    def _curvature(self, u):
        return np.where(u < 1, 2.0, 0.0)


class ModifiedHuber(PiecewiseLoss):
    """``max(0, 1 - y z)²``, linear (``-4 y z``) below a margin of -1."""

    margin = True

    def _value(self, u):
        return np.where(u >= -1, np.maximum(0, 1 - u) ** 2, -4 * u)

    def _slope(self, u):
        return np.where(u >= -1, -2 * np.maximum(0, 1 - u), -4.0)

    def _curvature(self, u):
        return np.where((u < 1) & (u > -1), 2.0, 0.0)


class SquaredTube(PiecewiseLoss):
    """``max(0, |z - y| - ε)²``."""

    def __init__(self, epsilon):
        self.epsilon = epsilon

    def _value(self, u):
        return np.maximum(0, np.abs(u) - self.epsilon) ** 2

    def _slope(self, u):
        return 2 * np.sign(u) * np.maximum(0, np.abs(u) - self.epsilon)

    def _curvature(self, u):
        return np.where(np.abs(u) > self.epsilon, 2.0, 0.0)


class HuberLoss(PiecewiseLoss):
    """``½ r²`` for ``|r| <= ε``, else ``ε |r| - ½ ε²``."""

    def __init__(self, epsilon):
        self.epsilon = epsilon

    def _value(self, u):
        size = np.abs(u)
        return np.where(size <= self.epsilon, 0.5 * u**2, self.epsilon * (size - self.epsilon / 2))

    def _slope(self, u):
        return np.clip(u, -self.epsilon, self.epsilon)

    def _curvature(self, u):
        return np.where(np.abs(u) < self.epsilon, 1.0, 0.0)
