"""Logistic regression, binary and multinomial, with a quadratic penalty."""

import numpy as np
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.utils import compute_class_weight

from .base import objective_for
from .design import Design
from .heads import BinaryHead, SoftmaxHead
from .linear import LinearObjective, stack_parameters
from .losses import LogisticLoss, MultinomialLoss
from .rules import RemovalRule


@objective_for.register(LogisticRegression)
def logistic_objective(estimator, X, y, sample_weight=None):
    """``C Σ s_i ℓ_i + ½‖w‖²``; ``C = inf`` drops the penalty; liblinear penalises the intercept."""
    return _logistic(estimator, _strength(estimator, estimator.C), X, y, sample_weight)


@objective_for.register(LogisticRegressionCV)
def logistic_cv_objective(estimator, X, y, sample_weight=None):
    """The refit on all rows at the chosen ``C``, which is held fixed."""
    if not estimator.refit:
        raise ValueError(
            "LogisticRegressionCV(refit=False) averages the coefficients of its folds and "
            "minimises no objective of its own; use refit=True"
        )
    chosen = np.unique(np.ravel(estimator.C_))
    if len(chosen) > 1:
        raise ValueError(f"LogisticRegressionCV chose several C, {chosen.tolist()}; one is needed")
    return _logistic(estimator, _strength(estimator, chosen[0]), X, y, sample_weight)


def _strength(estimator, C):
    """``(C, penalty)`` of a fit without L1."""
    kind = getattr(estimator, "penalty", "deprecated")
    ratio = np.ravel(getattr(estimator, "l1_ratio_", getattr(estimator, "l1_ratio", None)))
    mixed = kind in ("deprecated", "elasticnet") and any(r not in (None, 0) for r in ratio)
    if kind == "l1" or mixed:
        raise ValueError(
            f"{type(estimator).__name__} with an L1 penalty (penalty={kind!r}, "
            f"l1_ratio={getattr(estimator, 'l1_ratio', None)!r}) has no second derivative at its "
            "zeros; use l1_ratio=0, or method='refit' through a model without it"
        )
    return (1.0, 0.0) if kind is None or np.isinf(C) else (float(C), 1.0)


def _logistic(estimator, strength, X, y, sample_weight):
    C, penalty = strength
    classes = estimator.classes_
    binary = len(classes) == 2
    head = BinaryHead(classes) if binary else SoftmaxHead(classes)
    codes = head.encode(y)
    base = np.ones(len(codes)) if sample_weight is None else np.asarray(sample_weight, float)
    weights, rule = class_weighted(estimator.class_weight, classes, codes, base, base)
    liblinear = estimator.solver == "liblinear"
    if len(classes) > 2 and (liblinear or getattr(estimator, "multi_class", None) == "ovr"):
        raise ValueError(
            "a one-vs-rest fit by LogisticRegression itself is not supported; wrap a binary "
            "LogisticRegression in OneVsRestClassifier"
        )
    column = None
    if estimator.fit_intercept:
        column = float(estimator.intercept_scaling) if liblinear else 1.0
    design = Design(X, column)
    theta = stack_parameters(estimator, column)
    penalties = np.full(theta.shape, penalty)
    if column is not None and not liblinear:
        penalties[:, -1] = 0.0
    return LinearObjective(
        design,
        LogisticLoss() if binary else MultinomialLoss(),
        codes,
        C * weights,
        penalties,
        theta,
        head,
        rule=rule,
    )


def class_weighted(class_weight, classes, codes, base, measure):
    """Row weights times class weights, and the rule by which they move.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
    classes : ndarray
    codes : ndarray of shape (n,)
        Class index of each row.
    base : ndarray of shape (n,)
        Row weights.
    measure : ndarray of shape (n,)
        What "balanced" counts: row weights for some estimators, ones for others.
    """
    if class_weight is None:
        return base, RemovalRule(len(codes))
    if isinstance(class_weight, str):
        rule = RemovalRule(len(codes), groups=codes, measure=measure)
        return base * (rule.total / (len(classes) * rule.sums))[codes], rule
    table = compute_class_weight(class_weight, classes=classes, y=classes[codes])
    return base * table[codes], RemovalRule(len(codes))
