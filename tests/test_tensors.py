"""torch tensors as rows: the numbers of arrays, computed where the tensor of training rows lies."""

import pickle

import numpy as np
import pytest
import sklearn
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    GammaRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale

from skinfluence import InfluenceExplainer, config_context
from skinfluence.objectives.design import Design
from skinfluence.objectives.device_design import DeviceDesign
from skinfluence.targets import Loss, Mean

from .pretend_device import at_device, devices

on_devices = pytest.mark.parametrize("name", devices())
METHODS = ["influence", "infinitesimal_jackknife", "newton"]
MODELS = {
    "binary": LogisticRegression(tol=1e-10, max_iter=5000),
    "balanced": LogisticRegression(class_weight="balanced", tol=1e-10, max_iter=5000),
    "liblinear": LogisticRegression(solver="liblinear", intercept_scaling=3.0, tol=1e-10),
    "multinomial": LogisticRegression(C=0.1, tol=1e-10, max_iter=5000),
    "ridge": Ridge(),
    "several": Ridge(),
    "own alphas": Ridge([1.0, 2.0]),
    "no intercept": LinearRegression(fit_intercept=False),
    "ridge classifier": RidgeClassifier(),
    "ridge classes, balanced": RidgeClassifier(class_weight="balanced"),
    "poisson": PoissonRegressor(tol=1e-10, max_iter=5000),
    "gamma": GammaRegressor(tol=1e-10, max_iter=5000),
    "lasso": LogisticRegression(l1_ratio=1.0, solver="saga", tol=1e-8, max_iter=20_000),
}
CLASSES = {"multinomial": 3, "ridge classes, balanced": 3}


def table(name, n=90, dtype=np.float64, seed=0):
    """``(X, y)`` for a model by name."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 4)).astype(dtype)
    z = X @ [1.0, -1.0, 0.5, 0.0] + rng.normal(size=n)
    model = MODELS[name]
    if name == "several" or name == "own alphas":
        return X, np.column_stack([z, z**2])
    if isinstance(model, PoissonRegressor | GammaRegressor):
        return X, np.ceil(np.exp(z / 2))
    if isinstance(model, Ridge | LinearRegression):
        return X, z
    edges = np.quantile(z, np.arange(1, CLASSES.get(name, 2)) / CLASSES.get(name, 2))
    return X, np.searchsorted(edges, z)


def targets_of(name):
    """Targets that a model has."""
    if isinstance(MODELS[name], LogisticRegression):
        return ["loss", "decision", "proba", "log_odds", Mean(Loss())]
    return ["loss", Mean(Loss())] + ([] if table(name)[1].ndim > 1 else ["decision"])


def explained(explainer, put, X, y, target):
    """What an explainer says of six queries."""
    explainer.set_params(target=target)
    queries, labels = put(X[:6]), put(y[:6])
    top = explainer.top_influences(queries, labels, k=4)
    out = {"transform": explainer.transform(queries, labels), "top": top.values}
    if not isinstance(target, Mean):
        out["mean"] = explainer.dataset_influence(queries, labels)
    return out, top.indices


@on_devices
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", MODELS)
def test_tensors_are_arrays(model, method, name):
    X, y = table(model)
    weights = np.random.default_rng(1).integers(1, 4, len(X)).astype(float)
    expected = InfluenceExplainer(MODELS[model], method=method).fit(X, y, weights)
    with at_device(name) as (put, _):
        explainer = InfluenceExplainer(MODELS[model], method=method)
        explainer.fit(put(X), put(y), put(weights))
        for target in targets_of(model):
            ours, order = explained(explainer, put, X, y, target)
            theirs, expected_order = explained(expected, np.asarray, X, y, target)
            for key, value in theirs.items():
                atol = 1e-12 * np.abs(value).max()
                assert_allclose(ours[key], value, rtol=1e-9, atol=atol, err_msg=f"{key} {target}")
            assert_array_equal(order, expected_order)


@on_devices
@pytest.mark.parametrize("method", [*METHODS, "exact"])
@pytest.mark.parametrize("model", ["binary", "multinomial", "several", "gamma"])
def test_one_row_and_group_results(model, method, name):
    X, y = table(model, 700)  # more than the fewest rows whose leverages the device computes
    expected = InfluenceExplainer(MODELS[model], method=method).fit(X, y)
    with at_device(name) as (put, _):
        explainer = InfluenceExplainer(MODELS[model], method=method).fit(put(X), put(y))
        groups = [[0, 1, 2], [5]]
        for function, arguments in {
            "self_influence": (),
            "parameter_influence": ([0, 3],),
            "group_influence": (groups, X[:3], y[:3]),
        }.items():
            ours = getattr(explainer, function)(*arguments)
            theirs = getattr(expected, function)(*arguments)
            assert_allclose(ours, theirs, rtol=1e-8, atol=1e-12 * np.abs(theirs).max())
        assert_allclose(explainer.leverage_, expected.leverage_, rtol=1e-10)


@on_devices
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", ["binary", "multinomial", "ridge"])
def test_single_precision(model, method, name):
    """Products in float32 are as far from float64 as numpy's."""
    X, y = table(model, dtype=np.float32)
    exact = InfluenceExplainer(MODELS[model], method=method).fit(X.astype(np.float64), y)
    exact = exact.transform(X[:6].astype(np.float64), y[:6])
    with at_device(name) as (put, _):
        explainer = InfluenceExplainer(MODELS[model], method=method).fit(put(X), put(y))
        values = explainer.transform(put(X[:6]), put(y[:6]))
        assert explainer.objective_.design.tensor.dtype == torch.float32
    assert values.dtype == np.float32
    assert_allclose(values, exact, rtol=1e-4, atol=3e-6 * np.abs(exact).max())


