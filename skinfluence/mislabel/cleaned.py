"""Estimators that train without the rows whose label is judged wrong."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from .._unwrap import fit_estimator, inner_has
from .detector import MislabelDetector
from .fitting import take
from .noise import lowest

STRATEGIES = ("remove", "relabel", "reweight")


class _Cleaned(MetaEstimatorMixin, BaseEstimator):
    """Shared by the classifier and the regressor."""

    def __init__(self, estimator, detector=None, *, strategy="remove"):
        self.estimator = estimator
        self.detector = detector
        self.strategy = strategy

    def fit(self, X, y, sample_weight=None):
        """Judge the rows, then fit the estimator on what the strategy makes of them.

        Parameters
        ----------
        X : array-like, dataframe or sparse of shape (n, n_features)
        y : array-like of shape (n,)
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        self
        """
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy={self.strategy!r} is not one of {STRATEGIES}")
        detector = MislabelDetector() if self.detector is None else self.detector
        self.detector_ = clone(detector).fit(X, y, sample_weight)
        if (self.detector_.classes_ is not None) != isinstance(self, ClassifierMixin):
            kind = "labels" if isinstance(self, RegressorMixin) else "continuous targets"
            raise ValueError(
                f"Unknown label type: the detector took y for {kind}, which is not what "
                f"{type(self).__name__} is for; pass a detector with estimators of the right kind"
            )
        if self.detector_.classes_ is not None:
            self.classes_ = self.detector_.classes_
        X, y = self.detector_._X, self.detector_._y
        self.inlier_mask_ = ~self._suspects()
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, np.empty((len(y), 1)))
        self.estimator_ = self._fit_inner(X, y, sample_weight)
        self.n_features_in_ = self.detector_.n_features_in_
        if hasattr(self.detector_, "feature_names_in_"):
            self.feature_names_in_ = self.detector_.feature_names_in_
        return self

    def _suspects(self):
        """Rows to distrust; those of a class of which none would be left stay.

        A flag asks a person to look, an estimated error count says how many rows to give up: on
        data without wrong labels there are flags, and removing them would cost accuracy.
        """
        judge = self.detector_
        if judge.classes_ is None or not isinstance(judge.contamination, str):
            suspects = judge.is_mislabeled_.copy()
        else:
            suspects = lowest(judge.label_quality_, judge.contamination_)
        if self.strategy == "remove" and judge.classes_ is not None:
            lost = np.setdiff1d(np.unique(judge._y), np.unique(judge._y[~suspects]))
            suspects &= ~np.isin(judge._y, lost)
        return suspects

    def _fit_inner(self, X, y, sample_weight):
        kept = self.inlier_mask_
        if self.strategy == "relabel":
            labels = np.where(kept, y, self.detector_.likeliest_other_)
            return fit_estimator(self.estimator, X, labels, sample_weight)
        if self.strategy == "reweight":
            base = 1.0 if sample_weight is None else sample_weight
            return fit_estimator(self.estimator, X, y, base * self.detector_.label_quality_)
        weight = None if sample_weight is None else sample_weight[kept]
        return fit_estimator(self.estimator, take(X, kept), y[kept], weight)

    def predict(self, X):
        """Predictions of the estimator trained on cleaned rows; ``X`` is never cleaned."""
        check_is_fitted(self)
        return self.estimator_.predict(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        detector = MislabelDetector() if self.detector is None else self.detector
        inner, judge = get_tags(self.estimator).input_tags, get_tags(detector).input_tags
        tags.input_tags.sparse = inner.sparse and judge.sparse
        tags.input_tags.allow_nan = inner.allow_nan and judge.allow_nan
        return tags


class CleanedClassifier(ClassifierMixin, _Cleaned):
    """A classifier trained without the labels that :class:`MislabelDetector` judges wrong.

    Suspects are as many of the least probable labels as are estimated to be wrong (the detector's
    ``contamination_``), or, for a detector that is told a share, the rows it flags. Cleaning is
    part of ``fit``, so that in a Pipeline, in cross-validation and in a grid search only training
    rows are cleaned; test rows never are.

    Parameters
    ----------
    estimator : classifier
        It is cloned.
    detector : MislabelDetector, optional
        Default ``MislabelDetector()``.
    strategy : {"remove", "relabel", "reweight"}, default="remove"
        Leave suspects out; give them the likeliest other label; or weigh every row by its label
        quality (the estimator must take ``sample_weight``).

    Attributes
    ----------
    estimator_ : classifier
        Fitted on the cleaned rows.
    detector_ : MislabelDetector
    inlier_mask_ : ndarray of bool of shape (n,)
        Training rows whose label was trusted.
    classes_ : ndarray
    n_features_in_ : int

    See Also
    --------
    CleanedRegressor : The same for continuous targets.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skinfluence.mislabel import CleanedClassifier, MislabelDetector
    >>> X, y = load_iris(return_X_y=True)
    >>> y[:3] = 2
    >>> detector = MislabelDetector(LogisticRegression(max_iter=1000))
    >>> model = CleanedClassifier(DecisionTreeClassifier(), detector).fit(X, y)
    >>> model.inlier_mask_[:3].tolist()
    [False, False, False]
    """

    @available_if(inner_has("predict_proba"))
    def predict_proba(self, X):
        """Probabilities of the estimator trained on cleaned rows."""
        check_is_fitted(self)
        return self.estimator_.predict_proba(X)

    @available_if(inner_has("decision_function"))
    def decision_function(self, X):
        """Decision values of the estimator trained on cleaned rows."""
        check_is_fitted(self)
        return self.estimator_.decision_function(X)


class CleanedRegressor(RegressorMixin, _Cleaned):
    """A regressor trained without the targets that :class:`MislabelDetector` judges wrong.

    Parameters
    ----------
    estimator : regressor
        It is cloned.
    detector : MislabelDetector, optional
        Default ``MislabelDetector()``; give it regressors if ``y`` looks like labels.
    strategy : {"remove", "relabel", "reweight"}, default="remove"
        Leave suspects out; give them the predicted target; or weigh every row by its quality.

    Attributes
    ----------
    estimator_ : regressor
        Fitted on the cleaned rows.
    detector_ : MislabelDetector
    inlier_mask_ : ndarray of bool of shape (n,)
    n_features_in_ : int

    See Also
    --------
    CleanedClassifier : The same for labels.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import LinearRegression, Ridge
    >>> from skinfluence.mislabel import CleanedRegressor, MislabelDetector
    >>> X, y = load_diabetes(return_X_y=True)
    >>> y[:5] += 1000
    >>> model = CleanedRegressor(LinearRegression(), MislabelDetector(Ridge(alpha=0.1))).fit(X, y)
    >>> model.inlier_mask_[:5].any()
    np.False_
    """
