"""Each stage alone: pulls against differences of refits in the rows, removals against refits."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)

from skinfluence.stages import stage_for

from .common import assert_close

rng = np.random.default_rng(3)
N = 31
X = rng.standard_normal((N, 3)) @ rng.standard_normal((3, 3)) + [0, 2, -1]
HOLES = X.copy()
HOLES[[1, 5, 9], [0, 2, 2]] = np.nan
POSITIVE = np.exp(X / 3)
CODES = np.column_stack([np.arange(N) % 4, np.minimum(np.arange(N) // 5, 5)]).astype(float)
Y = rng.standard_normal(N)

SMOOTH = {
    "standard": (StandardScaler(), X),
    "standard-holes": (StandardScaler(), HOLES),
    "standard-mean": (StandardScaler(with_std=False), X),
    "standard-std": (StandardScaler(with_mean=False), X),
    "minmax": (MinMaxScaler(feature_range=(-1, 2)), X),
    "minmax-clip": (MinMaxScaler(clip=True), X),
    "maxabs": (MaxAbsScaler(), X),
    "robust": (RobustScaler(), X),
    "robust-unit": (RobustScaler(unit_variance=True, quantile_range=(10, 85)), HOLES),
    "robust-centre": (RobustScaler(with_scaling=False), X),
    "l1": (Normalizer("l1"), X),
    "l2": (Normalizer("l2"), X),
    "max": (Normalizer("max"), X),
    "binarizer": (Binarizer(), X),
    "mean": (SimpleImputer(), HOLES),
    "median": (SimpleImputer(strategy="median"), HOLES),
    "constant": (SimpleImputer(strategy="constant", fill_value=1.5), HOLES),
    "indicator": (SimpleImputer(add_indicator=True), HOLES),
    "missing": (MissingIndicator(features="all"), HOLES),
    "polynomial": (PolynomialFeatures(3), X),
    "spline-uniform": (SplineTransformer(n_knots=4, extrapolation="linear"), X),
    "spline-quantile": (SplineTransformer(n_knots=4, knots="quantile"), X),
    "function": (FunctionTransformer(np.sin), X),
    "bins": (KBinsDiscretizer(3, encode="ordinal", quantile_method="linear"), X),
    "pca": (PCA(2), X),
    "pca-whiten": (PCA(2, whiten=True), X),
    "svd": (TruncatedSVD(2, algorithm="arpack"), X),
    "yeo-johnson": (PowerTransformer(), X),
    "box-cox": (PowerTransformer("box-cox", standardize=False), POSITIVE),
    "power-holes": (PowerTransformer(standardize=False), HOLES),
    "sampler": (RBFSampler(gamma="scale", n_components=5, random_state=0), X),
    "nystroem": (Nystroem(gamma=0.2, n_components=5, random_state=0), X),
    "pipeline": (make_pipeline(SimpleImputer(), PowerTransformer(), PCA(2)), HOLES),
    "columns": (
        ColumnTransformer(
            [("a", StandardScaler(), [2, 0]), ("b", MinMaxScaler(), [1])],
            remainder="passthrough",
            transformer_weights={"a": 3.0},
        ),
        X,
    ),
    "union": (FeatureUnion([("a", PCA(1)), ("b", RobustScaler())]), X),
}


def cotangents(stage):
    """Random, and zero where a value is still missing: a later step fills it in."""
    C = np.random.default_rng(1).standard_normal(stage.outputs.shape)
    return np.where(np.isnan(stage.outputs), 0.0, C)


@pytest.mark.parametrize("name", SMOOTH)
def test_pulls_to_the_training_rows(name):
    """``d/dX Σ C ∘ fit(X).transform(X)`` is what comes back through outputs and parameters."""
    step, rows = SMOOTH[name]
    stage = stage_for(clone(step).fit(rows, Y), rows, Y)
    C = cotangents(stage)
    pulled = stage.pull_inputs(rows, C)
    if stage.n_params:
        pulled = pulled + stage.pull_fit(stage.pull_sum(C))
    # the fitted exponent of a power transform is accurate to 1e-8 only: a longer step, then
    power = "power" in str(step).lower()
    h, picks = 1e-3 if power else 1e-6, [(0, 0), (7, 1), (12, 2), (20, 0), (30, 2), (4, 1)]
    desired = []
    for i, j in picks:
        sides = []
        for sign in (1, -1):
            moved = rows.copy()
            moved[i, j] += sign * h
            sides.append(np.nansum(C * clone(step).fit_transform(moved, Y)))
        desired.append((sides[0] - sides[1]) / (2 * h))
    error = np.abs(np.array([pulled[pick] for pick in picks]) - desired).max()
    assert error <= (2e-4 if power else 2e-6) * max(1.0, np.abs(desired).max())


@pytest.mark.parametrize("name", SMOOTH)
def test_pulls_to_parameters_agree(name):
    """Row by row, summed, and column by column."""
    step, rows = SMOOTH[name]
    stage = stage_for(clone(step).fit(rows, Y), rows, Y)
    C = cotangents(stage)
    total = stage.pull_sum(C)
    assert total.shape == (stage.n_params,)
    np.testing.assert_allclose(stage.pull_params(rows, C).sum(axis=0), total, rtol=1e-6, atol=1e-8)
    r = C[:, 0]
    for column, values in enumerate(stage.pull_columns(r)):
        single = np.zeros_like(C)
        single[:, column] = r
        np.testing.assert_allclose(values, stage.pull_sum(single), rtol=1e-6, atol=1e-8)


CLOSED = {
    "standard": (StandardScaler(), HOLES, lambda s: np.r_[s.mean_, s.scale_]),
    "minmax": (MinMaxScaler(), X, lambda s: np.r_[s.data_min_, s.data_range_]),
    "maxabs": (MaxAbsScaler(), X, lambda s: np.r_[np.zeros(3), s.scale_]),
    "robust": (RobustScaler(), HOLES, lambda s: np.r_[s.center_, s.scale_]),
    "mean": (SimpleImputer(), HOLES, lambda s: s.statistics_),
    "median": (SimpleImputer(strategy="median"), HOLES, lambda s: s.statistics_),
    "mode": (SimpleImputer(strategy="most_frequent"), np.round(HOLES), lambda s: s.statistics_),
    "spline": (
        SplineTransformer(n_knots=4, knots="quantile", degree=1),
        X,
        lambda s: np.column_stack([b.t[1:-1] for b in s.bsplines_]).ravel(),
    ),
    "target": (
        TargetEncoder(cv=4, target_type="continuous", shuffle=False),
        CODES,
        lambda s: np.concatenate(s.encodings_),
    ),
    "target-smooth": (
        TargetEncoder(cv=4, target_type="continuous", smooth=2.0, shuffle=False),
        CODES,
        lambda s: np.concatenate(s.encodings_),
    ),
}


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.filterwarnings("ignore:.*deprecated in version 1.9:FutureWarning")
def test_removals_are_those_of_a_refit(name):
    """Closed forms and order statistics are exact."""
    step, rows, read = CLOSED[name]
    fitted = clone(step).fit(rows, Y)
    stage = stage_for(fitted, rows, Y)
    keep = np.arange(N)
    width = len(read(fitted))
    desired = [read(clone(step).fit(rows[keep != i], Y[keep != i])) - read(fitted) for i in keep]
    assert_close(stage.removals(keep)[:, -width:], np.array(desired), 1e-9)


def test_a_category_seen_once_moves_the_codes_behind_it():
    codes = CODES.copy()
    codes[4, 0] = 1.5
    step = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    stage = stage_for(step.fit(codes), codes)
    rest = np.delete(codes, 4, axis=0)
    change = clone(step).fit(rest).transform(codes) - step.transform(codes)
    pulled = [stage.pull_params(codes, np.eye(2)[[j] * N]) @ stage.removals([4])[0] for j in (0, 1)]
    np.testing.assert_allclose(np.column_stack(pulled), change)
    assert not stage.removals([0, 1]).any()
