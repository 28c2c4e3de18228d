"""Rows moved, relabelled, added and weighed, against refits and differences of refits."""

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler, scale
from sklearn.svm import SVC

from skinfluence import InfluenceExplainer
from skinfluence.targets import Loss, Mean, Probability, resolve_target
from tests.cases.nets import Oracle, fitted

TIGHT = {"tol": 1e-12, "max_iter": 20_000}
ROWS = np.array([1, 30, 60])


def iris():
    X, y = load_iris(return_X_y=True)
    return scale(X), np.array(["a", "b", "c"])[y]


def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return scale(X)[:150, :5], y[:150]


def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return 10 * X[:100], y[:100] / 50


CLASSIFIERS = {
    "binary": (LogisticRegression(**TIGHT), cancer),
    "balanced": (LogisticRegression(class_weight="balanced", **TIGHT), cancer),
    "weighted": (LogisticRegression(class_weight={0: 2, 1: 1}, **TIGHT), cancer),
    "softmax": (LogisticRegression(**TIGHT), iris),
    "ridge, balanced": (RidgeClassifier(class_weight="balanced"), iris),
    "one against rest": (OneVsRestClassifier(LogisticRegression(**TIGHT)), iris),
}
REGRESSORS = {
    "ridge": (Ridge(alpha=3.0), diabetes),
    "poisson": (PoissonRegressor(alpha=0.1, tol=1e-12, max_iter=1000), diabetes),
}
ALL = CLASSIFIERS | REGRESSORS


def explained(estimator, X, y, method, target="decision", sample_weight=None):
    return InfluenceExplainer(estimator, method=method, target=target).fit(X, y, sample_weight)


def other_labels(y):
    if y.dtype.kind == "f":
        return y[ROWS] + 1.5
    known = np.unique(y)
    return known[(np.searchsorted(known, y[ROWS]) + 1) % len(known)]


@pytest.mark.parametrize("name", ALL)
def test_exact_relabelling_is_the_refit(name):
    estimator, data = ALL[name]
    X, y = data()
    labels = other_labels(y)
    found, truth = (
        explained(estimator, X, y, method).counterfactual_labels(ROWS, labels, X[::9], y[::9])
        for method in ("exact", "refit")
    )
    assert found.shape == (len(X[::9]), 3)
    np.testing.assert_allclose(found, truth, rtol=1e-5, atol=1e-5 * np.abs(truth).max())


@pytest.mark.parametrize("name", ALL)
def test_an_exactly_added_row_is_the_refit(name):
    estimator, data = ALL[name]
    X, y = data()
    found, truth = (
        explained(estimator, X, y, method).added_influence(X[:3] + 0.1, y[3:6], X[::9], y[::9])
        for method in ("exact", "refit")
    )
    np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-4 * np.abs(truth).max())


@pytest.mark.parametrize("name", sorted(set(ALL) - {"one against rest"}))
@pytest.mark.parametrize("factor", [0.0, 2.5])
def test_an_exact_weight_is_the_refit(name, factor):
    estimator, data = ALL[name]
    X, y = data()
    w = np.random.default_rng(0).uniform(0.5, 2, len(y))
    found, truth = (
        explained(estimator, X, y, method, sample_weight=w).transform_rows(
            ROWS, factor, X[::9], y[::9]
        )
        for method in ("exact", "refit")
    )
    np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-4 * np.abs(truth).max())


@pytest.mark.parametrize("name", ["binary", "softmax", "ridge"])
def test_newton_with_weight_zero_is_newtons_removal(name):
    estimator, data = ALL[name]
    X, y = data()
    explainer = explained(estimator, X, y, "newton", "loss")
    np.testing.assert_allclose(
        explainer.transform_rows(ROWS, 0, X[::9], y[::9]),
        explainer.transform(X[::9], y[::9])[:, ROWS],
        rtol=1e-8,
        atol=1e-12,
    )


