"""Fits on some rows of whatever holds rows."""

import warnings

import numpy as np
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils import assert_all_finite

from .._unwrap import fit_estimator, weight_name


def fit_quietly(estimator, X, y, sample_weight=None):
    """A fitted clone; weights are left out where ``fit`` takes none."""
    if sample_weight is not None:
        try:
            weight_name(estimator)
        except ValueError:
            sample_weight = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        final = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
        if sample_weight is not None and isinstance(final, OneVsRestClassifier):
            return _fit_routed(estimator, X, y, sample_weight)
        return fit_estimator(estimator, X, y, sample_weight)


def _fit_routed(estimator, X, y, sample_weight):
    """A fit of (a pipeline that ends in) a one-vs-rest model: weights reach it by routing only."""
    fitted = clone(estimator)
    if isinstance(fitted, Pipeline):
        Z = X if len(fitted.steps) == 1 else fitted[:-1].fit_transform(X, y)
        name, final = fitted.steps[-1]
        fitted.steps[-1] = (name, _fit_routed(final, Z, y, sample_weight))
        return fitted
    with config_context(enable_metadata_routing=True):
        fitted.estimator.set_fit_request(sample_weight=True)
        return fitted.fit(X, y, sample_weight=sample_weight)


def take(X, rows):
    """Rows of an array, sparse matrix or dataframe."""
    if sparse.issparse(X):
        return X.tocsr()[np.flatnonzero(rows) if rows.dtype == bool else rows]
    if hasattr(X, "iloc"):
        return X.iloc[np.flatnonzero(rows) if rows.dtype == bool else rows]
    if hasattr(X, "filter") and hasattr(X, "columns"):  # polars
        return X.filter(rows) if rows.dtype == bool else X[rows]
    return np.asarray(X)[rows]


def is_plain(X):
    """Whether ``X`` holds numbers only, none of them missing."""
    if sparse.issparse(X):
        return _is_finite(X.data)
    X = np.asarray(X)
    return X.dtype.kind in "fiub" and _is_finite(X)


def _is_finite(X):
    try:
        assert_all_finite(X)  # holds no table of booleans
    except ValueError:
        return False
    return True
