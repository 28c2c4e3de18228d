"""Leave-one-out of 200 000 rows against one fit, and top influences of 1 000 000 rows in memory.

Each part prints ratios taken in one run; the second also its peak memory, measured in a process of
its own beyond what the rows and queries take.

Run: ``python benchmarks/streams.py``
"""

import subprocess
import sys
import time
import warnings

import numpy as np
from scipy.special import expit
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from skinfluence import InfluenceExplainer

D = 50


def table(n, seed=0, d=D):
    """Correlated, skewed and binary columns, standardised; labels with 8 % noise."""
    rng = np.random.default_rng(seed)
    mix = 0.6 * np.eye(d) + 0.6 * rng.normal(size=(d, d)) / np.sqrt(d)
    X = rng.normal(size=(n, d)) @ mix
    X[:, : d // 4] = np.exp(0.7 * X[:, : d // 4])
    X[:, d // 4 : d // 2] = X[:, d // 4 : d // 2] > 0.5
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    coef = rng.normal(size=d) * (rng.random(d) < 0.5) * 2 / np.sqrt(d)
    y = (rng.random(n) < expit(X @ coef - 0.7)).astype(int)
    return X, np.where(rng.random(n) < 0.08, 1 - y, y)


def leave_one_out(n=200_000, repeats=5):
    X, y = table(n)
    model = LogisticRegression().fit(X, y)
    fits, explains = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        LogisticRegression().fit(X, y)
        fits.append(time.perf_counter() - start)
        start = time.perf_counter()
        InfluenceExplainer(FrozenEstimator(model), method="newton").fit(X, y).self_influence()
        explains.append(time.perf_counter() - start)
    print(
        f"leave-one-out of {n} rows: {np.median(explains):.3f} s, one fit {np.median(fits):.3f} s"
    )
    ratio = np.median(explains) / np.median(fits)
    print(f"newton self-influence / LogisticRegression().fit: {ratio:.2f}")


def top_influences(n=1_000_000, m=1_000):
    X, y = table(n + m)
    model = LogisticRegression().fit(X[:n], y[:n])
    explainer = InfluenceExplainer(FrozenEstimator(model), method="influence").fit(X[:n], y[:n])
    before = memory_peak(reset=True)
    start = time.perf_counter()
    explainer.top_influences(X[n:], y[n:], k=10)
    ours = time.perf_counter() - start
    peak = memory_peak() - before
    start = time.perf_counter()
    bare_blocks(explainer, X[:n], X[n:], y[n:])
    bare = time.perf_counter() - start
    print(f"top 10 of {n} rows for {m} queries: {ours:.2f} s, the bare blocks {bare:.2f} s")
    print(f"top_influences / bare blocks: {ours / bare:.2f}; peak memory added {peak:.0f} MB")


def memory_peak(reset=False):
    """Largest resident memory in MB since the last reset (Linux)."""
    if reset:
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def bare_blocks(explainer, X, X_test, y_test, length=8192):
    """The product alone, block by block."""
    objective = explainer.objective_
    inverse = explainer.solver_.inverses()[0]
    A = np.column_stack([X_test, np.ones(len(X_test))])
    slopes = expit(A @ objective.theta) - y_test
    left = (A * slopes[:, None]) @ inverse
    out = np.empty((len(X_test), length))
    for start in range(0, len(X), length):
        rows = slice(start, start + length)
        block = X[rows] * objective.residuals[rows]
        np.matmul(left[:, :-1], block.T, out=out[:, : len(block)])
        out[:, : len(block)] += left[:, -1:] * objective.residuals[rows, 0]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if len(sys.argv) > 1:
        top_influences()
    else:
        leave_one_out()
        subprocess.run([sys.executable, __file__, "top"], check=True)
