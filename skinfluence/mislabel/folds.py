"""Held-out predictions of models that have to be refitted for them."""

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import is_classifier

from .._partitions import refuse_dask
from .fitting import fit_quietly, take
from .held_out import FoldModels, HeldOut, HoldOut, Platt, predict_with


def refit_in_folds(estimator, X, y, sample_weight=None, options=None):
    """Held-out predictions by refits, each class spread evenly over the folds.

    Parameters
    ----------
    estimator : estimator
        Cloned and fitted once a fold.
    X : array-like of shape (n, n_features)
    y : array-like of shape (n,)
    sample_weight : array-like of shape (n,), optional
    options : HoldOut, optional

    Returns
    -------
    HeldOut

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skinfluence.mislabel import refit_in_folds
    >>> X, y = load_iris(return_X_y=True)
    >>> refit_in_folds(DecisionTreeClassifier(), X, y).values.shape
    (150, 3)
    """
    refuse_dask(X, "refit_in_folds")
    options = HoldOut() if options is None else options
    classes = np.unique(y) if is_classifier(estimator) else None
    folds = spread_folds(y, classes, options.n_folds, options.seed)
    n_folds = folds.max() + 1
    fits = Parallel(n_jobs=options.n_jobs)(
        delayed(_fit_fold)(estimator, X, y, sample_weight, folds != k, classes)
        for k in range(n_folds)
    )
    width = 1 if fits[0][0].ndim == 1 else fits[0][0].shape[1]
    values = np.zeros((len(y), width))
    for k, (part, _, _) in enumerate(fits):
        values[folds == k] = part.reshape(-1, width)
    platt, models = None, FoldModels([model for _, _, model in fits], classes)
    if classes is None:
        values = values[:, 0]
    elif not all(is_proba for _, is_proba, _ in fits):
        platt = Platt(values, y)
        values = platt.predict_proba(values)
    return HeldOut(values, models, f"{n_folds} folds", platt)


def spread_folds(y, classes, n_folds, seed):
    """A fold for each row; every class is dealt out evenly, however rare."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    if classes is not None:
        order = order[np.argsort(np.searchsorted(classes, y[order]), kind="stable")]
    folds = np.empty(len(y), dtype=np.intp)
    folds[order] = np.arange(len(y)) % min(n_folds, len(y))
    return folds


def _fit_fold(estimator, X, y, sample_weight, train, classes):
    weight = None if sample_weight is None else sample_weight[train]
    fitted = fit_quietly(estimator, take(X, train), y[train], weight)
    return *predict_with(fitted, take(X, ~train), classes), fitted
