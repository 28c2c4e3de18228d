"""Ensembles: the mean of their members, whatever the view."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Lasso, LogisticRegression, PoissonRegressor, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.svm import SVC
from skorch import NeuralNetClassifier
from skorch.dataset import ValidSplit
from torch import nn

from skinfluence import EnsembleExplainer, InfluenceExplainer
from tests.cases.nets import fitted

X, Y = load_iris(return_X_y=True)
X = scale(X)
STRENGTHS = [0.1, 1.0, 10.0]


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3))

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("method", ["influence", "newton"])
def test_every_view_is_the_mean_of_the_members(method):
    explainer = InfluenceExplainer(LogisticRegression(), method=method)
    models = [LogisticRegression(C=C) for C in STRENGTHS]
    ensemble = EnsembleExplainer(explainer, estimators=models).fit(X, Y)
    alone = [clone(explainer).set_params(estimator=model).fit(X, Y) for model in models]

    def mean(view):
        return np.mean([view(each) for each in alone], axis=0)

    views = [
        lambda e: e.transform(X[::9], Y[::9]),
        lambda e: e.dataset_influence(X[::9], Y[::9]),
        lambda e: e.self_influence(),
        lambda e: e.group_influence([[1, 2], [70]], X[::9], Y[::9]),
    ]
    for view in views:
        np.testing.assert_allclose(view(ensemble), mean(view), rtol=1e-12)
    full = mean(views[0])
    top = ensemble.top_influences(X[::9], Y[::9], k=4, by="harmful")
    np.testing.assert_allclose(top.values, np.sort(full, axis=1)[:, :4], rtol=1e-12)
    np.testing.assert_array_equal(top.indices, np.argsort(full, axis=1)[:, :4])
    assert ensemble.get_feature_names_out()[3] == "row_3"


def test_frozen_members_are_taken_as_they_are():
    models = [LogisticRegression(C=C).fit(X, Y) for C in STRENGTHS]
    explainer = InfluenceExplainer(LogisticRegression())
    ensemble = EnsembleExplainer(explainer, estimators=[FrozenEstimator(m) for m in models])
    members = ensemble.fit(X, Y).explainers_
    assert [member.estimator_.estimator for member in members] == models


def test_seeds_give_other_nets():
    net = NeuralNetClassifier(
        Small,
        criterion=nn.CrossEntropyLoss,
        optimizer__weight_decay=0.01,
        max_epochs=3,
        train_split=None,
        verbose=0,
    )
    rows = X.astype(np.float32)
    explainer = InfluenceExplainer(net, method="influence", solver="identity")
    ensemble = EnsembleExplainer(explainer, seeds=2).fit(rows, Y)
    weights = [e.estimator_.module_.layers[0].weight for e in ensemble.explainers_]
    assert not torch.equal(*weights)
    again = EnsembleExplainer(explainer, seeds=[1]).fit(rows, Y)
    assert torch.equal(again.explainers_[0].estimator_.module_.layers[0].weight, weights[1])


def test_seeds_set_random_states():
    model = LogisticRegression(solver="saga", random_state=5, max_iter=1000)
    ensemble = EnsembleExplainer(InfluenceExplainer(model), seeds=[3, 4]).fit(X, Y)
    assert [e.estimator_.random_state for e in ensemble.explainers_] == [3, 4]


def test_a_module_that_is_made_already_gives_no_other_nets():
    net = NeuralNetClassifier(Small(), criterion=nn.CrossEntropyLoss, train_split=None, verbose=0)
    with pytest.raises(ValueError, match="module that is made already"):
        EnsembleExplainer(InfluenceExplainer(net), seeds=2).fit(X, Y)


def test_refusals():
    explainer = InfluenceExplainer(LogisticRegression())
    with pytest.raises(ValueError, match="either estimators or seeds"):
        EnsembleExplainer(explainer).fit(X, Y)
    with pytest.raises(ValueError, match="at least one member"):
        EnsembleExplainer(explainer, estimators=[]).fit(X, Y)
    ensemble = EnsembleExplainer(explainer, seeds=1).fit(X, Y)
    with pytest.raises(ValueError, match="k=0"):
        ensemble.top_influences(X[:2], k=0)


# -- perturbed copies --------------------------------------------------------------------------
FREE = {"method": "influence", "solver": "identity"}


def views(ensemble, rows, y):
    return [
        ensemble.transform(rows[::9], y[::9]),
        ensemble.dataset_influence(rows[::9], y[::9]),
        ensemble.self_influence(),
        ensemble.group_influence([[1, 2], [20]], rows[::9], y[::9]),
    ]


@pytest.mark.parametrize("perturbation", ["noise", "bootstrap"])
def test_perturbed_views_agree_and_repeat(perturbation):
    explainer = InfluenceExplainer(LogisticRegression(), **FREE)
    options = {"perturbation": perturbation, "n_copies": 4}
    ensemble = EnsembleExplainer(explainer, random_state=0, **options).fit(X, Y)
    assert len(ensemble.explainers_) == 4
    full, mean, own, joint = views(ensemble, X, Y)
    np.testing.assert_allclose(full.mean(axis=0), mean, atol=1e-12)
    whole = ensemble.transform(X, Y)
    np.testing.assert_allclose(np.diag(whole), own, atol=1e-12)
    np.testing.assert_allclose(joint[:, 0], full[:, [1, 2]].sum(axis=1), atol=1e-12)
    np.testing.assert_allclose(joint[:, 1], full[:, 20], atol=1e-12)
    assert ensemble.get_feature_names_out()[3] == "row_3"
    again = EnsembleExplainer(explainer, random_state=0, **options).fit(X, Y)
    np.testing.assert_array_equal(again.transform(X, Y), whole)
    other = EnsembleExplainer(explainer, random_state=1, **options).fit(X, Y)
    assert np.abs(other.transform(X[:5], Y[:5]) - whole[:5]).max() > 1e-6


def softmax_gradients(theta, rows, y):
    """Gradients of the log losses, class-major, by hand."""
    A = np.column_stack([rows, np.ones(len(rows))])
    Z = A @ theta.reshape(3, -1).T
    P = np.exp(Z - Z.max(axis=1, keepdims=True))
    P /= P.sum(axis=1, keepdims=True)
    P[np.arange(len(y)), y] -= 1
    return (P[:, :, None] * A[:, None]).reshape(len(rows), -1)


@pytest.mark.parametrize("weighted", [False, True])
def test_noise_is_the_product_of_gradients_at_moved_parameters(weighted):
    C, weight = 0.5, np.random.default_rng(0).random(150) if weighted else None
    explainer = InfluenceExplainer(LogisticRegression(C=C), **FREE)
    ensemble = EnsembleExplainer(
        explainer, perturbation="noise", n_copies=3, scale=0.3, random_state=0
    ).fit(X, Y, weight)
    expected = 0.0
    base = clone(explainer).fit(X, Y, weight).objective_.theta
    sizes = np.sqrt((base.reshape(3, -1) ** 2).mean(axis=0))
    rng = np.random.RandomState(0)
    for member in ensemble.explainers_:
        noise = rng.standard_normal((3, 5)) * sizes * 0.3
        theta = (base.reshape(3, -1) + noise).ravel()
        np.testing.assert_allclose(member.objective_.theta, theta, rtol=1e-12)
        rows = softmax_gradients(theta, X, Y) * (C if weight is None else C * weight[:, None])
        expected = expected + softmax_gradients(theta, X[:4], Y[:4]) @ rows.T
    np.testing.assert_allclose(ensemble.transform(X[:4], Y[:4]), expected / 3, atol=1e-12)


def test_noise_keeps_the_rules_of_removal():
    """Balanced class weights: a row's removal gradient at other parameters, by differences."""
    model = LogisticRegression(class_weight="balanced")
    explainer = InfluenceExplainer(model, **FREE)
    ensemble = EnsembleExplainer(explainer, perturbation="noise", n_copies=1, random_state=0)
    keep = np.arange(20, 150)
    objective = ensemble.fit(X[keep], Y[keep]).explainers_[0].objective_
    theta, counts = objective.theta, np.bincount(Y[keep])
    G = softmax_gradients(theta, X[keep], Y[keep])

    def gradient(weight):
        sums = np.bincount(Y[keep], weight)
        balance = weight.sum() / (3 * sums)
        return (weight * balance[Y[keep]]) @ G

    one = np.ones(len(keep))
    assert objective.rule.balanced and counts.min() < counts.max()
    for i in (0, 60, 129):
        h = 1e-5 * (np.arange(len(keep)) == i)
        slope = (gradient(one + h) - gradient(one - h)) / 2e-5
        np.testing.assert_allclose(
            objective.removal_gradients().block(np.array([i]))[0], slope, atol=1e-8
        )


