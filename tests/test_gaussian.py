"""Gaussian classifiers: derivatives against weighted fits written here, and refusals."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.naive_bayes import GaussianNB

from skinfluence import InfluenceExplainer

CANCER = load_breast_cancer().data[:, :6], load_breast_cancer().target
CANCER = (CANCER[0] - CANCER[0].mean(axis=0)) / CANCER[0].std(axis=0), CANCER[1]


def moments(X, y, w):
    """Weighted counts, means and covariances of two classes."""
    out = []
    for k in (0, 1):
        rows = y == k
        mean = np.average(X[rows], axis=0, weights=w[rows])
        covariance = np.cov(X[rows].T, aweights=w[rows], bias=True)
        out.append((w[rows].sum(), mean, covariance))
    return out


def log_density(x, mean, covariance):
    away = x - mean
    solved = np.linalg.solve(covariance, away.T).T
    return -0.5 * (away * solved).sum(axis=1) - 0.5 * np.linalg.slogdet(covariance)[1]


def linear(X, y, w, queries):
    (n0, m0, S0), (n1, m1, S1) = moments(X, y, w)
    pooled = (n0 * S0 + n1 * S1) / (n0 + n1)
    return log_density(queries, m1, pooled) - log_density(queries, m0, pooled) + np.log(n1 / n0)


def quadratic(X, y, w, queries, reg_param=0.1):
    (n0, m0, S0), (n1, m1, S1) = moments(X, y, w)
    S0, S1 = ((1 - reg_param) * S + reg_param * np.eye(len(S)) for S in (S0, S1))
    return log_density(queries, m1, S1) - log_density(queries, m0, S0) + np.log(n1 / n0)


def naive(X, y, w, queries, smoothing=0.2):
    (n0, m0, S0), (n1, m1, S1) = moments(X, y, w)
    # a removed row goes from the smoothing too: here its weight stands for its presence
    floor = smoothing * np.diag(np.cov(X.T, aweights=w, bias=True)).max()
    S0, S1 = (np.diag(np.diag(S) + floor) for S in (S0, S1))
    return log_density(queries, m1, S1) - log_density(queries, m0, S0) + np.log(n1 / n0)


@pytest.mark.parametrize(
    "estimator, weighted",
    [
        (LinearDiscriminantAnalysis(), linear),
        (LinearDiscriminantAnalysis(solver="lsqr"), linear),
        (QuadraticDiscriminantAnalysis(reg_param=0.1), quadratic),
        (GaussianNB(var_smoothing=0.2), naive),
    ],
)
def test_influence_is_the_derivative_of_a_weighted_fit(estimator, weighted):
    X, y = CANCER[0][:300], CANCER[1][:300]
    explainer = InfluenceExplainer(estimator, method="influence", target="decision").fit(X, y)
    queries = CANCER[0][300:310]
    fitted = explainer.objective_.queries(queries).outputs[:, 0]
    np.testing.assert_allclose(fitted, weighted(X, y, np.ones(300), queries), rtol=1e-9)
    found, h = explainer.transform(queries), 1e-5
    for i in range(0, 300, 37):
        sides = [weighted(X, y, 1 + s * h * (np.arange(300) == i), queries) for s in (1, -1)]
        desired = -(sides[0] - sides[1]) / (2 * h)
        np.testing.assert_allclose(found[:, i], desired, atol=1e-6 * np.abs(desired).max())


@pytest.mark.parametrize(
    "estimator",
    [
        LinearDiscriminantAnalysis(),
        QuadraticDiscriminantAnalysis(reg_param=0.05),
        GaussianNB(var_smoothing=0.01),
    ],
)
def test_digits_groups_are_the_refit(estimator):
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    X = X[:300, 10:22] + 0.1 * rng.standard_normal((300, 12))
    y = y[:300]
    explainer = InfluenceExplainer(estimator, method="exact", target="proba").fit(X, y)
    groups = [np.arange(20), np.arange(5, 300, 7), np.array([11])]
    found = explainer.group_influence(groups, X[:15], y[:15])
    base = estimator.fit(X, y).predict_proba(X[:15])[np.arange(15), y[:15]]
    for g, group in enumerate(groups):
        keep = np.setdiff1d(np.arange(300), group)
        refit = estimator.fit(X[keep], y[keep]).predict_proba(X[:15])[np.arange(15), y[:15]]
        np.testing.assert_allclose(found[:, g], refit - base, atol=1e-9)
    np.testing.assert_allclose(found[:, 2], explainer.transform(X[:15], y[:15])[:, 11], atol=1e-9)


@pytest.mark.parametrize(
    "estimator",
    [
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.1),
    ],
)
def test_shrinkage_is_refused(estimator):
    with pytest.raises(ValueError, match="shrinkage=.* is not supported"):
        InfluenceExplainer(estimator).fit(*CANCER)


def test_collinear_features_are_refused():
    X = np.column_stack([CANCER[0], CANCER[0][:, 0]])
    with pytest.raises(ValueError, match="collinear"):
        InfluenceExplainer(LinearDiscriminantAnalysis()).fit(X, CANCER[1])


def test_a_class_that_would_become_singular_is_refused():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((14, 2)), np.repeat([0, 1], [11, 3])
    explainer = InfluenceExplainer(QuadraticDiscriminantAnalysis(tol=0.0)).fit(X, y)
    with pytest.raises(ValueError, match="covariance of a class is singular"):
        explainer.transform(X[:2])
