"""Diagnostics of unpenalised models: the same numbers as statsmodels, and the time they take.

    python benchmarks/statsmodels_influence.py [--rows 1000 10000 100000] [--refits 200]

Needs ``pip install statsmodels==0.15.0``. Leverages, Cook's distances, changes of the parameters
and (least squares) left-out residuals of every row, by ``get_influence`` and from an explainer of
the same model; both start from the fitted model, and times are the shortest of five. Differences
are relative to the largest number. Then what statsmodels refits for: its own loop over all rows
squares), warm-started fits scaled up from ``--refits`` rows (generalised models). Then standard
errors that survive a wrong model, and what becomes of a penalised fit.
"""

import argparse
import time
import warnings

import numpy as np
import statsmodels.api as sm
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor

from skinfluence import InfluenceExplainer
from skinfluence.inference import InfinitesimalJackknife

D = 20
TIGHT = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}
MODELS = {
    "least squares": (LinearRegression(), sm.families.Gaussian),
    "logistic": (LogisticRegression(C=np.inf, **TIGHT), sm.families.Binomial),
    "Poisson": (PoissonRegressor(alpha=0, **TIGHT), sm.families.Poisson),
}


def problem(name, n, seed=0):
    """Rows and the outcome of a model of this name."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, D))
    score = 0.5 * X @ rng.standard_normal(D) / np.sqrt(D) - 0.3
    if name == "least squares":
        return X, score + rng.standard_normal(n)
    if name == "logistic":
        return X, (rng.random(n) < 1 / (1 + np.exp(-score))).astype(int)
    return X, rng.poisson(np.exp(score)).astype(float)


def fitted(name, X, y):
    """The same model fitted by both."""
    model, family = MODELS[name]
    rows = with_constant(X)
    if name == "least squares":
        return FrozenEstimator(model.fit(X, y)), sm.OLS(y, rows).fit()
    return FrozenEstimator(model.fit(X, y)), sm.GLM(y, rows, family=family()).fit(tol=1e-13)


def with_constant(X):
    """Ones as the last column, where the explainer's intercept stands."""
    return np.column_stack([X, np.ones(len(X))])


def theirs(results, name):
    """Diagnostics that statsmodels has in closed form (its ``dfbeta`` is a loop of refits)."""
    found = results.get_influence()
    out = {"leverages": found.hat_matrix_diag, "Cook's distances": found.cooks_distance[0]}
    if name == "least squares":
        return out | {"left-out residuals": found.resid_press}
    return out | {"changes": -found.d_params}


def ours(model, X, y, name):
    """The same from an explainer."""
    explainer = InfluenceExplainer(model, method="newton").fit(X, y)
    estimator, out = explainer.estimator_, {"leverages": explainer.leverage_}
    if name == "least squares":
        residuals = y - estimator.predict(X)
        left_out = residuals - explainer.self_influence("decision")
        variance = residuals @ residuals / (len(y) - D - 1)
        cooks = left_out**2 * out["leverages"].ravel() / (variance * (D + 1))
        return out | {"Cook's distances": cooks, "left-out residuals": left_out}
    changes, rows = explainer.parameter_influence(), with_constant(X)
    p = estimator.predict_proba(X)[:, 1] if name == "logistic" else estimator.predict(X)
    information = rows.T @ (rows * (p * (1 - p) if name == "logistic" else p)[:, None])
    cooks = np.einsum("ij,ij->i", changes @ information, changes) / (D + 1)
    return out | {"Cook's distances": cooks, "changes": changes}


def shortest(work, repeats=5):
    """``(seconds, result)``."""
    seconds = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds = min(seconds, time.perf_counter() - start)
    return seconds, result


def apart(found, truth):
    """Largest difference, relative to the largest number."""
    found, truth = np.asarray(found), np.asarray(truth)
    return np.abs(found.reshape(truth.shape) - truth).max() / np.abs(truth).max()