def test_noise_with_a_factorised_curvature():
    explainer = InfluenceExplainer(LogisticRegression(), method="influence")
    ensemble = EnsembleExplainer(explainer, perturbation="noise", n_copies=2, random_state=0)
    expected = 0.0
    for member in ensemble.fit(X, Y).explainers_:
        objective = member.objective_
        G = softmax_gradients(objective.theta, X, Y)
        expected = expected + G[:4] @ np.linalg.pinv(objective.hessian()) @ G.T
    np.testing.assert_allclose(ensemble.transform(X[:4], Y[:4]), expected / 2, rtol=1e-6)


def test_independent_outputs_move_part_by_part():
    explainer = InfluenceExplainer(OneVsRestClassifier(LogisticRegression()), **FREE)
    ensemble = EnsembleExplainer(explainer, perturbation="noise", n_copies=2, random_state=0)
    first, second = (member.objective_ for member in ensemble.fit(X, Y).explainers_)
    assert np.abs(first.theta - second.theta).min() > 0
    joined = np.concatenate([part.theta for part in first.parts])
    np.testing.assert_array_equal(first.theta, joined)


def test_bootstrap_counts_every_copy_of_a_row():
    explainer = InfluenceExplainer(LogisticRegression(tol=1e-10), method="influence")
    ensemble = EnsembleExplainer(explainer, perturbation="bootstrap", n_copies=3, random_state=0)
    ensemble.fit(X, Y)
    expected = 0.0
    for member in ensemble.explainers_:
        counts = np.bincount(member.drawn, minlength=150)
        weighted = clone(explainer).fit(X, Y, sample_weight=counts)
        expected = expected + weighted.transform(X[:4], Y[:4])
    np.testing.assert_allclose(ensemble.transform(X[:4], Y[:4]), expected / 3, atol=1e-7)
    frame = pd.DataFrame(X, index=[f"flower{i}" for i in range(150)])
    named = clone(ensemble).fit(frame, Y)
    assert named.get_feature_names_out()[149] == "flower149"


