"""The infinitesimal jackknife of whole pipelines, against weighted refits of every step."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.datasets import load_diabetes, make_classification
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from skinfluence.inference import InfinitesimalJackknife

from . import weighted_steps as ws

X, LABELS = make_classification(60, 4, n_informative=3, n_redundant=0, random_state=1)
HOLES = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
DIABETES, TARGET = (part[:60] for part in load_diabetes(return_X_y=True))
DIABETES = DIABETES[:, :5] * 20
ONES = np.ones(60)


def logistic():
    return LogisticRegression(solver="newton-cholesky", tol=1e-13, max_iter=1000)


CASES = {
    "scaler": (make_pipeline(StandardScaler(), logistic()), lambda: ws.Scaler(), X, LABELS),
    "imputer": (
        make_pipeline(SimpleImputer(), StandardScaler(), logistic()),
        lambda: ws.Series(ws.MeanImputer(), ws.Scaler()),
        HOLES,
        LABELS,
    ),
    "components": (
        make_pipeline(StandardScaler(), PCA(2), Ridge()),
        lambda: ws.Series(ws.Scaler(), ws.Components(2)),
        DIABETES,
        TARGET,
    ),
}


def weighted(name, w, queries):
    """Parameters and outputs at queries of the pipeline fitted under row weights."""
    pipeline, steps, rows, y = CASES[name]
    steps = steps().fit(rows, y, w)
    model = pipeline[-1].fit(steps.training(rows), y, sample_weight=w)
    theta = np.append(model.coef_, model.intercept_)
    return theta, np.ravel(steps.transform(queries) @ np.ravel(model.coef_) + model.intercept_)


def derivatives(name, queries):
    """Central differences in the weight of each row: (n, n_params), (n, m)."""
    parts = []
    for row in np.eye(60):
        sides = [weighted(name, ONES + h * row, queries) for h in (1e-4, -1e-4)]
        parts.append([(up - down) / 2e-4 for up, down in zip(*sides, strict=True)])
    return [np.array(part) for part in zip(*parts, strict=True)]


@pytest.mark.parametrize("name", CASES)
def test_covariance_and_prediction_errors_have_every_step_in_them(name):
    pipeline, _, rows, y = CASES[name]
    queries = np.nan_to_num(rows[:5])
    jackknife = InfinitesimalJackknife(pipeline, preprocessing="refit").fit(rows, y)
    theta, outputs = derivatives(name, queries)
    if name == "components":  # components are known up to their signs
        signs = np.sign(jackknife.parameters_ * weighted(name, ONES, queries)[0])
        theta = theta * signs
    scale = np.abs(theta.T @ theta).max()
    assert_allclose(jackknife.covariance_, theta.T @ theta, atol=1e-6 * scale)
    if name == "components":
        deviation = jackknife.predict(queries, return_std=True)[1]
        assert_allclose(deviation, np.sqrt((outputs**2).sum(axis=0)), rtol=1e-6)
    else:
        proba, deviation = jackknife.predict_proba(queries, return_std=True)
        slope = (proba[:, 0] * proba[:, 1])[:, None]
        truth = slope * np.sqrt((outputs**2).sum(axis=0))[:, None]
        assert_allclose(deviation, np.hstack([truth, truth]), rtol=1e-5)


@pytest.mark.parametrize("name", ["scaler", "imputer"])
def test_halving_the_perturbation_divides_the_error_by_four(name):
    pipeline, _, rows, y = CASES[name]
    jackknife = InfinitesimalJackknife(pipeline).fit(rows, y)
    along = np.random.default_rng(2).standard_normal(60)
    errors = [
        np.abs(jackknife.reweight(ONES + t * along) - weighted(name, ONES + t * along, rows)[0])
        for t in (0.02, 0.01)
    ]
    assert_allclose(errors[0].max() / errors[1].max(), 4, rtol=0.1)


def test_bootstrap_and_clusters_have_the_covariance():
    pipeline, _, rows, y = CASES["scaler"]
    clusters = np.arange(60) % 20
    jackknife = InfinitesimalJackknife(pipeline, groups=clusters, random_state=0).fit(rows, y)
    each = derivatives("scaler", rows[:1])[0]
    sums = np.array([each[clusters == c].sum(axis=0) for c in range(20)])
    assert_allclose(jackknife.covariance_, sums.T @ sums, atol=1e-7)
    spread = np.std(jackknife.bootstrap(4000), axis=0)
    centred = sums - sums.mean(axis=0)
    assert_allclose(spread, np.sqrt((centred**2).sum(axis=0)), rtol=0.05)


@pytest.mark.parametrize("kind", ["plus", "minmax"])
def test_intervals_are_those_of_refitted_pipelines(kind):
    pipeline, _, rows, y = CASES["components"]
    queries = rows[:4] + 0.1
    own, at = np.empty(60), np.empty((4, 60))
    for i in range(60):
        keep = np.arange(60) != i
        model = pipeline.fit(rows[keep], y[keep])
        own[i], at[:, i] = model.predict(rows[[i]])[0], model.predict(queries)
    residuals, rank = np.abs(y - own), int(np.ceil(0.8 * 61))
    if kind == "plus":
        lower = np.sort(at - residuals, axis=1)[:, 60 - rank]
        upper = np.sort(at + residuals, axis=1)[:, rank - 1]
    else:
        quantile = np.sort(residuals)[rank - 1]
        lower, upper = at.min(axis=1) - quantile, at.max(axis=1) + quantile
    jackknife = InfinitesimalJackknife(pipeline, preprocessing="refit").fit(rows, y)
    ours = jackknife.predict_interval(queries, 0.8, kind=kind)
    assert_allclose(ours, np.column_stack([lower, upper]), rtol=1e-9)
    bags = jackknife.predict_interval(queries, 0.8, kind=kind, n_replicates=200)
    width = (upper - lower).mean()
    assert np.abs(bags - ours).max() < 0.2 * width  # another estimate of the same interval


def test_steps_without_a_derivative_are_refused_by_name():
    for step in (MinMaxScaler(), RobustScaler(), SimpleImputer(strategy="median")):
        pipeline = make_pipeline(step, Ridge())
        with pytest.raises(ValueError, match="no derivative in a row's weight"):
            InfinitesimalJackknife(pipeline, preprocessing="refit").fit(DIABETES, TARGET)
        with pytest.warns(UserWarning, match="no derivative in a row's weight"):
            auto = InfinitesimalJackknife(pipeline).fit(DIABETES, TARGET)
        held = InfinitesimalJackknife(pipeline, preprocessing="frozen").fit(DIABETES, TARGET)
        assert_allclose(auto.covariance_, held.covariance_, rtol=1e-12)


def test_second_order_needs_the_steps_held():
    pipeline, _, rows, y = CASES["scaler"]
    with pytest.raises(TypeError, match="preprocessing='frozen'"):
        InfinitesimalJackknife(pipeline, order=2).fit(rows, y)
    with pytest.raises(TypeError, match="preprocessing='frozen'"):
        _ = InfinitesimalJackknife(pipeline).fit(rows, y).bias_
    held = InfinitesimalJackknife(pipeline, order=2, preprocessing="frozen").fit(rows, y)
    assert held.bias_.shape == (5,)
