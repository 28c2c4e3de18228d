"""Embeddings: inner products are influences, neighbours are the largest of them."""

import sys
import types

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.svm import SVC, LinearSVC

from skinfluence import InfluenceEmbedding, InfluenceExplainer
from skinfluence.solvers import EKFAC, KFAC, Arnoldi, Direct, Lanczos, Nystrom
from tests.cases.nets import fitted

IRIS, SPECIES = load_iris(return_X_y=True)
IRIS = scale(IRIS)
TABLE, RESPONSE = load_diabetes(return_X_y=True)
WIDE = np.random.default_rng(0).normal(size=(40, 90))
SIDES = (WIDE[:, 0] > 0).astype(int)
WEIGHT = np.random.default_rng(1).random(150)

MODELS = {
    "ridge": (Ridge(0.1), TABLE, RESPONSE, None),
    "two outputs": (Ridge(0.1), TABLE, np.column_stack([RESPONSE, RESPONSE**2]), None),
    "collinear": (LinearRegression(), np.hstack([TABLE, TABLE[:, :1]]), RESPONSE, None),
    "softmax": (LogisticRegression(), IRIS, SPECIES, WEIGHT),
    "balanced": (LogisticRegression(class_weight="balanced"), IRIS, SPECIES, None),
    "wide": (LogisticRegression(), WIDE, SIDES, None),
    "wide, penalised": (LogisticRegression(fit_intercept=False), WIDE, SIDES, None),
    "wide softmax": (LogisticRegression(C=0.1), WIDE[:30], np.arange(30) % 3, None),
    "one vs rest": (OneVsRestClassifier(LogisticRegression()), IRIS, SPECIES, None),
    "active set": (Lasso(0.1), TABLE, RESPONSE, None),
    "followed pipeline": (make_pipeline(StandardScaler(), Ridge()), TABLE, RESPONSE, None),
}


def explained(model, **options):
    return InfluenceExplainer(model, method="influence", **options)


@pytest.mark.filterwarnings("ignore:the columns of X are linearly dependent")
@pytest.mark.parametrize("name", MODELS)
def test_products_are_influences_and_neighbours_the_top(name):
    model, X, y, weight = MODELS[name]
    embedding = InfluenceEmbedding(explained(model), index="sklearn").fit(X, y, weight)
    Xq, yq = X[::9], y[::9]
    influence = embedding.explainer_.transform(Xq, yq)
    products = embedding.transform(Xq, yq) @ embedding.embedding_.T
    np.testing.assert_allclose(products, influence, atol=1e-12 * np.abs(influence).max())
    for by in ("magnitude", "helpful", "harmful"):
        ours = embedding.top_influences(Xq, yq, k=5, by=by)
        top = embedding.explainer_.top_influences(Xq, yq, k=5, by=by)
        np.testing.assert_array_equal(ours.indices, top.indices)
        np.testing.assert_allclose(ours.values, top.values, rtol=1e-9)


@pytest.mark.parametrize(
    "solver",
    [
        "identity",
        "diagonal",
        Arnoldi(rank=10, n_iter=15),
        Lanczos(rank=5, n_iter=12),
        Nystrom(rank=5),
        Direct(damping=0.3),
    ],
    ids=str,
)
def test_every_root_is_of_what_the_solver_inverts(solver):
    embedding = InfluenceEmbedding(explained(LogisticRegression(), solver=solver))
    embedding.fit(IRIS, SPECIES)
    influence = embedding.explainer_.transform(IRIS[::9], SPECIES[::9])
    products = embedding.transform(IRIS[::9], SPECIES[::9]) @ embedding.embedding_.T
    np.testing.assert_allclose(products, influence, atol=1e-12 * np.abs(influence).max())
    np.testing.assert_allclose(
        embedding.explainer_.row_norms(), np.linalg.norm(embedding.embedding_, axis=1), rtol=1e-9
    )


@pytest.mark.parametrize("name", ["dense", "image", "signal", "words", "tied", "regression"])
@pytest.mark.parametrize("solver", [Direct(), Direct(form="dual"), EKFAC(), KFAC()], ids=str)
def test_nets(name, solver):
    net, X, y = fitted(name)
    embedding = InfluenceEmbedding(explained(FrozenEstimator(net), solver=solver)).fit(X, y)
    influence = embedding.explainer_.transform(X[::5], y[::5])
    products = embedding.transform(X[::5], y[::5]) @ embedding.embedding_.T
    np.testing.assert_allclose(products, influence, atol=1e-10 * np.abs(influence).max())


def test_net_hessian_in_its_eigenbasis():
    net, X, y = fitted("dense")
    solver = Direct(curvature="hessian", damping=10.0)
    embedding = InfluenceEmbedding(explained(FrozenEstimator(net), solver=solver)).fit(X, y)
    influence = embedding.explainer_.transform(X[:3], y[:3])
    products = embedding.transform(X[:3], y[:3]) @ embedding.embedding_.T
    np.testing.assert_allclose(products, influence, atol=1e-12 * np.abs(influence).max())


