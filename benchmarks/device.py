"""Tensors on a device: all pairs against the bare product there, and EKFAC against the CPU.

Ratios are taken in one run, calls interleaved, medians over the repeats. "bare" is
``solved @ (r * A).T`` of tensors on the same device in the same dtype, ``A`` the training rows with
their column of ones and ``solved`` the queries times the inverse Hessian: what no implementation
can avoid. The explainer fits its objective (Gram products, factor) before the clock starts, as
the bare product is given its inverse. ``out=`` is a tensor on the device; "to numpy" is the
default, with the way to the host.

Run: ``python benchmarks/device.py`` on a GPU if there is one, else on the CPU.
"""

import argparse
import platform
import statistics
import time
import warnings

import numpy as np
import torch
from scipy.special import expit
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import InfluenceExplainer
from skinfluence.solvers import EKFAC

GPU = torch.cuda.is_available()
N, D, M, REPEATS = (1_000_000, 500, 2_000, 9) if GPU else (40_000, 100, 1_000, 5)


def main():
    """Print times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if GPU else "cpu")
    device = parser.parse_args().device
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor()
    print(f"device {device} ({name or platform.machine()}), torch {torch.__version__}")
    print(f"{N} x {D} training rows, {M} queries")
    for dtype in (np.float32, np.float64):
        pairs(device, dtype)
    ekfac(device)


def pairs(device, dtype):
    """All pairs of a binary logistic regression."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((N + M, D), dtype=np.float32).astype(dtype)
    y = (rng.random(N + M) < expit(X @ rng.standard_normal(D) / np.sqrt(D) * 2)).astype(int)
    model = FrozenEstimator(LogisticRegression(tol=1e-6).fit(X[:20_000], y[:20_000]))
    put = torch.as_tensor if device == "cpu" else lambda array: torch.as_tensor(array).to(device)
    A, labels, Q, q = put(X[:N]), put(y[:N]), put(X[N:]), put(y[N:])
    out = torch.empty(M, N, dtype=A.dtype, device=device)
    calls = {"bare": bare(A, Q, out), "bare numpy": bare(X[:N], X[N:], np.empty((M, N), dtype))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model was fitted on a sample
        host = InfluenceExplainer(model, method="influence").fit(X[:N], y[:N])
        calls["influence, host rows"] = lambda: host.transform(X[N:], y[N:])
        for method in ("influence", "newton"):
            explainer = InfluenceExplainer(model, method=method).fit(A, labels)
            calls |= {
                method: lambda e=explainer: e.transform(Q, q, out=out),
                f"{method}, to numpy": lambda e=explainer: e.transform(Q, q),
                f"{method}, top 10": lambda e=explainer: e.top_influences(Q, q, k=10),
            }
    times = measure(calls, device)
    print(f"\n{np.dtype(dtype).name}")
    for name, seconds in times.items():
        rate = N * M / seconds / 1e9
        print(f"{name:24s} {seconds * 1e3:9.1f} ms  {rate:7.2f} 1e9 pairs/s", end="")
        print("" if name == "bare" else f"  {seconds / times['bare']:6.2f} x bare")


def bare(A, Q, out):
    """The product of solved queries and scaled rows, into ``out``."""
    tensors = isinstance(A, torch.Tensor)
    library, where = (torch, {"device": A.device}) if tensors else (np, {})
    one = [library.ones((len(Z), 1), dtype=Z.dtype, **where) for Z in (A, Q)]
    join = torch.cat if tensors else np.concatenate
    rows, queries = (join([Z, column], 1) for Z, column in zip((A, Q), one, strict=True))
    scales = one[0] * 0.3
    solved = queries @ (library.eye(D + 1, dtype=A.dtype, **where) * 0.01)
    return lambda: library.matmul(solved, (rows * scales).T, out=out)


def ekfac(device):
    """EKFAC's fit and all pairs of a net, on the device and on the CPU."""
    rng = np.random.default_rng(0)
    n, d = (20_000, 256) if GPU else (2_000, 64)
    X = rng.standard_normal((n, d), dtype=np.float32)
    y = (X[:, :10].argmax(axis=1)).astype(np.int64)
    calls = {}
    for where in dict.fromkeys([device, "cpu"]):
        torch.manual_seed(0)
        net = NeuralNetClassifier(
            lambda: nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, 10)),
            criterion=nn.CrossEntropyLoss,
            max_epochs=1,
            verbose=0,
            train_split=None,
            device=where,
        ).fit(X, y)
        explainer = InfluenceExplainer(FrozenEstimator(net), method="influence", solver=EKFAC())
        calls[f"EKFAC fit, {where}"] = lambda e=explainer: e.fit(X, y)
        fitted = InfluenceExplainer(FrozenEstimator(net), method="influence", solver=EKFAC())
        fitted.fit(X, y)
        calls[f"EKFAC pairs, {where}"] = lambda e=fitted: e.transform(X[:100], y[:100])
    times = measure(calls, device)
    print(f"\nEKFAC, {n} rows, net {d}-{2 * d}-10")
    for name, seconds in times.items():
        kind = name.partition(",")[0]
        share = seconds / times[f"{kind}, cpu"]
        print(f"{name:24s} {seconds * 1e3:9.1f} ms  {share:6.2f} x the CPU's")


def measure(calls, device):
    """Median seconds of each call, interleaved; the device has finished when the clock stops."""
    times = {name: [] for name in calls}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for repeat in range(REPEATS + 1):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                if device.startswith("cuda"):
                    torch.cuda.synchronize()
                if repeat:  # the first call warms up
                    times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
