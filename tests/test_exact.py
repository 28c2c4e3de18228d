"""Exact leave-one-out against refits, every engine, and the bounds it proves."""

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

from skinfluence import InfluenceExplainer
from skinfluence.methods import Exact
from skinfluence.methods.expansion import Expansion

# newton-cholesky stops when it no longer improves; the polish of the oracle's own parameters is
# left to the test, since scikit-learn checks its tolerance on the mean gradient.
STRICT = {"solver": "newton-cholesky", "tol": 1e-13, "max_iter": 500}


def make_data(n=300, d=10, n_classes=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    if n_classes == 2:
        y = (rng.random(n) < expit(2 * X @ rng.standard_normal(d) / np.sqrt(d))).astype(int)
    else:
        scores = X @ rng.standard_normal((d, n_classes)) + rng.gumbel(size=(n, n_classes))
        y = scores.argmax(axis=1)
    return X, y


def refitted(explainer, estimator, X, y, rows, weight=None):
    """Parameters of true refits minus the polished fit."""
    objective = explainer.objective_
    out = []
    for row in rows:
        keep = np.arange(len(y)) != row
        options = {} if weight is None else {"sample_weight": weight[keep]}
        model = clone(estimator).fit(X[keep], y[keep], **options)
        theta = objective.read_parameters(model)
        gauge = objective.gauge()
        change = theta - objective.theta
        out.append(change if gauge is None else change - gauge @ (gauge.T @ change))
    return np.array(out)


def largest_error(found, true):
    return np.abs(found - true).max() / np.abs(true).max()


def pick(n, count=12):
    return np.random.default_rng(1).choice(n, count, replace=False)


@pytest.mark.parametrize("C", [0.01, 1, 100])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_equals_refit(C, n_classes, class_weight):
    X, y = make_data(n_classes=n_classes)
    estimator = LogisticRegression(C=C, class_weight=class_weight, **STRICT)
    explainer = InfluenceExplainer(estimator, method="exact").fit(X, y)
    rows = pick(len(y))
    true = refitted(explainer, estimator, X, y, rows)
    found = explainer.effects_.parameters(rows)
    assert largest_error(found, true) < 1e-8


@pytest.mark.parametrize("n_classes", [2, 4])
def test_change_of_test_losses_equals_refit(n_classes):
    X, y = make_data(n=400, n_classes=n_classes)
    train, test = slice(0, 300), slice(300, 400)
    estimator = LogisticRegression(**STRICT)
    explainer = InfluenceExplainer(estimator, method="exact").fit(X[train], y[train])
    found = explainer.transform(X[test], y[test])
    fitted = InfluenceExplainer(estimator, method="refit").fit(X[train], y[train])
    rows = pick(300, 4)
    full = fitted.estimator_.predict_log_proba(X[test])[np.arange(100), y[test]]
    for row in rows:
        keep = np.arange(300) != row
        model = clone(estimator).fit(X[train][keep], y[train][keep])
        without = model.predict_log_proba(X[test])[np.arange(100), y[test]]
        np.testing.assert_allclose(found[:, row], full - without, atol=1e-7)


@pytest.mark.parametrize("form", ["sparse", "weights", "wide", "no_intercept", "float32"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_equals_refit_in_every_form(form, n_classes):
    n, d = (60, 100) if form == "wide" else (200, 6)
    X, y = make_data(n, d, n_classes)
    weight = np.random.default_rng(2).uniform(0.1, 3, n) if form == "weights" else None
    estimator = LogisticRegression(C=0.5, fit_intercept=form != "no_intercept", **STRICT)
    X_train = sparse.csr_array(X) if form == "sparse" else X
    if form == "float32":  # the same numbers in both, since the oracle fits in float64
        X_train = X.astype(np.float32)
        X = X_train.astype(np.float64)
    fitted = FrozenEstimator(clone(estimator).fit(X, y, sample_weight=weight))
    explainer = InfluenceExplainer(fitted, method="exact").fit(X_train, y, sample_weight=weight)
    rows = pick(n, 6)
    true = refitted(explainer, estimator, X, y, rows, weight)
    found = explainer.effects_.parameters(rows)
    assert largest_error(found, true) < 1e-8
    errors = np.linalg.norm(found - true, axis=1)
    # The oracle stops at a gradient of its own; the bound holds beyond it.
    assert (errors <= explainer.effects_.error_bound(rows) + 1e-9 * np.abs(true).max()).all()


def test_zero_weight_row_changes_nothing():
    X, y = make_data(100, 4)
    weight = np.ones(100)
    weight[7] = 0.0
    explainer = InfluenceExplainer(LogisticRegression(), method="exact")
    assert not explainer.fit(X, y, sample_weight=weight).parameter_influence([7]).any()


def reference(objective, row):
    weights = objective.weights.copy()
    weights[row] = 0.0
    return objective.minimise(objective.theta, weights).theta - objective.theta


@pytest.mark.parametrize(
    "tol, n, fourth", [(1e-4, 3000, False), (1e-7, 6000, True)], ids=["third", "fourth"]
)
def test_expansion_proves_rows(tol, n, fourth, monkeypatch):
    X, y = make_data(n, 5)
    explainer = InfluenceExplainer(LogisticRegression(), method=Exact(tol=tol)).fit(X, y)
    effects = explainer.effects_
    if fourth:
        effects._plan()
        effects._expansion = Expansion(effects._certificate)
        effects._expansion.add_fourth()
    moved = explainer.parameter_influence()
    assert effects.engines["expansion"] > 0.5 * n
    bounds = effects.error_bound(np.arange(n))
    objective = explainer.objective_
    for row in pick(n, 15):
        true = reference(objective, row)
        error = np.linalg.norm(moved[row] - true)
        assert error <= bounds[row]
        assert bounds[row] <= 10 * tol * np.linalg.norm(true) + 1e-11


def test_fourth_order_is_far_more_accurate_than_third():
    X, y = make_data(2000, 5)
    effects = InfluenceExplainer(LogisticRegression(), method="exact").fit(X, y).effects_
    effects._plan()
    rows = pick(2000, 10)
    true = np.array([reference(effects.objective, row) for row in rows])
    errors = []
    expansion = Expansion(effects._certificate)
    for _ in range(2):
        found = expansion.parameters(expansion.solve(rows, 1e-12).whitened)
        errors.append(np.linalg.norm(found - true, axis=1).max())
        expansion.add_fourth()
    assert errors[1] < errors[0] / 20


@pytest.mark.parametrize("fourth", [False, True])
def test_a_measured_remainder_proves_more_rows_and_holds(fourth):
    X, y = make_data(400, 6)
    X[:3] *= 4  # rows of leverage: what others can reach at most says little of what they do
    effects = InfluenceExplainer(LogisticRegression(), method="exact").fit(X, y).effects_
    effects._plan()
    expansion = Expansion(effects._certificate)
    if fourth:
        expansion.add_fourth()
    rows = np.arange(40)
    solution = expansion.solve(rows, 1e-8)
    plain, measured = (expansion.prove(rows, solution, way) for way in (False, True))
    assert (measured[1] < plain[1]).mean() > 0.9
    found, to_parameters = expansion.parameters(solution.whitened), effects._certificate.euclidean
    for row in rows:
        error = np.linalg.norm(found[row] - reference(effects.objective, row))
        assert error <= (to_parameters(rows) * measured[1])[row]


def test_measured_outputs_are_those_of_the_other_rows():
    X, y = make_data(300, 6)
    effects = InfluenceExplainer(LogisticRegression(), method="exact").fit(X, y).effects_
    effects._plan()
    expansion, objective = Expansion(effects._certificate), effects.objective
    rows = np.arange(30)
    solution = expansion.solve(rows, 1e-8)
    size = np.linalg.norm(solution.whitened, axis=0)
    spread, remainder = expansion._measured(rows, solution.whitened, size)
    moved = objective.predict_many(expansion.parameters(solution.whitened))[:, :, 0]
    moved[rows, rows] = 0
    bound = expansion.bounds[1] / 6 * np.sqrt(objective.curvatures @ np.abs(moved) ** 6)
    np.testing.assert_array_less(np.abs(moved).max(axis=0), spread)
    np.testing.assert_array_less(bound, remainder)
    np.testing.assert_allclose(spread, np.abs(moved).max(axis=0), rtol=2e-3)
    np.testing.assert_allclose(remainder, bound, rtol=2e-3)


def test_sweep_and_expansion_agree_with_each_other():
    X, y = make_data(1500, 4)
    swept = InfluenceExplainer(LogisticRegression(), method="exact").fit(X, y)
    swept.effects_._plan()
    swept.effects_._expandable = False
    few = swept.parameter_influence(np.arange(5))
    assert swept.effects_.engines == {"expansion": 0, "sweep": 5, "damped Newton": 0}
    again = InfluenceExplainer(LogisticRegression(), method="exact").fit(X, y)
    all_rows = again.parameter_influence()
    assert again.effects_._expansion is not None
    np.testing.assert_allclose(few, all_rows[:5], rtol=0, atol=1e-8 * np.abs(few).max())


@pytest.mark.parametrize("n_classes", [2, 3])
def test_slow_rows_go_to_damped_newton(n_classes):
    X, y = make_data(100, 45, n_classes)
    estimator = LogisticRegression(C=20, **STRICT)
    explainer = InfluenceExplainer(estimator, method="exact").fit(X, y)
    moved = explainer.effects_.parameters(np.arange(100))
    assert explainer.effects_.engines["damped Newton"] > 0
    rows = pick(100, 8)
    assert largest_error(moved[rows], refitted(explainer, estimator, X, y, rows)) < 1e-8
    for row in rows[:4]:
        true = reference(explainer.objective_, row)
        # the reference itself is a difference of two parameter vectors, each rounded
        assert np.linalg.norm(moved[row] - true) <= 1e-8 * np.linalg.norm(true) + 1e-13


def test_squared_loss_is_the_newton_step():
    X, y = load_diabetes(return_X_y=True)
    exact = InfluenceExplainer(Ridge(0.1), method="exact").fit(X, y)
    newton = InfluenceExplainer(Ridge(0.1), method="newton").fit(X, y)
    np.testing.assert_array_equal(exact.parameter_influence(), newton.parameter_influence())


def test_one_vs_rest_part_by_part():
    X, y = make_data(150, 5, 3)
    estimator = OneVsRestClassifier(LogisticRegression(**STRICT))
    explainer = InfluenceExplainer(estimator, method="exact").fit(X, y)
    rows = pick(150, 4)
    found = explainer.effects_.parameters(rows)
    for row, change in zip(rows, found, strict=True):
        keep = np.arange(150) != row
        model = clone(estimator).fit(X[keep], y[keep])
        true = explainer.objective_.read_parameters(model) - explainer.objective_.theta
        assert np.abs(change - true).max() < 1e-8 * np.abs(true).max()


def test_rows_are_solved_once():
    X, y = make_data(120, 4)
    explainer = InfluenceExplainer(LogisticRegression(), method="exact").fit(X, y)
    explainer.parameter_influence()
    solved = dict(explainer.effects_.engines)
    explainer.self_influence()
    explainer.transform(X[:3], y[:3])
    assert explainer.effects_.engines == solved


def test_order_of_requests_does_not_matter():
    X, y = make_data(120, 4)
    whole = InfluenceExplainer(LogisticRegression(), method="exact").fit(X, y)
    rows = np.array([5, 3, 5, 110])
    pieces = InfluenceExplainer(LogisticRegression(), method="exact").fit(X, y)
    np.testing.assert_allclose(
        pieces.parameter_influence(rows), whole.parameter_influence()[rows], atol=1e-10
    )


@pytest.mark.parametrize("tol", [0, -1e-8, 1])
def test_bad_tol_is_refused(tol):
    X, y = make_data(50, 3)
    with pytest.raises(ValueError, match="tol="):
        InfluenceExplainer(LogisticRegression(), method=Exact(tol=tol)).fit(X, y)
