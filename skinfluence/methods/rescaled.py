"""Rescaled influence: the Newton steps of single rows, added up."""

import numpy as np

from .base import Effects, Method
from .newton import newton_effects


class RescaledInfluence(Method):
    """Rescaled influence functions: Newton steps without each row, which groups add up.

    For a single row this is "newton". A group's change of the parameters is the sum of those of
    its rows: additive as the first order is, but each row divided by one minus its leverage. What
    the rows of a group do to each other is left out, which "newton" sees.

    References
    ----------
    Rubinstein, I. and Hopkins, S. B. (2025). Rescaled influence functions: accurate data
    attribution in high dimension. NeurIPS. https://arxiv.org/abs/2506.06656

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> X, y = load_diabetes(return_X_y=True)
    >>> explainer = InfluenceExplainer(Ridge(), method="rescaled").fit(X, y)
    >>> explainer.group_influence([[0, 1, 2]], X[:4]).shape
    (4, 1)
    """

    def bind(self, problem):
        """Effects by those of the Newton steps."""
        if getattr(problem.objective, "common_gradient", None) is not None:
            raise ValueError(
                "method='rescaled' adds up rows, and with residual=True each of them holds what "
                "the whole fit left: use method='newton', or residual=False"
            )
        return RescaledEffects(problem)


class RescaledEffects(Effects):
    """Sums of Newton effects."""

    def __init__(self, problem):
        super().__init__(problem)
        self.rows = newton_effects(problem.objective, problem)
        self.threaded = self.rows.threaded

    def parameters(self, rows):
        """Newton steps."""
        return self.rows.parameters(rows)

    def outputs(self, queries, rows):
        """Newton steps at the queries."""
        return self.rows.outputs(queries, rows)

    def own_outputs(self, rows):
        """Newton steps at the rows themselves."""
        return self.rows.own_outputs(rows)

    def joint_parameters(self, groups):
        """Sums over the rows of each group."""
        return np.array([self._sum(self.rows.parameters, 1, group) for group in groups])

    def joint_outputs(self, queries, groups):
        """Sums of the rows' changes of the outputs."""

        def change(rows):
            return self.rows.outputs(queries, rows).transpose(1, 0, 2)

        sums = [self._sum(change, len(queries), group) for group in groups]
        return np.stack(sums, axis=1)

    def _sum(self, change, n_queries, group):
        pieces = self.rows.row_blocks(np.asarray(group), n_queries)
        return sum(change(piece).sum(axis=0) for piece in pieces)
