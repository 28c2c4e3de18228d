"""Hostile tables: an error that says why, or the numbers of a refit; never a silent wrong one.

The refits are those of this file: Newton steps on columns scaled to one, which do not depend on
scikit-learn's own stopping rules nor on anything of the package.
"""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import expit, log_expit
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.svm import LinearSVC

from skinfluence import InfluenceExplainer

hostile = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


# -- tables --------------------------------------------------------------------------------
@st.composite
def tables(draw, kind):
    """``(X as given, X in float64, y, weights or None)``."""
    n, d = draw(st.integers(3, 14)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    X = rng.standard_normal((n, d))
    if draw(st.booleans()):  # duplicated rows
        X[n // 2 :] = X[: n - n // 2]
    if draw(st.booleans()):  # a constant column
        X[:, draw(st.integers(0, d - 1))] = draw(st.sampled_from([0.0, 1.0, 1e6]))
    if draw(st.booleans()):  # columns that are nearly the same
        X[:, -1] = X[:, 0] * (1 + 1e-9 * rng.standard_normal(n))
    X = X * 10.0 ** np.array([draw(st.sampled_from([-12, -6, 0, 0, 0, 6, 12])) for _ in range(d)])
    given_as = draw(st.sampled_from(["float64", "float64", "float32", "fortran", "csr"]))
    X = np.asarray(X, np.float32 if given_as == "float32" else np.float64)
    y = draw_targets(draw, kind, X, rng)
    weights = None
    if draw(st.booleans()):
        weights = 10.0 ** rng.uniform(-6, 6, n) if draw(st.booleans()) else rng.uniform(0.5, 2, n)
    shaped = {"fortran": np.asfortranarray, "csr": sparse.csr_array}.get(given_as, np.asarray)
    return shaped(X), X.astype(np.float64), y, weights


def draw_targets(draw, kind, X, rng):
    n = len(X)
    if kind == "counts":
        return rng.poisson(2.0, n) * 10.0 ** draw(st.sampled_from([0, 3]))
    if kind == "numbers":
        return rng.standard_normal(n) * 10.0 ** draw(st.sampled_from([-9, 0, 9]))
    if draw(st.booleans()):  # separable
        y = (X[:, 0] > np.median(X[:, 0])).astype(int)
    elif draw(st.booleans()):  # one row a class
        y = np.zeros(n, int)
        y[0] = 1
    else:
        y = rng.integers(0, 2, n)
    assume(0 < y.sum() < n)
    return y


# -- refits --------------------------------------------------------------------------------
def newton(A, slopes, penalty):
    """Outputs at the minimum of ``Σ ℓ(A θ) + ½ θ' diag(penalty) θ``, or None if none is reached.

    ``slopes(z)`` gives the losses and their first and second derivatives.
    """
    sizes = np.abs(A).max(axis=0)
    sizes[sizes == 0] = 1.0
    A, penalty = A / sizes, penalty / sizes**2
    theta = np.zeros(A.shape[1])

    def value(theta):
        with np.errstate(all="ignore"):  # a step that is too long
            total = slopes(A @ theta)[0].sum() + 0.5 * (penalty * theta**2).sum()
        return total if np.isfinite(total) else np.inf

    for _ in range(300):
        _, first, second = slopes(A @ theta)
        gradient = A.T @ first + penalty * theta
        H = A.T @ (second[:, None] * A) + np.diag(penalty)
        scale = 1 / np.sqrt(np.maximum(np.diag(H), 1e-300))
        values, vectors = np.linalg.eigh(H * scale[:, None] * scale)
        if values[0] < 1e-10 * values[-1]:
            return None  # the refit itself is not determined to double precision
        step = scale * (vectors @ ((vectors.T @ (scale * gradient)) / values))
        moved, reached = np.abs(A @ step).max(), np.abs(A @ theta).max()
        if moved <= 1e-12 * reached or moved == 0:
            return A @ (theta - step)
        size, close = 1.0, moved <= 1e-6 * reached  # there values tell nothing
        while not close and value(theta - size * step) > value(theta) - 0.1 * size * (
            gradient @ step
        ):
            size /= 2
            if size < 1e-8:
                return None
        theta = theta - size * step
    return None


def logistic_slopes(y, weights):
    signs = 2.0 * y - 1

    def slopes(z):
        p = expit(-signs * z)
        return -weights * log_expit(signs * z), -weights * signs * p, weights * p * (1 - p)

    return slopes


def squared_slopes(y, weights):
    return lambda z: (weights * (z - y) ** 2, 2 * weights * (z - y), 2 * weights)


def hinge_slopes(y, weights):
    signs = 2.0 * y - 1

    def slopes(z):
        gap = np.maximum(0, 1 - signs * z)
        return weights * gap**2, -2 * weights * signs * gap, 2 * weights * (gap > 0)

    return slopes


def poisson_slopes(y, weights):
    def slopes(z):
        with np.errstate(over="ignore"):
            mean = np.exp(z)
        return weights * (mean - y * z), weights * (mean - y), weights * mean

    return slopes


# kind of target, estimator, slopes, weight of the loss, penalty of a coefficient, intercept's
MODELS = {
    "logistic": ("labels", LogisticRegression(max_iter=5000), logistic_slopes, 1.0, 1.0, 0.0),
    "strong logistic": ("labels", LogisticRegression(C=0.01), logistic_slopes, 0.01, 1.0, 0.0),
    "weak logistic": (
        "labels",
        LogisticRegression(C=1e3, max_iter=5000),
        logistic_slopes,
        1e3,
        1.0,
        0.0,
    ),
    "ridge": ("numbers", Ridge(), squared_slopes, 1.0, 2.0, 0.0),
    "weak ridge": ("numbers", Ridge(alpha=1e-6), squared_slopes, 1.0, 2e-6, 0.0),
    "poisson": ("counts", PoissonRegressor(max_iter=2000), poisson_slopes, 1.0, None, 0.0),
    "squared hinge": ("labels", LinearSVC(max_iter=50_000), hinge_slopes, 1.0, 1.0, 1.0),
}


def refit(name, X, y, weights):
    """Outputs at all rows of ``X``, of the fit to rows whose weight is not NaN."""
    _, _, slopes, strength, penalty, bias = MODELS[name]
    kept = ~np.isnan(weights)
    A = np.column_stack([X, np.ones(len(X))])
    if penalty is None:  # the mean form of a Poisson regression
        penalty = weights[kept].sum()
    penalties = np.append(np.full(X.shape[1], penalty), bias)
    w = strength * np.where(kept, weights, 0.0)
    return newton(A, slopes(y, w), penalties)


def explained(name, table, method):
    """Decision values of each row without it, ``(n,)``; None when the table is refused."""
    X, _, y, weights = table
    model = MODELS[name][1]
    with warnings.catch_warnings():
        # scikit-learn stops early on such tables; what the package says of it is asked below
        warnings.simplefilter("ignore")
        try:
            explainer = InfluenceExplainer(model, method=method, target="decision")
            explainer.fit(X, y, weights)
            return explainer, explainer.transform(X).diagonal()
        except (ValueError, TypeError, np.linalg.LinAlgError) as error:
            assert len(str(error)) > 30  # a sentence
            return None


@pytest.mark.parametrize("method", ["newton", "exact"])
@pytest.mark.parametrize("name", MODELS)
def test_right_or_refused(name, method):
    @hostile
    @given(tables(MODELS[name][0]))
    def check(table):
        result = explained(name, table, method)
        if result is None:
            return
        explainer, changes = result
        X, y, weights = table[1:]
        weights = np.ones(len(y)) if weights is None else weights
        fitted = refit(name, X, y, weights)
        assume(fitted is not None)
        single = table[0].dtype == np.float32
        for i in range(0, len(y), 3):
            without = weights.copy()
            without[i] = np.nan
            truth = refit(name, X, y, without)
            if truth is None or len(np.unique(np.delete(y, i))) < 2:
                continue
            moved, before = truth[i], fitted[i]
            if name == "poisson":
                moved, before = np.exp([moved, before])
            expected = moved - before
            scale = max(np.abs(fitted).max(), np.abs(truth).max(), np.abs(expected))
            if name == "poisson":
                scale = max(moved, before, 1e-300)
            if method == "exact" or name in ("ridge", "weak ridge"):
                tolerance = (2e-4 if single else 1e-6) * scale
                assert abs(changes[i] - expected) <= tolerance, (i, changes[i], expected)
            else:
                assert np.isfinite(changes[i])

    check()
