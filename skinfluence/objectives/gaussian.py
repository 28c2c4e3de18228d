"""Linear and quadratic discriminant analysis, and Gaussian naive Bayes."""

import numpy as np
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.naive_bayes import GaussianNB

from .base import objective_for
from .moments import MomentModel


class LinearDiscriminant(MomentModel):
    """Class means and one covariance; parameters are ``coef_`` and ``intercept_``.

    ``about_mean`` says that the coefficients are those of the class means less the grand mean
    (``solver="svd"``); ``by_prior`` that the classes' covariances are weighted by fixed priors.
    """

    def __init__(self, X, y, classes, priors, about_mean, by_prior):
        self.about_mean, self.by_prior = about_mean, by_prior
        super().__init__(X, y, np.ones(len(X)), classes, priors)
        keep = np.ones(self.n_rows, dtype=bool)
        self.scatters = self._scatters(keep, self.means)

    @property
    def parameter_names(self):
        """``feature`` and ``intercept``, after the class when there are more than two."""
        names = getattr(self, "feature_names", None)
        names = [*(names or [f"x{j}" for j in range(self.X.shape[1])]), "intercept"]
        if self.n_outputs == 1:
            return names
        return [f"{label}:{name}" for label in self.head.classes for name in names]

    def features(self, X):
        """``[x, 1]``."""
        return np.column_stack([X, np.ones(len(X))])

    def _scatters(self, keep, means):
        X, codes = self.X[keep], self.codes[keep]
        away = [X[codes == k] - means[k] for k in range(self.n_classes)]
        return np.array([part.T @ part for part in away])

    def _shares(self, sums):
        """Weight of each class's scatter in the covariance: (..., n_classes)."""
        if self.by_prior:
            return self.priors / sums
        return np.broadcast_to(1 / sums.sum(axis=-1, keepdims=True), sums.shape)

    def _reference(self, means, sums):
        if not self.about_mean:
            return np.zeros_like(means[..., :1, :])
        priors = np.exp(self.log_priors(sums))
        return np.einsum("...k,...kp->...p", priors, means)[..., None, :]

    def of_rows(self, keep):
        """From the rows left."""
        sums = np.bincount(self.codes[keep], minlength=self.n_classes).astype(float)
        means = self._means(keep)
        covariance = np.einsum("k,kpq->pq", self._shares(sums), self._scatters(keep, means))
        apart = means - self._reference(means, sums)
        return self._assemble(means, sums, np.linalg.solve(covariance, apart.T).T)

    def _assemble(self, means, sums, coef):
        reference = self._reference(means, sums)
        apart = means - reference
        intercept = self.log_priors(sums) - 0.5 * (apart * coef).sum(axis=-1)
        intercept = intercept - (reference * coef).sum(axis=-1)
        return np.concatenate([coef, intercept[..., None]], axis=-1)

    def without(self, rows, share):
        """The covariance loses a term of rank one; its class's share of weight moves."""
        sums = self.sums_without(rows, share)
        means, away = self.means_without(rows, share)
        apart = means - self._reference(means, sums)
        coef = np.empty(means.shape, dtype=means.dtype)
        for k in np.unique(self.codes[rows]):
            mine = self.codes[rows] == k
            left = self.sums.astype(means.dtype)
            left[k] -= share
            shares = self._shares(left)
            base = np.linalg.inv(np.einsum("k,kpq->pq", shares, self.scatters))
            factor = shares[k] * share * self.sums[k] / left[k]
            solved = away[mine] @ base
            room = 1 - factor * (solved * away[mine]).sum(axis=1)
            along = np.einsum("bkp,bp->bk", apart[mine], solved)
            coef[mine] = apart[mine] @ base
            coef[mine] += (factor / room)[:, None, None] * along[:, :, None] * solved[:, None]
        return self._assemble(means, sums, coef)

    def read_parameters(self, estimator):
        """``coef_`` and ``intercept_``."""
        return np.column_stack([estimator.coef_, estimator.intercept_]).ravel()


