"""Influence through nets: closed forms, scikit-learn's MLPs, the last layer, Newton steps."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from skinfluence import InfluenceExplainer
from skinfluence.objectives import LastLayer, Net, objective_for
from skinfluence.solvers import EKFAC, ConjugateGradient, Direct

from .cases.nets import WEIGHT_DECAY, Dense, Oracle, fitted, rows

FULL = {"train_split": None, "batch_size": -1, "verbose": 0, "optimizer": torch.optim.SGD}


def one_layer(kind, X, coef, intercept, *, reduction, decay, **options):
    """A fitted net of one linear layer with given parameters; biases are free."""
    scale = len(X) if reduction == "mean" else 1
    net = kind(
        lambda: nn.Linear(X.shape[1], len(coef)).double(),
        criterion__reduction=reduction,
        optimizer__param_groups=[("weight", {"weight_decay": decay / scale})],
        **FULL,
        **options,
    ).initialize()
    with torch.no_grad():
        net.module_.weight.copy_(torch.as_tensor(coef))
        net.module_.bias.copy_(torch.as_tensor(intercept))
    return FrozenEstimator(net)


# Where the mean's penalty shrinks with a row, the closed form is refitted with it: alpha (n-1)/n.
@pytest.mark.parametrize("method", ["influence", "infinitesimal_jackknife", "newton"])
@pytest.mark.parametrize("K", [2, 3])
def test_one_layer_is_logistic_regression(method, K):
    X, y = rows("dense", 40)
    y = y % K
    model = LogisticRegression(C=0.7, tol=1e-12, max_iter=10_000).fit(X, y)
    if K == 2:
        kind, options, targets = NeuralNetBinaryClassifier, {}, y.astype(float)
        fit = {"coef": model.coef_, "intercept": model.intercept_}
    else:
        kind, options, targets = NeuralNetClassifier, {"criterion": nn.CrossEntropyLoss}, y
        fit = {"coef": model.coef_, "intercept": model.intercept_}
    net = one_layer(kind, X, **fit, reduction="sum", decay=1 / 0.7, **options)
    solver = Direct(damping=1e-9)  # softmax leaves the common shift of the biases free
    net = InfluenceExplainer(net, method=method, solver=solver).fit(X, targets)
    # weights 1/C: the same function as the net's, not its multiple
    theirs = InfluenceExplainer(FrozenEstimator(model), method=method).fit(X, y)
    for function in ("transform", "dataset_influence"):
        ours = getattr(net, function)(X[:6], targets[:6])
        np.testing.assert_allclose(
            ours, getattr(theirs, function)(X[:6], y[:6]), rtol=1e-5, atol=1e-7
        )
    groups = [[0, 1, 2], [5], [7, 20]]
    ours = net.group_influence(groups, X[:6], targets[:6])
    np.testing.assert_allclose(
        ours, theirs.group_influence(groups, X[:6], y[:6]), rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(net.self_influence(), theirs.self_influence(), atol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_one_layer_is_ridge(reduction):
    X, y = rows("dense", 30)
    y = X @ [1.0, 2, 0, -1, 0.5] + np.random.default_rng(0).normal(size=30)
    model = Ridge(3.0).fit(X, y)
    # the net's penalty is ½ wd ‖w‖², ridge's α ‖w‖²
    net = one_layer(
        NeuralNetRegressor, X, model.coef_[None], model.intercept_, reduction=reduction, decay=6.0
    )
    explainer = InfluenceExplainer(net, method="newton", solver=Direct(damping=1e-10))
    explainer.fit(X, y[:, None])
    values = explainer.transform(X[:4], y[:4, None])
    groups = explainer.group_influence([[1, 2, 3]], X[:4], y[:4, None])
    fitted_loss = (model.predict(X[:4]) - y[:4]) ** 2
    for gone, ours in ((9, values[:, 9]), ([1, 2, 3], groups[:, 0])):
        keep = np.delete(np.arange(30), gone)
        alpha = 3.0 * (len(keep) / 30 if reduction == "mean" else 1)
        refit = Ridge(alpha).fit(X[keep], y[keep])
        expected = (refit.predict(X[:4]) - y[:4]) ** 2 - fitted_loss
        np.testing.assert_allclose(ours, expected, atol=1e-8)  # squared loss: a step is exact


# -- scikit-learn's perceptrons --------------------------------------------------------------------
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["binary", "dense", "regression"])
def test_lbfgs_perceptron_is_stationary(kind, weighted):
    X, y = rows(kind, 40)
    w = np.random.default_rng(0).uniform(0.5, 2, 40) if weighted else None
    options = {"solver": "lbfgs", "tol": 1e-14, "max_iter": 20_000, "max_fun": 10**6}
    model = MLPRegressor if kind == "regression" else MLPClassifier
    model = model(hidden_layer_sizes=4, alpha=0.5, activation="tanh", random_state=0, **options)
    model.fit(X, y, sample_weight=w)
    objective = objective_for(model, X, y, w)
    if kind != "regression":  # with several outputs its loss is not the integral of its gradient
        # lbfgs stops by the decrease of the loss; any other penalty would leave all of its pull
        pull = np.abs(objective.penalty * objective.theta).max()
        assert objective.gradient_norm < 0.01 * pull
    assert objective.penalty.max() == 0.5 and objective.penalty.min() == 0  # biases are free
    expected = model.predict(X) if kind == "regression" else model.predict_proba(X)
    proba = objective.outputs if kind == "regression" else objective.head.proba(objective.outputs)
    np.testing.assert_allclose(proba, expected, atol=1e-12)


def test_stochastic_perceptron_penalty_and_held_out_rows():
    X, y = rows("dense", 60)
    options = {"random_state": 0, "alpha": 0.3, "batch_size": 18, "solver": "sgd"}
    model = MLPClassifier(4, early_stopping=True, max_iter=20, **options)
    model.fit(X, y)
    objective = objective_for(model, X, y)
    held = np.flatnonzero(objective.weights == 0)
    assert len(held) == 6
    score = model.score(X[held], y[held])  # the rows by which it stopped
    # at the best epoch; the rows' score after it is among those it recorded
    assert model.best_validation_score_ == pytest.approx(score)
    assert objective.penalty.max() == pytest.approx(3 * 0.3)  # 54 rows: three steps of 18
    loose = MLPClassifier(4, early_stopping=True, max_iter=20, solver="sgd")
    loose.fit(X, y)
    with pytest.raises(ValueError, match="only with an integer random_state"):
        objective_for(loose, X, y)


# -- the last layer --------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["dense", "regression", "binary"])
def test_last_layer_is_a_convex_model_on_the_features(kind):
    X, y = rows(kind, 40)
    model = MLPRegressor if kind == "regression" else MLPClassifier
    options = {"solver": "lbfgs", "alpha": 0.5, "activation": "tanh", "max_iter": 5000}
    model = model(hidden_layer_sizes=4, random_state=0, **options).fit(X, y)
    features = np.tanh(X @ model.coefs_[0] + model.intercepts_[0])
    explainer = InfluenceExplainer(
        FrozenEstimator(model), objective="last_layer", method="exact"
    ).fit(X, y)
    # ½ α ‖W‖² of both: C = 1 / α, and ½ r² + ½ α w² is half of ridge's function
    head = Ridge(0.5) if kind == "regression" else LogisticRegression(C=2, tol=1e-10)
    head = InfluenceExplainer(head, method="exact").fit(features, y)
    ours, theirs = explainer.transform(X[:5], y[:5]), head.transform(features[:5], y[:5])
    factor = 0.5 if kind == "regression" else 1.0
    np.testing.assert_allclose(ours, factor * theirs, rtol=1e-5, atol=1e-8)
    assert explainer.objective_.parameter_names[0] == "2.weight[0, 0]"


def test_last_layer_of_a_skorch_net():
    net, X, y = fitted("image", n=40, max_epochs=60)
    with pytest.raises(ValueError, match="something besides a softmax follows"):
        LastLayer().build(net, X, y)  # its outputs are scaled
    net, X, y = fitted("dense", n=40, max_epochs=3000, lr=1.0)
    explainer = InfluenceExplainer(FrozenEstimator(net), objective="last_layer").fit(X, y)
    assert explainer.method_.__class__.__name__ == "Newton"
    objective = explainer.objective_
    assert objective.penalty.min() == pytest.approx(40 * WEIGHT_DECAY)
    whole = objective_for(net, X, y)
    np.testing.assert_allclose(objective.outputs, whole.outputs, atol=1e-3)  # polished from there
    assert explainer.transform(X[:3], y[:3]).shape == (3, 40)


# -- methods ---------------------------------------------------------------------------------------
def test_newton_against_a_dense_solve():
    net, X, y = fitted("dense")
    explainer = InfluenceExplainer(FrozenEstimator(net), method="newton", solver="direct")
    explainer.fit(X, y)
    objective, n = explainer.objective_, len(X)
    whole = Oracle(net, X, y).gauss_newton()
    moved = explainer.parameter_influence()
    for gone, delta in ((4, moved[4]), ([1, 8], explainer.effects_.joint_parameters([[1, 8]])[0])):
        gone = np.atleast_1d(gone)
        own = Oracle(net, X[gone], y[gone]).gauss_newton()
        left = (n - len(gone)) / n
        H = whole - own + left * np.diag(objective.penalty)
        G = Oracle(net, X[gone], y[gone]).gradients().sum(0)
        right = G + (1 - left) * objective.penalty * objective.theta
        np.testing.assert_allclose(delta, np.linalg.solve(H, right), atol=1e-9)


def test_jackknife_evaluates_the_moved_net():
    net, X, y = fitted("dense")
    frozen = FrozenEstimator(net)
    explainer = InfluenceExplainer(frozen, method="infinitesimal_jackknife").fit(X, y)
    delta = explainer.parameter_influence([3])[0]
    oracle = Oracle(net, X, y)
    moved = oracle.outputs(oracle.theta + torch.as_tensor(delta), oracle.X[:4])
    loss = nn.CrossEntropyLoss(reduction="none")
    start = oracle.outputs(oracle.theta, oracle.X[:4])
    expected = loss(moved, oracle.y[:4]) - loss(start, oracle.y[:4])
    values = explainer.transform(X[:4], y[:4])
    np.testing.assert_allclose(values[:, 3], expected.numpy(), atol=1e-12)
    # the linearised target agrees to first order in the move
    linear = InfluenceExplainer(frozen).fit(X, y).transform(X[:4], y[:4])
    assert np.abs(linear - values).max() < 0.2 * np.abs(values).max()


def test_residual_moves_on_to_the_optimum():
    net, X, y = fitted("dense")
    options = {"method": "infinitesimal_jackknife", "solver": "direct"}
    frozen = FrozenEstimator(net)
    plain = InfluenceExplainer(frozen, **options).fit(X, y)
    whole = InfluenceExplainer(frozen, objective=Net(residual=True), **options).fit(X, y)
    oracle = Oracle(net, X, y)
    C = oracle.gauss_newton() + np.diag(plain.objective_.penalty)
    gradient = oracle.gradients().sum(0) + plain.objective_.penalty * plain.objective_.theta
    step = -np.linalg.solve(C, gradient)
    assert plain.objective_.gradient_norm == pytest.approx(np.abs(gradient).max())
    difference = whole.parameter_influence([0, 5]) - plain.parameter_influence([0, 5])
    np.testing.assert_allclose(difference, np.tile(step, (2, 1)), atol=1e-9)
    groups = [e.effects_.joint_parameters([[1, 2, 3]]) for e in (whole, plain)]
    np.testing.assert_allclose((groups[0] - groups[1])[0], step, atol=1e-9)


# -- as a scikit-learn estimator -------------------------------------------------------------------
class Single(TransformerMixin, BaseEstimator):
    """Casts to single precision, as torch likes it."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X.astype(np.float32)


