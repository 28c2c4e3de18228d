"""TracIn: the order of its error, checkpoints in memory and on disk, other models."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import scale
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import LRScheduler
from torch import nn

from skinfluence import InfluenceExplainer
from skinfluence.callbacks import TracInCheckpoint, load_checkpoints
from skinfluence.methods import TracIn

X, Y = load_iris(return_X_y=True)
X = scale(X)[::5].astype(np.float64)
Y = Y[::5].astype(np.int64)


def make_net(n_epochs=1, lr=0.01, epochs=1, reduction="sum", folder=None, **options):
    torch.manual_seed(0)
    options.setdefault("optimizer", torch.optim.SGD)
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double(),
        criterion=nn.CrossEntropyLoss,
        criterion__reduction=reduction,
        max_epochs=n_epochs,
        lr=lr,
        batch_size=options.pop("batch_size", -1),
        train_split=None,
        verbose=0,
        callbacks=[TracInCheckpoint(epochs, folder), *options.pop("callbacks", [])],
        **options,
    )
    return net


def fitted(net, rows=slice(None)):
    return net.fit(X[rows], Y[rows])


def explain(net, method="tracin", **options):
    return InfluenceExplainer(FrozenEstimator(net), method=method, **options).fit(X, Y)


def losses(net):
    with torch.no_grad():
        logits = net.module_(torch.as_tensor(X))
        return nn.functional.cross_entropy(logits, torch.as_tensor(Y), reduction="none").numpy()


def true_change(net, row, **options):
    """Losses of all rows when the row takes no part in the same training, less the net's."""
    keep = np.setdiff1d(np.arange(len(X)), row)
    return losses(fitted(make_net(**options), keep)) - losses(net)


# -- what it approximates ----------------------------------------------------------------------
def test_one_full_batch_step_is_right_to_second_order():
    errors = []
    for lr in (4e-3, 2e-3, 1e-3):
        net = fitted(make_net(lr=lr, epochs=[0]))
        actual = np.array([true_change(net, row, lr=lr) for row in range(4)]).T
        errors.append(np.abs(explain(net).transform(X, Y)[:, :4] - actual).max())
    # the error is of second order in the learning rate: half the rate, a quarter of the error
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_momentum_lengthens_the_steps():
    options = {"lr": 2e-6, "optimizer__momentum": 0.5, "n_epochs": 40, "epochs": 1}
    net = fitted(make_net(**options))
    predicted = explain(net).transform(X, Y)[:, 3]
    actual = true_change(net, 3, **options)
    # the last steps have not had all of their momentum's effect: about 1 / 40
    assert predicted == pytest.approx(actual, rel=0.05, abs=0.03 * np.abs(actual).max())


def test_checkpoints_stand_for_the_steps_that_follow():
    schedule = LRScheduler("StepLR", step_size=2, gamma=0.5)
    net = fitted(make_net(n_epochs=5, lr=0.1, epochs=[2, 4], callbacks=[schedule]))
    kept = _checkpoint(net)
    assert [c.epoch for c in kept.checkpoints_] == [2, 4]
    # rates of the five epochs: .1 .1 .05 .05 .025; what precedes the first counts with it
    sums = [set(np.round(list(c.rates.values()), 12)) for c in kept.checkpoints_]
    assert sums == [{0.3}, {0.025}]
    by_rows = [set(np.round(list(c.row_rates.values()), 12)) for c in kept.checkpoints_]
    assert by_rows == [{0.3 * 30}, {0.025 * 30}]


def _checkpoint(net):
    return next(each for _, each in net.callbacks_ if isinstance(each, TracInCheckpoint))


