"""Bounds on the error of approximate leave-one-out parameters against the optimum itself."""

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

from skinfluence import InfluenceExplainer
from skinfluence.methods.certificate import LinearCertificate, certificate_for
from skinfluence.objectives.composite import IndependentOutputs
from skinfluence.objectives.losses import LogisticLoss, MultinomialLoss

STRICT = {"solver": "newton-cholesky", "max_iter": 500}
METHODS = ["newton", "infinitesimal_jackknife", "influence"]


def make_data(n, d, n_classes, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    if n_classes == 2:
        return X, (rng.random(n) < expit(2 * X @ rng.standard_normal(d) / np.sqrt(d))).astype(int)
    scores = X @ rng.standard_normal((d, n_classes)) + rng.gumbel(size=(n, n_classes))
    return X, scores.argmax(axis=1)


def true_changes(objective, rows):
    if isinstance(objective, IndependentOutputs):
        return np.concatenate([true_changes(part, rows) for part in objective.parts], axis=1)
    out = []
    for row in rows:
        phi, rho = objective.rule.joint_factors(np.array([row]))
        weights = objective.weights * phi[objective.rule.groups]
        weights[row] = 0.0
        out.append(objective.minimise(objective.theta, weights, rho).theta - objective.theta)
    return np.array(out)


def check(explainer, rows):
    """Bound over error for each row, after checking that no bound is violated."""
    bounds = explainer.error_bound(rows)
    true = explainer.objective_.public_parameters(true_changes(explainer.objective_, rows))
    errors = np.linalg.norm(explainer.parameter_influence(rows) - true, axis=1)
    # The true optimum is known to a few units of float64 of its length.
    assert (errors <= bounds + 1e-13 * np.linalg.norm(explainer.objective_.theta)).all()
    return bounds, errors


@pytest.mark.filterwarnings("ignore:.*leverage above")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("C", [0.01, 1, 100])
@pytest.mark.parametrize("d", [3, 20])
def test_never_violated(method, n_classes, C, d):
    for seed in range(2):
        X, y = make_data(100, d, n_classes, seed)
        explainer = InfluenceExplainer(LogisticRegression(C=C, **STRICT), method=method)
        with np.errstate(all="raise"):
            explainer.fit(X, y)
        bounds, errors = check(explainer, np.arange(0, 100, 9))
        if d == 3 and C <= 1:
            assert np.median(bounds / errors) < (1.5 if n_classes == 2 else 3)


@pytest.mark.filterwarnings("ignore:.*leverage above")
@pytest.mark.parametrize("method", METHODS)
def test_never_violated_on_separable_rows(method):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 30))
    y = (X[:, 0] + 0.1 * rng.standard_normal(60) > 0).astype(int)
    X[0] *= 30  # one row far away
    explainer = InfluenceExplainer(LogisticRegression(C=50, **STRICT), method=method)
    bounds, _ = check(explainer.fit(X, y), np.arange(12))
    assert np.isfinite(bounds).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "options",
    [
        {"class_weight": "balanced"},
        {"class_weight": {0: 0.3, 1: 2.0}},
        {"fit_intercept": False},
        {"solver": "liblinear", "intercept_scaling": 10.0},
        {"C": np.inf},
    ],
    ids=["balanced", "dict", "no_intercept", "liblinear", "unpenalised"],
)
def test_never_violated_under_options(method, options):
    X, y = make_data(150, 4, 2, 1)
    explainer = InfluenceExplainer(LogisticRegression(**options), method=method).fit(X, y)
    bounds, errors = check(explainer, np.arange(0, 150, 14))
    assert np.median(bounds / errors) < (15 if "solver" in options else 3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_never_violated_on_wide_sparse_rows(method, n_classes):
    X, y = make_data(40, 90, n_classes, 3)
    X[np.abs(X) < 1] = 0
    explainer = InfluenceExplainer(LogisticRegression(C=0.1), method=method)
    bounds, _ = check(explainer.fit(sparse.csr_array(X), y), np.arange(8))
    assert np.isfinite(bounds).all()


@pytest.mark.parametrize("n_targets", [1, 2])
def test_squared_loss(n_targets):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((80, 6)), rng.standard_normal((80, n_targets))
    alpha = 1.0 if n_targets == 1 else np.array([0.5, 2.0])
    explainer = InfluenceExplainer(Ridge(alpha), method="influence").fit(X, Y)
    bounds, errors = check(explainer, np.arange(10))
    np.testing.assert_allclose(bounds, errors, rtol=1e-6)
    newton = InfluenceExplainer(Ridge(alpha), method="newton").fit(X, Y)
    assert check(newton, np.arange(10))[0].max() < 1e-12


def test_one_vs_rest():
    X, y = make_data(90, 4, 3, 0)
    explainer = InfluenceExplainer(OneVsRestClassifier(LogisticRegression()), method="newton")
    explainer.fit(X, y)
    check(explainer, np.arange(6))


def test_exact_reports_what_it_proved():
    X, y = make_data(200, 5, 2, 0)
    explainer = InfluenceExplainer(LogisticRegression(), method="exact").fit(X, y)
    rows = np.arange(0, 200, 17)
    bounds, _ = check(explainer, rows)
    size = np.linalg.norm(explainer.parameter_influence(rows), axis=1)
    assert (bounds <= 1e-7 * size).all()


@pytest.mark.parametrize("loss", [LogisticLoss(), MultinomialLoss()])
def test_relative_bound_of_the_third_derivative(loss):
    # ∇²ℓ(z + u) lies between exp(-range u) and exp(range u) times ∇²ℓ(z)
    rng = np.random.default_rng(0)
    K = 1 if loss.scalar else 4
    Z, U = 2 * rng.standard_normal((2, 500, K))
    spread = np.abs(U[:, 0]) if loss.scalar else np.ptp(U, axis=1)
    if loss.scalar:
        ratio = loss.curvature(Z + U, None) / loss.curvature(Z, None)
        assert (np.abs(np.log(ratio)) <= spread).all()
        return
    here, there = loss.curvature_matrix(Z, None), loss.curvature_matrix(Z + U, None)
    high = np.exp(spread)[:, None, None]
    assert np.linalg.eigvalsh(there * high - here).min() > -1e-12
    assert np.linalg.eigvalsh(here * high - there).min() > -1e-12


@pytest.mark.parametrize("loss, y", [(LogisticLoss(), np.zeros(1000))])
def test_relative_bounds_of_higher_derivatives(loss, y):
    z, step = np.linspace(-12, 12, 1000), 1e-3
    h = loss.curvature(z[:, None], y)
    fifth = (loss.fourth(z[:, None] + step, y) - loss.fourth(z[:, None] - step, y)) / (2 * step)
    for bound, derivative in zip(
        loss.relative_bounds,
        [loss.third(z[:, None], y), loss.fourth(z[:, None], y), fifth],
        strict=True,
    ):
        assert (np.abs(derivative) <= bound * h * (1 + 1e-5)).all()


@pytest.mark.parametrize("loss, K", [(LogisticLoss(), 1), (MultinomialLoss(), 3)])
@pytest.mark.parametrize("size", [1e-9, 1e-2, 3.0, 60.0])
def test_change_of_the_gradient(loss, K, size):
    rng = np.random.default_rng(0)
    Z, dZ = rng.standard_normal((20, K)), size * rng.standard_normal((20, K))
    y = rng.integers(0, max(K, 2), 20)
    change = loss.gradient_change(Z, dZ, y)
    expected = loss.gradient(Z + dZ, y) - loss.gradient(Z, y)
    np.testing.assert_allclose(change, expected, rtol=1e-9, atol=3e-16)


def test_rank_deficient_is_refused():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 3))
    X = np.column_stack([X, X[:, 0]])
    with pytest.warns(UserWarning, match="linearly dependent"):
        explainer = InfluenceExplainer(LinearRegression()).fit(X, X @ np.ones(4))
    with pytest.raises(ValueError, match="strictly convex"):
        explainer.error_bound()


def test_unknown_loss_with_free_intercept_is_refused():
    X, y = make_data(50, 3, 2, 0)
    explainer = InfluenceExplainer(LogisticRegression()).fit(X, y)
    explainer.objective_.loss.relative_bounds = None
    with pytest.raises(ValueError, match="unpenalised"):
        explainer.error_bound()


def test_unknown_loss_under_a_full_penalty_uses_the_penalty():
    X, y = make_data(80, 3, 2, 0)
    explainer = InfluenceExplainer(LogisticRegression(fit_intercept=False)).fit(X, y)
    explainer.objective_.loss.relative_bounds = None
    assert isinstance(
        certificate_for(explainer.objective_, explainer.effects_.problem), LinearCertificate
    )
    check(explainer, np.arange(10))


def test_other_objectives_are_refused_by_name():
    with pytest.raises(TypeError, match="error_bound is not known for object"):
        certificate_for(object(), None)
