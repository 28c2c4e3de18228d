"""The minimum of a linear predictor's objective, by line-searched Newton steps."""

from dataclasses import dataclass

import numpy as np

from .._blocks import blocks
from ..solvers.factor import PseudoFactor, QuadraticBlock, solve_repeated
from .design import CACHED_ROWS
from .linear_rows import ScaledRows


@dataclass
class Minimum:
    """Result of :meth:`NewtonDescent.minimise`."""

    theta: np.ndarray
    gradient_norm_start: float
    n_steps: int
    distance: float  # length of the whole move over that of θ, in the norm of the Hessian
    block: QuadraticBlock  # the Hessian at the last step's start


class NewtonDescent:
    """Mixin of :class:`~skinfluence.objectives.linear.LinearObjective`: the way to its minimum."""

    def minimise(self, theta, weights=None, rho=1.0, *, max_iter=100):
        """Line-searched Newton from ``theta`` to the minimum of ``F``.

        Raises
        ------
        ValueError
            If no finite minimum is reached: separable classes without a penalty.
        """
        start, first_norm, decrement, value = theta, None, np.inf, None
        size, ahead = 1.0, np.inf
        for n_steps in range(max_iter + 1):  # noqa: B007
            # Where the step ahead is short but not yet the last, the Hessian at hand serves
            chord = self.loss.smooth and 1e-11 * size < ahead <= 1e-4 * size
            if chord:
                Z, gradient = self.slope_model(theta, weights, rho)
            else:
                Z, gradient, block = self.local_model(theta, weights, rho)
                factor = None
            _check_finite(gradient)
            norm = float(np.abs(gradient).max(initial=0.0))
            first_norm = norm if first_norm is None else first_norm
            factor = self._factor(block) if factor is None else factor
            step = solve_repeated(factor, gradient[:, None], block.repeats)[:, 0]
            last, decrement = decrement, np.sqrt(max(0.0, float(gradient @ step)))
            size = block.length(theta)
            # Newton's steps square, those of a Hessian made before shrink by a ratio
            ahead = np.inf
            if 0 < decrement <= 0.1 * last and size > 0:
                ahead = 2 * decrement**2 / last if chord else decrement**2 / size
            if not chord and (decrement <= 1e-14 * size or norm == 0):
                break
            last_step = not chord and decrement <= 1e-9 * size
            if last_step and decrement > 0.3 * last:
                break  # rounding: the gradient no longer falls
            # Close to the minimum a full step descends (a longer one after it says if not);
            # closer still, differences of values would resolve nothing.
            far = decrement > (1e-2 if self.loss.smooth else 1e-3) * size or decrement > last
            if far and (value is None or decrement**2 > 1e-9 * max(1.0, abs(value))):
                value = self.value(theta, weights, rho, Z)
                step = self._step_size(theta, value, step, decrement, weights, rho) * step
            theta = theta - step
            if self.loss.smooth and last_step:
                break  # the step just taken was the last: its error is the square of its size
        else:
            raise ValueError(
                f"no minimum was reached in {max_iter} Newton steps (gradient norm {norm:.1e}): "
                "are the classes separable without a penalty? Use a finite C or a positive alpha"
            )
        self._check_bounded(theta, step, factor)
        moved = block.length(theta - start) / max(size, 1e-300)
        return Minimum(theta, first_norm, n_steps, moved, block)

    def slope_model(self, theta, weights=None, rho=1.0):
        """Outputs and gradient at ``theta``; dense rows are read once for both."""
        if not self.design.one_pass:
            Z = self.predict(theta)
            return Z, self.gradient(theta, weights, rho, Z)
        weights = self.weights if weights is None else weights
        coef = theta.reshape(self.n_outputs, self.d)
        Z = np.empty((self.n_rows, self.n_outputs))

        def part(rows):
            design = self.design.double(rows)
            Z[rows] = design.predict(coef)
            return (design.tdot(self.loss.gradient(Z[rows], self.y[rows]) * weights[rows, None]),)

        (slopes,) = self.design.sums(part)
        return Z, slopes.T.ravel() + rho * self.penalty_gradient(theta)

    def _check_bounded(self, theta, step, factor):
        """Refuse outputs on their way to infinity, where gradient and curvature fade alike.

        Each Newton step then moves them by about one; or the curvature along the way is so small
        that a pseudo-inverse has left it out, though rows do move along it.
        """
        if not self.loss.smooth or self.loss.relative_bounds == (0.0, 0.0, 0.0):
            return
        free = (self.penalty == 0).all(axis=0)
        if not (free if self.design.intercept is None else free[:-1]).any():
            return  # an intercept alone stays finite while there are rows of both kinds
        null = factor.null if isinstance(factor, PseudoFactor) else np.empty((len(theta), 0))
        n_running, curvature, weight, *moves = self._running(theta, step, null)
        if n_running or (np.array(moves) * curvature > 1e-6 * weight).any():
            raise ValueError(
                "no finite minimum was reached: some fitted probabilities or means go to their "
                "limits. Are classes separable along a direction without a penalty? Use a finite "
                "C or a positive alpha"
            )

    def _running(self, theta, step, null):
        return running_rows(self, theta, step, null)

    def differences(self, direction):
        """Outputs of a direction; where only differences of outputs count, from their mean."""
        out = self.predict(direction)
        return out if self.loss.scalar else out - out.mean(axis=1, keepdims=True)

    def local_model(self, theta, weights=None, rho=1.0):
        """Outputs, gradient and Hessian at ``theta``: ``(Z, gradient, QuadraticBlock)``.

        Dense rows of a scalar loss are read once for all three.
        """
        one_pass = self.loss.scalar and self.design.one_pass and self.d <= self.n_rows
        if not one_pass:
            Z, gradient = self.slope_model(theta, weights, rho)
            return Z, gradient, self.quadratic(theta, weights, rho, Z)
        weights = self.weights if weights is None else weights
        coef = theta.reshape(self.n_outputs, self.d)
        Z, roots = np.empty((self.n_rows, self.n_outputs)), np.empty(self.n_rows)

        def part(rows):
            design, y, w = self.design.double(rows), self.y[rows], weights[rows]
            z = design.predict(coef)
            slopes = self.loss.gradient(z, y) * w[:, None]
            Z[rows], roots[rows] = z, np.sqrt(w * self.loss.curvature(z, y))
            x = design.scaled(roots[rows])
            return design.tdot(slopes), x.T @ x

        slopes, gram = self.design.sums(part)
        penalty = rho * self.penalty
        gram[np.diag_indices_from(gram)] += penalty[0]
        rows = ScaledRows(self.design, roots)
        block = QuadraticBlock(penalty[0], rows, None, self.n_outputs, gram)
        return Z, slopes.T.ravel() + rho * self.penalty_gradient(theta), block

    def _step_size(self, theta, value, step, decrement, weights, rho):
        if decrement**2 <= 1e-9 * max(1.0, abs(value)):
            return 1.0
        size = 1.0
        while size > 1e-10:
            if self.value(theta - size * step, weights, rho) <= value - 0.1 * size * decrement**2:
                return size
            size /= 2
        return size


