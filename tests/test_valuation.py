"""Values of rows: closed forms and Monte Carlo against all subsets, one by one."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import InfluenceExplainer, value_rows
from skinfluence.targets import Decision

RNG = np.random.default_rng(0)
N, M = 9, 4
X, XV = RNG.normal(size=(N, 2)), RNG.normal(size=(M, 2))
LABELS, LABELS_VAL = np.arange(N) % 3, np.array([0, 2, 1, 1])
TARGETS, TARGETS_VAL = RNG.normal(size=N) + 3, RNG.normal(size=M) + 3


def utility(S, k, labels):
    """Minus the cost of the neighbours' vote, or mean, among the rows ``S`` only."""
    S, total = np.asarray(S, dtype=int), 0.0
    for x, label, target in zip(XV, LABELS_VAL, TARGETS_VAL, strict=True):
        near = S[np.argsort(((X[S] - x) ** 2).sum(axis=1))[:k]]
        if labels:
            total += (LABELS[near] == label).sum() / k
        else:
            total -= (TARGETS[near].sum() / k - target) ** 2
    return total / M


def by_enumeration(worth, weight):
    """``Σ_S weight(|S|) (worth(S + i) - worth(S))`` over all subsets of the other rows."""
    out = np.zeros(N)
    for i in range(N):
        others = [j for j in range(N) if j != i]
        for size in range(N):
            for S in combinations(others, size):
                out[i] += weight(size) * (worth((*S, i)) - worth(S))
    return out


def shapley(size):
    return 1 / (N * comb(N - 1, size))


def banzhaf(size):
    return 0.5 ** (N - 1)


@pytest.mark.parametrize("k", [1, 2, 4, 9])
@pytest.mark.parametrize("labels", [True, False])
def test_knn_shapley_is_that_of_all_subsets(k, labels):
    model = (KNeighborsClassifier if labels else KNeighborsRegressor)(k)
    y, y_val = (LABELS, LABELS_VAL) if labels else (TARGETS, TARGETS_VAL)
    ours = value_rows(model, X, y, XV, y_val, method="knn_shapley")
    expected = by_enumeration(lambda S: utility(S, k, labels), shapley)
    np.testing.assert_allclose(ours.value, expected, rtol=1e-12, atol=1e-14)
    whole = utility(range(N), k, labels) - utility([], k, labels)
    np.testing.assert_allclose(ours.value.sum(), whole, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 4, 9])
def test_knn_banzhaf_is_that_of_all_subsets(k):
    ours = value_rows(KNeighborsClassifier(k), X, LABELS, XV, LABELS_VAL, method="banzhaf")
    expected = by_enumeration(lambda S: utility(S, k, True), banzhaf)
    np.testing.assert_allclose(ours.value, expected, rtol=1e-12, atol=1e-14)
    assert (ours.standard_error == 0).all()


def test_neighbours_behind_a_scaler_and_with_string_labels():
    names = np.array(["a", "b", "c"])
    scaler = StandardScaler().fit(X)
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(2))
    model = InfluenceExplainer(model, preprocessing="frozen")
    ours = value_rows(model, X, names[LABELS], XV, names[LABELS_VAL], method="knn_shapley")
    plain = value_rows(
        KNeighborsClassifier(2),
        scaler.transform(X),
        LABELS,
        scaler.transform(XV),
        LABELS_VAL,
        method="knn_shapley",
    )
    np.testing.assert_allclose(ours.value, plain.value, rtol=1e-12)


def fit_cost(S):
    fit = Ridge(0.5).fit(X[list(S)], TARGETS[list(S)])
    return ((fit.predict(XV) - TARGETS_VAL) ** 2).mean()


@pytest.mark.parametrize("how", ["auto", "exact", "refit"])
def test_monte_carlo_banzhaf_covers_that_of_all_subsets(how):
    """Subsets that can be fitted, here all but the empty one."""
    costs = {S: fit_cost(S) for size in range(1, N + 1) for S in combinations(range(N), size)}
    expected = [
        np.mean([c for S, c in costs.items() if i not in S])
        - np.mean([c for S, c in costs.items() if i in S])
        for i in range(N)
    ]
    model = InfluenceExplainer(Ridge(0.5), method=how)
    n_samples = 400 if how == "refit" else 1500
    ours = value_rows(
        model, X, TARGETS, XV, TARGETS_VAL, method="banzhaf", n_samples=n_samples, random_state=0
    )
    errors = np.abs(ours.value - expected) / ours.standard_error
    assert errors.max() < 3.5 and np.sqrt((errors**2).mean()) < 1.6
    again = value_rows(
        model, X, TARGETS, XV, TARGETS_VAL, method="banzhaf", n_samples=n_samples, random_state=0
    )
    np.testing.assert_array_equal(ours.value, again.value)


