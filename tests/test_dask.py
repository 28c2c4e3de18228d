"""Rows in dask collections: the numbers of arrays in memory, checks."""

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale

from skinfluence import GradientStore, InfluenceExplainer
from skinfluence.model_selection import cross_val_predict
from skinfluence.targets import Mean, Probability

Xb, yb = load_breast_cancer(return_X_y=True)
Xb, yb = scale(Xb)[:400, :8], np.array(["no", "yes"])[yb[:400]]
Xi, yi = load_iris(return_X_y=True)
Xd, yd = load_diabetes(return_X_y=True)
weights = np.random.default_rng(0).uniform(0.5, 2.0, 400)

MODELS = {
    "logistic": (LogisticRegression(), Xb, yb),
    "weighted classes": (LogisticRegression(class_weight={"no": 2.0, "yes": 1.0}), Xb, yb),
    "multinomial": (LogisticRegression(C=0.5, max_iter=1000), Xi, yi),
    "ridge": (Ridge(), Xd, yd),
}
many = pytest.mark.parametrize("model", MODELS)
every_method = pytest.mark.parametrize("method", ["influence", "infinitesimal_jackknife", "newton"])


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def both(name, method, sample_weight=None):
    """Explainers of the same rows in memory and in uneven partitions; and queries."""
    model, X, y = MODELS[name]
    model.fit(X, y, sample_weight)
    chunks = (37, 1, len(y) - 38 - 50, 50)
    options = {"method": method, "solver": "direct"}
    local = InfluenceExplainer(FrozenEstimator(model), **options).fit(X, y, sample_weight)
    if sample_weight is not None:
        sample_weight = da.from_array(sample_weight, chunks=100)
    sharded = InfluenceExplainer(model, **options).fit(
        da.from_array(X, chunks=(chunks, 3)), da.from_array(y, chunks=60), sample_weight
    )
    return local, sharded, X[10:24], y[10:24]