@on_devices
@pytest.mark.parametrize("by", ["magnitude", "helpful", "harmful"])
def test_ties_go_by_position_in_blocks(by, name):
    X, y = table("binary", 40)
    X, y = np.tile(X, (6, 1)), np.tile(y, 6)  # every influence comes six times
    expected = InfluenceExplainer(MODELS["binary"], method="influence").fit(X, y)
    with at_device(name) as (put, _), config_context(working_memory=0.05):
        for batch_size in (16, 1000):
            explainer = InfluenceExplainer(
                MODELS["binary"], method="influence", batch_size=batch_size
            ).fit(put(X), put(y))
            top = explainer.top_influences(put(X[:8]), put(y[:8]), k=9, by=by)
            # equal rows have equal values here as there: numpy's product may round them apart
            values = explainer.transform(put(X[:8]), put(y[:8]))
            score = {"magnitude": np.abs(values), "helpful": values, "harmful": -values}[by]
            order = np.argsort(-score, axis=1, kind="stable")[:, :9]
            assert_array_equal(top.indices, order)
            assert_array_equal(top.values, np.take_along_axis(values, order, axis=1))
    theirs = expected.top_influences(X[:8], y[:8], k=9, by=by).values
    assert_allclose(top.values, theirs, rtol=1e-9)