def single(**options):
    torch.manual_seed(0)
    return NeuralNetClassifier(
        Dense,
        module__dtype=torch.float32,
        criterion=nn.CrossEntropyLoss,
        max_epochs=20,
        lr=0.2,
        optimizer__weight_decay=WEIGHT_DECAY,
        **(FULL | options),
    )


def test_pipeline_and_single_precision():
    X, y = rows("dense", 40)
    pipeline = make_pipeline(StandardScaler(), Single(), single()).fit(X, y)
    explainer = InfluenceExplainer(
        FrozenEstimator(pipeline), preprocessing="frozen", solver=EKFAC()
    ).fit(X, y)
    values = explainer.transform(X[:3], y[:3])
    # the same net in double precision
    double = NeuralNetClassifier(
        Dense, criterion=nn.CrossEntropyLoss, **FULL, optimizer__weight_decay=WEIGHT_DECAY
    ).initialize()
    double.module_.load_state_dict(pipeline[-1].module_.state_dict())
    scaled = pipeline[0].transform(X)
    exact = InfluenceExplainer(FrozenEstimator(double), solver=EKFAC()).fit(scaled, y)
    expected = exact.transform(scaled[:3], y[:3])
    assert np.abs(values - expected).max() < 1e-4 * np.abs(expected).max()
    cast = InfluenceExplainer(
        FrozenEstimator(pipeline),
        preprocessing="frozen",
        solver=EKFAC(),
        objective=Net(dtype="float64"),
    ).fit(X, y)
    assert np.abs(cast.transform(X[:3], y[:3]) - expected).max() < 1e-4 * np.abs(expected).max()


