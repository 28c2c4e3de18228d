"""Removals behind stages: the last step's own method, the stages by their downdates."""

from dataclasses import replace

import numpy as np
from joblib import Parallel, delayed
from sklearn.utils import _safe_indexing, check_array

from .._progress import progress
from .._unwrap import fit_estimator, transform, unwrap
from ..objectives.design import Design
from ..objectives.stacked import StackedObjective
from ..solvers.factor import solve_repeated
from ..stages.base import numeric
from .base import Effects
from .exact import exact_effects
from .newton import newton_effects
from .refit import refit_effects


@newton_effects.register(StackedObjective)
def _(objective, problem):
    return StackedNewtonEffects(problem)


@exact_effects.register(StackedObjective)
def _(objective, problem, tol):
    return StackedExactEffects(problem)


@refit_effects.register(StackedObjective)
def _(objective, problem):
    return StackedRefitEffects(problem)


class StackedNewtonEffects(Effects):
    """One Newton step in the last step; the stages move as far as they do without the row.

    First order in how the stages move the rows, downdated where a stage has a closed form.
    """

    def __init__(self, problem):
        super().__init__(problem)
        objective = self.objective
        inner = replace(
            problem,
            objective=objective.inner,
            solver=problem.solver.last,
        )
        self.last = newton_effects(objective.inner, inner)
        self.threaded = self.last.threaded

    def parameters(self, rows):
        """``τ`` by the last step's Newton step, ``η`` by its removals."""
        rows = np.asarray(rows)
        moved = self.objective.chain.removals(rows)
        return np.concatenate([self.last.parameters(rows), moved], axis=1)

    def joint_parameters(self, groups):
        """``τ`` jointly; ``η`` to first order, the rows of a group adding up."""
        chain = self.objective.chain
        moved = [chain.derivatives(np.asarray(group)).sum(axis=0) for group in groups]
        return np.concatenate([self.last.joint_parameters(groups), np.array(moved)], axis=1)


class StackedExactEffects(Effects):
    """Stages refitted without the rows, and the last step's optimum on what they hand on.

    Choices that a stage holds fixed (folds, landmarks, selected columns) stay as they are.
    """

    def __init__(self, problem):
        super().__init__(problem)
        self._kept = {}

    def outputs(self, queries, rows):
        """At the queries, without each row."""
        return self.joint_outputs(queries, [[i] for i in rows])

    def joint_outputs(self, queries, groups):
        """At the queries, without each group."""
        return np.stack([self._outputs(queries.X, g) - queries.outputs for g in groups], axis=1)

    def own_outputs(self, rows):
        """Each row's own outputs without it."""
        parts = []
        for i in rows:
            query = self.objective.training_queries([i])
            parts.append(self._outputs(query.X, [i]) - query.outputs)
        return np.concatenate(parts)

    def parameters(self, rows):
        """``θ`` without each row; the stages' part is in it already."""
        return self.joint_parameters([[i] for i in rows])

    def joint_parameters(self, groups):
        """``θ`` without each group."""
        objective = self.objective
        moved = []
        for group in groups:
            theta = self._without(group)[1]
            if theta.shape != objective.inner.theta.shape:
                raise ValueError(
                    f"without rows {list(group)[:5]} the stages hand on other columns: parameters "
                    "cannot be compared. Ask for outputs"
                )
            moved.append(np.append(theta - objective.inner.theta, np.zeros(objective.n_eta)))
        return np.array(moved)

    def _outputs(self, X, group):
        transform, theta = self._without(group)
        design = self.objective.inner.design
        rows = Design(as_design_rows(transform(X)), design.intercept)
        return rows.predict(theta.reshape(self.objective.n_outputs, -1))

    def _without(self, group):
        key = tuple(map(int, group))
        if key not in self._kept:
            self._kept[key] = self._refit(np.asarray(group))
        return self._kept[key]

    def _refit(self, group):
        objective = self.objective
        inner, chain = objective.inner, objective.chain
        inner.check_removable(group)
        keep = np.setdiff1d(np.arange(inner.n_rows), group)
        transform, outputs = chain.without(_safe_indexing(chain.X, keep), keep)
        return transform, minimum_on(inner, as_design_rows(outputs), keep, group)


