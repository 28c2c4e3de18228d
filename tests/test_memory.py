"""Memory: results into given stores, refusals, the working-memory option."""

import signal
from functools import partial

import numpy as np
import pytest
import sklearn
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_breast_cancer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import scale

import skinfluence
from skinfluence import (
    EnsembleExplainer,
    GradientStore,
    InfluenceEmbedding,
    InfluenceExplainer,
    _blocks,
    _memory,
    _out,
)
from skinfluence.inference import InfinitesimalJackknife

X, y = load_breast_cancer(return_X_y=True)
X = scale(X)
X32 = X.astype(np.float32)


def fit(method="newton", dtype=np.float64):
    explainer = InfluenceExplainer(LogisticRegression(), method=method)
    return explainer.fit(X[:300].astype(dtype), y[:300])


def queries(dtype=np.float64):
    return X[300:340].astype(dtype), y[300:340]


# -- out -----------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["influence", "newton"])
@pytest.mark.parametrize("kind", ["array", "memmap", "zarr", "path"])
def test_out(kind, method, dtype, tmp_path):
    explainer = fit(method, dtype)
    expected = explainer.transform(*queries(dtype))
    shape = expected.shape
    out = {
        "array": lambda: np.empty(shape, dtype),
        "memmap": lambda: np.memmap(tmp_path / "m", dtype, "w+", shape=shape),
        "zarr": lambda: zarr.create_array(
            tmp_path / "z", shape=shape, chunks=(7, 50), dtype=np.dtype(dtype)
        ),
        "path": lambda: tmp_path / "p.zarr",
    }[kind]()
    result = explainer.transform(*queries(dtype), out=out)
    assert_array_equal(np.asarray(result[:]), expected)
    if kind != "path":
        assert result is out


def ensemble():
    explainer = InfluenceExplainer(LogisticRegression(), method="influence")
    estimators = [LogisticRegression(C=0.1), LogisticRegression()]
    return EnsembleExplainer(explainer, estimators=estimators).fit(X[:300], y[:300])


OTHERS = {
    "parameter_influence": lambda: partial(fit().parameter_influence, np.arange(7, 200)),
    "relative_influence": lambda: partial(fit("influence").relative_influence, *queries()),
    "ensemble": lambda: partial(ensemble().transform, *queries()),
    "store": lambda: partial(
        GradientStore(n_components=9).fit(fit("influence")).transform, *queries()
    ),
}


@pytest.mark.parametrize("kind", ["memmap", "zarr", "path"])
@pytest.mark.parametrize("name", OTHERS)
def test_out_of_others(name, kind, tmp_path):
    call = OTHERS[name]()
    expected = call()
    out = {
        "memmap": lambda: np.memmap(tmp_path / "m", expected.dtype, "w+", shape=expected.shape),
        "zarr": lambda: zarr.create_array(
            tmp_path / "z", shape=expected.shape, chunks=(7, 5), dtype=expected.dtype
        ),
        "path": lambda: tmp_path / "p.zarr",
    }[kind]()
    with skinfluence.config_context(working_memory=0.1):  # several blocks
        result = call(out=out)
    assert_allclose(np.asarray(result[:]), expected, rtol=1e-5, atol=1e-7)
    if kind == "path":
        assert_array_equal(call(out=out)[:], result[:])


@pytest.mark.parametrize("name", OTHERS)
def test_store_of_others_is_refused(name, tmp_path):
    OTHERS[name]()(out=tmp_path / "s.zarr")
    other = {
        "parameter_influence": lambda: partial(fit().parameter_influence, np.arange(193)),
        "relative_influence": lambda: partial(
            fit("influence").relative_influence, *queries(), norm="parameters"
        ),
        "ensemble": lambda: partial(ensemble().transform, X[300:340] + 1, y[300:340]),
        "store": lambda: partial(
            GradientStore(n_components=5).fit(fit("influence")).transform, *queries()
        ),
    }[name]()
    with pytest.raises(ValueError, match="another fit, method or set of queries"):
        other(out=tmp_path / "s.zarr")