def test_an_unfitted_net_is_fitted():
    X, y = rows("dense", 40)
    X = X.astype(np.float32)
    explainer = InfluenceExplainer(single(), random_state=0).fit(X, y)
    assert explainer.estimator_.initialized_
    assert explainer.solver_.report_["form"] == ["primal"]  # few parameters
    assert explainer.transform(X[:2], y[:2]).shape == (2, 40)
    assert isinstance(clone(explainer), InfluenceExplainer)


class Search(InfluenceExplainer):
    """Scored by how well self-influence finds given rows."""

    def score(self, X, y):
        return -float(np.abs(self.transform(X, y)).mean())


def test_grid_search_over_the_damping():
    net, X, y = fitted("dense", n=30)
    search = Search(FrozenEstimator(net), solver=ConjugateGradient())
    grid = GridSearchCV(search, {"solver__damping": [0.1, 10.0]}, cv=[(np.arange(30),) * 2])
    grid.fit(X, y)
    assert grid.best_params_ == {"solver__damping": 10.0}  # more damping, less influence
    assert search.solver.damping == "auto"


@pytest.mark.parametrize("solver", ["direct", "cg", "ekfac", "diagonal"])
def test_pickle(solver):
    torch.manual_seed(0)
    X, y = rows("dense")
    net = NeuralNetClassifier(Dense, criterion=nn.CrossEntropyLoss, max_epochs=3, **FULL)
    explainer = InfluenceExplainer(FrozenEstimator(net.fit(X, y)), solver=solver).fit(X, y)
    again = pickle.loads(pickle.dumps(explainer))
    np.testing.assert_allclose(
        again.transform(X[:3], y[:3]), explainer.transform(X[:3], y[:3]), rtol=1e-12
    )


