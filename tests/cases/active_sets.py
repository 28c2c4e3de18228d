"""Generalised linear models, linear support vector machines, robust and sparse regressions."""

import numpy as np
from sklearn.linear_model import (
    ElasticNet,
    ElasticNetCV,
    GammaRegressor,
    Lasso,
    LassoCV,
    LogisticRegression,
    MultiTaskElasticNet,
    MultiTaskLasso,
    MultiTaskLassoCV,
    PoissonRegressor,
    TweedieRegressor,
)
from sklearn.svm import LinearSVC, LinearSVR

from ..common import Case
from ..reference_fits import TightHuber
from .linear import TWO, VALUES, WEIGHTS, WIDE, WIDE_Y, X

rng = np.random.default_rng(1)
RATE = np.exp(X @ np.array([0.3, -0.2, 0.1, 0.4]) + 0.5)
COUNTS = rng.poisson(RATE).astype(float)
COSTS = RATE * rng.gamma(2.0, 0.5, len(X))
HEAVY = VALUES + 0.3 * rng.standard_t(1.5, len(X))
MIXED = np.where(COUNTS > 1, COSTS, 0.0)
# Ten columns: with fewer, as many rows as columns lie at the margin of a linear SVM, and hold it.
TEN = rng.standard_normal((60, 10))
SCORES = TEN @ rng.standard_normal((10, 3)) + 1.5 * rng.gumbel(size=(60, 3))
FIRST = np.abs(SCORES[:, 0] - SCORES[:, 1]).argsort()  # row 0 lies inside the margin
TEN, SCORES = TEN[FIRST], SCORES[FIRST]
SIDE = np.where(SCORES[:, 0] > SCORES[:, 1], "yes", "no")
THREE = np.array(["a", "b", "c"])[SCORES.argmax(axis=1)]
SCORE = SCORES[:, 0]
SMALL = WEIGHTS / 2  # saga's step does not know of weights above 1: it may diverge
LIMIT = {"tol": 1e-11, "max_iter": 100_000, "C": 0.1, "dual": True, "random_state": 0}
NEWTON = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}


def poisson(**options):
    return PoissonRegressor(**NEWTON | options)


def svc(**options):
    """liblinear pushed to its limit: below 1e-12 its shrinking stalls."""
    return LinearSVC(**LIMIT | options)


def svr(**options):
    return LinearSVR(**LIMIT | options)


def lasso(kind=Lasso, **options):
    return kind(**{"tol": 1e-14, "max_iter": 1_000_000} | options)


def sparse_logistic(**options):
    return LogisticRegression(
        **{"solver": "saga", "l1_ratio": 1.0, "C": 0.3, "tol": 1e-13, "max_iter": 100_000} | options
    )


