"""Linear models fitted by stochastic gradients: their stated objective, at its optimum.

The fits stop short of the optimum and depend on the order of rows; influences are those of the
optimum, and a warning says how far the fit had to move. The objective is in mean form over the
number of rows (not their total weight).
"""

import numpy as np
from sklearn import linear_model
from sklearn.linear_model import Perceptron, QuantileRegressor, SGDClassifier, SGDRegressor

from .base import objective_for
from .design import Design
from .heads import RegressionHead
from .kinked import Hinge, KinkedObjective, Tube
from .linear import LinearObjective, stack_parameters
from .linear_svm import margin_classifier
from .losses import HalfSquaredLoss, LogisticLoss, OnSigns
from .piecewise import PiecewiseObjective
from .piecewise_losses import HuberLoss, ModifiedHuber, SquaredHinge, SquaredTube
from .rules import RemovalRule, row_weights
from .sparse import SparseObjective


@objective_for.register(SGDClassifier)
def sgd_classifier_objective(estimator, X, y, sample_weight=None):
    """``Σ s_i ℓ_i + n α (r‖w‖₁ + ½(1 - r)‖w‖²)``, one class against the rest."""
    if estimator.loss == "perceptron":
        raise ValueError(
            "SGDClassifier(loss='perceptron') stops at any separating direction; its objective is "
            "least at zero weights. Use loss='hinge' or 'log_loss'"
        )
    _check(estimator)
    loss = LogisticLoss() if estimator.loss == "log_loss" else OnSigns(_loss(estimator))

    def build(design, codes, weights, theta, head, rule):
        return _objective(estimator, design, loss, codes, weights, theta, head, rule)

    objective = margin_classifier(estimator, loss, build, X, y, sample_weight, counts_rows=True)
    objective.head.has_probability = estimator.loss == "log_loss"
    return objective


@objective_for.register(SGDRegressor)
def sgd_regressor_objective(estimator, X, y, sample_weight=None):
    """``Σ s_i ℓ_i + n α (r‖w‖₁ + ½(1 - r)‖w‖²)``."""
    _check(estimator)
    loss = _loss(estimator)
    head = RegressionHead(loss)
    y = head.encode(y)
    design = Design(X, 1.0 if estimator.fit_intercept else None)
    theta = stack_parameters(estimator, design.intercept)
    weights = row_weights(sample_weight, len(y))
    return _objective(estimator, design, loss, y, weights, theta, head, RemovalRule(len(y)))


@objective_for.register(Perceptron)
def online_objective(estimator, X, y, sample_weight=None):
    """Refused: these algorithms minimise no objective."""
    name = type(estimator).__name__
    raise ValueError(
        f"{name} minimises no objective: its weights depend on the order of the updates. Use "
        "SGDClassifier or SGDRegressor with a penalty, LinearSVC or LogisticRegression"
    )


for name in ("PassiveAggressiveClassifier", "PassiveAggressiveRegressor"):
    if hasattr(linear_model, name):  # deprecated since scikit-learn 1.8
        objective_for.register(getattr(linear_model, name), online_objective)


@objective_for.register(QuantileRegressor)
def quantile_objective(estimator, X, y, sample_weight=None):
    """Refused: a linear program has no curvature."""
    raise ValueError(
        "QuantileRegressor solves a linear program: the fit is a vertex through some of the rows, "
        "infinitesimal influence on it is zero and the optimum need not be unique. Use "
        "HuberRegressor, or LinearSVR(epsilon=0) for a penalised median"
    )


# "Supported estimators" in messages leave these out.
online_objective.refuses = quantile_objective.refuses = True


def _check(estimator):
    name = type(estimator).__name__
    if estimator.early_stopping:
        raise ValueError(
            f"{name}(early_stopping=True) stops by a score on rows held out at random and does not "
            "minimise its objective on the others; use early_stopping=False"
        )


def _loss(estimator):
    losses = {
        "hinge": Hinge,
        "squared_hinge": SquaredHinge,
        "modified_huber": ModifiedHuber,
        "squared_error": HalfSquaredLoss,
        "huber": lambda: HuberLoss(estimator.epsilon),
        "epsilon_insensitive": lambda: Tube(estimator.epsilon),
        "squared_epsilon_insensitive": lambda: SquaredTube(estimator.epsilon),
    }
    return losses[estimator.loss]()


def _objective(estimator, design, loss, y, weights, theta, head, rule):
    """The objective for the loss and the penalty; mean form in the number of rows."""
    n = len(y)
    ratios = {"l1": 1.0, "l2": 0.0, "elasticnet": estimator.l1_ratio, None: 0.0}
    ratio = ratios[estimator.penalty]
    strength = np.full(theta.shape, n * estimator.alpha * (estimator.penalty is not None))
    if design.intercept is not None:
        strength[:, -1] = 0.0
    if strength.any():
        rule.penalty_measure = np.ones(n)
    parts = (design, loss, y, weights, (1 - ratio) * strength, theta, head)
    kinked = isinstance(getattr(loss, "loss", loss), Hinge | Tube)
    if kinked and (ratio > 0 or not strength.any()):
        raise ValueError(
            f"{type(estimator).__name__}(loss={estimator.loss!r}, penalty={estimator.penalty!r}) "
            "is a linear program without curvature; use penalty='l2' or a squared loss"
        )
    if ratio > 0:
        return SparseObjective(*parts, l1=ratio * strength, rule=rule)
    kind = KinkedObjective if kinked else LinearObjective if loss.smooth else PiecewiseObjective
    return kind(*parts, rule=rule)
