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
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, make_classification
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from skinfluence import EnsembleExplainer, InfluenceExplainer

from .test_common import CASES

SAVED = [case for case in CASES if "net" not in case.name]  # nets: tests/test_net_archive.py
TESTS = ["tests.reference_fits.TightHuber", "tests.cases.kernel.laplacian"]


def round_trip(explainer, path, trusted=()):
    explainer.save(path)
    return type(explainer).load(path, trusted=trusted)


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


@pytest.mark.parametrize(
    ("node", "match"),
    [
        ({"call": "os:system", "args": ["true"], "state": None}, "the archive uses os.system"),
        ({"call": "builtins:eval", "args": ["1"], "state": None}, "the archive uses builtins.eval"),
        ({"name": "skinfluence._archive:os.system"}, "defined elsewhere"),
        ({"call": "sklearn.datasets:load_iris", "args": [], "state": None}, "defined elsewhere"),
        (
            {"call": "sklearn.datasets._base:load_iris", "args": [], "state": None},
            "which is no class",
        ),
        ({"object": "numpy:memmap", "args": ["x", "f8", "w+"], "state": None}, "numpy.memmap"),
        ({"object": "sklearn.base:clone", "args": [], "state": None}, "which is no class"),
        ({"pickle": "..."}, "unknown entry"),
    ],
)
def test_hostile_archives_build_nothing(node, match, fitted, tmp_path):
    path = tmp_path / "a.influence"
    fitted[0].save(path)
    with zipfile.ZipFile(path) as archive:
        manifest = archive.read("manifest.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", manifest)
        archive.writestr("objects.json", json.dumps({"id": 0} | node))
    with pytest.raises(ValueError, match=match):
        InfluenceExplainer.load(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.influence"]


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
