"""Stages against finite differences of weighted refits of the whole pipeline, and against refits."""

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    Normalizer,
    OneHotEncoder,
    PolynomialFeatures,
    StandardScaler,
    TargetEncoder,
)

from skinfluence import InfluenceExplainer

from . import weighted_steps as ws
from .common import assert_close

rng = np.random.default_rng(0)
N = 60
X = rng.standard_normal((N, 4)) @ rng.standard_normal((4, 4)) * [1, 5, 0.3, 2] + [0, 3, 1, -1]
VALUES = X @ [1.0, 0.2, 2.0, -0.5] + np.sin(X[:, 0]) + rng.standard_normal(N)
BINARY = (VALUES > np.median(VALUES)).astype(int)
MANY = np.digitize(VALUES, np.quantile(VALUES, [0.3, 0.7]))
HOLES = np.where(rng.random(X.shape) < 0.1, np.nan, X)
CODES = np.column_stack([np.arange(N) % 5, rng.permutation(N) % 3]).astype(float)
MIXED = np.column_stack([HOLES, CODES])
QUERIES = np.linspace(0, N - 1, 7).astype(int)


def logistic(**options):
    return LogisticRegression(
        **{"solver": "newton-cholesky", "tol": 1e-13, "max_iter": 1000} | options
    )


def outputs(model, rows):
    name = "decision_function" if hasattr(model, "decision_function") else "predict"
    return getattr(model, name)(rows).reshape(len(rows), -1)


def picked(values, y):
    """What target "decision" explains."""
    return values[:, 0] if values.shape[1] == 1 else values[np.arange(len(values)), y]


def finite_differences(oracle, final, X, y, rows, h=1e-4):
    """Minus the derivative of the outputs at the queries in the weight of each row."""
    out = np.empty((len(QUERIES), len(rows)))
    for column, i in enumerate(rows):
        sides = []
        for sign in (1, -1):
            w = np.ones(len(y))
            w[i] += sign * h
            oracle.fit(X, y, w)
            fitted = final.fit(oracle.training(X), y, sample_weight=w)
            sides.append(picked(outputs(fitted, oracle.transform(X[QUERIES])), y[QUERIES]))
        out[:, column] = -(sides[0] - sides[1]) / (2 * h)
    return out


def explained(pipeline, X, y, method="influence", target="decision", **options):
    explainer = InfluenceExplainer(
        pipeline, method=method, target=target, preprocessing="refit", **options
    )
    return explainer.fit(X, y)


def mixed(numbers, categories):
    return ColumnTransformer([("n", numbers, [0, 1, 2, 3]), ("c", categories, [4, 5])])


imputed = SimpleImputer().fit_transform(HOLES)
hot = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
poly = PolynomialFeatures(2, include_bias=False)
fixed_poly = ws.Fixed(poly.fit(X))
target_codes = TargetEncoder(cv=ws.FOLDS, target_type="continuous", smooth=3.0)
auto_codes = TargetEncoder(cv=ws.FOLDS, target_type="continuous")

CASES = {
    "scaler": (StandardScaler(), ws.Scaler(), X),
    "scaler-holes": (
        make_pipeline(StandardScaler(), SimpleImputer()),
        ws.Series(ws.Scaler(), ws.MeanImputer()),
        HOLES,
    ),
    "scaler-no-mean": (StandardScaler(with_mean=False), ws.Scaler(mean=False), X),
    "scaler-no-std": (StandardScaler(with_std=False), ws.Scaler(std=False), X),
    "imputer": (SimpleImputer(), ws.MeanImputer(), HOLES),
    "pca": (PCA(2), ws.Components(2), X),
    "pca-whiten": (PCA(2, whiten=True), ws.Components(2, whiten=True), X),
    "svd": (TruncatedSVD(2, algorithm="arpack"), ws.Components(2, centred=False), X),
    "target": (target_codes, ws.TargetMeans([5, 3], 3.0, ws.FOLDS), CODES),
    "target-auto": (auto_codes, ws.TargetMeans([5, 3], "auto", ws.FOLDS), CODES),
    "scaler-poly-scaler": (
        make_pipeline(StandardScaler(), poly, StandardScaler()),
        ws.Series(ws.Scaler(), fixed_poly, ws.Scaler()),
        X,
    ),
    "imputer-scaler-pca": (
        make_pipeline(SimpleImputer(), StandardScaler(), PCA(2)),
        ws.Series(ws.MeanImputer(), ws.Scaler(), ws.Components(2)),
        HOLES,
    ),
    "scaler-pca-scaler": (
        make_pipeline(StandardScaler(), PCA(3), StandardScaler()),
        ws.Series(ws.Scaler(), ws.Components(3), ws.Scaler()),
        X,
    ),
    "scaler-normalizer-pca": (
        make_pipeline(StandardScaler(), Normalizer(), PCA(2)),
        ws.Series(ws.Scaler(), ws.Fixed(Normalizer().fit(X)), ws.Components(2)),
        X,
    ),
    "scaler-function-scaler": (
        make_pipeline(StandardScaler(), FunctionTransformer(np.tanh), StandardScaler()),
        ws.Series(ws.Scaler(), ws.Fixed(FunctionTransformer(np.tanh).fit(X)), ws.Scaler()),
        X,
    ),
    "union": (
        make_pipeline(
            StandardScaler(),
            FeatureUnion([("a", PCA(2)), ("b", "passthrough")], transformer_weights={"a": 2.0}),
            StandardScaler(),
        ),
        ws.Series(
            ws.Scaler(),
            ws.Columns((ws.Components(2), [0, 1, 2, 3]), (ws.Fixed(FunctionTransformer()), [0, 1, 2, 3])),
            ws.Scaler(),
        ),
        X,
    ),
    "columns": (
        mixed(make_pipeline(SimpleImputer(), StandardScaler()), hot),
        ws.Columns(
            (ws.Series(ws.MeanImputer(), ws.Scaler()), [0, 1, 2, 3]),
            (ws.Fixed(OneHotEncoder(sparse_output=False).fit(CODES)), [4, 5]),
        ),
        MIXED,
    ),
    "columns-scaled": (
        make_pipeline(mixed(SimpleImputer(), hot), StandardScaler()),
        ws.Series(
            ws.Columns(
                (ws.MeanImputer(), [0, 1, 2, 3]),
                (ws.Fixed(OneHotEncoder(sparse_output=False).fit(CODES)), [4, 5]),
            ),
            ws.Scaler(),
        ),
        MIXED,
    ),
    "target-scaler": (
        make_pipeline(target_codes, StandardScaler()),
        ws.Series(ws.TargetMeans([5, 3], 3.0, ws.FOLDS), ws.Scaler()),
        CODES,
    ),
}
FINALS = {"ridge": (Ridge(3.0), VALUES), "logistic": (logistic(), BINARY), "softmax": (logistic(C=0.5), MANY)}


@pytest.mark.parametrize("final", FINALS)
@pytest.mark.parametrize("name", CASES)
def test_derivative(name, final):
    step, oracle, rows = CASES[name]
    model, y = FINALS[final]
    if "target" in name and final != "ridge":
        return
    where = [1, 7, 23, 40]
    explainer = explained(make_pipeline(step, model), rows, y)
    ours = explainer.transform(rows[QUERIES], y[QUERIES])[:, where]
    assert_close(ours, finite_differences(oracle, model, rows, y, where), 1e-5)
