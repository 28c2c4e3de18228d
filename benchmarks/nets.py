"""Solvers for nets against each other, a dense reference and rival packages.

    python benchmarks/nets.py CACHE [--rivals DIRECTORY] [--quick]
                              [--problems NAME ...] [--methods NAME ...]

Makes the problems of ``nets_problem.py`` in the folder CACHE where they are missing (20 minutes a
digits net: 50 half-subsets × 4 retrainings), runs every method of ``nets_run.py`` in a process of
its own on one thread, and prints a table. LDS is the mean over queries of the Spearman correlation,
over the subsets, of the summed influence of a subset's rows with the loss after retraining on it.
AP is the average precision with which self-influence finds flipped labels. Seconds are of
processor time, from the fitted net to the scores; megabytes are above those of the loaded net.
Rivals run in the environments that ``install_rivals.sh DIRECTORY`` made. Below each problem stand
the times of ours over those of what they are measured by. Everything takes about 17 minutes of
an otherwise idle machine; ``--quick``, about 9, leaves out the two dense ways on the digits.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from nets_problem import PROBLEMS
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

HERE = Path(__file__).parent
OURS = ["default", "default, leverage", "EKFAC", "KFAC", "direct (dual)", "diagonal", "identity"]
PLAIN = ["dense reference", "gradient dot product", "loss alone"]
RIVALS = {
    "kronfluence EKFAC": "kron",
    "pyDVL EKFAC": "pydvl",
    "pyDVL KFAC": "pydvl",
    "curvlinops CG-20": "curv",
    "captum Arnoldi-100": "captum",
    "dattri CG-10, Hessian": "dattri",
}
DENSE = ["dense reference", "direct (dual)"]
RATIOS = [
    ("default", "dense reference"),
    ("default", "curvlinops CG-20"),
    ("default", "dattri CG-10, Hessian"),
    ("EKFAC", "kronfluence EKFAC"),
    ("EKFAC", "pyDVL EKFAC"),
]
LIMIT = 1800


def run(method, problem, out, python):
    """Run one method; what went wrong, or an empty string."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [python, HERE / "nets_run.py", method, problem, out]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return f"took more than {LIMIT} s"
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1][:100]


def datamodeling_score(scores, subsets, losses):
    """Mean Spearman correlation over queries; rows that help lower the loss."""
    member = np.zeros((len(subsets), scores.shape[1]))
    for row, subset in zip(member, subsets, strict=True):
        row[subset] = 1
    predicted = -member @ scores.T
    values = [spearmanr(p, t).statistic for p, t in zip(predicted.T, losses.T, strict=True)]
    return float(np.nanmean(values))


def line(result, truth):
    """Seconds, megabytes, LDS and AP of one method."""
    saved = np.load(result)
    score = precision = np.nan
    if "scores" in saved:
        score = datamodeling_score(saved["scores"], truth["subsets"], truth["losses"])
    if "own" in saved:
        flipped = np.zeros(len(truth["y"]))
        flipped[truth["flipped"]] = 1
        precision = average_precision_score(flipped, saved["own"])
    return float(saved["cpu"]), float(saved["megabytes"]), score, precision


def table(name, cache, rivals, methods):
    """Run the methods on one problem and print what they cost and are worth."""
    problem = cache / f"{name}.npz"
    if not problem.exists():
        subprocess.run([sys.executable, HERE / "nets_problem.py", name, problem], check=True)
    truth, times = np.load(problem), {}
    print(f"\n{name}: {len(truth['X'])} rows, {len(truth['Xq'])} queries")
    print(f"{'method':24s}{'s':>8s}{'MB':>8s}{'LDS':>7s}{'AP':>7s}")
    for method in methods:
        python = sys.executable
        if method in RIVALS:
            python = None if rivals is None else rivals / f"venv-{RIVALS[method]}/bin/python"
            if python is None or not python.exists():
                print(f"{method:24s} not installed")
                continue
        out = cache / f"{name} {method}.npz"
        out.unlink(missing_ok=True)
        error = run(method, problem, out, python)
        if error:
            print(f"{method:24s} failed: {error}")
            continue
        seconds, megabytes, score, precision = line(out, truth)
        times[method] = seconds
        numbers = f"{seconds:8.2f}{megabytes:8.0f}{score:7.3f}{precision:7.3f}"
        print(f"{method:24s}{numbers.replace('nan', '  –')}", flush=True)
    for ours, other in RATIOS:
        if ours in times and other in times:
            print(f"time of {ours} / {other}: {times[ours] / times[other]:.3f}")


def main():
    """Parse the arguments and print a table a problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache", type=Path)
    parser.add_argument("--rivals", type=Path)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    everything = [*PLAIN, *OURS, *RIVALS]
    parser.add_argument("--methods", nargs="+", default=everything, choices=everything)
    parser.add_argument("--quick", action="store_true", help="no dense matrices on the digits")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    for name in options.problems:
        left_out = DENSE if options.quick and name.startswith("digits") else []
        methods = [method for method in options.methods if method not in left_out]
        table(name, options.cache, options.rivals, methods)


if __name__ == "__main__":
    main()