def peak_kilobytes(work):
    """Peak resident memory of a call above that before it."""
    Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status")

    def read(key):
        lines = [line for line in status.read_text().splitlines() if line.startswith(key)]
        return int(lines[0].split()[1])

    before = read("VmRSS")
    work()
    return read("VmHWM") - before


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc"
)
@pytest.mark.parametrize("solver", ["ekfac", ConjugateGradient(0.3)], ids=["ekfac", "cg"])
def test_memory_does_not_grow_with_rows(solver):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    net = NeuralNetClassifier(
        lambda: Dense(20, 300, 4),
        criterion=nn.CrossEntropyLoss,
        **FULL,
        optimizer__weight_decay=0.1,
    ).initialize()
    peaks = []
    for n in (800, 1600, 3200):
        X, y = rng.normal(size=(n, 20)), np.arange(n) % 4
        with config_context(working_memory=64):
            explainer = InfluenceExplainer(FrozenEstimator(net), solver=solver)
            peaks.append(
                peak_kilobytes(lambda e=explainer, X=X, y=y: e.fit(X, y).transform(X[:2], y[:2]))
            )
    # all row gradients would take 3200 × 7504 × 8 bytes = 190 MB
    assert max(peaks) < 80_000
    assert peaks[2] < peaks[1] + 10_000
