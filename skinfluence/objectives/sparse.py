"""Linear predictors with an L1 penalty: ``F(θ) + Σ_j λ_j |θ_j|``, on the active set."""

import copy
import warnings

import numpy as np
from scipy.linalg import LinAlgError

from ..solvers.factor import PrimalFactor, PseudoFactor
from .linear import LinearObjective
from .linear_rows import FactoredRows
from .minimum import Minimum


class SparseObjective(LinearObjective):
    """A linear objective with an L1 penalty, differentiated on its active set.

    Parameters that are zero stay so to first order: ``H⁻¹`` is that of the active parameters,
    and zero elsewhere. A removal that changes the active set is seen by ``method="exact"`` only.

    Parameters
    ----------
    l1 : ndarray of shape (K, d)
        Weight of ``|θ_j|``. Zero for what is not penalised; such parameters are always active.

    Attributes
    ----------
    active : ndarray of shape (n_params,) of bool
        Parameters that are not zero, or not penalised.

    References
    ----------
    Lee, H., Battle, A., Raina, R. and Ng, A. (2007). Efficient sparse coding algorithms. NeurIPS.
    """

    restricted = True

    def __init__(self, *args, l1, **options):
        self.l1 = np.asarray(l1, dtype=np.float64).ravel()
        self._columns = None
        super().__init__(*args, **options)

    def value(self, theta, weights=None, rho=1.0, Z=None):
        """``F`` with its L1 penalty."""
        return super().value(theta, weights, rho, Z) + rho * (self.l1 @ np.abs(theta))

    def penalty_gradient(self, theta):
        """Gradient of the penalty; zero for the L1 penalty of a zero parameter."""
        return super().penalty_gradient(theta) + self.l1 * np.sign(theta)

    def on_rows(self, design, y, keep):
        """With the same L1 penalty."""
        l1 = self.resized(self.l1.reshape(self.n_outputs, -1), design.shape[1])
        base = copy.copy(self)
        base.l1, base._columns = l1.ravel(), None
        return LinearObjective.on_rows(base, design, y, keep)

    def gauge(self):
        """As without L1, but an L1 penalty holds a shift as a quadratic one does."""
        gauge = super().gauge()
        if gauge is None:
            return None
        free = (self.l1[:, None] * np.abs(gauge)).sum(axis=0) == 0
        return gauge[:, free] if free.any() else None

    def residual(self, theta, gradient, rho=1.0):
        """How far each parameter is from optimality, ``gradient`` with the L1 part at zero as 0."""
        slack = np.sign(gradient) * np.maximum(0, np.abs(gradient) - rho * self.l1)
        return np.where((theta != 0) | (self.l1 == 0), gradient, slack)

    def minimise(self, theta, weights=None, rho=1.0, *, max_iter=100):
        """Proximal Newton: each quadratic model is minimised exactly, its active set included.

        Raises
        ------
        ValueError
            If no finite minimum is reached.
        """
        start, first_norm, decrement = theta, None, np.inf
        if not self.value(theta, weights, rho) <= self.value(np.zeros_like(theta), weights, rho):
            theta = np.zeros_like(theta)  # a solver that diverged
        for n_steps in range(max_iter + 1):  # noqa: B007
            Z = self.predict(theta)
            gradient = self.gradient(theta, weights, rho, Z)
            norm = float(np.abs(self.residual(theta, gradient, rho)).max(initial=0.0))
            first_norm = norm if first_norm is None else first_norm
            block = self.quadratic(theta, weights, rho, Z)
            target = self._model_minimum(theta, gradient, block, rho)
            step = target - theta
            last, decrement = decrement, _length(step, block)
            size = _length(theta, block)
            if decrement <= 1e-14 * size or norm == 0:
                break
            if decrement <= 1e-9 * size and decrement > 0.3 * last:
                break  # rounding: the steps no longer shrink
            theta = self._descend(theta, step, target, gradient, decrement, weights, rho)
        else:
            raise ValueError(
                f"no minimum was reached in {max_iter} proximal Newton steps (optimality residual "
                f"{norm:.1e}): are the classes separable along an unpenalised direction?"
            )
        moved = _length(theta - start, block) / max(size, 1e-300)
        moved = moved if np.isfinite(moved) else np.inf
        return Minimum(theta, first_norm, n_steps, moved, block)

    def _descend(self, theta, step, target, gradient, decrement, weights, rho):
        """The model's minimum, or a point on the way to it where the value falls enough."""
        value = self.value(theta, weights, rho)
        if decrement**2 <= 1e-9 * max(1.0, abs(value)):
            return target
        size = 1.0
        while size > 1e-10:
            point = target if size == 1 else theta + size * step
            if self.value(point, weights, rho) <= value - 0.1 * size * decrement**2:
                return point
            size /= 2
        return theta + size * step

    def _model_minimum(self, theta, gradient, block, rho):
        """Minimum of the quadratic model at ``theta`` with the L1 penalty: feature-sign search.

        On the active set with its signs the model is smooth: step to its minimum there, or to
        the first parameter that reaches zero, which leaves the set. Then let in the parameter
        that violates optimality most, until none does.
        """
        l1 = rho * self.l1
        point, signs = theta.copy(), np.sign(theta)
        slope = gradient - l1 * signs  # of the smooth part
        active = (l1 == 0) | (signs != 0)
        entered, barred = None, np.zeros(len(theta), dtype=bool)
        tolerance = 1e-12 * max(float(l1.max(initial=0.0)), float(np.abs(gradient).max()))
        cache = ActiveCurvature(self, block)
        for _ in range(20 * len(theta) + 100):
            index = np.flatnonzero(active)
            factor = self._active_factor(cache.of(index), index, ridge=True)
            step = -factor.solve((slope + l1 * signs)[index, None])[:, 0]
            step, leaves = _first_zero(point[index], step, signs[index], l1[index])
            point[index] += step
            slope[index] += block.penalty[index] * step
            slope += cache.pushed(index, step)
            if leaves is not None:
                j = index[leaves]
                point[j], signs[j], active[j] = 0.0, 0.0, False
                barred[j] |= j == entered  # its violation was rounding
                continue
            excess = np.where(active | barred, 0.0, np.abs(slope) - l1)
            entered = int(excess.argmax())
            if excess[entered] <= tolerance:
                return point
            active[entered], signs[entered] = True, -np.sign(slope[entered])
        raise ValueError("the active set did not settle: are columns of X linearly dependent?")

    # -- the active set --------------------------------------------------------------------
    def _settle(self, fit):
        if self._shiftable(fit.theta):
            self.strictly_convex = False
            warnings.warn(
                "with an even number of classes and L1 alone, a shift common to the classes' "
                "coefficients of a feature costs nothing: decision values of single classes are "
                "not identified. Influence on losses and probabilities is right; use l1_ratio < 1 "
                "for decision values.",
                UserWarning,
                stacklevel=2,
            )
        super()._settle(fit)

    def _shiftable(self, theta):
        """Whether ``Σ_k |w_kj + c|`` is flat in ``c``: an even K with distinct middle values."""
        K = self.n_outputs
        if self.loss.scalar or K % 2:
            return False
        middle = np.sort(theta.reshape(K, self.d), axis=0)[K // 2 - 1 : K // 2 + 1]
        held = (self.penalty > 0).any(axis=0) | (self.l1.reshape(K, self.d) == 0).any(axis=0)
        return bool((~held & (middle[1] > middle[0])).any())

    def _stationarity(self):
        return self.residual(self.theta, super()._stationarity())

    def _set_theta(self, theta):
        super()._set_theta(theta)
        self.active = (theta != 0) | (self.l1 == 0)

    def _factor(self, block):
        """``H⁻¹`` on the active parameters."""
        index = np.flatnonzero(self.active)
        factor = self._active_factor(ActiveCurvature(self, block).of(index), index)
        if isinstance(factor, PseudoFactor):
            self.rank_deficient, self.strictly_convex = True, False
        return ActiveFactor(factor, index)

    def _active_factor(self, matrix, index, ridge=False):
        gauge = self.gauge()
        try:
            return PrimalFactor(matrix, None if gauge is None else gauge[index])
        except LinAlgError:
            if not ridge:
                return PseudoFactor(matrix, None if gauge is None else gauge[index])
            # dependent columns: a long step along them, cut short where one reaches zero
            small = 1e-10 * max(float(np.diag(matrix).max()), 1e-300)
            return PrimalFactor(matrix + small * np.eye(len(matrix)))

    def curvature_columns(self, rows, index):
        """Columns ``index`` of the curvature rows ``B``, dense."""
        k, j = np.divmod(index, self.d)
        x = self._design_columns(j)
        if isinstance(rows, FactoredRows):
            parts = rows.factors().transpose(0, 2, 1)[:, :, k] * x[:, None, :]
            return parts.reshape(-1, len(index))
        return rows.roots[:, None] * x

    def _design_columns(self, j):
        """Columns of the design, float64, the intercept last."""
        if self._columns is None:
            X = self.design.X
            self._columns = X.tocsc() if self.design.sparse else np.asfortranarray(X, np.float64)
        if self.design.intercept is None:
            return self._dense(self._columns[:, j])
        out = np.full((self.n_rows, len(j)), self.design.intercept)
        own = j < self.d - 1
        out[:, own] = self._dense(self._columns[:, j[own]])
        return out

    def _dense(self, part):
        part = part.toarray() if self.design.sparse else part
        return part.astype(np.float64, copy=False)


class ActiveCurvature:
    """The Hessian of active parameters, grown a column at a time as parameters come in.

    Held beside it, of every known parameter: its column of ``BᵀB``, or of the curvature rows ``B``
    where those are fewer than parameters.
    """

    def __init__(self, objective, block):
        self.objective, self.block = objective, block
        self.known = self.order = np.empty(0, dtype=np.intp)
        height = block.size if block.primal else block.rows.n_rows
        self.columns, self.matrix = np.empty((height, 0)), np.empty((0, 0))

    def of(self, index):
        """The Hessian of the parameters ``index``."""
        new = np.setdiff1d(index, self.known)
        if len(new):
            self._grow(new)
        place = self._place(index)
        return self.matrix[np.ix_(place, place)]

    def pushed(self, index, step):
        """``BᵀB`` times a step of the parameters ``index``, which are known."""
        place = self._place(index)
        if self.block.primal:
            return self.columns[:, place] @ step
        return self.block.rows.tdot((self.columns[:, place] @ step)[:, None])[:, 0]

    def _place(self, index):
        return self.order[np.searchsorted(self.known, index, sorter=self.order)]

    def _grow(self, new):
        if self.block.primal:
            units = np.zeros((self.block.size, len(new)))
            units[new, np.arange(len(new))] = 1.0
            columns = self.block.rows.gram_product(units)
            corner = columns[new]
        else:
            columns = self.objective.curvature_columns(self.block.rows, new)
            corner = columns.T @ columns
        corner = (corner + corner.T) / 2 + np.diag(self.block.penalty[new])
        if len(self.known):
            side = columns[self.known].T if self.block.primal else columns.T @ self.columns
            self.matrix = np.block([[self.matrix, side.T], [side, corner]])
            self.columns = np.hstack([self.columns, columns])
        else:
            self.matrix, self.columns = corner, columns
        self.known = np.append(self.known, new)
        self.order = self.known.argsort()


class ActiveFactor:
    """A factor of the active parameters' block, zero elsewhere."""

    form = "active set"

    def __init__(self, factor, index):
        self.factor, self.index = factor, index

    def solve(self, V):
        """``H⁻¹ V`` on the active parameters, zero elsewhere."""
        out = np.zeros(V.shape)
        out[self.index] = self.factor.solve(V[self.index])
        return out

    def root(self, V):
        """``R' V`` of the active parameters."""
        return self.factor.root(V[self.index])


def _first_zero(point, step, signs, l1):
    """The step up to the first penalised parameter that reaches zero, and which one (or None)."""
    moved = point + step
    crossing = np.flatnonzero((l1 > 0) & (moved * signs <= 0))
    if len(crossing) == 0:
        return step, None
    ratios = -point[crossing] / step[crossing]
    first = int(ratios.argmin())
    return float(ratios[first]) * step, int(crossing[first])


def _length(direction, block):
    """Length in the norm of the Hessian, without forming it: columns may be many."""
    inner = block.rows.dot(direction[:, None])
    return float(np.sqrt((inner**2).sum() + (block.penalty * direction**2).sum()))