@on_devices
@pytest.mark.parametrize("method", METHODS)
def test_relative_and_dataset_influence(method, name):
    X, y = table("binary")
    expected = InfluenceExplainer(MODELS["binary"], method=method).fit(X, y)
    weights = np.arange(1.0, 7)
    with at_device(name) as (put, _):
        explainer = InfluenceExplainer(MODELS["binary"], method=method).fit(put(X), put(y))
        for function, options in (
            ("top_influences", {"relative": "loss", "k": 5}),
            ("relative_influence", {"norm": "parameters"}),
            ("dataset_influence", {"sample_weight": weights}),
        ):
            ours = getattr(explainer, function)(put(X[:6]), put(y[:6]), **options)
            theirs = getattr(expected, function)(X[:6], y[:6], **options)
            if function == "top_influences":
                assert_array_equal(ours.indices, theirs.indices)
                ours, theirs = ours.values, theirs.values
            assert_allclose(ours, theirs, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("method", METHODS)
def test_pairs_stay_on_the_device(method):
    """What comes to the host grows with rows and queries, not with their pairs."""
    X, y = table("binary", 1000)
    with at_device("pretend") as (put, mode):
        explainer = InfluenceExplainer(MODELS["binary"], method=method).fit(put(X), put(y))
        queries, labels = put(X[:100]), put(y[:100])
        mode.n_copied = 0
        explainer.top_influences(queries, labels, k=5)
        assert mode.n_copied < 20_000  # of 100,000 pairs
        explainer.transform(queries, labels, out=torch.empty(100, 1000, device=put.device))
        assert mode.n_copied < 40_000


@on_devices
@pytest.mark.parametrize("model", ["binary", "multinomial"])
@pytest.mark.parametrize("method", METHODS)
def test_out_may_be_a_tensor(method, model, name):
    X, y = table(model)
    expected = InfluenceExplainer(MODELS[model], method=method).fit(X, y)
    expected = expected.transform(X[:6], y[:6])
    with at_device(name) as (put, _):
        explainer = InfluenceExplainer(MODELS[model], method=method).fit(put(X), put(y))
        for options in ({"dtype": torch.float64, "device": put.device}, {"dtype": torch.float32}):
            out = torch.full((6, len(X)), torch.nan, **options)
            assert explainer.transform(put(X[:6]), put(y[:6]), out=out) is out
            found = out.cpu().double().numpy()
            assert_allclose(found, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())
        with pytest.raises(ValueError, match="floating"):
            explainer.transform(put(X[:6]), out=torch.zeros(6, len(X), dtype=torch.int64))
        # an explainer of arrays fills a tensor too
        explainer = InfluenceExplainer(MODELS[model], method=method).fit(X, y)
        out = torch.empty((6, len(X)), dtype=torch.float64, device=put.device)
        explainer.transform(X[:6], y[:6], out=out)
        assert_allclose(out.cpu().numpy(), expected, rtol=1e-12)


@on_devices
def test_dispatch_gives_tensors(name, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    X, y = table("binary")
    expected = InfluenceExplainer(MODELS["binary"]).fit(X, y)
    with at_device(name) as (put, _):
        explainer = InfluenceExplainer(MODELS["binary"]).fit(put(X), put(y))
        queries, labels = put(X[:6]), put(y[:6])
        assert isinstance(explainer.transform(queries, labels), np.ndarray)
        with sklearn.config_context(array_api_dispatch=True):
            found = [
                explainer.transform(queries, labels),
                explainer.dataset_influence(queries, labels),
                *explainer.top_influences(queries, labels, k=3).values,
            ]
            assert isinstance(explainer.transform(X[:6], y[:6]), np.ndarray)
        assert all(part.device == put.device for part in found)
        assert_allclose(found[0].cpu().numpy(), expected.transform(X[:6], y[:6]), rtol=1e-9)


# scikit-learn's dispatch has a list of devices, without the pretended one
@pytest.mark.parametrize("name", [name for name in devices() if name != "pretend"])
@pytest.mark.parametrize(
    "model", [Ridge(solver="svd"), LinearDiscriminantAnalysis(solver="svd")], ids=str
)
def test_models_fitted_by_dispatch(model, name, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    X, y = (load_diabetes if isinstance(model, Ridge) else load_breast_cancer)(return_X_y=True)
    X = scale(X)
    A, b = torch.as_tensor(X, device=name), torch.as_tensor(y, device=name)
    expected = InfluenceExplainer(model).fit(X, y).transform(X[:5], y[:5])
    with sklearn.config_context(array_api_dispatch=True):
        frozen = FrozenEstimator(model.fit(A, b))
        found = InfluenceExplainer(frozen).fit(A, b).transform(A[:5], b[:5])
    assert found.device == A.device
    assert_allclose(found.cpu().numpy(), expected, rtol=1e-6, atol=1e-9)


@on_devices
@pytest.mark.parametrize("intercept", [True, False])
def test_rows_are_left_as_they_are(intercept, name):
    X, y = table("several")
    X = np.tile(X, 30)[:40]  # more columns than rows: the dual form
    with at_device(name) as (put, _):
        A = put(X)
        explainer = InfluenceExplainer(Ridge(fit_intercept=intercept)).fit(A, put(y[:40]))
        found = explainer.transform(A[:5], put(y[:5]))
        assert_array_equal(A.cpu().numpy(), X)
    assert explainer.solver_.report_["form"] == ["dual"]
    expected = InfluenceExplainer(Ridge(fit_intercept=intercept)).fit(X, y[:40])
    assert_allclose(found, expected.transform(X[:5], y[:5]), rtol=1e-8, atol=1e-9)


@on_devices
def test_other_models_compute_on_the_host(name):
    X, y = table("binary")
    for model, options in (
        (KNeighborsClassifier(), {}),
        (make_pipeline(StandardScaler(), LogisticRegression()), {"preprocessing": "frozen"}),
        (make_pipeline(StandardScaler(), LogisticRegression()), {}),
    ):
        expected = InfluenceExplainer(model, **options).fit(X, y).transform(X[:5], y[:5])
        with at_device(name) as (put, _):
            explainer = InfluenceExplainer(model, **options).fit(put(X), put(y))
            assert_array_equal(explainer.transform(put(X[:5]), put(y[:5])), expected)


@on_devices
def test_queries_need_not_lie_with_the_rows(name):
    X, y = table("multinomial")
    expected = InfluenceExplainer(MODELS["multinomial"]).fit(X, y).transform(X[:5], y[:5])
    with at_device(name) as (put, _):
        explainer = InfluenceExplainer(MODELS["multinomial"]).fit(put(X), y)
        assert_allclose(explainer.transform(X[:5], y[:5]), expected, rtol=1e-9, atol=1e-14)
        explainer = InfluenceExplainer(MODELS["multinomial"]).fit(X, y)
        assert_array_equal(explainer.transform(put(X[:5]), put(y[:5])), expected)


@on_devices
def test_copies_compute_on_the_host(name, tmp_path):
    """A pickle or an archive holds arrays: it is read where there may be no such device."""
    X, y = table("binary")
    with at_device(name) as (put, _):
        explainer = InfluenceExplainer(MODELS["binary"]).fit(put(X), put(y))
        expected = explainer.transform(X[:5], y[:5])
        stored = pickle.dumps(explainer)
        explainer.save(tmp_path / "explainer.zip")
    for copy in (pickle.loads(stored), InfluenceExplainer.load(tmp_path / "explainer.zip")):
        assert type(copy.objective_.design) is Design
        assert_allclose(copy.transform(X[:5], y[:5]), expected, rtol=1e-9, atol=1e-14)
    assert type(explainer.objective_.design) is DeviceDesign


def test_dtypes_and_kinds_of_tensors():
    X, y = table("binary")
    X = np.round(4 * X)
    expected = InfluenceExplainer(MODELS["binary"]).fit(X, y).transform(X[:5], y[:5])
    for dtype in (torch.bfloat16, torch.float16, torch.int64):  # these hold the numbers as they are
        A = torch.as_tensor(X).to(dtype)
        found = InfluenceExplainer(MODELS["binary"]).fit(A, y).transform(A[:5], y[:5])
        assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    A = torch.nn.Parameter(torch.as_tensor(X))
    found = InfluenceExplainer(MODELS["binary"]).fit(A, y).transform(A[:5], y[:5])
    assert_allclose(found, expected, rtol=1e-9, atol=1e-14)
    with pytest.raises(TypeError, match="pass a dense tensor"):
        InfluenceExplainer(MODELS["binary"]).fit(torch.as_tensor(X).to_sparse(), y)


def test_rows_that_are_not_numbers():
    X, y = table("binary")
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        InfluenceExplainer(MODELS["binary"]).fit(torch.as_tensor(X), y)
