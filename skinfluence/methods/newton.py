"""One Newton step on the objective without the row."""

from functools import cached_property, singledispatch

import numpy as np

from ..objectives.composite import IndependentOutputs
from ..objectives.linear import LinearObjective
from ..objectives.linear_rows import GramRows
from ..solvers.base import fitted_solver
from ..solvers.factor import join_outputs, solve_repeated, split_outputs
from .base import Effects, Method, Problem

# One less leverage at or below this: what is left does not identify the fit, rounding aside.
SMALLEST_LEFT = 1e-10

# Below this a division by one less leverage loses too many digits, and the step is refined.
FRAGILE_LEFT = 1e-3

# A refinement that has come this far ends when rounding keeps it from falling further.
REFINED = 1e-6


class Newton(Method):
    """One Newton step on the objective without the row; the target is re-evaluated.

    For a linear predictor this is approximate leave-one-out: the residual ``r_i`` is divided by
    ``I - S_i A_i``, with ``A_i`` the leverage block of the row. Exact for squared losses.

    References
    ----------
    Rad, K. R. and Maleki, A. (2020). A scalable estimate of the out-of-sample prediction error
    via approximate leave-one-out cross-validation. JRSS B 82. https://arxiv.org/abs/1801.10243

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> X, y = load_diabetes(return_X_y=True)
    >>> InfluenceExplainer(Ridge(), method="newton").fit(X, y).self_influence().shape
    (442,)
    """

    def bind(self, problem):
        """Effects for the kind of objective."""
        return newton_effects(problem.objective, problem)


@singledispatch
def newton_effects(objective, problem):
    """Newton effects of an objective; register another kind of objective here."""
    raise TypeError(
        f"method='newton' is not known for {type(objective).__name__}; use method='influence' "
        "or 'infinitesimal_jackknife', or register one with methods.newton.newton_effects"
    )


@newton_effects.register(LinearObjective)
def _(objective, problem):
    return LinearNewtonEffects(problem)


@newton_effects.register(IndependentOutputs)
def _(objective, problem):
    return StackedEffects(problem, newton_effects)


