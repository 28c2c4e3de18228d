"""The store of projected gradients: exact without projection, the same from disk."""

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.datasets import load_digits
from sklearn.linear_model import Lasso, LogisticRegression
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import GradientStore, InfluenceExplainer
from skinfluence.store import Projection

X, Y = load_digits(return_X_y=True)
X = X[:300] / 16
Y = Y[:300]
TEST = X[::20], Y[::20]


@pytest.fixture(scope="module")
def linear():
    return InfluenceExplainer(LogisticRegression(), method="influence").fit(X, Y)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 10)).double(),
        criterion=nn.CrossEntropyLoss,
        optimizer__weight_decay=1e-2,
        lr=0.5,
        max_epochs=30,
        train_split=None,
        verbose=0,
    )
    return InfluenceExplainer(net, method="influence", solver="identity").fit(X, Y)


def damped_dense(explainer, damping):
    """``Q (C + λI)⁻¹ G'`` with dense matrices."""
    objective = explainer.objective_
    target = explainer.effects_.bind_target(_loss(), *_queries(explainer))
    p = objective.n_params
    C = getattr(objective, "gauss_newton_product", objective.hessian_product)(np.eye(p))
    G = objective.removal_gradients().block(slice(None))
    return target.pullback() @ np.linalg.solve(C + damping * np.eye(p), G.T)


def _loss():
    from skinfluence.targets import Loss

    return Loss()


def _queries(explainer):
    return explainer._check_queries(*TEST)


@pytest.mark.parametrize("kind", ["linear", "net"])
def test_without_projection_the_store_is_the_damped_inverse(kind, request):
    explainer = request.getfixturevalue(kind)
    store = GradientStore(n_components=10_000, damping=0.3).fit(explainer)
    assert store.n_components_ == explainer.objective_.n_params
    expected = damped_dense(explainer, 0.3)
    # float32 gradients in the store
    np.testing.assert_allclose(
        store.transform(*TEST), expected, rtol=1e-4, atol=1e-5 * abs(expected).max()
    )
    moved = store.with_damping(2.0).transform(*TEST)
    expected = damped_dense(explainer, 2.0)
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("kind", ["linear", "net"])
def test_projection_is_orthonormal_and_block_diagonal(kind, request):
    objective = request.getfixturevalue(kind).objective_
    projection = Projection(objective, 50, 0)
    P = projection.lift(np.eye(projection.n_components)).T
    np.testing.assert_allclose(P.T @ P, np.eye(projection.n_components), atol=1e-12)
    G = np.random.default_rng(0).standard_normal((4, objective.n_params))
    np.testing.assert_allclose(projection(G), G @ P, atol=1e-12)
    # 50 at most a layer; two layers of a net
    assert 30 <= projection.n_components <= (50 if kind == "linear" else 100)


@pytest.mark.parametrize("kind", ["linear", "net"])
def test_projected_influence_is_the_formula(kind, request):
    explainer = request.getfixturevalue(kind)
    objective = explainer.objective_
    store = GradientStore(n_components=60, damping=0.5).fit(explainer)
    P = store._projection.lift(np.eye(store.n_components_)).T
    C = getattr(objective, "gauss_newton_product", objective.hessian_product)(P)
    Q = explainer.effects_.bind_target(_loss(), *_queries(explainer)).pullback() @ P
    G = objective.removal_gradients().block(slice(None)) @ P
    expected = Q @ np.linalg.solve(P.T @ C + 0.5 * np.eye(len(Q.T)), G.T)
    np.testing.assert_allclose(
        store.transform(*TEST), expected, rtol=1e-4, atol=1e-5 * abs(expected).max()
    )


def test_more_components_come_closer(net):
    exact = damped_dense(net, 1.0)
    errors = []
    for k in (16, 64, 256, 1024):
        values = GradientStore(n_components=k, damping=1.0).fit(net).transform(*TEST)
        errors.append(np.linalg.norm(values - exact) / np.linalg.norm(exact))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-5


def test_folder_round_trip(net, tmp_path):
    plain = GradientStore(n_components=40).fit(net)
    kept = GradientStore(n_components=40, folder=tmp_path / "store").fit(net)
    opened = GradientStore.open(tmp_path / "store", net)
    assert isinstance(opened.gradients_, np.memmap)
    for store in (kept, opened):
        np.testing.assert_array_equal(store.transform(*TEST), plain.transform(*TEST))
    other = InfluenceExplainer(LogisticRegression(), method="influence").fit(X, Y)
    with pytest.raises(ValueError, match="made with other parameters"):
        GradientStore.open(tmp_path / "store", other)
    with pytest.raises(ValueError, match="holds no gradient store"):
        GradientStore.open(tmp_path, net)


@pytest.mark.parametrize("by", ["magnitude", "helpful", "harmful"])
def test_top_influences_are_those_of_transform(net, by):
    store = GradientStore(n_components=40).fit(net)
    full = store.transform(*TEST)
    with config_context(working_memory=0.05):
        top = store.top_influences(*TEST, k=5, by=by)
    keys = {"magnitude": -np.abs(full), "helpful": -full, "harmful": full}[by]
    order = np.argsort(keys, axis=1)[:, :5]
    np.testing.assert_array_equal(top.indices, order)
    np.testing.assert_allclose(top.values, np.take_along_axis(full, order, axis=1), rtol=1e-5)


def test_batches_do_not_matter(net):
    store = GradientStore(n_components=40).fit(net)
    with config_context(working_memory=2):
        small = GradientStore(n_components=40).fit(net)
        values = small.transform(*TEST)
    np.testing.assert_allclose(values, store.transform(*TEST), rtol=1e-4, atol=1e-9)


def test_refusals(linear, net, tmp_path):
    with pytest.raises(ValueError, match="n_components=0"):
        GradientStore(n_components=0).fit(linear)
    with pytest.raises(TypeError, match="GradientStore inverts the whole Hessian"):
        lasso = InfluenceExplainer(Lasso(alpha=0.1), method="influence").fit(X, Y * 1.0)
        GradientStore().fit(lasso)
    with pytest.raises(ValueError, match="integer random_state"):
        GradientStore(40, folder=tmp_path, random_state=None).fit(linear)
    store = GradientStore(40).fit(linear)
    with pytest.raises(ValueError, match="k=301"):
        store.top_influences(*TEST, k=301)
    with pytest.raises(ValueError, match="by='best'"):
        store.top_influences(*TEST, by="best")
    with pytest.raises(ValueError, match="not positive definite"):
        GradientStore(10_000, damping=0.0, curvature="hessian").fit(net)


def test_an_interrupted_store_does_not_read_as_whole(linear, tmp_path, monkeypatch):
    store = GradientStore(n_components=20, folder=tmp_path)
    store.fit(linear)
    GradientStore.open(tmp_path, linear)
    whole, calls = Projection.__call__, []

    def interrupted(self, G):
        calls.append(len(G))
        if len(calls) == 40:
            raise KeyboardInterrupt
        return whole(self, G)

    monkeypatch.setattr(Projection, "__call__", interrupted)
    with config_context(working_memory=0.1), pytest.raises(KeyboardInterrupt):
        GradientStore(n_components=20, folder=tmp_path).fit(linear)
    with pytest.raises(ValueError, match="holds no gradient store"):
        GradientStore.open(tmp_path, linear)
