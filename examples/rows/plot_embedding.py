"""
A map of what training rows do
==============================

Two rows that look different can push a model the same way, and two that look alike can push it
apart, if their labels differ. :class:`~skinfluence.InfluenceEmbedding` gives rows and queries
coordinates whose inner products are influences, ready for clustering and neighbour search.
"""

# %%
# Coordinates
# -----------
# Every training row of a logistic regression on the digits, a twentieth of them mislabelled.

import os

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from skinfluence import InfluenceEmbedding, InfluenceExplainer

FAST = os.environ.get("SKINFLUENCE_FAST") == "1"

X, y = load_digits(return_X_y=True)
keep = 200 if FAST else 1000
X, X_query, y, y_query = X[:keep] / 16, X[1000:1100] / 16, y[:keep].copy(), y[1000:1100]
rng = np.random.default_rng(0)
flipped = rng.permutation(keep)[: keep // 20]
y[flipped] = (y[flipped] + rng.integers(1, 10, len(flipped))) % 10

explainer = InfluenceExplainer(LogisticRegression(C=0.1, max_iter=1000), method="influence")
embedding = InfluenceEmbedding(explainer, n_components=50).fit(X, y)
print(f"squared length that 50 of 650 directions keep: {embedding.explained_ratio_:.2f}")

# %%
# Clusters
# --------
# Rows scaled to unit length, grouped by the direction in which they push the model. All clusters
# but one are of one label. Mislabelled rows stand apart by their length: they move the model far.

lengths = np.linalg.norm(embedding.embedding_, axis=1)
directions = embedding.embedding_ / lengths[:, None]
clusters = KMeans(12, n_init=1, random_state=0).fit_predict(directions)
wrong = np.isin(np.arange(keep), flipped)
figure, axes = plt.subplots(1, 2, figsize=(10, 4))
shares = np.array([np.bincount(y[clusters == c], minlength=10) for c in range(12)])
image = axes[0].imshow(shares / shares.sum(axis=1, keepdims=True), aspect="auto", cmap="Blues")
figure.colorbar(image, ax=axes[0], label="share of the cluster")
axes[0].set_xlabel("label")
axes[0].set_xticks(range(10))
axes[0].set_yticks(range(12))
axes[0].set_ylabel("cluster")
axes[0].set_title("labels of the rows that push alike")
axes[1].hist([lengths[~wrong], lengths[wrong]], bins=30, density=True)
axes[1].set_xlabel("length: how far the row moves the model")
axes[1].set_ylabel("density")
axes[1].legend(["right labels", "wrong labels"])
figure.tight_layout()

# %%
# Neighbours, plain and relative
# ------------------------------
# The rows of largest influence are found by a neighbour search, the same rows that
# ``top_influences`` finds. A few long rows are among them for many queries. Relative influence
# divides by the length: what is left are rows that speak of this query.

whole = InfluenceEmbedding(explainer).fit(X, y)
plain = whole.top_influences(X_query, y_query, k=5, by="helpful")
relative = whole.explainer_.top_influences(X_query, y_query, k=5, by="helpful", relative="loss")
for name, top in (("plain", plain), ("relative", relative)):
    distinct = len(np.unique(top.indices))
    print(f"{name:9s} {distinct} distinct rows among the top 5 of 100 queries")

query = 8
figure, axes = plt.subplots(2, 6, figsize=(8, 3.6))
for row, (name, top) in zip(axes, (("plain", plain), ("relative", relative)), strict=True):
    row[0].imshow(X_query[query].reshape(8, 8), cmap="gray_r")
    row[0].set_title(f"query: {y_query[query]}", fontsize=9)
    row[0].set_ylabel(name)
    for ax, i in zip(row[1:], top.indices[query], strict=True):
        ax.imshow(X[i].reshape(8, 8), cmap="gray_r")
        ax.set_title(f"labelled {y[i]}", fontsize=9)
for ax in axes.ravel():
    ax.set_xticks([])
    ax.set_yticks([])
figure.suptitle("rows that help a query most")
figure.tight_layout()
