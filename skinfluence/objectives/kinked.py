"""Linear predictors with a piecewise linear loss: hinge, ε-insensitive tube.

Each row has a dual variable ``β_i``, a slope of its weighted loss. Rows at a kink are *pinned*:
their output stays while ``β_i`` moves within its bounds. The others have a fixed slope and no
curvature. All that moves is the solution of ``Λ dθ + A_M' dβ = v``, ``A_M dθ = 0``.
"""

import copy

import numpy as np
from scipy.linalg import LinAlgError, eigh

from ..gradients import KroneckerRows
from ..solvers.factor import QuadraticBlock
from .linear import LinearObjective
from .linear_rows import ScaledRows
from .losses import Loss
from .minimum import Minimum
from .piecewise import exact_step


class KinkLoss(Loss):
    """A convex loss of ``u`` with linear pieces: the sum of ``slope_k (u - kink_k)_±``."""

    smooth = False

    def kinks(self, y):
        """Kinks in the output and slopes left and right of each: three arrays (n_kinks, n)."""
        raise NotImplementedError

    def gradient(self, Z, y):
        """A slope; at a kink that of the flat side."""
        slopes = np.zeros(Z.shape[:-1])
        for kink, low, high in zip(*self.kinks(np.asarray(y, dtype=float)), strict=True):
            slopes = (
                slopes + np.where(Z[..., 0] < kink, low, 0) + np.where(Z[..., 0] > kink, high, 0)
            )
        return slopes[..., None]

    def curvature(self, Z, y):
        """0."""
        return np.zeros(Z.shape[:-1])


class Hinge(KinkLoss):
    """``max(0, 1 - y z)`` for ``y`` in {-1, 1}."""

    def value(self, Z, y):
        """Hinge."""
        return np.maximum(0, 1 - y * Z[..., 0])

    def kinks(self, y):
        """One, where the margin is 1."""
        return y[None], np.where(y > 0, -1.0, 0.0)[None], np.where(y > 0, 0.0, 1.0)[None]


class Tube(KinkLoss):
    """``max(0, |z - y| - ε)``."""

    def __init__(self, epsilon):
        self.epsilon = epsilon

    def value(self, Z, y):
        """Distance from the tube."""
        return np.maximum(0, np.abs(Z[..., 0] - y) - self.epsilon)

    def kinks(self, y):
        """Two, at the edges of the tube."""
        zero = np.zeros(y.shape)
        edges = np.stack([y - self.epsilon, y + self.epsilon])
        return edges, np.stack([zero - 1, zero]), np.stack([zero, zero + 1])


