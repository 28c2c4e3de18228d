"""Two dask workers against one: the same top influences, computed from partitions.

    python benchmarks/dask_workers.py [rows] [columns] [queries]

Prints the seconds with one worker and with two, their ratio, and the difference from the same rows
in memory.
"""

import sys
import time

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from skinfluence import InfluenceExplainer


def problem(n, d):
    """Rows in 16 partitions that a linear model separates in part, each made where it is used."""
    rng = da.random.default_rng(0)
    X = rng.standard_normal((n, d), chunks=(n // 16, d)) * np.logspace(0, -1, d)
    truth = np.random.default_rng(1).standard_normal(d)
    noise = rng.logistic(size=n, chunks=n // 16)
    return X, (X @ truth + noise > 0).astype(int)


def seconds_with(n_workers, model, rows, queries):
    """Seconds for fit and top influences, and the values; worker processes of one thread each."""
    cluster = LocalCluster(
        n_workers=n_workers, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    with cluster, Client(cluster) as client:
        # every worker has every partition, so that the work alone is timed
        X, y = client.persist(list(rows))
        client.replicate([X, y])
        client.run(imports)  # by every worker, so that none does while it is timed
        InfluenceExplainer(model, method="newton").fit(X[:1000], y[:1000])
        start = time.perf_counter()
        explainer = InfluenceExplainer(model, method="newton").fit(X, y)
        top = explainer.top_influences(*queries)
        return time.perf_counter() - start, top.values


def imports():
    """Import what the tasks need."""
    import skinfluence._shard_tasks  # noqa: F401


def main(n=400_000, d=100, m=200):
    """Print the table."""
    rows = problem(n, d)
    X, y = dask.compute(*rows, scheduler="synchronous")
    queries = X[:m], y[:m]
    model = LogisticRegression(tol=1e-8, max_iter=1000).fit(X, y)
    local = InfluenceExplainer(FrozenEstimator(model), method="newton").fit(X, y)
    expected = local.top_influences(*queries)
    one, values = seconds_with(1, model, rows, queries)
    two, _ = seconds_with(2, model, rows, queries)
    error = np.abs(values - expected.values).max() / np.abs(expected.values).max()
    print(f"rows {n}, columns {d}, queries {m}, logistic regression, newton, top 10")
    print(f"one worker   {one:8.2f} s")
    print(f"two workers  {two:8.2f} s   {one / two:.2f} x")
    print(f"largest difference from rows in memory, relative: {error:.1e}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