def test_bootstrap_draws_again_while_a_class_is_missing():
    y = np.where(np.arange(150) < 2, 2, Y % 2)
    explainer = InfluenceExplainer(LogisticRegression(), **FREE)
    ensemble = EnsembleExplainer(explainer, perturbation="bootstrap", n_copies=8, random_state=0)
    assert all(len(np.unique(y[m.drawn])) == 3 for m in ensemble.fit(X, y).explainers_)
    counts = np.random.default_rng(0).poisson(3, 150).astype(int)
    counts[0] = 40  # a count is no class
    regressor = InfluenceExplainer(PoissonRegressor(), **FREE)
    drawn = clone(ensemble).set_params(explainer=regressor).fit(X, counts).explainers_
    assert not all(0 in member.drawn for member in drawn)


def free_net(name, seed=0, **options):
    net, rows, y = fitted(name, **options)
    return InfluenceExplainer(FrozenEstimator(net), **FREE), rows, y, net


@pytest.mark.parametrize("name", ["dense", "image", "signal", "words", "tied", "regression"])
@pytest.mark.parametrize("perturbation", ["noise", "dropout"])
def test_nets_by_autograd(name, perturbation):
    """Copies against gradients that torch takes of the perturbed module, row by row."""
    explainer, rows, y, net = free_net(name)
    ensemble = EnsembleExplainer(
        explainer, perturbation=perturbation, n_copies=2, scale=0.3, random_state=0
    ).fit(rows, y)
    expected = 0.0
    for member in ensemble.explainers_:
        objective = member.objective_
        module = objective.source.module  # hooks and noise included
        names = [n for n, _ in module.named_parameters()]
        parts = objective.flat.split([p.numel() for _, p in module.named_parameters()])
        state = {
            n: q.reshape(module.get_parameter(n).shape) for n, q in zip(names, parts, strict=True)
        }

        def loss(state, x, t, module=module):
            Z = torch.func.functional_call(module, state, (x[None],)).reshape(1, -1)
            if isinstance(net, NeuralNetClassifier):
                return nn.functional.cross_entropy(Z, t[None])
            return ((Z[0] - t) ** 2).mean()

        grads = []
        for x, t in zip(torch.as_tensor(rows), torch.as_tensor(y), strict=True):
            own = torch.func.grad(loss)(state, x, t)
            grads.append(torch.cat([own[n].flatten() for n in names]).numpy())
        G = np.array(grads)
        share = objective.penalty * objective.theta / len(y)  # of the mean-form penalty
        expected = expected + G[:5] @ (G + share).T
    ours = ensemble.transform(rows[:5], y[:5])
    np.testing.assert_allclose(ours, expected / 2, atol=1e-9 * np.abs(expected).max())
    plain = explainer.fit(rows, y).transform(rows[:5], y[:5])
    assert np.abs(ours - plain).max() > 1e-3 * np.abs(plain).max()


