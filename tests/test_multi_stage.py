"""Influence of pretraining rows on fine-tuned nets, against weighted refits of both stages."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn
from torch.func import functional_call, grad, hessian, vmap

from skinfluence import InfluenceExplainer, MultiStageInfluence
from skinfluence.fine_tuning import FineTunedMixin
from skinfluence.solvers import EKFAC, ConjugateGradient, Direct, LiSSA

WD, ALPHA = 0.01, 0.3
EXACT = Direct(curvature="hessian")


class Net(nn.Module):
    """An encoder, which is shared, and a head of two layers or one."""

    def __init__(self, K=3, deep=False):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        own = [nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, K)] if deep else [nn.Linear(4, K)]
        self.head = nn.Sequential(*own)
        self.double()

    def forward(self, x):
        return self.head(self.encoder(x))


class FineTuned(FineTunedMixin, NeuralNetClassifier):
    """A classifier that starts from another."""


class FineTunedRegressor(FineTunedMixin, NeuralNetRegressor):
    """A regressor that starts from another net."""


OPTIONS = {
    "criterion": nn.CrossEntropyLoss,
    "optimizer": torch.optim.SGD,
    "optimizer__weight_decay": WD,
    "lr": 0.1,
    "max_epochs": 1,
    "batch_size": -1,
    "train_split": None,
    "verbose": 0,
}


def data(n, K, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    y = np.digitize(X[:, 0] * X[:, 1] + 0.7 * rng.normal(size=n), np.linspace(-1, 1, K + 1)[1:-1])
    return X, y


PRETRAINED = {}  # by seed: it is the same under either coupling
X, y = data(30, 3, 0)
X_FINE, y_FINE = data(20, 2, 1)
X_QUERY, y_QUERY = data(5, 2, 2)


def gradient(function, theta):
    """By reverse mode."""
    theta = theta.clone().requires_grad_()
    return torch.autograd.grad(function(theta), theta)[0]


def descend(function, theta):
    """A minimum by Newton steps on absolute eigenvalues, and the inverse Hessian there."""
    for _ in range(200):
        g = gradient(function, theta)
        values, vectors = torch.linalg.eigh(hessian(function)(theta))
        if g.abs().max() < 1e-10 and values[0] > 0:
            return theta, vectors @ torch.diag(1 / values) @ vectors.T
        step = vectors @ ((vectors.T @ g) / values.abs().clamp_min(1e-3))
        size = 1.0
        while g.abs().max() > 1e-5 and function(theta - size * step) > function(theta):
            size /= 2
        theta = theta - size * step
    raise AssertionError("no minimum")


def minimum(function, theta, inverse=None):
    """A minimum to rounding; ``inverse`` is the inverse Hessian of one close by."""
    if inverse is None:
        theta, inverse = descend(function, theta)
    for _ in range(10):
        g = gradient(function, theta)
        if g.abs().max() < 1e-14:
            break
        theta = theta - inverse @ g
    assert g.abs().max() < 1e-12
    return theta, inverse


class TwoStages:
    """Pretraining and fine-tuning in plain torch, row weights in the first."""

    def __init__(self, coupling, deep=False, regression=False, seed=0):
        torch.manual_seed(seed)
        self.coupling, self.regression = coupling, regression
        self.before, self.after = Net(3), Net(1 if regression else 2, deep)
        self.names = [
            [name for name, _ in module.named_parameters()] for module in (self.before, self.after)
        ]
        self.rows = torch.as_tensor(X), torch.as_tensor(y)
        y_fine = torch.as_tensor(X_FINE[:, :1] ** 2) if regression else torch.as_tensor(y_FINE)
        self.fine = torch.as_tensor(X_FINE), y_fine
        start = torch.nn.utils.parameters_to_vector
        self.start = start(self.before.parameters()).detach()
        self.n_shared = sum(p.numel() for p in self.before.encoder.parameters())
        self.own = start(self.after.head.parameters()).detach()
        ones = torch.ones(len(y), dtype=torch.float64)
        if seed not in PRETRAINED:
            PRETRAINED[seed] = self.pretrain(ones, self.start)
        self.theta, self.before_inverse = PRETRAINED[seed]
        both = torch.cat([self.theta[: self.n_shared], self.own])
        self.phi, self.after_inverse = self.fine_tune(self.theta, both)

    def outputs(self, module, theta, X):
        state, start = {}, 0
        for name, p in module.named_parameters():
            state[name] = theta[start : start + p.numel()].reshape(p.shape)
            start += p.numel()
        return functional_call(module, state, (X,))

    def pretrain(self, weights, start, inverse=None):
        def loss(theta):
            Z = self.outputs(self.before, theta, self.rows[0])
            each = nn.functional.cross_entropy(Z, self.rows[1], reduction="none")
            return weights @ each / weights.sum() + WD / 2 * (theta**2).sum()

        return minimum(loss, start, inverse)

    def fine_tune(self, theta, start, inverse=None):
        shared = theta[: self.n_shared]

        def loss(phi):
            Z = self.outputs(self.after, phi, self.fine[0])
            kind = nn.functional.mse_loss if self.regression else nn.functional.cross_entropy
            return kind(Z, self.fine[1])

        if self.coupling == "fixed":

            def of_head(head):
                return loss(torch.cat([shared, head])) + WD / 2 * (head**2).sum()

            head, inverse = minimum(of_head, start[self.n_shared :], inverse)
            return torch.cat([shared, head]), inverse

        def held(phi):
            near = ALPHA / 2 * ((phi[: self.n_shared] - shared) ** 2).sum()
            return loss(phi) + WD / 2 * (phi**2).sum() + near

        return minimum(held, start, inverse)

    def losses(self, phi):
        with torch.no_grad():
            Z = self.outputs(self.after, phi, torch.as_tensor(X_QUERY))
            if self.regression:
                return Z[:, 0].numpy()
            return nn.functional.cross_entropy(
                Z, torch.as_tensor(y_QUERY), reduction="none"
            ).numpy()

    def differences(self, rows, h=1e-4):
        """``-dt/dw_i`` by central differences of both fits: (m, len(rows))."""
        out = []
        for row in rows:
            ends = []
            for sign in (1, -1):
                weights = torch.ones(len(y), dtype=torch.float64)
                weights[row] += sign * h
                theta, _ = self.pretrain(weights, self.theta, self.before_inverse)
                phi, _ = self.fine_tune(theta, self.phi, self.after_inverse)
                ends.append(self.losses(phi))
            out.append((ends[1] - ends[0]) / (2 * h))
        return np.array(out).T

    def derivatives(self):
        """Released gradients of pretraining rows; gradients and Hessian of the fine-tuned net."""

        def pretraining_loss(theta, X, y):
            Z = self.outputs(self.before, theta, X[None])
            return nn.functional.cross_entropy(Z, y[None]) + WD / 2 * (theta**2).sum()

        def loss(phi, X, y):
            Z = self.outputs(self.after, phi, X[None])
            return nn.functional.cross_entropy(Z, y[None])

        def total(phi):
            Z = self.outputs(self.after, phi, self.fine[0])
            return nn.functional.cross_entropy(Z, self.fine[1], reduction="sum")

        queries = torch.as_tensor(X_QUERY), torch.as_tensor(y_QUERY)
        released = vmap(grad(pretraining_loss), (None, 0, 0))(self.theta, *self.rows)
        slopes = vmap(grad(loss), (None, 0, 0))(self.phi, *queries)
        return released.numpy(), slopes.numpy(), hessian(total)(self.phi).numpy()

    def nets(self):
        """Skorch nets with these parameters."""
        before = NeuralNetClassifier(lambda: Net(3), **OPTIONS).initialize()
        torch.nn.utils.vector_to_parameters(self.theta, before.module_.parameters())
        deep = len(self.after.head) > 1
        K = 1 if self.regression else 2
        kind = FineTunedRegressor if self.regression else FineTuned
        options = OPTIONS | {"criterion": nn.MSELoss} if self.regression else OPTIONS
        after = kind(
            lambda: Net(K, deep),
            pretrained=FrozenEstimator(before),
            shared="encoder",
            coupling=self.coupling,
            alpha=ALPHA if self.coupling == "updated" else None,
            **options,
        ).initialize()
        torch.nn.utils.vector_to_parameters(self.phi, after.module_.parameters())
        return FrozenEstimator(before), FrozenEstimator(after)

    def explainer(self, **options):
        alpha = ALPHA if self.coupling == "updated" else None
        options = {"shared": "encoder.*", "coupling": self.coupling, "alpha": alpha} | options
        explainer = MultiStageInfluence(*self.nets(), **options)
        return explainer.fit(X, y, X_FINE, self.fine[1].numpy())

    def queries(self):
        return (X_QUERY,) if self.regression else (X_QUERY, y_QUERY)


@pytest.fixture(scope="module", params=["fixed", "updated"])
def stages(request):
    return TwoStages(request.param)


# -- derivatives: 1e-5, what central differences of step 1e-4 resolve ------------------------
def close(actual, expected, tolerance=1e-5):
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("coupling", ["fixed", "updated"])
@pytest.mark.parametrize("kind", ["linear head", "deep head", "regression"])
def test_weighted_refits_of_both_stages(coupling, kind):
    stages = TwoStages(coupling, deep=kind == "deep head", regression=kind == "regression")
    explainer = stages.explainer(solver=EXACT)
    assert explainer.pretraining_.gradient_norm_ < 1e-10
    assert explainer.fine_tuning_.gradient_norm_ < 1e-10
    rows = [0, 7, 13, 29]
    values = explainer.transform(*stages.queries())
    close(values[:, rows], stages.differences(rows))


@pytest.mark.parametrize("target", ["decision", "proba"])
def test_targets_of_the_fine_tuned_net(stages, target):
    """Differences of the target at parameters moved along the influences on them."""
    explainer = stages.explainer(solver=EXACT, target=target)
    coupling, row = explainer.effects_.coupling, 3
    moved = explainer.pretraining_.parameter_influence([row])[0]
    theta = torch.as_tensor(stages.theta.numpy() + 1e-4 * moved)
    ends = [stages.fine_tune(theta, stages.phi, stages.after_inverse)[0], stages.phi]
    outputs = [stages.outputs(stages.after, phi, torch.as_tensor(X_QUERY)).numpy() for phi in ends]
    if target == "proba":
        outputs = [np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True) for Z in outputs]
    expected = (outputs[0] - outputs[1])[np.arange(len(y_QUERY)), y_QUERY] / 1e-4
    assert coupling.objective.n_outputs == 2
    # a one-sided difference: its error is of the order of the step
    close(explainer.transform(X_QUERY, y_QUERY)[:, row], expected, 1e-3)


def test_one_pass_and_many(stages):
    """Means, the largest, groups and blocks are those of the whole array."""
    explainer = stages.explainer(solver=EXACT)
    values = explainer.transform(X_QUERY, y_QUERY)
    mean = explainer.dataset_influence(X_QUERY, y_QUERY)
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-10, atol=1e-14)
    top = explainer.top_influences(X_QUERY, y_QUERY, k=3)
    expected = np.argsort(-np.abs(values), axis=1)[:, :3]
    np.testing.assert_array_equal(top.indices, expected)
    groups = explainer.group_influence([[0, 4, 9], [1]], X_QUERY, y_QUERY)
    sums = np.column_stack([values[:, [0, 4, 9]].sum(axis=1), values[:, 1]])
    np.testing.assert_allclose(groups, sums, rtol=1e-10, atol=1e-14)
    blocked = stages.explainer(solver=EXACT, batch_size=7).transform(X_QUERY, y_QUERY)
    np.testing.assert_allclose(blocked, values, rtol=1e-10, atol=1e-14)


def test_sum_of_all_rows(stages):
    """All pretraining rows scaled alike change nothing but the share of the penalty: with the
    removal rule of a mean, the influences add up to zero."""
    values = stages.explainer(solver=EXACT).transform(X_QUERY, y_QUERY)
    assert np.abs(values.sum(axis=1)).max() <= 1e-9 * np.abs(values).max()


def test_fine_tuning_rows(stages):
    """The stage's own explainer is that of the fine-tuned net by itself."""
    explainer = stages.explainer(solver=EXACT)
    alone = InfluenceExplainer(stages.nets()[1], method="influence", solver=EXACT)
    expected = alone.fit(X_FINE, y_FINE).transform(X_QUERY, y_QUERY)
    values = explainer.fine_tuning_.transform(X_QUERY, y_QUERY)
    np.testing.assert_allclose(values, expected, rtol=1e-9)
    # the whole objective's derivative vanishes, the part that holds the encoder included
    total = alone.objective_.removal_gradients().block(slice(None)).sum(axis=0)
    assert np.abs(total).max() < 1e-9