def test_out_of_another_dtype():
    explainer = fit("influence")
    out = np.empty((40, 300), np.float32)
    assert_allclose(
        explainer.transform(*queries(), out=out), explainer.transform(*queries()), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("out", "error", "match"),
    [
        (np.empty((3, 3)), ValueError, r"shape \(3, 3\); the influences have shape \(40, 300\)"),
        (np.empty((40, 300), int), ValueError, "dtype int64"),
        (np.broadcast_to(0.0, (40, 300)), ValueError, "read-only"),
        ([], TypeError, "a list without shape"),
        ("influences.npy", ValueError, "must end in '.zarr'"),
    ],
)
def test_out_is_checked(out, error, match):
    with pytest.raises(error, match=match):
        fit().transform(*queries(), out=out)


def test_out_and_set_output():
    explainer = fit().set_output(transform="pandas")
    with pytest.raises(ValueError, match="out= takes plain arrays"):
        explainer.transform(*queries(), out=np.empty((40, 300)))


def interrupted(explainer, path, monkeypatch, after):
    """Transform into a store with chunks of 4 queries, stopped after some of them."""
    whole = explainer._all_rows
    calls = []

    def some(bound, out):
        if len(calls) == after:
            signal.raise_signal(signal.SIGINT)  # Ctrl-C
        calls.append(bound)
        return whole(bound, out)

    monkeypatch.setattr(_out, "CHUNK", 4 * 300)
    monkeypatch.setattr(explainer, "_query_block", lambda n: 4)
    monkeypatch.setattr(explainer, "_all_rows", some)
    try:
        return explainer.transform(*queries(), out=path), len(calls)
    finally:
        monkeypatch.undo()


def test_interrupted_store_is_gone_on_with(tmp_path, monkeypatch):
    explainer = fit()
    path = tmp_path / "s.zarr"
    with pytest.raises(KeyboardInterrupt):
        interrupted(explainer, path, monkeypatch, after=6)
    assert not path.exists()
    assert zarr.open_array(tmp_path / "s.zarr.part").attrs["queries_done"] == 24
    store, n_calls = interrupted(explainer, path, monkeypatch, after=None)
    assert n_calls == 4  # of ten blocks six were there
    assert_array_equal(store[:], explainer.transform(*queries()))
    store, n_calls = interrupted(explainer, path, monkeypatch, after=None)
    assert n_calls == 0
    assert_array_equal(store[:], explainer.transform(*queries()))


RIDGE = FrozenEstimator(Ridge().fit(X[:200], y[:200]))


@pytest.mark.filterwarnings("ignore:the fit was not at its optimum")  # of a frozen fit to others
@pytest.mark.parametrize(
    ("model", "method", "other"),
    [
        (KNeighborsRegressor(), "exact", {"X": X[100:300]}),
        (KNeighborsRegressor(), "exact", {"y": y[:200] + 1.0}),
        (RIDGE, "influence", {"y": y[:200] + 1.0}),
        (RIDGE, "influence", {"sample_weight": np.full(200, 2.0)}),
    ],
    ids=["neighbours", "their targets", "frozen targets", "frozen weights"],
)
def test_store_of_other_training_rows_is_refused(model, method, other, tmp_path):
    explainer = InfluenceExplainer(model, method=method, target="decision")
    given = {"X": X[:200], "y": y[:200].astype(float)}
    explainer.fit(**given).transform(X[:3], out=tmp_path / "s.zarr")
    with pytest.raises(ValueError, match="another fit, method or set of queries"):
        explainer.fit(**given | other).transform(X[:3], out=tmp_path / "s.zarr")


@pytest.mark.parametrize("other", ["queries", "labels", "method", "fit"])
def test_store_of_other_numbers_is_refused(other, tmp_path):
    path = tmp_path / "s.zarr"
    fit().transform(*queries(), out=path)
    explainer = fit("influence") if other == "method" else fit()
    if other == "fit":
        explainer.fit(X[100:400], y[100:400])
    Q, labels = queries()
    Q = Q + 1 if other == "queries" else Q
    labels = 1 - labels if other == "labels" else labels
    with pytest.raises(ValueError, match="another fit, method or set of queries"):
        explainer.transform(Q, labels, out=path)


# -- refusals ------------------------------------------------------------------------------
def little_memory(monkeypatch, size):
    monkeypatch.setattr(_memory, "SMALL", 0)
    monkeypatch.setattr(_memory, "available_bytes", lambda: size)


