"""Groups of training rows, each removed jointly."""

import numpy as np

from ._blocks import block_length, blocks
from .targets import resolve_target


class GroupInfluence:
    """Mixin of the explainer: what groups of rows did together."""

    def group_influence(self, groups, X, y=None):
        """Influence of groups of training rows, each removed jointly, on each query.

        Parameters
        ----------
        groups : array-like of shape (n_train,) or list of index arrays
            A label for each training row (groups in sorted order), or the rows of each group.
        X : array-like, dataframe or sparse of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional

        Returns
        -------
        ndarray of shape (n_queries, n_groups)
            One row for a scalar target.
        """
        query, y = self._check_queries(X, y)
        target = resolve_target(self.target, y is not None)
        bound = self.effects_.bind_target(target, query, y)
        groups = self._check_groups(groups)
        columns = [
            self._joint(bound, groups[part])
            for part in blocks(len(groups), self._group_block(query.shape[0]))
        ]
        return np.concatenate(columns, axis=1)

    def _joint(self, bound, groups):
        if self.method_.linear_target:
            values = self.effects_.joint_linearised(bound, groups)
            return values.sum(axis=0, keepdims=True) if bound.target.scalar else values
        values = bound.changes(self.effects_.joint_outputs(bound.queries, groups))
        return values[None] if bound.target.scalar else values

    def _group_block(self, n_queries):
        objective = self.objective_
        per_group = 8 * (objective.n_params + n_queries * objective.n_outputs)
        return block_length(per_group, share=1 / 8)

    def _check_groups(self, groups):
        if not isinstance(groups, list | tuple) or np.ndim(groups[0]) == 0:
            labels = np.asarray(groups)
            if labels.shape != (self.n_rows_,):
                raise ValueError(
                    f"groups has shape {labels.shape}; pass a label for each of the "
                    f"{self.n_rows_} training rows, or a list of index arrays"
                )
            return [np.flatnonzero(labels == label) for label in np.unique(labels)]
        checked = [self._check_rows(group) for group in groups]
        for group in checked:
            if len(np.unique(group)) < len(group):
                raise ValueError("a group names the same row twice")
        return checked