class KinkedObjective(LinearObjective):
    """A piecewise linear loss of a linear predictor with a quadratic penalty, one output.

    Attributes
    ----------
    dual : ndarray of shape (n,)
        ``β_i``, with ``Λθ + A'β = 0``.
    pinned : ndarray of shape (n,) of bool
        Rows at a kink: their removal has no effect to first order, though it has one.
    """

    # With few pinned rows one Newton step (the span rule) is far off; the optimum costs little.
    default_method = "exact"
    restricted = True
    dual = None
    pinned = None

    def minimise(self, theta, weights=None, rho=1.0, *, max_iter=200):
        """Proximal multipliers with semismooth Newton steps, and a solve on the pinned rows.

        Each round smooths the kinks by a Moreau envelope around the duals so far. Once it finds
        which rows are pinned, one linear system gives the optimum, which is then verified.

        References
        ----------
        Rockafellar, R. T. (1976). Augmented Lagrangians and applications of the proximal point
        algorithm in convex programming. Mathematics of Operations Research 1.

        Raises
        ------
        ValueError
            If the optimum is not reached, or leaves the intercept undetermined.
        """
        weights = self.weights if weights is None else weights
        start, penalty = theta, rho * self.penalty[0]
        kinks, low, high = self.loss.kinks(np.asarray(self.y))
        low, high = weights * low, weights * high
        dual, scale = self._first_dual(theta, weights, kinks, low, high)
        width = 0.1 * scale / max(float(np.median(weights[weights > 0])), 1e-300)
        narrowest = 1e-6 * width
        norm = float(np.abs(penalty * theta + self._push(dual)).max())
        for n_steps in range(1, max_iter + 1):  # noqa: B007
            zone = (kinks, low, high, width)
            theta, dual, inside = self._smoothed(theta, dual, zone, penalty)
            point, point_dual = self._crossover(theta, dual, inside, kinks, penalty)
            if self.optimal(point, point_dual, kinks, low, high, scale):
                break
            width = max(0.7 * width, narrowest)
        else:
            raise ValueError(
                f"no minimum of the piecewise linear loss was reached in {max_iter} rounds: scale "
                "the columns of X"
            )
        pinned = inside.any(axis=0)
        if not pinned.any() and (penalty == 0).any():
            raise ValueError(
                "no row lies at a kink of the loss: the unpenalised intercept is not identified. "
                "Use LinearSVC or LinearSVR, which penalise it, or a squared loss"
            )
        block = QuadraticBlock(penalty, ScaledRows(self.design, np.sqrt(pinned * 1.0)))
        moved = block.length(point - start) / max(block.length(point), 1e-300)
        return KinkedMinimum(point, norm, n_steps, moved, point_dual, pinned)

    def on_rows(self, design, y, keep):
        """From the duals of the rows that stay."""
        base = copy.copy(self)
        base.dual, base.pinned = self.dual[keep], self.pinned[keep]
        return LinearObjective.on_rows(base, design, y, keep)

    def _first_dual(self, theta, weights, kinks, low, high):
        """Slopes to start from, and the scale of distances from a kink."""
        outputs = self.predict(theta)[:, 0]
        dual = self.dual
        if dual is None:
            dual = weights * self.loss.gradient(outputs[:, None], self.y)[:, 0]
        distance = float(np.median(np.abs(outputs - kinks).min(axis=0)))
        scale = max(distance, 1e-3 * float(np.std(kinks)), 1e-300)
        return np.clip(dual, low.sum(axis=0), high.sum(axis=0)), scale

    def _push(self, dual):
        return self.design.tdot(dual[:, None])[:, 0]

    def _smoothed(self, theta, dual, zone, penalty):
        """Minimum with smoothed kinks: its parameters, duals and the rows inside a kink's zone."""
        kinks, low, high, width = zone

        def slopes(theta):
            raw = (self.predict(theta)[:, 0] + width * dual - kinks) / width
            return np.clip(raw, low, high).sum(axis=0), (raw > low) & (raw < high)

        size = max(float(np.abs(self._push(np.abs(dual))).max()), 1e-300)
        for _ in range(100):
            moved, inside = slopes(theta)
            gradient = penalty * theta + self._push(moved)
            if np.abs(gradient).max() <= 1e-13 * size:
                break
            roots = np.sqrt(inside.any(axis=0) / width)
            step = self._smooth_factor(penalty, roots).solve(gradient[:, None])[:, 0]

            def slope(t, theta=theta, step=step):
                point = theta - t * step
                return (penalty * point + self._push(slopes(point)[0])) @ step

            last, theta = theta, theta - exact_step(slope) * step
            if np.abs(theta - last).max() <= 1e-15 * np.abs(theta).max():
                break
        moved, inside = slopes(theta)
        return theta, moved, inside

    def _smooth_factor(self, penalty, roots):
        rows = ScaledRows(self.design, roots)
        try:
            return QuadraticBlock(penalty, rows).factorise()
        except LinAlgError:  # no row holds the intercept: any curvature gives a descent direction
            return QuadraticBlock(np.maximum(penalty, 1e-6 * penalty.max()), rows).factorise()

    def _crossover(self, theta, dual, inside, kinks, penalty):
        """Exact solution with the pinned rows at their kinks and the others' slopes kept."""
        pinned = np.flatnonzero(inside.any(axis=0))
        factor = PinnedFactor(self.design.block(pinned, np.float64), penalty)
        gradient = penalty * theta + self._push(dual)
        targets = kinks[inside[:, pinned].argmax(axis=0), pinned]
        gap = targets - self.predict(theta)[pinned, 0]
        step, push = factor.saddle(-gradient[:, None], gap[:, None])
        dual = dual.copy()
        dual[pinned] += push[:, 0]
        return theta + step[:, 0], dual

    def optimal(self, theta, dual, kinks, low, high, scale, tolerance=1e-9):
        """Whether each dual is a slope of its row's loss at its output."""
        gap = self.predict(theta)[:, 0] - kinks
        slack = tolerance * scale
        least = np.where(gap > slack, high, low).sum(axis=0)
        most = np.where(gap < -slack, low, high).sum(axis=0)
        room = tolerance * np.maximum(high - low, 1e-300).sum(axis=0)
        return bool(((dual >= least - room) & (dual <= most + room)).all())

    def _settle(self, fit):
        self.dual, self.pinned = fit.dual, fit.pinned
        super()._settle(fit)

    def _stationarity(self):
        return self.penalty[0] * self.theta + self._push(self.dual)

    def _set_theta(self, theta):
        super()._set_theta(theta)
        if self.dual is not None:
            self.residuals = np.where(self.pinned, 0.0, self.dual)[:, None]

    def removal_gradients(self):
        """``β_i x_i``, zero for pinned rows, plus what the removal rule moves."""
        rows = super().removal_gradients()
        return KroneckerRows(self.design, self.residuals, rows.coefficients, rows.basis)

    # -- the solver's side -----------------------------------------------------------------
    def quadratic_blocks(self):
        """The penalty: pinned rows have no finite curvature, the others none."""
        return [QuadraticBlock(self.penalty[0], ScaledRows(self.design, np.zeros(self.n_rows)))]

    def factorise_blocks(self, parts):
        """The inverse with the pinned rows' outputs held."""
        rows = self.design.block(np.flatnonzero(self.pinned), np.float64)
        return [PinnedFactor(rows, self.penalty[0])]

    def hessian(self):
        """Refused: rows at a kink have no finite curvature."""
        raise ValueError("a piecewise linear loss has no Hessian; use solver='direct'")

    def hessian_product(self, V):
        """Refused, as :meth:`hessian`."""
        self.hessian()

    def output_leverages(self, solver, rows):
        """Zero: no row's own curvature holds back its first-order effect."""
        return np.zeros(len(rows))


