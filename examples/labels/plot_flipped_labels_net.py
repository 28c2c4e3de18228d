"""
Finding flipped labels with a net
=================================

A mislabelled row is one that the model can only fit by bending: leaving it out raises its own
loss a lot. That rise is its *self-influence*. Here a tenth of the labels of the digits is flipped,
and a net trained on them ranks its rows.
"""

# %%
# Flip labels, train
# ------------------

import os

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import InfluenceExplainer
from skinfluence.evaluation import flipped_label_score, prediction_loss

FAST = os.environ.get("SKINFLUENCE_FAST") == "1"

X, y = load_digits(return_X_y=True)
keep = 300 if FAST else 1200
X, y = (X[:keep] / 16).astype(np.float32), y[:keep]

rng = np.random.default_rng(0)
flipped = np.zeros(keep, dtype=bool)
flipped[rng.choice(keep, keep // 10, replace=False)] = True
noisy = np.where(flipped, (y + rng.integers(1, 10, keep)) % 10, y)


class Digits(nn.Module):
    """One hidden layer."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))

    def forward(self, x):
        return self.layers(x)


torch.manual_seed(0)
net = NeuralNetClassifier(
    Digits,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    optimizer__weight_decay=1e-3,
    lr=0.02,
    max_epochs=80 if FAST else 300,
    batch_size=-1,
    train_split=None,
    verbose=0,
)

# %%
# Rank the rows
# -------------
# EKFAC is the fast solver for nets: one pass over the rows for all of them.

explainer = InfluenceExplainer(net, method="influence", solver="ekfac").fit(X, noisy)
scores = {
    "self-influence": explainer.self_influence(),
    "training loss": prediction_loss(explainer.estimator_, X, noisy),
}
order = np.argsort(-scores["self-influence"])
figure, axes = plt.subplots(2, 8, figsize=(9, 3.2))
for ax, row in zip(axes.ravel(), order, strict=False):
    ax.imshow(X[row].reshape(8, 8), cmap="gray_r")
    ax.set_title(f"labelled {noisy[row]}", fontsize=8, color="C3" if flipped[row] else "C0")
    ax.set_axis_off()
figure.suptitle("highest self-influence (red: the label was flipped)")
figure.tight_layout()

# %%
# How many of the flipped labels are found when a share of the rows is looked at? The plain
# training loss is the baseline that any score has to beat.

figure, ax = plt.subplots()
for name, values in scores.items():
    found = flipped[np.argsort(-values)].cumsum() / flipped.sum()
    precision = average_precision_score(flipped, values)
    ax.plot(
        np.arange(1, keep + 1) / keep, found, label=f"{name} (average precision {precision:.2f})"
    )
ax.plot([0, flipped.mean(), 1], [0, 1, 1], color="0.7", label="best possible")
ax.set_xlabel("share of the rows looked at")
ax.set_ylabel("share of the flipped labels found")
ax.legend()

# %%
# Over several draws
# ------------------
# One draw of flipped labels proves little. ``flipped_label_score`` repeats the experiment and
# gives an interval, also of the gain over the loss: on this net self-influence gains a little, on
# others the loss may do as well.

result = flipped_label_score(explainer, X, y, n_repeats=2 if FAST else 5, random_state=0)
low, high = result.interval
print(f"average precision of self-influence {result.average_precision:.3f}")
print(f"its 95 % interval                   {low:.3f} to {high:.3f}")
print(f"average precision of the loss       {result.loss_average_precision:.3f}")
low, high = result.difference_interval
print(f"95 % interval of the gain           {low:.3f} to {high:.3f}")