# -- solvers -------------------------------------------------------------------------------------
def test_conjugate_gradients_are_exact(stages):
    """To their tolerance of 1e-10; the pair's entries serve one stage each."""
    exact = stages.explainer(solver="direct").transform(X_QUERY, y_QUERY)
    cg = ConjugateGradient(tol=1e-10, max_iter=1000)
    for solver in (cg, ("direct", cg), [cg, "direct"]):
        values = stages.explainer(solver=solver).transform(X_QUERY, y_QUERY)
        close(values, exact, 1e-7)


PAIR = ("ekfac", ConjugateGradient(tol=1e-10, max_iter=1000))
SOLVERS = ["kfac", "ekfac", "arnoldi", "lanczos", "nystrom", "datainf", "diagonal", "identity"]


@pytest.mark.parametrize("solver", [*SOLVERS, PAIR, LiSSA(damping=5.0)], ids=str)
def test_every_solver_serves_both_stages(stages, solver):
    """Each stage's own inverse, as a matrix, between blocks of derivatives by autograd."""
    explainer = stages.explainer(solver=solver)
    values = explainer.transform(X_QUERY, y_QUERY)
    inverses = [
        stage.solver_.solve(np.eye(stage.objective_.n_params))
        for stage in (explainer.pretraining_, explainer.fine_tuning_)
    ]
    released, slopes, H = stages.derivatives()
    s, n_fine = stages.n_shared, len(y_FINE)
    moved = (released @ inverses[0].T)[:, :s].T
    if stages.coupling == "fixed":
        expected = (slopes[:, :s] - slopes[:, s:] @ inverses[1] @ H[s:, :s]) @ moved
    else:
        expected = n_fine * ALPHA * slopes @ inverses[1][:, :s] @ moved
    close(values, expected, 1e-4 if isinstance(solver, LiSSA) else 1e-8)


