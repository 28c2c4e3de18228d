"""
Which training rows drive a misprediction
=========================================

A small net reads handwritten digits and gets a few of them wrong. Influence names the training
rows behind each mistake: those that pull the prediction to the wrong class, and those that speak
for the right one.
"""

# %%
# A net on digits
# ---------------
# It is trained on all rows at once, with weight decay, until the loss hardly changes.

import os

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import InfluenceExplainer

FAST = os.environ.get("SKINFLUENCE_FAST") == "1"

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X, X_test, y, y_test = train_test_split(
    X, y, train_size=300 if FAST else 1000, stratify=y, random_state=0
)

torch.manual_seed(0)
net = NeuralNetClassifier(
    nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10)),
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    optimizer__weight_decay=1e-3,
    lr=0.02,
    max_epochs=100 if FAST else 400,
    batch_size=-1,
    train_split=None,
    verbose=0,
).fit(X, y)

predicted = net.predict(X_test)
wrong = np.flatnonzero(predicted != y_test)
print(f"{len(wrong)} of {len(y_test)} test digits are read wrongly")

# %%
# The rows behind each mistake
# ----------------------------
# The target is the loss of the *true* class. A negative influence says that the loss would be
# lower without the row: it pushed the net to its mistake. A positive one says that the row helps.

shown = wrong[:4]
explainer = InfluenceExplainer(FrozenEstimator(net), target="loss").fit(X, y)
harmful = explainer.top_influences(X_test[shown], y_test[shown], k=3, by="harmful")
helpful = explainer.top_influences(X_test[shown], y_test[shown], k=3, by="helpful")

figure, axes = plt.subplots(len(shown), 7, figsize=(9, 1.5 * len(shown)), squeeze=False)


def draw(ax, image, title):
    ax.imshow(image.reshape(8, 8), cmap="gray_r")
    ax.set_title(title, fontsize=8)
    ax.set_axis_off()


for line, query in enumerate(shown):
    title = f"{y_test[query]}, read as {predicted[query]}"
    draw(axes[line, 0], X_test[query], title)
    for start, top in ((1, harmful), (4, helpful)):
        for j in range(3):
            row, value = top["indices"][line, j], top["values"][line, j]
            draw(axes[line, start + j], X[row], f"{y[row]} ({value:+.2g})")
figure.suptitle("mistake | three most harmful rows | three most helpful rows")
figure.tight_layout()

# %%
# Does it hold?
# -------------
# The answer is about the net without those rows. Train it on without the rows that are most
# harmful to the first mistake, from where it is, and look at the loss.

from sklearn.metrics import log_loss

from skinfluence.evaluation import leave_out_score

query = shown[:1]
top = explainer.top_influences(X_test[query], y_test[query], k=20, by="harmful")
groups = [top["indices"][0], np.arange(20)]
result = leave_out_score(
    explainer, groups, X, y, X_test[query], y_test[query], warm_start=True, random_state=0
)
before = log_loss(y_test[query], net.predict_proba(X_test[query]), labels=range(10))
print(f"loss before: {before:.2f}")
for name, estimate, change in zip(
    ("20 harmful rows", "20 other rows  "), result.predicted[0], result.actual[0], strict=True
):
    print(f"without {name}: predicted {estimate:+.3f}, after training on {change:+.3f}")
