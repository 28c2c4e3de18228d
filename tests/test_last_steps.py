"""Every last step behind stages, against differences of weighted refits and whole refits."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    MultiTaskElasticNet,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR
from sklearn.tree import DecisionTreeRegressor

from skinfluence import InfluenceExplainer
from skinfluence.objectives import objective_for
from skinfluence.targets import Decision

from . import weighted_steps as ws
from .common import assert_close
from .test_stages import BINARY, COUNTS, MANY, QUERIES, VALUES, X, explained, logistic, picked

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
POSITIVE = np.exp(VALUES / 10)
BOTH = np.column_stack([VALUES, X[:, 1] - np.cos(X[:, 0])])
ROWS = [1, 7, 23, 40]
CHAINS = {
    "scaler": (StandardScaler(), ws.Scaler()),
    "scaler-pca": (
        make_pipeline(StandardScaler(), PCA(3)),
        ws.Series(ws.Scaler(), ws.Components(3)),
    ),
}
LASTS = {
    "least squares": (LinearRegression(), VALUES),
    "ridge-cv": (RidgeCV([0.1, 1.0]), VALUES),
    "two targets": (Ridge([1.0, 1.0]), BOTH),
    "two penalties": (Ridge([1.0, 5.0]), BOTH),
    "gamma": (GammaRegressor(alpha=0.1), POSITIVE),
    "tweedie": (TweedieRegressor(power=1.5, alpha=0.1), POSITIVE),
    "balanced": (logistic(class_weight="balanced"), BINARY),
    "balanced softmax": (logistic(class_weight="balanced"), MANY),
    "logistic-cv": (LogisticRegressionCV(Cs=[0.1, 1.0], cv=3, l1_ratios=[0.0]), BINARY),
    "liblinear": (LogisticRegression(solver="liblinear", intercept_scaling=2.0), BINARY),
    "one-vs-rest": (OneVsRestClassifier(logistic()), MANY),
    "ridge classifier": (RidgeClassifier(class_weight="balanced"), MANY),
    "squared hinge": (LinearSVC(C=0.1), MANY),
    "hinge": (LinearSVC(C=0.1, loss="hinge"), BINARY),
    "median": (LinearSVR(epsilon=0.0, C=0.3), VALUES),
    "tube": (LinearSVR(epsilon=0.5, C=0.3), VALUES),
    "squared tube": (LinearSVR(epsilon=0.5, loss="squared_epsilon_insensitive"), VALUES),
    "huber": (HuberRegressor(alpha=0.1), VALUES),
    "sgd": (SGDClassifier(loss="log_loss", alpha=0.01, random_state=0), BINARY),
    "sgd huber": (SGDRegressor(loss="huber", epsilon=1.0, alpha=0.05, random_state=0), VALUES),
    "lasso": (Lasso(0.3), VALUES),
    "elastic net": (ElasticNet(0.3), VALUES),
    "several": (MultiTaskElasticNet(0.2), BOTH),
    "l1": (LogisticRegression(solver="saga", l1_ratio=1.0, C=0.3), MANY),
}
TARGETED = {
    "standard": StandardScaler(),
    "minmax": MinMaxScaler((0.5, 2.0)),
    "maxabs": MaxAbsScaler(),
    "robust": RobustScaler(),
    "power": PowerTransformer(),
}


def quiet(model, rows, y, weight=None):
    """The polished objective of a fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = clone(model).fit(rows, y, **({} if weight is None else {"sample_weight": weight}))
        return objective_for(fitted, rows, y, weight)


def linear_outputs(objective, rows, y):
    """What target "decision" explains, from the polished optimum."""
    queries = objective.queries(rows)
    index = np.zeros(len(rows), int)
    if objective.head.classes is not None:
        index = objective.head.encode(y)
    return objective.head.decision(queries.outputs, index)


def weighted_differences(oracle, model, y, h=1e-4):
    """Minus the derivative of the outputs at the queries in the weight of each row."""
    out = np.empty((len(QUERIES), len(ROWS)))
    for column, i in enumerate(ROWS):
        sides = []
        for sign in (1, -1):
            w = np.ones(len(y))
            w[i] += sign * h
            oracle.fit(X, y, w)
            objective = quiet(model, oracle.training(X), y, w)
            sides.append(linear_outputs(objective, oracle.transform(X[QUERIES]), y[QUERIES]))
        out[:, column] = -(sides[0] - sides[1]) / (2 * h)
    return out


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("name", LASTS)
def test_derivative(name, chain):
    (model, y), (step, oracle) = LASTS[name], CHAINS[chain]
    target = Decision(output=0) if y.ndim == 2 else "decision"
    explainer = explained(make_pipeline(step, model), X, y, target=target)
    ours = explainer.transform(X[QUERIES], y[QUERIES])[:, ROWS]
    held = clone(model)
    if name.endswith("-cv"):  # the chosen strength is held fixed
        fitted = explainer.estimator_[-1]
        if name == "ridge-cv":
            held = Ridge(fitted.alpha_)
        else:
            held = logistic(C=float(np.ravel(fitted.C_)[0]))
    assert np.abs(ours).max() > 0
    assert_close(ours, weighted_differences(oracle, held, y), 1e-5)


# of the fits whose optimum a refit reaches by itself or by polishing
@pytest.mark.parametrize("name", LASTS)
def test_exact_is_the_pipeline_without_the_row(name):
    model, y = LASTS[name]
    step, target = CHAINS["scaler"][0], Decision(output=0) if y.ndim == 2 else "decision"
    explainer = explained(make_pipeline(step, model), X, y, "exact", target=target)
    values = explainer.transform(X[QUERIES], y[QUERIES])[:, ROWS]
    if name.endswith("-cv"):
        fitted = explainer.estimator_[-1]
        model = Ridge(fitted.alpha_) if name == "ridge-cv" else logistic(C=fitted.C_[0])
    truth = []
    for gone in [None, *ROWS]:
        keep = np.delete(np.arange(len(y)), [] if gone is None else gone)
        scaler = clone(step).fit(X[keep])
        objective = quiet(model, scaler.transform(X[keep]), y[keep])
        truth.append(linear_outputs(objective, scaler.transform(X[QUERIES]), y[QUERIES]))
    assert_close(values, np.column_stack([row - truth[0] for row in truth[1:]]), 1e-6)
    newton = explained(make_pipeline(step, model), X, y, "newton", target=target)
    assert newton.transform(X[QUERIES], y[QUERIES]).shape == (len(QUERIES), len(y))