def test_the_formula_written_out():
    net = fitted(make_net(n_epochs=4, lr=0.05, epochs=2, reduction="mean", batch_size=10))
    explainer = explain(net)
    expected = np.zeros((5, len(X)))
    *used, last = _checkpoint(net).checkpoints_
    assert (last.epoch, last.rates) == (4, {})  # no steps follow it
    for checkpoint in used:
        net.module_.load_state_dict(checkpoint.load())
        G = []
        for x, y in zip(torch.as_tensor(X), torch.as_tensor(Y), strict=True):
            net.module_.zero_grad()
            nn.functional.cross_entropy(net.module_(x[None]), y[None]).backward()
            G.append(np.concatenate([p.grad.numpy().ravel() for p in net.module_.parameters()]))
        rate = next(iter(checkpoint.rates.values())) / len(X)  # each row is in one of 3 batches
        expected += rate * np.array(G[:5]) @ np.array(G).T
    assert sum(next(iter(c.rates.values())) for c in used) == pytest.approx(0.05 * 3 * 4)
    np.testing.assert_allclose(explainer.transform(X[:5], Y[:5]), expected, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(explainer.self_influence()[:5], np.diag(expected), rtol=1e-8)


def test_views_agree():
    explainer = explain(fitted(make_net(n_epochs=6, lr=0.05, epochs=3)))
    full = explainer.transform(X[:7], Y[:7])
    np.testing.assert_allclose(explainer.dataset_influence(X[:7], Y[:7]), full.mean(0), rtol=1e-8)
    joint = explainer.group_influence([np.arange(5), [7]], X[:7], Y[:7])
    np.testing.assert_allclose(joint, np.column_stack([full[:, :5].sum(1), full[:, 7]]), rtol=1e-8)
    top = explainer.top_influences(X[:7], Y[:7], k=3, by="helpful")
    np.testing.assert_allclose(top["values"], -np.sort(-full, axis=1)[:, :3], rtol=1e-8)
    own = explainer.self_influence()
    np.testing.assert_allclose(own[:7], np.diag(full), rtol=1e-8)
    assert (own >= 0).all()
    small = explain(fitted(make_net(n_epochs=6, lr=0.05, epochs=3)), batch_size=4)
    np.testing.assert_allclose(small.transform(X[:7], Y[:7]), full, rtol=1e-10)


def test_parameters_are_the_missing_moves():
    net = fitted(make_net(lr=1e-4, epochs=[0]))
    moved = explain(net).parameter_influence([4])[0]
    without = fitted(make_net(lr=1e-4, epochs=[0]), np.setdiff1d(np.arange(len(X)), 4))
    pairs = zip(without.module_.parameters(), net.module_.parameters(), strict=True)
    actual = np.concatenate([(a - b).detach().numpy().ravel() for a, b in pairs])
    np.testing.assert_allclose(moved, actual, rtol=1e-6, atol=1e-14)


# -- keeping checkpoints -----------------------------------------------------------------------
def test_memory_and_folder_agree(tmp_path):
    options = {"n_epochs": 4, "lr": 0.05, "epochs": 2}
    kept = explain(fitted(make_net(**options))).transform(X[:4], Y[:4])
    net = fitted(make_net(folder=tmp_path / "run", **options))
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == ["checkpoints.json", *(f"epoch_{e:05d}.safetensors" for e in (0, 2, 4))]
    np.testing.assert_array_equal(explain(net).transform(X[:4], Y[:4]), kept)
    for source in (tmp_path / "run", load_checkpoints(tmp_path / "run")):
        bare = fitted(make_net(**options))
        explainer = explain(bare, TracIn(checkpoints=source))
        np.testing.assert_array_equal(explainer.transform(X[:4], Y[:4]), kept)


def test_a_second_fit_starts_afresh_and_a_partial_fit_goes_on():
    net = fitted(make_net(n_epochs=2))
    assert [c.epoch for c in _checkpoint(net).checkpoints_] == [0, 1, 2]
    fitted(net)
    assert [c.epoch for c in _checkpoint(net).checkpoints_] == [0, 1, 2]
    net.partial_fit(X, Y)
    assert [c.epoch for c in _checkpoint(net).checkpoints_] == [0, 1, 2, 3, 4]


def test_an_unfitted_net_is_trained_by_the_explainer():
    net = make_net(n_epochs=3)
    explainer = InfluenceExplainer(net, method="tracin").fit(X, Y)
    values = explainer.transform(X[:2], Y[:2])
    assert np.abs(values).max() > 0
    again = pickle.loads(pickle.dumps(explainer))
    np.testing.assert_array_equal(again.transform(X[:2], Y[:2]), values)


def test_batch_norm_statistics_are_those_of_the_checkpoint():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 1)).double()
    net = NeuralNetRegressor(
        module,
        max_epochs=3,
        lr=0.1,
        train_split=None,
        verbose=0,
        callbacks=[TracInCheckpoint(epochs=[1])],
    )
    y = X[:, :1] * 2
    explainer = InfluenceExplainer(net, method="tracin").fit(X, y)
    fit = explainer.estimator_
    checkpoint = _checkpoint(fit).checkpoints_[0]
    module = fit.module_
    module.load_state_dict(checkpoint.load())
    module.eval()
    G = []
    for x, target in zip(torch.as_tensor(X), torch.as_tensor(y), strict=True):
        module.zero_grad()
        ((module(x[None]) - target) ** 2).sum().backward()
        G.append(np.concatenate([p.grad.numpy().ravel() for p in module.parameters()]))
    rate = 0.3 / len(X)
    expected = rate * np.array(G[:4]) @ np.array(G).T
    np.testing.assert_allclose(explainer.transform(X[:4], y[:4]), expected, rtol=1e-8, atol=1e-12)