class QuadraticDiscriminant(MomentModel):
    """A mean and a covariance a class; parameters are those of a quadratic in ``x``."""

    def __init__(self, X, y, classes, priors, reg_param):
        self.reg_param = reg_param
        self.upper = np.triu_indices(X.shape[1])
        super().__init__(X, y, np.ones(len(X)), classes, priors)
        away = self.X - self.means[self.codes]
        self.scatters = [
            away[self.codes == k].T @ away[self.codes == k] for k in range(self.n_classes)
        ]

    @property
    def parameter_names(self):
        """``class:quadratic:i,j``, ``class:linear:j`` and ``class:constant`` about the centre."""
        names = [f"quadratic:{i},{j}" for i, j in zip(*self.upper, strict=True)]
        names += [f"linear:{j}" for j in range(self.X.shape[1])] + ["constant"]
        if self.n_outputs == 1:
            return names
        return [f"{label}:{name}" for label in self.head.classes for name in names]

    def features(self, X):
        """``[z_i z_j, z, 1]`` with ``z`` the row less the grand mean."""
        Z = X - self.centre
        return np.column_stack([Z[:, self.upper[0]] * Z[:, self.upper[1]], Z, np.ones(len(Z))])

    def _natural(self, precision, log_det, mean, log_prior):
        """Parameters of classes from stacked precisions (..., p, p)."""
        linear = np.einsum("...pq,...q->...p", precision, mean)
        quadratic = -precision[..., self.upper[0], self.upper[1]]
        quadratic[..., self.upper[0] == self.upper[1]] *= 0.5
        constant = log_prior - 0.5 * log_det - 0.5 * (mean * linear).sum(axis=-1)
        return np.concatenate([quadratic, linear, constant[..., None]], axis=-1)

    def _regularised(self, scatter, total):
        covariance = (1 - self.reg_param) * scatter / total
        return covariance + self.reg_param * np.eye(len(scatter))

    def of_rows(self, keep):
        """From the rows left."""
        X, codes = self.X[keep], self.codes[keep]
        means = self._means(keep)
        sums = np.bincount(codes, minlength=self.n_classes).astype(float)
        priors = self.log_priors(sums)
        out = []
        for k in range(self.n_classes):
            away = X[codes == k] - means[k]
            covariance = self._regularised(away.T @ away, sums[k])
            sign, log_det = np.linalg.slogdet(covariance)
            if sign <= 0 or np.linalg.cond(covariance) > 1e14:
                raise np.linalg.LinAlgError("singular covariance")
            inverse = np.linalg.inv(covariance)
            out.append(self._natural(inverse, log_det, means[k] - self.centre, priors[k]))
        return np.array(out)

    def without(self, rows, share):
        """The row's class loses a term of rank one; the others move by their prior alone."""
        sums = self.sums_without(rows, share)
        means, away = self.means_without(rows, share)
        priors = self.log_priors(sums)
        everything = np.ones(self.n_rows, dtype=bool)
        fitted = self.of_rows(everything)
        out = np.repeat(fitted[None].astype(means.dtype), len(rows), axis=0)
        out[:, :, -1] += priors - self.log_priors(self.sums)
        for k in np.unique(self.codes[rows]):
            mine = np.flatnonzero(self.codes[rows] == k)
            left = self.sums[k] - share
            covariance = self._regularised(self.scatters[k], left)
            base = np.linalg.inv(covariance)
            sign, log_det = np.linalg.slogdet(covariance)
            factor = (1 - self.reg_param) * share * self.sums[k] / left**2
            solved = away[mine] @ base
            room = 1 - factor * (solved * away[mine]).sum(axis=1)
            inner = (factor / room)[:, None, None] * solved[:, :, None] * solved[:, None, :]
            own = self._natural(
                base + inner,
                log_det + np.log(sign) + np.log(room),
                means[mine, k] - self.centre,
                priors[mine, k],
            )
            out[mine, k] = np.where((room.real > 1e-12)[:, None], own, np.nan)
        return out

    def read_parameters(self, estimator):
        """From means, rotations and scalings."""
        out = []
        for k in range(self.n_classes):
            rotation, scaling = estimator.rotations_[k], estimator.scalings_[k]
            inverse = (rotation / scaling) @ rotation.T
            log_det = np.log(scaling).sum()
            mean = estimator.means_[k] - self.centre
            out.append(self._natural(inverse, log_det, mean, np.log(estimator.priors_[k])))
        return self.contrast(np.array(out)[None])[0]


