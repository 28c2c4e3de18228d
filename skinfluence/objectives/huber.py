"""Huber regression: the scale is a parameter, fitted with the coefficients."""

import copy
import warnings

import numpy as np
from scipy.linalg import LinAlgError
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import HuberRegressor

from .._blocks import blocks
from ..gradients import KroneckerRows
from ..solvers.factor import PseudoFactor, QuadraticBlock
from .base import Objective, Queries, objective_for
from .design import ColumnDesign, Design
from .heads import RegressionHead
from .linear_rows import ScaledRows
from .losses import Loss
from .minimum import Minimum
from .piecewise import exact_step
from .rules import RemovalRule, row_weights


@objective_for.register(HuberRegressor)
def huber_objective(estimator, X, y, sample_weight=None):
    """``Σ s_i (σ + σ H(r_i / σ)) + α‖w‖²`` over coefficients, intercept and ``σ``."""
    return HuberObjective(estimator, X, y, sample_weight)


class ScaledHuber(Loss):
    """``σ + σ H(r / σ)`` of outputs ``(z, σ)``.

    ``H(u) = u²`` up to ``ε``, ``2ε|u| - ε²`` beyond.
    """

    scalar = False
    smooth = False

    def __init__(self, epsilon):
        self.epsilon = epsilon

    def value(self, Z, y):
        """Loss."""
        size, sigma = np.abs(y - Z[..., 0]), Z[..., 1]
        outer = (1 - self.epsilon**2) * sigma + 2 * self.epsilon * size
        return np.where(size < self.epsilon * sigma, sigma + size**2 / sigma, outer)

    def gradient(self, Z, y):
        """Derivatives with respect to ``z`` and ``σ``."""
        u = np.clip((y - Z[..., 0]) / Z[..., 1], -self.epsilon, self.epsilon)
        return np.stack([-2 * u, 1 - u**2], axis=-1)


class HuberHead(RegressionHead):
    """One target, two outputs: the prediction and the scale."""

    def explained_index(self, Z, y):
        """The prediction."""
        return np.zeros(len(Z), dtype=np.intp)


