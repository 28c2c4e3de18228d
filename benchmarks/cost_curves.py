"""Time and memory of an explanation against rows, columns, classes and queries.

    python benchmarks/cost_curves.py [linear] [nets]

One size is doubled while the others stay; the exponent is the slope of a straight line through the
logarithms. Memory of linear models is what numpy allocates on top of the input, at its peak. Nets
have two dense layers; each size runs in a process of its own, and memory is what the explanation
adds to the resident memory, at its peak.
"""

import json
import subprocess
import sys
import time
import tracemalloc
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from streams import memory_peak

from skinfluence import InfluenceExplainer
from skinfluence.methods import Exact

BASE = {"rows": 40_000, "columns": 60, "classes": 2, "queries": 100}
CURVES = {
    "rows": [20_000, 40_000, 80_000, 160_000],
    "columns": [40, 80, 160, 320],
    "classes": [3, 6, 12],
    "queries": [100, 200, 400, 800],
}
EXACT_CURVES = {"rows": [10_000, 20_000, 40_000, 80_000], "columns": [10, 20, 40]}
NET_BASE = {"rows": 4000, "width": 64, "classes": 4, "queries": 100}
NET_CURVES = {
    "rows": [2000, 4000, 8000, 16_000],
    "width": [32, 64, 128, 256],
    "classes": [4, 8, 16],
    "queries": [100, 200, 400],
}
SOLVERS = ("ekfac", "cg")
EXACT = "exact, tol 1e-5"


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


def exact_costs(sizes):
    """The same of the exact optima without each row."""
    model, rows, _ = problem(**sizes)

    def work():
        return InfluenceExplainer(model, method=Exact(tol=1e-5)).fit(*rows).parameter_influence()

    return {EXACT: measured(work)[:2]}


def net_costs(sizes):
    """``{solver: (seconds, MB)}`` of fit and influences of all rows on all queries."""
    command = [sys.executable, __file__, "one", json.dumps(sizes)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed)


def one_net(rows, width, classes, queries):
    """Print the costs of every solver at given sizes."""
    import torch
    from skorch import NeuralNetClassifier
    from torch import nn

    torch.manual_seed(0)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows + queries, 32)).astype("f4")
    y = (X @ rng.standard_normal((32, classes)) + rng.gumbel(size=(len(X), classes))).argmax(axis=1)
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(32, width), nn.Tanh(), nn.Linear(width, classes)),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        optimizer__weight_decay=1e-2,
        lr=1e-2,
        max_epochs=30,
        batch_size=-1,
        train_split=None,
        verbose=0,
    ).fit(X[:rows], y[:rows])
    out = {}
    for solver in SOLVERS:
        explainer = InfluenceExplainer(FrozenEstimator(net), method="influence", solver=solver)
        explainer.fit(X[:50], y[:50]).transform(X[:2], y[:2])  # what is imported and made once
        before = memory_peak(reset=True)
        start = time.process_time()
        explainer.fit(X[:rows], y[:rows]).transform(X[rows:], y[rows:])
        out[f"net, {solver}"] = time.process_time() - start, memory_peak() - before
    print(json.dumps(out))


def exponent(sizes, values):
    """Slope in logarithms."""
    return np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-9)), 1)[0]


def line(axis, work, sizes, found):
    """Print exponents, and what they were fitted to."""
    seconds, memory = (np.array([one[work][k] for one in found]) for k in (0, 1))
    print(
        f"{axis:10s}{work:24s}{exponent(sizes, seconds):18.2f}{exponent(sizes, memory):12.2f}   "
        + " ".join(f"{s:.3f}" for s in seconds)
        + " s; "
        + " ".join(f"{m:.1f}" for m in memory)
        + " MB",
        flush=True,
    )


def heading(base, what):
    print(f"base: {base}; {what}")
    print(f"{'':10s}{'':24s}{'exponent of time':>18s}{'of memory':>12s}   at each size")


def linear():
    """The table of logistic regression."""
    heading(BASE, "logistic regression")
    for axis, sizes in CURVES.items():
        base = BASE | ({"rows": 10_000, "columns": 30} if axis == "classes" else {})
        found = [costs(base | {axis: size}) for size in sizes]
        for work in found[0]:
            line(axis, work, sizes, found)
    base = BASE | {"rows": 20_000, "columns": 30}
    for axis, sizes in EXACT_CURVES.items():
        line(axis, EXACT, sizes, [exact_costs(base | {axis: size}) for size in sizes])


def nets():
    """The table of nets."""
    heading(NET_BASE, "a net of two dense layers, all pairs, one thread")
    for axis, sizes in NET_CURVES.items():
        found = [net_costs(NET_BASE | {axis: size}) for size in sizes]
        for work in found[0]:
            line(axis, work, sizes, found)


PARTS = {"linear": linear, "nets": nets}

if __name__ == "__main__":
    warnings.simplefilter("ignore", ConvergenceWarning)
    if sys.argv[1:2] == ["one"]:
        one_net(**json.loads(sys.argv[2]))
    else:
        for part in sys.argv[1:] or PARTS:
            PARTS[part]()
