"""Dask collections at every public method: the numbers of arrays, or a refusal that says more."""

import dask
import dask.array as da
import dask.dataframe as dd
import matplotlib
import numpy as np
import pandas as pd
import pytest
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, scale

from skinfluence import (
    EnsembleExplainer,
    GradientStore,
    InfluenceEmbedding,
    InfluenceExplainer,
    InfluenceSelector,
    MultiStageInfluence,
    evaluation,
    inspection,
    mislabel,
    value_rows,
)
from skinfluence.audit import audit_table
from skinfluence.inference import bagging_variance
from skinfluence.model_selection import InfluenceSearchCV, cross_val_score, cross_validate
from skinfluence.targets import Mean, Probability

X, y = load_breast_cancer(return_X_y=True)
X, y = scale(X)[:200, :6], y[:200]
MODEL = LogisticRegression().fit(X, y)
rows = da.from_array(X, chunks=(60, -1)), da.from_array(y, chunks=70)
queries = X[:7], y[:7]
lazy_queries = da.from_array(X[:7], chunks=(3, -1)), da.from_array(y[:7], chunks=2)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def local():
    return InfluenceExplainer(FrozenEstimator(MODEL)).fit(X, y)


@pytest.fixture(scope="module")
def sharded():
    with dask.config.set(scheduler="synchronous"):
        return InfluenceExplainer(MODEL).fit(*rows)


