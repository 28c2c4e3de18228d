"""Cross-validation as in ``sklearn.model_selection``, from one fit."""

import time
from functools import partial

import numpy as np
import sklearn.model_selection as reference
from sklearn.metrics import check_scoring
from sklearn.utils import indexable

from .._partitions import is_dask, refuse_dask
from ._bounds import fold_error_bounds
from ._dask import left_out_rows
from ._folds import make_folds, route, splitter
from ._model import check_approximation
from ._run import fitted, fold_outputs, fold_scores, stand_in


def cross_val_predict(
    estimator,
    X,
    y=None,
    *,
    groups=None,
    cv=None,
    n_jobs=None,
    verbose=0,
    params=None,
    pre_dispatch="2*n_jobs",
    method="predict",
    approximation="auto",
    preprocessing="auto",
):
    """Predictions of each row by a model fitted without its fold, from one fit.

    As :func:`sklearn.model_selection.cross_val_predict`, with two differences: ``cv=None`` means
    leave-one-out, and the folds are not fitted.

    Parameters
    ----------
    estimator : estimator
        A supported model, or a Pipeline over one. It is cloned and fitted once on all rows; a
        fitted model in a ``FrozenEstimator`` must have been fitted on ``X`` and ``y``.
    X : array-like, dataframe, sparse or dask collection of shape (n_samples, n_features)
        Over a dask collection the estimator is a fitted one, ``cv`` is None, and a dask array
        comes back.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    groups : array-like of shape (n_samples,), optional
        Given to the splitter.
    cv : int, splitter, iterable or None, default=None
        Leave-one-out when None.
    n_jobs, verbose, pre_dispatch
        For ``approximation="refit"``.
    params : dict, optional
        ``sample_weight``, or what metadata routing needs.
    method : {"predict", "predict_proba", "predict_log_proba", "decision_function"}
    approximation : {"auto", "infinitesimal_jackknife", "newton", "exact", "refit"}
        How the rows outside a training fold are removed, jointly. "exact" takes as many Newton
        steps as its certificate asks for; "newton" takes one; "infinitesimal_jackknife" is the
        first order; "refit" is scikit-learn's own function. "auto" is "exact" where the model
        has it, else "newton".
    preprocessing : {"auto", "frozen", "refit"}, default="auto"
        What happens to the earlier steps of a Pipeline. "refit" lets them move with the folds:
        "auto" and "exact" fit them to each training fold, the other approximations follow them
        to first order and refuse steps they do not know. "auto" does so where it can (into
        linear predictors), and keeps steps as fitted on all rows with a warning where not.
        "frozen" keeps them.

    Returns
    -------
    ndarray
        Shape, dtype and labels as scikit-learn's.

    Raises
    ------
    TypeError
        If the estimator is not supported; ``approximation="refit"`` takes any.
    ValueError
        If the splits are not a partition.

    Notes
    -----
    Where a pipeline's steps are fitted to each training fold, a fold takes a fit of the steps and
    a few Newton steps of the last; behind one scaler it takes the latter alone. Leave-one-out
    then costs ``n_samples`` such folds: ``approximation="newton"`` does without.

    Rules that an estimator applies to its data (balanced class weights, a penalty on the mean
    loss) are applied again to each training fold. A training fold without one of the classes,
    one that names a row twice, and (under "auto" and "exact") one in which the parameters are
    not determined, is fitted by the estimator itself; so are all where the one fit fails.

    References
    ----------
    Giordano, R., Stephenson, W., Liu, R., Jordan, M. and Broderick, T. (2019). A Swiss army
    infinitesimal jackknife. AISTATS. https://arxiv.org/abs/1806.00550

    Rad, K. R. and Maleki, A. (2020). A scalable estimate of the out-of-sample prediction error
    via approximate leave-one-out cross-validation. JRSS B 82. https://arxiv.org/abs/1801.10243

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence.model_selection import cross_val_predict
    >>> X, y = load_diabetes(return_X_y=True)
    >>> cross_val_predict(Ridge(), X, y).shape
    (442,)
    """
    check_approximation(approximation, preprocessing, estimator)
    if is_dask(X):
        return left_out_rows(
            estimator, X, y, groups, cv, params, method, approximation, preprocessing
        )
    X, y = indexable(X, y)
    cv = splitter(cv, y, estimator)
    refits = partial(
        reference.cross_val_predict,
        estimator,
        X,
        y,
        groups=groups,
        cv=cv,
        n_jobs=n_jobs,
        verbose=verbose,
        params=params,
        pre_dispatch=pre_dispatch,
        method=method,
    )
    if approximation == "refit":
        return refits()
    routed = route("cross_val_predict", estimator, cv, None, groups, params)
    folds = make_folds(cv, X, y, routed.splitter.split)
    model = fitted(estimator, X, y, routed, approximation, preprocessing)
    if model is None:
        return refits()
    outputs = fold_outputs(model, folds)
    if outputs is not None:
        return model.responses(outputs, method)
    moved, params = stand_in(model, estimator, routed, folds)
    return reference.cross_val_predict(moved, X, y, cv=folds.cv, params=params, method=method)


