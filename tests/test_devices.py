"""Nets on another device: what is made lies there, numbers come back, and are those of the CPU."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from torch import nn

from skinfluence import (
    EnsembleExplainer,
    GradientStore,
    InfluenceEmbedding,
    InfluenceExplainer,
    MultiStageInfluence,
)
from skinfluence.callbacks import TracInCheckpoint
from skinfluence.objectives import Net
from skinfluence.solvers import Direct, LiSSA
from skinfluence.targets import Functional

from .cases.nets import fitted
from .pretend_device import DEVICE, PretendTensor, at_device, devices

elsewhere = pytest.mark.parametrize("name", [name for name in devices() if name != "cpu"])


def moved(net, device):
    """A trained net on another device."""
    other = clone(net).set_params(device=str(device)).initialize()
    other.module_.load_state_dict(net.module_.state_dict())
    return other


def same_on(name, work, net, *data):
    """Assert that ``work(net, *data)`` gives the same numbers with the net on a device."""
    expected = work(FrozenEstimator(net), *data)
    with at_device(name) as (put, _):
        found = work(FrozenEstimator(moved(net, put.device)), *data)
    for ours, theirs in zip(found, expected, strict=True):
        assert isinstance(ours, np.ndarray)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8 * np.abs(theirs).max())


def everything(net, X, y, **options):
    """What an explainer says."""
    explainer = InfluenceExplainer(net, **options).fit(X, y)
    return [
        explainer.transform(X[:4], y[:4]),
        explainer.top_influences(X[:3], y[:3], k=3).values,
        explainer.dataset_influence(X[:4], y[:4]),
        explainer.self_influence(),
        explainer.group_influence([[0, 1], [3]], X[:2], y[:2]),
    ]


SOLVERS = {
    "direct": "direct",
    "primal": Direct(form="primal"),
    "hessian": Direct(damping=1.0, curvature="hessian"),
    "fisher": Direct(damping=1.0, curvature="fisher"),
    "empirical": Direct(damping=1.0, curvature="empirical_fisher"),
    "leverage": Direct(damping="leverage"),
    "lissa": LiSSA(max_iter=5),
} | {
    name: name
    for name in (
        "cg",
        "kfac",
        "ekfac",
        "diagonal",
        "arnoldi",
        "lanczos",
        "nystrom",
        "datainf",
        "identity",
    )
}


@elsewhere
@pytest.mark.filterwarnings("ignore::UserWarning")  # LiSSA's few steps
@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers(solver, name):
    net, X, y = fitted("dense", n=12)
    same_on(name, lambda *a: everything(*a, method="influence", solver=SOLVERS[solver]), net, X, y)


@elsewhere
@pytest.mark.parametrize("case", ["image", "signal", "words", "regression", "binary"])
def test_modules(case, name):
    net, X, y = fitted(case, n=12)
    same_on(name, lambda *a: everything(*a, method="influence", solver="ekfac"), net, X, y)


@elsewhere
@pytest.mark.parametrize("method", ["infinitesimal_jackknife", "newton", "second_order"])
def test_methods(method, name):
    net, X, y = fitted("dense", n=12)

    def work(net, X, y):
        hessian = method == "second_order"  # it expands the Hessian
        solver = Direct(damping=1.0, curvature="hessian") if hessian else "direct"
        explainer = InfluenceExplainer(net, method=method, solver=solver).fit(X, y)
        groups = explainer.group_influence([[0, 1], [3]], X[:2], y[:2])
        if method == "second_order":
            return [groups]
        return [groups, explainer.transform(X[:3], y[:3]), explainer.parameter_influence([0, 1])]

    same_on(name, work, net, X, y)


@elsewhere
@pytest.mark.parametrize(
    "target",
    ["decision", "proba", "log_odds", Functional(lambda P: (P**2).sum(), of="outputs")],
    ids=["decision", "proba", "log_odds", "functional"],
)
def test_targets(target, name):
    net, X, y = fitted("dense", n=12)

    def work(net, X, y):
        out = []
        for method in ("influence", "infinitesimal_jackknife"):
            explainer = InfluenceExplainer(net, method=method, solver="direct", target=target)
            out.append(explainer.fit(X, y).transform(X[:3]))
        return out

    same_on(name, work, net, X, y)


@elsewhere
def test_other_results(name):
    net, X, y = fitted("dense", n=12, criterion__weight=torch.tensor([1.0, 2.0, 3.0]).double())

    def work(net, X, y):
        explainer = InfluenceExplainer(net, solver="direct").fit(X, y)
        return [
            explainer.relative_influence(X[:3], y[:3]),
            explainer.row_norms(norm="parameters"),
        ]

    same_on(name, work, net, X, y)


@elsewhere
@pytest.mark.filterwarnings("ignore:the fit was not at its optimum")
@pytest.mark.parametrize("objective", ["last_layer", Net(parameters="last.*")], ids=str)
def test_other_objectives(objective, name):
    net, X, y = fitted("dense", n=12)
    same_on(name, lambda *a: everything(*a, objective=objective), net, X, y)


@elsewhere
def test_stores_and_embeddings(name, tmp_path):
    net, X, y = fitted("dense", n=12)

    def work(net, X, y):
        explainer = InfluenceExplainer(net, method="influence", solver="ekfac").fit(X, y)
        store = GradientStore(10, folder=tmp_path / "store").fit(explainer)
        opened = GradientStore.open(tmp_path / "store", explainer)
        embedding = InfluenceEmbedding(explainer, n_components=4).fit(X, y)
        products = embedding.transform(X[:3], y[:3]) @ embedding.embedding_.T
        return [store.transform(X[:3], y[:3]), opened.transform(X[:3], y[:3]), products]

    same_on(name, work, net, X, y)


@elsewhere
@pytest.mark.parametrize("perturbation", ["noise", "dropout", "bootstrap"])
def test_ensembles(perturbation, name):
    net, X, y = fitted("dense", n=12)

    def work(net, X, y):
        explainer = InfluenceExplainer(net, method="influence", solver="ekfac")
        options = {"perturbation": perturbation, "n_copies": 2, "random_state": 0}
        return [EnsembleExplainer(explainer, **options).fit(X, y).transform(X[:3], y[:3])]

    same_on(name, work, net, X, y)


@elsewhere
def test_checkpoints(name, tmp_path):
    def trained(device, folder):
        callback = TracInCheckpoint(epochs=5, folder=folder)
        net, X, y = fitted("dense", n=12, device=str(device), callbacks=[callback])
        explainer = InfluenceExplainer(FrozenEstimator(net), method="tracin").fit(X, y)
        return explainer.transform(X[:3], y[:3])

    for folder in (False, True):
        expected = trained("cpu", tmp_path / "cpu" if folder else None)
        with at_device(name) as (put, _):
            found = trained(put.device, tmp_path / "device" if folder else None)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


@elsewhere
def test_stages_of_training(name):
    before, X, y = fitted("dense", n=12)
    after, X_fine, y_fine = fitted("dense", n=9, seed=1)
    after.module_.first.load_state_dict(before.module_.first.state_dict())

    def work(device):
        nets = [FrozenEstimator(net if device is None else moved(net, device)) for net in nets_]
        explainer = MultiStageInfluence(*nets, shared="first", solver="direct")
        explainer.fit(X, y, X_fine, y_fine)
        return explainer.transform(X_fine[:3], y_fine[:3])

    nets_ = (before, after)
    expected = work(None)
    with at_device(name) as (put, _):
        found = work(put.device)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


@elsewhere
def test_rows_of_nets_as_tensors(name):
    net, X, y = fitted("dense", n=12)
    options = {"method": "influence", "solver": "ekfac"}
    expected = InfluenceExplainer(FrozenEstimator(net), **options).fit(X, y)
    expected = expected.transform(X[:3], y[:3])
    with at_device(name) as (put, _):
        for near in (put, torch.as_tensor):
            explainer = InfluenceExplainer(FrozenEstimator(moved(net, put.device)), **options)
            found = explainer.fit(near(X), near(y)).transform(near(X[:3]), near(y[:3]))
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_pretended_device_keeps_to_the_rules():
    """What would be wrong on a GPU is wrong there, so that the tests above mean something."""
    with at_device("pretend") as (put, mode):
        a = put(np.eye(3))
        assert isinstance(a @ a, PretendTensor)
        assert (a + 1).device == torch.zeros(2, device=DEVICE).device == DEVICE
        wrong = [
            lambda: a.numpy(),
            lambda: np.asarray(a),
            lambda: np.exp(a),
            lambda: a + torch.ones(3),
            lambda: torch.cat([a, torch.ones(1, 3)]),
            lambda: torch.as_tensor(np.ones(3)) @ a,
            lambda: torch.where(a > 0, a, torch.zeros(3, 3)),
            lambda: torch.randn(3, generator=torch.Generator(), device=DEVICE),
            lambda: nn.Linear(3, 2).double()(a),
            lambda: torch.ones(3)[a.long()],
        ]
        for call in wrong:
            with pytest.raises((RuntimeError, TypeError)):
                call()
        part = torch.zeros(2, 2, device=DEVICE)
        part[:, 0] += torch.ones(())  # single numbers may come from the CPU, and indices
        part[torch.tensor([1])] += 1
        before = mode.n_copied
        assert part.cpu().tolist() == [[1.0, 0.0], [2.0, 1.0]]
        assert mode.n_copied == before + 4
