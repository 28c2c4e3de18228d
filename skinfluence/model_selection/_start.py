"""The one fit: its solver is stopped early where Newton steps get to the optimum sooner."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from .._unwrap import careful_clone, spare_rows
from ._followed import fold_model

# Parameters up to which a few Newton steps cost less than the last digits of another solver.
FEW_PARAMETERS = 500

# Solver tolerance of a fit that Newton steps then take to the optimum.
EARLY = 0.1

# Those of the same objective: liblinear penalises the intercept.
SOLVERS = ("lbfgs", "newton-cg", "newton-cholesky", "sag", "saga")


class FitFailed(ValueError):
    """The one fit failed; its cause is the estimator's own error."""


def fit_model(estimator, X, y, fit_params, approximation, preprocessing):
    """The model of the folds, from one fit on all rows.

    Raises
    ------
    FitFailed
        If that fit failed.
    """
    args = (approximation, preprocessing, fit_params)
    if isinstance(estimator, FrozenEstimator):
        return fold_model(estimator, X, y, *args)
    fitted = careful_clone(estimator)
    early = _stops_early(fitted, X, y)
    with warnings.catch_warnings():
        if early:
            warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            fitted.fit(spare_rows(estimator, X), y, **fit_params)
        except Exception as error:
            raise FitFailed(str(error)) from error
        return fold_model(fitted, X, y, *args)


def _stops_early(estimator, X, y):
    """Whether an unfitted estimator's last step was told to stop early."""
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    if type(estimator) is not LogisticRegression or estimator.solver not in SOLVERS:
        return False
    if getattr(estimator, "penalty", "l2") == "l1":
        return False
    if getattr(estimator, "l1_ratio", 0) or np.ndim(y) > 1 or len(np.shape(X)) < 2:
        return False
    n_classes = len(np.unique(y))
    if np.shape(X)[1] * (n_classes if n_classes > 2 else 1) > FEW_PARAMETERS:
        return False
    estimator.set_params(tol=max(estimator.tol, EARLY))
    return True