def cross_validate(
    estimator,
    X,
    y=None,
    *,
    groups=None,
    scoring=None,
    cv=None,
    n_jobs=None,
    verbose=0,
    params=None,
    pre_dispatch="2*n_jobs",
    return_train_score=False,
    return_estimator=False,
    return_indices=False,
    error_score=np.nan,
    approximation="auto",
    preprocessing="auto",
    return_error_bound=False,
):
    """Scores of each fold by a model fitted without it, from one fit.

    As :func:`sklearn.model_selection.cross_validate`, with two differences: ``cv=None`` means
    leave-one-out, and the folds are not fitted. See :func:`cross_val_predict` for what
    ``approximation`` and ``preprocessing`` mean and when a fold is fitted after all.

    Parameters
    ----------
    estimator : estimator
    X : array-like, dataframe or sparse of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    groups : array-like of shape (n_samples,), optional
    scoring : str, callable, list, tuple, dict or None
    cv : int, splitter, iterable or None, default=None
        Leave-one-out when None.
    n_jobs, pre_dispatch
        For ``approximation="refit"``.
    verbose : int, default=0
    params : dict, optional
    return_train_score, return_estimator, return_indices : bool, default=False
        ``return_estimator`` gives objects that predict as the estimators of the folds.
    error_score : "raise" or numeric, default=nan
    approximation : {"auto", "infinitesimal_jackknife", "newton", "exact", "refit"}
    preprocessing : {"auto", "frozen", "refit"}, default="auto"
    return_error_bound : bool, default=False
        Also ``error_bound``: how far a test prediction of each split can be from the truth.

    Returns
    -------
    dict of float arrays of shape (n_splits,)
        ``test_score`` or ``test_<name>``, ``train_...``, ``fit_time``, ``score_time``,
        ``estimator``, ``indices``. ``fit_time`` is the share of a fold in the one fit.
        ``error_bound`` if asked for.

    Raises
    ------
    TypeError, ValueError
        For ``return_error_bound``, where no bound is known: see
        :meth:`skinfluence.InfluenceExplainer.error_bound`.

    Notes
    -----
    ``error_bound`` is an upper bound, proved from the gradient of the objective without the
    fold: no test row's linear predictor (its decision values, Euclidean norm over the outputs) is
    further from that of the optimum without the fold. A binary logistic probability is then
    within a quarter of it. It is infinite where nothing can be proved, as may be after one step
    on a large fold, and NaN where the fold was fitted by the estimator itself. Earlier pipeline
    steps must be held. Each fold takes a factorisation and the eigenvalues of its Hessian; all
    leave-one-out folds share those of the fit, which leaves their bounds wider.

    The scores of all leave-one-out folds are computed at once for accuracy, mean squared and
    mean absolute error, and log-loss with ``labels`` (``make_scorer(log_loss, labels=classes,
    response_method="predict_proba", greater_is_better=False)``; without ``labels`` the log-loss
    of a single row is an error, in scikit-learn too). Other scorers are called fold by fold.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence.model_selection import cross_validate
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> scores = cross_validate(LogisticRegression(), scale(X), y, cv=10, scoring="roc_auc")
    >>> print(f"{scores['test_score'].mean():.3f}")
    0.996
    """
    refuse_dask(X, "cross-validation but for cross_val_predict")
    check_approximation(approximation, preprocessing, estimator)
    X, y = indexable(X, y)
    cv = splitter(cv, y, estimator)
    options = {
        "scoring": scoring,
        "verbose": verbose,
        "return_train_score": return_train_score,
        "return_estimator": return_estimator,
        "return_indices": return_indices,
        "error_score": error_score,
    }
    refits = partial(
        reference.cross_validate,
        estimator,
        X,
        y,
        groups=groups,
        cv=cv,
        params=params,
        n_jobs=n_jobs,
        pre_dispatch=pre_dispatch,
        **options,
    )
    if approximation == "refit":
        if return_error_bound:
            raise ValueError("return_error_bound has nothing to bound with approximation='refit'")
        return refits()
    scorer = check_scoring(estimator, scoring=scoring, raise_exc=error_score == "raise")
    routed = route("cross_validate", estimator, cv, scorer, groups, params)
    start = time.perf_counter()
    folds = make_folds(cv, X, y, routed.splitter.split)
    model = fitted(estimator, X, y, routed, approximation, preprocessing)
    if model is None:
        unbounded = {"error_bound": np.full(len(folds), np.nan)} if return_error_bound else {}
        return refits() | unbounded
    if return_error_bound and model.followed:
        raise ValueError(
            "return_error_bound is not known where a pipeline's steps move with the folds: pass "
            "preprocessing='frozen'"
        )
    out = fold_scores(model, estimator, X, y, folds, scorer, routed, options, start)
    if return_error_bound:
        out["error_bound"] = fold_error_bounds(model, folds)
    return out