@pytest.mark.parametrize("name", ["binary", "softmax", "poisson"])
def test_newton_is_one_newton_step_on_the_edited_rows(name):
    estimator, data = ALL[name]
    X, y = data()
    explainer = explained(estimator, X, y, "newton")
    objective, labels = explainer.objective_, other_labels(y)
    found = explainer._edits().relabelled(ROWS, labels)
    codes = objective.head.encode(labels)
    for k, row in enumerate(ROWS):
        kept = objective.y.copy()
        objective.y[row] = codes[k]
        step = np.linalg.lstsq(
            objective.hessian(), -objective.gradient(objective.theta), rcond=1e-12
        )[0]
        objective.y[:] = kept
        moved = objective.queries(X[::9]).changes(np.array([step, found[k]]))
        np.testing.assert_allclose(moved[:, 1], moved[:, 0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", ["influence", "infinitesimal_jackknife"])
def test_first_order_edits_are_derivatives(method):
    X, y = cancer()
    explainer = explained(LogisticRegression(**TIGHT), X, y, method, "proba")
    whole = explainer.transform(X[::9])[:, ROWS]
    tiny = explainer.transform_rows(ROWS, 1 - 1e-6, X[::9])
    np.testing.assert_allclose(tiny / 1e-6, explainer.transform_rows(ROWS, 0, X[::9]), rtol=2e-2)
    np.testing.assert_allclose(explainer.transform_rows(ROWS, 0, X[::9]), whole, rtol=1e-8)
    # relabelling is removal and addition, which add up to first order
    labels = 1 - y[ROWS]
    explainer.set_params(target="decision")
    both = explainer.transform(X[::9])[:, ROWS]
    both = both + explainer.added_influence(X[ROWS], labels, X[::9])
    np.testing.assert_allclose(
        explainer.counterfactual_labels(ROWS, labels, X[::9]), both, rtol=1e-8
    )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("target", ["loss", "decision"])
def test_feature_influence_is_the_derivative_of_the_refit(name, target):
    estimator, data = ALL[name]
    X, y = data()
    explainer = explained(estimator, X, y, "newton", target)
    found = explainer.feature_influence(ROWS, X[::9], y[::9])
    assert found.shape == (len(X[::9]), 3, X.shape[1])
    values = []
    for step in (1e-4, -1e-4):
        moved = X.copy()
        moved[ROWS[1], 2] += step
        values.append(value_at(estimator, moved, y, target, X[::9], y[::9]))
    numerical = (values[0] - values[1]) / 2e-4
    tolerance = 1e-6 * np.abs(numerical).max()
    np.testing.assert_allclose(found[:, 1, 2], numerical, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("name", REGRESSORS)
def test_label_influence_is_the_derivative_of_the_refit(name):
    estimator, data = REGRESSORS[name]
    X, y = data()
    found = explained(estimator, X, y, "newton", "loss").label_influence(ROWS, X[::9], y[::9])
    values = []
    for step in (1e-4, -1e-4):
        moved = y.copy()
        moved[ROWS[1]] += step
        values.append(value_at(estimator, X, moved, "loss", X[::9], y[::9]))
    numerical = (values[0] - values[1]) / 2e-4
    tolerance = 1e-6 * np.abs(numerical).max()
    np.testing.assert_allclose(found[:, 1], numerical, rtol=1e-5, atol=tolerance)


def value_at(estimator, X, y, target, queries, labels):
    """The target at the polished optimum of changed rows."""
    objective = InfluenceExplainer(estimator).fit(X, y).objective_
    return resolve_target(target, True).bind(objective, queries, labels).value()


def test_a_scalar_target_has_one_row():
    X, y = cancer()
    target = Mean(Probability(), X[::9, 0] > 0)
    explainer = explained(LogisticRegression(**TIGHT), X, y, "newton", target)
    each = explained(LogisticRegression(**TIGHT), X, y, "newton", Probability())
    mask = X[::9, 0] > 0
    for of in (
        lambda e: e.feature_influence(ROWS, X[::9]),
        lambda e: e.counterfactual_labels(ROWS, 1 - y[ROWS], X[::9]),
        lambda e: e.transform_rows(ROWS, 3, X[::9]),
        lambda e: e.added_influence(X[:2], y[:2], X[::9]),
    ):
        np.testing.assert_allclose(of(explainer)[0], of(each)[mask].mean(axis=0), rtol=1e-8)


@pytest.mark.parametrize("name", ["dense", "image", "regression"])
def test_feature_influence_of_a_net(name):
    net, X, y = fitted(name)
    explainer = InfluenceExplainer(FrozenEstimator(net), solver="direct").fit(X, y)
    found = explainer.feature_influence([3, 4], X[:8], y[:8])
    assert found.shape == (8, 2, *X.shape[1:])
    bound = explainer.effects_.bind_target(Loss(), *explainer._check_queries(X[:8], y[:8]))
    solved = explainer.solver_.solve(bound.pullback().T).T
    place, gradients = (4, *[1] * (X.ndim - 2), 1), []
    place = (4, 0, 2, 3) if X.ndim == 4 else place
    for step in (1e-5, -1e-5):
        moved = X.copy()
        moved[place] += step
        gradients.append(Oracle(net, moved, y).gradients()[4])
    numerical = -solved @ (gradients[0] - gradients[1]) / 2e-5
    tolerance = 1e-6 * np.abs(numerical).max()
    np.testing.assert_allclose(found[(slice(None), 1, *place[1:])], numerical, 1e-5, tolerance)


def test_what_is_not_known_is_refused():
    X, y = cancer()
    balanced = LogisticRegression(class_weight="balanced", **TIGHT)
    first = explained(balanced, X, y, "influence")
    with pytest.raises(ValueError, match="class weights"):
        first.counterfactual_labels([0], 1 - y[:1], X)
    with pytest.raises(ValueError, match="class weights"):
        first.added_influence(X[:1], y[:1], X)
    with pytest.raises(ValueError, match="class weights"):
        first.transform_rows([0], 2, X)
    equal = explained(RidgeClassifier(class_weight="balanced"), *iris(), "influence")
    with pytest.raises(ValueError, match="class weights"):  # though the weights are all 1
        equal.counterfactual_labels([0], ["b"], iris()[0])
    explainer = explained(LogisticRegression(**TIGHT), X, y, "newton")
    with pytest.raises(ValueError, match="never seen"):
        explainer.counterfactual_labels([0], [7], X)
    with pytest.raises(ValueError, match="never seen"):
        explainer.added_influence(X[:1], [7], X)
    with pytest.raises(ValueError, match="counterfactual_labels"):
        explainer.label_influence([0], X)
    scaled = TransformedTargetRegressor(Ridge(), transformer=StandardScaler())
    with pytest.raises(TypeError, match="label is not known"):
        explained(scaled, *diabetes(), "newton").label_influence([0], diabetes()[0])
    with pytest.raises(ValueError, match="factor"):
        explainer.transform_rows([0], -1, X)
    with pytest.raises(TypeError, match="tracin|TracIn"):
        explained(LogisticRegression(), X, y, "tracin").transform_rows([0], 2, X)
    with pytest.raises(TypeError, match="no solver"):
        explained(LogisticRegression(), X, y, "refit").feature_influence([0], X)
    with pytest.raises(TypeError, match="not known for KernelMachine"):
        explained(SVC(gamma="auto"), X, y, "exact").feature_influence([0], X)
    with pytest.raises(TypeError, match="removals alone"):
        explained(SVC(gamma="auto"), X, y, "refit").counterfactual_labels([0], 1 - y[:1], X)
    with pytest.raises(TypeError, match="not known for Neighbors"):
        explained(KNeighborsClassifier(), X, y, "exact").counterfactual_labels([0], 1 - y[:1], X)
    lone = np.array([1, *[0] * 20, *[2] * 20])
    only = explained(LogisticRegression(), X[:41], lone, "newton")
    with pytest.raises(ValueError, match="only ones of their class"):
        only.counterfactual_labels([0], [2], X)
