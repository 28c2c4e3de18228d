"""Removal of rows from kernel smoothers: closed forms, by one step and exactly alike."""

import numpy as np

from ..objectives.smoother import KernelSmoother
from .base import Effects
from .exact import exact_effects
from .newton import newton_effects


@newton_effects.register(KernelSmoother)
def _(objective, problem):
    return SmootherEffects(problem)


@exact_effects.register(KernelSmoother)
def _(objective, problem, tol):
    return SmootherEffects(problem)


class SmootherEffects(Effects):
    """``a - Q_U Q_UU⁻¹ a_U`` without the rows ``U``: the objective is quadratic."""

    def parameters(self, rows):
        """One division a row."""
        objective = self.objective
        Q, a = objective.inverse, objective.coefficients
        if objective.n_rows == 1:
            objective.check_removable(rows)
        own = Q[rows, rows]
        present = own > 0
        scale = np.divide(-a[rows], own, out=np.zeros(len(rows)), where=present)
        out = np.zeros((len(rows), objective.n_params))
        out[:, : objective.n_rows] = Q[rows] * scale[:, None]
        if objective.centred:
            shift = objective.mean_change(rows)[0]
            ones = Q.sum(axis=1)
            ones_without = ones - Q[rows] * (ones[rows] / own)[:, None]
            out[:, :-1] -= shift[:, None] * ones_without
            out[:, -1] = shift
        return out

    def joint_parameters(self, groups):
        """One small solve a group."""
        return np.array([self._joint(np.asarray(group)) for group in groups])

    def _joint(self, rows):
        objective = self.objective
        objective.check_removable(rows)
        n, Q = objective.n_rows, objective.inverse
        rows = rows[Q[rows, rows] > 0]
        shift = 0.0
        right = objective.coefficients[:, None]
        if objective.centred:
            left = np.setdiff1d(np.arange(n), rows)
            shift = objective.y[left].mean() - objective.mean
            right = right - shift * Q.sum(axis=1, keepdims=True)
        without = right - Q[:, rows] @ np.linalg.solve(Q[np.ix_(rows, rows)], right[rows])
        without[rows] = 0.0
        delta = without[:, 0] - objective.coefficients
        return np.append(delta, [shift] * objective.centred)
