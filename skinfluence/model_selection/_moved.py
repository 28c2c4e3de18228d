"""An estimator whose ``fit`` on a training fold moves from the fit on all rows."""

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import get_scorer
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.metaestimators import available_if

from ._model import default_score


def _has(method):
    def check(self):
        return hasattr(self.model.estimator, method)

    return check


class MovedEstimator(MetaEstimatorMixin, BaseEstimator):
    """The estimator of a training fold, by removal from the fit on all rows.

    scikit-learn's own cross-validation runs on it, so that splitting, scoring and failing are
    scikit-learn's. A fold without a class, or one that repeats rows, is fitted by the estimator
    itself. The rows of the fold come in as ``rows``, a fit parameter.

    Attributes
    ----------
    refitted_ : estimator or None
        The fold's own fit, where it was needed.
    """

    def __init__(self, estimator, model):
        self.estimator, self.model = estimator, model

    def __sklearn_clone__(self):
        out = MovedEstimator(self.estimator, self.model)
        return out.set_fit_request(rows=True) if get_config()["enable_metadata_routing"] else out

    def fit(self, X, y=None, rows=None, **fit_params):
        """Move to the fit on ``rows``."""
        keep = np.zeros(self.model.n_rows, dtype=bool)
        keep[rows] = True
        removed = np.flatnonzero(~keep)
        self.refitted_, self.move_ = None, None
        movable = len(np.unique(rows)) == len(rows) and self.model.movable(removed)
        if movable and len(removed):
            try:
                self.move_ = self.model.move(removed)
            except ValueError:
                if not self.model.accurate:
                    raise
                movable = False
        if not movable:
            self.refitted_ = self._refit(X, y, fit_params)
        return self

    def _refit(self, X, y, fit_params):
        inner = self.estimator
        if isinstance(inner, FrozenEstimator):
            inner = inner.estimator
        if isinstance(inner, Pipeline) and isinstance(inner.steps[-1][1], FrozenEstimator):
            raise ValueError(
                "a training fold has to be fitted (it lacks a class, repeats rows or does not "
                "determine the parameters), but the pipeline's last step is frozen"
            )
        return clone(inner).fit(X, y, **fit_params)

    def _respond(self, X, method):
        if self.refitted_ is not None:
            return getattr(self.refitted_, method)(X)
        return self.model.responses(self.model.outputs(self.model.queries(X), self.move_), method)

    def predict(self, X):
        """As the estimator fitted on the fold."""
        return self._respond(X, "predict")

    @available_if(_has("predict_proba"))
    def predict_proba(self, X):
        """As the estimator fitted on the fold."""
        return self._respond(X, "predict_proba")

    @available_if(_has("predict_log_proba"))
    def predict_log_proba(self, X):
        """As the estimator fitted on the fold."""
        return self._respond(X, "predict_log_proba")

    @available_if(_has("decision_function"))
    def decision_function(self, X):
        """As the estimator fitted on the fold."""
        return self._respond(X, "decision_function")

    def score(self, X, y, **params):
        """The estimator's own score, where it is accuracy or R²."""
        if self.refitted_ is not None:
            return self.refitted_.score(X, y, **params)
        name = default_score(self.model.estimator)
        if name is None:
            raise ValueError(
                f"{type(self.model.estimator).__name__}.score is its own; pass scoring=, for "
                "instance 'neg_mean_squared_error'"
            )
        return get_scorer(name)._score_func(y, self.predict(X), **params)

    @property
    def classes_(self):
        """Classes of the fold."""
        known = self.model.estimator if self.refitted_ is None else self.refitted_
        return known.classes_

    def get_metadata_routing(self):
        """Of the estimator, and its own ``rows``."""
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(
                estimator=self.estimator,
                method_mapping=MethodMapping()
                .add(caller="fit", callee="fit")
                .add(caller="score", callee="score"),
            )
        )

    def __sklearn_is_fitted__(self):
        return hasattr(self, "refitted_")

    def __sklearn_tags__(self):
        return get_tags(self.estimator)
