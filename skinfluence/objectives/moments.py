"""Gaussian classifiers: closed forms of class counts, means and covariances.

They minimise no regularised risk to differentiate. What they estimate is a function of moments, and
a row leaves a moment by a downdate of rank one: ``newton`` and ``exact`` are that downdate of the
whole row, ``influence`` its derivative in the share of the row that goes.
"""

import numpy as np

from ..gradients import Rows
from .base import Objective, Queries
from .heads import BinaryHead, SoftmaxHead
from .removable import check_classes_left

# A complex step: the imaginary part of an analytic function is its derivative, to rounding.
TINY = 1e-30j


class MomentModel(Objective):
    """Outputs ``φ(x)' θ_k``, one a class (of two classes: their difference).

    A subclass has :meth:`features`, :meth:`of_rows` and :meth:`without`. The loss is the negative
    log posterior of the true class.

    Parameters
    ----------
    X : ndarray of shape (n, p)
    y : ndarray of shape (n,)
    weights : ndarray of shape (n,)
    classes : ndarray
    priors : ndarray of shape (n_classes,) or None
        Fixed priors; None for the classes' shares of the weight.
    """

    default_solver = "system"
    strictly_convex = True

    def __init__(self, X, y, weights, classes, priors):
        self.X = np.asarray(X, dtype=np.float64)
        self.weights, self.priors = weights, priors
        binary = len(classes) == 2
        self.head = BinaryHead(classes) if binary else SoftmaxHead(classes)
        self.codes = self.head.encode(y)
        self.n_classes = len(classes)
        self.n_outputs = 1 if binary else self.n_classes
        self.n_rows = len(self.codes)
        self.centre = self.X.mean(axis=0)
        everything = np.ones(self.n_rows, dtype=bool)
        self.sums = np.bincount(self.codes, weights, minlength=self.n_classes)
        self.means = self._means(everything)
        try:
            self.theta = self.contrast(self.of_rows(everything)[None])[0]
        except np.linalg.LinAlgError as error:
            raise ValueError(
                "the covariance within classes is singular: drop collinear features"
            ) from error
        self.n_params = len(self.theta)

    def check_closed_form(self, estimator):
        """Refuse a fit that is not the closed form (another release, a singular covariance)."""
        distance = np.abs(self.read_parameters(estimator) - self.theta).max()
        size = np.abs(self.theta).max()
        self.gradient_norm_fitted, self.gradient_norm = float(distance), 0.0
        if not distance <= 1e-6 * size:
            raise ValueError(
                f"this {type(estimator).__name__} is not the closed form of its maximum-likelihood "
                f"moments (parameters differ by {distance:.1e} of {size:.1e}): are features "
                "collinear within classes, or is scikit-learn older than 1.9?"
            )

    # -- what a model says of itself -------------------------------------------------------
    def features(self, X):
        """``φ`` of rows, shape (m, n_features_out)."""
        raise NotImplementedError

    def of_rows(self, keep):
        """Parameters of every class from the rows of a mask: (n_classes, n_features_out)."""
        raise NotImplementedError

    def without(self, rows, share):
        """Parameters without a share of each row: (b, n_classes, n_features_out)."""
        raise NotImplementedError

    # -- moments ---------------------------------------------------------------------------
    def _means(self, keep):
        codes, weights = self.codes[keep], self.weights[keep]
        sums = np.bincount(codes, weights, minlength=self.n_classes)
        totals = [weights[codes == k] @ self.X[keep][codes == k] for k in range(self.n_classes)]
        return np.array(totals) / sums[:, None]

    def log_priors(self, sums):
        """Log priors for sums of weights (..., n_classes)."""
        if self.priors is not None:
            return np.broadcast_to(np.log(self.priors), sums.shape)
        return np.log(sums / sums.sum(axis=-1, keepdims=True))

    def sums_without(self, rows, share):
        """Sums of weights of the classes without a share of each row: (b, n_classes)."""
        out = np.repeat(self.sums[None].astype(np.result_type(share, float)), len(rows), axis=0)
        out[np.arange(len(rows)), self.codes[rows]] -= share * self.weights[rows]
        return out

    def means_without(self, rows, share):
        """Class means without a share of each row, and the row less its mean."""
        own = self.codes[rows]
        away = self.X[rows] - self.means[own]
        gone = share * self.weights[rows]
        out = np.repeat(self.means[None].astype(np.result_type(share, float)), len(rows), axis=0)
        left = self.sums[own] - gone
        out[np.arange(len(rows)), own] -= (gone / left)[:, None] * away
        return out, away

    def contrast(self, theta):
        """(b, n_classes, F) to (b, n_params)."""
        if self.n_outputs == 1:
            theta = theta[:, [1]] - theta[:, [0]]
        return theta.reshape(len(theta), -1)

    # -- removal ---------------------------------------------------------------------------
    def removal_gradients(self):
        """Derivative of the parameters in the share of each row that goes."""
        return ShareRows(self)

    def factorise_system(self):
        """The identity: the derivatives are those of the parameters themselves."""
        return Identity()

    def changes_without(self, rows):
        """Exact change of the parameters without each row: (b, n_params)."""
        self.check_removable_singly(rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            out = self.contrast(self.without(rows, 1.0)) - self.theta
        self.check_finite(out, rows)
        return out

    def changes_without_group(self, rows):
        """Exact change of the parameters without a group."""
        self.check_removable(rows)
        keep = np.ones(self.n_rows, dtype=bool)
        keep[rows] = False
        try:
            with np.errstate(divide="ignore", invalid="ignore"):
                out = self.contrast(self.of_rows(keep)[None])[0] - self.theta
        except np.linalg.LinAlgError:
            out = np.full(self.n_params, np.nan)
        self.check_finite(out[None], rows)
        return out

    def check_finite(self, change, rows):
        """Refuse removals that leave a singular covariance."""
        bad = ~np.isfinite(change).all(axis=1)
        if bad.any():
            raise ValueError(
                f"without rows {np.asarray(rows)[:5].tolist()} the covariance of a class is "
                "singular. Use a regularised model (reg_param, var_smoothing), or drop features"
            )

    def check_removable(self, rows):
        """Refuse removals that leave a class without rows."""
        check_classes_left(rows, self.codes, self.weights > 0, self.head.classes)

    def check_removable_singly(self, rows):
        """As :meth:`check_removable`, for each of ``rows`` alone."""
        present = self.weights > 0
        counts = np.bincount(self.codes[present], minlength=self.n_classes)
        for row in rows[present[rows] & (counts[self.codes[rows]] == 1)]:
            self.check_removable([row])

    # -- queries ---------------------------------------------------------------------------
    def queries(self, X):
        """Rows by their features."""
        return FeatureQueries(self, self.features(np.asarray(X, dtype=np.float64)))

    def training_queries(self, rows):
        """Training rows as queries."""
        return self.queries(self.X[rows])

    def training_targets(self, rows):
        """Class indices."""
        return self.codes[rows]


class Identity:
    """``V`` itself."""

    def solve(self, V):
        """``V``."""
        return V


class ShareRows(Rows):
    """Derivatives of the parameters in the share of a row that goes."""

    def __init__(self, model):
        self.model = model
        self.shape = (model.n_rows, model.n_params)

    def block(self, rows):
        """By a complex step through the downdate."""
        index = np.arange(self.model.n_rows)[rows]
        moved = self.model.contrast(self.model.without(index, TINY))
        return moved.imag / TINY.imag


class FeatureQueries(Queries):
    """Queries known by their features."""

    def __init__(self, model, features):
        self.model, self.features = model, features
        self.outputs = features @ model.theta.reshape(model.n_outputs, -1).T

    def pullback(self, C):
        """``c ⊗ φ``."""
        return (C[:, :, None] * self.features[:, None, :]).reshape(len(C), -1)

    def changes(self, delta):
        """One product."""
        parts = delta.reshape(-1, self.features.shape[1])
        return (self.features @ parts.T).reshape(len(self), len(delta), -1)

    def paired_changes(self, delta):
        """Row by row."""
        parts = delta.reshape(len(delta), -1, self.features.shape[1])
        return np.einsum("mf,mkf->mk", self.features, parts)