def test_ekfac_follows_the_exact_answer(stages):
    exact = stages.explainer(solver="direct").transform(X_QUERY, y_QUERY)
    values = stages.explainer(solver="ekfac").transform(X_QUERY, y_QUERY)
    assert np.corrcoef(values.ravel(), exact.ravel())[0, 1] > 0.7


# -- training --------------------------------------------------------------------------------------
def trained(coupling, **options):
    """An unfitted explainer of nets that skorch trains to a minimum."""
    # with curvature of at least 0.3 every step takes away 15 % of the error
    options = OPTIONS | {"max_epochs": 120, "lr": 0.5, "optimizer__weight_decay": 0.3} | options
    pretrained = NeuralNetClassifier(lambda: Net(2), **options | {"max_epochs": 5})
    alpha = ALPHA if coupling == "updated" else None
    shared = "*" if coupling == "updated" else "encoder"
    finetuned = FineTuned(lambda: Net(2), **options)
    return MultiStageInfluence(
        pretrained, finetuned, shared=shared, coupling=coupling, alpha=alpha, solver="direct"
    )


def test_proximity_is_what_training_minimised():
    """The recognised objective is stationary where skorch's own training stopped."""
    torch.manual_seed(0)
    explainer = trained("updated").fit(X, y % 2, X_FINE, y_FINE)
    moved = explainer.fine_tuning_.objective_.theta - explainer.pretraining_.objective_.theta
    pull = len(y_FINE) * ALPHA * np.abs(moved).max()
    assert pull > 0.1
    assert explainer.fine_tuning_.gradient_norm_ < 1e-6 * pull


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("batch_size", [-1, 5])
def test_proximity_in_the_units_of_weight_decay(reduction, batch_size):
    """Held near zero by alpha and decayed towards zero by alpha are the same training."""
    torch.manual_seed(0)
    options = OPTIONS | {"criterion__reduction": reduction, "batch_size": batch_size, "lr": 0.02}
    zeros = NeuralNetClassifier(lambda: Net(2), **options).initialize()
    for p in zeros.module_.parameters():
        p.data.zero_()
    held = FineTuned(
        lambda: Net(2),
        pretrained=FrozenEstimator(zeros),
        coupling="updated",
        alpha=0.2,
        **(options | {"optimizer__weight_decay": 0.0}),
    ).initialize()
    decayed = NeuralNetClassifier(lambda: Net(2), **options | {"optimizer__weight_decay": 0.2})
    decayed.initialize()
    values = torch.randn(sum(p.numel() for p in held.module_.parameters()), dtype=torch.float64)
    for net in (held, decayed):
        torch.nn.utils.vector_to_parameters(values, net.module_.parameters())
        for _ in range(5):
            net.partial_fit(X_FINE, y_FINE)
    ends = [
        InfluenceExplainer(FrozenEstimator(net), solver="direct").fit(X_FINE, y_FINE)
        for net in (held, decayed)
    ]
    np.testing.assert_allclose(ends[0].objective_.theta, ends[1].objective_.theta, rtol=1e-10)
    np.testing.assert_allclose(ends[0].objective_.penalty, ends[1].objective_.penalty, rtol=1e-12)
    both = [end.transform(X_QUERY, y_QUERY) for end in ends]
    np.testing.assert_allclose(*both, rtol=1e-7)


