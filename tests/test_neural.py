"""The objective of nets against dense derivatives by autograd, and its refusals."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import ValidSplit
from torch import nn

from skinfluence import InfluenceExplainer
from skinfluence.objectives import Net, objective_for
from skinfluence.objectives.nets import net_rows

from .cases.nets import WEIGHT_DECAY, Dense, Oracle, fitted, rows

NETS = ["dense", "binary", "regression", "image", "signal", "words", "tied"]


@pytest.fixture(scope="module", params=NETS)
def case(request):
    net, X, y = fitted(request.param)
    objective = objective_for(net, X, y)
    return objective, Oracle(net, X, y)


# -- derivatives: tolerances are those of double precision --------------------------------------
def test_row_gradients(case):
    objective, oracle = case
    share = objective.penalty * objective.theta / objective.n_rows  # goes with a row of a mean
    expected = oracle.gradients() + share
    np.testing.assert_allclose(
        objective.removal_gradients().block(slice(None)), expected, atol=1e-11
    )
    plain = objective.loss_gradients().block(np.array([3, 1]))
    np.testing.assert_allclose(plain, oracle.gradients()[[3, 1]], atol=1e-11)


def test_curvature_products(case):
    objective, oracle = case
    identity = np.eye(objective.n_params)
    product = objective.curvature_product
    np.testing.assert_allclose(
        product(identity, "gauss_newton", penalty=False), oracle.gauss_newton(), atol=1e-10
    )
    np.testing.assert_allclose(
        product(identity, "fisher", penalty=False), oracle.gauss_newton(), atol=1e-10
    )
    np.testing.assert_allclose(
        objective.hessian(), oracle.hessian() + np.diag(objective.penalty), atol=1e-9
    )
    G = oracle.gradients()
    np.testing.assert_allclose(
        product(identity, "empirical_fisher", penalty=False), G.T @ G, atol=1e-10
    )
    np.testing.assert_allclose(
        objective.curvature_diagonal(), np.diag(oracle.gauss_newton()), atol=1e-10
    )


def test_products_of_tensors_and_of_some_rows(case):
    objective, _ = case
    V = np.random.default_rng(0).normal(size=(objective.n_params, 3))
    whole = objective.gauss_newton_product(V)
    tensor = objective.curvature_product(objective.to_torch(V))
    np.testing.assert_allclose(objective.to_numpy(tensor), whole, rtol=1e-12)
    parts = [
        objective.curvature_product(V, penalty=False, rows=part)
        for part in np.array_split(np.arange(objective.n_rows), 5)
    ]
    penalty = objective.penalty[:, None] * V
    np.testing.assert_allclose(sum(parts) + penalty, whole, rtol=1e-10, atol=1e-10)


def test_queries(case):
    objective, oracle = case
    X = net_rows(oracle.X.numpy()[:5])
    rng = np.random.default_rng(0)
    queries = objective.queries(X)
    J = oracle.jacobian(X.data)
    C = rng.normal(size=queries.outputs.shape)
    np.testing.assert_allclose(queries.pullback(C), np.einsum("mkp,mk->mp", J, C), atol=1e-11)
    delta = 1e-2 * rng.normal(size=(5, objective.n_params))
    moved = [oracle.outputs(oracle.theta + torch.as_tensor(d), oracle.X[:5]) for d in delta]
    expected = np.stack([part.numpy() for part in moved], axis=1) - queries.outputs[:, None]
    np.testing.assert_allclose(queries.changes(delta), expected, atol=1e-12)
    paired = expected[np.arange(5), np.arange(5)]
    np.testing.assert_allclose(queries.paired_changes(delta), paired, atol=1e-12)


def test_random_columns_are_unbiased():
    net, X, y = fitted("dense", n=3)
    objective = objective_for(net, X, y)
    rows = np.arange(3)
    _, _, exact = objective.curvature_columns(rows)
    _, _, drawn = objective.curvature_columns(rows, n_samples=200_000)
    pairs = (torch.einsum("kbi,kbj->bij", c, c).numpy() for c in (drawn, exact))
    np.testing.assert_allclose(*pairs, atol=5e-3)  # 1 / sqrt(200 000) times the entries' spread


# -- what the net minimised ------------------------------------------------------------------------
def test_validation_rows_have_no_influence():
    net, X, y = fitted("dense", n=60, train_split=ValidSplit(5, stratified=True))
    train, held = net.get_split_datasets(X, y)
    explainer = InfluenceExplainer(FrozenEstimator(net)).fit(X, y)
    values = explainer.transform(X[:4], y[:4])
    assert not values[:, held.indices].any()
    assert (values[:, train.indices] != 0).all()
    # the same rows alone, without a split, are the same problem
    kept = np.asarray(train.indices)
    net.set_params(train_split=None)
    alone = InfluenceExplainer(FrozenEstimator(net)).fit(X[kept], y[kept])
    np.testing.assert_allclose(values[:, kept], alone.transform(X[:4], y[:4]), rtol=1e-8)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_vanishes_at_the_minimum(reduction, weighted):
    """Of the net's own training loss plus weight decay, as torch computes it: hence the total
    form's penalty is right for both reductions, with class weights and several groups."""
    X, y = rows("dense", 30)
    table = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64) if weighted else None
    net = NeuralNetClassifier(
        Dense,
        criterion=nn.CrossEntropyLoss,
        criterion__weight=table,
        batch_size=-1,
        criterion__reduction=reduction,
        optimizer=torch.optim.Adam,
        train_split=None,
        verbose=0,
        optimizer__param_groups=[("first.*", {"weight_decay": 0.1})],
        optimizer__weight_decay=0.3,
    ).initialize()
    parameters = list(net.module_.parameters())
    decays = [0.1, 0.1, 0.3, 0.3]
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=2000,
        tolerance_grad=1e-12,
        tolerance_change=1e-18,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        value = net.criterion_(net.module_(torch.as_tensor(X)), torch.as_tensor(y))
        pairs = zip(parameters, decays, strict=True)
        value = value + sum(decay / 2 * (p**2).sum() for p, decay in pairs)
        value.backward()
        return value

    optimizer.step(closure)
    objective = objective_for(net, X, y)
    assert objective.gradient_norm < 1e-6
    assert objective.weights.std() > 0 if weighted else (objective.weights == 1).all()


