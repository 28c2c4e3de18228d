"""Generalised linear models, linear support vector machines, robust and sparse regressions."""

import numpy as np
from sklearn.linear_model import (
    ElasticNet,
    ElasticNetCV,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LassoCV,
    LogisticRegression,
    PoissonRegressor,
    TweedieRegressor,
)
from sklearn.svm import LinearSVC, LinearSVR

from ..common import Case
from .linear import BINARY, MANY, TWO, VALUES, WEIGHTS, WIDE, WIDE_Y, X

rng = np.random.default_rng(1)
RATE = np.exp(X @ np.array([0.3, -0.2, 0.1, 0.4]) + 0.5)
COUNTS = rng.poisson(RATE).astype(float)
COSTS = RATE * rng.gamma(2.0, 0.5, len(X))
HEAVY = VALUES + 0.3 * rng.standard_t(1.5, len(X))
MIXED = np.where(COUNTS > 1, COSTS, 0.0)
NEWTON = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}


def poisson(**options):
    return PoissonRegressor(**NEWTON | options)


def svc(**options):
    """liblinear pushed to its limit: below 1e-12 its shrinking stalls."""
    return LinearSVC(**{"tol": 1e-11, "max_iter": 100_000, "C": 0.3, "random_state": 0} | options)


def svr(**options):
    return LinearSVR(**{"tol": 1e-11, "max_iter": 100_000, "C": 0.3, "random_state": 0} | options)


def lasso(kind=Lasso, **options):
    return kind(**{"tol": 1e-14, "max_iter": 1_000_000} | options)


def sparse_logistic(**options):
    return LogisticRegression(
        **{"solver": "saga", "l1_ratio": 1.0, "C": 0.3, "tol": 1e-13, "max_iter": 100_000} | options
    )


LIBLINEAR = {
    "derivative": 1e-4,
    "exact": 1e-6,
    "why": "liblinear stops before rounding",
}
HUBER = {
    "derivative": 1e-4,
    "exact": 1e-5,
    "why": "HuberRegressor's lbfgs stops at its line search's resolution",
}
SAGA = {"derivative": 1e-4, "exact": 1e-7, "why": "saga's own tolerance"}

