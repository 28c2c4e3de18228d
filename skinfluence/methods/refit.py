"""The oracle: refit the estimator without the row."""

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.utils import _safe_indexing

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
        return RefitEffects(problem)


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


def _parameters_without(read, problem, group):
    keep = np.setdiff1d(np.arange(len(problem.y)), group)
    weight = problem.sample_weight
    options = {} if weight is None else {"sample_weight": weight[keep]}
    X, y = _safe_indexing(problem.X, keep), _safe_indexing(problem.y, keep)
    return read(clone(problem.estimator).fit(X, y, **options))
