"""
From a fine-tuned net back to its pretraining
=============================================

A net is pretrained on the digits 0 to 4 and fine-tuned on few of the digits 5 to 9: the hidden
layer is kept, only the head is new. It errs, and some of the blame lies with rows it was never
fine-tuned on. Here a tenth of the pretraining labels is wrong, and the fine-tuned net's errors lead
to some of them.
"""

# %%
# Two stages
# ----------
# :class:`~skinfluence.fine_tuning.FineTunedMixin` makes a skorch net start from another one.

import os

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import average_precision_score
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import MultiStageInfluence
from skinfluence.evaluation import prediction_loss
from skinfluence.fine_tuning import FineTunedMixin

FAST = os.environ.get("SKINFLUENCE_FAST") == "1"

X, y = load_digits(return_X_y=True)
X, rng = (X / 16).astype("f4"), np.random.default_rng(0)
low, high = (rng.permutation(np.flatnonzero(part)) for part in (y < 5, y >= 5))
low, fine, errors, test = low[:400], high[:100], high[100:400], high[400:]

flipped = rng.random(len(low)) < 0.1
noisy = np.where(flipped, (y[low] + rng.integers(1, 5, len(low))) % 5, y[low])


class Net(nn.Module):
    """A hidden layer to share, and a head."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(64, 16), nn.Linear(16, 5)

    def forward(self, x):
        return self.head(torch.tanh(self.encoder(x)))


class FineTuned(FineTunedMixin, NeuralNetClassifier):
    """A classifier that starts from another."""


options = {
    "criterion": nn.CrossEntropyLoss,
    "optimizer": torch.optim.Adam,
    "optimizer__weight_decay": 1e-3,
    "lr": 0.02,
    "max_epochs": 50 if FAST else 150,
    "batch_size": -1,
    "train_split": None,
    "verbose": 0,
}
torch.manual_seed(0)
explainer = MultiStageInfluence(
    NeuralNetClassifier(Net, **options), FineTuned(Net, **options), shared="encoder"
)
explainer.fit(X[low], noisy, X[fine], y[fine] - 5)
print(f"accuracy of the fine-tuned net {explainer.finetuned_.score(X[test], y[test] - 5):.2f}")

# %%
# Which pretraining rows are to blame?
# ------------------------------------
# One pass back through both stages gives the influence of all pretraining rows on the mean loss
# on some digits of the second task. A negative value means that the loss would be lower had the
# row not been there.

values = explainer.dataset_influence(X[errors], y[errors] - 5)
worst = np.argsort(values)
figure, axes = plt.subplots(2, 8, figsize=(9, 3.2))
for ax, row in zip(axes.ravel(), worst, strict=False):
    ax.imshow(X[low[row]].reshape(8, 8), cmap="gray_r")
    ax.set_title(f"labelled {noisy[row]}", fontsize=8, color="C3" if flipped[row] else "C0")
    ax.set_axis_off()
figure.suptitle("pretraining rows that harm the fine-tuned net most (red: the label is wrong)")
figure.tight_layout()

# %%
# Wrong labels are many among them. Others stand at the far end of the ranking: they happen to help
# the second task. With the pretraining task at hand, its own loss finds wrong labels more easily;
# but it does not say which rows matter to the second task.

scores = {
    "both stages": -values,
    "pretraining loss": prediction_loss(explainer.pretrained_, X[low], noisy),
}
figure, ax = plt.subplots()
for name, score in scores.items():
    found = flipped[np.argsort(-score)].cumsum() / flipped.sum()
    precision = average_precision_score(flipped, score)
    label = f"{name} (average precision {precision:.2f})"
    ax.plot(np.arange(1, len(low) + 1) / len(low), found, label=label)
ax.plot([0, 1], [0, 1], color="0.7", label="at random")
ax.set_xlabel("share of the pretraining rows looked at")
ax.set_ylabel("share of the wrong labels found")
ax.legend()

# %%
# Does it hold?
# -------------
# Leave rows out, pretrain and fine-tune again, and look at digits that nothing has seen so far.


def loss_without(rows):
    """Loss on the test digits after both stages without some of the pretraining rows."""
    keep = np.setdiff1d(np.arange(len(low)), rows)
    out = []
    for seed in range(1 if FAST else 2):
        torch.manual_seed(seed)
        pretrained = NeuralNetClassifier(Net, **options).fit(X[low[keep]], noisy[keep])
        net = FineTuned(Net, pretrained=FrozenEstimator(pretrained), shared="encoder", **options)
        net.fit(X[fine], y[fine] - 5)
        out.append(prediction_loss(net, X[test], y[test] - 5).mean())
    return np.mean(out)


n_out = 40
print(f"with all rows                      {loss_without([]):.3f}")
print(f"without the {n_out} most harmful rows   {loss_without(worst[:n_out]):.3f}")
print(f"without {n_out} rows at random          {loss_without(rng.permutation(400)[:n_out]):.3f}")