class HuberObjective(Objective):
    """Huber regression with its concomitant scale, jointly convex.

    Parameters are the coefficients, ``scale`` and the intercept, in this order. Outputs are the
    prediction and the scale: ``Decision(output=1)`` explains the scale. A row within ``ε σ`` has
    the rank-one curvature ``2 s_i / σ`` along ``(x_i, r_i / σ, 1)``, an outlier none.

    References
    ----------
    Owen, A. B. (2007). A robust hybrid of lasso and ridge regression.
    """

    n_outputs = 2
    feature_names = None

    def __init__(self, estimator, X, y, sample_weight=None):
        self.loss = ScaledHuber(estimator.epsilon)
        self.head = HuberHead(self.loss)
        self.y = self.head.encode(y)
        self.n_rows = len(self.y)
        self.weights = row_weights(sample_weight, self.n_rows)
        self.design = Design(X, 1.0 if estimator.fit_intercept else None)
        self.dtype = self.design.dtype
        self.n_params = self.design.shape[1] + 1
        self.n_features = X.shape[1]
        self.penalty = np.zeros(self.n_params)
        self.penalty[: self.n_features] = 2 * estimator.alpha
        self.rule = RemovalRule(self.n_rows)
        self.strictly_convex = True
        self._polish(self.read_parameters(estimator))

    # -- the function ----------------------------------------------------------------------
    def predict(self, theta):
        """Outputs of the training rows: prediction and scale, (n, 2)."""
        return self._outputs(self.design, theta)

    def gradient(self, theta, weights):
        """``∇F``."""
        slopes = self.loss.gradient(self.predict(theta), self.y) * weights[:, None]
        inner = self.design.tdot(slopes[:, :1])[:, 0]
        return np.insert(inner, self.n_features, slopes[:, 1].sum()) + self.penalty * theta

    def _gradient_mass(self, theta, weights):
        """Sums of the absolute terms of :meth:`gradient`: what its entries cancel from."""
        Z = self.predict(theta)
        slopes = np.abs(self.loss.gradient(Z, self.y) * weights[:, None])
        inner = np.zeros(self.design.shape[1])
        for rows in blocks(self.n_rows, self.design.block_length()):
            inner += slopes[rows, 0] @ np.abs(self.design.block(rows, np.float64))
        # the scale's slope is a difference of the weight and the squared residual
        own = slopes[:, 1].sum() + weights.sum()
        return np.insert(inner, self.n_features, own) + np.abs(self.penalty * theta)

    def quadratic(self, theta, weights):
        """``∇²F`` as a :class:`~skinfluence.solvers.factor.QuadraticBlock`."""
        design, curvatures = self._curvature_rows(theta, weights)
        return QuadraticBlock(self.penalty, ScaledRows(design, np.sqrt(curvatures)))

    def minimise(self, theta, weights=None, rho=1.0, *, max_iter=200):
        """Newton steps with an exact line search that keeps the scale positive.

        Raises
        ------
        ValueError
            If the scale falls to zero, or no minimum is reached.
        """
        weights = self.weights if weights is None else weights
        start, first, decrement = theta, None, np.inf
        for n_steps in range(max_iter + 1):  # noqa: B007
            gradient = self.gradient(theta, weights)
            norm = float(np.abs(gradient).max())
            first = norm if first is None else first
            block = self.quadratic(theta, weights)
            step = self._factor(block).solve(gradient[:, None])[:, 0]
            last, decrement = decrement, np.sqrt(max(0.0, float(gradient @ step)))
            size = block.length(theta)
            rounding = decrement <= 1e-9 * size and decrement > 0.3 * last
            if decrement <= 1e-14 * size or rounding:
                break
            theta = theta - self._step_size(theta, step, weights) * step
        else:
            raise ValueError(_unreached(max_iter, norm))
        if theta[self.n_features] < 1e-10 * np.abs(self.y).max(initial=0.0):
            raise ValueError("the fitted scale is zero: the inlying rows are fitted exactly")
        if (np.abs(gradient) > 1e-6 * self._gradient_mass(theta, weights)).any():
            raise ValueError(_unreached(n_steps, norm))
        moved = block.length(theta - start) / max(size, 1e-300)
        return Minimum(theta, first, n_steps, moved, block)

    def _step_size(self, theta, step, weights):
        scale, fall = theta[self.n_features], step[self.n_features]
        longest = 1.0 if fall <= 0 else min(1.0, 0.9 * scale / fall)
        return exact_step(lambda t: self.gradient(theta - t * step, weights) @ step, longest)

    def _factor(self, block):
        try:
            return block.factorise()
        except LinAlgError:
            self.strictly_convex = False
            return PseudoFactor(block.matrix())

    def _polish(self, theta):
        fit = self.minimise(theta)
        self.theta = fit.theta
        self.gradient_norm_fitted = fit.gradient_norm_start
        self.gradient_norm = float(np.abs(self.gradient(self.theta, self.weights)).max())
        self.outputs = self.predict(self.theta)
        self.residuals = self.loss.gradient(self.outputs, self.y) * self.weights[:, None]
        self.curvature_design, self.curvatures = self._curvature_rows(self.theta, self.weights)
        if fit.distance > 1e-2:
            warnings.warn(
                f"the fit was not at its optimum: Newton steps moved the parameters by "
                f"{fit.distance:.1%}. Influences are those of the optimum; fit with a smaller tol "
                "or more iterations to have the model agree.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def _curvature_rows(self, theta, weights):
        """Rows ``(x_i, r_i / σ, 1)`` and their curvatures, zero for outliers."""
        Z = self.predict(theta)
        sigma = theta[self.n_features]
        ratio = (self.y - Z[:, 0]) / sigma
        inside = np.abs(ratio) < self.loss.epsilon
        return ColumnDesign(self.design, ratio), np.where(inside, 2 * weights / sigma, 0.0)

    def _outputs(self, design, theta):
        coef = np.delete(theta, self.n_features)
        z = design.predict(coef[None])
        return np.column_stack([z, np.full(len(z), theta[self.n_features])])

    # -- what solvers and methods ask ------------------------------------------------------
    def quadratic_blocks(self):
        """One block."""
        return [self.quadratic(self.theta, self.weights)]

    def factorise_blocks(self, parts):
        """Its factor."""
        return [self._factor(block) for block in parts]

    def hessian(self):
        """Dense Hessian."""
        return self.quadratic_blocks()[0].matrix()

    def hessian_product(self, V):
        """``H @ V``."""
        block = self.quadratic_blocks()[0]
        return block.rows.gram_product(V) + self.penalty[:, None] * V

    def removal_gradients(self):
        """``a_i (x_i, u_i, 1)`` plus a multiple of the scale's unit vector."""
        slopes = self.residuals
        rest = slopes[:, 1] - slopes[:, 0] * self.curvature_design.column
        basis = np.zeros((1, self.n_params))
        basis[0, self.n_features] = 1.0
        return KroneckerRows(self.curvature_design, slopes[:, :1], rest[:, None], basis)

    def leverage_bound(self, solver):
        """None is known."""
        return np.inf

    def output_leverages(self, solver, rows):
        """``h_i a_i' H⁻¹ a_i`` with ``a_i`` the curvature row."""
        x = self.curvature_design.block(rows, np.float64)
        return self.curvatures[rows] * np.einsum("ij,ji->i", x, solver.solve(x.T))

    def queries(self, X):
        """Query rows."""
        return HuberQueries(self, Design(X, self.design.intercept))

    def training_queries(self, rows):
        """Training rows as queries."""
        return HuberQueries(self, self.design.subset(rows))

    def training_targets(self, rows):
        """Targets."""
        return self.y[rows]

    def on_rows(self, design, y, keep):
        """This objective on other rows, those of the training rows ``keep``, not minimised."""
        out = copy.copy(self)
        out.design, out.n_rows, out.n_features = design, len(keep), design.X.shape[1]
        out.y = self.y[keep] if y is None else y
        out.weights = self.weights[keep]
        if out.n_features != self.n_features:
            out.n_params = design.shape[1] + 1
            out.penalty = np.zeros(out.n_params)
            out.penalty[: out.n_features] = self.penalty[0]
            out.theta = np.zeros(out.n_params)
            out.theta[out.n_features :] = self.theta[self.n_features :]
        return out

    def check_removable(self, rows):
        """Refuse a removal that leaves nothing to fit."""
        left = self.weights.copy()
        left[rows] = 0.0
        if not left.any():
            raise ValueError("a group holds every row: nothing is left to fit")

    # -- parameters ------------------------------------------------------------------------
    @property
    def parameter_names(self):
        """Features, ``scale``, ``intercept``."""
        names = list(self.feature_names or [f"x{j}" for j in range(self.n_features)])
        return [*names, "scale"] + (["intercept"] if self.design.intercept is not None else [])

    def read_parameters(self, estimator):
        """``coef_``, ``scale_``, ``intercept_``."""
        parts = [np.ravel(estimator.coef_), [estimator.scale_]]
        if self.design.intercept is not None:
            parts.append(np.ravel(estimator.intercept_))
        return np.concatenate(parts).astype(np.float64)


class HuberQueries(Queries):
    """Queries of a Huber regression."""

    def __init__(self, objective, design):
        self.objective, self.design = objective, design
        self.outputs = objective._outputs(design, objective.theta)

    def pullback(self, C):
        """``c_z (x, 1)`` and ``c_σ``."""
        rows = C[:, [0]] * self.design.block(slice(None), np.float64)
        return np.insert(rows, self.objective.n_features, C[:, 1], axis=1)

    def changes(self, delta):
        """One matrix product; the scale's change is the same for every query."""
        k = self.objective.n_features
        moved = self.design.predict(np.delete(delta, k, axis=1))
        return np.stack([moved, np.broadcast_to(delta[:, k], moved.shape)], axis=-1)

    def paired_changes(self, delta):
        """Row by row."""
        k = self.objective.n_features
        rows = self.design.block(slice(None), np.float64)
        moved = np.einsum("ij,ij->i", rows, np.delete(delta, k, axis=1))
        return np.column_stack([moved, delta[:, k]])


def _unreached(n_steps, norm):
    return (
        f"no minimum was reached in {n_steps} Newton steps (gradient {norm:.1e}): does the fitted "
        "scale fall towards zero, as where some rows are fitted exactly? Raise alpha or epsilon"
    )
