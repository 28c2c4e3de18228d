"""The oracle: refit the estimator without the row."""

from functools import singledispatch

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import _safe_split

from .._progress import progress
from .base import Effects, Method


class Refit(Method):
    """Clone and refit the estimator without each row (or group).

    The estimator's own solver and tolerance decide how exact the result is. Rows are refitted
    once and kept.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> X, y = load_diabetes(return_X_y=True)
    >>> explainer = InfluenceExplainer(Ridge(), method="refit").fit(X[:50], y[:50])
    >>> explainer.self_influence().shape
    (50,)
    """

    uses_solver = False

    def bind(self, problem):
        """Effects by refits."""
        return refit_effects(problem.objective, problem)


@singledispatch
def refit_effects(objective, problem):
    """Effects by refits; register another kind of objective here."""
    check_transformer(objective)
    if objective.read_outputs is not None:
        return OutputRefitEffects(problem)
    return RefitEffects(problem)


def check_transformer(objective):
    """Refuse a target transformer that is kept as fitted: refits would not keep it."""
    transformer = getattr(objective.head, "transformer", None)
    if transformer is not None and not isinstance(transformer, FunctionTransformer):
        raise ValueError(
            f"method='refit' fits the target transformer {type(transformer).__name__} again, which "
            "preprocessing keeps as fitted here; use preprocessing='refit', or another method"
        )


class RefitEffects(Effects):
    """Parameters of refitted clones minus those of the fitted estimator itself."""

    def __init__(self, problem):
        super().__init__(problem)
        self._fitted = self.objective.read_parameters(problem.estimator)
        self._kept = {}

    def parameters(self, rows):
        """Refit without each row not refitted before."""
        missing = [int(i) for i in rows if int(i) not in self._kept]
        for i, theta in zip(missing, self._refit([[i] for i in missing]), strict=True):
            self._kept[i] = theta
        return np.array([self._kept[int(i)] for i in rows]) - self._fitted

    def joint_parameters(self, groups):
        """Refit without each group."""
        return np.array(self._refit(groups)) - self._fitted

    def _refit(self, groups):
        problem = self.problem
        tasks = progress(groups, "refits", problem.verbose)
        fit = delayed(_parameters_without)
        return Parallel(n_jobs=problem.n_jobs)(
            fit(self.objective.read_parameters, problem, group) for group in tasks
        )


class OutputRefitEffects(Effects):
    """Outputs of refitted clones, for models whose parameters are those of their rows.

    Rules that the estimator applies to its data are applied again: ``gamma="scale"`` follows the
    rows that are left.
    """

    def __init__(self, problem):
        super().__init__(problem)
        self._kept = {}
        self._all = np.arange(len(problem.y))

    def outputs(self, queries, rows):
        """Refits without each row, kept, at the queries."""
        missing = [int(i) for i in rows if int(i) not in self._kept]
        for i, fitted in zip(missing, self._refit([[i] for i in missing]), strict=True):
            self._kept[i] = fitted
        return self._differences(queries, [self._kept[int(i)] for i in rows], rows[:, None])

    def joint_outputs(self, queries, groups):
        """Refits without each group."""
        return self._differences(queries, self._refit(groups), groups)

    def own_outputs(self, rows):
        """Each refit at its own row."""
        queries = self.objective.training_queries(rows)
        return self.outputs(queries, np.asarray(rows))[np.arange(len(rows)), np.arange(len(rows))]

    def parameters(self, rows):
        """Refused: the refits have other parameters, one for each of their rows."""
        raise ValueError(
            f"the parameters of {type(self.problem.estimator).__name__} belong to its rows: a "
            "refit without a row has other ones. Ask for outputs, or use method='exact'"
        )

    def _differences(self, queries, fits, gone):
        read, base = self.objective.read_outputs, self.problem.estimator
        fitted = read(base, self._columns(queries.X, base, []))
        return np.stack(
            [
                read(fit, self._columns(queries.X, fit, group)) - fitted
                for fit, group in zip(fits, gone, strict=True)
            ],
            axis=1,
        )

    def _columns(self, X, fitted, group):
        """Columns of the rows left, where ``X`` is a kernel with the training rows."""
        return X[:, np.setdiff1d(self._all, group)] if get_tags(fitted).input_tags.pairwise else X

    def _refit(self, groups):
        problem = self.problem
        tasks = progress(groups, "refits", problem.verbose)
        fit = delayed(fit_without)
        return Parallel(n_jobs=problem.n_jobs)(fit(problem, group) for group in tasks)


def _parameters_without(read, problem, group):
    return read(fit_without(problem, group))


def fit_without(problem, group):
    """A clone of the problem's estimator, fitted without a group of rows."""
    keep = np.setdiff1d(np.arange(len(problem.y)), group)
    weight = problem.sample_weight
    options = {} if weight is None else {"sample_weight": weight[keep]}
    X, y = _safe_split(problem.estimator, problem.X, problem.y, keep)
    return clone(problem.estimator).fit(X, y, **options)
