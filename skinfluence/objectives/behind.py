"""How the optimum of a last step follows the rows, and the targets, that it is fitted on.

With ``∇F(θ, X, y) = 0``, ``dθ = -H⁻¹ ∂∇F/∂(X, y)``. What is needed of it is its transpose: a
cotangent ``v`` of ``θ`` back to the rows, and a cotangent of the outputs back to the query rows.
"""

from functools import singledispatch

import numpy as np

from .._blocks import block_length, blocks
from ..solvers.direct import Direct
from ..solvers.factor import solve_repeated
from .composite import IndependentOutputs
from .design import Design
from .huber import HuberObjective
from .kinked import KinkedObjective
from .linear import LinearObjective
from .multi_task import GroupObjective
from .piecewise import PiecewiseObjective
from .sparse import SparseObjective


@singledispatch
def behind(objective):
    """A :class:`Behind` of an objective, or None where its rows are not followed."""
    return None


class Behind:
    """A last step whose training rows and targets move.

    Attributes
    ----------
    inner : Objective
    solver : Direct
        On the last step's exact Hessian, whatever solver the rows go through.
    """

    def __init__(self, inner):
        self.inner = inner
        self._solver = None

    @property
    def solver(self):
        """Fitted when first asked for."""
        if self._solver is None:
            self._solver = Direct().fit(self.inner)
        return self._solver

    def pull_rows(self, C):
        """Cotangents of the outputs (m, K) back to the rows they are of: (m, width)."""
        raise NotImplementedError

    def pull_fit(self, v):
        """A cotangent of ``θ`` back to the training rows it was fitted on: (n, width)."""
        return -self.mixed_rows(self._solved(v))

    def pull_targets(self, v):
        """A cotangent of ``θ`` back to the targets it was fitted on: (n, n_targets)."""
        return -self.mixed_targets(self._solved(v))

    def mixed_rows(self, v):
        """Derivative of ``v'∇F`` in each training row: (n, width)."""
        raise NotImplementedError

    def mixed_targets(self, v):
        """Derivative of ``v'∇F`` in each target: (n, n_targets)."""
        raise NotImplementedError

    def predict(self, theta, rows):
        """Outputs at ``rows`` for other parameters: (m, K)."""
        raise NotImplementedError

    def minimum(self, rows, y, keep, gone):
        """``θ`` on other rows and targets, those of the training rows ``keep``."""
        raise NotImplementedError

    def check_removable(self, rows):
        """Refuse a removal that leaves a class, or the fit, without rows."""
        self.inner.check_removable(rows)

    def _solved(self, v):
        return self.solver.solve(v[:, None])[:, 0]


class LinearBehind(Behind):
    """A linear predictor: ``∇F = Σ_i s_i ⊗ x_i + ∇R``, with ``S_i`` the derivative of ``s_i``."""

    def __init__(self, inner):
        super().__init__(inner)
        self.slopes = inner.residuals
        self.width = inner.design.X.shape[1]
        self.weights = inner.coef[:, : self.width]

    def pull_rows(self, C):
        """``Σ_k c_k w_k``."""
        return C @ self.weights

    def mixed_rows(self, v):
        """``Σ_k s_ik v_k + (S_i x_i'v)_k w_k``."""
        parts = v.reshape(self.inner.n_outputs, -1)
        out = self.slopes @ parts[:, : self.width]
        out += self.curved(self.inner.design.predict(parts)) @ self.weights
        return out

    def mixed_targets(self, v):
        """``∂s_i/∂y_i`` times ``x_i'v``."""
        inner = self.inner
        moved = inner.design.predict(v.reshape(inner.n_outputs, -1))
        slope = inner.loss.target_slope(inner.outputs, inner.y)
        return moved * slope * inner.weights[:, None]

    def curved(self, U):
        """``S_i u_i`` for a vector a row."""
        inner = self.inner
        if inner.loss.scalar:
            return U * inner.curvatures[:, None]
        out = np.empty(U.shape)
        for rows in blocks(len(U), block_length(24 * inner.n_outputs**2, share=1 / 8)):
            out[rows] = np.einsum("ikc,ic->ik", inner.curvature_matrices(rows), U[rows])
        return out

    def curved_unit(self, k, rows):
        """``S_i e_k`` of some rows: (b, K)."""
        inner = self.inner
        if not inner.loss.scalar:
            column = inner.loss.curvature_column(inner.outputs[rows], inner.y[rows], k)
            return column * inner.weights[rows][:, None]
        out = np.zeros(inner.outputs[rows].shape)
        out[:, k] = inner.curvatures[rows]
        return out

    def predict(self, theta, rows):
        """One product."""
        design = Design(rows, self.inner.design.intercept)
        return design.predict(theta.reshape(self.inner.n_outputs, -1))

    def minimum(self, rows, y, keep, gone):
        """From the fitted parameters, under the removal's rules."""
        inner = self.inner
        phi, rho = inner.rule.joint_factors(gone)
        weights = inner.weights * phi[inner.rule.groups]
        other = inner.on_rows(Design(rows, inner.design.intercept), y, keep)
        with other.identified_without(gone):
            start = self._start(other, keep, weights[keep], rho)
            return other.minimise(start, weights[keep], rho).theta

    def _start(self, other, keep, weights, rho):
        """A step from the outputs, not the parameters, where columns may have been rotated."""
        inner = self.inner
        if type(inner) not in (LinearObjective, PiecewiseObjective):
            return other.theta
        Z, loss = inner.outputs[keep], other.loss
        block = other.quadratic(other.theta, weights, rho, Z)
        if loss.scalar:
            right = loss.curvature(Z, other.y)[:, None] * Z
        else:
            right = (loss.curvature_matrix(Z, other.y) @ Z[:, :, None])[:, :, 0]
        right = other.design.tdot(weights[:, None] * (right - loss.gradient(Z, other.y)))
        factor = other._factor(block)
        return solve_repeated(factor, right.T.reshape(-1, 1), block.repeats)[:, 0]