def test_dropout_leaves_the_same_units_out_for_every_row():
    explainer, rows, y, _ = free_net("dense")
    ensemble = EnsembleExplainer(
        explainer, perturbation="dropout", n_copies=6, scale=0.5, random_state=0
    )
    counts = []
    for member in ensemble.fit(rows, y).explainers_:
        objective = member.objective_
        weight = objective.slices["last.weight"]
        G = objective.removal_gradients().block(slice(None))[:, weight].reshape(len(y), 3, 6)
        G = G - (objective.penalty * objective.theta)[weight].reshape(3, 6) / len(y)
        silent = (np.abs(G) < 1e-14).all(axis=(0, 1))
        assert (np.abs(G[:, :, ~silent]) > 0).all()
        counts.append(silent.sum())
        first = objective.slices["first.weight"]
        unit = objective.removal_gradients().block(slice(None))[:, first].reshape(len(y), 6, 5)
        decay = (objective.penalty * objective.theta)[first].reshape(6, 5) / len(y)
        assert (np.abs(unit - decay)[:, silent] < 1e-14).all()
    assert 0 < np.mean(counts) < 6


def test_scikit_learn_nets_take_noise_and_dropout():
    net = MLPClassifier(5, solver="lbfgs", alpha=1.0, max_iter=500, random_state=0)
    explainer = InfluenceExplainer(net, **FREE)
    for perturbation in ("noise", "dropout"):
        ensemble = EnsembleExplainer(
            explainer, seeds=2, perturbation=perturbation, n_copies=3, random_state=0
        )
        assert len(ensemble.fit(X, Y).explainers_) == 6
        full, mean, own, _ = views(ensemble, X, Y)
        np.testing.assert_allclose(full.mean(axis=0), mean, atol=1e-9)
        assert np.isfinite(own).all()


def test_bootstrap_nets_start_anew():
    net = NeuralNetClassifier(
        Small, criterion=nn.CrossEntropyLoss, max_epochs=3, train_split=None, verbose=0
    )
    rows = X.astype(np.float32)
    ensemble = EnsembleExplainer(
        InfluenceExplainer(net, **FREE), perturbation="bootstrap", n_copies=2, random_state=0
    ).fit(rows, Y)
    members = [member.explainer.estimator_.module_ for member in ensemble.explainers_]
    assert not torch.equal(*[module.layers[0].weight for module in members])
    again = clone(ensemble).fit(rows, Y)
    np.testing.assert_array_equal(
        again.transform(rows[:3], Y[:3]), ensemble.transform(rows[:3], Y[:3])
    )
    held = clone(ensemble).set_params(explainer__estimator__train_split=ValidSplit(5))
    with pytest.raises(ValueError, match="train_split=None"):
        held.fit(rows, Y)


def test_perturbations_are_refused_by_name():
    free = InfluenceExplainer(LogisticRegression(), **FREE)

    def refuse(match, explainer=free, kind=ValueError, **options):
        with pytest.raises(kind, match=match):
            EnsembleExplainer(explainer, **options).fit(X, Y)

    refuse("perturbation='swag'", perturbation="swag")
    refuse("n_copies=0", perturbation="noise", n_copies=0)
    refuse("scale=-1", perturbation="noise", scale=-1)
    refuse("scale=0.1", perturbation="bootstrap", scale=0.1)
    refuse("neither estimators nor seeds", perturbation="bootstrap", seeds=2)
    refuse("only first order", InfluenceExplainer(LogisticRegression()), perturbation="noise")
    refuse("only first order", InfluenceExplainer(Ridge(), method="tracin"), perturbation="noise")
    refuse("to first order only", InfluenceExplainer(Ridge()), perturbation="bootstrap")
    refuse("dropout' is not known for Linear", perturbation="dropout", kind=TypeError)
    lasso = InfluenceExplainer(Lasso(0.01), method="influence")
    refuse("active set", lasso, perturbation="noise", kind=TypeError)
    svc = InfluenceExplainer(SVC(gamma="auto"), method="influence")
    refuse("noise' is not known for", svc, perturbation="noise", kind=TypeError)
    piped = InfluenceExplainer(make_pipeline(StandardScaler(), Ridge()), method="influence")
    refuse("noise' is not known for Stacked", piped, perturbation="noise", kind=TypeError)
    net = InfluenceExplainer(MLPClassifier((), solver="lbfgs", alpha=1.0, max_iter=500), **FREE)
    refuse("one layer", net, perturbation="dropout")
    refuse("must lie between 0 and 1", net, perturbation="dropout", scale=1.5)
