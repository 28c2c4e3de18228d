"""Logistic regression and least squares."""

import numpy as np
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
)
from sklearn.multiclass import OneVsRestClassifier

from ..common import Case

rng = np.random.default_rng(0)
N, D = 60, 4
X = rng.standard_normal((N, D))
SCORES = X @ rng.standard_normal((D, 4)) + rng.gumbel(size=(N, 4))
BINARY = np.where(SCORES[:, 0] > SCORES[:, 1], "yes", "no")
MANY = np.array(["a", "b", "c", "d"])[SCORES.argmax(axis=1)]
VALUES = X @ np.arange(1.0, D + 1) + rng.standard_normal(N)
TWO = np.column_stack([VALUES, np.sin(VALUES)])
WEIGHTS = rng.uniform(0.5, 2, N)
WIDE = rng.standard_normal((25, 40))
WIDE_Y = (WIDE[:, 0] + rng.standard_normal(25) > 0).astype(int)
WIDE_MANY = np.digitize(WIDE[:, 0] + 0.5 * rng.standard_normal(25), [-0.5, 0.5])


def logistic(**options):
    """Logistic regression at rounding accuracy."""
    return LogisticRegression(
        **{"solver": "newton-cholesky", "tol": 1e-13, "max_iter": 1000} | options
    )


def first_order_solver(name, **options):
    """A stochastic or quasi-Newton solver pushed to its limit."""
    return logistic(solver=name, tol=1e-12, max_iter=100_000, random_state=0, **options)


CASES = [
    Case("logistic-binary", logistic(), X, BINARY),
    Case("logistic-binary-weights", logistic(C=0.1), X, BINARY, WEIGHTS),
    Case("logistic-C100", logistic(C=100), X, BINARY, WEIGHTS),
    Case("logistic-no-penalty", logistic(C=np.inf), X, BINARY, WEIGHTS),
    Case("logistic-no-intercept", logistic(fit_intercept=False), X, BINARY, WEIGHTS),
    Case("logistic-dict", logistic(class_weight={"yes": 3.0, "no": 0.5}), X, BINARY, WEIGHTS),
    Case("logistic-balanced", logistic(class_weight="balanced"), X, BINARY, WEIGHTS),
    Case("logistic-balanced-many", logistic(class_weight="balanced"), X, MANY, WEIGHTS),
    Case("multinomial", logistic(), X, MANY),
    Case("multinomial-weights", logistic(C=0.1), X, MANY, WEIGHTS),
    Case("multinomial-no-penalty", logistic(C=np.inf), X, MANY, WEIGHTS),
    Case("multinomial-no-intercept", logistic(fit_intercept=False), X, MANY, WEIGHTS),
    Case(
        "logistic-lbfgs",
        first_order_solver("lbfgs"),
        X,
        BINARY,
        WEIGHTS,
        exact=1e-6,
        why="lbfgs stops at its line search's resolution",
        derivative=1e-4,
    ),
    Case(
        "logistic-newton-cg",
        first_order_solver("newton-cg"),
        X,
        MANY,
        WEIGHTS,
        exact=1e-6,
        why="newton-cg stops early",
        derivative=1e-4,
    ),
    Case(
        "logistic-sag",
        first_order_solver("sag"),
        X,
        BINARY,
        WEIGHTS,
        exact=1e-7,
        why="sag's own tolerance",
    ),
    Case(
        "logistic-saga",
        first_order_solver("saga"),
        X,
        MANY,
        WEIGHTS,
        exact=1e-7,
        why="saga's own tolerance",
    ),
    Case(
        "logistic-liblinear",
        first_order_solver("liblinear", intercept_scaling=3.0),
        X,
        BINARY,
        WEIGHTS,
        exact=1e-5,
        derivative=1e-4,
        why="liblinear's inner conjugate gradients stop at 0.1 relative",
    ),
    Case(
        "logistic-liblinear-balanced",
        first_order_solver("liblinear", class_weight="balanced"),
        X,
        BINARY,
        exact=1e-5,
        derivative=1e-4,
        why="as above",
    ),
    Case("logistic-wide", logistic(), WIDE, WIDE_Y),
    Case("multinomial-wide", logistic(C=0.3), WIDE, WIDE_MANY),
    Case("logistic-wide-balanced", logistic(class_weight="balanced"), WIDE, WIDE_Y),
    Case("linear", LinearRegression(), X, VALUES, WEIGHTS),
    Case("linear-two", LinearRegression(fit_intercept=False), X, TWO, WEIGHTS),
    Case("ridge", Ridge(alpha=2.0, tol=1e-13), X, VALUES, WEIGHTS),
    Case("ridge-two", Ridge(alpha=2.0), X, TWO, WEIGHTS),
    Case("ridge-alphas", Ridge(alpha=[0.5, 5.0]), X, TWO, WEIGHTS),
    Case("ridge-wide", Ridge(alpha=2.0), WIDE, WIDE[:, 0] + WIDE_Y),
    Case(
        "ridge-lsqr", Ridge(solver="lsqr", tol=1e-13), X, VALUES, exact=1e-7, why="lsqr's tolerance"
    ),
    Case("ridge-cv", RidgeCV(alphas=[1.0]), X, VALUES, WEIGHTS),
    Case("ridge-classifier", RidgeClassifier(), X, BINARY, WEIGHTS),
    Case("ridge-classifier-many", RidgeClassifier(alpha=0.1), X, MANY, WEIGHTS),
    Case(
        "ridge-classifier-balanced",
        RidgeClassifier(class_weight="balanced"),
        X,
        MANY,
        WEIGHTS,
        weights_follow=False,
    ),
    Case("ridge-classifier-cv", RidgeClassifierCV(alphas=[1.0]), X, MANY),
    Case(
        "logistic-cv",
        LogisticRegressionCV(
            Cs=[0.5],
            cv=2,
            solver="newton-cholesky",
            tol=1e-13,
            l1_ratios=(0.0,),
            use_legacy_attributes=False,
            scoring="neg_log_loss",
        ),
        X,
        BINARY,
    ),
    Case("one-vs-rest", OneVsRestClassifier(logistic()), X, MANY, takes_weights=False),
    Case(
        "one-vs-rest-balanced",
        OneVsRestClassifier(logistic(class_weight="balanced")),
        X,
        MANY,
        takes_weights=False,
    ),
    Case("one-vs-rest-two", OneVsRestClassifier(logistic(C=3.0)), X, BINARY, takes_weights=False),
]
