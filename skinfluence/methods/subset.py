"""Removal of rows from a part that only some of the rows belong to."""

import numpy as np

from ..objectives.subset import SubsetObjective
from .base import Effects, Problem
from .exact import exact_effects
from .newton import newton_effects


@newton_effects.register(SubsetObjective)
def _(objective, problem):
    return SubsetEffects(problem, newton_effects)


@exact_effects.register(SubsetObjective)
def _(objective, problem, tol):
    return SubsetEffects(problem, lambda part, sub: exact_effects(part, sub, tol))


class SubsetEffects(Effects):
    """Those of the part for its own rows, zero for the others."""

    def __init__(self, problem, effects_of):
        super().__init__(problem)
        part = self.objective.part
        self.inner = effects_of(part, Problem(part, self.solver, n_jobs=problem.n_jobs))

    def parameters(self, rows):
        """Row by row."""
        place = self.objective.place[rows]
        out = np.zeros((len(place), self.objective.n_params))
        inside = place >= 0
        if inside.any():
            out[inside] = self.inner.parameters(place[inside])
        return out

    def joint_parameters(self, groups):
        """Each group's rows that are of the part."""
        out = np.zeros((len(groups), self.objective.n_params))
        for g, group in enumerate(groups):
            place = self.objective.place[group]
            if (place >= 0).any():
                out[g] = self.inner.joint_parameters([place[place >= 0]])[0]
        return out