CASES = [
    Case("poisson", poisson(alpha=0.1), X, COUNTS),
    Case("poisson-weights", poisson(alpha=1.0), X, COUNTS, WEIGHTS),
    Case("poisson-no-penalty", poisson(alpha=0.0), X, COUNTS, WEIGHTS),
    Case("poisson-no-intercept", poisson(alpha=0.1, fit_intercept=False), X, COUNTS, WEIGHTS),
    Case("gamma", GammaRegressor(alpha=0.1, **NEWTON), X, COSTS),
    Case("gamma-weights", GammaRegressor(alpha=1.0, **NEWTON), X, COSTS, WEIGHTS),
    Case("gamma-no-penalty", GammaRegressor(alpha=0.0, **NEWTON), X, COSTS, WEIGHTS),
    Case("tweedie-normal", TweedieRegressor(power=0, alpha=0.1, **NEWTON), X, VALUES, WEIGHTS),
    Case("tweedie-1.5", TweedieRegressor(power=1.5, alpha=0.1, **NEWTON), X, MIXED, WEIGHTS),
    Case("tweedie-1.9", TweedieRegressor(power=1.9, alpha=0.0, **NEWTON), X, MIXED),
    Case("svc-squared", svc(), X, BINARY, **LIBLINEAR),
    Case("svc-squared-weights", svc(C=3.0, intercept_scaling=10.0), X, BINARY, WEIGHTS, **LIBLINEAR),
    Case("svc-squared-primal", svc(dual=False), X, BINARY, WEIGHTS, **LIBLINEAR),
    Case("svc-squared-no-intercept", svc(fit_intercept=False), X, BINARY, WEIGHTS, **LIBLINEAR),
    Case("svc-squared-many", svc(), X, MANY, WEIGHTS, **LIBLINEAR),
    Case("svc-squared-balanced", svc(class_weight="balanced"), X, BINARY, WEIGHTS, **LIBLINEAR),
    Case("svc-balanced-many", svc(class_weight="balanced"), X, MANY, WEIGHTS, **LIBLINEAR),
    Case("svc-dict-many", svc(class_weight={"a": 3.0, "b": 0.5}), X, MANY, **LIBLINEAR),
    Case("svc-hinge", svc(loss="hinge"), X, BINARY, **LIBLINEAR),
    Case("svc-hinge-weights", svc(loss="hinge", C=2.0), X, BINARY, WEIGHTS, **LIBLINEAR),
    Case("svc-hinge-many", svc(loss="hinge"), X, MANY, WEIGHTS, **LIBLINEAR),
    Case("svc-hinge-balanced", svc(loss="hinge", class_weight="balanced"), X, BINARY, **LIBLINEAR),
    Case("svc-l1", svc(penalty="l1", dual=False), X, BINARY, WEIGHTS, **LIBLINEAR),
    Case("svc-wide", svc(C=0.01), WIDE, WIDE_Y, **LIBLINEAR),
    Case("svr", svr(epsilon=0.2), X, VALUES, **LIBLINEAR),
    Case("svr-weights", svr(C=2.0, epsilon=0.5), X, VALUES, WEIGHTS, **LIBLINEAR),
    Case("svr-median", svr(epsilon=0.0), X, VALUES, WEIGHTS, **LIBLINEAR),
    Case("svr-squared", svr(loss="squared_epsilon_insensitive", epsilon=0.2), X, VALUES, **LIBLINEAR),
    Case(
        "svr-squared-weights",
        svr(loss="squared_epsilon_insensitive", epsilon=0.5, dual=False, fit_intercept=False),
        X,
        VALUES,
        WEIGHTS,
        **LIBLINEAR,
    ),
    Case("huber", HuberRegressor(tol=1e-10, max_iter=10_000), X, HEAVY, **HUBER),
    Case(
        "huber-weights",
        HuberRegressor(epsilon=1.1, alpha=1.0, tol=1e-10, max_iter=10_000),
        X,
        HEAVY,
        WEIGHTS,
        **HUBER,
    ),
    Case(
        "huber-no-intercept",
        HuberRegressor(epsilon=2, fit_intercept=False, tol=1e-10, max_iter=10_000),
        X,
        HEAVY,
        WEIGHTS,
        **HUBER,
    ),
    Case("lasso", lasso(alpha=0.3), X, VALUES),
    Case("lasso-weights", lasso(alpha=0.6), X, VALUES, WEIGHTS),
    Case("lasso-no-intercept", lasso(alpha=0.3, fit_intercept=False), X, VALUES, WEIGHTS),
    Case("lasso-wide", lasso(alpha=0.1), WIDE, WIDE[:, 0] + WIDE_Y),
    Case("lasso-two", lasso(alpha=0.1), X, TWO, WEIGHTS),
    Case("elastic-net", lasso(ElasticNet, alpha=0.3, l1_ratio=0.5), X, VALUES, WEIGHTS),
    Case("elastic-net-wide", lasso(ElasticNet, alpha=0.1, l1_ratio=0.3), WIDE, WIDE[:, 0] + WIDE_Y),
    Case("lasso-cv", lasso(LassoCV, alphas=[0.3], cv=2), X, VALUES, WEIGHTS),
    Case("elastic-net-cv", lasso(ElasticNetCV, alphas=[0.3], l1_ratio=0.7, cv=2), X, VALUES),
    Case("logistic-l1", sparse_logistic(), X, BINARY, WEIGHTS, **SAGA),
    Case("logistic-elastic", sparse_logistic(l1_ratio=0.4, C=0.1), X, BINARY, WEIGHTS, **SAGA),
    Case("multinomial-l1", sparse_logistic(C=0.5), X, MANY, WEIGHTS, **SAGA),
    Case("multinomial-elastic", sparse_logistic(l1_ratio=0.5), X, MANY, **SAGA),
    Case(
        "logistic-l1-liblinear",
        sparse_logistic(solver="liblinear", random_state=0),
        X,
        BINARY,
        WEIGHTS,
        **LIBLINEAR,
    ),
]