def test_fixed_training_leaves_the_encoder():
    torch.manual_seed(0)
    explainer = trained("fixed").fit(X, y % 2, X_FINE, y_FINE)
    before, after = explainer.pretrained_.module_, explainer.finetuned_.module_
    assert torch.equal(before.encoder[0].weight, after.encoder[0].weight)
    assert explainer.fine_tuning_.gradient_norm_ < 1e-6
    assert explainer.shared_ == ["encoder.0.weight", "encoder.0.bias"]
    # a clone trains from the same start again
    again = clone(explainer.finetuned_).set_params(max_epochs=2).fit(X_FINE, y_FINE)
    assert torch.equal(again.module_.encoder[0].weight, before.encoder[0].weight)


def test_estimator_conventions():
    pd = pytest.importorskip("pandas")
    torch.manual_seed(0)
    explainer = trained("fixed", max_epochs=5)
    assert clone(explainer).get_params()["shared"] == "encoder"
    explainer.set_params(solver=("direct", EKFAC(damping=1.0)))
    explainer = clone(explainer).set_output(transform="pandas")
    table = explainer.fit(X, y % 2, X_FINE, y_FINE).transform(X_QUERY, y_QUERY)
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == [f"row_{i}" for i in range(len(y))]
    assert explainer.fine_tuning_.solver_.damping_ == 1.0
    again = pickle.loads(pickle.dumps(explainer_of_classes()))
    assert again.transform(X_QUERY, y_QUERY).shape == (5, len(y))


