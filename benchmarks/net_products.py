"""Products with a net's curvature against those of curvlinops 3.0.1.

    PYTHONPATH=. DIRECTORY/venv-curv/bin/python benchmarks/net_products.py

Run it in the environment that ``install_rivals.sh DIRECTORY`` made: curvlinops pulls another
torch with it, so it is no dependency of the tests. For each head and both reductions, the
Gauss-Newton matrix and the Hessian, weight decay included, times random vectors; prints the
largest relative difference in double precision and fails above 1e-10.
"""

import sys
import warnings

import numpy as np
import torch
from curvlinops import GGNLinearOperator, HessianLinearOperator
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from skinfluence.objectives import objective_for

N, D, HIDDEN, DECAY = 40, 5, 7, 1e-2
TOLERANCE = 1e-10
HEADS = {
    "softmax": (NeuralNetClassifier, nn.CrossEntropyLoss, 4),
    "logistic": (NeuralNetBinaryClassifier, nn.BCEWithLogitsLoss, 1),
    "squared": (NeuralNetRegressor, nn.MSELoss, 2),
}


def data(head, K):
    """Rows and targets of a head, as its net takes them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, D))
    if head == "softmax":
        return X, np.arange(N) % K
    return X, (rng.random(N) < 0.5).astype(float) if head == "logistic" else X[:, :K] ** 2


def module(K):
    """Two dense layers."""
    return nn.Sequential(nn.Linear(D, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, K)).double()


def differences(head, reduction):
    """Relative differences of both products."""
    kind, criterion, K = HEADS[head]
    X, y = data(head, K)
    torch.manual_seed(0)
    net = kind(
        module(K),
        criterion=criterion,
        criterion__reduction=reduction,
        optimizer__weight_decay=DECAY,
        lr=1e-3,
        max_epochs=5,
        batch_size=-1,
        train_split=None,
        verbose=0,
    ).fit(X, y)
    objective = objective_for(net, X, y)
    V = np.random.default_rng(1).normal(size=(objective.n_params, 3))
    target = torch.as_tensor(y)[:, None] if head == "logistic" else torch.as_tensor(y)
    batches = [(torch.as_tensor(X), target)]
    total = N if reduction == "mean" else 1  # ours is a sum over rows
    own_loss = criterion(reduction=reduction)
    for name, operator, ours in (
        ("Gauss-Newton", GGNLinearOperator, objective.gauss_newton_product),
        ("Hessian", HessianLinearOperator, objective.hessian_product),
    ):
        model = net.module_.eval()
        theirs = operator(model, own_loss, list(model.parameters()), batches)
        expected = total * ((theirs @ torch.as_tensor(V)).detach().numpy() + DECAY * V)
        yield name, float(np.abs(ours(V) - expected).max() / np.abs(expected).max())


def main():
    """Print the differences; 1 if one is too large."""
    worst = 0.0
    for head in HEADS:
        for reduction in ("mean", "sum"):
            for name, difference in differences(head, reduction):
                print(f"{head:10s}{reduction:6s}{name:14s}{difference:10.1e}")
                worst = max(worst, difference)
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    sys.exit(main())
