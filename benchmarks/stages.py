"""What following a removal through a scaler costs, against keeping the scaler as fitted.

Both explain the same queries; each time is the best of some runs, fit and transform together.
Run: ``python benchmarks/stages.py``
"""

import argparse
import time

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import InfluenceExplainer


def seconds(work, runs):
    """Best of some runs."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--d", type=int, default=50)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    X = rng.standard_normal((options.n, options.d)) * rng.uniform(0.1, 10, options.d)
    scores = X @ (rng.standard_normal(options.d) / X.std(axis=0)) / 3
    y = (scores + rng.logistic(size=options.n) > 0).astype(int)
    query, labels = X[: options.queries], y[: options.queries]
    pipelines = {
        "scaler + logistic": make_pipeline(StandardScaler(), LogisticRegression()),
        "scaler + PCA + logistic": make_pipeline(
            StandardScaler(), PCA(10, svd_solver="full"), LogisticRegression()
        ),
    }
    print(f"n={options.n}, d={options.d}, {options.queries} queries; fit and transform, seconds")
    for name, model in pipelines.items():
        for method in ("influence", "newton"):
            times = {}
            for preprocessing in ("frozen", "refit"):

                def work(preprocessing=preprocessing, model=model, method=method):
                    explainer = InfluenceExplainer(
                        model, method=method, preprocessing=preprocessing
                    )
                    explainer.fit(X, y).transform(query, labels)

                times[preprocessing] = seconds(work, options.runs)
            ratio = times["refit"] / times["frozen"]
            print(
                f"{name:24s} {method:10s} frozen {times['frozen']:.3f}  "
                f"refit {times['refit']:.3f}  ratio {ratio:.2f}"
            )


if __name__ == "__main__":
    main()