def _check_finite(gradient):
    if not np.isfinite(gradient).all():
        raise ValueError(
            "the gradient is not finite at the estimator's parameters: its fit diverged. "
            "Scale the columns and the targets, or raise max_iter"
        )


def running_rows(objective, theta, step, null):
    """How rows move: sums over rows, which may lie in shards.

    The number whose outputs a ``step`` still moves visibly; curvature and weight of all; and the
    squared moves along each direction of ``null`` (n_params, q): (3 + q,).
    """
    weights, loss, Z = objective.weights, objective.loss, objective.predict(theta)
    moved = np.abs(objective.differences(step)).max(axis=1)
    running = (moved > 1e-3 * np.maximum(1.0, np.abs(Z).max(axis=1))) & (weights > 0)
    if null.shape[1]:
        curvature = loss.curvature(Z, objective.y) if loss.scalar else np.empty(len(Z))
        if not loss.scalar:
            for rows in blocks(len(Z), CACHED_ROWS):
                matrices = loss.curvature_matrix(Z[rows], objective.y[rows])
                curvature[rows] = np.trace(matrices, axis1=1, axis2=2)
        curvature = weights @ curvature
    else:
        curvature = 0.0
    squares = [weights @ (objective.differences(v) ** 2).sum(axis=1) for v in null.T]
    return np.array([running.sum(), curvature, weights.sum(), *squares])
