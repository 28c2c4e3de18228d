"""Scores that are means over rows: those of all leave-one-out folds come at once."""

import numpy as np
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, mean_squared_error

from ._model import default_score


def pointwise(scorer, model, y):
    """A function of outputs that scores each row as ``scorer`` would score it alone, or None.

    Parameters
    ----------
    scorer : scorer
        As ``sklearn.metrics.check_scoring`` gives it.
    model : FoldModel
    y : ndarray

    Returns
    -------
    callable or None
        From outputs of all rows, shape (n, n_outputs), to scores, shape (n,).
    """
    function, sign, options = scorer_parts(scorer, model)
    if function is accuracy_score and not options and y.ndim == 1:
        return lambda Z: (model.responses(Z, "predict") == y).astype(np.float64)
    if function is mean_squared_error and not options:
        return lambda Z: sign * _over_outputs((model.responses(Z, "predict") - y) ** 2)
    if function is mean_absolute_error and not options:
        return lambda Z: sign * _over_outputs(np.abs(model.responses(Z, "predict") - y))
    if function is log_loss and list(options) == ["labels"]:
        classes = model.objective.head.classes
        if np.array_equal(np.unique(options["labels"]), classes):
            return lambda Z: sign * _log_loss(model.responses(Z, "predict_proba"), classes, y)
    return None


def scorer_parts(scorer, model=None):
    """``(function, sign, options)`` of a scorer made by ``make_scorer``, or of the default."""
    if hasattr(scorer, "_score_func"):
        return scorer._score_func, scorer._sign, scorer._kwargs
    if model is not None and type(scorer).__name__ == "_PassthroughScorer":
        if default_score(model.estimator) == "accuracy":
            return accuracy_score, 1, {}
    return None, 1, {}


def _log_loss(P, classes, y):
    eps = np.finfo(P.dtype).eps
    own = P[np.arange(len(y)), np.searchsorted(classes, y)]
    return -np.log(np.clip(own, eps, 1 - eps)).astype(np.float64)


def _over_outputs(errors):
    return errors.reshape(len(errors), -1).mean(axis=1, dtype=np.float64)
