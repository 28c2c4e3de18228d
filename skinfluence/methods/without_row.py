"""The objectives of a linear predictor without each row, many rows at once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .._blocks import block_length, blocks, index_blocks, n_threads
from ..solvers.factor import split_outputs
from .newton import LinearNewtonEffects
from .rounding import BLOCK


@dataclass
class Slope:
    """What :meth:`WithoutRow.slope` found at one point a row.

    Attributes
    ----------
    gradient : ndarray of shape (b, n_params)
    spread : ndarray of shape (b,)
        How far the outputs of any remaining row have moved: ``max_j |x_j'δ|``, for coupled
        outputs the largest difference between two of them.
    step : ndarray of shape (b, n_params)
        ``M_i⁻¹`` times the gradient, with ``M_i`` the fitted Hessian less the row's own term.
    decrement : ndarray of shape (b,)
        Norm of the gradient in ``M_i⁻¹``.
    """

    gradient: np.ndarray
    spread: np.ndarray
    step: np.ndarray
    decrement: np.ndarray


class WithoutRow:
    """``F_{-i}``, the objective without row ``i`` and with its rules applied again.

    Parameters
    ----------
    problem : Problem
        With an exact solver.
    """

    def __init__(self, problem):
        self.objective = problem.objective
        self.newton = LinearNewtonEffects(problem)
        self._fitted = np.ascontiguousarray(self.objective.outputs.T).T[None]
        idle = self.objective.weights == 0
        self._idle = idle if idle.any() else None

    @cached_property
    def matrix(self):
        """The Hessian block at the fit."""
        return self.newton.solver.blocks_[0].matrix()

    def chunks(self, rows):
        """Pieces of ``rows`` for a thread each, several a core."""
        length = max(self._cached(), min(512, -(-len(rows) // (4 * n_threads()))))
        return list(index_blocks(np.asarray(rows), length))

    def _cached(self):
        """How many rows have (n_rows, rows, K) arrays that stay near the cache."""
        width = self.objective.n_rows * self.objective.n_outputs
        return min(block_length(8 * width, share=1 / 64), max(16, 2**17 // width))

    def slope(self, rows, delta):
        """Gradient of ``F_{-i}`` at ``θ̂ + δ_i`` for each row: a :class:`Slope`.

        Sums over rows are of differences from the fit: their rounding is relative to ``δ``.
        """
        objective = self.objective
        x = objective.design.block(rows, np.float64)
        phi, rho = objective.rule.factors(rows)
        gradient, spread = np.empty(delta.shape), np.empty(len(rows))
        for piece in blocks(len(rows), self._cached()):
            gradient[piece], spread[piece] = self._others(rows[piece], delta[piece], phi[piece])
        gradient += rho[:, None] * objective.penalty.ravel() * delta
        gradient -= self.newton.released(rows, x)
        step = self.newton.downdated(x, rows, self.leverages(rows), gradient)
        decrement = np.sqrt(np.maximum(0.0, np.einsum("ij,ij->i", gradient, step)))
        return Slope(gradient, spread, step, decrement)

    def _others(self, rows, delta, phi):
        """Change of the gradient of the other rows' losses, and the spread of their outputs."""
        objective = self.objective
        n, K, b = objective.n_rows, objective.n_outputs, len(rows)
        moved = outputs_along(objective.design, delta.reshape(b * K, -1)).reshape(b, K, n)
        moved = moved.transpose(0, 2, 1)  # shape (b, n, K), the rows contiguous in memory
        moved[np.arange(b), rows] = 0.0
        if self._idle is not None:
            moved[:, self._idle] = 0.0
        slopes = objective.loss.gradient_change(self._fitted, moved, objective.y)
        slopes *= objective.weights[:, None]
        if objective.rule.balanced:
            slopes *= phi[:, objective.rule.groups][:, :, None]
        sums = sums_along(objective.design, slopes.transpose(0, 2, 1).reshape(b * K, n))
        return sums.reshape(b, -1), _spread(moved)

    def joint_gradient(self, rows, delta):
        """Gradient at ``θ̂ + δ`` without ``rows`` together, shape (n_params,).

        As that of :meth:`slope`; what the rows supplied is summed over short blocks, so that its
        rounding is within :func:`~skinfluence.methods.rounding.gradient_floor`.
        """
        objective = self.objective
        phi, rho = objective.rule.joint_factors(rows)
        factors = phi[objective.rule.groups]
        factors[rows] = 0.0
        moved = outputs_along(objective.design, delta.reshape(objective.n_outputs, -1)).T
        moved = np.where((objective.weights * factors > 0)[:, None], moved, 0.0)
        slopes = objective.loss.gradient_change(objective.outputs, moved, objective.y)
        slopes *= (objective.weights * factors)[:, None]
        gradient = sums_along(objective.design, slopes.T).ravel()
        gradient += rho * objective.penalty.ravel() * delta
        gradient += (rho - 1) * objective.penalty_gradient(objective.theta)
        changed = np.flatnonzero(factors != 1)
        released = [
            ((factors[part] - 1)[:, None] * objective.residuals[part]).T
            @ objective.design.block(part, np.float64)
            for part in (changed[piece] for piece in blocks(len(changed), BLOCK))
        ]
        return gradient + np.array(released).reshape(-1, len(gradient)).sum(axis=0)

    def minimum(self, rows, start):
        """Optimum without ``rows`` together, by damped Newton from ``θ̂ + start``, minus ``θ̂``."""
        objective = self.objective
        objective.check_removable(rows)
        phi, rho = objective.rule.joint_factors(rows)
        weights = objective.weights * phi[objective.rule.groups]
        weights[rows] = 0.0
        with objective.identified_without(rows):
            fit = objective.minimise(objective.theta + start, weights, rho)
        return fit.theta - objective.theta

    def leverages(self, rows):
        """Leverage blocks of the rows at the fit."""
        return self.objective.leverage_blocks(self.newton.solver, rows)

    def lengths(self, rows, delta):
        """``‖δ_i‖`` in the norm of ``M_i``."""
        objective = self.objective
        x = objective.design.block(rows, np.float64)
        own = np.einsum("ikj,ij->ik", delta.reshape(len(rows), objective.n_outputs, -1), x)
        S = objective.curvature_matrices(rows)
        squares = self.fitted_squares(delta) - np.einsum("ik,ikc,ic->i", own, S, own)
        return np.sqrt(np.maximum(0.0, squares))

    def fitted_squares(self, delta):
        """``δ_i' H δ_i``."""
        block = self.newton.solver.blocks_[0]
        parts = split_outputs(delta.T, block.repeats)
        if block.size > block.rows.n_rows:
            inner = block.rows.dot(parts)
            squares = (inner**2).sum(axis=0) + block.penalty @ parts**2
        else:
            squares = np.einsum("jb,jb->b", parts, self.matrix @ parts)
        return squares.reshape(block.repeats, -1).sum(axis=0)


def outputs_along(design, coef):
    """Outputs of all rows for each of ``coef`` (m, d): (m, n), contiguous along the rows."""
    if design.sparse or design.dtype != np.float64:
        return np.ascontiguousarray(design.predict(coef).T)
    if design.intercept is None:
        return coef @ design.X.T
    out = coef[:, :-1] @ design.X.T
    out += design.intercept * coef[:, -1:]
    return out


def sums_along(design, slopes):
    """``slopes @ rows`` for ``slopes`` of shape (m, n): (m, d)."""
    if design.sparse or design.dtype != np.float64:
        return np.ascontiguousarray(design.tdot(slopes.T).T)
    top = slopes @ design.X
    if design.intercept is None:
        return top
    return np.concatenate([top, design.intercept * slopes.sum(axis=1, keepdims=True)], axis=1)


def _spread(moved):
    """Largest move over the rows, for coupled outputs the largest range: (b,)."""
    if moved.shape[2] == 1:
        return np.maximum(moved.max(axis=1), -moved.min(axis=1))[:, 0]
    return (moved.max(axis=2) - moved.min(axis=2)).max(axis=1)