def test_last_batch_counts_more_without_shuffling():
    net, X, y = fitted("dense", n=25, batch_size=10)
    weights = objective_for(net, X, y).weights
    np.testing.assert_allclose(weights[20:] / weights[:20].mean(), 2.0)
    assert weights.sum() == pytest.approx(25)
    net, X, y = fitted("dense", n=25, batch_size=10, iterator_train__shuffle=True)
    assert (objective_for(net, X, y).weights == 1).all()


def test_decoupled_decay_is_named():
    net, X, y = fitted("dense", optimizer=torch.optim.AdamW)
    with pytest.warns(UserWarning, match="AdamW decays weights apart from the loss"):
        objective = objective_for(net, X, y)
    assert not objective.penalty.any()


def test_frozen_and_selected_parameters():
    net, X, y = fitted("dense")
    net.module_.first.bias.requires_grad_(False)
    objective = objective_for(net, X, y)
    assert objective.names == ["first.weight", "last.weight", "last.bias"]
    some = Net(parameters=["last"]).build(net, X, y)
    assert some.names == ["last.weight", "last.bias"]
    oracle = Oracle(net, X, y, some.names)
    expected = oracle.gauss_newton() + np.diag(some.penalty)
    np.testing.assert_allclose(some.gauss_newton_product(np.eye(some.n_params)), expected)
    with pytest.raises(ValueError, match="matches frozen parameters only"):
        Net(parameters="first.bias").build(net, X, y)
    with pytest.raises(ValueError, match="matches no parameter"):
        Net(parameters="second").build(net, X, y)


def test_optimizer_groups_that_leave_parameters_out():
    net, X, y = fitted("dense")
    net.optimizer_ = torch.optim.SGD(net.module_.last.parameters(), lr=0.1)
    assert objective_for(net, X, y).names == ["last.weight", "last.bias"]


def test_skorch_default_of_probabilities():
    """NLLLoss takes the log of probabilities inside get_loss."""

    class Probabilities(Dense):
        def forward(self, x):
            return super().forward(x).softmax(-1)

    net, X, y = fitted("dense")
    twin = NeuralNetClassifier(
        Probabilities,
        train_split=None,
        batch_size=-1,
        verbose=0,
        optimizer__weight_decay=WEIGHT_DECAY,
    ).initialize()
    twin.module_.load_state_dict(net.module_.state_dict())
    ours, theirs = objective_for(net, X, y), objective_for(twin, X, y)
    np.testing.assert_allclose(
        ours.removal_gradients().block(slice(None)),
        theirs.removal_gradients().block(slice(None)),
        atol=1e-12,
    )
    identity = np.eye(ours.n_params)
    np.testing.assert_allclose(
        ours.gauss_newton_product(identity), theirs.gauss_newton_product(identity), atol=1e-11
    )
    proba = theirs.head.proba(theirs.outputs)
    np.testing.assert_allclose(proba, twin.predict_proba(X), atol=1e-12)


