"""All pairs of training rows and queries, binary logistic regression: time against the product.

Ratios are taken in one run, calls interleaved, medians over the repeats. "bare" is
``X_test @ Hinv @ (r * X_train).T`` in the same dtype: what no implementation can avoid.
pyinfluence is compared where it is installed (``pip install pyinfluence==0.5.0``).

Run: ``python benchmarks/all_pairs.py``
"""

import time
import warnings

import numpy as np
from scipy.special import expit
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from skinfluence import InfluenceExplainer

N, D, M, REPEATS = 20_000, 50, 1_000, 15


def main():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((N + M, D))
    y = (rng.random(N + M) < expit(X @ rng.standard_normal(D) / np.sqrt(D) * 2)).astype(int)
    calls = {}
    for dtype in (np.float64, np.float32):
        calls |= jobs(X[:N].astype(dtype), y[:N], X[N:].astype(dtype), y[N:], np.dtype(dtype).name)
    calls |= pyinfluence_jobs(X[:N], y[:N], X[N:], y[N:])
    times = measure(calls)
    for name, seconds in times.items():
        print(f"{name:34s} {seconds * 1e3:8.1f} ms")
    for dtype in ("float64", "float32"):
        show(times, f"influence {dtype}", f"bare {dtype}")
    show(times, "influence float64", "influence float32")
    show(times, "newton float64", "influence float64")
    if "pyinfluence" in times:
        show(times, "influence float64", "pyinfluence")


def show(times, one, other):
    print(f"{one} / {other}: {times[one] / times[other]:.2f}")


def jobs(X, y, X_test, y_test, dtype):
    model = LogisticRegression(tol=1e-6, max_iter=2000).fit(X, y)
    theta = np.append(model.coef_[0], model.intercept_).astype(X.dtype)
    A, B = (np.column_stack([Z, np.ones(len(Z), X.dtype)]) for Z in (X, X_test))
    p = expit(A @ theta)
    H = (A * (p * (1 - p))[:, None]).T @ A + np.diag(np.append(np.ones(D), 0)).astype(X.dtype)
    inverse = np.linalg.inv(H).astype(X.dtype)
    r = (p - y).astype(X.dtype)[:, None]

    def explain(method):
        explainer = InfluenceExplainer(FrozenEstimator(model), method=method)
        return explainer.fit(X, y).transform(X_test, y_test)

    return {
        f"bare {dtype}": lambda: B @ inverse @ (r * A).T,
        f"influence {dtype}": lambda: explain("influence"),
        f"newton {dtype}": lambda: explain("newton"),
    }


def pyinfluence_jobs(X, y, X_test, y_test):
    try:
        from pyinfluence import InfluenceFunctions
    except ImportError:
        return {}
    model = LogisticRegression(tol=1e-6, max_iter=2000).fit(X, y)
    return {"pyinfluence": lambda: InfluenceFunctions().fit(model, X, y).explain(X_test, y_test)}


def measure(calls):
    times = {name: [] for name in calls}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(REPEATS):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


if __name__ == "__main__":
    main()
