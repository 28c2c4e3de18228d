"""Does influence through both stages predict retraining both? Digits 0-4, fine-tuned on 5-9.

Random halves of the pretraining rows are drawn. Nets are pretrained on each and fine-tuned, from
several seeds. A score's figure is the mean over queries of Spearman's correlation, over the halves,
of predicted with true losses; its standard error is that of resampling the halves. Then pretraining
labels are flipped, and scores rank the rows by what they do to the loss of a validation part of
the fine-tuning digits; figures are average precisions, mean and standard error over draws.

Run: ``python benchmarks/multi_stage.py``
"""

import argparse
import time

import numpy as np
import torch
from nets_problem import forward, losses, start
from scipy.stats import rankdata
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import average_precision_score
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import InfluenceExplainer, MultiStageInfluence
from skinfluence.fine_tuning import FineTunedMixin
from skinfluence.targets import Loss

WD, ALPHA, HIDDEN = 1e-3, 0.05, 16
SIZES = (64, HIDDEN, 5)
SOLVERS = ("ekfac", ("ekfac", "direct"), "direct")  # of both stages, or of either
OPTIONS = {
    "criterion": nn.CrossEntropyLoss,
    "optimizer": torch.optim.Adam,
    "optimizer__weight_decay": WD,
    "batch_size": -1,
    "train_split": None,
    "verbose": 0,
}


