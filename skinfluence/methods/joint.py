"""Optima of a linear predictor without groups of rows: as many Newton steps as they need."""

import copy

import numpy as np
from scipy.linalg import LinAlgError

from .._blocks import block_length, blocks
from ..objectives.composite import IndependentOutputs
from ..objectives.linear import LinearObjective
from ..solvers.base import fitted_solver
from ..solvers.direct import Direct
from ..solvers.factor import PrimalFactor, solve_repeated
from .base import Problem
from .newton import LinearNewtonEffects
from .without_row import outputs_along, sums_along

# A step is taken with the Hessian without the group at the full fit. Where it shrinks slower
# than this, the Hessian is made again at every step.
SLOWEST = 0.3

# The first steps can shrink faster than those to come: no rate below this is believed.
SMALLEST_RATE = 0.01


def is_smooth(objective):
    """Whether an objective is a twice differentiable loss and a quadratic penalty, no more."""
    return type(objective) is LinearObjective and objective.loss.smooth


def has_joint_minima(objective):
    """Whether :func:`joint_minima` knows a kind of objective."""
    return all(is_smooth(part) for part in getattr(objective, "parts", [objective]))


def joint_minima(objective, groups, tol, factors=None):
    """``θ`` without each group minus ``θ̂``, shape (g, n_params).

    Parameters
    ----------
    objective : LinearObjective, or IndependentOutputs over such
    groups : list of index arrays
    tol : float
        Certified accuracy of the outputs of the training rows, relative to how far the removal
        moves them: steps shrink geometrically, and stop when the rest of the series is below it.
    factors : ndarray of shape (g, d), optional
        Of the penalty on each column without each group.
    """
    if isinstance(objective, IndependentOutputs):
        parts = [joint_minima(part, groups, tol, factors) for part in objective.parts]
        return np.concatenate(parts, axis=1)
    if factors is None:
        factors = np.ones((len(groups), 1))
    per_group = 32 * objective.n_rows * objective.n_outputs + 8 * objective.n_params
    parts = blocks(len(groups), block_length(per_group, share=1 / 4))
    kind = _RowBlock if all(len(group) == 1 for group in groups) else _Block
    return np.concatenate(
        [kind(objective, groups[part], tol, factors[part]).solve() for part in parts]
    )


class _Block:
    """Groups removed side by side, their outputs from one matrix product."""

    def __init__(self, objective, groups, tol, factors):
        self.objective, self.groups, self.tol = objective, groups, tol
        rule = objective.rule
        self.weights = np.empty((len(groups), objective.n_rows))
        self.penalty = np.empty((len(groups), *objective.penalty.shape))
        for g, rows in enumerate(groups):
            objective.check_removable(rows)
            phi, rho = rule.joint_factors(rows)
            self.penalty[g] = rho * factors[g] * objective.penalty
            self.weights[g] = objective.weights * phi[rule.groups]
            self.weights[g, rows] = 0.0

    def solve(self):
        """Chord steps for all groups, full Newton steps for those that shrink too slowly."""
        objective = self.objective
        factors = self._quadratics()
        theta = np.repeat(objective.theta[None], len(self.groups), axis=0)
        fitted = np.ascontiguousarray(objective.outputs.T)  # shape (K, n), as those of groups are
        Z = np.repeat(fitted[None], len(self.groups), axis=0)
        active, last = np.arange(len(self.groups)), np.full(len(self.groups), np.inf)
        slow = []
        while len(active):
            steps = self._steps(theta[active], Z[active], active, factors)
            moved = outputs_along(objective.design, steps.reshape(-1, objective.d))
            moved = moved.reshape(len(active), *fitted.shape)
            theta[active] -= steps.reshape(len(active), -1)
            Z[active] -= moved
            size, change = _largest(moved), _largest(Z[active] - fitted)
            known = np.isfinite(last[active])  # the first step says nothing of the rate yet
            rate = np.maximum(size / last[active], SMALLEST_RATE)
            done = known & (size * rate / (1 - np.minimum(rate, 0.5)) <= self.tol * change)
            done |= size <= 1e-14 * (1 + _largest(Z[active]))
            failing = ~done & ~(rate <= SLOWEST)
            slow.extend(active[failing])
            last[active] = size
            active = active[~done & ~failing]
        for g in slow:
            theta[g] = self._penalised(g).minimise(objective.theta, self.weights[g]).theta
        return theta - objective.theta

    def _steps(self, theta, Z, active, factors):
        objective = self.objective
        n, K, d = objective.n_rows, objective.n_outputs, objective.d
        slopes = objective.loss.gradient(Z.transpose(0, 2, 1), objective.y)
        slopes *= self.weights[active][:, :, None]
        slopes = slopes.transpose(0, 2, 1).reshape(-1, n)
        gradient = sums_along(objective.design, slopes).reshape(len(active), K * d)
        gradient += self.penalty[active].reshape(gradient.shape) * theta
        return self._solve(gradient, active, factors).reshape(len(active), K, d)

    def _solve(self, gradient, active, factors):
        """Each group's gradient through its factor."""
        repeats = self.objective.n_outputs if self.objective.loss.scalar else 1
        pairs = zip(active, gradient, strict=True)
        return np.array([solve_repeated(factors[g], v[:, None], repeats) for g, v in pairs])

    def _penalised(self, g):
        """The objective with the penalty of a group."""
        out = copy.copy(self.objective)
        out.penalty = self.penalty[g]
        return out

    def _quadratics(self):
        """Factored Hessians without each group, at the full fit."""
        objective = self.objective
        full = objective.quadratic_blocks()[0]
        downdate = objective.rule.trivial and full.size <= full.rows.n_rows
        matrix = full.matrix() if downdate else None
        factors = []
        for g, rows in enumerate(self.groups):
            try:
                if downdate and 2 * len(rows) <= objective.n_rows:
                    own, _ = objective.curvature_rows(rows)
                    left = matrix - own.gram()
                    part = self.penalty[g, : len(full.penalty) // objective.d].ravel()
                    left[np.diag_indices_from(left)] += part - full.penalty
                    factors.append(PrimalFactor(left, full.gauge))
                else:
                    block = self._penalised(g).quadratic(objective.theta, self.weights[g])
                    factors.append(block.factorise())
            except LinAlgError as error:
                raise ValueError(
                    f"without rows {np.asarray(rows)[:5].tolist()} the parameters are not "
                    "identified: fewer independent rows than unpenalised parameters are left. "
                    "Add a penalty, or refit"
                ) from error
        return factors


def _largest(values):
    """Largest absolute value of each group: (g,)."""
    return np.maximum(values.max(axis=(1, 2)), -values.min(axis=(1, 2)))


class _RowBlock(_Block):
    """Groups of one row each: one factor, downdated for all of them together.

    What a row does to the penalty and to other rows' weights is left to the chord steps.
    """

    def _quadratics(self):
        objective = self.objective
        solver = fitted_solver(Direct(), objective)
        rows = np.concatenate(self.groups)
        effects = LinearNewtonEffects(Problem(objective, solver))
        return effects, rows, objective.leverage_blocks(solver, rows)

    def _solve(self, gradient, active, factors):
        effects, rows, leverages = factors
        x = self.objective.design.block(rows[active], np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):  # such rows take full Newton steps
            return effects.downdated(x, rows[active], leverages[active], gradient)