def explainer_of_classes():
    """Nets without lambdas, which pickle knows."""
    options = OPTIONS | {"module__K": 2}
    before = NeuralNetClassifier(Net, **options).fit(X, y % 2)
    after = FineTuned(Net, pretrained=FrozenEstimator(before), shared="encoder", **options)
    nets = FrozenEstimator(before), FrozenEstimator(after.fit(X_FINE, y_FINE))
    return MultiStageInfluence(*nets, shared="encoder").fit(X, y % 2, X_FINE, y_FINE)


# -- refusals ------------------------------------------------------------------------------------
def plain(module, X=X_FINE, y=y_FINE, **options):
    """A frozen plain net after one step."""
    torch.manual_seed(0)
    return FrozenEstimator(NeuralNetClassifier(module, **OPTIONS | options).fit(X, y))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"shared": "body"}, "matches no parameter of the pretrained net"),
        ({"shared": ["encoder", "head"]}, "leave it out of the patterns"),
        ({"alpha": 1.0, "coupling": "fixed"}, "goes with coupling='updated'"),
        ({"alpha": None, "coupling": "updated"}, "needs alpha"),
        ({"solver": ("direct",) * 3}, "3 entries"),
    ],
)
def test_options_that_do_not_fit(stages, options, message):
    with pytest.raises(ValueError, match=message):
        stages.explainer(**options)


