"""A last step behind stages: a removal moves the rows (and targets) it is fitted on, too.

With ``η`` the parameters of the stages and ``θ`` those of the last step, the estimating equations
are block triangular: ``dθ = H⁻¹ (p - J dη)`` with ``p`` the gradient that the removal releases and
``J = ∂∇F/∂η``. In the coordinates ``(τ, dη)`` with ``dθ = τ + G dη``, ``G = -H⁻¹ J``, the system
is block diagonal, ``diag(H, I)``, so that solvers and first-order methods need not know of it.
"""

import numpy as np
from scipy import sparse
from sklearn.utils import _safe_indexing, check_array

from .._blocks import blocks
from ..gradients import Rows
from ..stages.base import columns, numeric
from .base import Objective, Queries
from .behind import LinearBehind, behind

# Entries of a block of rows times parameters that stays in a core's cache.
PIECE = 2**17


class StackedObjective(Objective):
    """An objective whose training rows come out of a chain of stages.

    Outputs are those of the last step in the units of the fitted target transformer, if there is
    one: a prediction that its own move changes is an output that does.

    Parameters
    ----------
    inner : Objective
        What the last step minimised, on ``chain.outputs``; one that ``behind`` knows.
    chain : Chain
        The stages before it.
    target : Stage, optional
        That of the transformer of the targets, on them as columns.
    """

    def __init__(self, inner, chain, target=None):
        self.inner, self.chain, self.target = inner, chain, target
        self.behind = behind(inner)
        self.n_rows, self.n_outputs = inner.n_rows, inner.n_outputs
        self.n_theta, self.n_chain = inner.n_params, chain.n_params
        self.n_eta = self.n_chain + (0 if target is None else target.n_params)
        self.n_params = self.n_theta + self.n_eta
        self.head = inner.head
        self.gradient_norm = inner.gradient_norm
        self.gradient_norm_fitted = inner.gradient_norm_fitted
        self.strictly_convex = inner.strictly_convex
        self.restricted = inner.restricted
        self.default_method = getattr(inner, "default_method", "newton")
        self.dtype = np.dtype(np.float64)
        parts = [self._response()]
        if target is not None:
            parts.append(self._target_response())
        self.G = np.concatenate(parts, axis=1)

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
    def _response(self):
        """``∂θ/∂η`` of shape (n_theta, n_chain)."""
        chain, last = self.chain, self.behind
        if chain.n_params == 0:
            return np.zeros((self.n_theta, 0))
        if type(last) is LinearBehind and chain.flat and len(chain.stages) == 1:
            return -last.solver.solve(self._by_products())
        return np.array([chain.pull_sum(last.pull_fit(unit)) for unit in np.eye(self.n_theta)])

    def _target_response(self):
        """``∂θ/∂η`` for the parameters of the target's transformer."""
        pull, last = self.target.pull_sum, self.behind
        return np.array([pull(last.pull_targets(unit)) for unit in np.eye(self.n_theta)])

    def _by_products(self):
        """``∂∇F/∂η`` by one product an output, where pulling the rows back is cheap."""
        inner, stage = self.inner, self.chain.stages[0]
        K, n, n_eta = self.n_outputs, self.n_rows, self.n_chain
        out = np.zeros((K, inner.d, n_eta))
        for rows in blocks(n, max(64, PIECE // n_eta)):
            part = _safe_indexing(stage.X, np.arange(rows.start, rows.stop))
            design = inner.design.block(rows, np.float64).T
            for k in range(K):
                moved = self.behind.curved_unit(k, rows) @ self.behind.weights
                out[k] += design @ stage.pull_params(part, moved)
        for k in range(K):
            out[k, : self.behind.width] += stage.pull_columns(self.behind.slopes[:, k])
        return out.reshape(-1, n_eta)

    def moves(self, rows, closed=False):
        """Change of ``η`` when each of ``rows`` goes: first order, or in closed form."""
        name = "removals" if closed else "derivatives"
        parts = [getattr(self.chain, name)(rows)]
        if self.target is not None:
            parts.append(getattr(self.target, name)(rows))
        return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]

    def in_fitted_units(self, Z, transformer):
        """Outputs of another fit, whose targets ``transformer`` made, as this one's."""
        if self.target is None:
            return Z
        back = columns(transformer.inverse_transform(Z))
        return columns(self.head.transformer.transform(back))

    # -- what solvers and methods ask ------------------------------------------------------
    def removal_gradients(self):
        """``p_i`` beside ``dη_i``."""
        return StackedGradients(self.inner.removal_gradients(), self)

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

    @property
    def output_leverages(self):
        """Of the last step, if it has any: from a solver and rows."""
        of_last = self.inner.output_leverages
        return lambda solver, rows: of_last(solver.last, rows)

    def queries(self, X):
        """Raw rows (a :class:`RawRows`) as queries."""
        return StackedQueries(self, X.rows)

    def input_gradient(self, X, C):
        """Refused: raw rows may be no numbers."""
        raise TypeError(
            "the gradient in a row before a pipeline's followed steps is not known: use "
            "preprocessing='frozen', and the units of the last step"
        )

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
        theta = self.inner.pullback(C)
        out = theta @ objective.G
        own = objective.behind.pull_rows(C)
        out[:, : objective.n_chain] += objective.chain.pull_params(self.X, own)
        if objective.target is not None:
            # the output that the fitted transformer gives what a moved one takes back
            out[:, objective.n_chain :] -= objective.target.pull_params(self.predictions, C)
        return theta, out

    @property
    def predictions(self):
        """In the units of the targets."""
        return columns(self.objective.head.transformer.inverse_transform(self.outputs))

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

    def __init__(self, gradients, objective):
        self.gradients, self.objective = gradients, objective
        n, p = gradients.shape
        self.shape = (n, p + objective.n_eta)
        self.cached_rows = max(64, PIECE // self.shape[1])

    def block(self, rows):
        """Dense rows."""
        index = np.arange(self.shape[0])[rows]
        left = self.gradients.block(rows)
        return np.concatenate([left, self.objective.moves(index)], axis=1)


class StackedSolver:
    """A solver of the last step's Hessian, beside the identity."""

    def __init__(self, last, size):
        self.last, self.size = last, size
        self.rough = last.rough
        if hasattr(last, "inverses"):
            self.inverses = last.inverses

    def solve(self, V):
        """``H⁻¹`` on the part of ``θ``."""
        p = self.size
        return np.concatenate([self.last.solve(V[:p]), V[p:]])

    def root(self, V):
        """The root on the part of ``θ``."""
        p = self.size
        return np.concatenate([self.last.root(V[:p]), V[p:]])

    @property
    def report_(self):
        """Of the last step's solver."""
        return self.last.report_