def test_results_beyond_the_memory_are_refused(monkeypatch):
    explainer = fit()
    little_memory(monkeypatch, 50_000)
    with pytest.raises(MemoryError, match="40 queries by 300 training rows.*top_influences"):
        explainer.transform(*queries())
    with pytest.raises(MemoryError, match="300 rows by 31 parameters"):
        explainer.parameter_influence()
    assert explainer.transform(*queries(), out=np.empty((40, 300))).shape == (40, 300)
    assert explainer.top_influences(*queries()).indices.shape == (40, 10)


REFUSED = {
    "relative_influence": (lambda e: e.relative_influence(*queries()), "40 queries by 300"),
    "group_influence": (
        lambda e: e.group_influence(np.arange(300) // 2, *queries()),
        "40 queries by 150 groups.*fewer queries or groups",
    ),
    "feature_influence": (
        lambda e: e.feature_influence(np.arange(40), *queries()),
        "40 queries by 40 training rows by 30 features",
    ),
    "transform_rows": (
        lambda e: e.transform_rows(np.arange(300), 2.0, *queries()),
        "40 queries by 300 training rows.*fewer queries or training rows",
    ),
    "ensemble": (lambda e: ensemble().transform(*queries()), "40 queries by 300.*out="),
    "store": (
        lambda e: GradientStore(n_components=50).fit(e),
        "300 training rows by 31 dimensions.*folder=",
    ),
    "embedding": (
        lambda e: InfluenceEmbedding(e).fit(X[:300], y[:300]),
        "300 training rows by 31 dimensions.*n_components",
    ),
    "bootstrap": (
        lambda e: InfinitesimalJackknife(LogisticRegression()).fit(X[:300], y[:300]).bootstrap(200),
        "200 replicates by 31 parameters.*fewer replicates",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_results_beyond_the_memory_are_refused(name, monkeypatch):
    call, match = REFUSED[name]
    explainer = fit("influence")
    little_memory(monkeypatch, 25_000)  # the Hessian and its factor fit
    with pytest.raises(MemoryError, match=match):
        call(explainer)


@pytest.mark.parametrize("n", [20, 300])
def test_factors_beyond_the_memory_are_refused(n, monkeypatch):
    little_memory(monkeypatch, 5_000)
    with pytest.raises(MemoryError, match="and its factor would take"):
        InfluenceExplainer(LogisticRegression()).fit(X[:n], y[:n])


def test_available_bytes_are_plausible():
    available = _memory.available_bytes()
    assert available is None or 2**20 < available < 2**50


# -- the option ----------------------------------------------------------------------------
def test_working_memory_option():
    assert skinfluence.get_config() == {"working_memory": sklearn.get_config()["working_memory"]}
    with sklearn.config_context(working_memory=3):
        assert _blocks.working_bytes() == 3 * 2**20
        with skinfluence.config_context(working_memory=5):
            assert _blocks.working_bytes() == 5 * 2**20
            with skinfluence.config_context(working_memory=7):
                assert _blocks.working_bytes() == 7 * 2**20
            assert _blocks.working_bytes() == 5 * 2**20
    try:
        skinfluence.set_config(working_memory=2)
        assert _blocks.working_bytes() == 2 * 2**20
    finally:
        skinfluence.set_config()
    assert _blocks.working_bytes() == sklearn.get_config()["working_memory"] * 2**20


@pytest.mark.parametrize("value", [0, -1, "1", np.inf])
def test_working_memory_is_checked(value):
    with pytest.raises(ValueError, match="working_memory"):
        skinfluence.set_config(working_memory=value)


@pytest.mark.parametrize("method", ["influence", "newton"])
def test_numbers_do_not_depend_on_it(method):
    explainer = fit(method)
    expected = explainer.transform(*queries())
    with skinfluence.config_context(working_memory=0.01):
        assert_allclose(explainer.transform(*queries()), expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memmapped_rows(dtype, tmp_path):
    rows = np.memmap(tmp_path / "X", dtype, "w+", shape=(300, X.shape[1]))
    rows[:] = X[:300]
    explainer = InfluenceExplainer(LogisticRegression()).fit(rows, y[:300])
    assert_array_equal(
        explainer.transform(*queries(dtype)), fit(dtype=dtype).transform(*queries(dtype))
    )
    assert np.shares_memory(explainer.objective_.design.X, rows)
