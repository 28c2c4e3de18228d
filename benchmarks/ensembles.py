"""Is the mean over several trainings worth more than one net?

    python benchmarks/ensembles.py CACHE [--problem digits_tanh] [--members 5]

Trains further nets on a problem of ``nets_problem.py`` (in the folder CACHE, as for ``nets.py``)
from other seeds, on the clean and on the flipped labels, and prints LDS and the average precision
of self-influence for the first net alone, the mean over single nets, and the ensemble of all.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from nets import datamodeling_score
from nets_problem import PROBLEMS, Problem, polish, start, train
from nets_run import skorch_net
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import average_precision_score

from skinfluence import EnsembleExplainer, InfluenceExplainer

SOLVERS = ("identity", "ekfac")


def members(cache, name, noisy, n_members):
    """Problems that differ in the trained weights: that of the file, then one a seed."""
    out = []
    for seed in range(n_members):
        problem = Problem(cache / f"{name}.npz", noisy)
        if seed:
            kept = cache / f"{name} member {seed}{' noisy' * noisy}.npz"
            if not kept.exists():
                np.savez(kept, *trained(problem, PROBLEMS[name], 9000 + seed))
            saved = np.load(kept)
            arrays = [saved[f"arr_{k}"] for k in range(len(saved.files))]
            problem.weights, problem.biases = arrays[::2], [b.ravel() for b in arrays[1::2]]
        out.append(problem)
    return out


def trained(problem, options, seed):
    """Parameters after a training from a seed, as for the problem's own net."""
    X, y = problem.X[None], problem.y[None]
    P = train(X, y, start(1, problem.sizes, seed), 600, options)
    return [part[0].numpy() for part in polish(P, X, y, options)]


def explained(problems, solver):
    """A fitted ensemble of explainers of these nets."""
    nets = [FrozenEstimator(skorch_net(problem)) for problem in problems]
    explainer = InfluenceExplainer(nets[0], solver=solver)
    first = problems[0]
    return EnsembleExplainer(explainer, estimators=nets).fit(first.X.numpy(), first.y.numpy())


def main():
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("--problem", default="digits_tanh", choices=list(PROBLEMS))
    parser.add_argument("--members", type=int, default=5)
    options = parser.parse_args()
    truth = np.load(options.cache / f"{options.problem}.npz")
    queries = truth["Xq"], truth["yq"]

    def lds(scores):
        return datamodeling_score(scores, truth["subsets"], truth["losses"])

    print(f"{'solver':10s}{'quantity':10s}{'first':>8s}{'singles':>9s}{'ensemble':>10s}")
    clean = members(options.cache, options.problem, False, options.members)
    for solver in SOLVERS:
        ensemble = explained(clean, solver)
        singles = [lds(member.transform(*queries)) for member in ensemble.explainers_]
        show(solver, "LDS", singles, lds(ensemble.transform(*queries)))
    if "flipped" not in truth:
        return
    flipped = np.isin(np.arange(len(truth["y"])), truth["flipped"])
    noisy = members(options.cache, options.problem, True, options.members)
    for solver in SOLVERS:
        ensemble = explained(noisy, solver)
        singles = [
            average_precision_score(flipped, m.self_influence()) for m in ensemble.explainers_
        ]
        show(solver, "AP", singles, average_precision_score(flipped, ensemble.self_influence()))


def show(solver, quantity, singles, together):
    """One line of the table."""
    print(
        f"{solver:10s}{quantity:10s}{singles[0]:8.3f}{np.mean(singles):9.3f}{together:10.3f}",
        flush=True,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    main()
