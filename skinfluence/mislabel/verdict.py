"""What a detector is given: members of a committee, labels, probabilities."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import get_tags
from sklearn.utils.validation import column_or_1d


@dataclass
class Member:
    """A model of the committee, fitted on the rows of the last round.

    Parameters
    ----------
    name : str
    estimator : estimator or FoldModels
        After refits in folds, the models of the folds.
    how : str
        How rows were held out: "approximate leave-one-out", "out-of-bag votes", "5 folds", ...
    weight : float
        Its share in the committee.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skinfluence.mislabel import MislabelDetector
    >>> X, y = load_iris(return_X_y=True)
    >>> detector = MislabelDetector(LogisticRegression(max_iter=1000)).fit(X, y)
    >>> [(member.name, member.weight) for member in detector.members_]
    [('logisticregression', 1.0)]
    """

    name: str
    estimator: Any
    how: str
    weight: float = 0.0


def named_members(estimators):
    """``{name: estimator}`` from one estimator or a list of estimators or (name, estimator)."""
    if not isinstance(estimators, list | tuple):
        estimators = [estimators]
    if not estimators:
        raise ValueError("estimators is an empty list: nobody judges")
    members = {}
    for item in estimators:
        named = isinstance(item, list | tuple) and len(item) == 2
        name, estimator = item if named else (type(item).__name__.lower(), item)
        if not hasattr(estimator, "fit") or isinstance(estimator, type):
            raise TypeError(
                f"estimators={estimator!r} is not 'auto', an estimator or a list of estimators"
            )
        unique, number = name, 2
        while unique in members:
            unique, number = f"{name}-{number}", number + 1
        members[unique] = estimator
    return members


def takes_nan(estimator):
    """Whether an estimator takes missing values, a pipeline's imputer seen."""
    for _, step in getattr(estimator, "steps", [])[:-1]:
        if type(step).__module__.startswith(("sklearn.impute", "skrub")):
            return True
        if hasattr(step, "fit") and not get_tags(step).input_tags.allow_nan:
            return False
    final = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    return get_tags(final).input_tags.allow_nan


def as_labels(y):
    """``y`` as a 1-D array; missing labels are refused."""
    y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f":
        missing = ~np.isfinite(y)
    elif y.dtype.kind == "O":
        missing = np.array([label is None or label != label for label in y.tolist()], dtype=bool)
        if not missing.any() and len({type(label) for label in y.tolist()}) == 1:
            y = np.array(y.tolist())
    else:
        missing = np.zeros(len(y), dtype=bool)
    if missing.any():
        rows = np.flatnonzero(missing)
        raise ValueError(
            f"y contains NaN, infinity or None at {len(rows)} rows, the first {rows[:5].tolist()}: "
            "drop them, or give them a class of their own"
        )
    return y


def checked_proba(proba, n, K):
    """Probabilities from elsewhere as an array; refused unless they are some for n rows."""
    proba = np.asarray(proba, dtype=np.float64)
    if proba.shape != (n, K):
        raise ValueError(f"pred_proba has shape {proba.shape}, but y has {n} rows, {K} classes")
    if not np.isfinite(proba).all() or proba.min() < 0 or (proba.sum(axis=1) <= 0).any():
        raise ValueError("pred_proba must hold finite, non-negative probabilities")
    if np.abs(proba.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError("the rows of pred_proba must sum to one")
    return proba
