"""A linear predictor behind stages: a removal moves the rows it is fitted on, too.

With ``η`` the parameters of the stages and ``θ`` those of the last step, the estimating equations
are block triangular: ``dθ = H⁻¹ (p - J dη)`` with ``p`` the gradient that the removal releases and
``J = ∂∇F/∂η``. In the coordinates ``(τ, dη)`` with ``dθ = τ + G dη``, ``G = -H⁻¹ J``, the system
is block diagonal, ``diag(H, I)``, so that solvers and first-order methods need not know of it.
"""

import numpy as np
from scipy import sparse
from sklearn.utils import _safe_indexing, check_array

from .._blocks import block_length, blocks
from ..gradients import Rows
from ..solvers.direct import Direct
from ..stages.base import numeric
from .base import Objective, Queries

# Entries of a block of training rows times stage parameters.
PIECE = 2**21


class StackedObjective(Objective):
    """An objective whose training rows come out of a chain of stages.

    Parameters
    ----------
    inner : LinearObjective
        What the last step minimised, on ``chain.outputs``.
    chain : Chain
        The stages before it.
    """

    def __init__(self, inner, chain):
        self.inner, self.chain = inner, chain
        self.n_rows, self.n_outputs = inner.n_rows, inner.n_outputs
        self.n_theta, self.n_eta = inner.n_params, chain.n_params
        self.n_params = self.n_theta + self.n_eta
        self.head, self.rule = inner.head, inner.rule
        self.gradient_norm = inner.gradient_norm
        self.gradient_norm_fitted = inner.gradient_norm_fitted
        self.strictly_convex = inner.strictly_convex
        self.dtype = np.dtype(np.float64)
        # θ follows η through the exact Hessian, whatever solver the rows go through
        exact = Direct().fit(inner)
        self.G = -exact.solve(self._mixed())

    @property
    def theta(self):
        """``θ``, and ``η`` as a difference to the fit."""
        return np.concatenate([self.inner.theta, np.zeros(self.n_eta)])

    @property
    def feature_names(self):
        """Names of the last step's columns."""
        return self.inner.feature_names

    @feature_names.setter
    def feature_names(self, names):
        self.inner.feature_names = names

    @property
    def parameter_names(self):
        """Those of the last step."""
        return self.inner.parameter_names

    # -- how θ follows η -------------------------------------------------------------------
    def _mixed(self):
        """``J = ∂∇F/∂η`` of shape (n_theta, n_eta)."""
        if self.n_eta == 0:
            return np.zeros((self.n_theta, 0))
        flat = self.chain.flat and len(self.chain.stages) == 1
        parts = [self._mixed_output(k, flat) for k in range(self.n_outputs)]
        return np.concatenate(parts)

    def _mixed_output(self, k, flat):
        """Rows of ``J`` for the parameters of output ``k``."""
        inner = self.inner
        width = inner.design.X.shape[1]
        slopes = inner.residuals[:, k]
        moved = self._curvature_rows(k) @ inner.coef[:, :width]  # (n, width)
        if flat:
            return self._by_products(slopes, moved)
        Z, out = inner.design, np.empty((inner.d, self.n_eta))
        rows = Z.block(slice(None), np.float64)
        for a in range(inner.d):
            C = moved * rows[:, [a]]
            if a < width:
                C[:, a] += slopes
            out[a] = self.chain.pull_sum(C)
        return out

    def _by_products(self, slopes, moved):
        """The same by one product, where pulling the rows back is cheap."""
        inner, stage = self.inner, self.chain.stages[0]
        out = np.zeros((inner.d, self.n_eta))
        for rows in blocks(self.n_rows, max(1, PIECE // self.n_eta)):
            part = _safe_indexing(stage.X, np.arange(rows.start, rows.stop))
            pulled = stage.pull_params(part, moved[rows])
            out += inner.design.block(rows, np.float64).T @ pulled
        out[: inner.design.X.shape[1]] += stage.pull_columns(slopes)
        return out

    def _curvature_rows(self, k):
        """``w_i ∂²ℓ_i / ∂z ∂z_k``: (n, K)."""
        inner = self.inner
        if inner.loss.scalar:
            out = np.zeros((self.n_rows, self.n_outputs))
            out[:, k] = inner.curvatures
            return out
        out = inner.loss.curvature_matrix(inner.outputs, inner.y)[:, k]
        return out * inner.weights[:, None]

    # -- what solvers and methods ask ------------------------------------------------------
    def removal_gradients(self):
        """``p_i`` beside ``dη_i``."""
        return StackedGradients(self.inner.removal_gradients(), self.chain)

    def fit_solver(self, solver):
        """The solver on the last step's Hessian; the identity takes no part in its damping."""
        return StackedSolver(solver.fit(self.inner), self.n_theta)

    def hessian(self):
        """``diag(H, I)``."""
        out = np.eye(self.n_params)
        out[: self.n_theta, : self.n_theta] = self.inner.hessian()
        return out

    def hessian_product(self, V):
        """Part by part."""
        return np.concatenate([self.inner.hessian_product(V[: self.n_theta]), V[self.n_theta :]])

    def leverage_bound(self, solver):
        """Of the last step."""
        return self.inner.leverage_bound(solver.last)

    def output_leverages(self, solver, rows):
        """Of the last step."""
        return self.inner.output_leverages(solver.last, rows)

    def queries(self, X):
        """Raw rows (a :class:`RawRows`) as queries."""
        return StackedQueries(self, X.rows)

    def training_queries(self, rows):
        """Training rows as queries: at query time, not in cross-fitted form."""
        return StackedQueries(self, _safe_indexing(self.chain.X, rows))

    def training_targets(self, rows):
        """Encoded targets."""
        return self.inner.training_targets(rows)

    # -- parameters ------------------------------------------------------------------------
    def public_parameters(self, delta):
        """``θ`` alone, moved by the stages too."""
        moved = delta[..., : self.n_theta] + delta[..., self.n_theta :] @ self.G.T
        return self.inner.public_parameters(moved)


class RawRows:
    """Rows as the first stage takes them, sliced like an array."""

    dtype = np.dtype(np.float64)

    def __init__(self, rows):
        self.rows = rows
        self.shape = rows.shape

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, part):
        index = np.arange(self.shape[0])[part]
        return RawRows(_safe_indexing(self.rows, index))


class StackedQueries(Queries):
    """Queries that move with ``θ`` and with the rows the stages make of them."""

    def __init__(self, objective, X):
        self.objective, self.X = objective, X
        rows = objective.chain.transform(X)
        rows = rows if sparse.issparse(rows) else numeric(rows)
        rows = check_array(rows, accept_sparse="csr", dtype=np.float64)
        self.inner = objective.inner.queries(rows)
        self.outputs = self.inner.outputs
        self._pulled = None

    def _params(self, C):
        """Cotangents of the outputs back to ``η``, the part through ``θ`` included."""
        objective = self.objective
        width = objective.inner.design.X.shape[1]
        theta = self.inner.pullback(C)
        direct = objective.chain.pull_params(self.X, C @ objective.inner.coef[:, :width])
        return theta, theta @ objective.G + direct

    def pullback(self, C):
        """Beside each other."""
        return np.concatenate(self._params(C), axis=1)

    def changes(self, delta):
        """First order in ``η``."""
        p = self.objective.n_theta
        out = self.inner.changes(delta[:, :p])
        for k, pulled in enumerate(self._each_output()):
            out[:, :, k] += pulled @ delta[:, p:].T
        return out

    def paired_changes(self, delta):
        """Row by row."""
        p = self.objective.n_theta
        out = self.inner.paired_changes(delta[:, :p])
        for k, pulled in enumerate(self._each_output()):
            out[:, k] += np.einsum("ij,ij->i", pulled, delta[:, p:])
        return out

    def _each_output(self):
        """Derivative of each output in ``η``: K arrays (m, n_eta), made once."""
        if self._pulled is None:
            unit = np.eye(self.objective.n_outputs)
            ones = np.ones((len(self), 1))
            self._pulled = [self._params(ones * row)[1] for row in unit]
        return self._pulled


class StackedGradients(Rows):
    """``[p_i, dη_i]``."""

    def __init__(self, gradients, chain):
        self.gradients, self.chain = gradients, chain
        n, p = gradients.shape
        self.shape = (n, p + chain.n_params)

    def block(self, rows):
        """Dense rows."""
        index = np.arange(self.shape[0])[rows]
        left = self.gradients.block(rows)
        return np.concatenate([left, self.chain.derivatives(index)], axis=1)

    def tdot(self, U, rows=slice(None)):
        """In blocks of rows."""
        index, out = np.arange(self.shape[0])[rows], np.zeros((self.shape[1], U.shape[1]))
        for part in blocks(len(index), block_length(8 * self.shape[1], share=1 / 8)):
            out += self.block(index[part]).T @ U[part]
        return out


class StackedSolver:
    """A solver of the last step's Hessian, beside the identity."""

    def __init__(self, last, size):
        self.last, self.size = last, size
        if hasattr(last, "inverses"):
            self.inverses = last.inverses

    def solve(self, V):
        """``H⁻¹`` on the part of ``θ``."""
        p = self.size
        return np.concatenate([self.last.solve(V[:p]), V[p:]])

    @property
    def report_(self):
        """Of the last step's solver."""
        return self.last.report_
