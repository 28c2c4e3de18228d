"""Ten million rows in a memmap: leave-one-out losses, and top influences against the bare product.

    python benchmarks/ten_million.py FOLDER [rows] [columns] [queries]

Makes FOLDER/rows.f32 (float32) if it is not there, fits a logistic regression on a sample, moves it
to the optimum of all rows, and prints seconds, the ratios to the bare blocked products (of the rows
with one matrix for leave-one-out, of the queries with all rows for the top influences), the memory
held after each step, and the peak.
"""

import resource
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from skinfluence import InfluenceExplainer

BLOCK = 100_000


def rows_on_disk(folder, n, d):
    """``(X, y)``, made a block at a time."""
    path = Path(folder) / f"rows_{n}_{d}.f32"
    truth = np.random.default_rng(1).standard_normal(d)
    labels = path.with_suffix(".y.npy")
    if not labels.exists():
        X = np.memmap(path, np.float32, "w+", shape=(n, d))
        y = np.empty(n, np.int8)
        for start in range(0, n, BLOCK):
            rng = np.random.default_rng((0, start))
            block = rng.standard_normal((min(BLOCK, n - start), d), np.float32)
            block *= np.logspace(0, -1, d, dtype=np.float32)
            X[start : start + len(block)] = block
            y[start : start + len(block)] = block @ truth + rng.logistic(size=len(block)) > 0
        X.flush()
        np.save(labels, y)
    return np.memmap(path, np.float32, "r", shape=(n, d)), np.load(labels)


def bare_product(X, queries):
    """Seconds for the product of all rows with the queries, a block at a time, nothing kept."""
    right = np.ascontiguousarray(queries.T)
    out = np.empty((BLOCK // 10, right.shape[1]), np.float32)
    start = time.perf_counter()
    for first in range(0, len(X), len(out)):
        part = X[first : first + len(out)]
        np.matmul(part, right, out=out[: len(part)])
    return time.perf_counter() - start


def bare_lengths(X, length=4096):
    """Seconds for ``x' A x`` of all rows, blocks that fit a cache dealt to the cores.

    It is what leave-one-out cannot do without: a product with a matrix, and the sums of its rows.
    """
    A = np.random.default_rng(3).standard_normal(2 * X.shape[1:], np.float32)
    out = np.empty(len(X), np.float32)

    def share(rows):
        for first in range(rows.start, rows.stop, length):
            part = X[first : min(first + length, rows.stop)]
            out[first : first + len(part)] = np.einsum("ij,ij->i", part @ A, part)

    size = -(-len(X) // joblib.cpu_count())
    start = time.perf_counter()
    with threadpool_limits(1), ThreadPoolExecutor(joblib.cpu_count()) as pool:
        list(pool.map(share, (slice(k, min(k + size, len(X))) for k in range(0, len(X), size))))
    return time.perf_counter() - start


def anonymous_memory():
    """Memory other than file pages, in MB; all of it where the system does not tell them apart."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def timed(what, work, repeats=1):
    """Print the seconds that ``work`` takes, the least of its runs; returns them and its result."""
    seconds = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds = min(seconds, time.perf_counter() - start)
    print(f"{what:44s} {seconds:8.1f} s   memory now {anonymous_memory():7.0f} MB", flush=True)
    return seconds, result


def main(folder, n=10_000_000, d=50, m=1000):
    """Print the table."""
    X, y = rows_on_disk(folder, n, d)
    rng = np.random.default_rng(2)
    chosen = np.sort(rng.choice(n, m, replace=False))
    queries, labels = np.array(X[chosen]), y[chosen]
    sample = np.sort(rng.choice(n, min(n, 200_000), replace=False))
    warnings.simplefilter("ignore", ConvergenceWarning)  # the sample's optimum is not that of all
    _, model = timed("fit on a sample", lambda: LogisticRegression().fit(X[sample], y[sample]))
    frozen = FrozenEstimator(model)
    _, newton = timed("explainer on all rows (newton)", lambda: _explain(frozen, "newton", X, y))
    seconds, losses = timed("leave-one-out losses of all rows", newton.self_influence, repeats=2)
    print(f"  {n / seconds:.3g} rows a second, mean change of the loss {losses.mean():.3e}")
    lengths = min(bare_lengths(X) for _ in range(2))
    print(f"{'bare lengths of all rows':44s} {lengths:8.1f} s")
    print(f"leave-one-out: speed of the bare blocks reached: {lengths / seconds:.0%}")
    del newton, losses
    _, first = timed(
        "explainer on all rows (influence)", lambda: _explain(frozen, "influence", X, y)
    )
    bare = min(bare_product(X, queries) for _ in range(2))
    print(f"{'bare product of rows and queries':44s} {bare:8.1f} s")
    ours, _ = timed(
        f"top 10 of {n} rows for {m} queries",
        lambda: first.top_influences(queries, labels, k=10),
        repeats=2,
    )
    print(f"speed of the bare product reached: {bare / ours:.0%}")
    print(f"both: speed of the bare work reached: {(lengths + bare) / (seconds + ours):.0%}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"peak resident memory, mapped file pages included: {peak:.0f} MB")


def _explain(frozen, method, X, y):
    return InfluenceExplainer(frozen, method=method).fit(X, y)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
