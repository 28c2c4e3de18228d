"""First-order methods: influence functions and the infinitesimal jackknife."""

import numpy as np

from .._blocks import blocks
from .base import Effects, Method


class Influence(Method):
    """First order, target linearised: ``∇t' H⁻¹ p_i`` (Koh & Liang 2017).

    ``p_i`` is the gradient that the removal of row ``i`` releases. The value is minus the
    derivative of the target with respect to the weight of row ``i``.

    References
    ----------
    Koh, P. W. and Liang, P. (2017). Understanding black-box predictions via influence functions.
    ICML. https://arxiv.org/abs/1703.04730

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> X, y = load_diabetes(return_X_y=True)
    >>> InfluenceExplainer(Ridge(), method="influence").fit(X, y).transform(X[:2]).shape
    (2, 442)
    """

    linear_target = True
    first_order = True

    def bind(self, problem):
        """Effects by one solve a query or a row."""
        return FirstOrderEffects(problem)


class InfinitesimalJackknife(Method):
    """Parameters to first order, target re-evaluated at the moved parameters.

    References
    ----------
    Giordano, R., Stephenson, W., Liu, R., Jordan, M. and Broderick, T. (2019). A Swiss army
    infinitesimal jackknife. AISTATS. https://arxiv.org/abs/1806.00550

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> X, y = load_diabetes(return_X_y=True)
    >>> explainer = InfluenceExplainer(Ridge(), method="infinitesimal_jackknife")
    >>> explainer.fit(X, y).transform(X[:2], y[:2]).shape
    (2, 442)
    """

    first_order = True

    def bind(self, problem):
        """Effects by one solve a row."""
        return FirstOrderEffects(problem)


class FirstOrderEffects(Effects):
    """``Δθ_i = H⁻¹ p_i``; groups add up."""

    def __init__(self, problem):
        super().__init__(problem)
        self.threaded = getattr(self.objective, "threaded", True)
        self.gradients = self.objective.removal_gradients()

    def parameters(self, rows):
        """One solve a row."""
        return self.solver.solve(self.gradients.block(rows).astype(np.float64).T).T

    def joint_parameters(self, groups):
        """One solve a group, on the sum of its rows."""
        sums = [self.gradients.tdot(np.ones((len(g), 1)), g)[:, 0] for g in groups]
        common = getattr(self.objective, "common_gradient", None)
        if common is not None:  # what every row's gradient holds enters once, not once a row
            sums = [total - (len(g) - 1) * common for total, g in zip(sums, groups, strict=True)]
        return self.solver.solve(np.array(sums, dtype=np.float64).T).T

    def joint_linearised(self, bound, groups):
        """By the parameters of the groups."""
        delta = self.joint_parameters(groups)
        return bound.linearised(lambda queries: queries.linear_changes(delta))

    def adjoint(self, pulled):
        """One solve a query, in the dtype of the rows."""
        dtype = getattr(self.objective, "dtype", np.float64)
        within = dtype if getattr(self.solver, "keeps_single", False) else np.float64
        solved = self.solver.solve(pulled.astype(within, copy=False).T)
        return solved.astype(dtype, copy=False)

    def linearised(self, adjoint, rows, out=None):
        """One product, in the dtype of the rows; in pieces where rows are made at a cost."""
        piece = getattr(self.gradients, "cached_rows", None)
        if piece is None:
            block = self.gradients.block(rows)
            return np.matmul(adjoint.T.astype(block.dtype, copy=False), block.T, out=out)
        rows = np.arange(self.gradients.shape[0])[rows]
        out = np.empty((adjoint.shape[1], len(rows))) if out is None else out
        for part in blocks(len(rows), piece):
            out[:, part] = adjoint.T @ self.gradients.block(rows[part]).T
        return out
