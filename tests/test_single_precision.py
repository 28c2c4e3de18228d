"""Leave-one-out of float32 rows against the same rows in float64."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge

from skinfluence import InfluenceExplainer
from skinfluence.solvers.factor import PrimalFactor


def table(rng, n=400, d=12):
    X = rng.standard_normal((n, d)).astype(np.float32)
    score = X @ rng.standard_normal(d)
    return X, score


def own_losses(model, X, y):
    frozen = FrozenEstimator(model.fit(X.astype(np.float64), y))
    both = [
        InfluenceExplainer(frozen, method="newton").fit(rows, y)
        for rows in (X, X.astype(np.float64))
    ]
    return [explainer.self_influence() for explainer in both], both[0]


@pytest.mark.parametrize("model", [LogisticRegression(tol=1e-8), Ridge(fit_intercept=False)])
def test_products_of_float32_rows_lose_their_rounding_only(model):
    rng = np.random.default_rng(0)
    X, score = table(rng)
    y = (score + rng.logistic(size=len(X)) > 0).astype(int)
    (single, double), explainer = own_losses(model, X, y)
    assert explainer.solver_.factors_[0].single_whitening.dtype == np.float32
    # 12 roundings of 6e-8 each, of rows whose whitening hardly magnifies them
    assert_allclose(single, double, rtol=1e-5, atol=1e-5 * np.abs(double).max() / len(X))


def test_columns_nearly_dependent_are_multiplied_in_float64():
    rng = np.random.default_rng(1)
    X, score = table(rng)
    X[:, 1] = X[:, 0] + 1e-3 * X[:, 1]
    y = score + rng.standard_normal(len(X))
    (single, double), explainer = own_losses(Ridge(alpha=1e-8), X, y)
    assert explainer.solver_.factors_[0].single_whitening.dtype == np.float64
    assert_allclose(single, double, rtol=1e-8)


def test_scales_beyond_float32_are_multiplied_in_float64():
    factor = PrimalFactor(np.diag([1e-80, 1.0]))
    assert_allclose(factor.single_whitening, np.diag([1e40, 1.0]), rtol=1e-15)


def test_a_row_of_high_leverage_is_measured_in_float64():
    rng = np.random.default_rng(3)
    X, score = table(rng)
    X[7, 3] = 1e4
    y = score + rng.standard_normal(len(X))
    (single, double), explainer = own_losses(Ridge(), X, y)
    assert explainer.solver_.factors_[0].single_whitening.dtype == np.float32
    assert explainer.leverage_[7] > 0.9999
    assert_allclose(single[7], double[7], rtol=1e-8)
    assert_allclose(single, double, rtol=1e-5, atol=1e-8)
