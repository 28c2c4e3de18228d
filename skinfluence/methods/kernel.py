"""Removal of rows from support vector machines: the span rule, and the exact path."""

import warnings

import numpy as np

from ..objectives.kernel import KernelMachine
from .base import Effects
from .exact import exact_effects
from .newton import newton_effects

# Below this many free vectors the active set seldom survives a removal.
FEW_FREE = 30


@newton_effects.register(KernelMachine)
def _(objective, problem):
    return SpanEffects(problem)


@exact_effects.register(KernelMachine)
def _(objective, problem, tol):
    return PathEffects(problem)


class SpanEffects(Effects):
    """The span rule: the rows are forced out, the active set of the others is kept.

    References
    ----------
    Vapnik, V. and Chapelle, O. (2000). Bounds on error expectation for support vector machines.
    Neural Computation 12.
    """

    def __init__(self, problem):
        super().__init__(problem)
        self.objective.check_free()
        self.system = self.objective.factorise_system()
        if self.objective.n_free == 1:
            raise ValueError(
                "the only free support vector cannot be forced out: without it the intercept is "
                "not identified. Use method='exact'"
            )
        if self.objective.n_free < FEW_FREE:
            warnings.warn(
                f"only {self.objective.n_free} free support vectors: the span rule "
                "(method='newton') keeps the active set as it is, which is rough below "
                f"{FEW_FREE}. Use method='exact'",
                UserWarning,
                stacklevel=5,
            )

    def parameters(self, rows):
        """All rows in one solve; a free row by the column of the inverse that is its own."""
        objective, system = self.objective, self.system
        for row in rows:
            objective.check_removable([row])
        right = np.zeros((objective.n_params, len(rows)))
        right[:-1] = objective.bound_changes(rows, objective.rule.factors(rows)[0]).T
        delta = system.solve(right).T
        slot = np.full(objective.n_params, -1)
        slot[system.free] = np.arange(len(system.free))
        place = objective.place[rows]
        free = np.flatnonzero((place >= 0) & (slot[place] >= 0))
        column = system.inverse[slot[place[free]] + 1]
        own = column[np.arange(len(free)), slot[place[free]] + 1]
        goal = -objective.coefficients[place[free]] - delta[free, place[free]]
        moved = column * (goal / own)[:, None]
        delta[np.ix_(free, system.free)] += moved[:, 1:]
        delta[free, -1] += moved[:, 0]
        return delta

    def joint_parameters(self, groups):
        """As one row, the free rows of a group forced out together."""
        return np.array([self._joint(np.asarray(group)) for group in groups])

    def _joint(self, rows):
        objective, system = self.objective, self.system
        objective.check_removable(rows)
        factors = objective.rule.joint_factors(rows)[0]
        groups = np.repeat(factors[None], len(rows), axis=0)
        changes = objective.bound_changes(rows, groups)
        total = changes[0]
        place = objective.place[rows]
        total[place[place >= 0]] = changes[np.arange(len(rows)), place][place >= 0]
        delta = system.solve(np.append(total, 0.0)[:, None])[:, 0]
        forced = np.flatnonzero(np.isin(system.free, place))
        if len(forced):
            inverse = system.inverse[:, forced + 1]
            goal = -objective.coefficients[system.free[forced]] - delta[system.free[forced]]
            moved = inverse @ np.linalg.lstsq(inverse[forced + 1], goal, rcond=None)[0]
            delta[system.free] += moved[1:]
            delta[-1] += moved[0]
        return delta


class PathEffects(Effects):
    """The optimum without the rows, by following the solution while their bounds go to zero."""

    def parameters(self, rows):
        """Row by row; a row that is no support vector moves nothing but an intercept's interval."""
        objective = self.objective
        out = np.zeros((len(rows), objective.n_params))
        for position, row in enumerate(rows):
            objective.check_removable([row])
            place = objective.place[row]
            idle = place < 0 or objective.coefficients[place] == 0
            alone = place >= 0 and objective.n_free == 0  # it may bound the intercept's interval
            if alone or not (idle and objective.rule.trivial):
                out[position] = self._without(np.array([row]))
        return out

    def joint_parameters(self, groups):
        """Group by group."""
        for group in groups:
            self.objective.check_removable(group)
        return np.array([self._without(np.asarray(group)) for group in groups])

    def _without(self, rows):
        objective = self.objective
        factors = objective.rule.joint_factors(rows)[0]
        cap = objective.cap * factors[objective.rule.groups]
        cap[rows] = 0.0
        place = objective.place[rows]
        place = place[place >= 0]
        n = len(objective.members)
        gone = np.concatenate([place + n * copy for copy in range(objective.copies)])
        state = objective.state.copy()
        state.move_caps(objective.caps(cap), gone)
        return np.append(state.beta, state.b) - objective.theta