def close(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert_allclose(actual, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


# -- an explainer's methods ------------------------------------------------------------------
KNOWN = {
    "transform": queries,
    "dataset_influence": queries,
    "relative_influence": queries,
    "group_influence": (np.arange(200) % 3, *queries),
    "self_influence": (),
    "memorization": (),
    "parameter_influence": ([3, 1, 150],),
    "row_norms": ([3, 1, 150],),
    "get_feature_names_out": (),
}
REFUSED = {
    "error_bound": (),
    "feature_influence": ([0], *queries),
    "label_influence": ([0], *queries),
    "counterfactual_labels": ([0], [1 - y[0]], *queries),
    "added_influence": (*queries, *queries),
    "transform_rows": ([0], 2.0, *queries),
    "most_influential_set": (X[:1],),
    "unlearn": ([0],),
    "save": ("rows.influence",),
}
ELSEWHERE = {"top_influences", "leverage_", "fit", "fit_transform", "set_output", "load"}
OF_SKLEARN = {"get_params", "set_params", "get_metadata_routing", "set_fit_request"}


def test_every_public_method_is_known_or_refused():
    public = {name for name in dir(InfluenceExplainer) if not name.startswith("_")}
    assert public == {*KNOWN, *REFUSED} | ELSEWHERE | OF_SKLEARN


@pytest.mark.parametrize("name", KNOWN)
def test_same_numbers(name, local, sharded):
    expected, actual = (getattr(one, name)(*KNOWN[name]) for one in (local, sharded))
    if name == "get_feature_names_out":
        assert_array_equal(actual, expected)
    else:
        close(actual, expected)


def test_training_rows_as_queries(sharded, local):
    values = InfluenceExplainer(MODEL).fit_transform(*rows)
    assert isinstance(values, da.Array)
    close(values, local.transform(X))


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_all_rows_is_refused(name, sharded):
    with pytest.raises(TypeError, match="needs all training rows at once"):
        getattr(sharded, name)(*REFUSED[name])


@pytest.mark.parametrize("name", ["transform", "parameter_influence"])
def test_containers_are_refused(name):
    explainer = InfluenceExplainer(MODEL).set_output(transform="pandas").fit(*rows)
    with pytest.raises(ValueError, match=f"{name} gives a dask array"):
        getattr(explainer, name)(*(() if name == "parameter_influence" else queries))


def test_other_results_know_no_containers(local, sharded):
    tables = InfluenceExplainer(MODEL).set_output(transform="pandas").fit(*rows)
    close(tables.self_influence(), sharded.self_influence())
    close(tables.relative_influence(*queries), local.relative_influence(*queries))
    tables = InfluenceExplainer(FrozenEstimator(MODEL)).set_output(transform="pandas").fit(X, y)
    close(tables.relative_influence(*lazy_queries), local.relative_influence(*queries))
    with pytest.raises(ValueError, match="transform gives a dask array"):
        tables.transform(*lazy_queries)


def test_rows_and_norms_are_checked(sharded):
    with pytest.raises(ValueError, match="rows must lie between 0 and 199"):
        sharded.parameter_influence([200])
    with pytest.raises(ValueError, match="norm='size'"):
        sharded.row_norms(norm="size")
    with pytest.raises(ValueError, match="norm='size'"):
        sharded.top_influences(*queries, k=2, relative="size")
    with pytest.raises(ValueError, match="a target of one row"):
        sharded.self_influence(Mean(Probability()))
    two = MultiOutputClassifier(LogisticRegression()).fit(X, np.column_stack([y, X[:, 0] > 0]))
    both = InfluenceExplainer(two).fit(
        rows[0], da.from_array(np.column_stack([y, X[:, 0] > 0]), chunks=(50, -1))
    )
    with pytest.raises(TypeError, match="leverages are not known for IndependentOutputs"):
        both.leverage_  # noqa: B018


# -- queries in dask collections -------------------------------------------------------------
@pytest.mark.parametrize("where", ["rows in memory", "rows in partitions"])
@pytest.mark.parametrize(
    "name", ["transform", "dataset_influence", "relative_influence", "group_influence"]
)
def test_queries_in_partitions(name, where, local, sharded):
    explainer = local if where == "rows in memory" else sharded
    before = (np.arange(200) % 3,) if name == "group_influence" else ()
    actual = getattr(explainer, name)(*before, *lazy_queries)
    assert isinstance(actual, da.Array)
    close(actual, getattr(local, name)(*before, *queries))


@pytest.mark.parametrize("relative", [None, "loss", "parameters"])
@pytest.mark.parametrize("where", ["rows in memory", "rows in partitions"])
def test_top_influences_of_queries_in_partitions(where, relative, local, sharded):
    explainer = local if where == "rows in memory" else sharded
    options = {"k": 4, "by": "helpful", "relative": relative}
    actual, expected = (
        explainer.top_influences(*lazy_queries, **options),
        local.top_influences(*queries, **options),
    )
    assert_array_equal(actual.indices, expected.indices)
    close(actual.values, expected.values)


def test_weights_of_queries_in_partitions(local):
    weight = np.array([0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 3.0])  # none in the first partition
    expected = local.dataset_influence(*queries, sample_weight=weight)
    lazy = da.from_array(weight, chunks=4)
    close(local.dataset_influence(*lazy_queries, sample_weight=lazy), expected)
    with pytest.raises(ValueError, match="every sample_weight is zero"):
        local.dataset_influence(*lazy_queries, sample_weight=0 * lazy)


@pytest.mark.parametrize("where", ["rows in memory", "rows in partitions"])
@pytest.mark.parametrize("kind", ["array", "store", "tables"])
def test_queries_in_partitions_into_a_store(where, kind, local, sharded, tmp_path, monkeypatch):
    explainer = local if where == "rows in memory" else sharded
    out = np.empty((7, 200)) if kind == "array" else tmp_path / "s.zarr"
    given = lazy_queries
    if kind == "tables":
        given = dd.from_pandas(pd.DataFrame(X[:7]), npartitions=2), lazy_queries[1]
    monkeypatch.setattr("skinfluence._shard_queries.block_length", lambda *args, **share: 2)
    monkeypatch.setattr("skinfluence._out.CHUNK", 2 * 200)
    store = explainer.transform(*given, out=out)
    close(store[:], local.transform(*queries))
    if kind == "store":
        assert zarr.open_array(out).attrs["queries_done"] == 7
        close(explainer.transform(*lazy_queries, out=out)[:], store[:])
        with pytest.raises(ValueError, match="another fit, method or set of queries"):
            explainer.transform(lazy_queries[0] + 1, lazy_queries[1], out=out)


def test_a_scalar_target_needs_its_queries_together():
    explainer = InfluenceExplainer(FrozenEstimator(MODEL), target=Mean(Probability())).fit(X, y)
    for name in ("transform", "top_influences", "dataset_influence", "relative_influence"):
        with pytest.raises(ValueError, match="a scalar target needs its queries in memory"):
            getattr(explainer, name)(*lazy_queries)


@pytest.mark.parametrize(
    "name",
    ["feature_influence", "label_influence", "counterfactual_labels", "added_influence"],
)
def test_other_methods_take_queries_in_memory(name, local):
    args = [
        lazy_queries[0] if arg is queries[0] else lazy_queries[1] if arg is queries[1] else arg
        for arg in REFUSED[name]
    ]
    with pytest.raises(TypeError, match="is a dask collection: compute it"):
        getattr(local, name)(*args)


# -- tables and sparse rows ------------------------------------------------------------------
def test_pipelines_on_named_columns():
    table = pd.DataFrame(X[:, :3], columns=["a", "b", "c"])
    table["kind"] = np.array(["x", "y", "z"])[np.arange(200) % 3]
    steps = make_column_transformer(
        (StandardScaler(), ["c", "a"]), (OneHotEncoder(), ["kind"]), remainder="passthrough"
    )
    labels = pd.Series(np.array(["no", "yes"])[y], name="label")
    model = make_pipeline(steps, LogisticRegression(class_weight="balanced")).fit(table, labels)
    options = {"preprocessing": "frozen"}
    local = InfluenceExplainer(FrozenEstimator(model), **options).fit(table, labels)
    frame = dd.from_pandas(table.assign(label=labels), npartitions=3)
    sharded = InfluenceExplainer(model, **options).fit(
        frame[["a", "b", "c", "kind"]], frame["label"]
    )
    some = table[:5], labels[:5]
    close(sharded.transform(*some), local.transform(*some))
    close(local.transform(dd.from_pandas(some[0], npartitions=2)), local.transform(some[0]))
    close(
        sharded.group_influence(frame["kind"], *some),
        local.group_influence(table["kind"], *some),
    )
    assert sharded.objective_.parameter_names == local.objective_.parameter_names
    with pytest.raises(ValueError, match="feature names"):
        sharded.transform(some[0].rename(columns={"a": "z"}), some[1])


def test_sparse_partitions():
    S = sparse.csr_array(np.where(X > 0, X, 0.0))
    model = LogisticRegression(class_weight="balanced").fit(S, y)
    local = InfluenceExplainer(FrozenEstimator(model)).fit(S, y)
    blocks = rows[0].map_blocks(lambda block: sparse.csr_array(np.where(block > 0, block, 0.0)))
    sharded = InfluenceExplainer(model).fit(blocks, rows[1])
    close(sharded.transform(S[:5], y[:5]), local.transform(S[:5], y[:5]))
    close(sharded.self_influence(), local.self_influence())
    close(
        sharded.group_influence(y % 2 + X[:, 0].astype(int), S[:5], y[:5]),
        local.group_influence(y % 2 + X[:, 0].astype(int), S[:5], y[:5]),
    )


# -- what else takes rows --------------------------------------------------------------------
unfitted = InfluenceExplainer(LogisticRegression())
CALLS = {
    "cross_val_score": lambda: cross_val_score(MODEL, *rows),
    "cross_validate": lambda: cross_validate(MODEL, *rows),
    "search": lambda: InfluenceSearchCV(MODEL, {"C": [1, 2]}).fit(*rows),
    "detector": lambda: mislabel.MislabelDetector(MODEL).fit(*rows),
    "cleaned classifier": lambda: mislabel.CleanedClassifier(MODEL).fit(*rows),
    "cleaned regressor": lambda: mislabel.CleanedRegressor(Ridge()).fit(*rows),
    "out_of_sample": lambda: mislabel.out_of_sample(MODEL, *rows),
    "hold_out": lambda: mislabel.hold_out(MODEL, *rows, None, mislabel.HoldOut()),
    "refit_in_folds": lambda: mislabel.refit_in_folds(MODEL, *rows),
    "leave-one-out display": lambda: inspection.LeaveOneOutDisplay.from_estimator(MODEL, *rows),
    "path display": lambda: inspection.InfluencePathDisplay.from_estimator(
        MODEL, *rows, param_name="C", param_range=[1, 2]
    ),
    "audit": lambda: audit_table(
        dd.from_pandas(pd.DataFrame(X).assign(label=y), npartitions=2), "label"
    ),
    "datamodeling": lambda: evaluation.linear_datamodeling_score(unfitted, *rows, *queries),
    "flipped labels": lambda: evaluation.flipped_label_score(unfitted, *rows),
    "left out": lambda: evaluation.leave_out_score(unfitted, 5, *rows, *queries),
    "brittleness": lambda: evaluation.brittleness(unfitted, *rows, X[:2]),
    "prediction loss": lambda: evaluation.prediction_loss(MODEL, *rows),
    "bagging": lambda: bagging_variance(RandomForestClassifier(2).fit(X, y), rows[0], 200),
    "value_rows": lambda: value_rows(MODEL, *rows, *queries),
    "selector": lambda: InfluenceSelector(MODEL).fit(*rows),
    "embedding": lambda: InfluenceEmbedding(unfitted).fit(*rows),
    "noise": lambda: EnsembleExplainer(unfitted, perturbation="noise").fit(*rows),
    "store": lambda: GradientStore(10).fit(InfluenceExplainer(MODEL).fit(*rows)),
    "two stages": lambda: MultiStageInfluence(MODEL, MODEL, shared="coef_").fit(*rows, *rows),
}


@pytest.mark.parametrize("call", CALLS)
def test_all_rows_at_once(call):
    with pytest.raises(
        TypeError, match="needs all (training )?rows at once|collections are for InfluenceExplainer"
    ):
        CALLS[call]()


def test_ensembles(local):
    members = [FrozenEstimator(MODEL), FrozenEstimator(LogisticRegression(C=0.1).fit(X, y))]
    explainer = InfluenceExplainer(LogisticRegression())
    expected = EnsembleExplainer(explainer, estimators=members).fit(X, y).transform(*queries)
    sharded = EnsembleExplainer(explainer, estimators=members).fit(*rows)
    close(sharded.transform(*queries), expected)


def test_displays_of_an_explainer_over_partitions(local, sharded):
    matplotlib.use("Agg")
    top = inspection.TopInfluenceDisplay.from_estimator(sharded, X[:1], y[:1])
    expected = inspection.TopInfluenceDisplay.from_estimator(local, X[:1], y[:1])
    close(top.values, expected.values)
    memorised = inspection.MemorizationDisplay.from_explainer(sharded)
    close(memorised.memorization, inspection.MemorizationDisplay.from_explainer(local).memorization)
    matplotlib.pyplot.close("all")
