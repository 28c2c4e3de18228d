"""Logistic regression, binary and multinomial, with quadratic and L1 penalties."""

import numpy as np
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.utils import compute_class_weight

from .base import objective_for
from .design import design_of
from .heads import BinaryHead, SoftmaxHead
from .linear import LinearObjective, stack_parameters
from .losses import LogisticLoss, MultinomialLoss
from .rules import RemovalRule
from .sparse import SparseObjective


@objective_for.register(LogisticRegression)
def logistic_objective(estimator, X, y, sample_weight=None):
    """``C Σ s_i ℓ_i + r‖w‖₁ + ½(1 - r)‖w‖²``; ``C = inf`` drops the penalty.

    liblinear penalises the intercept as well.
    """
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
    """``(C, quadratic penalty, L1 penalty)``."""
    if np.isinf(C) or getattr(estimator, "penalty", "deprecated") is None:
        return 1.0, 0.0, 0.0
    kind = getattr(estimator, "penalty", "deprecated")
    if kind in ("l1", "l2"):
        ratio = float(kind == "l1")
    else:
        chosen = getattr(estimator, "l1_ratio_", None)
        chosen = estimator.l1_ratio if chosen is None else chosen
        ratios = {0.0 if r is None else float(r) for r in np.ravel(chosen)}
        if len(ratios) > 1:
            raise ValueError(f"several l1_ratio were chosen, {sorted(ratios)}; one is needed")
        ratio = ratios.pop()
    return float(C), 1 - ratio, ratio


def _logistic(estimator, strength, X, y, sample_weight):
    C, penalty, l1 = strength
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
    design = design_of(X, column)
    theta = stack_parameters(estimator, column)
    penalised = np.ones(theta.shape)
    if column is not None and not liblinear:
        penalised[:, -1] = 0.0
    loss = LogisticLoss() if binary else MultinomialLoss()
    parts = (design, loss, codes, C * weights, penalty * penalised, theta, head)
    if l1:
        return SparseObjective(*parts, l1=l1 * penalised, rule=rule)
    return LinearObjective(*parts, rule=rule)


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
        rule = RemovalRule(len(codes), groups=codes, measure=measure, n_groups=len(classes))
        return base * (rule.total / (len(classes) * rule.sums))[codes], rule
    table = compute_class_weight(class_weight, classes=classes, y=classes[codes])
    return base * table[codes], RemovalRule(len(codes))
