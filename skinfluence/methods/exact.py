"""The optimum of the objective without the row."""

from functools import singledispatch

import numpy as np

from ..objectives.composite import IndependentOutputs
from ..objectives.linear import LinearObjective
from .base import Effects, Method
from .newton import StackedEffects, newton_effects


class Exact(Method):
    """The optimum of the objective without each row, to a tolerance.

    Parameters
    ----------
    tol : float, default=1e-8
        Relative accuracy of the parameters' change.
    """

    def __init__(self, tol=1e-8):
        self.tol = tol

    def bind(self, problem):
        """Effects for the kind of objective."""
        return exact_effects(problem.objective, problem, self.tol)


@singledispatch
def exact_effects(objective, problem, tol):
    """Exact effects of an objective; register another kind of objective here."""
    raise TypeError(
        f"method='exact' is not known for {type(objective).__name__}; use method='newton' or "
        "'refit', or register one with methods.exact.exact_effects"
    )


@exact_effects.register(IndependentOutputs)
def _(objective, problem, tol):
    return StackedEffects(problem, lambda part, sub: exact_effects(part, sub, tol))


@exact_effects.register(LinearObjective)
def _(objective, problem, tol):
    return LinearExactEffects(problem, tol)


class LinearExactEffects(Effects):
    """Newton's method on the objective without each row, from the one-step start."""

    def __init__(self, problem, tol):
        super().__init__(problem)
        self.tol = tol
        self.start = newton_effects(self.objective, problem)

    def parameters(self, rows):
        """Row by row."""
        starts = self.start.parameters(rows)
        return np.array(
            [self._minimum(np.array([i]), s) for i, s in zip(rows, starts, strict=True)]
        )

    def joint_parameters(self, groups):
        """Group by group, re-linearised until the step is small."""
        starts = self.start.joint_parameters(groups)
        return np.array([self._minimum(g, s) for g, s in zip(groups, starts, strict=True)])

    def _minimum(self, rows, start):
        objective = self.objective
        objective.check_removable(rows)
        phi, rho = objective.rule.joint_factors(rows)
        weights = objective.weights * phi[objective.rule.groups]
        weights[rows] = 0.0
        fit = objective.minimise(objective.theta + start, weights, rho)
        return fit.theta - objective.theta
