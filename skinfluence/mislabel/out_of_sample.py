"""What a model says of each training row without having been trained on it.

Where a closed form or a by-product of the fit exists no model is fitted a second time:
approximate leave-one-out for models with an objective, out-of-bag votes for forests and
bagging, a lookup for nearest neighbours. The rest is refitted in folds.
"""

import warnings
from functools import singledispatch

import numpy as np
from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import check_array

from .._effects import bind
from .._partitions import refuse_dask
from .._unwrap import fit_estimator
from ..methods import Problem
from ..objectives import objective_for
from .fitting import fit_quietly, is_plain
from .folds import refit_in_folds
from .held_out import HeldOut, HoldOut, Platt

# Above this many parameters a Hessian costs more than a handful of refits.
MOST_PARAMETERS = 3000

# Transformers of these modules do not look at the labels, so keeping them as fitted on all
# rows tells a held-out row nothing about its own label.
BLIND_MODULES = (
    "sklearn.preprocessing",
    "sklearn.impute",
    "sklearn.decomposition",
    "sklearn.kernel_approximation",
    "sklearn.random_projection",
    "sklearn.feature_extraction",
    "skrub",
)


def out_of_sample(estimator, X, y, sample_weight=None, options=None):
    """Fit ``estimator`` and predict each row as if it had not been there.

    Parameters
    ----------
    estimator : classifier or regressor
        It is cloned.
    X : array-like, dataframe or sparse of shape (n, n_features)
    y : ndarray of shape (n,)
        Every class needs two rows.
    sample_weight : ndarray of shape (n,), optional
    options : HoldOut, optional

    Returns
    -------
    HeldOut

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
    refuse_dask(X, "out_of_sample")
    options = HoldOut() if options is None else options
    fitted = hold_out(estimator, X, y, sample_weight, options)
    return refit_in_folds(estimator, X, y, sample_weight, options) if fitted is None else fitted


@singledispatch
def hold_out(estimator, X, y, sample_weight, options):
    """Held-out predictions without refits, or None where none are known for the estimator.

    Register another kind of estimator here.

    Parameters
    ----------
    estimator : estimator
        Not fitted.
    X : array-like of shape (n, n_features)
    y : array-like of shape (n,)
    sample_weight : array-like of shape (n,) or None
    options : HoldOut

    Returns
    -------
    HeldOut or None

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skinfluence.mislabel import HoldOut, hold_out
    >>> X, y = load_iris(return_X_y=True)
    >>> hold_out(KNeighborsClassifier(), X, y, None, HoldOut()).values.shape
    (150, 3)
    """
    refuse_dask(X, "hold_out")
    if not _has_objective(estimator) or not is_plain(X):
        return None
    fitted = fit_quietly(estimator, X, y, sample_weight)
    return leave_one_out(fitted, X, y, sample_weight)


@hold_out.register(Pipeline)
def _(estimator, X, y, sample_weight, options):
    """The last step, where the steps before it do not see the labels."""
    if not all(is_blind(step) for _, step in estimator.steps[:-1]):
        return None
    final = estimator.steps[-1][1]
    if final is None or final == "passthrough" or not _known(final):
        return None
    fitted = clone(estimator)
    Z = X
    for k, (name, step) in enumerate(fitted.steps[:-1]):
        if step is not None and step != "passthrough":
            step = clone(step)
            Z = step.fit_transform(Z)
            fitted.steps[k] = (name, step)
    held = hold_out(final, Z, y, sample_weight, options)
    if held is None:
        return None
    fitted.steps[-1] = (fitted.steps[-1][0], held.estimator)
    return HeldOut(held.values, fitted, held.how, held.platt)


@hold_out.register(RandomForestClassifier)
@hold_out.register(RandomForestRegressor)
@hold_out.register(ExtraTreesClassifier)
@hold_out.register(ExtraTreesRegressor)
@hold_out.register(BaggingClassifier)
@hold_out.register(BaggingRegressor)
def _(estimator, X, y, sample_weight, options):
    """Votes of the trees that did not draw the row."""
    if not estimator.bootstrap:
        return None
    forest = clone(estimator).set_params(oob_score=True)
    with warnings.catch_warnings():
        # a row that every tree drew is filled in below
        warnings.filterwarnings("ignore", message="Some inputs do not have OOB")
        warnings.filterwarnings("ignore", message="invalid value encountered in divide")
        forest = fit_estimator(forest, X, y, sample_weight)
    if is_classifier(forest):
        values = forest.oob_decision_function_.copy()
        empty = ~np.isfinite(values).all(axis=1) | (values.sum(axis=1) <= 0)
        values[empty] = np.mean(y[:, None] == forest.classes_, axis=0)
    else:
        values = forest.oob_prediction_.copy()
        empty = ~np.isfinite(values) | _never_out(forest, len(y))
        values[empty] = np.mean(y)
    return HeldOut(values, forest, "out-of-bag votes")


@hold_out.register(KNeighborsClassifier)
@hold_out.register(KNeighborsRegressor)
def _(estimator, X, y, sample_weight, options):
    """The neighbours without the row itself."""
    if callable(estimator.weights) or estimator.n_neighbors >= len(y):
        return None
    fitted = clone(estimator).fit(X, y)
    distances, neighbours = fitted.kneighbors()  # no argument: a row is not its own neighbour
    votes = np.ones(distances.shape)
    if estimator.weights == "distance":
        with np.errstate(divide="ignore"):
            votes = 1 / distances
        same = np.isinf(votes).any(axis=1)
        votes[same] = np.isinf(votes[same])
    votes /= votes.sum(axis=1, keepdims=True)
    if is_classifier(fitted):
        codes = np.searchsorted(fitted.classes_, y)
        values = np.zeros((len(y), len(fitted.classes_)))
        for k in range(len(fitted.classes_)):
            values[:, k] = (votes * (codes[neighbours] == k)).sum(axis=1)
    else:
        values = (votes * y[neighbours]).sum(axis=1)
    return HeldOut(values, fitted, "neighbours without the row")


def leave_one_out(fitted, X, y, sample_weight=None):
    """One Newton step without each row; None where the fit does not admit it."""
    rows = check_array(X, accept_sparse="csr", dtype=[np.float64, np.float32])
    if _n_parameters(fitted, rows) > MOST_PARAMETERS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the optimum is what is asked for
            warnings.filterwarnings("ignore", message="the columns of X are linearly dependent")
            objective = objective_for(fitted, rows, np.asarray(y), sample_weight)
            _, _, effects = bind("auto", "auto", Problem(objective, None))
            outputs = effects.left_out_outputs()
    except (
        AttributeError,
        TypeError,
        ValueError,
    ):  # an option or a row the closed form refuses: folds do it
        return None
    if not np.isfinite(outputs).all():
        return None
    if objective.head.classes is None:
        values = objective.head.decision(outputs, np.zeros(len(outputs), dtype=np.intp))
        return HeldOut(values, fitted, "approximate leave-one-out")
    if hasattr(fitted, "predict_proba"):
        return HeldOut(objective.head.proba(outputs), fitted, "approximate leave-one-out")
    platt = Platt(outputs, y)
    return HeldOut(platt.predict_proba(outputs), fitted, "approximate leave-one-out", platt)


def is_blind(step):
    """Whether a transformer is known not to look at the labels."""
    if step is None or isinstance(step, str):
        return True
    if isinstance(step, ColumnTransformer):
        return all(is_blind(part) for _, part, _ in step.transformers)
    if isinstance(step, FeatureUnion):
        return all(is_blind(part) for _, part in step.transformer_list)
    if isinstance(step, Pipeline):
        return all(is_blind(part) for _, part in step.steps)
    return type(step).__module__.startswith(BLIND_MODULES) and "Target" not in type(step).__name__


def _known(estimator):
    """Whether :func:`hold_out` may have something for a final step."""
    return _has_objective(estimator) or hold_out.dispatch(type(estimator)) is not hold_out.dispatch(
        object
    )


def _has_objective(estimator):
    return objective_for.dispatch(type(estimator)) is not objective_for.dispatch(object)


def _n_parameters(fitted, X):
    """Order of a dense system: parameters that are coupled, or rows where those are fewer."""
    coef = getattr(fitted, "coef_", None)
    return X.shape[1] if coef is None or sparse.issparse(coef) else np.size(coef)


def _never_out(forest, n):
    """Rows that every member of a bagging drew."""
    out = np.zeros(n, dtype=bool)
    if hasattr(forest, "estimators_samples_"):
        for drawn in forest.estimators_samples_:
            mask = np.ones(n, dtype=bool)
            mask[drawn] = False
            out |= mask
        return ~out
    return out