class LinearNewtonEffects(Effects):
    """Newton effects of a linear predictor, by downdating the Hessian a row at a time.

    A solver's damping is added to the Hessian of every step, whichever way it is solved.
    """

    threaded = True
    # Refinement of the rules' part stops at this relative step.
    refine_tolerance = 1e-13

    def __init__(self, problem):
        super().__init__(problem)
        if getattr(problem.solver, "rough", False):
            raise ValueError(
                f"a Newton step divides by one less leverage, which solver "
                f"{type(problem.solver).__name__} knows only roughly; use solver='direct', 'cg' or "
                "'lissa', or method='influence'"
            )
        self.damping = added_damping(problem.solver)

    @cached_property
    def lone(self):
        """Rows that are the only ones of their class."""
        return self.objective.lone_rows()

    def parameters(self, rows):
        """``(H - S_i ⊗ x_i x_i')⁻¹ p_i``, rules (balanced weights, mean form) included."""
        objective = self.objective
        check_lone_rows(objective, self.lone, rows)
        if not objective.rule.trivial:
            return self._refined(rows)
        x = objective.design.block(rows, np.float64)
        scales, _, left = self._scales(rows)
        stacked = (scales[:, :, None] * x[:, None, :]).reshape(len(rows), -1)
        out = self.solver.solve(stacked.T).T
        fragile = np.flatnonzero(left < FRAGILE_LEFT)
        if len(fragile):
            out[fragile] = self._refined(np.asarray(rows)[fragile])
        return out

    def own_outputs(self, rows):
        """``A_i s_i`` without forming parameters."""
        if not self.objective.rule.trivial:
            return super().own_outputs(rows)
        check_lone_rows(self.objective, self.lone, rows)
        scales, leverages, left = self._scales(rows, single=self.objective.dtype == np.float32)
        if (left < FRAGILE_LEFT).any():
            return super().own_outputs(rows)
        if self.objective.loss.scalar:
            return leverages[:, None] * scales
        return np.einsum("ikc,ic->ik", leverages, scales)

    def joint_parameters(self, groups):
        """One Newton step without each group."""
        return np.array([self._joint(np.asarray(group)) for group in groups])

    def _scales(self, rows, single=False):
        """``s_i = (I - S_i A_i)⁻¹ r_i``, the leverage blocks ``A_i``, and one less leverage.

        ``single`` allows leverages in single precision.
        """
        objective = self.objective
        leverages = objective.leverage_blocks(self.solver, rows, single)
        residuals = objective.residuals[rows]
        if objective.loss.scalar:
            left = 1 - objective.curvatures[rows] * leverages
            high = np.flatnonzero(left < 0.5) if single else ()  # the difference magnifies errors
            if len(high):
                leverages[high] = objective.leverage_blocks(self.solver, rows[high])
                left[high] = 1 - objective.curvatures[rows[high]] * leverages[high]
            check_left(left, rows)
            return residuals / left[:, None], leverages, left
        system = np.eye(objective.n_outputs) - objective.curvature_matrices(rows) @ leverages
        left = np.linalg.det(system)  # no more than the least eigenvalue: all are at most one
        low = np.flatnonzero(left < FRAGILE_LEFT)
        left[low] = np.abs(np.linalg.eigvals(system[low])).min(axis=1)
        check_left(left, rows)
        scales = np.linalg.solve(system, residuals[:, :, None])[:, :, 0]
        return self._centred(scales), leverages, left

    def _centred(self, scales):
        """Slopes that add up to zero but for rounding, which a weak penalty would blow up."""
        if not getattr(self.objective.loss, "shift_free", False):
            return scales
        return scales - scales.mean(axis=1, keepdims=True)

    def _refined(self, rows):
        """Solve the system of every row by refinement: its base changes with the row.

        The preconditioner is the fitted Hessian less the row's own term; what is left, the
        change of the other rows' weights, is of relative size 1 / n_class.
        """
        objective = self.objective
        phi, rho = objective.rule.factors(rows)
        own = phi[np.arange(len(rows)), objective.rule.groups[rows]]
        x = objective.design.block(rows, np.float64)
        target = self.released(rows, x)
        leverages = objective.leverage_blocks(self.solver, rows)
        if objective.loss.scalar:
            check_left(1 - objective.curvatures[rows] * leverages, rows)
        delta = self.downdated(x, rows, leverages, target)
        last, settled = np.inf, np.zeros(len(rows), dtype=bool)
        for _ in range(60):
            error = target - self._without_product(delta, rows, x, phi, rho, own)
            step = self.downdated(x, rows, leverages, error)
            delta = delta + step
            size = np.abs(step).max(axis=1) / np.maximum(np.abs(delta).max(axis=1), 1e-300)
            settled |= (size > 0.3 * last) & (size <= REFINED)  # rounding
            if (settled | (size <= self.refine_tolerance)).all():
                return delta
            last = size
        bad = np.asarray(rows)[~(settled | (size <= REFINED))][:5].tolist()
        if not bad:
            return delta
        raise ValueError(
            f"the Newton system without a row did not converge (rows {bad}): they hold the fit "
            "nearly alone, or a class or group has too few rows for its weight to be recomputed. "
            "Add a penalty, or use method='exact' or 'refit'"
        )

    def released(self, rows, x):
        """Minus the gradient at ``θ̂`` of the objective without each row: (b, n_params)."""
        objective = self.objective
        residuals = objective.residuals[rows]
        if objective.rule.trivial:
            return (residuals[:, :, None] * x[:, None, :]).reshape(len(x), -1)
        phi, rho = objective.rule.factors(rows)
        own = phi[np.arange(len(rows)), objective.rule.groups[rows]]
        target = (own[:, None] * residuals)[:, :, None] * x[:, None, :]
        coefficients = np.column_stack([1 - phi, 1 - rho])
        return target.reshape(len(x), -1) + coefficients @ self._group_gradients()

    def downdated(self, x, rows, leverages, right):
        """``(H - S_i ⊗ x_i x_i')⁻¹`` by Sherman-Morrison, a row at a time."""
        objective = self.objective
        base = self.solver.solve(right.T).T
        own = np.einsum("ikj,ij->ik", base.reshape(len(x), objective.n_outputs, -1), x)
        if objective.loss.scalar:
            curvature = objective.curvatures[rows]
            scales = (curvature / (1 - curvature * leverages))[:, None] * own
        else:
            curvature = objective.curvature_matrices(rows)
            system = np.eye(objective.n_outputs) - curvature @ leverages
            scales = self._centred(np.linalg.solve(system, curvature @ own[:, :, None])[:, :, 0])
        stacked = (scales[:, :, None] * x[:, None, :]).reshape(len(x), -1)
        return base + self.solver.solve(stacked.T).T

    def _without_product(self, delta, rows, x, phi, rho, own):
        """Hessian of the objective without each row, times its ``delta``."""
        objective = self.objective
        out = rho[:, None] * objective.penalty_product(delta) + self.damping * delta
        for group, block in enumerate(self._group_blocks()):
            product = join_outputs(
                block.rows.gram_product(split_outputs(delta.T, block.repeats)), block.repeats
            ).T
            out += phi[:, [group]] * product
        moved = np.einsum("ikj,ij->ik", delta.reshape(len(x), objective.n_outputs, -1), x)
        curvature = own[:, None, None] * objective.curvature_matrices(rows)
        moved = (curvature @ moved[:, :, None])[:, :, 0]
        return out - (moved[:, :, None] * x[:, None, :]).reshape(len(x), -1)

    def _group_gradients(self):
        if not hasattr(self, "_gradients"):
            self._gradients = self.objective.group_gradients()
        return self._gradients

    def _group_blocks(self):
        """Curvature of each class's rows, in the cheaper of its two forms."""
        objective = self.objective
        if not hasattr(self, "_groups") and hasattr(objective, "group_blocks"):
            self._groups = objective.group_blocks()
        if not hasattr(self, "_groups"):
            self._groups = []
            for group in range(objective.rule.n_groups):
                weights = objective.weights * (objective.rule.groups == group)
                block = objective.quadratic(objective.theta, weights)
                if block.size <= block.rows.n_rows:
                    block.rows = GramRows(block.rows.gram())
                self._groups.append(block)
        return self._groups

    def _joint(self, rows):
        """Newton step without a group: Woodbury when it is smaller than the parameter count."""
        objective = self.objective
        objective.check_removable(rows)
        phi, rho = objective.rule.joint_factors(rows)
        keep = np.ones(objective.n_rows)
        keep[rows] = 0.0
        factors = phi[objective.rule.groups] * keep
        slopes = (factors - 1)[:, None] * objective.residuals
        gradient = objective.design.tdot(slopes).T.ravel()
        gradient += (rho - 1) * objective.penalty_gradient(objective.theta)
        small = len(rows) * objective.n_outputs < objective.n_params
        if objective.rule.trivial and small:
            out = self._woodbury(rows, -gradient)
            if out is not None:
                return out
        block = objective.quadratic(objective.theta, objective.weights * factors, rho)
        block = block.damped(self.damping) if self.damping else block
        with objective.identified_without(rows):
            factor = objective._factor(block)
        return solve_repeated(factor, -gradient[:, None], block.repeats)[:, 0]

    def _woodbury(self, rows, right):
        """``(H - B'B)⁻¹ right`` with ``B`` the group's curvature rows; None where it is rough."""
        block, repeats = self.objective.curvature_rows(rows)
        B = block.tdot(np.eye(block.n_rows))
        columns = np.kron(np.eye(repeats), B)
        solved = self.solver.solve(np.column_stack([columns, right]))
        inner, base = solved[:, :-1], solved[:, -1]
        system = np.eye(columns.shape[1]) - columns.T @ inner
        left = np.linalg.eigvalsh(system)[0]
        if left <= SMALLEST_LEFT:
            raise ValueError(
                "without this group the fit is not identified (its leverage reaches 1): add a "
                "penalty, or use method='influence'"
            )
        if left < FRAGILE_LEFT:
            return None
        return base + inner @ np.linalg.solve(system, columns.T @ base)


