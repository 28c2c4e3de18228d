"""Nearest neighbours against refits without the row."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import scale

from skinfluence import InfluenceExplainer

CANCER = scale(load_breast_cancer().data)[:150], load_breast_cancer().target[:150]
# jittered: equal distances are ties, which a refit may break in another way
DIGITS = load_digits().data[:120], load_digits().target[:120]
DIGITS[0][:] += 1e-6 * np.random.default_rng(0).standard_normal((120, 64))
DIABETES = load_diabetes().data[:120], load_diabetes().target[:120]
TWO = DIABETES[0], np.column_stack([DIABETES[1], DIABETES[0][:, 2]])


def inverse_square(distances):
    return 1 / (0.1 + distances**2)


CASES = [
    (KNeighborsClassifier(5), *CANCER),
    (KNeighborsClassifier(5, weights="distance"), *CANCER),
    (KNeighborsClassifier(3, weights=inverse_square, metric="manhattan"), *DIGITS),
    (KNeighborsClassifier(1), *DIGITS),
    (KNeighborsRegressor(4), *DIABETES),
    (KNeighborsRegressor(4, weights="distance"), *DIABETES),
    (KNeighborsRegressor(7, weights="distance", algorithm="brute"), *TWO),
]
names = [f"{type(case[0]).__name__}-{i}" for i, case in enumerate(CASES)]
every = pytest.mark.parametrize("estimator, X, y", CASES, ids=names)


def outputs(fitted, X):
    read = getattr(fitted, "predict_proba", fitted.predict)
    return read(X).reshape(len(X), -1)


@every
def test_removal_is_the_refit(estimator, X, y):
    train, query = slice(0, 100), slice(100, None)
    explainer = InfluenceExplainer(estimator).fit(X[train], y[train])
    rows = np.arange(100)
    found = explainer.effects_.outputs(explainer.objective_.queries(X[query]), rows)
    base = outputs(estimator.fit(X[train], y[train]), X[query])
    for i in rows:
        keep = np.delete(rows, i)
        desired = outputs(estimator.fit(X[keep], y[keep]), X[query]) - base
        np.testing.assert_allclose(found[:, i], desired, atol=1e-12 * max(1, np.abs(base).max()))


@every
def test_groups_are_the_refit(estimator, X, y):
    explainer = InfluenceExplainer(estimator).fit(X[:100], y[:100])
    query = explainer.objective_.queries(X[100:])
    groups = [np.arange(0, 30), np.array([5]), np.arange(3, 90, 4)]
    found = explainer.effects_.joint_outputs(query, groups)
    base = outputs(estimator.fit(X[:100], y[:100]), X[100:])
    for g, group in enumerate(groups):
        keep = np.setdiff1d(np.arange(100), group)
        desired = outputs(estimator.fit(X[keep], y[keep]), X[100:]) - base
        np.testing.assert_allclose(found[:, g], desired, atol=1e-12 * max(1, np.abs(base).max()))


@every
def test_self_influence_is_the_loss_of_the_refit(estimator, X, y):
    X, y = X[:40], y[:40]
    if np.ndim(y) == 1 and y.dtype.kind == "i":
        y = np.array(["a", "b", "c"])[y % 3]
    explainer = InfluenceExplainer(estimator).fit(X, y)
    found = explainer.self_influence()
    head, targets = explainer.objective_.head, explainer.objective_.training_targets(slice(None))
    fitted = head.loss(outputs(estimator.fit(X, y), X), targets)
    for i in range(0, 40, 3):
        keep = np.delete(np.arange(40), i)
        Z = outputs(estimator.fit(X[keep], y[keep]), X[[i]])
        assert found[i] == pytest.approx(head.loss(Z, targets[[i]])[0] - fitted[i], abs=1e-9)


def test_refit_method_agrees():
    X, y = CANCER
    results = [
        InfluenceExplainer(KNeighborsClassifier(3), method=method, target="proba")
        .fit(X[:60], y[:60])
        .transform(X[60:90], y[60:90])
        for method in ("exact", "refit")
    ]
    np.testing.assert_allclose(*results, atol=1e-12)


@pytest.mark.parametrize("method", ["influence", "infinitesimal_jackknife", "newton"])
def test_derivatives_are_refused(method):
    with pytest.raises(TypeError, match="use method='exact'"):
        InfluenceExplainer(KNeighborsClassifier(), method=method).fit(*CANCER)


def test_too_few_rows_are_refused():
    X, y = DIABETES
    explainer = InfluenceExplainer(KNeighborsRegressor(10)).fit(X[:10], y[:10])
    with pytest.raises(ValueError, match="fewer than n_neighbors=10"):
        explainer.transform(X[10:12])
