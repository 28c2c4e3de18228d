"""Hostile tables: an error that says why, or the numbers of a refit; never a silent wrong one.

The refits of smooth linear models are those of this file: Newton steps on columns scaled to one,
which do not depend on scikit-learn's own stopping rules nor on anything of the package. All other
models are compared with the polished fit to the rows left, and ``newton`` with a dense step.

``SKINFLUENCE_EXAMPLES=1000 pytest tests/test_robustness.py`` looks longer and elsewhere.
"""

import os
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import expit, log_expit
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.svm import LinearSVC

from skinfluence import InfluenceExplainer
from skinfluence.methods import Exact
from skinfluence.objectives.linear import LinearObjective
from skinfluence.targets import Decision

from .test_common import CASES

LONG = int(os.environ.get("SKINFLUENCE_EXAMPLES", 0))
hostile = settings(
    max_examples=LONG or 40,
    deadline=None,
    derandomize=not LONG,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
few = settings(hostile, max_examples=LONG or 4)


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
            # of the default 1e-8 in the norm of the Hessian, extreme weights leave little
            method = Exact(tol=1e-12) if method == "exact" else method
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


# -- every registered model ----------------------------------------------------------------
# Slow to their limit on such tables; their kin with another solver are here.
SLOW = ("logistic-sag", "logistic-saga", "logistic-newton-cg", "logistic-cv", "huber", "process")
KINDS = {}
for _case in CASES:
    if not _case.name.startswith(SLOW):
        KINDS.setdefault(_case.name.split("-")[0], []).append(_case)


def table_for(case, rng):
    """``(X, y, weights or None)`` of the kind that a case takes, with one or more peculiarities."""
    n, d = int(rng.integers(4, 15)), int(rng.integers(1, 6))
    X = rng.standard_normal((n, d)) * 10.0 ** rng.choice([-2, 0, 0, 0, 2], d)
    if rng.random() < 0.3:
        X[n // 2 :] = X[: n - n // 2]  # duplicated rows
    if rng.random() < 0.25:
        X[:, rng.integers(d)] = rng.choice([0.0, 1.0, 100.0])
    old = np.asarray(case.y)
    if old.dtype.kind in "US" or is_classifier(case.estimator):
        K = min(len(np.unique(old)), 3)
        y = rng.integers(0, K, n)
        if rng.random() < 0.3:
            y = (X[:, 0] > np.median(X[:, 0])).astype(int)  # separable
        y[:K] = np.arange(K)
        y = np.unique(old)[:K][y]
    elif old.ndim == 2:
        y = rng.standard_normal((n, old.shape[1])) * 10.0 ** rng.choice([-6, 0, 6])
    elif (old >= 0).all():
        y = rng.poisson(2.0, n) + (0.5 if (old > 0).all() else 0.0)
    else:
        y = rng.standard_normal(n) * 10.0 ** rng.choice([-6, 0, 6])
    weights = None
    if case.takes_weights and rng.random() < 0.6:
        weights = [
            rng.uniform(0.5, 2, n),
            10.0 ** rng.uniform(-4, 4, n),
            rng.integers(0, 3, n).astype(float),
            np.full(n, 10.0 ** rng.uniform(-8, 8)),
        ][rng.integers(4)]
    if rng.random() < 0.2 and case.takes_sparse:
        X = sparse.csr_array(X)
    return X, y, weights


def varied(case, rng):
    """The estimator of a case with other penalties, intercepts and class weights."""
    model = clone(case.estimator)
    params = model.get_params()
    for name in ("C", "alpha"):
        if np.isscalar(params.get(name)) and np.isfinite(params[name]) and rng.random() < 0.5:
            model.set_params(**{name: float(params[name]) * 10.0 ** rng.choice([-5, -2, 2, 4])})
    if "fit_intercept" in params and rng.random() < 0.3:
        model.set_params(fit_intercept=False)
    if "class_weight" in params and (
        isinstance(params["class_weight"], dict) or rng.random() < 0.3
    ):
        model.set_params(class_weight="balanced")
    for name, value in params.items():
        if name.endswith("max_iter") and (value is None or value > 10_000 or value == -1):
            model.set_params(**{name: 10_000})
    return model


def outputs_at(explainer, X):
    rows = X if sparse.issparse(X) else np.asarray(X, dtype=float)
    return explainer.objective_.queries(rows)


def attempt(model, method, X, y, weights):
    """A fitted explainer, or None where the table is refused in a sentence."""
    target = Decision(output=0) if y.ndim == 2 else "decision"
    try:
        return InfluenceExplainer(model, method=method, target=target).fit(X, y, weights)
    except (ValueError, TypeError, np.linalg.LinAlgError) as error:
        assert len(str(error)) > 25
        return None


def newton_step(full, left, X):
    """Changes of the outputs by one dense Newton step of the objective on the rows left."""
    theta, block = full.theta, left.quadratic(full.theta)
    H = np.kron(np.eye(block.repeats), block.matrix())
    scale = 1 / np.sqrt(np.maximum(np.diag(H), 1e-300))
    gauges = 0 if block.gauge is None else block.gauge.shape[1]
    values, vectors = np.linalg.eigh(H * scale[:, None] * scale)
    if values[gauges] < 1e-9 * values[-1]:
        return None  # not determined to double precision
    inverse = vectors[:, gauges:] / values[gauges:] @ vectors[:, gauges:].T
    step = -scale * (inverse @ (scale * left.gradient(theta)))
    rows = X.toarray() if sparse.issparse(X) else X
    if full.design.intercept is not None:
        rows = np.column_stack([rows, np.full(len(rows), full.design.intercept)])
    out = rows @ step.reshape(full.n_outputs, -1).T
    return out - out.mean(axis=1, keepdims=True) if gauges else out


def check_removals(case, seed):
    rng = np.random.default_rng(seed)
    (X, y, weights), model = table_for(case, rng), varied(case, rng)
    methods = {m: attempt(model, m, X, y, weights) for m in ("exact", "newton", "influence")}
    fitted = next((e for e in methods.values() if e is not None), None)
    if fitted is None:
        return
    for i in range(0, X.shape[0], 3):
        keep = np.delete(np.arange(X.shape[0]), i)
        if is_classifier(model) and len(np.unique(y[keep])) < len(np.unique(y)):
            continue
        kept = None if weights is None else weights[keep]
        left = attempt(model, fitted.method, X[keep], y[keep], kept)
        if left is None:
            continue
        after = outputs_at(left, X).outputs
        for name, explainer in methods.items():
            if explainer is None:
                continue
            queries, objective = outputs_at(explainer, X), explainer.objective_
            try:
                moved = queries.moved(explainer.effects_, np.array([i]))[:, 0]
            except (ValueError, TypeError, np.linalg.LinAlgError) as error:
                assert len(str(error)) > 25
                continue
            assert np.isfinite(moved).all(), name
            least = 1e-6 if is_classifier(model) else 1e-300
            scale = max(np.abs(queries.outputs).max(), np.abs(after).max(), least)
            if name == "exact" and objective.strictly_convex and not shifting(objective):
                error = np.abs(moved - (after - queries.outputs)).max() / scale
                assert error <= 1e-4, (case.name, i, error)
            if name == "newton" and type(objective) is LinearObjective:
                truth = newton_step(objective, left.objective_, X)
                if truth is not None:
                    if objective.gauge() is not None:
                        moved = moved - moved.mean(axis=1, keepdims=True)
                    error = np.abs(moved - truth).max() / max(scale, np.abs(truth).max())
                    assert error <= 1e-5, (case.name, i, error)


def shifting(objective):
    """Whether a common shift of the outputs is the solver's own choice."""
    gauge = getattr(objective, "gauge", None)
    return gauge is not None and gauge() is not None


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_is_right_or_refuses(kind):
    @few
    @given(st.integers(0, len(KINDS[kind]) - 1), st.integers(0, 2**32 - 1))
    def check(which, seed):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what fits say of themselves on such tables
            check_removals(KINDS[kind][which], seed)

    check()
