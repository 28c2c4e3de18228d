"""Models retrained on some of the rows, in parallel and kept on disk."""

import copy
import inspect
import sys

import numpy as np
from joblib import Memory, Parallel, delayed
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from .._partitions import refuse_dask
from .._progress import progress
from .._unwrap import check_new_start


class Retraining:
    """Retrains an explainer's estimator on subsets and measures the result on queries.

    Parameters
    ----------
    explainer : fitted explainer
    X, y : training rows
    X_test, y_test : queries
    factory : callable, optional
        ``factory(seed)`` gives an unfitted estimator; default a clone of the explainer's own
        with its ``random_state`` set to the seed. With a net, torch is seeded as well.
    measure : callable, optional
        ``measure(estimator, X_test, y_test)`` of shape (n_queries,); default
        :func:`prediction_loss`.
    warm_start : bool
        Train on from the fitted parameters instead of anew.
    cache : str or path, optional
        Folder in which results are kept between calls.
    """

    def __init__(
        self,
        explainer,
        X,
        y,
        X_test,
        y_test,
        *,
        factory=None,
        measure=None,
        warm_start=False,
        n_jobs=None,
        cache=None,
        verbose=0,
    ):
        self.data = (X, np.asarray(y), X_test, np.asarray(y_test))
        self.measure = prediction_loss if measure is None else measure
        self.n_jobs, self.verbose = n_jobs, verbose
        self.train = Memory(cache, verbose=0).cache(retrained_measure)
        if warm_start and factory is not None:
            raise ValueError("warm_start trains on from the fitted estimator: pass no factory")
        self.make = _warm(explainer) if warm_start else factory or _cold(explainer)
        self.n_rows = len(self.data[1])

    def measures(self, subsets, seeds):
        """The measure after training on each subset, mean over ``seeds``: (n_subsets, m)."""
        tasks = [(rows, seed) for rows in subsets for seed in seeds]
        tasks = progress(tasks, "retraining", self.verbose)
        values = Parallel(n_jobs=self.n_jobs)(
            delayed(self.train)(self.make(seed), *self.data, rows, seed, self.measure)
            for rows, seed in tasks
        )
        values = np.array(values)
        if not np.isfinite(values).all():
            raise ValueError("a retrained model's measure is NaN or infinite on some queries")
        return values.reshape(len(subsets), len(seeds), -1).mean(axis=1)


def retrained_measure(estimator, X, y, X_test, y_test, rows, seed, measure):
    """Fit on some of the rows, measure on the queries."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
    estimator.fit(_safe_indexing(X, rows), _safe_indexing(y, rows))
    return np.asarray(measure(estimator, X_test, y_test), dtype=np.float64)


def prediction_loss(estimator, X, y):
    """Log loss of each query for a classifier with probabilities, else squared error.

    Parameters
    ----------
    estimator : fitted estimator
    X : array-like of shape (n_queries, n_features)
    y : array-like of shape (n_queries,) or (n_queries, n_outputs)

    Returns
    -------
    ndarray of shape (n_queries,)

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence.evaluation import prediction_loss
    >>> X, y = load_diabetes(return_X_y=True)
    >>> prediction_loss(Ridge().fit(X, y), X[:3], y[:3]).shape
    (3,)
    """
    refuse_dask(X, "prediction_loss")
    if not is_classifier(estimator):
        errors = (np.asarray(estimator.predict(X), dtype=np.float64).reshape(np.shape(y)) - y) ** 2
        return errors.reshape(len(errors), -1).sum(axis=1)
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(
            f"{type(estimator).__name__} has no predict_proba: pass measure, a function of "
            "(estimator, X_test, y_test)"
        )
    P = np.asarray(estimator.predict_proba(X), dtype=np.float64)
    codes = np.searchsorted(estimator.classes_, y)
    known = codes < len(estimator.classes_)
    known &= np.asarray(estimator.classes_)[np.where(known, codes, 0)] == y
    if not known.all():
        raise ValueError(
            f"label {np.asarray(y)[~known][0]} is unknown to a retrained model: its subset has "
            "no row of that class. Use larger subsets"
        )
    chosen = P[np.arange(len(P)), codes]
    others = P.sum(axis=1) - chosen
    # near 1 the complement is the more precise of the two
    with np.errstate(divide="ignore"):
        return np.where(chosen > 0.5, -np.log1p(-others), -np.log(np.maximum(chosen, 1e-300)))


def ensure_fitted(explainer, X, y):
    """The explainer itself when fitted (or no estimator), else a clone fitted on ``(X, y)``."""
    refuse_dask(X, "an evaluation by retraining")
    if not hasattr(explainer, "get_params"):
        return explainer
    try:
        check_is_fitted(explainer)
        return explainer
    except NotFittedError:
        return clone(explainer).fit(X, y)


def random_subsets(n_rows, size, n_subsets, rng):
    """Sorted random subsets without replacement: (n_subsets, size)."""
    return np.array([np.sort(rng.choice(n_rows, size, replace=False)) for _ in range(n_subsets)])


def _estimator(explainer):
    estimator = explainer.estimator
    return estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator


def _cold(explainer):
    if not hasattr(explainer, "estimator"):
        raise ValueError(f"{type(explainer).__name__} has no estimator to clone: pass factory")
    estimator = _estimator(explainer)
    check_new_start(estimator)

    def make(seed):
        model = clone(estimator)
        seeds = [name for name in model.get_params() if name.split("__")[-1] == "random_state"]
        return model.set_params(**dict.fromkeys(seeds, seed)) if seeds else model

    return make


def _warm(explainer):
    fitted = explainer.estimator_
    fitted = fitted.estimator if isinstance(fitted, FrozenEstimator) else fitted
    if "warm_start" not in inspect.signature(type(fitted)).parameters and not hasattr(
        fitted, "warm_start"
    ):
        raise ValueError(f"{type(fitted).__name__} has no warm_start; use warm_start=False")
    return lambda seed: copy.deepcopy(fitted).set_params(warm_start=True)