def diagnostics(sizes):
    """Closed forms and one-step forms of all rows."""
    for name in MODELS:
        for n in sizes:
            X, y = problem(name, n)
            model, results = fitted(name, X, y)
            seconds, truth = shortest(lambda: theirs(results, name))  # noqa: B023
            own, found = shortest(lambda: ours(model, X, y, name))  # noqa: B023
            print(
                f"{name}, n={n}: statsmodels {seconds * 1e3:.1f} ms, ours {own * 1e3:.1f} ms, "
                f"ratio {own / seconds:.2f}"
            )
            differences = ", ".join(f"{key} {apart(found[key], truth[key]):.1e}" for key in truth)
            print(f"  largest difference: {differences}", flush=True)


def refits(n, n_refits):
    """Left-out parameters of all rows: by refits, and by ``method="exact"``."""
    for name in MODELS:
        X, y = problem(name, n)
        model, results = fitted(name, X, y)
        rows = np.random.default_rng(1).choice(n, n_refits, replace=False)

        def left_out(name=name, rows=rows, y=y, results=results, X=X):
            if name == "least squares":
                return results.get_influence().params_not_obsi[rows]
            design, family = with_constant(X), MODELS[name][1]
            return np.array([refit(design, y, family, row, results.params) for row in rows])

        seconds, truth = shortest(left_out, 1)
        seconds *= 1 if name == "least squares" else n / n_refits

        def explain(model=model, X=X, y=y):
            return InfluenceExplainer(model, method="exact").fit(X, y).parameter_influence()

        own, found = shortest(explain)
        difference = apart(found[rows], truth - results.params)
        print(
            f"{name}, n={n}, every row left out: statsmodels {seconds:.2f} s, ours {own:.3f} s = "
            f"{seconds / own:.0f} x, largest difference {difference:.1e}",
            flush=True,
        )


def refit(design, y, family, row, start):
    """Parameters without a row."""
    keep = np.arange(len(y)) != row
    model = sm.GLM(y[keep], design[keep], family=family())
    return model.fit(start_params=start, tol=1e-13).params


def standard_errors(n=2000):
    """HC0 and clustered standard errors, against those of the infinitesimal jackknife."""
    groups = np.arange(n) % 50
    clustered = {"cov_type": "cluster", "cov_kwds": {"groups": groups, "use_correction": False}}
    for name, (model, family) in MODELS.items():
        X, y = problem(name, n)
        glm = sm.GLM(y, with_constant(X), family=family())
        for options, own in (({"cov_type": "HC0"}, None), (clustered, groups)):
            truth = glm.fit(tol=1e-13, **options).bse
            jackknife = InfinitesimalJackknife(model, groups=own).fit(X, y)
            difference = apart(jackknife.standard_errors_, truth)
            kind = options["cov_type"]
            print(f"{name}, standard errors {kind}: largest difference {difference:.1e}")


def penalised(n=1000, n_refits=50):
    """A ridge-penalised logistic regression."""
    X, y = problem("logistic", n)
    try:
        model = sm.GLM(y, with_constant(X), family=sm.families.Binomial())
        model.fit_regularized(alpha=1 / n, L1_wt=0).get_influence()
        print("penalised: statsmodels has an influence now")
    except (AttributeError, NotImplementedError, ValueError) as error:
        print(f"penalised: statsmodels refuses ({type(error).__name__}: {error})")
    model = LogisticRegression(**TIGHT).fit(X, y)
    exact = InfluenceExplainer(model, method="exact").fit(X, y).parameter_influence()
    full, without = np.r_[model.coef_[0], model.intercept_], []
    for row in range(n_refits):
        keep = np.arange(n) != row
        left = LogisticRegression(**TIGHT).fit(X[keep], y[keep])
        without.append(np.r_[left.coef_[0], left.intercept_] - full)
    print(
        f"penalised, ours against refits: largest difference {apart(exact[:n_refits], without):.1e}"
    )


def main():
    """Print all parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--refits", type=int, default=200)
    options = parser.parse_args()
    diagnostics(options.rows)
    refits(2000, min(options.refits, 2000))
    standard_errors()
    penalised()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
