"""Groups of training rows, each removed jointly."""

from dataclasses import replace

import numpy as np
from sklearn.utils._missing import is_pandas_na

from ._blocks import block_length, blocks
from ._checks import check_order
from ._distributed import on_shards
from ._effects import bind
from ._out import empty
from .methods import resolve_method
from .targets import resolve_target

# Names of group methods that are those of others elsewhere.
ALIASES = {"first": "influence"}


class GroupInfluence:
    """Mixin of the explainer: what groups of rows did together."""

    @on_shards
    def group_influence(self, groups, X, y=None, *, method=None):
        """Influence of groups of training rows, each removed jointly, on each query.

        Parameters
        ----------
        groups : array-like or dask collection of shape (n_train,), or list of index arrays
            A label for each training row (groups in sorted order), or the rows of each group.
        X : array-like, dataframe, sparse or dask collection of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional
        method : str or Method, optional
            In the place of the explainer's own: "first" (first order, "influence"),
            "second_order", "newton" (one joint step), "rescaled" (the rows' own Newton steps,
            added up), "exact", "refit", or an object such as ``SecondOrder()``.

        Returns
        -------
        ndarray of shape (n_queries, n_groups)
            One row for a scalar target. A dask array where the queries are a dask collection.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.linear_model import Ridge
        >>> from skinfluence import InfluenceExplainer
        >>> X, y = load_diabetes(return_X_y=True)
        >>> explainer = InfluenceExplainer(Ridge()).fit(X, y)
        >>> explainer.group_influence([[0, 5], [7]], X[:3], y[:3], method="exact").shape
        (3, 2)
        """
        query, y = self._check_queries(X, y)
        target = resolve_target(self.target, y is not None, X)
        method, effects = self._group_effects(method)
        bound = effects.bind_target(target, query, y)
        groups = self._check_groups(groups)
        out = empty(
            (1 if target.scalar else query.shape[0], len(groups)),
            np.float64,
            "queries by groups",
            "Ask for fewer queries or groups at a time, or for a scalar target such as "
            "skinfluence.targets.Mean",
        )
        for part in blocks(len(groups), self._group_block(query.shape[0])):
            out[:, part] = joint(method, effects, bound, groups[part])
        return out

    def _group_effects(self, method):
        """``(method, effects)`` of the explainer, or of another method on the same fit."""
        if method is None:
            return self.method_, self.effects_
        method = ALIASES.get(method, method) if isinstance(method, str) else method
        problem = self.effects_.problem
        if problem.solver is None:
            method, _, effects = bind(method, self.solver, replace(problem))
            return method, effects
        method = resolve_method(method, problem.objective)
        return method, method.bind(problem)

    def _group_block(self, n_queries):
        objective = self.objective_
        per_group = 8 * (objective.n_params + n_queries * objective.n_outputs)
        return block_length(per_group, share=1 / 8)

    def _check_groups(self, groups):
        if isinstance(groups, list | tuple) and not groups:
            raise ValueError("groups is empty: nothing is removed")
        if not isinstance(groups, list | tuple) or np.ndim(groups[0]) == 0:
            check_order(getattr(self, "_index", None), groups, "groups")
            labels = np.asarray(groups)
            if labels.shape != (self.n_rows_,):
                raise ValueError(
                    f"groups has shape {labels.shape}; pass a label for each of the "
                    f"{self.n_rows_} training rows, or a list of index arrays"
                )
            missing = _missing(labels)
            if missing.any():
                raise ValueError(
                    f"groups has missing labels, at row {np.flatnonzero(missing)[0]}: "
                    "give every row a label, or pass a list of index arrays"
                )
            return [np.flatnonzero(labels == label) for label in np.unique(labels)]
        checked = [self._check_rows(group) for group in groups]
        for group in checked:
            if not len(group):
                raise ValueError("a group holds no row: its removal changes nothing")
            if len(np.unique(group)) < len(group):
                raise ValueError("a group names the same row twice")
        return checked


def _missing(labels):
    if labels.dtype.kind != "O":
        return labels != labels  # nan and NaT equal nothing, themselves included
    return np.array([x is None or is_pandas_na(x) or x != x for x in labels], dtype=bool)


def joint(method, effects, bound, groups):
    """Influence of groups on a bound target: (m, g), or (1, g) if scalar."""
    if method.linear_target:
        return effects.joint_linearised(bound, groups)
    return bound.reevaluated(lambda queries: queries.joint_moved(effects, groups))