class KinkedBehind(LinearBehind):
    """Pinned rows stay at their kinks: ``Λ dθ + A'dβ = -dA'β``, ``A dθ = dt - dA θ`` there."""

    def __init__(self, inner):
        super().__init__(inner)
        self.slopes = inner.dual[:, None]
        self.pinned = np.flatnonzero(inner.pinned)
        self.factor = inner.factorise_blocks(None)[0]

    def pull_fit(self, v):
        """Through the slopes of all rows, and through the places of the pinned ones."""
        step, push = self._saddle(v)
        out = -self.slopes * step[: self.width]
        out[self.pinned] -= push[:, None] * self.weights
        return out

    def pull_targets(self, v):
        """The kinks of a tube move with their target."""
        out = np.zeros((self.inner.n_rows, 1))
        out[self.pinned, 0] = self._saddle(v)[1]
        return out

    def _saddle(self, v):
        step, push = self.factor.saddle(v[:, None], np.zeros((len(self.pinned), 1)))
        return step[:, 0], push[:, 0]


class HuberBehind(Behind):
    """The scale is fitted too: curvature rows ``(x_i, u_i, 1)``."""

    def __init__(self, inner):
        super().__init__(inner)
        self.place = inner.n_features
        self.weights = inner.theta[None, : self.place]
        self.ratio = inner.curvature_design.column

    def pull_rows(self, C):
        """The scale does not depend on the row."""
        return C[:, [0]] * self.weights

    def mixed_rows(self, v):
        """``s_i v_w + h_i (x_i'v + u_i v_σ) w``."""
        slopes = self.inner.residuals[:, [0]]
        return slopes * v[: self.place] + self._curved(v) * self.weights

    def _curved(self, v):
        inner = self.inner
        moved = inner.design.predict(np.delete(v, self.place)[None])
        return inner.curvatures[:, None] * (moved + (self.ratio * v[self.place])[:, None])

    def predict(self, theta, rows):
        """Prediction and scale."""
        return self.inner._outputs(Design(rows, self.inner.design.intercept), theta)

    def minimum(self, rows, y, keep, gone):
        """From the fitted parameters."""
        other = self.inner.on_rows(Design(rows, self.inner.design.intercept), y, keep)
        return other.minimise(other.theta).theta


class PartsBehind(Behind):
    """Independent objectives over the same rows."""

    def __init__(self, inner, parts):
        super().__init__(inner)
        self.parts = parts

    def pull_rows(self, C):
        """Added up."""
        pairs = zip(self.parts, self.inner.output_slices, strict=True)
        return sum(part.pull_rows(C[:, piece]) for part, piece in pairs)

    def pull_fit(self, v):
        """Added up."""
        return sum(part.pull_fit(v[piece]) for part, piece in self._each() if v[piece].any())

    def pull_targets(self, v):
        """One column a part."""
        return np.hstack([part.pull_targets(v[piece]) for part, piece in self._each()])

    def predict(self, theta, rows):
        """Side by side."""
        sizes = self._widths(rows.shape[1])
        pieces = np.split(theta, np.cumsum(sizes)[:-1])
        pairs = zip(self.parts, pieces, strict=True)
        return np.hstack([part.predict(piece, rows) for part, piece in pairs])

    def minimum(self, rows, y, keep, gone):
        """Part by part."""
        columns = [None] * len(self.parts) if y is None else y.T
        pairs = zip(self.parts, columns, strict=True)
        return np.concatenate([part.minimum(rows, t, keep, gone) for part, t in pairs])

    def check_removable(self, rows):
        """Of each part."""
        for part in self.parts:
            part.check_removable(rows)

    def _each(self):
        return zip(self.parts, self.inner.parameter_slices, strict=True)

    def _widths(self, width):
        grown = width - self.parts[0].width
        return [p.inner.n_params + grown * p.inner.n_outputs for p in self.parts]


@behind.register(LinearObjective)
def _(objective):
    known = LinearObjective, PiecewiseObjective, SparseObjective, GroupObjective
    return LinearBehind(objective) if type(objective) in known else None


@behind.register(KinkedObjective)
def _(objective):
    return KinkedBehind(objective)


@behind.register(HuberObjective)
def _(objective):
    return HuberBehind(objective)


@behind.register(IndependentOutputs)
def _(objective):
    if type(objective) is not IndependentOutputs:
        return None
    parts = [behind(part) for part in objective.parts]
    linear = all(isinstance(part, LinearBehind) for part in parts)
    return PartsBehind(objective, parts) if linear else None
