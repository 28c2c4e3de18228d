"""Archives of fitted explainers: the same numbers, no code, refusals."""

import io
import json
import pickle
import zipfile

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from numpy.testing import assert_array_equal
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, make_classification
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.feature_selection import SelectFromModel, SelectKBest, f_regression
from sklearn.impute import KNNImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import make_scorer, max_error
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    SplineTransformer,
    StandardScaler,
)

from skinfluence import EnsembleExplainer, InfluenceExplainer

from .test_common import CASES

SAVED = [case for case in CASES if "net" not in case.name]  # nets: tests/test_net_archive.py
TESTS = ["tests.reference_fits.TightHuber", "tests.cases.kernel.laplacian"]


def round_trip(explainer, path, trusted=()):
    explainer.save(path)
    return type(explainer).load(path, trusted=trusted)


def first_columns(estimator):
    return np.arange(estimator.n_features_in_, 0, -1)


@pytest.fixture(scope="module")
def fitted():
    X, y = load_diabetes(return_X_y=True)
    return InfluenceExplainer(Ridge()).fit(X[:100], y[:100]), X[100:110], y[100:110]


@pytest.mark.parametrize("case", SAVED, ids=str)
def test_same_numbers(case, tmp_path):
    explainer = InfluenceExplainer(case.estimator)
    explainer.fit(case.X, case.y, case.sample_weight)
    loaded = round_trip(explainer, tmp_path / "a.influence", TESTS)
    assert_array_equal(
        loaded.transform(case.X[:3], case.y[:3]), explainer.transform(case.X[:3], case.y[:3])
    )


@pytest.mark.parametrize("method", ["influence", "newton", "exact"])
def test_tables_and_pipelines(method, tmp_path):
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X = X.iloc[:150, :5].assign(kind=np.where(np.arange(150) % 3, "a", "b"))
    X.index = [f"patient {i}" for i in range(150)]
    columns = make_column_transformer((OneHotEncoder(), ["kind"]), remainder=StandardScaler())
    model = make_pipeline(columns, LogisticRegression())
    explainer = InfluenceExplainer(model, method=method).fit(X, y[:150])
    loaded = round_trip(explainer, tmp_path / "a.influence")
    assert_array_equal(loaded.transform(X[:3], y[:3]), explainer.transform(X[:3], y[:3]))
    assert loaded.get_feature_names_out()[0] == "patient 0"


@pytest.mark.parametrize(
    "step",
    [
        FunctionTransformer(np.log1p),
        FunctionTransformer(np.clip, kw_args={"a_min": 0.1, "a_max": 3.0}),
        SplineTransformer(),
        SelectKBest(f_regression, k=2),
        Nystroem(n_components=5, random_state=np.random.RandomState(0)),
        KNNImputer(),
        KMeans(3, n_init=1, random_state=0),
        SelectFromModel(HistGradientBoostingRegressor(max_iter=3), importance_getter=first_columns),
        SelectFromModel(RandomForestRegressor(3, random_state=0)),
        KBinsDiscretizer(3, strategy="uniform"),
    ],
    ids=lambda step: type(step).__name__,
)
def test_frozen_steps(step, tmp_path):
    """What their fitted attributes are made of may be named."""
    X, y = load_diabetes(return_X_y=True)
    X = np.abs(X[:80, :4])
    model = make_pipeline(step, Ridge())
    explainer = InfluenceExplainer(model, preprocessing="frozen").fit(X, y[:80])
    loaded = round_trip(explainer, tmp_path / "a.influence", [f"{__name__}.first_columns"])
    assert_array_equal(loaded.transform(X[:3], y[:3]), explainer.transform(X[:3], y[:3]))


def test_search(tmp_path):
    X, y = load_diabetes(return_X_y=True)
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, scoring=make_scorer(max_error))
    explainer = InfluenceExplainer(search).fit(X[:60], y[:60])
    loaded = round_trip(explainer, tmp_path / "a.influence")
    assert_array_equal(loaded.transform(X[:3], y[:3]), explainer.transform(X[:3], y[:3]))
    tried, kept = (e.estimator_.cv_results_["param_alpha"] for e in (loaded, explainer))
    assert_array_equal(tried, kept)
    assert_array_equal(tried.mask, kept.mask)


def test_ensemble(tmp_path):
    X, y = load_diabetes(return_X_y=True)
    explainer = EnsembleExplainer(
        InfluenceExplainer(Ridge()), estimators=[Ridge(alpha=1), Ridge(alpha=2)]
    ).fit(X, y)
    loaded = round_trip(explainer, tmp_path / "a.influence")
    assert_array_equal(loaded.transform(X[:3], y[:3]), explainer.transform(X[:3], y[:3]))


