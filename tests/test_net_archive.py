"""Archives of explained nets: all numbers, no module; the module comes from a net like it."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_classification
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

torch = pytest.importorskip("torch")
from skorch import NeuralNetClassifier  # noqa: E402
from torch import nn  # noqa: E402

from skinfluence import EnsembleExplainer, InfluenceExplainer  # noqa: E402
from skinfluence.callbacks import TracInCheckpoint  # noqa: E402
from skinfluence.methods import TracIn  # noqa: E402

from .test_archive import HOLDS, KERNEL, RIDGE, bound, given, later, made, write_archive  # noqa: E402


class Module(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.first, self.norm = nn.Linear(5, width), nn.BatchNorm1d(width)
        self.last = nn.Linear(width, 2)

    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))


class Other(Module):
    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))))


def net(module=Module, **options):
    options = {"max_epochs": 10, "lr": 0.1, "optimizer__weight_decay": 1e-2, "verbose": 0} | options
    torch.manual_seed(0)
    criterion = nn.CrossEntropyLoss
    return NeuralNetClassifier(module, criterion=criterion, train_split=None, **options)


@pytest.fixture(scope="module")
def rows():
    X, y = make_classification(60, 5, n_redundant=0, random_state=0)
    return X.astype(np.float32), y


@pytest.fixture(scope="module")
def fitted(rows):
    return net().fit(*rows)


def check_same(loaded, explainer, X, y):
    assert_array_equal(loaded.transform(X[:3], y[:3]), explainer.transform(X[:3], y[:3]))
    assert_array_equal(loaded.parameter_influence([1, 5]), explainer.parameter_influence([1, 5]))


@pytest.mark.filterwarnings("ignore:the fit was not at its optimum")  # of the last layer
@pytest.mark.parametrize(
    "options",
    [
        {"solver": "direct"},
        {"solver": "ekfac"},
        {"solver": "cg"},
        {"solver": "arnoldi"},
        {"solver": "datainf"},
        {"method": "newton"},
        {"objective": "last_layer", "method": "exact"},
    ],
    ids=str,
)
def test_same_numbers(options, rows, fitted, tmp_path):
    explainer = InfluenceExplainer(fitted, **options).fit(*rows)
    explainer.save(tmp_path / "a.influence")
    for brought in (net(), fitted, net(max_epochs=1).fit(*rows)):  # only its module is used
        loaded = InfluenceExplainer.load(tmp_path / "a.influence", net=brought)
        check_same(loaded, explainer, *rows)
    proba = explainer.estimator_.predict_proba(rows[0])
    assert_array_equal(loaded.estimator_.predict_proba(rows[0]), proba)


def test_pipeline(rows, tmp_path):
    X, y = rows
    model = make_pipeline(StandardScaler(), net())
    explainer = InfluenceExplainer(model, solver="ekfac", preprocessing="frozen").fit(X, y)
    explainer.save(tmp_path / "a.influence")
    loaded = InfluenceExplainer.load(tmp_path / "a.influence", net=net())
    check_same(loaded, explainer, X, y)


def test_ensemble_of_seeds(rows, tmp_path):
    X, y = rows
    members = InfluenceExplainer(net(), solver="ekfac")
    explainer = EnsembleExplainer(members, seeds=2).fit(X, y)
    explainer.save(tmp_path / "a.influence")
    loaded = EnsembleExplainer.load(tmp_path / "a.influence", net=net())
    assert_array_equal(loaded.transform(X[:3], y[:3]), explainer.transform(X[:3], y[:3]))
    one, two = (member.objective_.theta for member in loaded.explainers_)
    assert np.abs(one - two).max() > 0.1


def test_checkpoints(rows, tmp_path):
    model = net(callbacks=[TracInCheckpoint([2, 10])], max_epochs=10).fit(*rows)
    explainer = InfluenceExplainer(model, method=TracIn()).fit(*rows)
    explainer.save(tmp_path / "a.influence")
    loaded = InfluenceExplainer.load(tmp_path / "a.influence", net=net())
    X, y = rows
    assert_array_equal(loaded.transform(X[:3], y[:3]), explainer.transform(X[:3], y[:3]))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (lambda: None, "pass net=, a skorch net"),
        (lambda: net(Other), "computes other outputs or losses"),
        (lambda: net(module__width=7), "net= has other parameters"),
    ],
    ids=["none", "another function", "other shapes"],
)
def test_other_nets_are_refused(given, match, rows, fitted, tmp_path):
    InfluenceExplainer(fitted, solver="ekfac").fit(*rows).save(tmp_path / "a.influence")
    with pytest.raises(ValueError, match=match):
        InfluenceExplainer.load(tmp_path / "a.influence", net=given())


def test_another_loss_is_refused(rows, fitted, tmp_path):
    InfluenceExplainer(fitted, solver="ekfac").fit(*rows).save(tmp_path / "a.influence")
    weights = torch.tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="computes other outputs or losses"):
        InfluenceExplainer.load(tmp_path / "a.influence", net=net(criterion__weight=weights))


def test_units_left_out_are_refused(rows, fitted, tmp_path):
    members = InfluenceExplainer(fitted, solver="ekfac")
    copies = EnsembleExplainer(
        members, estimators=[fitted], perturbation="dropout", n_copies=2, scale=0.5, random_state=0
    ).fit(*rows)
    with pytest.raises(TypeError, match="something else than its module"):
        copies.save(tmp_path / "a.influence")
    assert list(tmp_path.iterdir()) == []


def test_the_given_net_is_left_alone(rows, fitted, tmp_path):
    explainer = InfluenceExplainer(fitted, solver="ekfac").fit(*rows)
    explainer.save(tmp_path / "a.influence")
    given = net(max_epochs=1).fit(*rows)
    before = [p.detach().clone() for p in given.module_.parameters()]
    InfluenceExplainer.load(tmp_path / "a.influence", net=given)
    for was, now in zip(before, given.module_.parameters(), strict=True):
        assert_allclose(now.detach(), was, rtol=0, atol=0)


# -- archives that someone wrote by hand ------------------------------------------------------
MLP = "skinfluence.objectives.mlp_source:MlpSource"
SKORCH = "skinfluence.objectives.net_sources:SkorchSource"


def source(kind, **state):
    return {
        "source": kind,
        "state": given(state),
        "probe": {"id": 10, "list": []},
    }


@pytest.mark.parametrize(
    ("node", "match"),
    [
        ({"torch": "torch.os"}, "uses torch.os, which is no dtype"),
        ({"torch": "torch.load"}, "uses torch.load, which is no dtype"),
        (bound("system", {"id": 1, "torch": "torch.os"}), "uses torch.os"),
        (source(MLP, _module=later(HOLDS), estimator="x"), "the archive sets '_module'"),
        (source(SKORCH, _copy=later(HOLDS), net="x"), "the archive sets '_copy'"),
        (source(SKORCH, probe=HOLDS), "the archive sets 'probe'"),
        (source(SKORCH, net=made(KERNEL, length_scale=1)), "has a RBF where a net should be"),
        (source(RIDGE), "which is no source of a net"),
        ({"module": "x", "of": made(KERNEL, module=1)}, "reads the module of a RBF"),
        (
            {"module": "x", "of": {"id": 1, "name": "skinfluence.objectives.nets:Net"}},
            "reads the module of a type",
        ),
        (given({}), "it holds a dict"),
    ],
)
def test_hostile_archives_build_nothing(node, match, rows, fitted, tmp_path):
    path = tmp_path / "a.influence"
    write_archive(path, InfluenceExplainer(fitted, solver="ekfac").fit(*rows), node)
    with pytest.raises(ValueError, match=match):
        InfluenceExplainer.load(path, net=net())


class Late(Module):
    """As its base class, but on rows that come late in the training set."""

    def forward(self, x):
        out = super().forward(x)
        return torch.where(x[:, :1] == 50, out + 0.01, out)


def test_rows_from_all_over_are_compared(tmp_path):
    X, y = make_classification(120, 5, n_redundant=0, random_state=0)
    X = X.astype(np.float32)
    X[100, 0] = 50
    model = net(max_epochs=2).fit(X, y)
    InfluenceExplainer(model, solver="ekfac").fit(X, y).save(tmp_path / "a.influence")
    with pytest.raises(ValueError, match="computes other outputs or losses"):
        InfluenceExplainer.load(tmp_path / "a.influence", net=net(Late))
