"""Stages against finite differences of weighted refits of the whole pipeline."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    PolynomialFeatures,
    PowerTransformer,
    RobustScaler,
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
COUNTS = rng.poisson(np.exp(VALUES / 10))
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
            ws.Columns(
                (ws.Components(2), [0, 1, 2, 3]), (ws.Fixed(FunctionTransformer()), [0, 1, 2, 3])
            ),
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
POWERS = PowerTransformer().fit(X)
nystroem = Nystroem(gamma=0.1, n_components=6, random_state=0)
sampler = RBFSampler(gamma=0.1, n_components=6, random_state=0)
scaled = StandardScaler().fit_transform(X)


class Landmarks(ws.Step):
    """Nystroem features on given rows."""

    def __init__(self, rows):
        self.rows = rows

    def fit(self, X, y, w):
        landmarks = X[self.rows]
        self.landmarks = landmarks
        values, vectors = np.linalg.eigh(rbf_kernel(landmarks, gamma=0.1))
        self.root = vectors / np.sqrt(values) @ vectors.T
        return self

    def transform(self, X):
        return rbf_kernel(X, self.landmarks, gamma=0.1) @ self.root


class Sampled(ws.Step):
    """Random features with directions scaled to the weighted variance of all entries."""

    def __init__(self, step):
        self.step = step

    def fit(self, X, y, w):
        mean = (w @ X).sum() / w.sum() / X.shape[1]
        self.factor = np.sqrt(X.var() / ((w @ (X - mean) ** 2).sum() / w.sum() / X.shape[1]))
        return self

    def transform(self, X):
        step = self.step
        phase = X @ (step.random_weights_ * self.factor) + step.random_offset_
        return np.sqrt(2 / step.n_components) * np.cos(phase)


scale_sampler = RBFSampler(gamma="scale", n_components=6, random_state=0)
CASES |= {
    "power": (PowerTransformer(), ws.Power(POWERS.lambdas_), X),
    "power-poly-scaler": (
        make_pipeline(PowerTransformer(), poly, StandardScaler()),
        ws.Series(ws.Power(POWERS.lambdas_), fixed_poly, ws.Scaler()),
        X,
    ),
    "scaler-power-scaler": (
        make_pipeline(StandardScaler(), PowerTransformer()),
        ws.Series(ws.Scaler(), ws.Power(PowerTransformer().fit(scaled).lambdas_)),
        X,
    ),
    "scaler-nystroem-scaler": (
        make_pipeline(StandardScaler(), nystroem, StandardScaler()),
        ws.Series(
            ws.Scaler(), Landmarks(clone(nystroem).fit(scaled).component_indices_), ws.Scaler()
        ),
        X,
    ),
    "scaler-sampler-scaler": (
        make_pipeline(StandardScaler(), sampler, StandardScaler()),
        ws.Series(ws.Scaler(), ws.Fixed(clone(sampler).fit(X)), ws.Scaler()),
        X,
    ),
    "sampler-scale": (scale_sampler, Sampled(clone(scale_sampler).fit(X)), X),
    "scaler-selector-pca": (
        make_pipeline(StandardScaler(), VarianceThreshold(), PCA(2)),
        ws.Series(ws.Scaler(), ws.Components(2)),
        X,
    ),
}
FINALS = {
    "ridge": (Ridge(3.0), VALUES),
    "logistic": (logistic(), BINARY),
    "softmax": (logistic(C=0.5), MANY),
    "poisson": (PoissonRegressor(alpha=0.1, tol=1e-12, solver="newton-cholesky"), COUNTS),
}


def lookup(step):
    """An oracle of order statistics, looked up."""
    kinds = {
        MinMaxScaler: (("data_min_", "data_max_"), lambda X, low, top: (X - low) / (top - low)),
        MaxAbsScaler: (("max_abs_",), lambda X, top: X / top),
        RobustScaler: (("center_", "scale_"), lambda X, centre, scale: (X - centre) / scale),
        SimpleImputer: (("statistics_",), lambda X, fill: np.where(np.isnan(X), fill, X)),
    }
    return ws.Lookup(step, *kinds[type(step)])


median, constant = SimpleImputer(strategy="median"), SimpleImputer(strategy="constant")
CASES |= {
    "minmax": (MinMaxScaler(), lookup(MinMaxScaler()), X),
    "maxabs": (MaxAbsScaler(), lookup(MaxAbsScaler()), X),
    "robust": (RobustScaler(), lookup(RobustScaler()), X),
    "median": (median, lookup(median), HOLES),
    "mode": (
        SimpleImputer(strategy="most_frequent"),
        lookup(SimpleImputer(strategy="most_frequent")),
        np.round(HOLES),
    ),
    "constant-scaler": (
        make_pipeline(constant, StandardScaler()),
        ws.Series(ws.Fixed(constant.fit(HOLES)), ws.Scaler()),
        HOLES,
    ),
    "median-robust-scaler": (
        make_pipeline(median, RobustScaler(), StandardScaler()),
        ws.Series(lookup(median), lookup(RobustScaler()), ws.Scaler()),
        HOLES,
    ),
    "scaler-minmax-pca": (
        make_pipeline(StandardScaler(), MinMaxScaler(), PCA(2)),
        ws.Series(ws.Scaler(), lookup(MinMaxScaler()), ws.Components(2)),
        X,
    ),
    "scaler-pca-robust": (
        make_pipeline(StandardScaler(), PCA(3), RobustScaler()),
        ws.Series(ws.Scaler(), ws.Components(3), lookup(RobustScaler())),
        X,
    ),
    "scaler-svd-poly": (
        make_pipeline(StandardScaler(), TruncatedSVD(2, algorithm="arpack"), poly),
        ws.Series(
            ws.Scaler(), ws.Components(2, centred=False), ws.Fixed(clone(poly).fit(X[:, :2]))
        ),
        X,
    ),
}

# encodings of a class target are of another kind, and tested on their own
PAIRS = [
    (name, final) for name in CASES for final in FINALS if "target" not in name or final == "ridge"
]


@pytest.mark.parametrize(("name", "final"), PAIRS)
def test_derivative(name, final):
    step, oracle, rows = CASES[name]
    model, y = FINALS[final]
    where = [1, 7, 23, 40]
    explainer = explained(make_pipeline(step, model), rows, y)
    ours = explainer.transform(rows[QUERIES], y[QUERIES])[:, where]
    assert_close(ours, finite_differences(oracle, model, rows, y, where), 1e-5)