class KinkedMinimum(Minimum):
    """A minimum with its dual variables and pinned rows."""

    def __init__(self, theta, norm_start, n_steps, distance, dual, pinned):
        super().__init__(theta, norm_start, n_steps, distance, None)
        self.dual, self.pinned = dual, pinned


class PinnedFactor:
    """The saddle system ``[[Λ, A'], [A, 0]]`` of pinned rows ``A`` of shape (m, d).

    Penalised parameters are eliminated: what is left has a row for each pinned row and each
    unpenalised parameter. Duplicated rows leave it singular; a pseudo-inverse splits their push.
    """

    form = "pinned rows"

    def __init__(self, rows, penalty):
        self.rows, self.free = rows, np.flatnonzero(penalty == 0)
        self.inverse_penalty = np.divide(1, penalty, out=np.zeros(len(penalty)), where=penalty > 0)
        m = len(rows)
        system = np.zeros((m + len(self.free),) * 2)
        system[:m, :m] = (rows * self.inverse_penalty) @ rows.T
        system[:m, m:] = -rows[:, self.free]
        system[m:, :m] = system[:m, m:].T
        self._inverse = _symmetric_inverse(system)

    def saddle(self, V, T):
        """``(dθ, dβ)`` with ``Λ dθ + A' dβ = V`` and ``A dθ = T``."""
        m = len(self.rows)
        scaled = self.inverse_penalty[:, None] * V
        both = self._inverse @ np.concatenate([self.rows @ scaled - T, -V[self.free]])
        out = scaled - self.inverse_penalty[:, None] * (self.rows.T @ both[:m])
        out[self.free] = both[m:]
        return out, both[:m]

    def solve(self, V):
        """``dθ`` with the pinned rows' outputs held."""
        return self.saddle(V, np.zeros((len(self.rows), V.shape[1])))[0]

    def release(self):
        """``(N, S)``: ``dθ`` and ``-dβ`` when the outputs of the pinned rows move by one."""
        m = len(self.rows)
        step, push = self.saddle(np.zeros((self.rows.shape[1], m)), np.eye(m))
        return step, -push


def _symmetric_inverse(matrix):
    """The inverse, or the pseudo-inverse of a matrix that is singular to working precision."""
    if len(matrix) == 0:
        return matrix
    try:
        inverse = np.linalg.inv(matrix)
        if np.abs(inverse).sum(axis=1).max() * np.abs(matrix).sum(axis=1).max() < 1e11:
            return inverse
    except LinAlgError:
        pass
    values, vectors = eigh(matrix)
    keep = np.abs(values) > 1e-12 * np.abs(values).max()
    return (vectors[:, keep] / values[keep]) @ vectors[:, keep].T