class NaiveBayes(MomentModel):
    """A mean and a variance a class and feature.

    ``var_smoothing`` times the largest variance of a feature, over rows whatever their weight, is
    added to every variance; a removed row moves it too.
    """

    def __init__(self, X, y, weights, classes, priors, smoothing):
        self.smoothing = smoothing
        super().__init__(X, y, weights, classes, priors)
        keep = np.ones(self.n_rows, dtype=bool)
        self.variances = self._variances(keep, self.means)

    @property
    def parameter_names(self):
        """``class:quadratic:j``, ``class:linear:j`` and ``class:constant`` about the centre."""
        p = range(self.X.shape[1])
        names = [*[f"quadratic:{j}" for j in p], *[f"linear:{j}" for j in p], "constant"]
        if self.n_outputs == 1:
            return names
        return [f"{label}:{name}" for label in self.head.classes for name in names]

    def features(self, X):
        """``[z², z, 1]`` with ``z`` the row less the grand mean."""
        Z = X - self.centre
        return np.column_stack([Z**2, Z, np.ones(len(Z))])

    def _natural(self, variances, means, log_priors):
        means = means - self.centre
        constant = log_priors - 0.5 * (means**2 / variances + np.log(2 * np.pi * variances)).sum(-1)
        parts = [-0.5 / variances, means / variances, constant[..., None]]
        return np.concatenate(parts, axis=-1)

    def _variances(self, keep, means):
        X, codes, weights = self.X[keep], self.codes[keep], self.weights[keep]
        sums = np.bincount(codes, weights, minlength=self.n_classes)
        away = (X - means[codes]) ** 2 * weights[:, None]
        return (
            np.array([away[codes == k].sum(axis=0) for k in range(self.n_classes)]) / sums[:, None]
        )

    def of_rows(self, keep):
        """From the rows left."""
        sums = np.bincount(self.codes[keep], self.weights[keep], minlength=self.n_classes)
        means = self._means(keep)
        floor = self.smoothing * self.X[keep].var(axis=0).max()
        variances = self._variances(keep, means) + floor
        return self._natural(variances, means, self.log_priors(sums))

    def without(self, rows, share):
        """The row's class, and the smoothing of all."""
        sums = self.sums_without(rows, share)
        means, away = self.means_without(rows, share)
        own = self.codes[rows]
        gone = (share * self.weights[rows])[:, None]
        total, left = self.sums[own][:, None], self.sums[own][:, None] - gone
        variances = np.repeat(self.variances[None].astype(means.dtype), len(rows), axis=0)
        moved = variances[np.arange(len(rows)), own] * total / left
        variances[np.arange(len(rows)), own] = moved - gone * total / left**2 * away**2
        # over all rows, by their number
        n, spread = self.n_rows, self.X.var(axis=0)
        spread = (
            spread * n / (n - share)
            - share * n / (n - share) ** 2 * (self.X[rows] - self.centre) ** 2
        )
        largest = spread[np.arange(len(rows)), spread.real.argmax(axis=1)]
        variances += (self.smoothing * largest)[:, None, None]
        return self._natural(variances, means, self.log_priors(sums))

    def read_parameters(self, estimator):
        """From ``theta_``, ``var_`` and ``class_prior_``."""
        natural = self._natural(estimator.var_, estimator.theta_, np.log(estimator.class_prior_))
        return self.contrast(natural[None])[0]


@objective_for.register(LinearDiscriminantAnalysis)
def linear_discriminant_objective(estimator, X, y, sample_weight=None):
    """Maximum-likelihood class means and common covariance."""
    _check_options(estimator, sample_weight)
    svd = estimator.solver == "svd"
    priors = None if estimator.priors is None else np.asarray(estimator.priors_)
    model = LinearDiscriminant(
        X, y, estimator.classes_, priors, svd, priors is not None and not svd
    )
    model.check_closed_form(estimator)
    return model


@objective_for.register(QuadraticDiscriminantAnalysis)
def quadratic_discriminant_objective(estimator, X, y, sample_weight=None):
    """Maximum-likelihood class means and covariances."""
    _check_options(estimator, sample_weight)
    priors = None if estimator.priors is None else np.asarray(estimator.priors_)
    solver = getattr(estimator, "solver", "svd")
    reg_param = estimator.reg_param if solver == "svd" else 0.0
    model = QuadraticDiscriminant(X, y, estimator.classes_, priors, reg_param)
    model.check_closed_form(estimator)
    return model


@objective_for.register(GaussianNB)
def naive_bayes_objective(estimator, X, y, sample_weight=None):
    """Maximum-likelihood means and variances of each class and feature."""
    weights = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, float)
    priors = None if estimator.priors is None else np.asarray(estimator.class_prior_)
    model = NaiveBayes(X, y, weights, estimator.classes_, priors, estimator.var_smoothing)
    model.check_closed_form(estimator)
    return model


def _check_options(estimator, sample_weight):
    name = type(estimator).__name__
    if sample_weight is not None:
        raise ValueError(f"{name} takes no sample_weight; pass None")
    for option in ("shrinkage", "covariance_estimator"):
        value = getattr(estimator, option, None)
        if value is not None:
            raise ValueError(
                f"{name}({option}={value!r}) is not supported: only the maximum-likelihood "
                f"covariance is followed through a removal. Use {option}=None"
            )
