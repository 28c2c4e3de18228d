"""Hessian-free influence of a net: one score against means over perturbed copies.

    python benchmarks/hessian_free.py CACHE [--repeats 5] [--members 5] [--copies 5]

The problem digits_tanh of ``nets_problem.py``, made in the folder CACHE where it is missing, with
``solver="identity"`` throughout, on one thread. LDS is the linear datamodeling score against the
cached retrainings, of nets trained on the clean labels. AP is the average precision at finding the
flipped tenth of the labels, of nets trained on them: by self-influence ("own"), and by the
influence on the mean loss of the queries ("queries"). Mean over repeats, each with other seeds, and
the standard deviation; in how many repeats a mean beats the single net of that repeat; seconds
beside training. The lines below the table are ratios of the means. About three minutes a repeat.
"""

import argparse
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from nets import HERE, datamodeling_score
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import average_precision_score
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import EnsembleExplainer, InfluenceExplainer

NAME = "digits_tanh"
FREE = {"method": "influence", "solver": "identity"}
MEASURES = ("LDS", "AP own", "AP queries", "seconds")


class Digits(nn.Module):
    """The net of the problem."""

    def __init__(self, sizes):
        super().__init__()
        parts = []
        for d_in, d_out in zip(sizes[:-1], sizes[1:], strict=True):
            parts += [nn.Linear(d_in, d_out), nn.Tanh()]
        self.layers = nn.Sequential(*parts[:-1])

    def forward(self, x):
        return self.layers(x)


def net(truth, epochs=300):
    """Trained as the problem's own, at one learning rate."""
    return NeuralNetClassifier(
        Digits,
        module__sizes=tuple(int(size) for size in truth["sizes"]),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        optimizer__weight_decay=float(truth["wd"]),
        lr=5e-3,
        max_epochs=epochs,
        batch_size=-1,
        train_split=None,
        verbose=0,
    )


def scores(ensemble, truth, noisy):
    """``{measure: value}`` of a fitted explainer on the clean or the flipped labels."""
    if not noisy:
        S = ensemble.transform(truth["Xq"], truth["yq"])
        return {"LDS": datamodeling_score(S, truth["subsets"], truth["losses"])}
    flipped = np.zeros(len(truth["y"]))
    flipped[truth["flipped"]] = 1
    harm = -ensemble.dataset_influence(truth["Xq"], truth["yq"])
    return {
        "AP own": average_precision_score(flipped, ensemble.self_influence()),
        "AP queries": average_precision_score(flipped, harm),
    }


def ways(fits, copies, seed):
    """``(name, ensemble)`` of every way to average, over fits that are trained already."""
    explainer = InfluenceExplainer(fits[0], **FREE)

    def over(estimators, **options):
        return EnsembleExplainer(explainer, estimators=estimators, random_state=seed, **options)

    few = {"n_copies": copies}
    yield "single", over(fits[:1])
    yield f"noise, {copies} copies", over(fits[:1], perturbation="noise", **few)
    yield f"dropout, {copies} copies", over(fits[:1], perturbation="dropout", **few)
    yield f"{len(fits)} seeds", over(fits)
    yield f"{len(fits)} seeds x noise", over(fits, perturbation="noise", **few)
    yield f"{len(fits)} seeds x dropout", over(fits, perturbation="dropout", **few)


def repeat(truth, members, copies, seed):
    """``{way: {measure: value}}`` of one repeat."""
    out = {}

    def note(name, ensemble, y, noisy, start):
        ensemble.fit(truth["X"], y)
        start = time.process_time() if start is None else start
        values = scores(ensemble, truth, noisy)
        entry = out.setdefault(name, {"seconds": 0.0})
        entry.update(values)
        entry["seconds"] += time.process_time() - start

    for noisy in (False, True):
        y = truth["noisy_y" if noisy else "y"]
        explainer = InfluenceExplainer(net(truth), **FREE)
        seeds = list(range(seed * members, (seed + 1) * members))
        trained = EnsembleExplainer(explainer, seeds=seeds).fit(truth["X"], y)
        fits = [FrozenEstimator(member.estimator_) for member in trained.explainers_]
        for name, ensemble in ways(fits, copies, seed):
            note(name, ensemble, y, noisy, time.process_time())
        resampled = EnsembleExplainer(
            explainer, perturbation="bootstrap", n_copies=members, random_state=seed
        )
        note(f"{members} bootstrap fits", resampled, y, noisy, None)
    return out


def main():
    """Parse the arguments, run the repeats and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    for name in ("repeats", "members", "copies"):
        parser.add_argument(f"--{name}", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    options.cache.mkdir(parents=True, exist_ok=True)
    problem = options.cache / f"{NAME}.npz"
    if not problem.exists():
        subprocess.run([sys.executable, HERE / "nets_problem.py", NAME, problem], check=True)
    truth = dict(np.load(problem))
    found = []
    for seed in range(options.repeats):
        found.append(repeat(truth, options.members, options.copies, seed))
        print(f"repeat {seed + 1} of {options.repeats}", file=sys.stderr, flush=True)
    print_table(found)


def print_table(found):
    """Means over the repeats, and the measures of every way over those of a single net."""
    print(f"{'':24s}" + "".join(f"{measure:>24s}" for measure in MEASURES))
    for name in found[0]:
        line = f"{name:24s}"
        for measure in MEASURES:
            values, single = column(found, name, measure), column(found, "single", measure)
            text = f"{values.mean():.3f} ({values.std(ddof=1):.3f})"
            if measure != "seconds":
                text += f" {(values > single).sum()}/{len(values)}"
            line += f"{text:>24s}"
        print(line)
    for name in list(found[0])[1:]:
        means = [[column(found, way, m).mean() for m in MEASURES] for way in (name, "single")]
        ratios = [f"{m} {a / b:.3f}" for m, a, b in zip(MEASURES, *means, strict=True)]
        print(f"{name} / single: {', '.join(ratios)}")


def column(found, name, measure):
    """One value a repeat."""
    return np.array([each[name][measure] for each in found])


if __name__ == "__main__":
    main()