def test_nets_that_do_not_fit():
    before, moved = plain(lambda: Net(3), X, y), plain(lambda: Net(2))

    def fit(pretrained=before, finetuned=moved, **options):
        options = {"shared": "encoder"} | options
        explainer = MultiStageInfluence(pretrained, finetuned, **options)
        return explainer.fit(X, y, X_FINE, y_FINE)

    with pytest.raises(ValueError, match="'encoder.0.weight' is not the same in both nets"):
        fit()
    with pytest.raises(TypeError, match="derive it from skinfluence.fine_tuning.FineTunedMixin"):
        fit(finetuned=moved.estimator)
    with pytest.raises(TypeError, match="pass the skorch net that it started from"):
        fit(pretrained=LogisticRegression())
    with pytest.raises(TypeError, match="starts from no other model"):
        fit(finetuned=LogisticRegression())
    with pytest.raises(ValueError, match="pipeline"):
        fit(pretrained=make_pipeline(StandardScaler(), before))
    with pytest.warns(UserWarning, match="stands in for what kept"):
        fit(coupling="updated", alpha=1.0)
    with pytest.raises(ValueError, match="is not fitted"):
        FineTuned(lambda: Net(2), pretrained=clone(before.estimator), **OPTIONS).initialize()
    other = plain(lambda: Net(3), X, y, max_epochs=2)
    options = {"shared": "encoder", "coupling": "updated", "alpha": 0.5}
    tuned = FineTuned(lambda: Net(2), pretrained=other, **options, **OPTIONS).fit(X_FINE, y_FINE)
    with pytest.raises(ValueError, match="was not held near the pretrained net's value"):
        fit(finetuned=FrozenEstimator(tuned), **options)
    with pytest.raises(ValueError, match="was trained with alpha=0.5"):
        fit(pretrained=other, finetuned=FrozenEstimator(tuned), **options | {"alpha": 1.0})
    with pytest.raises(ValueError, match="but the fine-tuned net held"):
        wanted = options | {"shared": "encoder.0.bias"}
        fit(pretrained=other, finetuned=FrozenEstimator(tuned), **wanted)
    with pytest.raises(ValueError, match="last_layer"):
        InfluenceExplainer(
            FrozenEstimator(tuned_whole(other)), objective="last_layer", method="newton"
        ).fit(X, y)


def tuned_whole(pretrained):
    """A net of which all is held."""
    options = OPTIONS | {"shared": "*", "coupling": "updated", "alpha": 0.5}
    return FineTuned(lambda: Net(3), pretrained=pretrained, **options).fit(X, y)


def test_frozen_parameters_do_not_carry_pretraining_rows():
    """An encoder that pretraining never moved hands nothing on."""

    def module():
        out = Net(2)
        out.encoder.requires_grad_(False)
        return out

    before = plain(module, X, y % 2)
    after = FineTuned(lambda: Net(2), pretrained=before, shared="encoder", **OPTIONS)
    with pytest.raises(ValueError, match="none of the shared parameters"):
        MultiStageInfluence(before, after, shared="encoder").fit(X, y % 2, X_FINE, y_FINE)


class Normalised(Net):
    """Running statistics in the encoder."""

    def __init__(self, K=2):
        super().__init__(K)
        self.encoder.append(nn.BatchNorm1d(4).double())


def test_running_statistics_of_the_encoder():
    before = plain(Normalised, X, y % 2)
    options = {"pretrained": before, "shared": "encoder"}
    with pytest.raises(ValueError, match="would not stay fixed"):
        FineTuned(Normalised, **options, **OPTIONS).initialize()
    torch.manual_seed(0)
    after = NeuralNetClassifier(Normalised, **OPTIONS).initialize()
    after.module_.load_state_dict(before.module_.state_dict())
    after.module_.encoder.requires_grad_(False)
    after.partial_fit(X_FINE, y_FINE)  # its forward passes move the statistics
    explainer = MultiStageInfluence(before, FrozenEstimator(after), shared="encoder")
    with pytest.raises(ValueError, match="'encoder.2.running_mean' is not the same in both nets"):
        explainer.fit(X, y % 2, X_FINE, y_FINE)
    after.module_.encoder.load_state_dict(before.module_.encoder.state_dict())
    assert explainer.fit(X, y % 2, X_FINE, y_FINE).transform(X_QUERY).shape == (5, len(y))
