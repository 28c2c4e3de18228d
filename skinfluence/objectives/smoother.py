"""Kernel ridge regression and Gaussian processes: predictions linear in the targets."""

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.kernel_ridge import KernelRidge

from ..gradients import Rows
from .base import Objective, Queries, objective_for
from .composite import IndependentOutputs
from .heads import RegressionHead
from .kernel_rows import as_double
from .losses import SquaredLoss


class KernelSmoother(Objective):
    """``(K + D) a = y - m``, predictions ``K(x, X) a + m``, ``D`` diagonal.

    ``Q = (K + D)⁻¹`` gives every removal in closed form: without row ``i`` the coefficients are
    ``a - Q_i a_i / Q_ii``. The diagonal is a noise ``d_i / w_i``: a row of weight zero has an
    infinite noise and no coefficient. The parameters are ``a`` and, when the targets are centred,
    their mean ``m``.

    Parameters
    ----------
    X : ndarray or CSR of shape (n, n_features)
    kernel : callable
        ``kernel(A, B)``, fixed.
    noise : ndarray of shape (n,)
        ``d_i``.
    y : ndarray of shape (n,)
    weights : ndarray of shape (n,)
    centred : bool
        Whether ``m`` is the mean of the targets (else 0).
    fitted : ndarray of shape (n,)
        The estimator's own coefficients, in units of ``y``.
    predict : callable
        From a fitted estimator and rows to predictions (m, 1).
    """

    n_outputs = 1
    default_solver = "system"
    strictly_convex = True

    def __init__(self, X, kernel, noise, y, weights, centred, fitted, predict):
        self.X, self.kernel, self.noise, self.y = X, kernel, noise, y
        self.weights, self.centred, self.predict = weights, centred, predict
        self.n_rows = len(y)
        self.n_params = self.n_rows + centred
        self.head = RegressionHead(SquaredLoss())
        gram = np.asarray(kernel(X, X), dtype=np.float64)
        self.inverse = _weighted_inverse(gram, noise, np.sqrt(weights))
        self.mean = y.mean() if centred else 0.0
        residual = y - self.mean
        self.coefficients = self.inverse @ residual
        self.coefficients += self.inverse @ self._residual(gram, residual)  # refined once
        self.theta = np.append(self.coefficients, [self.mean] * centred)
        self.outputs = (gram @ self.coefficients + self.mean)[:, None]
        self.gradient_norm = float(np.abs(self._residual(gram, residual)).max())
        self.coefficients, kept = fitted, self.coefficients
        self.gradient_norm_fitted = float(np.abs(self._residual(gram, residual)).max())
        self.coefficients = kept

    def _residual(self, gram, residual):
        present = self.weights > 0
        noise = np.divide(self.noise, self.weights, out=np.zeros(self.n_rows), where=present)
        a = self.coefficients
        return np.where(present, residual - gram @ a - noise * a, 0.0)

    @property
    def parameter_names(self):
        """``dual:i``, and ``mean``."""
        return [f"dual:{i}" for i in range(self.n_rows)] + ["mean"] * self.centred

    def factorise_system(self):
        """``Q``, and 1 for the mean."""
        return SmootherSystem(self.inverse)

    def mean_change(self, rows):
        """Change of ``m`` without each row, and to first order."""
        own = self.mean - self.y[rows]
        return own / (self.n_rows - 1), own / self.n_rows

    def removal_gradients(self):
        """``-d_i a_i / w_i`` at the row itself, and minus the change of the mean everywhere."""
        return NoiseRows(self)

    def check_removable(self, rows):
        """Refuse to remove every row."""
        if len(np.setdiff1d(np.flatnonzero(self.weights > 0), rows)) == 0:
            raise ValueError("a group holds every row: nothing is left to fit")

    def queries(self, X):
        """Rows by their kernel with the training rows."""
        return SmootherQueries(self, X, np.asarray(self.kernel(as_double(X), self.X), dtype=float))

    def training_queries(self, rows):
        """Training rows as queries."""
        return self.queries(self.X[rows])

    def training_targets(self, rows):
        """Targets."""
        return self.y[rows]

    def read_outputs(self, estimator, X):
        """Predictions of another fitted estimator, shape (m, 1)."""
        return self.predict(estimator, X)


def _weighted_inverse(gram, noise, roots):
    """``√W (√W K √W + D)⁻¹ √W``; rows of weight zero are zero."""
    scaled = gram * roots[:, None] * roots
    scaled[np.diag_indices_from(scaled)] += np.where(roots > 0, noise, 1.0)
    try:
        inverse = cho_solve(cho_factor(scaled), np.eye(len(scaled)))
    except LinAlgError:  # an indefinite kernel, or no noise: scikit-learn solves it all the same
        inverse = np.linalg.pinv(scaled, hermitian=True)
    return inverse * roots[:, None] * roots


