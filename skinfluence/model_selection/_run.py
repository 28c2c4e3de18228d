"""What the folds give, from the one fit: outputs and scores."""

import time

import numpy as np
import sklearn.model_selection as reference
from sklearn import get_config
from sklearn.utils.validation import _check_method_params

from ._moved import MovedEstimator
from ._scores import pointwise
from ._start import FitFailed, fit_model


def fitted(estimator, X, y, routed, approximation, preprocessing):
    """The model of the folds; None where the one fit fails, and each fold is tried by itself."""
    fit_params = _check_method_params(X, params=routed.estimator.fit)
    try:
        return fit_model(estimator, X, y, fit_params, approximation, preprocessing)
    except FitFailed as error:
        if approximation not in ("auto", "exact"):
            raise error.__cause__ from None
        return None


def fold_scores(model, estimator, X, y, folds, scorer, routed, options, start):
    """The answer of :func:`cross_validate`, from the one fit."""
    extras = ("return_train_score", "return_estimator", "return_indices")
    plain = not any(options.get(name) for name in extras) and not routed.scorer.score
    if plain and folds.splits is None:
        scores = leave_one_out_scores(model, scorer, np.asarray(y), start)
        if scores is not None:
            return scores
    moved, params = stand_in(model, estimator, routed, folds)
    share = (time.perf_counter() - start) / len(folds)
    out = reference.cross_validate(moved, X, y, cv=folds.cv, params=params, **options)
    out["fit_time"] = out["fit_time"] + share
    return out


def leave_one_out_scores(model, scorer, y, start):
    """Scores of all leave-one-out folds at once, where that gives what single calls would."""
    scorers = getattr(scorer, "_scorers", {"score": scorer})
    scores = {name: pointwise(part, model, y) for name, part in scorers.items()}
    if any(score is None for score in scores.values()) or not model.movable_rows().all():
        return None
    outputs = _tried(model, model.left_out_outputs)
    if outputs is None:
        return None
    fitted = time.perf_counter()
    tests = {f"test_{name}": score(outputs) for name, score in scores.items()}
    n, scored = len(y), time.perf_counter()
    times = {
        "fit_time": np.full(n, (fitted - start) / n),
        "score_time": np.full(n, (scored - fitted) / n),
    }
    return times | tests


def fold_outputs(model, folds):
    """Outputs of every row without its fold; None where scikit-learn has to run the folds."""
    if folds.removed is None:
        if not model.movable_rows().all():
            return None
        return _tried(model, model.left_out_outputs)
    tests = np.concatenate([test for _, test in folds.splits])
    if not np.array_equal(np.sort(tests), np.arange(model.n_rows)):
        raise ValueError("cross_val_predict only works for partitions")
    usual = all(len(rows) and model.movable(rows) for rows in folds.removed)
    if folds.unusual or not usual:
        return None
    return _tried(model, lambda: model.fold_outputs(folds))


def _tried(model, work):
    try:
        return work()
    except ValueError:
        if not model.accurate:
            raise
        return None


def stand_in(model, estimator, routed, folds):
    """The estimator and parameters with which scikit-learn's own function runs the folds."""
    if folds.removed is not None and not folds.unusual:
        groups = [rows for rows in folds.removed if len(rows) and model.movable(rows)]
        if groups:
            _tried(model, lambda: model.prepare(groups))
    moved = MovedEstimator(estimator, model)
    if get_config()["enable_metadata_routing"]:
        moved.set_fit_request(rows=True)
    params = routed.estimator.fit | routed.scorer.score | {"rows": np.arange(model.n_rows)}
    return moved, params