class StackedEffects(Effects):
    """Effects of independent objectives side by side."""

    def __init__(self, problem, effects_of):
        super().__init__(problem)
        self.parts = []
        for part in self.objective.parts:
            solver = None if self.solver is None else fitted_solver(self.solver, part)
            sub = Problem(part, solver, n_jobs=problem.n_jobs, batch_size=problem.batch_size)
            self.parts.append(effects_of(part, sub))

    def parameters(self, rows):
        """Side by side."""
        return np.concatenate([part.parameters(rows) for part in self.parts], axis=1)

    def joint_parameters(self, groups):
        """Side by side."""
        return np.concatenate([part.joint_parameters(groups) for part in self.parts], axis=1)

    def own_outputs(self, rows):
        """Side by side."""
        return np.concatenate([part.own_outputs(rows) for part in self.parts], axis=1)


def added_damping(solver):
    """What a solver adds to the Hessian, for steps that factorise a Hessian of their own."""
    return getattr(solver, "damping_", 0.0)


def check_lone_rows(objective, lone, rows):
    """Refuse rows that are among ``lone``, the only ones of their class."""
    for row in np.intersect1d(lone, rows) if len(lone) else ():
        objective.check_removable([row])


def check_left(left, rows):
    """Refuse rows without which nothing is left to identify the fit."""
    bad = left <= SMALLEST_LEFT
    if bad.any():
        names = np.asarray(rows)[bad][:5].tolist()
        raise ValueError(
            f"rows {names} have leverage 1: without one of them the fit is not identified. Add a "
            "penalty, drop the column that only this row fills, or use method='influence'"
        )
