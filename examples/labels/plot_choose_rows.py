"""
Choosing training rows by what they do to validation rows
=========================================================

Influence on a validation loss says which training rows raise it. Leaving the worst out often
helps, and just as often only seems to: rows chosen *by* a validation set look good *on* it.
:class:`~skinfluence.InfluenceSelector` therefore parts the validation rows, chooses by one half,
and reports what the choice is worth on the other.
"""

# %%
# A table with wrong labels
# -------------------------
# A tenth of the training labels is flipped. Three sets of rows: to train, to validate, and a test
# set that nothing below looks at until the end.

import os

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import scale

from skinfluence import InfluenceSelector, value_rows

FAST = os.environ.get("SKINFLUENCE_FAST") == "1"

X, y = load_breast_cancer(return_X_y=True)
X = scale(X)
rng = np.random.default_rng(0)
order = rng.permutation(len(y))
train, valid, test = order[:250], order[250:410], order[410:]
noisy = y[train].copy()
flipped = rng.permutation(250)[:25]
noisy[flipped] = 1 - noisy[flipped]
model = LogisticRegression(C=0.1)

# %%
# Choose, and check
# -----------------
# At most 50 rows may go. A quarter, half and all of them are tried. ``gain_`` is the fall of the
# loss on the checking half, with its standard error; ``choosing_gain_``, on the half that chose,
# flatters.

selector = InfluenceSelector(model, budget=50, X_val=X[valid], y_val=y[valid], random_state=0)
selector.fit(X[train], noisy)
print(f"rows left out           {(~selector.support_).sum()}")
print(f"of them mislabelled     {np.isin(np.flatnonzero(~selector.support_), flipped).sum()}")
print(f"gain where it was chosen {selector.choosing_gain_:.4f}")
print(f"gain where it is checked {selector.gain_:.4f} +- {selector.gain_error_:.4f}")

# %%
# Did it help?
# ------------
# The loss on the test rows after leaving out more and more rows: by their value, and at random.


def test_loss(rows):
    """Of a fit on some training rows."""
    fit = clone(model).fit(X[train][rows], noisy[rows])
    return log_loss(y[test], fit.predict_proba(X[test]))


counts = np.arange(0, 101, 20 if FAST else 5)
worst_first = np.argsort(selector.values_)
by_value = [test_loss(worst_first[k:]) for k in counts]
at_random = np.mean(
    [[test_loss(rng.permutation(250)[k:]) for k in counts] for _ in range(2 if FAST else 10)],
    axis=0,
)
figure, ax = plt.subplots()
ax.plot(counts, by_value, label="most harmful first")
ax.plot(counts, at_random, label="at random")
chosen = (~selector.support_).sum()
ax.plot(chosen, test_loss(selector.sample_indices_), "o", color="C3", label="the selector's choice")
ax.set_xlabel("training rows left out")
ax.set_ylabel("log loss of the test rows (nats)")
ax.legend()

# %%
# Values by other definitions
# ---------------------------
# :func:`~skinfluence.value_rows` values rows by their influence, by leaving one out, in random
# halves of the data (Banzhaf), or, for nearest neighbours, in random subsets of all sizes
# (Shapley, in closed form). All are falls of a mean loss, so that positive is valuable.

values = {
    "influence, logistic": value_rows(model, X[train], noisy, X[valid], y[valid]),
    "KNN-Shapley": value_rows(
        KNeighborsClassifier(5), X[train], noisy, X[valid], y[valid], method="knn_shapley"
    ),
    "KNN-Banzhaf": value_rows(
        KNeighborsClassifier(5), X[train], noisy, X[valid], y[valid], method="banzhaf"
    ),
}
figure, axes = plt.subplots(1, 3, figsize=(10, 3))
wrong = np.isin(np.arange(250), flipped)
for ax, (name, found) in zip(axes, values.items(), strict=True):
    ax.hist([found.value[~wrong], found.value[wrong]], bins=25, density=True)
    ax.set_title(name)
    ax.set_xlabel("value (fall of the loss)")
axes[0].set_ylabel("density")
axes[0].legend(["right labels", "flipped labels"])
figure.tight_layout()