KINKED = {
    "derivative": 1e-4,
    "exact": 1e-6,
    "ordered": False,
    "why": "liblinear's dual steps end at rounding of 1e-11 of the duals",
}
LIBLINEAR = {"derivative": 1e-4, "exact": 1e-6, "why": KINKED["why"]}
TRON = {
    "derivative": 1e-4,
    "exact": 1e-5,
    "why": "liblinear's inner conjugate gradients stop at 0.1 relative",
}
SAGA = {"derivative": 1e-4, "exact": 1e-7, "why": "saga's own tolerance"}
MULTI = {"takes_weights": False, "takes_sparse": False, "exact": 1e-7, "why": "coordinate descent"}
SQUARED_TUBE = "squared_epsilon_insensitive"

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
    Case("svc-squared", svc(), TEN, SIDE, **LIBLINEAR),
    Case("svc-squared-scaling", svc(intercept_scaling=3.0), TEN, SIDE, WEIGHTS, **LIBLINEAR),
    Case("svc-squared-primal", svc(dual=False), TEN, SIDE, WEIGHTS, **TRON),
    Case("svc-squared-no-intercept", svc(fit_intercept=False), TEN, SIDE, WEIGHTS, **LIBLINEAR),
    Case("svc-squared-many", svc(), TEN, THREE, WEIGHTS, **LIBLINEAR),
    Case("svc-squared-balanced", svc(class_weight="balanced"), TEN, SIDE, WEIGHTS, **LIBLINEAR),
    Case("svc-balanced-many", svc(class_weight="balanced"), TEN, THREE, WEIGHTS, **LIBLINEAR),
    Case("svc-dict-many", svc(class_weight={"a": 3.0, "b": 0.5}), TEN, THREE, **LIBLINEAR),
    Case("svc-wide", svc(C=0.01), WIDE, WIDE_Y, **LIBLINEAR),
    Case("svc-hinge", svc(loss="hinge"), TEN, SIDE, **KINKED),
    Case("svc-hinge-weights", svc(loss="hinge"), TEN, SIDE, WEIGHTS, **KINKED),
    Case("svc-hinge-many", svc(loss="hinge", C=0.05), TEN, THREE, WEIGHTS, **KINKED),
    Case("svc-hinge-balanced", svc(loss="hinge", class_weight="balanced"), TEN, SIDE, **KINKED),
    Case("svc-l1", svc(penalty="l1", dual=False, C=0.5), TEN, SIDE, WEIGHTS, **TRON),
    Case("svr", svr(epsilon=0.3), TEN, SCORE, **KINKED),
    Case("svr-weights", svr(epsilon=0.1, intercept_scaling=3.0), TEN, SCORE, WEIGHTS, **KINKED),
    Case("svr-median", svr(epsilon=0.0, C=0.05), TEN, SCORE, WEIGHTS, **KINKED),
    Case("svr-squared", svr(loss=SQUARED_TUBE, epsilon=0.2), TEN, SCORE, **LIBLINEAR),
    Case(
        "svr-squared-weights",
        svr(loss=SQUARED_TUBE, epsilon=0.1, fit_intercept=False),
        TEN,
        SCORE,
        WEIGHTS,
        **LIBLINEAR,
    ),
    Case("huber", TightHuber(), X, HEAVY),
    Case("huber-weights", TightHuber(epsilon=1.1, alpha=1.0), X, HEAVY, WEIGHTS),
    Case("huber-no-intercept", TightHuber(epsilon=2, fit_intercept=False), X, HEAVY, WEIGHTS),
    Case("lasso", lasso(alpha=0.3), X, VALUES),
    Case("lasso-weights", lasso(alpha=0.6), X, VALUES, WEIGHTS),
    Case("lasso-no-intercept", lasso(alpha=0.3, fit_intercept=False), X, VALUES, WEIGHTS),
    Case("lasso-wide", lasso(alpha=0.1), WIDE, WIDE[:, 0] + WIDE_Y),
    Case("lasso-two", lasso(alpha=0.1), X, TWO, WEIGHTS),
    Case("elastic-net", lasso(ElasticNet, alpha=0.3, l1_ratio=0.5), X, VALUES, WEIGHTS),
    Case("elastic-net-wide", lasso(ElasticNet, alpha=0.1, l1_ratio=0.3), WIDE, WIDE[:, 0] + WIDE_Y),
    Case("lasso-cv", lasso(LassoCV, alphas=[0.3], cv=2), X, VALUES, WEIGHTS),
    Case("elastic-net-cv", lasso(ElasticNetCV, alphas=[0.3], l1_ratio=0.7, cv=2), X, VALUES),
    Case("multi-task-lasso", lasso(MultiTaskLasso, alpha=0.3), TEN, SCORES, **MULTI),
    Case("multi-task-free", lasso(MultiTaskLasso, alpha=0.6, fit_intercept=False), X, TWO, **MULTI),
    Case("multi-task-elastic", lasso(MultiTaskElasticNet, alpha=0.3), TEN, SCORES, **MULTI),
    Case("multi-task-cv", lasso(MultiTaskLassoCV, alphas=[0.2], cv=2), X, TWO, **MULTI),
    Case("logistic-l1", sparse_logistic(), TEN, SIDE, SMALL, **SAGA),
    Case("logistic-elastic", sparse_logistic(l1_ratio=0.4, C=0.2), TEN, SIDE, SMALL, **SAGA),
    Case("multinomial-l1", sparse_logistic(C=1.0), TEN, THREE, SMALL, **SAGA),
    Case("multinomial-elastic", sparse_logistic(l1_ratio=0.5), TEN, THREE, **SAGA),
    Case(
        "logistic-l1-liblinear",
        sparse_logistic(solver="liblinear", random_state=0),
        TEN,
        SIDE,
        WEIGHTS,
        **TRON,
    ),
]
