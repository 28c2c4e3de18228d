"""Removals behind stages: the last step's own method, the stages by their downdates."""

from dataclasses import replace

import numpy as np
from sklearn.utils import _safe_indexing, check_array

from ..objectives.stacked import StackedObjective
from ..stages.base import numeric
from .base import Effects
from .exact import exact_effects
from .newton import newton_effects


@newton_effects.register(StackedObjective)
def _(objective, problem):
    return StackedNewtonEffects(problem)


@exact_effects.register(StackedObjective)
def _(objective, problem, tol):
    return StackedExactEffects(problem)


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
            solver=objective.inner_solver(problem.solver),
        )
        self.last = newton_effects(objective.inner, inner)

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
        rows = type(design)(_rows(transform(X)), design.intercept)
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
        phi, rho = inner.rule.joint_factors(group)
        weights = inner.weights * phi[inner.rule.groups]
        fit = inner.on_rows(_rows(outputs), keep, weights[keep])
        return transform, fit.minimise(fit.theta, weights[keep], rho).theta


def _rows(X):
    X = X if hasattr(X, "tocsr") else numeric(X)
    return check_array(X, accept_sparse="csr", dtype=np.float64)
