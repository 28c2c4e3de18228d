"""What a model says of each training row without having been trained on it.

Where a closed form or a by-product of the fit exists no model is fitted a second time:
approximate leave-one-out for models with an objective, out-of-bag votes for forests and
bagging, a lookup for nearest neighbours. The rest is refitted in folds.
"""

import warnings
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy import sparse
from sklearn import config_context
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
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import check_array

from .._unwrap import fit_estimator, weight_name
from ..methods import Problem, resolve_method
from ..objectives import objective_for
from ..solvers import resolve_solver
from ..solvers.base import fitted_solver

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


@dataclass
class HeldOut:
    """Out-of-sample predictions of one model.

    Attributes
    ----------
    values : ndarray of shape (n, K) or (n,)
        Probabilities in the order of ``estimator.classes_``, or a regressor's predictions.
    estimator : estimator or FoldModels
        The model fitted on all rows it was given; after refits in folds, the models of the folds.
    how : str
        How the rows were held out, in words.
    platt : Platt or None
        What turned decision values into probabilities, for a model that has none.
    """

    values: np.ndarray
    estimator: Any
    how: str
    platt: Any = None

    def predict_proba(self, X):
        """Probabilities of other rows, as :attr:`values` were made."""
        if isinstance(self.estimator, FoldModels):
            values = self.estimator.mean(X)
        elif self.platt is not None:
            values = self.estimator.decision_function(X)
        else:
            values = predict_with(self.estimator, X, self.estimator.classes_)[0]
        return values if self.platt is None else self.platt.predict_proba(values)


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


@dataclass
class HoldOut:
    """How to hold rows out where refits are needed.

    Attributes
    ----------
    n_folds : int
    n_jobs : int or None
    seed : int
    """

    n_folds: int = 5
    n_jobs: int | None = None
    seed: int = 0


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
    options = HoldOut() if options is None else options
    fitted = hold_out(estimator, X, y, sample_weight, options)
    return refit_in_folds(estimator, X, y, sample_weight, options) if fitted is None else fitted


@singledispatch
def hold_out(estimator, X, y, sample_weight, options):
    """Held-out predictions without refits, or None where none are known for the estimator.

    Register another kind of estimator here.
    """
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
            outputs = own_outputs_without(objective)
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


def own_outputs_without(objective):
    """Outputs of each training row when it is left out: (n, n_outputs).

    By the method that "auto" stands for: one Newton step, or exact where that is known.
    """
    method = resolve_method("auto", objective)
    solver = None
    if method.uses_solver:
        solver = fitted_solver(resolve_solver("auto", objective), objective)
    effects = method.bind(Problem(objective, solver))
    outputs = np.empty((objective.n_rows, objective.n_outputs))
    for part in effects.row_blocks(np.arange(objective.n_rows)):
        held = objective.training_queries(part).outputs
        outputs[part] = held + effects.own_outputs(part)
    return outputs


def refit_in_folds(estimator, X, y, sample_weight=None, options=None):
    """Held-out predictions by refits, each class spread evenly over the folds."""
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


def _fit_fold(estimator, X, y, sample_weight, train, classes):
    weight = None if sample_weight is None else sample_weight[train]
    fitted = fit_quietly(estimator, take(X, train), y[train], weight)
    return *predict_with(fitted, take(X, ~train), classes), fitted


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


def spread_folds(y, classes, n_folds, seed):
    """A fold for each row; every class is dealt out evenly, however rare."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    if classes is not None:
        order = order[np.argsort(np.searchsorted(classes, y[order]), kind="stable")]
    folds = np.empty(len(y), dtype=np.intp)
    folds[order] = np.arange(len(y)) % min(n_folds, len(y))
    return folds


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
        return bool(np.isfinite(X.data).all())
    X = np.asarray(X)
    return X.dtype.kind in "fiub" and bool(np.isfinite(X).all())


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
