"""Groups removed from a logistic regression: how far each method is from the optimum without them.

1000 simulated rows, 20 features, ``C=0.2``; for groups of three kinds, the mean relative error of
the change of the parameters, and the seconds a group next to a refit of scikit-learn's. The columns
"renormalised" are measured on the mean-form objective, whose penalty shrinks with the rows: there
``SecondOrder(third_derivative=False, renormalised=True)`` is the formula of Basu et al.

``python benchmarks/groups.py [n_groups]``
"""

import sys
import time

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from skinfluence import InfluenceExplainer
from skinfluence.methods import (
    InfinitesimalJackknife,
    Newton,
    Problem,
    RescaledInfluence,
    SecondOrder,
)
from skinfluence.objectives.linear import LinearObjective
from skinfluence.objectives.rules import RemovalRule
from skinfluence.solvers import Direct

N, D, STRENGTH = 1000, 20, 5.0
TOTAL = {
    "first": InfinitesimalJackknife(),
    "second order": SecondOrder(),
    "Newton": Newton(),
    "rescaled (RIF)": RescaledInfluence(),
}
MEAN = {
    "Basu": SecondOrder(third_derivative=False, renormalised=True),
    "renormalised": SecondOrder(renormalised=True),
}
KINDS = [
    ("random", 0.05),
    ("random", 0.2),
    ("coherent", 0.1),
    ("coherent", 0.3),
    ("same sign", 0.05),
    ("same sign", 0.2),
]


def rows(seed=1):
    """Rows of the logistic model, and their labels."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, D))
    score = X @ rng.standard_normal(D) * 2 / np.sqrt(D) + 0.3
    return X, (rng.random(N) < expit(score)).astype(int), rng


def draw(kind, size, X, residuals, rng):
    """Rows at random, rows near one row, or rows whose gradients point one way."""
    if kind == "random":
        return rng.choice(len(X), size, replace=False)
    if kind == "coherent":
        return np.argsort(((X - X[rng.integers(len(X))]) ** 2).sum(axis=1))[:size]
    pull = -residuals * (np.column_stack([X, np.ones(len(X))]) @ rng.standard_normal(D + 1))
    return np.argsort(-pull)[:size]


def problems(X, y):
    """The fit with a fixed penalty, and the same fit with one on the mean loss."""
    fitted = InfluenceExplainer(LogisticRegression(C=1 / STRENGTH, tol=1e-8)).fit(X, y).objective_
    mean = LinearObjective(
        fitted.design,
        fitted.loss,
        fitted.y,
        fitted.weights,
        fitted.penalty,
        fitted.coef,
        fitted.head,
        rule=RemovalRule(N, penalty_measure=np.ones(N)),
    )
    return [Problem(objective, Direct().fit(objective)) for objective in (fitted, mean)]


def truth(objective, group):
    """The optimum without the group, minus the fit."""
    weights = objective.weights.copy()
    weights[group] = 0
    rho = objective.rule.joint_factors(group)[1]
    return objective.minimise(objective.theta, weights, rho).theta - objective.theta


def errors(problem, methods, groups):
    """Mean relative error of each method, and its seconds a group."""
    true = np.array([truth(problem.objective, group) for group in groups])
    out = {}
    for name, method in methods.items():
        start = time.perf_counter()
        found = method.bind(problem).joint_parameters(groups)
        seconds = (time.perf_counter() - start) / len(groups)
        distance = np.linalg.norm(found - true, axis=1) / np.linalg.norm(true, axis=1)
        out[name] = distance.mean(), seconds
    return out


def main(n_groups=30):
    """Print the table."""
    X, y, rng = rows()
    total, mean = problems(X, y)
    print(f"{'group':>16}", *(f"{name:>15}" for name in [*TOTAL, *MEAN]))
    for kind, share in KINDS:
        residuals = total.objective.residuals[:, 0]
        groups = [draw(kind, int(share * N), X, residuals, rng) for _ in range(n_groups)]
        found = errors(total, TOTAL, groups) | errors(mean, MEAN, groups)
        print(f"{kind:>10} {share:>5.0%}", *(f"{error:15.4f}" for error, _ in found.values()))
    start = time.perf_counter()
    for group in groups[:10]:
        keep = np.setdiff1d(np.arange(N), group)
        LogisticRegression(C=1 / STRENGTH, tol=1e-8).fit(X[keep], y[keep])
    refit = (time.perf_counter() - start) / 10
    ratios = [refit / seconds for _, seconds in found.values()]
    print(f"{'refit / method':>16}", *(f"{ratio:14.1f}x" for ratio in ratios))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