class SmoothedNet(NeuralNet):
    """A plain net with a loss of its own."""

    def get_loss(self, y_pred, y_true, X=None, training=False):
        logs = torch.log_softmax(y_pred, -1)
        own = torch.gather(logs, 1, y_true[:, None])[:, 0]
        return -(0.9 * own + 0.1 * logs.mean(-1)).mean()


def test_overridden_loss():
    X, y = rows("dense")
    options = {"batch_size": -1, "train_split": None, "verbose": 0, "max_epochs": 3}
    net = SmoothedNet(Dense, criterion=nn.CrossEntropyLoss, **options).fit(X, y)
    objective = objective_for(net, X, y)
    smooth = nn.CrossEntropyLoss(label_smoothing=0.1, reduction="none")
    Z = torch.as_tensor(objective.outputs)
    expected = smooth(Z, torch.as_tensor(y)).numpy()
    np.testing.assert_allclose(objective.head.loss(objective.outputs, y), expected)
    # the same by a criterion
    other = NeuralNetClassifier(
        Dense, criterion=nn.CrossEntropyLoss, criterion__label_smoothing=0.1, **options
    ).initialize()
    other.module_.load_state_dict(net.module_.state_dict())
    other = objective_for(other, X, y)
    V = np.random.default_rng(0).normal(size=(objective.n_params, 4))
    for kind in ("gauss_newton", "hessian"):
        np.testing.assert_allclose(
            objective.curvature_product(V, kind), other.curvature_product(V, kind), atol=1e-10
        )
    with pytest.raises(ValueError, match="Fisher information needs a loss that is a known"):
        objective.fisher_product(V)


class WeightedNet(NeuralNetRegressor):
    """Sample weights travel in X."""

    def get_loss(self, y_pred, y_true, X=None, training=False):
        values = super().get_loss(y_pred, y_true, X, training=training)
        return (values.mean(1) * X["sample_weight"]).sum() / len(y_pred)


def test_weights_inside_a_dict():
    class Takes(Dense):
        def forward(self, data, sample_weight):
            return super().forward(data)

    X, y = rows("regression")
    w = np.random.default_rng(0).uniform(0.5, 2, len(X))
    inputs = {"data": X, "sample_weight": w}
    net = WeightedNet(
        lambda: Takes(K=2),
        criterion__reduction="none",
        batch_size=-1,
        train_split=None,
        verbose=0,
        max_epochs=3,
        optimizer__weight_decay=WEIGHT_DECAY,
    ).fit(inputs, y)
    explainer = InfluenceExplainer(FrozenEstimator(net), solver="direct").fit(inputs, y)
    objective = explainer.objective_
    plain = NeuralNetRegressor(lambda: Dense(K=2), batch_size=-1, train_split=None, verbose=0)
    plain.initialize().module_.load_state_dict(net.module_.state_dict())
    expected = w[:, None] * Oracle(plain, X, y).gradients()
    np.testing.assert_allclose(objective.loss_gradients().block(slice(None)), expected, atol=1e-12)
    queries = {name: part[:3] for name, part in inputs.items()}
    assert explainer.group_influence([[0], [1, 2]], queries, y[:3]).shape == (3, 2)


# -- the user's net stays as it is -----------------------------------------------------------------
def test_train_mode_and_statistics_are_left_alone():
    net, X, y = fitted("image")
    net.module_.train()
    before = {name: part.clone() for name, part in net.module_.state_dict().items()}
    flags = [p.requires_grad for p in net.module_.parameters()]
    explainer = InfluenceExplainer(FrozenEstimator(net), solver="ekfac").fit(X, y)
    first = explainer.transform(X[:3], y[:3])
    np.testing.assert_array_equal(first, explainer.transform(X[:3], y[:3]))
    assert net.module_.training
    assert flags == [p.requires_grad for p in net.module_.parameters()]
    for name, part in net.module_.state_dict().items():
        assert torch.equal(part, before[name])


# -- refusals --------------------------------------------------------------------------------------
class Noisy(Dense):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, training=True)


class Mixing(Dense):
    def forward(self, x):
        return super().forward(x - x.mean(0))


