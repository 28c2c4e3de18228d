"""Least squares: ordinary, ridge, and ridge classification."""

import numpy as np
from sklearn.linear_model import (
    LinearRegression,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
)
from sklearn.utils import Bunch

from .base import objective_for
from .composite import IndependentOutputs
from .design import design_of
from .heads import BinaryHead, OneVsRestHead, RegressionHead
from .linear import LinearObjective, stack_parameters
from .logistic import class_weighted
from .losses import OnSigns, SquaredLoss
from .rules import row_weights


@objective_for.register(LinearRegression)
def linear_objective(estimator, X, y, sample_weight=None):
    """``Σ s_i r_i²``."""
    return _regression(estimator, 0.0, X, y, sample_weight)


@objective_for.register(Ridge)
def ridge_objective(estimator, X, y, sample_weight=None):
    """``Σ s_i r_i² + α‖w‖²``."""
    return _regression(estimator, estimator.alpha, X, y, sample_weight)


@objective_for.register(RidgeCV)
def ridge_cv_objective(estimator, X, y, sample_weight=None):
    """Ridge at the chosen ``alpha``, which is held fixed."""
    return _regression(estimator, estimator.alpha_, X, y, sample_weight)


@objective_for.register(RidgeClassifier)
def ridge_classifier_objective(estimator, X, y, sample_weight=None):
    """Ridge on targets in {-1, 1}, one column a class."""
    return _classification(estimator, estimator.alpha, X, y, sample_weight)


@objective_for.register(RidgeClassifierCV)
def ridge_classifier_cv_objective(estimator, X, y, sample_weight=None):
    """Ridge classification at the chosen ``alpha``, which is held fixed."""
    return _classification(estimator, estimator.alpha_, X, y, sample_weight)


def _regression(estimator, alpha, X, y, sample_weight):
    if getattr(estimator, "positive", False):
        raise ValueError(
            f"{type(estimator).__name__}(positive=True) is a constrained fit: its optimum is not "
            "stationary. Use positive=False"
        )
    y = np.asarray(y, dtype=np.float64)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    n_outputs = 1 if y.ndim == 1 else y.shape[1]
    weights = row_weights(sample_weight, len(y))
    design, theta, penalty = _parts(estimator, alpha, X, n_outputs)
    head = RegressionHead(SquaredLoss(), n_outputs)
    if n_outputs == 1 or (penalty == penalty[0]).all():
        return LinearObjective(design, SquaredLoss(), y, weights, penalty, theta, head)
    parts = [
        LinearObjective(
            design,
            SquaredLoss(),
            y[:, k],
            weights,
            penalty[[k]],
            theta[[k]],
            RegressionHead(SquaredLoss()),
        )
        for k in range(n_outputs)
    ]
    return IndependentOutputs(parts, head, range(n_outputs), y, each_output)


def _classification(estimator, alpha, X, y, sample_weight):
    classes = estimator.classes_
    if np.ndim(y) > 1 and np.shape(y)[1] > 1:
        raise ValueError(
            "RidgeClassifier on several labels a row is not supported: fit one a label"
        )
    binary = len(classes) == 2
    if binary:
        head = BinaryHead(classes, OnSigns(SquaredLoss()), has_probability=False)
    else:
        head = OneVsRestHead(classes, OnSigns(SquaredLoss()))
    codes = head.encode(y)
    base = row_weights(sample_weight, len(codes))
    weights, rule = class_weighted(
        estimator.class_weight, classes, codes, base, np.ones(len(codes))
    )
    design, theta, penalty = _parts(estimator, alpha, X, head.n_outputs)
    if binary:
        signs = 2.0 * codes - 1.0
    else:
        signs = np.where(codes[:, None] == np.arange(len(classes)), 1.0, -1.0)
    return LinearObjective(
        design, SquaredLoss(), signs, weights, penalty, theta, head, rule=rule, head_targets=codes
    )


def each_output(estimator):
    """A view of a multi-output fit for each target."""
    intercepts = np.broadcast_to(estimator.intercept_, (len(estimator.coef_),))
    pairs = zip(estimator.coef_, intercepts, strict=True)
    return [Bunch(coef_=coef, intercept_=intercept) for coef, intercept in pairs]


def _parts(estimator, alpha, X, n_outputs):
    column = 1.0 if estimator.fit_intercept else None
    theta = stack_parameters(estimator, column)
    penalty = np.empty(theta.shape)
    penalty[:] = 2 * np.broadcast_to(np.asarray(alpha, dtype=np.float64), (n_outputs,))[:, None]
    if column is not None:
        penalty[:, -1] = 0.0
    return design_of(X, column), theta, penalty
