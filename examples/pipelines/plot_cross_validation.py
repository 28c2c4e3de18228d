"""
Leave-one-out without refits
============================

How far can the rows left out be predicted from one fit? It depends on how many parameters share
how many rows. A logistic regression tells zeros and eights from sevens and nines in the digits
data, on more and more of their pixels' products.
"""

# %%
# ``cross_val_predict`` is scikit-learn's, call for call; ``cv=None`` means leave-one-out, and
# ``approximation`` says how a row is removed from the one fit.

import os

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import PolynomialFeatures, scale

from skinfluence.inspection import InfluencePathDisplay, LeaveOneOutDisplay
from skinfluence.model_selection import cross_val_predict

fast = os.environ.get("SKINFLUENCE_FAST") == "1"
digits, labels = load_digits(return_X_y=True)
kept = np.isin(labels, [0, 7, 8, 9])
digits, labels = digits[kept], np.isin(labels[kept], [0, 8]).astype(int)
rng = np.random.default_rng(0)
rows = rng.permutation(len(digits))[: 120 if fast else 400]
products = PolynomialFeatures(2, include_bias=False).fit_transform(digits[rows][:, 10:54])
products = scale(products[:, products.std(axis=0) > 0])
X, y = products[:, rng.permutation(products.shape[1])], labels[rows]

# %%
# The first order keeps the curvature that the removed row supplied, and falls short of the truth by
# more and more as the features grow in number: by a fifth at one feature for two rows. One Newton
# step takes the curvature away too, and stays within a percent.

ratios = [0.05, 0.5] if fast else [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5]
model = LogisticRegression(C=0.1, tol=1e-8, max_iter=2000)
kinds = {"exact": "exact", "newton": "newton", "infinitesimal_jackknife": "first order"}
losses = {name: [] for name in ["training", *kinds.values()]}
for ratio in ratios:
    part = X[:, : int(ratio * len(y))]
    losses["training"].append(log_loss(y, model.fit(part, y).predict_proba(part)))
    for approximation, name in kinds.items():
        left_out = cross_val_predict(
            model, part, y, method="predict_proba", approximation=approximation
        )
        losses[name].append(log_loss(y, left_out))

for k, ratio in enumerate(ratios):
    print(f"p/n = {ratio:4.2f}  " + "  ".join(f"{n} {v[k]:.4f}" for n, v in losses.items()))

fig, (ax, right) = plt.subplots(1, 2, figsize=(9, 3.8))
styles = {"training": ":", "exact": "-", "newton": "--", "first order": "-."}
for name, values in losses.items():
    (line,) = ax.plot(ratios, values, styles[name], label=name, lw=3 if name == "exact" else 1.5)
    error = 100 * (np.divide(values, losses["exact"]) - 1)
    right.plot(ratios, error, styles[name], color=line.get_color(), lw=line.get_linewidth())
ax.set(xlabel="p / n", ylabel="mean log-loss (nats)")
right.set(xlabel="p / n", ylabel="error of the leave-one-out loss (%)")
ax.legend()
fig.tight_layout()

# %%
# Row by row, at the largest ratio: the margin of each row by the fit with it and without it. The
# rows far below the diagonal are held on their side by themselves alone.

LeaveOneOutDisplay.from_estimator(model, part, y)

# %%
# The score along ``C``: what the training rows say, what leave-one-out says, and five folds.

InfluencePathDisplay.from_estimator(
    LogisticRegression(tol=1e-8, max_iter=2000),
    part,
    y,
    param_range=[1e-3, 1e-1] if fast else np.logspace(-3, 0, 4),
    scoring="accuracy",
)
plt.show()
