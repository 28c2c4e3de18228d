"""Variance of bagged predictions by the infinitesimal jackknife."""

import numpy as np
from sklearn.base import is_classifier
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.ensemble._forest import BaseForest

from .._blocks import block_length, blocks
from .._partitions import refuse_dask

ENSEMBLES = (BaggingClassifier, BaggingRegressor, RandomForestClassifier, RandomForestRegressor)


def bagging_variance(ensemble, X, n_rows, *, corrected=True):
    """Variance of a bagged prediction over training sets (Wager, Hastie and Efron 2014).

    ``Σ_i Cov_b(N_bi, t_b(x))²``, with ``N_bi`` how often member ``b`` drew row ``i``, less the
    bias that a finite number of members adds.

    Parameters
    ----------
    ensemble : fitted random forest or bagging ensemble
        Drawn with replacement (``bootstrap=True``).
    X : array-like of shape (n_queries, n_features)
    n_rows : int
        Number of training rows.
    corrected : bool, default=True
        Subtract ``n Var(N) / B`` times the variance of the members' predictions, and what
        is negative then is zero.

    Returns
    -------
    ndarray of shape (n_queries,) or (n_queries, n_classes)
        Of the prediction; of the class probabilities for a classifier.

    References
    ----------
    Wager, S., Hastie, T. and Efron, B. (2014). Confidence intervals for random forests: the
    jackknife and the infinitesimal jackknife. JMLR 15. https://arxiv.org/abs/1311.4555

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.ensemble import RandomForestRegressor
    >>> from skinfluence.inference import bagging_variance
    >>> X, y = load_diabetes(return_X_y=True)
    >>> forest = RandomForestRegressor(200, random_state=0).fit(X, y)
    >>> bagging_variance(forest, X[:3], len(X)).shape
    (3,)
    """
    refuse_dask(X, "bagging_variance")
    if not isinstance(ensemble, ENSEMBLES):
        names = ", ".join(cls.__name__ for cls in ENSEMBLES)
        raise TypeError(f"{type(ensemble).__name__} is not one of {names}")
    if not ensemble.bootstrap:
        raise ValueError(
            f"{type(ensemble).__name__}(bootstrap=False) does not resample its rows: the "
            "infinitesimal jackknife needs bootstrap=True"
        )
    if len(ensemble.estimators_) < 2:
        raise ValueError("the variance over members needs at least two of them")
    counts = _counts(ensemble, n_rows)
    B = len(counts)
    if isinstance(ensemble, BaseForest):
        X = ensemble._validate_X_predict(X)
    else:
        X = np.asarray(X)
    width = len(ensemble.classes_) if is_classifier(ensemble) else 1
    parts = blocks(X.shape[0], block_length(24 * B * width, share=1 / 8))
    found = [_variance(counts, _members(ensemble, X[part]), corrected) for part in parts]
    return np.concatenate(found)


def _counts(ensemble, n_rows):
    """How often each member drew each row, (B, n_rows)."""
    counts = np.empty((len(ensemble.estimators_), n_rows), np.uint16)
    for b, drawn in enumerate(ensemble.estimators_samples_):
        found = np.bincount(drawn, minlength=n_rows)
        if len(found) > n_rows:
            raise ValueError(f"n_rows={n_rows}, but the ensemble drew rows up to {len(found)}")
        counts[b] = found
    return counts


def _variance(counts, members, corrected):
    """Over training sets, of what the members predict (B, m) or (B, m, n_classes)."""
    members = members - members.mean(axis=0)
    B, n_rows = counts.shape
    flat = members.reshape(B, -1)
    variance, spread = np.zeros(flat.shape[1]), 0.0
    for rows in blocks(n_rows, block_length(8 * (2 * B + 2 * flat.shape[1]), share=1 / 8)):
        drawn = counts[:, rows] - counts[:, rows].mean(axis=0)
        covariance = drawn.T @ flat / B
        variance += np.einsum("ij,ij->j", covariance, covariance)
        spread += np.vdot(drawn, drawn)
    if corrected:
        bias = spread / counts.size * n_rows / B * (flat**2).mean(axis=0)
        variance = np.maximum(variance - bias, 0.0)
    return variance.reshape(members.shape[1:])


def _members(ensemble, X):
    """Predictions of the members: (B, m) or (B, m, n_classes)."""
    if isinstance(ensemble, BaseForest):
        parts = [(member, X) for member in ensemble.estimators_]
    else:
        columns = ensemble.estimators_features_
        parts = [
            (member, X[:, used]) for member, used in zip(ensemble.estimators_, columns, strict=True)
        ]
    if is_classifier(ensemble):
        known = {len(member.classes_) for member, _ in parts}
        if known != {len(ensemble.classes_)}:
            raise ValueError("a member of the ensemble drew no row of some class")
        return np.array([member.predict_proba(rows) for member, rows in parts])
    return np.array([member.predict(rows) for member, rows in parts], dtype=np.float64)