@pytest.mark.parametrize("copy", ["pickle", "joblib", "skops"])
def test_other_round_trips(copy, fitted):
    explainer, X, y = fitted
    buffer = io.BytesIO()
    if copy == "pickle":
        loaded = pickle.loads(pickle.dumps(explainer))
    elif copy == "joblib":
        joblib.dump(explainer, buffer)
        loaded = joblib.load(buffer)
    else:
        data = skops.io.dumps(explainer)
        loaded = skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
    assert_array_equal(loaded.transform(X, y), explainer.transform(X, y))


def test_holds_no_pickled_code(fitted, tmp_path):
    fitted[0].save(tmp_path / "a.influence")
    with zipfile.ZipFile(tmp_path / "a.influence") as archive:
        names = archive.namelist()
        assert {name.rsplit(".")[-1] for name in names} == {"json", "npy"}
        for name in names:
            if name.endswith(".npy"):
                np.load(io.BytesIO(archive.read(name)), allow_pickle=False)


def rewrite_manifest(path, **changes):
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(contents["manifest.json"]) | changes
    contents["manifest.json"] = json.dumps(manifest)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def test_newer_format_is_refused(fitted, tmp_path):
    path = tmp_path / "a.influence"
    fitted[0].save(path)
    rewrite_manifest(path, format=2, skinfluence="9.0")
    with pytest.raises(ValueError, match="made by skinfluence 9.0.*upgrade"):
        InfluenceExplainer.load(path)


def write_archive(path, fitted, node):
    """An archive of this node alone."""
    fitted.save(path)
    with zipfile.ZipFile(path) as archive:
        manifest = archive.read("manifest.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", manifest)
        archive.writestr("objects.json", json.dumps({"id": 0} | node))


def call(name, *args, **state):
    return {"id": 1, "call": name, "args": list(args), "state": given(state) if state else None}


def made(name, **state):
    return {"id": 2, "object": name, "args": [], "state": given(state)}


def given(state):
    return {"id": 3, "dict": [[name, value] for name, value in state.items()]}


def function(name):
    return {"id": 4, "name": name}


def bound(name, of):
    return {"id": 5, "method": name, "of": of}


def later(func, *args):
    return {"id": 6, "partial": [func, {"id": 7, "tuple": list(args)}, {"id": 8, "dict": []}]}


RIDGE, KERNEL = "sklearn.linear_model._ridge:Ridge", "sklearn.gaussian_process.kernels:RBF"
OBJECTIVE = "skinfluence.objectives.linear:LinearObjective"
HOLDS = function("numpy:mean")