class SmootherSystem:
    """``Q``, and the identity for the mean."""

    def __init__(self, inverse):
        self.inverse = inverse

    def solve(self, V):
        """Block diagonal."""
        n = len(self.inverse)
        return np.concatenate([self.inverse @ V[:n], V[n:]])


class NoiseRows(Rows):
    """What a row's removal releases to first order."""

    def __init__(self, smoother):
        self.smoother = smoother
        self.shape = (smoother.n_rows, smoother.n_params)

    def block(self, rows):
        """Dense rows."""
        smoother = self.smoother
        index = np.arange(smoother.n_rows)[rows]
        out = np.zeros((len(index), smoother.n_params))
        w = smoother.weights[index]
        value = smoother.noise[index] * smoother.coefficients[index]
        if smoother.centred:
            change = smoother.mean_change(index)[1]
            out[:, :-1] = -change[:, None]
            out[:, -1] = change
        out[np.arange(len(index)), index] -= np.divide(
            value, w, out=np.zeros_like(value), where=w > 0
        )
        return out


class SmootherQueries(Queries):
    """Queries known by their kernel with the training rows."""

    def __init__(self, smoother, X, kernel):
        self.smoother, self.X, self.kernel = smoother, X, kernel
        self.outputs = (kernel @ smoother.coefficients + smoother.mean)[:, None]
        self._extended = kernel
        if smoother.centred:
            self._extended = np.column_stack([kernel, np.ones(len(kernel))])

    def pullback(self, C):
        """``c [k, 1]``."""
        return C * self._extended

    def changes(self, delta):
        """One product."""
        return (self._extended @ delta.T)[:, :, None]

    def paired_changes(self, delta):
        """Row by row."""
        return np.einsum("ij,ij->i", self._extended, delta)[:, None]


@objective_for.register(KernelRidge)
def kernel_ridge_objective(estimator, X, y, sample_weight=None):
    """``Σ s_i (K a - y)_i² + α a'Ka``."""
    X, y = as_double(X), np.asarray(y, dtype=np.float64)
    columns = y.reshape(len(y), -1)
    weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, float)
    alphas = np.broadcast_to(np.asarray(estimator.alpha, dtype=np.float64), (columns.shape[1],))
    duals = np.asarray(estimator.dual_coef_).reshape(len(y), -1)
    parts = [
        KernelSmoother(
            X,
            estimator._get_kernel,
            np.full(len(y), alphas[k]),
            columns[:, k],
            weights,
            False,
            duals[:, k],
            _column(k),
        )
        for k in range(columns.shape[1])
    ]
    return _together(parts, y)


@objective_for.register(GaussianProcessRegressor)
def gaussian_process_objective(estimator, X, y, sample_weight=None):
    """The posterior mean at the fitted kernel, which is held fixed."""
    X, y = as_double(X), np.asarray(y, dtype=np.float64)
    if sample_weight is not None:
        raise ValueError("GaussianProcessRegressor takes no sample_weight; pass None")
    columns = y.reshape(len(y), -1)
    kernel = estimator.kernel_
    white = kernel(X).diagonal() - kernel(X, X).diagonal()  # noise that the kernel itself adds
    noise = white + estimator.alpha
    scales = np.broadcast_to(estimator._y_train_std, (columns.shape[1],))
    duals = np.asarray(estimator.alpha_).reshape(len(y), -1) * scales
    parts = [
        KernelSmoother(
            X,
            kernel,
            noise,
            columns[:, k],
            np.ones(len(y)),
            bool(estimator.normalize_y),
            duals[:, k],
            _column(k),
        )
        for k in range(columns.shape[1])
    ]
    return _together(parts, y)


class _column:
    """Column ``k`` of a prediction."""

    def __init__(self, k):
        self.k = k

    def __call__(self, estimator, X):
        values = np.asarray(estimator.predict(X), dtype=np.float64)
        return values.reshape(len(values), -1)[:, [self.k]]


class Smoothers(IndependentOutputs):
    """Smoothers of several targets."""

    def read_outputs(self, estimator, X):
        """Predictions of another fitted estimator."""
        return np.concatenate([part.read_outputs(estimator, X) for part in self.parts], axis=1)


def _together(parts, y):
    if len(parts) == 1:
        return parts[0]
    head = RegressionHead(SquaredLoss(), len(parts))
    return Smoothers(parts, head, range(len(parts)), y, None)
