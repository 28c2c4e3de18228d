"""Cross-validation from one fit against scikit-learn's refits, in one run.

    python benchmarks/cross_validation.py [folds|pipelines|loo|accuracy|search] ...

Times of scikit-learn's leave-one-out are extrapolated from 20 rows; its grid search is run whole.
"""

import sys
import time
import warnings
from functools import partial

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, make_scorer
from sklearn.model_selection import GridSearchCV, LeaveOneOut
from sklearn.model_selection import cross_val_predict as reference
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale

from skinfluence.model_selection import InfluenceSearchCV, cross_val_predict


def simulated(n, p, signal=2.0, seed=0):
    """Correlated normal features, labels from a logistic model."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    X[:, 1:] += 0.7 * X[:, :-1]
    z = X @ rng.standard_normal(p) * signal / np.sqrt(2 * p)
    return X, (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int)


def timed(work, repeats=1):
    """Shortest time, and the last answer."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        out = work()
        best = min(best, time.perf_counter() - start)
    return best, out


def folds():
    """5 and 10 folds at n = 20 000, d = 50: default, lbfgs at 1e-10, Newton's own solver."""
    X, y = simulated(20_000, 50)
    newton = {"tol": 1e-10, "solver": "newton-cholesky"}
    for options in ({}, {"tol": 1e-10, "max_iter": 1000}, newton):
        for cv in (5, 10):
            model = LogisticRegression(**options)
            options_of_both = {"cv": cv, "method": "predict_proba"}
            ours, left = timed(partial(cross_val_predict, model, X, y, **options_of_both), 3)
            theirs, truth = timed(partial(reference, model, X, y, **options_of_both), 2)
            print(
                f"{cv} folds, {options or 'default tol'}: {theirs:.2f} s / {ours:.2f} s = "
                f"{theirs / ours:.1f} x, largest difference {np.abs(left - truth).max():.1e}"
            )


def pipelines():
    """Whole pipelines, every step fitted to the fold: 5 folds and leave-one-out."""
    X, y = simulated(20_000, 50)
    tight = LogisticRegression(tol=1e-10, max_iter=1000)
    models = {
        "scaler": make_pipeline(StandardScaler(), tight),
        "scaler and components": make_pipeline(StandardScaler(), PCA(20), tight),
    }
    for name, model in models.items():
        both = {"cv": 5, "method": "predict_proba"}
        ours, left = timed(partial(cross_val_predict, model, X, y, **both), 2)
        theirs, truth = timed(partial(reference, model, X, y, **both))
        print(
            f"{name}, 5 folds: {theirs:.2f} s / {ours:.2f} s = {theirs / ours:.1f} x, "
            f"largest difference {np.abs(left - truth).max():.1e}"
        )
    X, y = X[:2000, :20], y[:2000]
    for name, model in models.items():
        ours, left = timed(partial(cross_val_predict, model, X, y, method="predict_proba"))
        start, error = time.perf_counter(), 0.0
        for i in range(20):
            keep = np.arange(len(y)) != i
            truth = clone(model).fit(X[keep], y[keep]).predict_proba(X[[i]])
            error = max(error, np.abs(truth - left[i]).max())
        theirs = (time.perf_counter() - start) / 20 * len(y)
        print(
            f"{name}, leave-one-out n=2000, d=20: {theirs:.0f} s (extrapolated) / {ours:.2f} s = "
            f"{theirs / ours:.0f} x, largest difference {error:.1e}"
        )


def loo():
    """Exact leave-one-out, all rows."""
    for n in (5_000, 100_000):
        X, y = simulated(n, 30)
        model = LogisticRegression(tol=1e-10, max_iter=1000)
        ours, left = timed(partial(cross_val_predict, model, X, y, method="predict_proba"))
        rows = np.random.default_rng(1).choice(n, 20, replace=False)
        tight = LogisticRegression(tol=1e-12, max_iter=1000, solver="newton-cholesky")
        start, error = time.perf_counter(), 0.0
        for i in rows:
            keep = np.arange(n) != i
            clone(model).fit(X[keep], y[keep]).predict_proba(X[[i]])
        theirs = (time.perf_counter() - start) / len(rows) * n
        for i in rows[:5]:
            keep = np.arange(n) != i
            truth = clone(tight).fit(X[keep], y[keep]).predict_proba(X[[i]])
            error = max(error, np.abs(truth - left[i]).max())
        print(
            f"exact leave-one-out n={n}, d=30: {theirs:.0f} s (extrapolated) / {ours:.2f} s = "
            f"{theirs / ours:.0f} x, largest difference {error:.1e}"
        )


def accuracy():
    """Mean leave-one-out log-loss by p / n: training, exact, newton, first order."""
    print("n=400   p/n   train   exact   newton (error)   first order (error)")
    for ratio in (0.02, 0.05, 0.1, 0.25, 0.5):
        X, y = simulated(400, int(400 * ratio), seed=3)
        model = LogisticRegression(tol=1e-10, max_iter=1000)
        train = log_loss(y, model.fit(X, y).predict_proba(X))
        losses = [
            log_loss(y, cross_val_predict(model, X, y, method="predict_proba", approximation=name))
            for name in ("exact", "newton", "infinitesimal_jackknife")
        ]
        exact, newton, first = losses
        print(
            f"       {ratio:5.2f}   {train:.4f}  {exact:.4f}  {newton:.4f} "
            f"({newton / exact - 1:+.2%})  {first:.4f} ({first / exact - 1:+.2%})"
        )


def search():
    """InfluenceSearchCV against GridSearchCV(cv=LeaveOneOut()), five data sets."""
    digits = load_digits(return_X_y=True)
    few = digits[1] < 2
    data = {
        "breast cancer": load_breast_cancer(return_X_y=True),
        "wine": load_wine(return_X_y=True),
        "iris": load_iris(return_X_y=True),
        "digits 0/1": (digits[0][few], digits[1][few]),
        "diabetes": load_diabetes(return_X_y=True),
    }
    grid = {"C": np.logspace(-3, 2, 11)}
    for name, (X, y) in data.items():
        X = scale(X)
        model, param = LogisticRegression(tol=1e-8, max_iter=2000), grid
        scoring = make_scorer(
            log_loss,
            labels=np.unique(y),
            greater_is_better=False,
            response_method="predict_proba",
        )
        if name == "diabetes":
            model, scoring = Ridge(), "neg_mean_squared_error"
            param = {"alpha": np.logspace(-2, 3, 11)}
        grid_search = GridSearchCV(model, param, scoring=scoring, cv=LeaveOneOut())
        theirs, _ = timed(partial(grid_search.fit, X, y))
        chosen = next(iter(grid_search.best_params_.values()))
        print(f"search, {name}: scikit-learn {theirs:.1f} s, chose {chosen:.4g}", end="")
        for kind in ("auto", "exact"):
            ours = InfluenceSearchCV(model, param, scoring=scoring, approximation=kind)
            seconds, _ = timed(partial(ours.fit, X, y))
            own = next(iter(ours.best_params_.values()))
            print(f"; {kind} {seconds:.2f} s = {theirs / seconds:.0f} x, chose {own:.4g}", end="")
        print(flush=True)


PARTS = {"folds": folds, "pipelines": pipelines, "loo": loo, "accuracy": accuracy, "search": search}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
