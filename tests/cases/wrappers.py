"""Meta-estimators over supported models."""

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import Ridge
from sklearn.multiclass import OneVsOneClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.svm import SVC, SVR

from ..common import Case
from .kernel import MANY as KERNEL_MANY
from .kernel import VALUES as KERNEL_VALUES
from .kernel import X as KERNEL_X
from .linear import BINARY, MANY, TWO, VALUES, WEIGHTS, X, logistic

CASES = [
    Case("one-vs-one", OneVsOneClassifier(logistic()), X, MANY, takes_weights=False),
    Case("one-vs-one-two", OneVsOneClassifier(logistic(C=3.0)), X, BINARY, takes_weights=False),
    Case(
        "one-vs-one-balanced",
        OneVsOneClassifier(logistic(class_weight="balanced")),
        X,
        MANY,
        takes_weights=False,
    ),
    Case(
        "one-vs-one-svc",
        OneVsOneClassifier(SVC(gamma=0.3, C=0.5, tol=1e-12)),
        KERNEL_X,
        KERNEL_MANY,
        takes_weights=False,
        exact=1e-5,
        why="libsvm keeps its kernel in float32",
    ),
    Case("multi-output-ridge", MultiOutputRegressor(Ridge(alpha=2.0)), X, TWO, WEIGHTS),
    Case("multi-output-no-weights", MultiOutputRegressor(Ridge(alpha=0.1)), X, TWO),
    Case(
        "transformed-function",
        TransformedTargetRegressor(Ridge(), func=np.arcsinh, inverse_func=np.sinh),
        X,
        VALUES,
        WEIGHTS,
    ),
    Case(
        "transformed-svr",
        TransformedTargetRegressor(
            SVR(gamma=0.3, tol=1e-12), func=np.arcsinh, inverse_func=np.sinh
        ),
        KERNEL_X,
        KERNEL_VALUES,
        exact=1e-5,
        derivative=1e-4,
        why="libsvm keeps its kernel in float32",
    ),
    Case(
        "transformed-two",
        TransformedTargetRegressor(Ridge(), func=np.arcsinh, inverse_func=np.sinh),
        X,
        TWO,
    ),
]