def cross_val_score(
    estimator,
    X,
    y=None,
    *,
    groups=None,
    scoring=None,
    cv=None,
    n_jobs=None,
    verbose=0,
    params=None,
    pre_dispatch="2*n_jobs",
    error_score=np.nan,
    approximation="auto",
    preprocessing="auto",
):
    """Score of each fold by a model fitted without it, from one fit.

    As :func:`sklearn.model_selection.cross_val_score`, with two differences: ``cv=None`` means
    leave-one-out, and the folds are not fitted. See :func:`cross_validate`.

    Parameters
    ----------
    estimator : estimator
    X : array-like, dataframe or sparse of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    groups : array-like of shape (n_samples,), optional
    scoring : str, callable or None
    cv : int, splitter, iterable or None, default=None
        Leave-one-out when None.
    n_jobs, pre_dispatch
        For ``approximation="refit"``.
    verbose : int, default=0
    params : dict, optional
    error_score : "raise" or numeric, default=nan
    approximation : {"auto", "infinitesimal_jackknife", "newton", "exact", "refit"}
    preprocessing : {"auto", "frozen", "refit"}, default="auto"

    Returns
    -------
    ndarray of shape (n_splits,)

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence.model_selection import cross_val_score
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> print(f"{cross_val_score(LogisticRegression(), scale(X), y).mean():.4f}")
    0.9789
    """
    refuse_dask(X, "cross-validation but for cross_val_predict")
    scorer = check_scoring(estimator, scoring=scoring)
    out = cross_validate(
        estimator,
        X,
        y,
        groups=groups,
        scoring={"score": scorer},
        cv=cv,
        n_jobs=n_jobs,
        verbose=verbose,
        params=params,
        pre_dispatch=pre_dispatch,
        error_score=error_score,
        approximation=approximation,
        preprocessing=preprocessing,
    )
    return out["test_score"]