# -- what is said and refused ------------------------------------------------------------------
def test_adam_is_noted():
    net = fitted(make_net(optimizer=torch.optim.Adam))
    with pytest.warns(UserWarning, match="Adam rescales the gradient"):
        explain(net)


def test_refusals(tmp_path):
    net = fitted(make_net())
    with pytest.raises(ValueError, match=r"has no checkpoints.json"):
        explain(net, TracIn(tmp_path))
    with pytest.raises(ValueError, match="none of the chosen epochs was reached"):
        explain(fitted(make_net(epochs=[7])))
    bare = fitted(make_net().set_params(callbacks=None))
    with pytest.raises(ValueError, match="needs one TracInCheckpoint among the net's callbacks"):
        explain(bare)
    with pytest.raises(ValueError, match="epochs=0 must be positive"):
        fitted(make_net(epochs=0))
    with pytest.raises(ValueError, match="must hold integers of at least 0"):
        fitted(make_net(epochs=[-1]))
    with pytest.raises(ValueError, match="differ in momentum"):
        groups = [("0.*", {"momentum": 0.5}), ("2.*", {"momentum": 0.9})]
        fitted(make_net(optimizer__param_groups=groups))


def test_parameter_groups_have_their_own_rates():
    net = fitted(make_net(optimizer__param_groups=[("0.*", {"lr": 1e-3})], lr=0.2))
    rates = _checkpoint(net).checkpoints_[0].rates
    assert rates == {"0.weight": 1e-3, "0.bias": 1e-3, "2.weight": 0.2, "2.bias": 0.2}


# -- models without a training run -------------------------------------------------------------
@pytest.mark.parametrize("model", [Ridge(), LogisticRegression()], ids=lambda m: type(m).__name__)
def test_convex_models_are_taken_at_their_fit(model):
    rows, y = (X, Y) if isinstance(model, LogisticRegression) else load_diabetes(return_X_y=True)
    tracin = InfluenceExplainer(model, method="tracin").fit(rows, y)
    dot = InfluenceExplainer(model, method="influence", solver="identity").fit(rows, y)
    expected = dot.transform(rows[:5], y[:5])
    np.testing.assert_allclose(tracin.transform(rows[:5], y[:5]), expected, rtol=1e-10)
    np.testing.assert_allclose(tracin.self_influence(), dot.self_influence(), rtol=1e-10)
    with pytest.raises(ValueError, match="one fitted point only"):
        InfluenceExplainer(model, method=TracIn(checkpoints=[1])).fit(rows, y)


def test_models_without_gradients_of_losses_are_refused():
    with pytest.raises(TypeError, match="method='tracin' needs the gradients of the rows' losses"):
        InfluenceExplainer(KernelRidge(), method="tracin").fit(X, Y)


def test_one_vs_rest_is_the_dot_product_of_all_parts():
    model = OneVsRestClassifier(LogisticRegression())
    tracin = InfluenceExplainer(model, method="tracin").fit(X, Y)
    dot = InfluenceExplainer(model, method="influence", solver="identity").fit(X, Y)
    np.testing.assert_allclose(tracin.transform(X, Y), dot.transform(X, Y), rtol=1e-10)


def test_a_trained_net_can_be_cloned():
    copy = clone(fitted(make_net(epochs=[0, 2])))
    kept = next(each for each in copy.callbacks if isinstance(each, TracInCheckpoint))
    assert kept.epochs == [0, 2]
