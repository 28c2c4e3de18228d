"""The problems of ``nets.py``: data, trained nets, and retrainings that tell the truth.

Plain numpy and torch, so that every rival's environment can read a problem; ``make`` needs
scikit-learn's data. A problem is one ``npz`` file:

``X, y, Xq, yq``  training rows and queries; ``sizes, act, task, wd``  the net and its weight decay
``W0, b0, W1, ...``  the net at a minimum of ``mean loss + wd/2 ‖θ‖²``
``noisy_y, flipped, noisy_W0, ...``  the same with one label in ten flipped (classification)
``subsets, losses``  rows of 50 half-subsets, and losses of the queries after retraining on each,
averaged over 4 seeds
"""

import sys
import time

import numpy as np
import torch
from torch.nn import functional as F

PROBLEMS = {
    "digits_tanh": {"act": "tanh", "task": "classification", "hidden": (128, 64), "wd": 1e-3},
    "digits_relu": {"act": "relu", "task": "classification", "hidden": (128, 64), "wd": 1e-3},
    "diabetes_relu": {"act": "relu", "task": "regression", "hidden": (64, 32), "wd": 1e-2},
}
N_SUBSETS, N_SEEDS = 50, 4


class Problem:
    """A saved problem as tensors."""

    def __init__(self, path, noisy=False):
        saved = np.load(path)
        self.act, self.task, self.wd = str(saved["act"]), str(saved["task"]), float(saved["wd"])
        self.sizes = tuple(int(size) for size in saved["sizes"])
        self.X, self.Xq = torch.as_tensor(saved["X"]), torch.as_tensor(saved["Xq"])
        self.y = torch.as_tensor(saved["noisy_y" if noisy else "y"])
        self.yq = torch.as_tensor(saved["yq"])
        prefix = "noisy_" if noisy else ""
        layers = range(len(self.sizes) - 1)
        self.weights = [saved[f"{prefix}W{k}"] for k in layers]
        self.biases = [saved[f"{prefix}b{k}"] for k in layers]

    def module(self):
        """The net as a Sequential in eval mode."""
        from torch import nn

        parts = []
        for k, (W, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            layer = nn.Linear(W.shape[1], W.shape[0])
            with torch.no_grad():
                layer.weight.copy_(torch.as_tensor(W))
                layer.bias.copy_(torch.as_tensor(b))
            parts.append(layer)
            if k < len(self.weights) - 1:
                parts.append(nn.Tanh() if self.act == "tanh" else nn.ReLU())
        return nn.Sequential(*parts).eval()

    def loss(self, outputs, y, reduction="mean"):
        """Cross-entropy, or squared error."""
        if self.task == "classification":
            return F.cross_entropy(outputs, y, reduction=reduction)
        return F.mse_loss(outputs, y, reduction=reduction)


def data(name):
    """``X, y, Xq, yq`` as float32, and what the output layer has to be."""
    from sklearn.datasets import load_diabetes, load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    digits = name.startswith("digits")
    X, y = (load_digits if digits else load_diabetes)(return_X_y=True)
    if not digits:
        y = ((y - y.mean()) / y.std()).astype("f4")[:, None]
    options = {"test_size": 360, "stratify": y} if digits else {"test_size": 100}
    X, Xq, y, yq = train_test_split(X, y, random_state=0, **options)
    scaler = StandardScaler().fit(X)
    return scaler.transform(X).astype("f4"), y, scaler.transform(Xq).astype("f4"), yq


def start(m, sizes, seed):
    """``m`` random initialisations, (m, out, in) and (m, 1, out)."""
    draw = torch.Generator().manual_seed(seed)
    out = []
    for d_in, d_out in zip(sizes[:-1], sizes[1:], strict=True):
        bound = d_in**-0.5
        for shape in ((m, d_out, d_in), (m, 1, d_out)):
            out.append((torch.rand(shape, generator=draw) * 2 - 1) * bound)
    return out


def forward(P, X, act):
    """Outputs of ``m`` nets at (m or 1, n, d) rows."""
    h, last = X.expand(P[0].shape[0], -1, -1), len(P) // 2 - 1
    for k in range(last + 1):
        h = torch.baddbmm(P[2 * k + 1], h, P[2 * k].transpose(1, 2))
        if k < last:
            h = torch.tanh(h) if act == "tanh" else torch.relu(h)
    return h


def losses(Z, Y, task):
    """Losses (m, n)."""
    if task == "regression":
        return ((Z - Y) ** 2)[..., 0]
    return torch.logsumexp(Z, -1) - Z.gather(-1, Y[..., None])[..., 0]


def objective(P, X, Y, options):
    """Sum over the nets of mean loss plus penalty."""
    value = losses(forward(P, X, options["act"]), Y, options["task"]).mean(1).sum()
    return value + options["wd"] / 2 * sum((p**2).sum() for p in P)


def train(X, Y, P, steps, options, lr=2e-2):
    """Adam with one cycle of the learning rate, full batch, all nets side by side."""
    P = [p.clone().requires_grad_() for p in P]
    optimizer = torch.optim.Adam(P, lr=lr)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(P, X, Y, options).backward()
        optimizer.step()
        cycle.step()
    return [p.detach() for p in P]


def polish(P, X, Y, options):
    """LBFGS in double precision to a small gradient."""
    P = [p.double().clone().requires_grad_() for p in P]
    X, Y = X.double(), Y.double() if Y.dtype.is_floating_point else Y
    optimizer = torch.optim.LBFGS(
        P,
        max_iter=600,
        history_size=50,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        value = objective(P, X, Y, options)
        value.backward()
        return value

    optimizer.step(closure)
    return [p.detach().float() for p in P]


def make(name, path):
    """Train the nets of a problem and its retrainings, and save them."""
    options, began = PROBLEMS[name], time.time()
    X, y, Xq, yq = data(name)
    outputs = len(np.unique(y)) if options["task"] == "classification" else 1
    sizes = (X.shape[1], *options["hidden"], outputs)
    saved = {"X": X, "y": y, "Xq": Xq, "yq": yq, "sizes": sizes, **options}
    X, y, Xq, yq = (torch.as_tensor(part)[None] for part in (X, y, Xq, yq))
    fit = polish(train(X, y, start(1, sizes, 1000), 600, options), X, y, options)
    _store(saved, "", fit)
    rng = np.random.default_rng(0)
    n = X.shape[1]
    if options["task"] == "classification":
        flipped = rng.choice(n, n // 10, replace=False)
        noisy = y.clone()
        noisy[0, flipped] = (y[0, flipped] + torch.as_tensor(rng.integers(1, 10, n // 10))) % 10
        fit = polish(train(X, noisy, start(1, sizes, 77), 600, options), X, noisy, options)
        saved.update(noisy_y=noisy[0].numpy(), flipped=flipped)
        _store(saved, "noisy_", fit)
    subsets = np.stack([rng.choice(n, n // 2, replace=False) for _ in range(N_SUBSETS)])
    total = 0.0
    for seed in range(N_SEEDS):
        P = train(X[0][subsets], y[0][subsets], start(N_SUBSETS, sizes, 5000 + seed), 500, options)
        with torch.no_grad():
            Z = forward(P, Xq, options["act"])
            total = total + losses(Z, yq.expand(N_SUBSETS, *yq.shape[1:]), options["task"])
        print(f"{name}: retrained with seed {seed}, {time.time() - began:.0f} s", flush=True)
    np.savez(path, subsets=subsets, losses=(total / N_SEEDS).numpy(), **saved)


def _store(saved, prefix, P):
    for k in range(len(P) // 2):
        saved[f"{prefix}W{k}"] = P[2 * k][0].numpy()
        saved[f"{prefix}b{k}"] = P[2 * k + 1][0, 0].numpy()


if __name__ == "__main__":
    torch.set_num_threads(1)
    make(*sys.argv[1:])
