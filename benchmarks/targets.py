"""Every target's influence against refits, and three functionals against pyinfluence.

Two real tables with a sensitive column, three models, method "newton". The truth is a refit
without each of some rows, its target computed by hand from scikit-learn's predictions (the attack
is run again on the refit). Prints the slope of the influences on the truth, and their correlation.
The second part is timed in one run, from the fitted model; it needs ``pip install pyinfluence``.

    python benchmarks/targets.py [--rows 150]
"""

import argparse
from time import perf_counter

import numpy as np
from people import tables, three_parts
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from skinfluence import InfluenceExplainer
from skinfluence.targets import (
    AUROC,
    AdversarialLoss,
    BrierScore,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    Functional,
    LogOdds,
    Loss,
    Mean,
    Parameter,
    Probability,
    WorstGroupLoss,
)

TIGHT = {"solver": "newton-cholesky", "tol": 1e-10, "max_iter": 1000}
EPS = 0.2
MODELS = {
    "logistic": LogisticRegression(**TIGHT),
    "balanced": LogisticRegression(C=0.1, class_weight="balanced", **TIGHT),
    "discriminant": LinearDiscriminantAnalysis(),
}


def rates(model, X, mask, group):
    p = model.predict_proba(X)[:, 1]
    return np.ptp([p[mask & (group == g)].mean() for g in (0, 1)])


def attacked(model, X, y):
    """Log-loss at the worst case within EPS of each entry."""
    margin = np.where(y == 1, 1, -1) * model.decision_function(X)
    return np.logaddexp(0, -(margin - EPS * np.abs(model.coef_).sum())).mean()


def pairs(group):
    """``{name: (target, the same from a fitted model)}``."""
    return {
        "Mean(LogOdds)": (Mean(LogOdds()), lambda m, X, y: m.decision_function(X).mean()),
        "Mean(Probability)": (Mean(Probability()), lambda m, X, y: m.predict_proba(X)[:, 1].mean()),
        "Mean(BrierScore)": (
            Mean(BrierScore()),
            lambda m, X, y: brier_score_loss(y, m.predict_proba(X)[:, 1]),
        ),
        "Parameter": (Parameter(0), lambda m, X, y: m.coef_[0, 0]),
        "DemographicParity": (
            DemographicParity(group),
            lambda m, X, y: rates(m, X, y < 2, group),
        ),
        "EqualOpportunity": (EqualOpportunity(group), lambda m, X, y: rates(m, X, y == 1, group)),
        "EqualizedOdds": (
            EqualizedOdds(group),
            lambda m, X, y: max(rates(m, X, y == c, group) for c in (0, 1)),
        ),
        "WorstGroupLoss": (
            WorstGroupLoss(group),
            lambda m, X, y: max(
                log_loss(y[group == g], m.predict_proba(X[group == g])) for g in (0, 1)
            ),
        ),
        "Mean(AdversarialLoss)": (Mean(AdversarialLoss(eps=EPS)), attacked),
        "AUROC": (AUROC(), lambda m, X, y: roc_auc_score(y, m.decision_function(X))),
        "Functional(std)": (
            Functional(lambda P: P.std(), of="proba"),
            lambda m, X, y: m.predict_proba(X).std(),
        ),
        "Mean(Loss) - gap": (
            Mean(Loss()) - 0.5 * DemographicParity(group),
            lambda m, X, y: log_loss(y, m.predict_proba(X)) - 0.5 * rates(m, X, y < 2, group),
        ),
    }


def slope_and_correlation(found, truth):
    return found @ truth / (truth @ truth), np.corrcoef(found, truth)[0, 1]


def refits(model, X, y, rows):
    out = []
    for i in rows:
        keep = np.arange(len(y)) != i
        out.append(clone(model).fit(X[keep], y[keep]))
    return out


def against_refits(table, rows):
    (X, y, _), (Q, labels, group), _ = three_parts(*table)
    for name, model in MODELS.items():
        fits, full = refits(model, X, y, rows), clone(model).fit(X, y)
        for target, (object_, by_hand) in pairs(group).items():
            explainer = InfluenceExplainer(model, method="newton", target=object_).fit(X, y)
            found = explainer.transform(Q, labels)[0, rows]
            base = by_hand(full, Q, labels)
            truth = np.array([by_hand(fit, Q, labels) for fit in fits]) - base
            slope, correlation = slope_and_correlation(found, truth)
            print(f"  {name:13} {target:22} slope {slope:6.3f}  correlation {correlation:7.5f}")


def against_pyinfluence(table, rows):
    from pyinfluence import FunctionalInfluence, functionals

    (X, y, _), (Q, labels, group), _ = three_parts(*table)
    model = LogisticRegression(**TIGHT).fit(X, y)
    fits = refits(model, X, y, rows)

    def gap(m, X, y):
        p = m.predict_proba(X)[:, 1]
        return p[group == 1].mean() - p[group == 0].mean()

    def worst(m, X, y):
        return max(log_loss(y[group == g], m.predict_proba(X[group == g])) for g in (0, 1))

    both = Mean(Probability(), group == 1) - Mean(Probability(), group == 0)
    three = {
        "group gap": (functionals.group_gap(group), both, gap),
        "AUROC": (
            functionals.auroc(1),
            AUROC(),
            lambda m, X, y: roc_auc_score(y, m.decision_function(X)),
        ),
        "worst group": (
            functionals.worst_group_mean(group, of="losses"),
            WorstGroupLoss(group),
            worst,
        ),
    }
    for name, (theirs, ours, by_hand) in three.items():
        base = by_hand(model, Q, labels)
        truth = np.array([by_hand(fit, Q, labels) for fit in fits]) - base
        times, values = {}, {}
        methods = ("newton",) if name == "AUROC" else ("newton", "influence")
        for _ in range(5):
            start = perf_counter()
            values["pyinfluence"] = FunctionalInfluence(theirs).fit(model, X, y).explain(Q, labels)
            times.setdefault("pyinfluence", []).append(perf_counter() - start)
            for method in methods:
                start = perf_counter()
                own = InfluenceExplainer(FrozenEstimator(model), method=method, target=ours)
                values[method] = own.fit(X, y).transform(Q, labels)[0]
                times.setdefault(method, []).append(perf_counter() - start)
        for way, found in values.items():
            slope, correlation = slope_and_correlation(found[rows], truth)
            print(
                f"  {name:12} {way:12} slope {slope:6.3f}  correlation {correlation:7.5f}  "
                f"{min(times[way]) * 1e3:7.1f} ms"
            )


def main():
    """Print both parts for both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=150)
    options = parser.parse_args()
    for name, table in tables(["mortgages", "arrests"]).items():
        n = len(three_parts(*table)[0][1])
        rows = np.random.default_rng(0).permutation(n)[: options.rows]
        print(f"{name}: {n} rows, {len(rows)} refitted without")
        against_refits(table, rows)
        against_pyinfluence(table, rows)


if __name__ == "__main__":
    main()
