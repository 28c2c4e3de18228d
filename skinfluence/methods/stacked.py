"""Removals behind stages: the last step's own method, the stages by their downdates."""

from dataclasses import replace

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.utils import _safe_indexing, check_array

from .._progress import progress
from .._unwrap import fit_estimator, transform, unwrap
from ..objectives.stacked import StackedObjective
from ..stages.base import columns, numeric
from .base import Effects
from .exact import exact_effects
from .newton import newton_effects
from .refit import check_transformer, refit_effects


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
        moved = self.objective.moves(rows, closed=True)
        return np.concatenate([self.last.parameters(rows), moved], axis=1)

    def joint_parameters(self, groups):
        """``τ`` jointly; ``η`` to first order, the rows of a group adding up."""
        moved = [self.objective.moves(np.asarray(group)).sum(axis=0) for group in groups]
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
        objective = self.objective
        transform, theta, transformer = self._without(group)
        Z = objective.behind.predict(theta, as_design_rows(transform(X)))
        return objective.in_fitted_units(Z, transformer)

    def _without(self, group):
        key = tuple(map(int, group))
        if key not in self._kept:
            self._kept[key] = self._refit(np.asarray(group))
        return self._kept[key]

    def _refit(self, group):
        objective = self.objective
        objective.behind.check_removable(group)
        chain, target = objective.chain, objective.target
        keep = np.setdiff1d(np.arange(objective.n_rows), group)
        transform, outputs = chain.without(_safe_indexing(chain.X, keep), keep)
        y = transformer = None
        if target is not None:
            transformer = clone(objective.head.transformer).fit(target.X[keep])
            y = columns(transformer.transform(target.X[keep]))
            y = y[:, 0] if y.shape[1] == 1 else y
        theta = objective.behind.minimum(as_design_rows(outputs), y, keep, group)
        return transform, theta, transformer


class StackedRefitEffects(Effects):
    """Outputs of whole pipelines refitted without rows, minus those of the fitted one."""

    def __init__(self, problem):
        super().__init__(problem)
        if self.objective.target is None:
            check_transformer(self.objective)
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
        moved = [inner.read_parameters(unwrap(fitted, stacks=True)[1]) for fitted in fits]
        if any(theta.shape != inner.theta.shape for theta in moved):
            raise ValueError(
                "without a row the stages hand on other columns: parameters cannot be compared. "
                "Ask for outputs"
            )
        moved = np.array(moved) - inner.read_parameters(unwrap(base, stacks=True)[1])
        return np.column_stack([moved, np.zeros((len(moved), self.objective.n_eta))])

    def _differences(self, queries, fits):
        fitted = self._outputs_of(self.problem.estimator, queries.X)
        return np.stack([self._outputs_of(fit, queries.X) - fitted for fit in fits], axis=1)

    def _outputs_of(self, estimator, X):
        """Outputs of a fitted pipeline, (m, K)."""
        objective = self.objective
        steps, final = unwrap(estimator, stacks=True)
        theta = objective.inner.read_parameters(final)
        Z = objective.behind.predict(theta, as_design_rows(transform(steps, X)))
        return objective.in_fitted_units(Z, getattr(final, "transformer_", None))

    def _refit(self, groups):
        problem = self.problem
        tasks = progress(groups, "refits", problem.verbose)
        fit = delayed(fit_pipeline_without)
        return Parallel(n_jobs=problem.n_jobs)(fit(problem, group) for group in tasks)


def fit_pipeline_without(problem, group):
    """A clone of the problem's pipeline, fitted without a group of rows."""
    keep = np.setdiff1d(np.arange(len(problem.y)), group)
    weight = None if problem.sample_weight is None else problem.sample_weight[keep]
    return fit_estimator(
        problem.estimator, _safe_indexing(problem.X, keep), problem.y[keep], weight
    )


def as_design_rows(X):
    """What steps hand on, as a design takes it."""
    X = X if hasattr(X, "tocsr") else numeric(X)
    return check_array(X, accept_sparse="csr", dtype=np.float64)