@pytest.mark.parametrize(
    ("node", "match"),
    [
        # functions and classes that are not of those that compute
        (call("os:system", "touch victim"), "the archive uses os.system"),
        (call("builtins:eval", "1"), "the archive uses builtins.eval"),
        (function("skinfluence._archive:os.system"), "the archive uses skinfluence._archive.os"),
        (function("skinfluence.objectives.base:np.save"), "defined elsewhere"),
        (function("numpy:random"), "defined elsewhere"),
        (function("numpy:f2py.run_main"), "defined elsewhere"),
        (function("numpy:save"), "the archive uses numpy.save"),
        (function("numpy:fromfile"), "the archive uses numpy.fromfile"),
        (function("numpy:frompyfunc"), "the archive uses numpy.frompyfunc"),
        (function("numpy.f2py.__main__:main"), "the archive uses numpy.f2py"),
        (function("numpy.testing._private.utils:runstring"), "uses numpy.testing"),
        (function("numpy.ctypeslib._ctypeslib:load_library"), "uses numpy.ctypeslib"),
        (function("numpy.random._examples.cffi.parse:parse_distributions_h"), "numpy.random._ex"),
        (function("sklearn.tree._export:export_graphviz"), "uses sklearn.tree._export"),
        (function("sklearn.linear_model.tests.test_ridge:test_ridge"), "linear_model.tests"),
        (function("sklearn.externals.array_api_compat:array_namespace"), "sklearn.externals"),
        (function("skinfluence.explainer:InfluenceExplainer.save"), "InfluenceExplainer.save"),
        (function("skinfluence._objects:Decoder"), "the archive uses skinfluence._objects"),
        (function("joblib.numpy_pickle:load"), "the archive uses joblib"),
        (call("sklearn.datasets:load_iris"), "the archive uses sklearn.datasets"),
        (call("sklearn.datasets._base:load_iris"), "the archive uses sklearn.datasets"),
        (call("sklearn.utils._testing:TempMemmap"), "the archive uses sklearn.utils._testing"),
        (call("scipy.io._netcdf:netcdf_file", "victim", "w"), "the archive uses scipy.io"),
        (call("scipy.stats._distn_infrastructure:rv_continuous"), "the archive uses scipy.stats"),
        (call("numpy:memmap", "victim", "f8", "w+"), "the archive uses numpy.memmap"),
        (made("numpy:memmap"), "the archive uses numpy.memmap"),
        (made("sklearn.base:clone"), "the archive uses sklearn.base.clone"),
        (made("sklearn.metrics._ranking:auc"), "which is no class"),
        (made("skinfluence.objectives.mlp_source:MlpSource"), "which is no class of data"),
        (call(RIDGE, 1.0), "which makes no object anew"),
        (call("sklearn.metrics._ranking:auc", 1), "which makes no object anew"),
        (call("operator:attrgetter", "f.__globals__"), "reads the attributes"),
        # properties and methods that are run, or replaced, in reading
        (
            bound("theta", made(KERNEL, get_params=later(HOLDS, "touch victim"))),
            "the archive sets 'get_params' of a RBF",
        ),
        (bound("theta", made(KERNEL, length_scale=1)), "the archive uses theta of a"),
        (bound("n_params", made(OBJECTIVE, x=1)), "the archive uses n_params of a"),
        (bound("save", made("skinfluence.explainer:InfluenceExplainer")), "uses save of a"),
        (bound("load", function("skinfluence.explainer:InfluenceExplainer")), "uses load of a"),
        (bound("system", {"id": 9, "list": []}), "uses system of a builtins.list"),
        (made(RIDGE, fit=HOLDS), "the archive sets 'fit' of a Ridge"),
        (made(RIDGE, __class__=HOLDS), "the archive sets '__class__'"),
        (made(RIDGE, __sklearn_clone__=HOLDS), "the archive sets '__sklearn_clone__'"),
        (made(OBJECTIVE, __dict__=given({})), "the archive sets '__dict__'"),
        (made(KERNEL, theta=3), "the archive sets 'theta'"),
        (made(OBJECTIVE, hessian=3), "the archive sets 'hessian'"),
        (later(made(KERNEL, length_scale=1), 1), "the archive calls a RBF"),
        ({"pickle": "..."}, "unknown entry"),
        (given({"a": 1}), "it holds a dict"),
    ],
)
def test_hostile_archives_build_nothing(node, match, fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_archive("a.influence", fitted[0], node)
    (tmp_path / "victim").write_text("precious")
    with pytest.raises(ValueError, match=match):
        InfluenceExplainer.load("a.influence")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.influence", "victim"]
    assert (tmp_path / "victim").read_text() == "precious"


def test_wrong_class_is_refused(fitted, tmp_path):
    fitted[0].save(tmp_path / "a.influence")
    with pytest.raises(ValueError, match="use InfluenceExplainer.load"):
        EnsembleExplainer.load(tmp_path / "a.influence")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a", "b")
    for name in ("text", "zip"):
        with pytest.raises(ValueError, match="no archive of a skinfluence explainer"):
            InfluenceExplainer.load(tmp_path / name)


class Halve(StandardScaler):
    """A transformer of one's own."""


def test_foreign_types_are_named(tmp_path):
    X, y = make_classification(60, random_state=0)
    model = make_pipeline(Halve(), LogisticRegression())
    explainer = InfluenceExplainer(model, preprocessing="frozen").fit(X, y)
    explainer.save(tmp_path / "a.influence")
    with pytest.raises(ValueError, match="test_archive.Halve"):
        InfluenceExplainer.load(tmp_path / "a.influence")
    loaded = InfluenceExplainer.load(tmp_path / "a.influence", trusted=[f"{__name__}.Halve"])
    assert_array_equal(loaded.transform(X[:3], y[:3]), explainer.transform(X[:3], y[:3]))


def test_what_cannot_be_written_is_refused(tmp_path):
    X, y = make_classification(60, random_state=0)
    model = make_pipeline(FunctionTransformer(lambda X: X / 2), LogisticRegression())
    explainer = InfluenceExplainer(model).fit(X, y)
    with pytest.raises(TypeError, match="cannot be imported by its name"):
        explainer.save(tmp_path / "a.influence")
    assert list(tmp_path.iterdir()) == []


def test_frame_index(tmp_path):
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    X.index = pd.date_range("2020-01-01", periods=len(X))
    explainer = InfluenceExplainer(Ridge()).fit(X, y)
    loaded = round_trip(explainer, tmp_path / "a.influence")
    assert_array_equal(loaded.get_feature_names_out(), explainer.get_feature_names_out())