def test_standard_errors_are_those_of_repetitions():
    draws = [
        value_rows(
            Ridge(0.5), X, TARGETS, XV, TARGETS_VAL, method="banzhaf", n_samples=80, random_state=s
        )
        for s in range(60)
    ]
    spread = np.std([draw.value for draw in draws], axis=0, ddof=1)
    stated = np.mean([draw.standard_error for draw in draws], axis=0)
    np.testing.assert_allclose(stated, spread, rtol=0.45)  # 60 repetitions: 4 sd of a spread


def test_leave_one_out_is_by_refits_and_positive_for_rows_that_help():
    Xd, yd = load_diabetes(return_X_y=True)
    Xd, yd, Xv, yv = Xd[:50], yd[:50], Xd[50:90], yd[50:90]
    ours = value_rows(Ridge(0.1), Xd, yd, Xv, yv, method="leave_one_out").value
    first = value_rows(Ridge(0.1), Xd, yd, Xv, yv).value

    def cost(rows):
        return ((Ridge(0.1).fit(Xd[rows], yd[rows]).predict(Xv) - yv) ** 2).mean()

    everything = np.arange(50)
    expected = [cost(np.delete(everything, i)) - cost(everything) for i in range(50)]
    np.testing.assert_allclose(ours, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())
    assert np.corrcoef(ours, first)[0, 1] > 0.99
    net = MLPRegressor(hidden_layer_sizes=2, solver="lbfgs", max_iter=2000, random_state=0)
    refits = value_rows(net, X, TARGETS, XV, TARGETS_VAL, method="leave_one_out")  # no "exact"
    i = 2
    fits = [
        clone(net).fit(A, b) for A, b in ((X, TARGETS), (np.delete(X, i, 0), np.delete(TARGETS, i)))
    ]
    costs = [0.5 * ((fit.predict(XV) - TARGETS_VAL) ** 2).mean() for fit in fits]
    np.testing.assert_allclose(refits.value[i], costs[1] - costs[0], rtol=1e-6)


def test_influence_is_that_of_the_explainer():
    iris, species = load_iris(return_X_y=True)
    weight = RNG.random(75)
    explainer = InfluenceExplainer(LogisticRegression(max_iter=1000), method="influence")
    ours = value_rows(
        explainer, iris[::2], species[::2], iris[1::2], species[1::2], sample_weight=weight
    )
    explainer.fit(iris[::2], species[::2], weight)
    expected = explainer.transform(iris[1::2], species[1::2]).mean(axis=0)
    np.testing.assert_allclose(ours.value, expected, rtol=1e-9, atol=1e-12)


def test_subsets_keep_every_class():
    model = LogisticRegression()
    y = np.array([0, 0, 1, 1, 0, 1, 0, 0, 1])
    found = value_rows(model, X, y, XV, [0, 1, 1, 0], method="banzhaf", n_samples=60)
    assert np.isfinite(found.value).all() and (found.standard_error > 0).all()


def test_refusals():
    with pytest.raises(ValueError, match="method='shapley'"):
        value_rows(Ridge(), X, TARGETS, XV, TARGETS_VAL, method="shapley")
    with pytest.raises(ValueError, match="pass y_val"):
        value_rows(Ridge(), X, TARGETS, XV, None)
    with pytest.raises(TypeError, match="not of Ridge"):
        value_rows(Ridge(), X, TARGETS, XV, TARGETS_VAL, method="knn_shapley")
    weighted = KNeighborsClassifier(2, weights="distance")
    with pytest.raises(TypeError, match="weights='uniform'"):
        value_rows(weighted, X, LABELS, XV, LABELS_VAL, method="knn_shapley")
    with pytest.raises(ValueError, match="labels that the training rows"):
        value_rows(KNeighborsClassifier(2), X, LABELS, XV, [0, 1, 2, 9], method="knn_shapley")
    with pytest.raises(ValueError, match="of the loss"):
        explainer = InfluenceExplainer(KNeighborsClassifier(2), target=Decision(output=1))
        value_rows(explainer, X, LABELS, XV, LABELS_VAL, method="knn_shapley")
    with pytest.raises(ValueError, match="n_samples=1 "):
        value_rows(Ridge(), X, TARGETS, XV, TARGETS_VAL, method="banzhaf", n_samples=1)
    with pytest.raises(ValueError, match="draw more"):
        value_rows(
            Ridge(), X, TARGETS, XV, TARGETS_VAL, method="banzhaf", n_samples=3, random_state=0
        )
    many, names = RNG.normal(size=(60, 2)), np.arange(60) % 30
    with pytest.raises(ValueError, match="1000 random halves"):
        value_rows(LogisticRegression(), many, names, XV, LABELS_VAL, method="banzhaf")