class StackedRefitEffects(Effects):
    """Outputs of whole pipelines refitted without rows, minus those of the fitted one."""

    def __init__(self, problem):
        super().__init__(problem)
        self._kept = {}

    def outputs(self, queries, rows):
        """Refits without each row, kept, at the queries."""
        missing = [int(i) for i in rows if int(i) not in self._kept]
        for i, fitted in zip(missing, self._refit([[i] for i in missing]), strict=True):
            self._kept[i] = fitted
        return self._differences(queries, [self._kept[int(i)] for i in rows])

    def joint_outputs(self, queries, groups):
        """Refits without each group."""
        return self._differences(queries, self._refit(groups))

    def own_outputs(self, rows):
        """Each refit at its own row."""
        parts = [self.outputs(self.objective.training_queries([i]), [i])[:, 0] for i in rows]
        return np.concatenate(parts)

    def parameters(self, rows):
        """Those of the last steps of the refits."""
        self.outputs(self.objective.training_queries(np.asarray(rows)[:1]), rows)
        return self._parameters([self._kept[int(i)] for i in rows])

    def joint_parameters(self, groups):
        """Likewise, without each group."""
        return self._parameters(self._refit(groups))

    def _parameters(self, fits):
        inner, base = self.objective.inner, self.problem.estimator
        moved = [inner.read_parameters(unwrap(fitted)[1]) for fitted in fits]
        if any(theta.shape != inner.theta.shape for theta in moved):
            raise ValueError(
                "without a row the stages hand on other columns: parameters cannot be compared. "
                "Ask for outputs"
            )
        moved = np.array(moved) - inner.read_parameters(unwrap(base)[1])
        return np.column_stack([moved, np.zeros((len(moved), self.objective.n_eta))])

    def _differences(self, queries, fits):
        inner = self.objective.inner
        fitted = _outputs_of(inner, self.problem.estimator, queries.X)
        return np.stack([_outputs_of(inner, fit, queries.X) - fitted for fit in fits], axis=1)

    def _refit(self, groups):
        problem = self.problem
        tasks = progress(groups, "refits", problem.verbose)
        fit = delayed(_fit_without)
        return Parallel(n_jobs=problem.n_jobs)(fit(problem, group) for group in tasks)


def _fit_without(problem, group):
    keep = np.setdiff1d(np.arange(len(problem.y)), group)
    weight = None if problem.sample_weight is None else problem.sample_weight[keep]
    return fit_estimator(
        problem.estimator, _safe_indexing(problem.X, keep), problem.y[keep], weight
    )


def _outputs_of(inner, estimator, X):
    """Linear predictors of a fitted pipeline, (m, K)."""
    steps, final = unwrap(estimator)
    theta = inner.read_parameters(final).reshape(inner.n_outputs, -1)
    return Design(as_design_rows(transform(steps, X)), inner.design.intercept).predict(theta)


def minimum_on(inner, rows, keep, group):
    """``θ`` of the last step when its rows are ``rows``, in the place of those of ``keep``.

    The first step starts from outputs, not from parameters: columns may have come, gone or been
    rotated.

    Parameters
    ----------
    inner : LinearObjective or PiecewiseObjective
        On all rows.
    rows : ndarray or CSR of shape (len(keep), n_columns)
    keep, group : ndarrays of int
        The rows that stay and those that go.
    """
    phi, rho = inner.rule.joint_factors(group)
    weights = (inner.weights * phi[inner.rule.groups])[keep]
    design, Z, y = Design(rows, inner.design.intercept), inner.outputs[keep], inner.y[keep]
    penalty = _penalty_of(inner, design.shape[1])
    theta, targets = np.zeros(penalty.shape), inner.head_targets[keep]
    parts = (design, inner.loss, y, weights, penalty, theta, inner.head)
    fit = type(inner)(*parts, polish=False, head_targets=targets)
    block = fit.quadratic(fit.theta, weights, rho, Z)
    right = design.tdot(weights[:, None] * _working_targets(inner.loss, Z, y))
    start = solve_repeated(fit._factor(block), right.T.reshape(-1, 1), block.repeats)[:, 0]
    found = fit.minimise(start, weights, rho).theta
    if fit.rank_deficient and not inner.rank_deficient:
        raise ValueError(
            f"without rows {group[:5].tolist()} the columns of X are linearly dependent and "
            "nothing penalises them: the fit is not identified. Add a penalty"
        )
    return found


def _working_targets(loss, Z, y):
    """``S z - r``: what a Newton step regresses on, from outputs ``z``."""
    if loss.scalar:
        return loss.curvature(Z, y)[:, None] * Z - loss.gradient(Z, y)
    return (loss.curvature_matrix(Z, y) @ Z[:, :, None])[:, :, 0] - loss.gradient(Z, y)


def _penalty_of(inner, d):
    """The last step's penalty on ``d`` columns: that of a column that came is its neighbours'."""
    if d == inner.d:
        return inner.penalty
    penalty = np.repeat(inner.penalty[:, :1], d, axis=1)
    if inner.design.intercept is not None:
        penalty[:, -1] = inner.penalty[:, -1]
    return penalty


def as_design_rows(X):
    """What steps hand on, as a design takes it."""
    X = X if hasattr(X, "tocsr") else numeric(X)
    return check_array(X, accept_sparse="csr", dtype=np.float64)
