"""The picture of *Which method when*: ``python doc/ratio_picture.py`` draws it again.

The mean loss of left-out rows of logistic regressions, exactly and as each method sees it from one
fit, where more and more parameters share the same rows.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from skinfluence.model_selection import cross_val_predict

N, DRAWS = 400, 5
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
LINES = {  # how a row is removed: its name, style and width
    "exact": ("exact", "-", 4),
    "newton": ("Newton", "--", 2),
    "infinitesimal_jackknife": ("first order", "-.", 2),
}


def simulated(n, p, seed):
    """Correlated normal features, labels from a logistic model."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    X[:, 1:] += 0.7 * X[:, :-1]
    z = X @ rng.standard_normal(p) * np.sqrt(2 / p)
    return X, (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int)


def losses(ratio, seed):
    """Mean log losses at one ratio of parameters to rows: left out by each method, and fitted."""
    X, y = simulated(N, int(N * ratio), seed)
    model = LogisticRegression(tol=1e-10, max_iter=1000)
    left_out = [
        log_loss(y, cross_val_predict(model, X, y, method="predict_proba", approximation=name))
        for name in LINES
    ]
    return [*left_out, log_loss(y, model.fit(X, y).predict_proba(X))]


def picture():
    """The figure."""
    means = np.array([np.mean([losses(r, seed) for seed in range(DRAWS)], axis=0) for r in RATIOS])
    fig, ax = plt.subplots(figsize=(6.8, 3.8), layout="constrained")
    styles = [*LINES.values(), ("none: fitted rows", ":", 2)]
    for values, (name, style, width) in zip(means.T, styles, strict=True):
        ax.plot(RATIOS, values, style, lw=width, label=name)
    ax.set_xlabel(f"p / n: parameters over {N} rows")
    ax.set_ylabel("mean log loss of a row (nats)")
    ax.legend(title="rows left out")
    return fig


if __name__ == "__main__":
    picture().savefig(Path(__file__).parent / "_static" / "ratio.png", dpi=150)
