"""Time and memory of an explanation against rows, columns, classes and queries.

    python benchmarks/cost_curves.py

One size is doubled while the others stay; the exponent is the slope of a straight line through the
logarithms. Memory is what is allocated on top of the input, at its peak.
"""

import time
import tracemalloc
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from skinfluence import InfluenceExplainer

BASE = {"rows": 40_000, "columns": 60, "classes": 2, "queries": 100}
CURVES = {
    "rows": [20_000, 40_000, 80_000, 160_000],
    "columns": [40, 80, 160, 320],
    "classes": [3, 6, 12],
    "queries": [100, 200, 400, 800],
}
WORK = ("fit", "top 10, first order", "top 10, newton", "leave-one-out losses")


def problem(rows, columns, classes, queries):
    """A fitted model, its rows and queries."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows + queries, columns))
    scores = X @ rng.standard_normal((columns, classes)) / np.sqrt(columns)
    y = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
    model = LogisticRegression(max_iter=2000).fit(X[:rows], y[:rows])
    return FrozenEstimator(model), (X[:rows], y[:rows]), (X[rows:], y[rows:])


def measured(work):
    """``(seconds, MB, result)``: the better of two runs, and the peak of a third."""
    seconds = np.inf
    for _ in range(2):
        start = time.perf_counter()
        result = work()
        seconds = min(seconds, time.perf_counter() - start)
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return seconds, peak, result


def costs(sizes):
    """``{work: (seconds, MB)}`` at given sizes."""
    model, rows, queries = problem(**sizes)
    out = {}
    for method in ("influence", "newton"):
        fitted = InfluenceExplainer(model, method=method)
        *out["fit"], explainer = measured(lambda fitted=fitted: fitted.fit(*rows))
        name = f"top 10, {'newton' if method == 'newton' else 'first order'}"
        *out[name], _ = measured(lambda: explainer.top_influences(*queries, k=10))  # noqa: B023
    *out["leave-one-out losses"], _ = measured(explainer.self_influence)
    return out


def exponent(sizes, values):
    """Slope in logarithms."""
    return np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-9)), 1)[0]


def main():
    """Print the table."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"base: {BASE}; logistic regression")
    print(f"{'':10s}{'':24s}{'exponent of time':>18s}{'of memory':>12s}   seconds at each size")
    for axis, sizes in CURVES.items():
        base = BASE | ({"rows": 10_000, "columns": 30} if axis == "classes" else {})
        found = [costs(base | {axis: size}) for size in sizes]
        for work in WORK:
            seconds, memory = (np.array([one[work][k] for one in found]) for k in (0, 1))
            print(
                f"{axis:10s}{work:24s}{exponent(sizes, seconds):18.2f}"
                f"{exponent(sizes, memory):12.2f}   " + " ".join(f"{s:.3f}" for s in seconds),
                flush=True,
            )


if __name__ == "__main__":
    main()