class Pair(Dense):
    def forward(self, x):
        return super().forward(x), x


class Penalised(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, X=None, training=False):
        loss = super().get_loss(y_pred, y_true, X, training=training)
        return loss + 0.1 * sum(p.abs().sum() for p in self.module_.parameters())


class Largest(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, X=None, training=False):
        return super().get_loss(y_pred, y_true, X, training=training) ** 2


@pytest.mark.parametrize(
    ("module", "kind", "message"),
    [
        (Noisy, NeuralNetClassifier, "different outputs on two calls"),
        (Mixing, NeuralNetClassifier, "depends on the other rows"),
        (Pair, NeuralNetClassifier, "returns a tuple"),
        (Dense, Penalised, "uses the module's parameters besides"),
        (Dense, Largest, "neither the mean"),
    ],
)
def test_refused_nets(module, kind, message):
    X, y = rows("dense")
    options = {"criterion": nn.CrossEntropyLoss, "train_split": None, "verbose": 0}
    net = kind(module, **options).initialize()
    with pytest.raises((ValueError, TypeError), match=message):
        objective_for(net, X, y)


def test_logits_where_probabilities_belong_are_refused():
    X, y = rows("dense")
    net = NeuralNetClassifier(Dense, train_split=None, verbose=0).initialize()
    with pytest.raises(ValueError, match="loss of a batch is nan.*return probabilities"):
        objective_for(net, X, y)


def test_refused_data():
    net, X, y = fitted("dense")
    explainer = InfluenceExplainer(FrozenEstimator(net))
    with pytest.raises(ValueError, match="X is float32 but the module's parameters are float64"):
        explainer.fit(X.astype(np.float32), y)
    with pytest.raises(ValueError, match="does not encode labels"):
        explainer.fit(X, y.astype(str))
    with pytest.raises(ValueError, match="NaN or infinity"):
        explainer.fit(np.where(X > 1, np.nan, X), y)
    with pytest.raises(ValueError, match="takes no sample_weight"):
        explainer.fit(X, y, sample_weight=np.ones(len(y)))
    with pytest.raises(ValueError, match="labels never seen"):
        explainer.fit(X, y).transform(X[:2], np.array([0, 7]))
    net.trim_for_prediction()
    with pytest.raises(ValueError, match="trim_for_prediction removes them"):
        objective_for(net, X, y)


def test_refused_splits_and_shapes():
    net, X, y = fitted("dense", n=60)
    net.set_params(train_split=ValidSplit(0.2, stratified=True))
    with pytest.raises(ValueError, match="give ValidSplit a random_state"):
        objective_for(net, X, y)
    regressor = NeuralNetRegressor(lambda: Dense(K=1), train_split=None, verbose=0).initialize()
    with pytest.raises(ValueError, match="broadcasts them to a square"):
        objective_for(regressor, X, X[:, 0])
    with pytest.raises(ValueError, match="is not fitted"):
        objective_for(NeuralNetClassifier(Dense), X, y)


class ColumnLoss(NeuralNet):
    """A loss that takes one-dimensional targets against the only column of outputs."""

    def get_loss(self, y_pred, y_true, X=None, *args, **kwargs):
        return nn.functional.huber_loss(y_pred[:, 0], y_true)


def test_a_loss_of_ones_own_may_take_flat_targets():
    X, y = rows("dense")
    y = X[:, 0] ** 2
    net = ColumnLoss(
        Dense(K=1), criterion=nn.MSELoss, batch_size=-1, train_split=None, verbose=0, max_epochs=2
    ).fit(X, y)
    objective = objective_for(net, X, y)
    error = objective.outputs[:, 0] - y
    expected = np.where(np.abs(error) < 1, error, np.sign(error))
    np.testing.assert_allclose(objective.slopes[:, 0], expected, atol=1e-12)


def test_the_random_state_and_a_device_of_none_are_left_alone():
    X, y = rows("dense")
    options = {"criterion": nn.CrossEntropyLoss, "device": None, "verbose": 0, "max_epochs": 2}
    net = NeuralNetClassifier(Dense(), batch_size=-1, train_split=None, **options).fit(X, y)
    before = torch.get_rng_state()
    assert objective_for(net, X, y).device == torch.device("cpu")
    assert torch.equal(before, torch.get_rng_state())


def test_a_net_that_diverged_is_refused():
    net, X, y = fitted("dense")
    with torch.no_grad():
        net.module_.last.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="outputs are not finite: did training diverge"):
        objective_for(net, X, y)
