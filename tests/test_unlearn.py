"""Estimators without rows: the distance to the optimum never exceeds the certificate."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from scipy.special import expit
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    RidgeCV,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC

from skinfluence import InfluenceExplainer

from .cases.linear import BINARY, MANY, TWO, VALUES, WEIGHTS, X, logistic
from .cases.nets import fitted

METHODS = ["newton", "influence", "second_order", "rescaled", "exact"]
ROWS = np.array([2, 3, 11, 30])
LEFT = np.setdiff1d(np.arange(len(X)), ROWS)


# -- the certificate -------------------------------------------------------------------------------
def random_case(seed):
    """An estimator on a random table, and a group of its rows."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(20, 90)), int(rng.integers(1, 7))
    X = rng.standard_normal((n, d)) * np.exp(rng.normal(0, 0.7, d))
    if rng.random() < 0.3:  # copies
        X[: n // 4] = X[n // 4 : 2 * (n // 4)]
    kind = ["binary", "softmax", "ridge", "poisson"][seed % 4]
    score = X @ rng.standard_normal((d, 3)) / np.sqrt(d)
    noise = rng.choice([0.02, 1.0])  # at 0.02 the classes are nearly separable
    weights = rng.uniform(0.2, 3, n) if rng.random() < 0.5 else None
    if weights is not None and rng.random() < 0.3:
        weights[rng.integers(n)] = 0
    rule = "balanced" if rng.random() < 0.4 else None
    C = float(np.exp(rng.uniform(np.log(0.01), np.log(300))))
    if kind == "ridge":
        estimator, y = Ridge(1 / C), score[:, 0] + noise * rng.standard_normal(n)
    elif kind == "poisson":
        estimator = PoissonRegressor(alpha=1 / (C * n), solver="newton-cholesky", tol=1e-12)
        y = rng.poisson(np.exp(np.clip(score[:, 0], -3, 2))).astype(float)
        y[:2] = 1, 2
    else:
        K = 2 if kind == "binary" else 3
        y = (score[:, :K] + noise * rng.gumbel(size=(n, K))).argmax(axis=1)
        y[: 4 * K] = np.arange(4 * K) % K  # every class has rows
        estimator = logistic(C=C, class_weight=rule)
    group = rng.choice(np.arange(12, n), int(rng.integers(1, max(2, n // 5))), replace=False)
    return kind, estimator, X, y, weights, group


def total_weights(kind, estimator, y, weights):
    """What each row's loss is multiplied by, and the penalty: by scikit-learn's documentation."""
    s = np.ones(len(y)) if weights is None else weights
    if kind == "ridge":
        return 2 * s, 2 * estimator.alpha  # of the half squared error
    if kind == "poisson":
        return s, estimator.alpha * s.sum()
    if estimator.class_weight == "balanced":
        counts = np.bincount(y, s)
        s = s * (s.sum() / (len(counts) * counts))[y]
    return estimator.C * s, 1.0


def gradient_and_hessian(kind, theta, A, y, weights, penalty):
    """Both in extended precision, of parameters (K, d) with the intercept last."""
    Z = A @ theta.T
    if kind == "softmax":
        P = np.exp(Z - Z.max(axis=1, keepdims=True))
        P /= P.sum(axis=1, keepdims=True)
        slopes = P - (y[:, None] == np.arange(theta.shape[0]))
        curved = P[:, :, None] * np.eye(len(theta)) - P[:, :, None] * P[:, None]
    else:
        z = Z[:, 0]
        mean = {"ridge": lambda: z, "poisson": lambda: np.exp(z)}
        mean = mean.get(kind, lambda: np.where(z > 0, 1, np.exp(z)) / (1 + np.exp(-np.abs(z))))()
        slopes = (mean - y)[:, None]
        own = {"ridge": np.ones_like(z), "poisson": mean}.get(kind, mean * (1 - mean))
        curved = own[:, None, None]
    free = np.ones(theta.shape, dtype=theta.dtype)
    free[:, -1] = 0
    gradient = (slopes * weights[:, None]).T @ A + penalty * free * theta
    hessian = np.einsum("i,ikl,ia,ib->kalb", weights, curved, A, A, optimize=True)
    size = theta.size
    hessian = hessian.reshape(size, size) + penalty * np.diag(free.ravel())
    return gradient.ravel(), hessian


def optimum(kind, start, X, y, weights, penalty):
    """From a start nearby, by Newton steps on an extended-precision gradient."""
    A = np.column_stack([X, np.ones(len(X))]).astype(np.longdouble)
    theta = start.astype(np.longdouble)
    for _ in range(30):
        gradient, hessian = gradient_and_hessian(kind, theta, A, y, weights, penalty)
        hessian = hessian.astype(float)
        step = np.linalg.lstsq(hessian, gradient.astype(float), rcond=1e-13)[0]
        theta = theta - step.reshape(theta.shape)
        if np.abs(step).max() <= 1e-17 * np.abs(theta).max():
            break
    else:
        assert np.abs(step).max() <= 1e-15 * np.abs(theta).max()
    return theta


def parameters(estimator):
    return np.column_stack([np.atleast_2d(estimator.coef_), np.atleast_1d(estimator.intercept_)])


@pytest.mark.filterwarnings("ignore:.*leverage above")
@pytest.mark.parametrize("part", range(10))
def test_never_violated_in_200_random_cases(part):
    finite = []
    for seed in range(20 * part, 20 * part + 20):
        kind, estimator, X, y, weights, group = random_case(seed)
        method = METHODS[seed % 5]
        explainer = InfluenceExplainer(estimator, method=method)
        explainer.fit(X, y, sample_weight=weights)
        found = explainer.unlearn(group)
        keep = np.setdiff1d(np.arange(len(y)), group)
        left = None if weights is None else weights[keep]
        given = total_weights(kind, estimator, y[keep], left)
        if kind == "poisson":  # the mean form weighs the penalty by the rows left
            assert_allclose(given[1], estimator.alpha * given[0].sum())
        # a start next to the optimum: what is compared is checked to be stationary there
        exact = InfluenceExplainer(estimator, method="exact").fit(X, y, sample_weight=weights)
        true = optimum(kind, parameters(exact.unlearn(group).estimator), X[keep], y[keep], *given)
        error = (parameters(found.estimator) - true).astype(float)
        if kind == "softmax":  # a common shift of the intercepts is no part of the model
            error[:, -1] -= error[:, -1].mean()
        distance = np.linalg.norm(error)
        assert distance <= found.distance_bound, f"seed {seed}"
        finite.append(np.isfinite(found.distance_bound))
    assert np.mean(finite) >= 0.5


def test_bounds_tell_something():
    """On an ordinary table the bound of a Newton step is within a few times of the distance."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 5))
    y = (rng.random(500) < expit(X[:, 0] + 0.5 * X[:, 1])).astype(int)
    explainer = InfluenceExplainer(logistic()).fit(X, y)
    exact = InfluenceExplainer(logistic(), method="exact").fit(X, y)
    for size in (1, 10, 50):
        group = rng.choice(500, size, replace=False)
        found, near = explainer.unlearn(group), exact.unlearn(group)
        distance = np.linalg.norm(parameters(found.estimator) - parameters(near.estimator))
        assert distance <= found.distance_bound <= 1.5 * distance
        assert near.distance_bound < 1e-9


# -- the estimator ---------------------------------------------------------------------------------
CASES = {
    "binary": (logistic(), BINARY, None),
    "balanced": (logistic(class_weight="balanced"), BINARY, WEIGHTS),
    "softmax": (logistic(), MANY, WEIGHTS),
    "no intercept": (logistic(fit_intercept=False), BINARY, None),
    "liblinear": (
        logistic(solver="liblinear", intercept_scaling=5.0, tol=1e-12, max_iter=100_000),
        BINARY,
        None,
    ),
    "ridge": (Ridge(2.0), VALUES, WEIGHTS),
    "two targets": (Ridge(2.0), TWO, WEIGHTS),
    "two penalties": (Ridge([1.0, 5.0]), TWO, WEIGHTS),
    "least squares": (LinearRegression(), VALUES, WEIGHTS),
    "ridge classifier": (RidgeClassifier(class_weight="balanced"), MANY, WEIGHTS),
    "ridge classifier, binary": (RidgeClassifier(), BINARY, None),
    "squared hinge": (LinearSVC(tol=1e-12, max_iter=10**6, intercept_scaling=3), MANY, WEIGHTS),
    "mean form": (
        PoissonRegressor(alpha=0.2, tol=1e-12, solver="newton-cholesky"),
        np.abs(VALUES),
        WEIGHTS,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_exact_unlearning_is_the_refit(name):
    estimator, y, weights = CASES[name]
    explainer = InfluenceExplainer(estimator, method="exact").fit(X, y, sample_weight=weights)
    before = explainer.estimator_.coef_.copy()
    found = explainer.unlearn(ROWS)
    options = {} if weights is None else {"sample_weight": weights[LEFT]}
    refit = clone(estimator).fit(X[LEFT], y[LEFT], **options)
    assert type(found.estimator) is type(refit)
    for attribute in ("coef_", "intercept_"):
        ours, theirs = (np.asarray(getattr(e, attribute)) for e in (found.estimator, refit))
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        assert isinstance(getattr(found.estimator, attribute), type(getattr(refit, attribute)))
    np.testing.assert_array_equal(found.estimator.predict(X) == y, refit.predict(X) == y)
    rtol = {"liblinear": 1e-4, "squared hinge": 1e-3}.get(name, 1e-7)  # where liblinear stops
    assert_allclose(found.estimator.coef_, refit.coef_, rtol=rtol, atol=rtol / 10)
    if name not in ("liblinear", "squared hinge"):
        assert found.distance_bound < 1e-7 and found.gradient_norm < 1e-7
    np.testing.assert_array_equal(explainer.estimator_.coef_, before)


def test_single_precision_is_part_of_the_bound():
    X32 = X.astype(np.float32)
    model = LogisticRegression(C=2, tol=1e-6, solver="lbfgs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = InfluenceExplainer(model, method="exact").fit(X32, BINARY).unlearn(ROWS)
    assert found.estimator.coef_.dtype == np.float32
    true = optimum(
        "binary",
        parameters(logistic(C=2).fit(X32[LEFT].astype(float), BINARY[LEFT])),
        X32[LEFT].astype(float),
        (BINARY[LEFT] == "yes").astype(int),
        np.full(len(LEFT), 2.0),
        1.0,
    )
    distance = np.linalg.norm((parameters(found.estimator) - true).astype(float))
    assert 1e-9 < distance <= found.distance_bound < 1e-5


def test_sparse_rows():
    dense = InfluenceExplainer(logistic()).fit(X, BINARY).unlearn(ROWS)
    found = InfluenceExplainer(logistic()).fit(sparse.csr_array(X), BINARY).unlearn(ROWS)
    assert_allclose(found.estimator.coef_, dense.estimator.coef_, rtol=1e-9)
    assert_allclose(found.distance_bound, dense.distance_bound, rtol=1e-6)


def test_unlearning_again():
    """Row after row, each from the estimator before: no error is carried on."""
    model, left = logistic(C=0.3), np.arange(len(X))
    estimator = clone(model).fit(X, BINARY)
    for row in (5, 17, 40, 3):
        explainer = InfluenceExplainer(FrozenEstimator(estimator)).fit(X[left], BINARY[left])
        found = explainer.unlearn([int(np.flatnonzero(left == row)[0])])
        left, estimator = np.setdiff1d(left, [row]), found.estimator
        refit = clone(model).fit(X[left], BINARY[left])
        distance = np.linalg.norm(parameters(estimator) - parameters(refit))
        assert distance <= found.distance_bound + 1e-12
        assert found.distance_bound <= 2 * distance  # nothing of the steps before is left
    assert isinstance(estimator, LogisticRegression)


# -- pipelines -------------------------------------------------------------------------------------
def test_frozen_steps_stay():
    pipeline = make_pipeline(StandardScaler(), logistic())
    explainer = InfluenceExplainer(pipeline, method="exact", preprocessing="frozen")
    found = explainer.fit(X, BINARY).unlearn(ROWS)
    scaler = explainer.estimator_[0]
    assert found.estimator[0] is scaler and found.estimator is not explainer.estimator_
    last = logistic().fit(scaler.transform(X[LEFT]), BINARY[LEFT])
    assert_allclose(found.estimator[-1].coef_, last.coef_, rtol=1e-8)
    assert_allclose(found.estimator.predict_proba(X), last.predict_proba(scaler.transform(X)))


@pytest.mark.parametrize("method", ["newton", "exact"])
@pytest.mark.parametrize("routed", [False, True])
def test_followed_steps_are_fitted_again(method, routed):
    with config_context(enable_metadata_routing=routed):
        scaler, last = StandardScaler(), logistic(class_weight="balanced")
        if routed:
            scaler.set_fit_request(sample_weight=True)
            last.set_fit_request(sample_weight=True)
        pipeline = make_pipeline(scaler, last)
        weights = WEIGHTS if routed else None
        explainer = InfluenceExplainer(pipeline, method=method, preprocessing="refit")
        found = explainer.fit(X, BINARY, sample_weight=weights).unlearn(ROWS)
        options = {"sample_weight": WEIGHTS[LEFT]} if routed else {}
        refit = clone(pipeline).fit(X[LEFT], BINARY[LEFT], **options)
    assert_allclose(found.estimator[0].scale_, refit[0].scale_, rtol=1e-12)
    assert_allclose(found.estimator[-1].coef_, refit[-1].coef_, rtol=1e-8)
    assert_allclose(found.estimator.predict_proba(X), refit.predict_proba(X), rtol=1e-8)
    assert found.distance_bound < 1e-9


def test_searches():
    table, y = load_diabetes(return_X_y=True)
    search = GridSearchCV(Ridge(), {"alpha": [0.01, 1.0]}, cv=3)
    found = InfluenceExplainer(search).fit(table, y).unlearn(np.arange(442) < 5)
    assert isinstance(found.estimator, Ridge)
    refit = clone(found.estimator).fit(table[5:], y[5:])
    assert_allclose(found.estimator.predict(table), refit.predict(table), rtol=1e-9)


# -- refusals --------------------------------------------------------------------------------------
def test_refusals():
    explainer = InfluenceExplainer(logistic()).fit(X, BINARY)
    for rows in ([], [1, 1]):
        with pytest.raises(ValueError, match="empty or names the same row twice"):
            explainer.unlearn(np.array(rows, dtype=int))
    with pytest.raises(ValueError, match="no row of class"):
        explainer.unlearn(BINARY == "yes")
    for estimator, y, match in (
        (SVC(gamma="auto"), BINARY, "objective without rows is not known for KernelMachine"),
        (Lasso(0.1), VALUES, "objective without rows is not known for SparseObjective"),
        (RidgeCV(), VALUES, "it holds .*best_score_"),
        (SGDClassifier("log_loss", random_state=0), BINARY, "SGDClassifier cannot be written"),
        (OneVsRestClassifier(logistic()), MANY, "OneVsRestClassifier cannot be written"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            explainer = InfluenceExplainer(estimator).fit(X, y)
        with pytest.raises(TypeError, match=match):
            explainer.unlearn(ROWS)
    net, Xn, yn = fitted("dense")
    with pytest.raises(TypeError, match="a net has no certificate"):
        InfluenceExplainer(net).fit(Xn, yn).unlearn([1])


def test_pipelines_whose_columns_go_are_refused():
    codes = np.where(np.arange(len(X)) == 7, 9.0, X[:, 0].round().clip(-1, 1))
    steps = make_column_transformer((OneHotEncoder(), [0]), (StandardScaler(), [1, 2]))
    explainer = InfluenceExplainer(make_pipeline(steps, logistic()), preprocessing="refit")
    codes = np.column_stack([codes, X[:, 1:]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer.fit(codes, BINARY)
    with pytest.raises(ValueError, match="columns instead of"):
        explainer.unlearn([7])


def test_unprovable_fits_are_refused():
    twice = np.column_stack([X, X])
    with pytest.warns(UserWarning, match="linearly dependent"):
        explainer = InfluenceExplainer(LinearRegression()).fit(twice, VALUES)
    with pytest.raises(ValueError, match="strictly convex"):
        explainer.unlearn(ROWS)