class Net(nn.Module):
    """A shared hidden layer, and a head."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(64, HIDDEN), nn.Linear(HIDDEN, 5)

    def forward(self, x):
        return self.head(torch.tanh(self.encoder(x)))


class FineTuned(FineTunedMixin, NeuralNetClassifier):
    """A classifier that starts from another."""


def train(X, y, P, steps, shared=None, coupling=None, lr=2e-2):
    """Adam with one cycle of the learning rate, nets side by side; shared: encoder to keep near."""
    P = [p.clone() for p in P]
    if shared is not None:
        P[:2] = [p.clone() for p in shared]
    moving = P[2:] if coupling == "fixed" else P
    for p in moving:
        p.requires_grad_()
    optimizer = torch.optim.Adam(moving, lr=lr)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        value = losses(forward(P, X, "tanh"), y, "classification").mean(1).sum()
        value = value + WD / 2 * sum((p**2).sum() for p in moving)
        if coupling == "updated":
            value = value + ALPHA / 2 * sum(
                ((p - c) ** 2).sum() for p, c in zip(P, shared, strict=False)
            )
        value.backward()
        optimizer.step()
        cycle.step()
    return [p.detach() for p in P]


def two_stages(data, rows, seed, coupling, steps, y=None):
    """Pretrained nets (one a set of rows) and those fine-tuned from them."""
    X, labels = data["pre"]
    labels = labels if y is None else y
    before = train(X[rows], labels[rows], start(len(rows), SIZES, seed), steps)
    X, labels = (part[None] for part in data["fine"])
    head = start(len(rows), SIZES, 1000 + seed)
    labels = labels.expand(len(rows), -1)
    return before, train(X, labels, head, steps, before[:2], coupling)


def skorch_net(kind, P, **options):
    """A skorch net with trained parameters."""
    net = kind(Net, **OPTIONS, **options).initialize()
    with torch.no_grad():
        for parameter, value in zip(net.module_.parameters(), P, strict=True):
            parameter.copy_(value.reshape(parameter.shape))
    return FrozenEstimator(net)


def explain(data, before, after, coupling, solver, y=None):
    """A fitted explainer of two trained nets."""
    alpha = ALPHA if coupling == "updated" else None
    options = {"shared": "encoder", "coupling": coupling, "alpha": alpha}
    pretrained = skorch_net(NeuralNetClassifier, before)
    finetuned = skorch_net(FineTuned, after, pretrained=pretrained, **options)
    explainer = MultiStageInfluence(pretrained, finetuned, solver=solver, **options)
    X, labels = (part.numpy() for part in data["pre"])
    fine = (part.numpy() for part in data["fine"])
    return explainer.fit(X, labels if y is None else y.numpy(), *fine)


def direct_effects(explainer, X, y):
    """Single-stage scores: the query's gradient in the shared layer, without the fine-tuning.

    As through the pretraining solve, ``∇_s t' H⁻¹ p_i``, and as a product of gradients.
    """
    coupling, effects = explainer.effects_.coupling, explainer.effects_
    whole = coupling.objective
    pulled = effects.bind_target(
        Loss(), explainer.fine_tuning_._check_queries(X, y)[0], y
    ).pullback()
    carried = np.zeros((len(X), explainer.objective_.n_params))
    carried[:, coupling.into] = pulled[:, coupling.shared]
    rows = explainer.objective_.removal_gradients().block(slice(None))
    solved = explainer.solver_.solve(carried.T.astype(np.float64))
    assert whole.n_params == pulled.shape[1]
    return {"embedding only": (rows @ solved).T, "gradient product": carried @ rows.T}


def named(solver):
    """A solver, or a pair of them."""
    return solver if isinstance(solver, str) else " + ".join(solver)


def spearman(predicted, true):
    """Mean over queries of the correlation over halves: arrays (n_halves, n_queries)."""
    parts = [rankdata(part, axis=0) for part in (predicted, true)]
    parts = [part - part.mean(axis=0) for part in parts]
    norms = [np.sqrt((part**2).sum(axis=0)) for part in parts]
    return float(((parts[0] * parts[1]).sum(axis=0) / (norms[0] * norms[1])).mean())


def retraining(data, options, rng):
    """Correlation with retraining, of either coupling."""
    n = len(data["pre"][1])
    halves = np.stack([rng.choice(n, n // 2, replace=False) for _ in range(options.halves)])
    removed = np.ones((options.halves, n))
    np.put_along_axis(removed, halves, 0.0, axis=1)
    X, y = data["query"]
    for coupling in ("fixed", "updated"):
        began, true = time.time(), 0.0
        for seed in range(options.seeds):
            _, after = two_stages(data, halves, seed, coupling, options.steps)
            Z = forward(after, X[None], "tanh")
            true = true + losses(Z, y.expand(len(halves), -1), "classification").numpy()
        took, scores = time.time() - began, {}
        everything = np.arange(n)[None]
        for seed in range(options.seeds):
            nets = two_stages(data, everything, seed, coupling, 2 * options.steps)
            for solver in SOLVERS:
                explainer = explain(data, *nets, coupling, solver)
                value = explainer.transform(X.numpy(), y.numpy())
                values = {f"both stages, {named(solver)}": value}
                if solver == "direct":
                    values |= direct_effects(explainer, X.numpy(), y.numpy())
                for name, value in values.items():
                    scores[name] = scores.get(name, 0.0) + value
        scores["random"] = rng.standard_normal(scores["both stages, direct"].shape)
        counts = f"{options.halves} halves, {options.seeds} seeds"
        print(f"\n{coupling}: {counts}, retrained in {took:.0f} s")
        print_correlations(removed, scores, true, rng)


def print_correlations(removed, scores, true, rng):
    predicted = {name: removed @ value.T for name, value in scores.items()}
    draws = [rng.integers(len(true), size=len(true)) for _ in range(200)]
    for name, value in predicted.items():
        error = np.std([spearman(value[draw], true[draw]) for draw in draws])
        print(f"  {name:28s} {spearman(value, true):6.3f} ± {error:.3f}")


def flipped_labels(data, options, rng):
    """Average precision in finding flipped pretraining labels, of either coupling."""
    X, clean = data["pre"]
    n, found = len(clean), {}
    for draw in range(options.draws):
        flipped = np.zeros(n, dtype=bool)
        flipped[rng.choice(n, n // 10, replace=False)] = True
        other = (clean.numpy() + rng.integers(1, 5, n)) % 5
        y = torch.as_tensor(np.where(flipped, other, clean.numpy()))
        scores = {"random": rng.random(n)}
        for coupling in ("fixed", "updated"):
            nets = two_stages(data, np.arange(n)[None], 50 + draw, coupling, options.steps, y)
            for solver in SOLVERS:
                explainer = explain(data, *nets, coupling, solver, y)
                value = explainer.dataset_influence(*(part.numpy() for part in data["query"]))
                scores[f"both stages, {coupling}, {named(solver)}"] = -value
            direct = direct_effects(explainer, *(part.numpy() for part in data["query"]))
            for name, values in direct.items():
                scores[f"{name}, {coupling}"] = -values.mean(axis=0)
        first = InfluenceExplainer(explainer.pretrained, method="influence", solver="ekfac")
        first.fit(X.numpy(), y.numpy())
        scores["pretrained net: self-influence"] = first.self_influence()
        Z = forward(nets[0], X[None], "tanh")
        scores["pretrained net: loss"] = losses(Z, y[None], "classification")[0].numpy()
        for name, value in scores.items():
            found.setdefault(name, []).append(average_precision_score(flipped, value))
    print(f"\nflipped labels: {n // 10} of {n}, {options.draws} draws; average precision")
    for name, values in found.items():
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        print(f"  {name:38s} {np.mean(values):6.3f} ± {error:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--halves", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--pretraining", type=int, default=400)
    parser.add_argument("--fine", type=int, default=100)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype("f4")
    low, high = (rng.permutation(np.flatnonzero(part)) for part in (y < 5, y >= 5))
    pick = {
        "pre": low[: options.pretraining],
        "fine": high[: options.fine],
        "query": high[options.fine : options.fine + 200],
    }
    data = {
        name: (torch.as_tensor(X[rows]), torch.as_tensor(y[rows] % 5))
        for name, rows in pick.items()
    }
    retraining(data, options, rng)
    flipped_labels(data, options, rng)


if __name__ == "__main__":
    main()
