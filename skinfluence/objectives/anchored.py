"""Linear predictors held near given parameters rather than near zero."""

import numpy as np

from .linear import LinearObjective


class AnchoredObjective(LinearObjective):
    """``F(θ) = Σ_i w_i ℓ_i(θ) + ½ Σ_j λ_j (θ_j - c_j)²``.

    Parameters
    ----------
    *args, **options
        As for :class:`~skinfluence.objectives.linear.LinearObjective`.
    center : ndarray of shape (K, d)
        ``c``.
    """

    def __init__(self, *args, center, **options):
        self.center = np.asarray(center, dtype=np.float64).ravel()
        super().__init__(*args, **options)

    def penalty_value(self, theta):
        """``½ Σ λ (θ - c)²``."""
        return super().penalty_value(theta - self.center)

    def penalty_gradient(self, theta):
        """``λ ∘ (θ - c)``."""
        return super().penalty_gradient(theta - self.center)
