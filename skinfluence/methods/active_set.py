"""Removals in models with an active set: kinked losses, L1 penalties, a fitted scale."""

import warnings

import numpy as np
from scipy.linalg import pinvh

from ..objectives.huber import HuberObjective
from ..objectives.kinked import KinkedObjective
from ..objectives.multi_task import GroupObjective
from ..objectives.piecewise import PiecewiseObjective
from ..objectives.sparse import SparseObjective
from .base import Effects
from .certificate import certificate_for
from .decremental import decrement
from .exact import exact_effects
from .newton import added_damping, check_left, check_lone_rows, newton_effects

# The span rule follows leave-one-out (correlation 0.99) from about so many pinned rows on.
FEW_PINNED = 30


@newton_effects.register(KinkedObjective)
def _(objective, problem):
    return SpanEffects(problem)


@certificate_for.register(GroupObjective)
@certificate_for.register(KinkedObjective)
@certificate_for.register(SparseObjective)
def _(objective, problem):
    raise TypeError(
        f"error_bound is not known for {type(objective).__name__}: without a row the active set "
        "may be another. method='exact' follows it; compare some rows with method='refit'"
    )


@newton_effects.register(HuberObjective)
def _(objective, problem):
    return RankOneEffects(problem)


@exact_effects.register(HuberObjective)
@exact_effects.register(GroupObjective)
@exact_effects.register(KinkedObjective)
@exact_effects.register(PiecewiseObjective)
@exact_effects.register(SparseObjective)
def _(objective, problem, tol):
    return RowwiseEffects(problem)


class SpanEffects(Effects):
    """The row forced out, the other pinned rows kept pinned: the span rule.

    References
    ----------
    Vapnik, V. and Chapelle, O. (2000). Bounds on error expectation for support vector machines.
    Neural Computation 12.
    """

    def __init__(self, problem):
        super().__init__(problem)
        self._pinned = np.flatnonzero(self.objective.pinned)
        self._factor = self.objective.factorise_blocks(None)[0]
        self._moves, self._spans = self._factor.release()
        if len(self._pinned) < FEW_PINNED:
            warnings.warn(
                f"{len(self._pinned)} rows at the margin are few: a removal usually changes which "
                "rows lie there, and method='newton' (the span rule) is then far off. Use "
                "method='exact'.",
                UserWarning,
                stacklevel=2,
            )

    def parameters(self, rows):
        """Row by row."""
        check_lone_rows(self.objective, self.objective.lone_rows(), rows)
        return self.joint_parameters([np.array([i]) for i in rows])

    def joint_parameters(self, groups):
        """Group by group: duals of the group go to zero, the other pinned outputs stay."""
        return np.array([self._without(np.asarray(group)) for group in groups])

    def _without(self, rows):
        objective = self.objective
        objective.check_removable(rows)
        phi, rho = objective.rule.joint_factors(rows)
        # slopes of the rows that stay follow their weights; pinned duals are unknowns
        kept = phi[objective.rule.groups] - 1
        kept[rows] = -1.0
        push = -objective.design.tdot((kept * objective.residuals[:, 0])[:, None])
        push -= (rho - 1) * objective.penalty_gradient(objective.theta)[:, None]
        held = np.zeros((len(self._pinned), 1))
        step, moved = self._factor.saddle(push / rho, held)
        out = np.flatnonzero(np.isin(self._pinned, rows))
        if len(out):
            # Λ is ρ Λ without the rows: dθ keeps the factor 1/ρ, duals do not
            left = objective.dual[self._pinned[out]] + rho * moved[out, 0]
            lift = pinvh(self._spans[np.ix_(out, out)]) @ left / rho
            step[:, 0] += self._moves[:, out] @ lift
        return step[:, 0]


class RankOneEffects(Effects):
    """Newton effects where each row's curvature is a multiple of one ``a_i a_i'``."""

    def __init__(self, problem):
        super().__init__(problem)
        self.gradients = self.objective.removal_gradients()

    def parameters(self, rows):
        """``(H - h_i a_i a_i')⁻¹ p_i`` by Sherman-Morrison."""
        objective = self.objective
        a = objective.curvature_design.block(rows, np.float64)
        moved = self.solver.solve(a.T).T
        base = self.solver.solve(self.gradients.block(rows).astype(np.float64).T).T
        curvature = objective.curvatures[rows]
        left = 1 - curvature * np.einsum("ij,ij->i", a, moved)
        check_left(left, rows)
        scale = curvature * np.einsum("ij,ij->i", a, base) / left
        return base + scale[:, None] * moved

    def joint_parameters(self, groups):
        """One Newton step without each group, by its own factorisation."""
        return np.array([self._without(np.asarray(group)) for group in groups])

    def _without(self, rows):
        objective = self.objective
        objective.check_removable(rows)
        weights = objective.weights.copy()
        weights[rows] = 0.0
        known = objective.strictly_convex
        block, damping = objective.quadratic(objective.theta, weights), added_damping(self.solver)
        factor = objective._factor(block.damped(damping) if damping else block)
        if known and not objective.strictly_convex:
            objective.strictly_convex = known
            raise ValueError(
                f"without rows {np.asarray(rows)[:5].tolist()} the fit is not identified: add a "
                "penalty, or use method='influence'"
            )
        return -factor.solve(objective.gradient(objective.theta, weights)[:, None])[:, 0]


class RowwiseEffects(Effects):
    """The objective's own minimiser on the rows that are left, from the fitted parameters."""

    def parameters(self, rows):
        """Row by row; rows without a slope change nothing where no rule moves the others."""
        return self.joint_parameters([np.array([i]) for i in rows])

    def joint_parameters(self, groups):
        """Group by group."""
        return np.array([self._without(np.asarray(group)) for group in groups])

    def active_set_changes(self, rows=None):
        """Training rows (of ``rows``, all by default) whose removal changes the active set.

        Returns
        -------
        ndarray of int
            Rows without which other parameters are zero than at the fit. Only for an L1 penalty.
        """
        rows = np.arange(self.objective.n_rows) if rows is None else np.asarray(rows)
        theta = self.objective.theta
        changed = (theta + self.parameters(rows) != 0) != (theta != 0)
        return rows[changed[:, self.objective.l1 > 0].any(axis=1)]

    def _without(self, rows):
        objective = self.objective
        objective.check_removable(rows)
        slopes = objective.dual if isinstance(objective, KinkedObjective) else objective.residuals
        if objective.rule.trivial and not slopes[rows].any():
            return np.zeros(objective.n_params)
        if isinstance(objective, KinkedObjective) and objective.rule.trivial:
            change = decrement(objective, rows)
            if change is not None:
                return change
        phi, rho = objective.rule.joint_factors(rows)
        weights = objective.weights * phi[objective.rule.groups]
        weights[rows] = 0.0
        return objective.minimise(objective.theta, weights, rho).theta - objective.theta
