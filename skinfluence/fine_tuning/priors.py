"""Linear models whose prior is another fitted model."""

from numbers import Real

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .._unwrap import unwrap
from ..objectives.anchored import AnchoredObjective
from ..objectives.base import objective_for
from ..objectives.design import Design
from ..objectives.heads import BinaryHead, RegressionHead, SoftmaxHead
from ..objectives.linear import stack_parameters
from ..objectives.losses import LogisticLoss, MultinomialLoss, SquaredLoss
from ..objectives.rules import row_weights


class _PriorModel(BaseEstimator):
    """Shared: the fit, from the parameters of the pretrained model."""

    _parameter_constraints = {
        "pretrained": [HasMethods("predict")],
        "alpha": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, pretrained=None, *, alpha=1.0):
        self.pretrained = pretrained
        self.alpha = alpha

    def _check(self, X, y, sample_weight):
        self._validate_params()
        self.pretrained_ = pretrained_linear(self.pretrained)
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], multi_output=True
        )
        width = np.shape(self.pretrained_.coef_)[-1]
        if X.shape[1] != width:
            raise ValueError(
                f"X has {X.shape[1]} features, but the pretrained "
                f"{type(self.pretrained_).__name__} was fitted on {width}"
            )
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        return X, y, sample_weight

    def _minimise(self, X, y, sample_weight):
        """``(coef, intercept)`` at the minimum, (K, d) and (K,)."""
        center = _center(self.pretrained_)
        objective = self._objective(X, y, sample_weight, center, polish=False)
        theta = objective.minimise(objective.theta).theta.reshape(center.shape)
        if _column(self.pretrained_) is None:
            return theta, np.zeros(len(theta))
        return theta[:, :-1].copy(), theta[:, -1].copy()

    def _scores(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", reset=False)
        return X @ np.atleast_2d(self.coef_).T + self.intercept_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class PriorLogisticRegression(ClassifierMixin, _PriorModel):
    """Logistic regression whose prior is another one: ``Σ_i s_i ℓ_i + ½ α ‖θ - θ_pre‖²``.

    ``θ`` is ``coef_`` and, where the pretrained model fits one, ``intercept_``; ``s_i`` are the
    sample weights. The fit goes to the minimum itself, by Newton steps.

    Parameters
    ----------
    pretrained : fitted LogisticRegression, or FrozenEstimator of one
        Of the same columns; needed to fit. A clone keeps it fitted only inside ``FrozenEstimator``.
    alpha : float, default=1.0
        How strongly the parameters are held, in the units of a sum over rows: ``1 / C`` of
        ``LogisticRegression`` when its parameters are zero.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
    intercept_ : ndarray of shape (1,) or (n_classes,)
    classes_ : ndarray of shape (n_classes,)
        Those of the pretrained model.
    pretrained_ : estimator
    n_features_in_ : int

    See Also
    --------
    skinfluence.MultiStageInfluence : Influence of the rows of the pretrained model.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence.fine_tuning import PriorLogisticRegression
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X = scale(X)
    >>> pretrained = FrozenEstimator(LogisticRegression().fit(X[:400], y[:400]))
    >>> model = PriorLogisticRegression(pretrained, alpha=10.0).fit(X[400:450], y[400:450])
    >>> round(model.score(X[450:], y[450:]), 2)
    0.98
    """

    def fit(self, X, y, sample_weight=None):
        """Fit on the fine-tuning rows.

        Parameters
        ----------
        X : array-like or sparse of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
            Labels that the pretrained model knows.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self
        """
        X, y, sample_weight = self._check(X, y, sample_weight)
        check_classification_targets(y)
        if not hasattr(self.pretrained_, "classes_"):
            raise ValueError(
                f"the pretrained {type(self.pretrained_).__name__} is no classifier; use PriorRidge"
            )
        self.classes_ = self.pretrained_.classes_
        if len(_center(self.pretrained_)) != (len(self.classes_) if len(self.classes_) > 2 else 1):
            raise ValueError("the pretrained model's coef_ does not have one row a class")
        self.coef_, self.intercept_ = self._minimise(X, y, sample_weight)
        return self

    def decision_function(self, X):
        """Scores of shape (n_samples,), or (n_samples, n_classes) with more than two classes."""
        Z = self._scores(X)
        return Z[:, 0] if Z.shape[1] == 1 else Z

    def predict_proba(self, X):
        """Probabilities of shape (n_samples, n_classes)."""
        Z = self._scores(X)
        if Z.shape[1] > 1:
            return softmax(Z, axis=1)
        return np.column_stack([expit(-Z[:, 0]), expit(Z[:, 0])])

    def predict(self, X):
        """The most probable class of each row."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _objective(self, X, y, sample_weight, theta, polish=True):
        binary = len(self.classes_) == 2
        head = (BinaryHead if binary else SoftmaxHead)(self.classes_)
        loss = LogisticLoss() if binary else MultinomialLoss()
        y = head.encode(y)
        return _anchored(self, loss, head, X, y, sample_weight, self.alpha, theta, polish)


class PriorRidge(RegressorMixin, _PriorModel):
    """Ridge regression whose prior is another fit: ``Σ_i s_i r_i² + α ‖θ - θ_pre‖²``.

    ``θ`` is ``coef_`` and, where the pretrained model fits one, ``intercept_``. Like
    ``Ridge`` on the residuals of the pretrained model, but for the intercept, which is held too.

    Parameters
    ----------
    pretrained : fitted linear regressor, or FrozenEstimator of one
        Of the same columns; needed to fit. A clone keeps it fitted only inside ``FrozenEstimator``.
    alpha : float, default=1.0
        How strongly the parameters are held, in the units of ``Ridge``.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
    intercept_ : float or ndarray of shape (n_targets,)
    pretrained_ : estimator
    n_features_in_ : int

    See Also
    --------
    skinfluence.MultiStageInfluence : Influence of the rows of the pretrained model.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence.fine_tuning import PriorRidge
    >>> X, y = load_diabetes(return_X_y=True)
    >>> pretrained = FrozenEstimator(Ridge(0.1).fit(X[:300], y[:300]))
    >>> model = PriorRidge(pretrained, alpha=1.0).fit(X[300:330], y[300:330])
    >>> round(model.score(X[330:], y[330:]), 1)
    0.5
    """

    def fit(self, X, y, sample_weight=None):
        """Fit on the fine-tuning rows.

        Parameters
        ----------
        X : array-like or sparse of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self
        """
        X, y, sample_weight = self._check(X, y, sample_weight)
        if hasattr(self.pretrained_, "classes_"):
            raise ValueError(
                f"the pretrained {type(self.pretrained_).__name__} is a classifier; use "
                "PriorLogisticRegression"
            )
        targets = 1 if y.ndim == 1 else y.shape[1]
        if len(_center(self.pretrained_)) != targets:
            raise ValueError(
                f"y has {targets} targets, but the pretrained {type(self.pretrained_).__name__} "
                f"has {len(_center(self.pretrained_))}"
            )
        coef, intercept = self._minimise(X, y, sample_weight)
        single = np.ndim(self.pretrained_.coef_) == 1
        self.coef_, self.intercept_ = (coef[0], intercept[0]) if single else (coef, intercept)
        return self

    def predict(self, X):
        """Predictions of shape (n_samples,) or (n_samples, n_targets)."""
        Z = self._scores(X)
        return Z[:, 0] if np.ndim(self.coef_) == 1 else Z

    def _objective(self, X, y, sample_weight, theta, polish=True):
        y = np.asarray(y, dtype=np.float64)
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        head = RegressionHead(SquaredLoss(), len(theta))
        return _anchored(
            self, SquaredLoss(), head, X, y, sample_weight, 2 * self.alpha, theta, polish
        )


@objective_for.register(PriorLogisticRegression)
@objective_for.register(PriorRidge)
def prior_objective(estimator, X, y, sample_weight=None):
    """``Σ s_i ℓ_i + ½ α ‖θ - θ_pre‖²``, the intercept held too; ridge has no ½."""
    theta = stack_parameters(estimator, _column(estimator.pretrained_))
    return estimator._objective(X, y, sample_weight, theta)


def pretrained_linear(pretrained):
    """The fitted linear model inside a frozen one; refuses others."""
    steps, model = unwrap(pretrained)
    if steps:
        raise ValueError(
            f"the pretrained pipeline has the steps {[name for name, _ in steps]} before its "
            "model: transform the rows first, and pass the model alone"
        )
    check_is_fitted(
        model,
        msg=(
            "the pretrained %(name)s is not fitted: pass FrozenEstimator(fitted model), since a "
            "clone of the model itself forgets its fit"
        ),
    )
    if not hasattr(model, "coef_") or not hasattr(model, "intercept_"):
        raise TypeError(
            f"the pretrained {type(model).__name__} is no linear model: it has no coef_ and "
            "intercept_"
        )
    return model


def _column(model):
    return 1.0 if getattr(model, "fit_intercept", True) else None


def _center(model):
    return stack_parameters(model, _column(model))


def _anchored(estimator, loss, head, X, y, sample_weight, strength, theta, polish):
    center = _center(estimator.pretrained_)
    return AnchoredObjective(
        Design(X, _column(estimator.pretrained_)),
        loss,
        y,
        row_weights(sample_weight, len(y)),
        np.full(center.shape, float(strength)),
        theta,
        head,
        center=center,
        polish=polish,
    )
