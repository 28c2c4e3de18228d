"""How few rows flip a coefficient, against first-order sums; how tight proofs of unlearning are.

    python benchmarks/influential_sets.py [--cases 200]

The ten coefficients of a least-squares fit to the diabetes table: rows that the greedy search needs
to flip a sign, and rows that the sum of first-order effects needs (AMIP), both checked by a refit.
Then groups removed from random logistic and ridge regressions by ``unlearn``: the distance from the
optimum without them, over the bound on it.
"""

import argparse
import time
import warnings

import numpy as np
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

from skinfluence import InfluenceExplainer


def flips():
    """Rows to flip each sign."""
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    explainer = InfluenceExplainer(LinearRegression()).fit(X, y)
    print(f"{'sign flipped':14s}{'rows, greedy':>14s}{'rows, AMIP':>14s}")
    flipped = fewer = 0
    for name in X.columns:
        texts, counts = [], []
        for method in ("greedy", "amip"):
            found = explainer.most_influential_set(parameter=name, flip="sign", method=method)
            keep = np.setdiff1d(np.arange(len(y)), found.rows)
            coef = LinearRegression().fit(X.iloc[keep], y.iloc[keep]).coef_
            done = np.sign(coef[list(X.columns).index(name)]) != np.sign(found.value)
            texts.append(f"{len(found.rows)}" if done else "none")
            counts.append(len(found.rows) if done else np.inf)
        flipped += np.isfinite(counts[0])
        fewer += counts[0] <= counts[1]
        print(f"{name:14s}{texts[0]:>14s}{texts[1]:>14s}")
    print(f"flipped by the greedy search, after a refit: {flipped} of {X.shape[1]}")
    print(f"with no more rows than AMIP: {fewer} of {X.shape[1]}", flush=True)


def random_case(seed):
    """A model, its rows, and a group to remove."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(60, 400)), int(rng.integers(2, 12))
    X = rng.standard_normal((n, d))
    score, C = X @ rng.standard_normal(d), 10.0 ** rng.uniform(-2, 2)
    group = rng.choice(n, int(rng.integers(1, n // 5)), replace=False)
    if seed % 2:
        return Ridge(alpha=1 / C), X, score + rng.standard_normal(n), group
    model = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    return model, X, (rng.random(n) < expit(score)).astype(int), group


def optimum(model, X, y):
    """Parameters of a fit, polished by Newton steps where the loss is not quadratic."""
    A, theta = np.column_stack([X, np.ones(len(y))]), np.append(model.coef_, model.intercept_)
    linear = isinstance(model, Ridge)
    penalty = model.alpha if linear else 1 / model.C
    ridge = penalty * np.append(np.ones(X.shape[1]), 0)
    for _ in range(5):
        z = A @ theta
        slope = (z if linear else expit(z)) - y
        curve = np.ones_like(z) if linear else expit(z) * expit(-z)
        hessian = A.T @ (A * curve[:, None]) + np.diag(ridge)
        theta = theta - np.linalg.solve(hessian, A.T @ slope + ridge * theta)
    return theta


def certificates(n_cases):
    """Bounds of ``unlearn`` against distances."""
    violated, ratios, seconds = 0, [], 0.0
    for seed in range(n_cases):
        model, X, y, group = random_case(seed)
        method = ("newton", "exact")[seed // 2 % 2]
        explainer = InfluenceExplainer(model, method=method).fit(X, y)
        start = time.perf_counter()
        found = explainer.unlearn(group)
        seconds += time.perf_counter() - start
        keep = np.setdiff1d(np.arange(len(y)), group)
        true = optimum(clone(model).fit(X[keep], y[keep]), X[keep], y[keep])
        own = np.append(found.estimator.coef_, found.estimator.intercept_)
        distance = np.linalg.norm(own - true)
        # the comparison itself is good to rounding
        violated += distance > found.distance_bound + 1e-14 * np.linalg.norm(true)
        if method == "newton" and not isinstance(model, Ridge):
            ratios.append(found.distance_bound / distance)
    print(f"certificates violated: {violated} of {n_cases}")
    print(
        f"bound / distance, newton, logistic: median {np.median(ratios):.2f}, "
        f"{np.mean(np.isfinite(ratios)):.0%} finite; {seconds / n_cases * 1e3:.1f} ms a group"
    )


def main():
    """Print both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=200)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    flips()
    certificates(options.cases)


if __name__ == "__main__":
    main()
