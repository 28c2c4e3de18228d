"""Support vector machines."""

import numpy as np
from sklearn.svm import SVC, SVR

from ..common import Case

rng = np.random.default_rng(1)
N, D = 60, 4
X = rng.standard_normal((N, D))
SCORES = X @ rng.standard_normal((D, 3)) + 1.5 * rng.gumbel(size=(N, 3))
BINARY = np.where(SCORES[:, 0] > SCORES[:, 1], "yes", "no")
MANY = np.array(["a", "b", "c"])[SCORES.argmax(axis=1)]
VALUES = np.sin(X[:, 0]) + X[:, 1] * X[:, 2] + 0.3 * rng.standard_normal(N)
# Mislabelled rows: at their bound, where the first order is not zero.
for row in (0, 1, 15, 29, 43, 58):
    BINARY[row] = "no" if SCORES[row, 0] > SCORES[row, 1] else "yes"
    MANY[row] = np.array(["a", "b", "c"])[SCORES[row].argmin()]
    VALUES[row] += 4.0
WEIGHTS = rng.uniform(0.5, 2, N)


def laplacian(A, B):
    """A kernel of our own."""
    return np.exp(-0.3 * np.abs(np.asarray(A)[:, None, :] - np.asarray(B)[None]).sum(axis=2))


def svc(**options):
    """Tolerance at libsvm's resolution, kernel width fixed."""
    return SVC(**{"tol": 1e-12, "gamma": 0.3, "shrinking": False} | options)


def svr(**options):
    """As above."""
    return SVR(**{"tol": 1e-12, "gamma": 0.3, "shrinking": False} | options)


def case(name, estimator, y, weights=None, **options):
    """libsvm's gradients carry rounding of the size of its cache precision (float32)."""
    limits = {"exact": 1e-5, "derivative": 1e-4, "why": "libsvm keeps its kernel in float32"}
    return Case(name, estimator, X, y, weights, **(limits | options))


CASES = [
    case("svc-rbf", svc(), BINARY),
    case("svc-rbf-weights", svc(C=0.7), BINARY, WEIGHTS),
    case("svc-rbf-C20", svc(C=20.0, gamma=0.05), BINARY, WEIGHTS, exact=1e-4, ordered=False),
    case("svc-rbf-dict", svc(C=0.4, class_weight={"yes": 0.7, "no": 1.5}), BINARY, WEIGHTS),
    case("svc-rbf-balanced", svc(class_weight="balanced"), BINARY, WEIGHTS, weights_follow=False),
    case("svc-linear", svc(kernel="linear", C=0.1), BINARY, WEIGHTS, ordered=False),
    case("svc-poly", svc(kernel="poly", degree=2, coef0=1.0), BINARY, WEIGHTS, ordered=False),
    case("svc-callable", svc(kernel=laplacian), BINARY, WEIGHTS, takes_sparse=False),
    case("svc-many", svc(C=0.5), MANY, WEIGHTS),
    case("svc-many-linear", svc(kernel="linear", C=0.5), MANY, WEIGHTS, ordered=False),
    case("svc-many-balanced", svc(class_weight="balanced"), MANY, weights_follow=False),
    case("svr-rbf", svr(), VALUES, WEIGHTS),
    case("svr-rbf-C5", svr(C=5.0, epsilon=0.3, gamma=0.1), VALUES, exact=1e-4),
    case("svr-linear", svr(kernel="linear", C=0.03, epsilon=0.2), VALUES, WEIGHTS, ordered=False),
    case("svr-no-tube", svr(epsilon=0.0), VALUES, WEIGHTS),
]