@pytest.mark.parametrize("name", ["softmax", "wide"])
def test_fewer_components_are_the_best_approximation(name):
    model, X, y, _ = MODELS[name]
    whole = InfluenceEmbedding(explained(model)).fit(X, y)
    part = InfluenceEmbedding(explained(model), n_components=4).fit(X, y)
    singular = np.linalg.svd(whole.embedding_, compute_uv=False)
    kernel = whole.embedding_ @ whole.embedding_.T
    left = np.linalg.norm(kernel - part.embedding_ @ part.embedding_.T, 2)
    np.testing.assert_allclose(left, singular[4] ** 2, rtol=1e-8)  # Eckart and Young
    np.testing.assert_allclose(
        part.explained_ratio_, (singular[:4] ** 2).sum() / (singular**2).sum(), rtol=1e-10
    )
    np.testing.assert_allclose(part.components_ @ part.components_.T, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(
        part.transform(X[:3], y[:3]), whole.transform(X[:3], y[:3]) @ part.components_.T, rtol=1e-9
    )


class FlatIP:
    """What is used of faiss.IndexFlatIP, by numpy."""

    def __init__(self, d):
        self.d = d

    def add(self, rows):
        assert rows.dtype == np.float32 and rows.shape[1] == self.d
        self.rows = rows

    def search(self, Q, k):
        order = np.argsort(-(Q @ self.rows.T), axis=1)[:, :k]
        return None, order


def test_faiss_finds_candidates(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", types.SimpleNamespace(IndexFlatIP=FlatIP))
    embedding = InfluenceEmbedding(explained(LogisticRegression())).fit(IRIS, SPECIES)
    plain = clone(embedding).set_params(index="sklearn").fit(IRIS, SPECIES)
    ours, theirs = (e.top_influences(IRIS[::9], SPECIES[::9], k=4) for e in (embedding, plain))
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_array_equal(ours.values, theirs.values)  # in double precision


def test_repeated_rows_keep_their_places():
    X, y = np.tile(IRIS[::10], (3, 1)), np.tile(SPECIES[::10], 3)
    embedding = InfluenceEmbedding(explained(LogisticRegression())).fit(X, y)
    top = embedding.top_influences(X[:4], y[:4], k=len(y))
    assert all(len(set(row)) == len(y) for row in top.indices.tolist())


def test_names_and_frames():
    embedding = InfluenceEmbedding(explained(Ridge())).set_output(transform="pandas")
    frame = embedding.fit(TABLE, RESPONSE).transform(TABLE[:2], RESPONSE[:2])
    assert frame.columns[0] == "influence0" and frame.shape == (2, 11)


def test_refusals(monkeypatch):
    with pytest.raises(ValueError, match="use method='influence'"):
        InfluenceEmbedding(InfluenceExplainer(Ridge())).fit(TABLE, RESPONSE)
    for solver in ("cg", "lissa", "datainf"):
        with pytest.raises(TypeError, match="has no square root"):
            InfluenceEmbedding(explained(Ridge(), solver=solver)).fit(TABLE, RESPONSE)
    with pytest.raises(TypeError, match="System has no square root"):
        InfluenceEmbedding(explained(SVC(gamma="auto"))).fit(IRIS, SPECIES)
    hinge = LinearSVC(loss="hinge", max_iter=100_000)
    with pytest.raises(TypeError, match="pinned rows"):
        InfluenceEmbedding(explained(hinge)).fit(IRIS, SPECIES > 0)
    with pytest.raises(ValueError, match="n_components=12"):
        InfluenceEmbedding(explained(Ridge()), 12).fit(TABLE, RESPONSE)
    with pytest.raises(ValueError, match="index='annoy'"):
        InfluenceEmbedding(explained(Ridge()), index="annoy").fit(TABLE, RESPONSE)
    embedding = InfluenceEmbedding(explained(Ridge()), index="faiss").fit(TABLE, RESPONSE)
    with pytest.raises(ValueError, match="k=0"):
        embedding.top_influences(TABLE[:2], RESPONSE[:2], k=0)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        embedding.top_influences(TABLE[:2], RESPONSE[:2])
    net, X, y = fitted("image")
    solver = Direct(curvature="hessian", damping=1e-6)
    with pytest.raises(ValueError, match="use curvature='gauss_newton'"):
        InfluenceEmbedding(explained(FrozenEstimator(net), solver=solver)).fit(X, y)
    kept = Arnoldi(rank=50, n_iter=332, drop_negative=False, damping=1e-6)
    with pytest.raises(ValueError, match="drop_negative=True"):
        InfluenceEmbedding(explained(FrozenEstimator(net), solver=kept)).fit(X, y)
