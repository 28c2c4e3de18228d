"""Exact leave-one-out of all rows against warm-started Newton refits, and one model fit.

Refits are timed on a few rows and multiplied by the number of rows. Every pair of times that
makes a ratio is measured in this run, in turn and several times over; the medians are printed.

    OMP_NUM_THREADS=2 python benchmarks/exact_leave_one_out.py [binary-small binary-large digits]
"""

import sys
import time

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from skinfluence import InfluenceExplainer
from skinfluence.methods import Exact

N_REFITS = 20


def simulated(n, d):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d))
    signal = X @ rng.standard_normal(d) * 2 / np.sqrt(d)
    return X, (rng.random(n) < expit(signal)).astype(int)


def newton_refit(X, y, penalty, theta):
    """Bare Newton from the full fit until the step is below 1e-10."""
    for _ in range(50):
        p = expit(X @ theta)
        gradient = X.T @ (p - y) + penalty * theta
        hessian = X.T @ (X * (p * (1 - p))[:, None])
        hessian[np.diag_indices_from(hessian)] += penalty
        step = cho_solve(cho_factor(hessian), gradient)
        theta = theta - step
        if np.abs(step).max() < 1e-10:
            return theta
    raise RuntimeError("Newton did not converge")


def timed(function):
    start = time.perf_counter()
    out = function()
    return time.perf_counter() - start, out


def explain(model, X, y, tol):
    """All rows, from a fitted model: the explainer's own set-up included."""
    explainer = InfluenceExplainer(FrozenEstimator(model), method=Exact(tol=tol)).fit(X, y)
    return explainer, explainer.parameter_influence()


def binary(n, d, repeats, tols):
    X, y = simulated(n, d)
    design = np.column_stack([X, np.ones(n)])
    penalty = np.r_[np.ones(d), 0.0]
    rows = np.random.default_rng(1).choice(n, N_REFITS, replace=False)
    model = LogisticRegression(solver="newton-cholesky", tol=1e-10).fit(X, y)
    theta = newton_refit(design, y, penalty, np.r_[model.coef_[0], model.intercept_])
    without = [(np.delete(design, row, 0), np.delete(y, row)) for row in rows]
    times = {"fit": [], "refit": []} | {tol: [] for tol in tols}
    for _ in range(repeats):
        times["fit"].append(timed(lambda: LogisticRegression().fit(X, y))[0])
        for tol in tols:
            seconds, found = timed(lambda tol=tol: explain(model, X, y, tol))
            times[tol].append(seconds)
            if len(times[tol]) == repeats:
                kept = found[0], found[1].copy()
                times[f"out {tol}"] = kept
        seconds, optima = timed(
            lambda: np.array([newton_refit(A, b, penalty, theta) for A, b in without])
        )
        times["refit"].append(seconds / N_REFITS)
    fit, refit = np.median(times["fit"]), np.median(times["refit"]) * n
    print(
        f"n={n} d={d}: one LogisticRegression().fit {fit:.3f} s; warm Newton refits {refit:.0f} s"
    )
    for tol in tols:
        report(times[f"out {tol}"], np.median(times[tol]), tol, fit, refit, optima - theta, rows)


def report(found, seconds, tol, fit, refit, true, rows):
    explainer, changes = found
    size = np.linalg.norm(changes, axis=1)
    bounds = explainer.error_bound() / size
    errors = np.linalg.norm(changes[rows] - true, axis=1) / np.linalg.norm(true, axis=1)
    print(
        f"  tol={tol:g}: {seconds:.3f} s = {seconds / fit:.1f} fits; {refit / seconds:.0f} x refits"
    )
    print(f"    engines {explainer.effects_.engines}")
    print(
        f"    certified relative bound: median {np.median(bounds):.1e}, largest {bounds.max():.1e};"
        f" true error on {len(rows)} rows: median {np.median(errors):.1e}, "
        f"largest {errors.max():.1e}"
    )


def digits(repeats):
    X, y = load_digits(return_X_y=True)
    X = X / 16
    model = LogisticRegression(solver="newton-cholesky", tol=1e-10).fit(X, y)
    rows = np.random.default_rng(1).choice(len(y), N_REFITS, replace=False)
    exact_times, refit_times = [], []
    for _ in range(repeats):
        seconds, (explainer, changes) = timed(lambda: explain(model, X, y, 1e-8))
        exact_times.append(seconds)
        seconds, true = timed(lambda: softmax_refits(explainer.objective_, rows))  # noqa: B023
        refit_times.append(seconds / N_REFITS * len(y))
    errors, size = np.linalg.norm(changes[rows] - true, axis=1), np.linalg.norm(true, axis=1)
    seconds, refit = np.median(exact_times), np.median(refit_times)
    print(f"digits n={len(y)} K=10: {seconds:.2f} s; warm Newton refits {refit:.0f} s")
    print(f"  {refit / seconds:.0f} x refits; engines {explainer.effects_.engines}")
    # a refit gives changes to about 1e-13: relative errors of tiny changes are its own
    errors = np.maximum(errors - 1e-13, 0) / size
    print(f"  true relative error on {N_REFITS} rows: largest {errors.max():.1e}")


def softmax_refits(objective, rows):
    out = []
    for row in rows:
        weights = objective.weights.copy()
        weights[row] = 0.0
        out.append(objective.minimise(objective.theta, weights).theta - objective.theta)
    return np.array(out)


def tightness():
    """Bound over true error of the approximate methods."""
    for n, d, C in ((300, 10, 0.01), (300, 10, 1), (300, 10, 100), (200, 60, 1)):
        X, y = simulated(n, d)
        for method in ("newton", "infinitesimal_jackknife"):
            explainer = InfluenceExplainer(LogisticRegression(C=C, tol=1e-8), method=method)
            explainer.fit(X, y)
            exact = InfluenceExplainer(explainer.estimator, method=Exact(1e-12)).fit(X, y)
            moved, true = explainer.parameter_influence(), exact.parameter_influence()
            ratio = explainer.error_bound() / np.linalg.norm(moved - true, axis=1)
            print(
                f"error_bound, {method}, n={n} d={d} C={C}: bound/error "
                f"median {np.median(ratio):.3f}, smallest {ratio.min():.3f}, "
                f"99 % {np.quantile(ratio, 0.99):.2f}"
            )


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["binary-small", "binary-large", "digits", "tightness"]
    if "binary-small" in wanted:
        binary(5_000, 30, 5, [1e-8])
    if "binary-large" in wanted:
        binary(100_000, 30, 5, [1e-8, 1e-5])
    if "digits" in wanted:
        digits(1)
    if "tightness" in wanted:
        tightness()
