"""Linear support vector machines by liblinear: the intercept is penalised."""

import numpy as np
from sklearn.svm import LinearSVC, LinearSVR
from sklearn.utils import compute_class_weight

from .base import objective_for
from .composite import IndependentOutputs
from .design import Design
from .heads import BinaryHead, OneVsRestHead, RegressionHead
from .kinked import Hinge, KinkedObjective, Tube
from .linear import stack_parameters
from .logistic import class_weighted
from .losses import OnSigns
from .piecewise import PiecewiseObjective
from .piecewise_losses import SquaredHinge, SquaredTube
from .ridge import each_output
from .rules import RemovalRule, row_weights
from .sparse import SparseObjective


@objective_for.register(LinearSVC)
def linear_svc_objective(estimator, X, y, sample_weight=None):
    """``C Σ s_i max(0, 1 - y f)^q + ½‖w‖² + ½(b / intercept_scaling)²``, q = 2 or 1."""
    if estimator.multi_class != "ovr":
        raise ValueError(
            f"LinearSVC(multi_class={estimator.multi_class!r}) couples the classes in one hinge "
            "that is not supported; use multi_class='ovr'"
        )
    hinge = OnSigns(Hinge() if estimator.loss == "hinge" else SquaredHinge())

    def build(design, codes, weights, theta, head, rule):
        parts = (design, hinge, codes, estimator.C * weights)
        if estimator.penalty == "l1":
            l1 = np.ones(theta.shape)
            return SparseObjective(*parts, 0 * l1, theta, head, l1=l1, rule=rule)
        kind = KinkedObjective if estimator.loss == "hinge" else PiecewiseObjective
        return kind(*parts, np.ones(theta.shape), theta, head, rule=rule)

    return margin_classifier(estimator, hinge, build, X, y, sample_weight)


@objective_for.register(LinearSVR)
def linear_svr_objective(estimator, X, y, sample_weight=None):
    """``C Σ s_i max(0, |r| - ε)^q + ½‖w‖² + ½(b / intercept_scaling)²``, q = 1 or 2."""
    squared = estimator.loss == "squared_epsilon_insensitive"
    loss = (SquaredTube if squared else Tube)(estimator.epsilon)
    head = RegressionHead(loss)
    y = head.encode(y)
    design = Design(X, _column(estimator))
    theta = stack_parameters(estimator, design.intercept)
    weights = estimator.C * row_weights(sample_weight, len(y))
    kind = PiecewiseObjective if squared else KinkedObjective
    return kind(design, loss, y, weights, np.ones(theta.shape), theta, head)


def margin_classifier(estimator, loss, build, X, y, sample_weight, *, counts_rows=False):
    """A binary margin classifier, or one against the rest for each of several classes.

    Parameters
    ----------
    estimator : fitted classifier with ``classes_``, ``coef_``, ``intercept_``, ``class_weight``
    loss : Loss
        Of class indices in {0, 1}, for the head.
    build : callable
        From (design, codes, weights, theta, head, rule) to the objective of a binary problem.
    counts_rows : bool
        Whether "balanced" class weights count rows, not sample weights.
    """
    classes = estimator.classes_
    binary = len(classes) == 2
    head = BinaryHead(classes, loss, False) if binary else OneVsRestHead(classes, loss)
    codes = head.encode(y)
    base = row_weights(sample_weight, len(codes))
    measure = np.ones(len(codes)) if counts_rows else base
    design = Design(X, _column(estimator))
    theta = stack_parameters(estimator, design.intercept)
    if binary:
        weights, rule = class_weighted(estimator.class_weight, classes, codes, base, measure)
        return build(design, codes, weights, theta, head, rule)
    parts = []
    for k, label in enumerate(classes):
        own = (codes == k).astype(np.intp)
        weights, rule = _one_class_weighted(estimator, codes, base, measure, k)
        part_head = BinaryHead(np.array([f"not {label}", str(label)]), loss, False)
        parts.append(build(design, own, weights, theta[[k]], part_head, rule))
    objective = IndependentOutputs(parts, head, classes, codes, each_output)
    objective.default_method = getattr(parts[0], "default_method", "newton")
    return objective


class OneClassRule(RemovalRule):
    """Balanced weight of class 1 alone: one-vs-rest problems leave "the rest" at weight 1."""

    def first_order(self, rows):
        """Derivative of the factors."""
        phi, rho = super().first_order(rows)
        phi[:, 0] = 0.0
        return phi, rho

    def factors(self, rows):
        """Factors after the removal of each row alone."""
        phi, rho = super().factors(rows)
        phi[:, 0] = 1.0
        return phi, rho

    def factors_left(self, gone):
        """Factors of the classes when a measure of each is removed."""
        phi = super().factors_left(gone)
        phi[0] = 1.0
        return phi

    def balance(self):
        """1 for the rest."""
        balance = super().balance()
        balance[0] = 1.0
        return balance


def _one_class_weighted(estimator, codes, base, measure, k):
    """As :func:`class_weighted` for class ``k`` against the rest: only class ``k`` is weighted."""
    class_weight, classes, own = estimator.class_weight, estimator.classes_, codes == k
    if class_weight is None:
        return base, RemovalRule(len(codes))
    if isinstance(class_weight, str):
        groups = own.astype(np.intp)
        rule = OneClassRule(len(codes), groups=groups, measure=measure, n_groups=2)
        return base * np.where(own, rule.total / (len(classes) * rule.sums[1]), 1.0), rule
    table = compute_class_weight(class_weight, classes=classes, y=classes[codes])
    return base * np.where(own, table[k], 1.0), RemovalRule(len(codes))


def _column(estimator):
    if not estimator.fit_intercept:
        return None
    return float(getattr(estimator, "intercept_scaling", 1.0))
