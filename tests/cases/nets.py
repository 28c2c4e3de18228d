"""Small nets in double precision, and dense matrices to compare with, by autograd alone."""

import copy

import numpy as np
import torch
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from torch import nn
from torch.func import functional_call, grad, jacrev, vmap

WEIGHT_DECAY = 1e-2


class Dense(nn.Module):
    """An MLP."""

    def __init__(self, d=5, hidden=6, K=3, dtype=torch.float64):
        super().__init__()
        self.first, self.act = nn.Linear(d, hidden), nn.Tanh()
        self.last = nn.Linear(hidden, K)
        self.to(dtype)

    def forward(self, x):
        return self.last(self.act(self.first(x)))


class Image(nn.Module):
    """Convolutions, normalisation, dropout, an operation in place, and a bare parameter."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1, stride=2, padding_mode="circular")
        self.norm, self.relu = nn.BatchNorm2d(3), nn.ReLU(inplace=True)
        self.spread = nn.LayerNorm((3, 4, 4))
        self.drop, self.last = nn.Dropout(0.5), nn.Linear(48, 4)
        self.scale = nn.Parameter(torch.full((4,), 0.9))
        self.double()

    def forward(self, x):
        h = self.spread(self.relu(self.norm(self.conv(x)))).flatten(1)
        return self.last(self.drop(h)) * self.scale


class Signal(nn.Module):
    """One-dimensional convolutions with dilation, and groups, which have no structure."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(2, 4, 3, padding="same", dilation=2)
        self.norm = nn.BatchNorm1d(4)
        self.grouped = nn.Conv1d(4, 4, 3, groups=2)
        self.last = nn.Linear(4, 3)
        self.double()

    def forward(self, x):
        h = torch.tanh(self.norm(self.first(x)))
        return self.last(self.grouped(h).mean(2))


class Words(nn.Module):
    """An embedding with padding; one linear layer is used twice."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(7, 4, padding_idx=0)
        self.mix, self.last = nn.Linear(4, 4), nn.Linear(4, 3)
        self.double()

    def forward(self, x):
        h = torch.tanh(self.mix(self.words(x)))
        return self.last(torch.tanh(self.mix(h)).sum(1))


class Tied(nn.Module):
    """One matrix in two layers."""

    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(5, 3), nn.Linear(3, 5, bias=False)
        self.decode.weight = nn.Parameter(self.encode.weight.T.detach().clone())
        self.again = nn.Linear(5, 3)
        self.again.weight = self.encode.weight
        self.double()

    def forward(self, x):
        return self.again(torch.tanh(self.decode(torch.tanh(self.encode(x)))))


def rows(name, n=24, seed=0):
    """Data for a module by name: ``(X, y)``."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    if name == "image":
        return rng.normal(size=(n, 1, 8, 8)), np.arange(n) % 4
    if name == "signal":
        return rng.normal(size=(n, 2, 10)), y
    if name == "words":
        return rng.integers(0, 7, (n, 6)), y
    X = rng.normal(size=(n, 5))
    if name == "regression":
        return X, np.column_stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]])
    if name == "binary":
        return X, (X[:, 0] + 0.5 * rng.normal(size=n) > 0).astype(float)
    return X, y


def fitted(name, *, n=24, seed=0, **options):
    """``(net, X, y)``: a few full-batch steps of SGD on a module by name."""
    X, y = rows(name, n, seed)
    torch.manual_seed(seed)
    defaults = {
        "max_epochs": 20,
        "lr": 0.1,
        "optimizer": torch.optim.SGD,
        "batch_size": -1,
        "verbose": 0,
        "optimizer__weight_decay": WEIGHT_DECAY,
        "train_split": None,
    }
    modules = {"image": Image, "signal": Signal, "words": Words, "tied": Tied}
    if name == "regression":
        kind, module = NeuralNetRegressor, lambda: Dense(K=2)
    elif name == "binary":
        kind, module = NeuralNetBinaryClassifier, lambda: Dense(K=1)
    else:
        kind, module = NeuralNetClassifier, modules.get(name, Dense)
        defaults["criterion"] = nn.CrossEntropyLoss
    return kind(module, **(defaults | options)).fit(X, y), X, y


class Oracle:
    """Dense derivatives of a fitted net's loss in total form, without the package."""

    def __init__(self, net, X, y, names=None):
        module = copy.deepcopy(net.module_).eval()
        self.X, self.y = torch.as_tensor(X), torch.as_tensor(y)
        parameters = {k: p.detach() for k, p in module.named_parameters() if p.requires_grad}
        self.names = list(parameters) if names is None else names
        self.shapes = [parameters[name].shape for name in self.names]
        self.theta = torch.cat([parameters[name].flatten() for name in self.names])
        module.requires_grad_(False)
        self.module, self.net = module, net

    def outputs(self, theta, X):
        """Outputs (n, K)."""
        parts = theta.split([shape.numel() for shape in self.shapes])
        pairs = zip(self.names, parts, self.shapes, strict=True)
        state = {name: part.reshape(shape) for name, part, shape in pairs}
        return functional_call(self.module, state, (X,)).reshape(len(X), -1)

    def loss(self, Z, y):
        """Loss of one row, from its outputs."""
        if isinstance(self.net, NeuralNetClassifier):
            return nn.functional.cross_entropy(Z[None], y[None])
        if isinstance(self.net, NeuralNetBinaryClassifier):
            return nn.functional.binary_cross_entropy_with_logits(Z[0], y)
        return ((Z - y) ** 2).mean()

    def gradients(self):
        """Row gradients (n, p), one row at a time."""

        def value(theta, x, y):
            return self.loss(self.outputs(theta, x[None])[0], y)

        return vmap(grad(value), (None, 0, 0))(self.theta, self.X, self.y).numpy()

    def jacobian(self, X=None):
        """(n, K, p)."""
        X = self.X if X is None else torch.as_tensor(X)
        return jacrev(lambda theta: self.outputs(theta, X))(self.theta).numpy()

    def gauss_newton(self):
        """Σ J' ∇²ℓ J."""
        J = self.jacobian()
        Z = self.outputs(self.theta, self.X)
        S = vmap(torch.func.hessian(self.loss))(Z, self.y).numpy()
        return np.einsum("nkp,nkl,nlq->pq", J, S, J, optimize=True)

    def hessian(self):
        """Σ ∇²ℓ, by double backward."""

        def total(theta):
            Z = self.outputs(theta, self.X)
            return sum(self.loss(z, t) for z, t in zip(Z, self.y, strict=True))

        return torch.autograd.functional.hessian(total, self.theta).numpy()
