"""Predictions of rows that a model was not trained on, and the models that made them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression


@dataclass
class HeldOut:
    """Out-of-sample predictions of one model.

    Parameters
    ----------
    values : ndarray of shape (n, K) or (n,)
        Probabilities in the order of ``estimator.classes_``, or a regressor's predictions.
    estimator : estimator or FoldModels
        The model fitted on all rows it was given; after refits in folds, the models of the folds.
    how : str
        How the rows were held out, in words.
    platt : Platt or None
        What turned decision values into probabilities, for a model that has none.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skinfluence.mislabel import out_of_sample
    >>> X, y = load_iris(return_X_y=True)
    >>> held = out_of_sample(LogisticRegression(max_iter=1000), X, y)
    >>> held.values.shape, held.how
    ((150, 3), 'approximate leave-one-out')
    """

    values: np.ndarray
    estimator: Any
    how: str
    platt: Any = None

    def predict_proba(self, X):
        """Probabilities of other rows, as ``values`` were made.

        Parameters
        ----------
        X : array-like of shape (m, n_features)

        Returns
        -------
        ndarray of shape (m, K)
        """
        if isinstance(self.estimator, FoldModels):
            values = self.estimator.mean(X)
        elif self.platt is not None:
            values = self.estimator.decision_function(X)
        else:
            values = predict_with(self.estimator, X, self.estimator.classes_)[0]
        return values if self.platt is None else self.platt.predict_proba(values)


@dataclass
class HoldOut:
    """How to hold rows out where refits are needed.

    Parameters
    ----------
    n_folds : int, default=5
    n_jobs : int or None, default=None
    seed : int, default=0

    Examples
    --------
    >>> from skinfluence.mislabel import HoldOut
    >>> HoldOut(n_folds=10)
    HoldOut(n_folds=10, n_jobs=None, seed=0)
    """

    n_folds: int = 5
    n_jobs: int | None = None
    seed: int = 0


class Platt:
    """Probabilities from decision values, by a logistic fit on held-out ones."""

    def __init__(self, decisions, y):
        decisions = decisions.reshape(len(decisions), -1)
        spread = decisions.std(axis=0)
        self.scale = np.where(spread > 0, spread, 1)
        self.model = LogisticRegression(max_iter=1000).fit(decisions / self.scale, y)

    def predict_proba(self, decisions):
        """Columns in the order of the sorted labels."""
        return self.model.predict_proba(decisions.reshape(len(decisions), -1) / self.scale)


class FoldModels:
    """The models of the folds; their mean predicts rows that none of them has seen.

    Parameters
    ----------
    estimators : list of fitted estimators
    classes : ndarray or None
    """

    def __init__(self, estimators, classes):
        self.estimators, self.classes_ = estimators, classes

    def mean(self, X):
        """Mean prediction: probabilities, decision values, or numbers."""
        return np.mean([predict_with(m, X, self.classes_)[0] for m in self.estimators], axis=0)

    def predict(self, X):
        """Mean prediction of regressors, likeliest class of classifiers with probabilities."""
        mean = self.mean(X)
        return mean if self.classes_ is None else self.classes_[mean.argmax(axis=1)]


def predict_with(fitted, X, classes):
    """``(predictions, whether they are probabilities)``, a column for each of ``classes``."""
    if classes is None:
        return np.asarray(fitted.predict(X), dtype=np.float64), False
    is_proba = hasattr(fitted, "predict_proba")
    if not is_proba and not hasattr(fitted, "decision_function"):
        onehot = np.asarray(fitted.predict(X))[:, None] == classes
        return onehot.astype(np.float64), True
    values = fitted.predict_proba(X) if is_proba else fitted.decision_function(X)
    if values.ndim == 1 or not is_proba:
        return values.reshape(len(values), -1), False
    return in_columns(values, fitted.classes_, classes), True


def in_columns(values, known, classes):
    """Columns of ``known`` labels put in the order of ``classes``, zero for the others."""
    if len(known) == len(classes):
        return np.asarray(values, dtype=np.float64)
    out = np.zeros((len(values), len(classes)))
    out[:, np.searchsorted(classes, known)] = values
    return out
