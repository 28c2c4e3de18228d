"""Removal of rows from closed forms of moments: exact, by downdates of rank one."""

import numpy as np

from ..objectives.moments import MomentModel
from .base import Effects
from .exact import exact_effects
from .newton import newton_effects


@newton_effects.register(MomentModel)
def _(objective, problem):
    return DowndateEffects(problem)


@exact_effects.register(MomentModel)
def _(objective, problem, tol):
    return DowndateEffects(problem)


class DowndateEffects(Effects):
    """The parameters of the moments without the rows."""

    def parameters(self, rows):
        """All rows at once."""
        return self.objective.changes_without(np.asarray(rows))

    def joint_parameters(self, groups):
        """From the rows that are left."""
        return np.array([self.objective.changes_without_group(group) for group in groups])