def close(actual, expected):
    assert isinstance(actual, da.Array)
    assert actual.shape == expected.shape
    assert_allclose(actual.compute(), expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


@many
@every_method
@pytest.mark.filterwarnings("ignore:.*have leverage above")
def test_same_numbers(model, method):
    local, sharded, X, y = both(model, method)
    close(sharded.transform(X, y), local.transform(X, y))
    close(sharded.transform(X), local.transform(X))
    close(sharded.dataset_influence(X, y), local.dataset_influence(X, y))
    close(sharded.self_influence(), local.self_influence())
    close(sharded.parameter_influence(), local.parameter_influence())
    close(sharded.leverage_, local.leverage_)
    assert_allclose(sharded.objective_.theta, local.objective_.theta, rtol=1e-10, atol=1e-12)
    for by in ("magnitude", "harmful"):
        top = sharded.top_influences(X, y, k=5, by=by)
        expected = local.top_influences(X, y, k=5, by=by)
        assert_array_equal(top.indices, expected.indices)
        assert_allclose(top.values, expected.values, rtol=1e-8)


def test_weights():
    local, sharded, X, y = both("logistic", "newton", weights)
    close(sharded.transform(X, y), local.transform(X, y))
    mean = sharded.dataset_influence(X, y, sample_weight=weights[:14])
    close(mean, local.dataset_influence(X, y, sample_weight=weights[:14]))


def test_queries_in_partitions():
    local, sharded, X, y = both("logistic", "newton")
    Q, labels = da.from_array(X, chunks=(5, -1)), da.from_array(y, chunks=3)
    expected = local.transform(X, y)
    close(sharded.transform(Q, labels), expected)
    close(local.transform(Q, labels), expected)
    close(local.transform(Q, y=labels), expected)
    close(sharded.dataset_influence(Q, labels), local.dataset_influence(X, y))
    w = da.from_array(weights[:14], chunks=5)
    mean = sharded.dataset_influence(Q, labels, sample_weight=w)
    close(mean, local.dataset_influence(X, y, sample_weight=weights[:14]))
    top = sharded.top_influences(Q, labels, k=3)
    assert_array_equal(top.indices, local.top_influences(X, y, k=3).indices)


def test_a_fit_on_a_sample_is_polished_on_all_rows():
    sample = LogisticRegression().fit(Xb[::3], yb[::3])
    with pytest.warns(UserWarning, match="Newton steps moved the parameters"):
        sharded = InfluenceExplainer(sample, method="newton").fit(
            da.from_array(Xb, chunks=(150, -1)), da.from_array(yb, chunks=150)
        )
    local = InfluenceExplainer(LogisticRegression(), method="newton").fit(Xb, yb)
    close(sharded.transform(Xb[:5], yb[:5]), local.transform(Xb[:5], yb[:5]))
    assert sharded.gradient_norm_ < 1e-8


def test_dataframes():
    table = pd.DataFrame(Xb, columns=[f"c{j}" for j in range(8)])
    model = LogisticRegression().fit(table, yb)
    local = InfluenceExplainer(FrozenEstimator(model)).fit(table, yb)
    frame = dd.from_pandas(table, npartitions=3)
    sharded = InfluenceExplainer(model).fit(frame, dd.from_pandas(pd.Series(yb), npartitions=4))
    expected = local.transform(table[:6], yb[:6])
    close(sharded.transform(table[:6], yb[:6]), expected)
    close(sharded.transform(dd.from_pandas(table[:6], npartitions=2)), local.transform(table[:6]))
    assert sharded.objective_.parameter_names == local.objective_.parameter_names
    with pytest.raises(ValueError, match="feature names"):
        sharded.transform(table[:6].rename(columns={"c0": "x"}), yb[:6])


def test_steps_are_kept_as_fitted():
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(Xb, yb)
    rows = da.from_array(Xb, chunks=(90, -1)), da.from_array(yb, chunks=90)
    with pytest.warns(UserWarning, match="kept as fitted"):
        InfluenceExplainer(model).fit(*rows)
    local = InfluenceExplainer(FrozenEstimator(model), preprocessing="frozen").fit(Xb, yb)
    sharded = InfluenceExplainer(model, preprocessing="frozen").fit(*rows)
    close(sharded.transform(Xb[:5], yb[:5]), local.transform(Xb[:5], yb[:5]))
    with pytest.raises(ValueError, match="preprocessing='refit'"):
        InfluenceExplainer(model, preprocessing="refit").fit(*rows)


def test_float32():
    X = Xb.astype(np.float32)
    model = LogisticRegression().fit(X, yb)
    local = InfluenceExplainer(FrozenEstimator(model), method="influence").fit(X, yb)
    sharded = InfluenceExplainer(model, method="influence").fit(
        da.from_array(X, chunks=(90, -1)), da.from_array(yb, chunks=90)
    )
    values = sharded.transform(X[:5], yb[:5])
    assert values.dtype == values.compute().dtype == np.float32
    assert_allclose(values.compute(), local.transform(X[:5], yb[:5]), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("response", ["predict", "predict_proba", "decision_function"])
@pytest.mark.parametrize("name", ["logistic", "multinomial"])
def test_left_out_predictions(name, response):
    model, X, y = MODELS[name]
    model.fit(X, y)
    rows = da.from_array(X, chunks=(45, -1)), da.from_array(y, chunks=45)
    actual = cross_val_predict(model, *rows, method=response)
    expected = cross_val_predict(
        FrozenEstimator(model), X, y, method=response, approximation="newton"
    )
    assert actual.dtype == expected.dtype
    if response == "predict":
        assert_array_equal(actual.compute(), expected)
    else:
        close(actual, expected)


def test_stores(tmp_path):
    local, sharded, X, y = both("logistic", "newton")
    expected = local.transform(X, y)
    sharded.transform(X, y).rechunk((14, 100)).to_zarr(str(tmp_path / "a.zarr"))
    assert_allclose(zarr.open_array(tmp_path / "a.zarr")[:], expected, rtol=1e-8, atol=1e-12)
    store = sharded.transform(X, y, out=tmp_path / "b.zarr")
    assert_allclose(store[:], expected, rtol=1e-8, atol=1e-12)


def test_a_class_with_one_row_in_a_partition():
    order = np.argsort(yi, kind="stable")
    X, y = Xi[order], yi[order]
    model = LogisticRegression(max_iter=1000).fit(X, y)
    local = InfluenceExplainer(FrozenEstimator(model)).fit(X, y)
    rows = da.from_array(X, chunks=((51, 99), 4)), da.from_array(y, chunks=75)
    close(InfluenceExplainer(model).fit(*rows).self_influence(), local.self_influence())


def test_checks():
    rows = da.from_array(Xb, chunks=(90, -1)), da.from_array(yb, chunks=90)
    with pytest.raises(NotFittedError, match="Fit it on a sample"):
        InfluenceExplainer(LogisticRegression()).fit(*rows)
    model = LogisticRegression().fit(Xb, yb)
    with pytest.raises(ValueError, match="y has 399 rows and X has 400"):
        InfluenceExplainer(model).fit(rows[0], rows[1][1:])
    with pytest.raises(ValueError, match="more rows than"):
        few = LogisticRegression().fit(Xb[::80], yb[::80])
        InfluenceExplainer(few).fit(da.from_array(Xb[::80]), da.from_array(yb[::80]))
    sharded = InfluenceExplainer(model).fit(*rows)
    with pytest.raises(TypeError, match="GradientStore needs all training rows at once"):
        GradientStore(10).fit(sharded)
    with pytest.raises(TypeError, match="an archive needs all training rows at once"):
        sharded.save("sharded.influence")
    with pytest.raises(ValueError, match="k=0"):
        sharded.top_influences(Xb[:3], yb[:3], k=0)
    broken = Xb.copy()
    broken[300, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        InfluenceExplainer(model).fit(da.from_array(broken, chunks=(90, -1)), rows[1])


def test_targets():
    model = LogisticRegression().fit(Xb, yb)
    options = {"target": Probability(), "method": "newton"}
    local = InfluenceExplainer(FrozenEstimator(model), **options).fit(Xb, yb)
    sharded = InfluenceExplainer(model, **options).fit(
        da.from_array(Xb, chunks=(90, -1)), da.from_array(yb, chunks=90)
    )
    close(sharded.transform(Xb[:5]), local.transform(Xb[:5]))


def test_a_scalar_of_all_queries_is_not_made_of_its_partitions():
    model, X, y = MODELS["logistic"]
    explainer = InfluenceExplainer(model.fit(X, y), target=Mean(Probability()))
    local = InfluenceExplainer(FrozenEstimator(model), target=Mean(Probability())).fit(X, y)
    explainer.fit(da.from_array(X, chunks=(150, 8)), da.from_array(y, chunks=150))
    whole = local.transform(X[:40], y[:40])
    assert_allclose(explainer.transform(X[:40], y[:40]).compute(), whole, rtol=1e-6, atol=1e-12)
    mean = explainer.dataset_influence(X[:40], y[:40]).compute()
    assert_allclose(mean, whole[0], rtol=1e-6, atol=1e-12)
    pieces = da.from_array(X[:40], chunks=(10, 8)), da.from_array(y[:40], chunks=10)
    for ask in (explainer.transform, explainer.dataset_influence, explainer.top_influences):
        with pytest.raises(ValueError, match="one partition"):
            ask(*pieces)
