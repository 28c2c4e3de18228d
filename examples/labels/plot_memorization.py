"""
What a net has memorised
========================

A net fits nearly every digit it was trained on. Most it would read just as well without ever having
seen them; a few it knows only by heart: without them the probability of their label falls.
"""

# %%
# A net on digits
# ---------------
# A tenth of the labels are wrong: what can a net do with those but memorise them?

import os

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import InfluenceExplainer
from skinfluence.inspection import MemorizationDisplay

FAST = os.environ.get("SKINFLUENCE_FAST") == "1"

rng = np.random.default_rng(0)
X, y = load_digits(return_X_y=True)
X, y = (X / 16).astype(np.float32), y.astype(np.int64)
rows = rng.permutation(len(y))[: 200 if FAST else 600]
X, truth = X[rows], y[rows]
wrong = rng.random(len(truth)) < 0.1
y = np.where(wrong, (truth + rng.integers(1, 10, len(truth))) % 10, truth)

torch.manual_seed(0)
net = NeuralNetClassifier(
    nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)),
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    optimizer__weight_decay=1e-3,
    lr=0.01,
    max_epochs=100 if FAST else 300,
    batch_size=-1,
    train_split=None,
    verbose=0,
)
net.fit(X, y)
print(f"share of the training labels that the net reproduces: {(net.predict(X) == y).mean():.3f}")

# %%
# With the row minus without it
# -----------------------------
# ``memorization`` is the probability of a row's own label with the row minus without it. Here it
# comes from one step of the parameters for each row, and the net evaluated where the step leads.

explainer = InfluenceExplainer(FrozenEstimator(net), method="infinitesimal_jackknife").fit(X, y)
display = MemorizationDisplay.from_explainer(explainer, threshold=0.25)

# %%
# The rows that the net knows by heart
# ------------------------------------
# Above each is the label it was trained with; a red one is wrong.

figure, axes = plt.subplots(2, 8, figsize=(9, 2.8))
for ax, row in zip(axes.flat, display.memorized, strict=False):
    ax.imshow(X[row].reshape(8, 8), cmap="gray_r")
    ax.set_title(str(y[row]), color="tab:red" if wrong[row] else "black")
for ax in axes.flat:
    ax.axis("off")
figure.tight_layout()

# %%
# Most of them have a wrong label:

share = wrong[display.memorized].mean()
print(f"wrong labels: {share:.0%} of the rows above the threshold, {wrong.mean():.0%} of all")
