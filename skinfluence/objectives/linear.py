"""Objectives of linear predictors: ``F(θ) = Σ_i w_i ℓ(A_i θ, y_i) + ½ Σ_j λ_j θ_j²``."""

import copy
import warnings
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from scipy.linalg import LinAlgError
from sklearn.exceptions import ConvergenceWarning

from ..gradients import KroneckerRows
from ..solvers.factor import (
    PrimalFactor,
    PseudoFactor,
    QuadraticBlock,
    join_outputs,
    split_outputs,
)
from .base import Objective, relative_noise
from .linear_rows import FactoredRows, LinearQueries, ScaledRows
from .minimum import NewtonDescent
from .rules import RemovalRule

_unevaluated = ContextVar("unevaluated", default=False)


@contextmanager
def unevaluated():
    """Objectives made inside keep the estimator's parameters, and compute nothing there."""
    token = _unevaluated.set(True)
    try:
        yield
    finally:
        _unevaluated.reset(token)


class LinearObjective(NewtonDescent, Objective):
    """A smooth loss of a linear predictor with ``K`` outputs and a diagonal quadratic penalty.

    Parameters are class-major: ``theta.reshape(K, d)``, the intercept last in each row.

    Parameters
    ----------
    design : Design
    loss : Loss
    y : ndarray
        Encoded targets, as ``loss`` wants them.
    weights : ndarray of shape (n,)
        Total weights, ``C`` and class weights included.
    penalty : ndarray of shape (K, d)
        Second derivative of the penalty. With a ``scalar`` loss and K > 1 its rows are equal.
    theta : ndarray of shape (K, d)
        The estimator's parameters, where polishing starts.
    head : Head
    rule : RemovalRule, optional
    head_targets : ndarray, optional
        Targets encoded for ``head`` where they differ from ``y``: class indices.
    feature_names : list of str, optional
    polish : bool, default=True
        Take line-searched Newton steps to stationarity first.
    """

    def __init__(
        self,
        design,
        loss,
        y,
        weights,
        penalty,
        theta,
        head,
        *,
        rule=None,
        head_targets=None,
        feature_names=None,
        polish=True,
    ):
        self.design, self.loss, self.y, self.weights = design, loss, y, weights
        self.penalty, self.head = penalty, head
        self.head_targets = y if head_targets is None else head_targets
        self.n_rows, self.d = design.shape
        self.dtype = design.dtype
        self.n_outputs = len(penalty)
        self.n_params = self.n_outputs * self.d
        self.rule = RemovalRule(self.n_rows) if rule is None else rule
        self.feature_names = feature_names
        self.rank_deficient = False
        self._block = None
        self.strictly_convex = True
        theta = theta.astype(np.float64).ravel()
        if _unevaluated.get():
            self.theta, self.coef = theta, theta.reshape(self.n_outputs, self.d)
            self.gradient_norm = self.gradient_norm_fitted = np.nan
        elif polish:
            self._polish(theta)
        else:
            self._set_theta(theta)
            self.gradient_norm = float(np.abs(self._stationarity()).max(initial=0.0))
            self.gradient_norm_fitted = self.gradient_norm

    # -- the function ----------------------------------------------------------------------
    def predict(self, theta):
        """Outputs of the training rows at ``theta``: (n, K)."""
        return self.design.predict(theta.reshape(self.n_outputs, self.d))

    def predict_many(self, thetas):
        """Outputs of the training rows at each of ``thetas`` (g, n_params): (n, g, K)."""
        out = self.design.predict(thetas.reshape(-1, self.d))
        return out.reshape(self.n_rows, len(thetas), self.n_outputs)

    def value(self, theta, weights=None, rho=1.0, Z=None):
        """``F`` at ``theta``, under other row weights and penalty factor if given."""
        weights = self.weights if weights is None else weights
        if not self.design.one_pass:
            total = weights @ self.loss.value(self.predict(theta) if Z is None else Z, self.y)
            return total + rho * self.penalty_value(theta)
        coef = theta.reshape(self.n_outputs, self.d)

        def part(rows):
            z = self.design.double(rows).predict(coef) if Z is None else Z[rows]
            return (np.array(weights[rows] @ self.loss.value(z, self.y[rows])),)

        return float(self.design.sums(part)[0]) + rho * self.penalty_value(theta)

    def gradient(self, theta, weights=None, rho=1.0, Z=None):
        """``∇F`` at ``theta``, shape (n_params,); ``Z`` are the outputs there, if known."""
        weights = self.weights if weights is None else weights
        Z = self.predict(theta) if Z is None else Z
        slopes = self.loss.gradient(Z, self.y) * weights[:, None]
        return self.design.tdot(slopes).T.ravel() + rho * self.penalty_gradient(theta)

    def penalty_value(self, theta):
        """The quadratic penalty at ``theta``."""
        return 0.5 * (self.penalty.ravel() * theta * theta).sum()

    def penalty_gradient(self, theta):
        """Gradient of the penalty at ``theta``, shape (n_params,)."""
        return self.penalty.ravel() * theta

    def penalty_product(self, delta):
        """Hessian of the penalty times each row of ``delta`` (b, n_params)."""
        return self.penalty.ravel() * delta

    def quadratic(self, theta, weights=None, rho=1.0, Z=None):
        """``∇²F`` at ``theta`` as a :class:`~skinfluence.solvers.factor.QuadraticBlock`."""
        weights = self.weights if weights is None else weights
        Z = self.predict(theta) if Z is None else Z
        if self.loss.scalar:
            roots = np.sqrt(weights * self.loss.curvature(Z, self.y))
            penalty, repeats = self.penalty[0], self.n_outputs
            rows = ScaledRows(self.design, roots)
        else:
            penalty, repeats = self.penalty.ravel(), 1
            rows = FactoredRows(self.design, self.loss, Z, self.y, weights)
        return QuadraticBlock(rho * penalty, rows, self.gauge(), repeats)

    def gauge(self):
        """Directions that no output difference sees: the common shift of softmax outputs."""
        if self.loss.scalar:
            return None
        unpenalised = np.flatnonzero((self.penalty == 0).all(axis=0))
        if len(unpenalised) == 0:
            return None
        out = np.zeros((self.n_outputs, self.d, len(unpenalised)))
        out[:, unpenalised, np.arange(len(unpenalised))] = 1 / np.sqrt(self.n_outputs)
        return out.reshape(self.n_params, -1)

    # -- at the minimum --------------------------------------------------------------------
    @contextmanager
    def identified_without(self, rows):
        """Refuse a Hessian made inside that is singular only for want of ``rows``."""
        known = self.rank_deficient, self.strictly_convex
        try:
            yield
        finally:  # what is known of the fit itself stays
            lost = self.rank_deficient and not known[0]
            self.rank_deficient, self.strictly_convex = known
        if lost:
            raise ValueError(
                f"without rows {np.asarray(rows)[:5].tolist()} the columns of X are linearly "
                "dependent and nothing penalises them: the fit is not identified. Add a penalty"
            )

    def _factor(self, block):
        try:
            return block.factorise()
        except LinAlgError:
            self.rank_deficient, self.strictly_convex = True, False
            return PseudoFactor(block.matrix(), block.gauge)

    def _polish(self, theta):
        self._settle(self.minimise(theta))

    def _settle(self, fit):
        """Move to a minimum, keep what it says of the estimator's fit, warn where that is far."""
        self._set_theta(fit.theta)
        self.gradient_norm = float(np.abs(self._stationarity()).max(initial=0.0))
        self.gradient_norm_fitted = fit.gradient_norm_start
        self.n_polish_steps, self.polish_distance = fit.n_steps, fit.distance
        # The last step was below 1e-9: Hessian and outputs before it differ by rounding only
        self._block = fit.block if self.loss.smooth else None
        if self.rank_deficient:
            warnings.warn(
                "the columns of X are linearly dependent and their penalty is zero or negligible: "
                "parameters are not identified, and a pseudo-inverse is used. Influence on "
                "predictions within the span of the training rows is right; on parameters it is "
                "not unique.",
                UserWarning,
                stacklevel=2,
            )
        if fit.distance > 1e-2:
            warnings.warn(
                f"the fit was not at its optimum: Newton steps moved the parameters by "
                f"{fit.distance:.1%} (gradient norm {fit.gradient_norm_start:.1e} to "
                f"{self.gradient_norm:.1e}). Influences are those of the optimum; fit with a "
                "smaller tol, more iterations or scaled columns to have the model agree.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def _stationarity(self):
        """``∇F`` at ``θ̂``, from the residuals."""
        return self.design.tdot(self.residuals).T.ravel() + self.penalty_gradient(self.theta)

    def _set_theta(self, theta):
        self.theta = theta
        self.coef = theta.reshape(self.n_outputs, self.d)
        Z = self.predict(theta)
        self.outputs = Z
        self.residuals = self.loss.gradient(Z, self.y) * self.weights[:, None]
        self.curvatures = (
            self.weights * self.loss.curvature(Z, self.y) if self.loss.scalar else None
        )

    # -- what solvers and methods ask ------------------------------------------------------
    def quadratic_blocks(self):
        """Diagonal blocks of the Hessian, in the order of the parameters."""
        if self._block is None:
            self._block = self.quadratic(self.theta)
        return [self._block]

    def factorise_blocks(self, parts):
        """Factors of :meth:`quadratic_blocks`; a pseudo-inverse where nothing penalises."""
        return [self._factor(block) for block in parts]

    def hessian(self):
        """Dense Hessian."""
        block = self.quadratic(self.theta)
        return (
            np.kron(np.eye(block.repeats), block.matrix()) if block.repeats > 1 else block.matrix()
        )

    def hessian_product(self, V):
        """``H @ V`` by products with the rows, or with the Hessian where that is at hand."""
        block = self.quadratic_blocks()[0]
        return join_outputs(block.product(split_outputs(V, block.repeats)), block.repeats)

    def curvature_rows(self, rows):
        """Curvature rows ``B`` of some training rows, and how many outputs share them."""
        design = self.design.subset(rows)
        if self.loss.scalar:
            return ScaledRows(design, np.sqrt(self.curvatures[rows])), self.n_outputs
        parts = self.outputs[rows], self.y[rows], self.weights[rows]
        return FactoredRows(design, self.loss, *parts), 1

    def curvature_matrices(self, rows):
        """``w_i ∇²ℓ_i`` with respect to the outputs, shape (b, K, K)."""
        if self.loss.scalar:
            return self.curvatures[rows][:, None, None] * np.eye(self.n_outputs)
        matrices = self.loss.curvature_matrix(self.outputs[rows], self.y[rows])
        return matrices * self.weights[rows][:, None, None]

    def leverage_blocks(self, solver, rows, single=False):
        """``A_i = (I_K ⊗ x_i)' H⁻¹ (I_K ⊗ x_i)``: (b,) for a scalar loss, else (b, K, K).

        Where ``single``, of rows in float32 that bear it, to about 1e-6.
        """
        K, d = self.n_outputs, self.d
        factor = solver.factors_[0] if hasattr(solver, "factors_") else None
        on_device = len(rows) >= getattr(self.design, "fewest", np.inf)
        if self.loss.scalar and isinstance(factor, PrimalFactor) and not on_device:
            whitening = factor.single_whitening if single else factor.whitening
            return self.design.squared_lengths(rows, whitening)
        inverse = solver.inverses()[0] if hasattr(solver, "inverses") else None
        if inverse is not None and on_device:
            return self.design.forms(rows, inverse, 1 if self.loss.scalar else K)
        x = self.design.block(rows, np.float64)
        if self.loss.scalar:
            if inverse is not None:
                return np.einsum("ij,ij->i", x @ inverse, x)
            stacked = np.zeros((K * d, len(x)))
            stacked[:d] = x.T
            return np.einsum("ij,ji->i", x, solver.solve(stacked)[:d])
        if inverse is not None:
            # x' H⁻¹_{kc} x for k <= c; blocks below the diagonal are transposes of those above
            out = np.empty((len(x), K, K))
            parts = inverse.reshape(K, d, K, d)
            for k in range(K):
                moved = (x @ parts[k, :, k:].reshape(d, -1)).reshape(len(x), K - k, d)
                out[:, k, k:] = np.einsum("icj,ij->ic", moved, x)
                out[:, k:, k] = out[:, k, k:]
            return out
        stacked = np.einsum("kc,ij->kjic", np.eye(K), x).reshape(K * d, len(x) * K)
        solved = solver.solve(stacked).reshape(K, d, len(x), K)
        return np.einsum("kjic,ij->ikc", solved, x)

    def leverage_bound(self, solver):
        """An upper bound of every leverage, from the largest entry of each column."""
        factor = solver.factors_[0] if hasattr(solver, "factors_") else None
        if not self.loss.scalar or not isinstance(factor, PrimalFactor):
            return np.inf
        # x' H⁻¹ x <= |D x|² ‖(D H D)⁻¹‖ with D the factor's scaling to a unit diagonal
        largest = (self.design.largest() * factor.scale) ** 2
        scaled = solver.inverses()[0] / factor.scale[:, None] / factor.scale
        return self.curvatures.max() * largest.sum() * np.linalg.norm(scaled)

    def output_leverages(self, solver, rows):
        """Leverage of each row: the largest eigenvalue of ``S_i A_i``."""
        leverages = self.leverage_blocks(solver, rows)
        if self.loss.scalar:
            return self.curvatures[rows] * leverages
        factors = self.loss.curvature_factor(self.outputs[rows], self.y[rows])
        factors = factors * np.sqrt(self.weights[rows])[:, None, None]
        inner = factors.transpose(0, 2, 1) @ leverages @ factors
        return np.linalg.eigvalsh(inner)[:, -1]

    def group_gradients(self):
        """Gradient of each class's loss sum, and of the penalty: (G + 1, n_params)."""
        parts = []
        for group in range(self.rule.n_groups):
            mask = (self.rule.groups == group)[:, None]
            parts.append(self.design.tdot(self.residuals * mask).T.ravel())
        return np.array([*parts, self.penalty_gradient(self.theta)])

    def removal_gradients(self):
        """``w_i g_i`` plus what the removal rule moves."""
        if self.rule.trivial:
            return KroneckerRows(self.design, self.residuals)
        phi, rho = self.rule.first_order(np.arange(self.n_rows))
        coefficients = -np.column_stack([phi, rho])
        return KroneckerRows(self.design, self.residuals, coefficients, self.group_gradients())

    def loss_gradients(self):
        """``w_i g_i``: gradients of the weighted losses alone, without the removal rule."""
        return KroneckerRows(self.design, self.residuals)

    def with_noise(self, scale, rng):
        """This objective at coefficients with noise, relative to those of the same column."""
        if self.restricted or not self.loss.smooth:
            raise TypeError(
                f"perturbation='noise' needs a smooth objective; {type(self).__name__} has an "
                "active set that other parameters do not have. Use 'bootstrap'"
            )
        other = copy.copy(self)
        columns = np.tile(np.arange(self.d), self.n_outputs)
        other._set_theta(relative_noise(self.theta, columns, scale, rng))
        other._block = None
        return other

    def queries(self, X):
        """Query rows in the dtype of the training rows."""
        return LinearQueries(self, self.design.like(X))

    def input_gradient(self, X, C):
        """``C`` times the coefficients."""
        return C @ self.coef[:, : X.shape[1]]

    def training_queries(self, rows):
        """Training rows as queries."""
        return LinearQueries(self, self.design.subset(rows), self.outputs[rows])

    def training_targets(self, rows):
        """Encoded targets for the head."""
        return self.head_targets[rows]

    def on_rows(self, design, y, keep):
        """This objective on other rows, those of the training rows ``keep``, not minimised.

        Columns may have come or gone. ``y`` are their targets; None for the same ones.
        """
        out = copy.copy(self)
        out.design, out.n_rows, out.d = design, len(keep), design.shape[1]
        out.y = self.y[keep] if y is None else y
        out.head_targets = self.head_targets[keep]
        out.weights, out._block = self.weights[keep], None
        out.penalty = self.resized(self.penalty, out.d)
        theta = self.coef if out.d == self.d else 0 * out.penalty
        out.n_params = theta.size
        out._set_theta(theta.ravel())
        return out

    def resized(self, values, d):
        """Values (K, d) for other columns: those of the first, and of the intercept."""
        if values.shape[1] == d:
            return values
        out = np.repeat(values[:, :1], d, axis=1)
        if self.design.intercept is not None:
            out[:, -1] = values[:, -1]
        return out

    def check_removable(self, rows):
        """Refuse the joint removal of ``rows`` if it leaves a class, or the fit, without rows."""
        present = self.weights > 0
        gone = np.zeros(self.n_rows, dtype=bool)
        gone[rows] = True
        if not (present & ~gone).any():
            raise ValueError("no row of positive weight is left without these: nothing to fit")
        if self.head.classes is None or not (present & gone).any():
            return
        K = len(self.head.classes)
        left = np.bincount(self.head_targets[present & ~gone], minlength=K)
        lost = (left == 0) & (np.bincount(self.head_targets[present], minlength=K) > 0)
        if lost.any():
            raise ValueError(
                f"without rows {np.asarray(rows)[:5].tolist()} no row of class "
                f"{str(self.head.classes[lost][0])!r} is left: a refit would not know the class. "
                "Drop the class, or use method='influence'"
            )

    def lone_rows(self):
        """Rows that are the only ones of their class, or of all."""
        present, counts = self.weights > 0, self.class_counts()
        if self.head.classes is None:
            return np.flatnonzero(present) if np.sum(counts) == 1 else np.empty(0, dtype=np.intp)
        if not (counts == 1).any():
            return np.empty(0, dtype=np.intp)
        return np.flatnonzero(present & (counts[self.head_targets] == 1))

    def class_counts(self):
        """Number of rows of positive weight in each class; of a regression one number."""
        if self.head.classes is None:
            return np.array([np.count_nonzero(self.weights > 0)])
        present = self.head_targets[self.weights > 0]
        return np.bincount(present, minlength=len(self.head.classes))

    # -- parameters ------------------------------------------------------------------------
    @property
    def parameter_names(self):
        """``feature`` and ``intercept``, after the class or output when there are several."""
        names = self.feature_names or [f"x{j}" for j in range(self.design.X.shape[1])]
        names = [*names, "intercept"] if self.design.intercept is not None else list(names)
        if self.n_outputs == 1:
            return names
        labels = range(self.n_outputs) if self.head.classes is None else self.head.classes
        return [f"{label}:{name}" for label in labels for name in names]

    def public_parameters(self, delta):
        """Intercepts in the units of ``intercept_``."""
        if self.design.intercept in (None, 1.0):
            return delta
        out = delta.reshape(-1, self.n_outputs, self.d).copy()
        out[..., -1] *= self.design.intercept
        return out.reshape(delta.shape)

    def read_parameters(self, estimator):
        """``θ`` from ``coef_`` and ``intercept_``."""
        return stack_parameters(estimator, self.design.intercept).ravel()


def stack_parameters(estimator, intercept):
    """``coef_`` and ``intercept_`` as (K, d), the intercept column in units of the design."""
    coef = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))
    if intercept is None:
        return coef
    bias = np.broadcast_to(np.atleast_1d(estimator.intercept_) / intercept, (len(coef),))
    return np.column_stack([coef, bias])
