"""No curvature at all: the dot product of gradients."""

import numpy as np

from .damped import DampedSolver


class Identity(DampedSolver):
    """``x = v / damping``: Hessian-free influence, the dot product of gradients.

    This is what every damped inverse tends to, times the damping, when the damping grows. Only
    the ranking of the rows carries meaning; it depends on the scale of the columns of ``X``.

    Parameters
    ----------
    damping : float, default=1.0

    Attributes
    ----------
    report_ : dict
        ``damping``, ``iterations`` (0), ``smallest_curvature`` (the damping itself).

    References
    ----------
    Yang, Z. et al. (2024). Revisit, extend, and enhance Hessian-free influence functions.
    https://arxiv.org/abs/2405.17490

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence import InfluenceExplainer
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> explainer = InfluenceExplainer(
    ...     LogisticRegression(), method="influence", solver="identity"
    ... )
    >>> explainer.fit(scale(X), y).transform(scale(X)[:3], y[:3]).shape
    (3, 569)
    """

    rough = True

    def __init__(self, damping=1.0):
        self.damping = damping

    def fit(self, objective):
        """Nothing to prepare."""
        self._start(objective)
        self._set_damping()
        return self

    def _set_damping(self):
        if not isinstance(self.damping, int | float | np.number) or not 0 < self.damping < np.inf:
            raise ValueError(f"damping={self.damping!r} must be a positive number")
        self.damping_ = float(self.damping)
        self.report_ = {
            "damping": self.damping_,
            "iterations": 0,
            "smallest_curvature": self.damping_,
        }

    def _solve(self, V):
        return V / self.damping_

    def root(self, V):
        """``V / sqrt(damping)``."""
        return self._checked(V) / np.sqrt(self.damping_)
