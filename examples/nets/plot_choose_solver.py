"""
Choosing a solver for a net
===========================

The influence of a training row needs the inverse curvature of the net's objective. The exact
inverse is out of reach for all but small nets; the solvers trade accuracy for time. On a net that
is small enough, the exact answer shows what each of them costs.
"""

# %%
# A net on digits
# ---------------

import os
import tempfile
import warnings
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import InfluenceExplainer
from skinfluence.evaluation import linear_datamodeling_score
from skinfluence.solvers import Arnoldi, ConjugateGradient, DataInf, LiSSA

FAST = os.environ.get("SKINFLUENCE_FAST") == "1"

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X, X_test, y, y_test = train_test_split(
    X, y, train_size=200 if FAST else 800, test_size=60, stratify=y, random_state=0
)


class Digits(nn.Module):
    """One hidden layer."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))

    def forward(self, x):
        return self.layers(x)


torch.manual_seed(0)
net = NeuralNetClassifier(
    Digits,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    optimizer__weight_decay=1e-3,
    lr=0.02,
    max_epochs=100 if FAST else 300,
    batch_size=-1,
    train_split=None,
    verbose=0,
).fit(X, y)

# %%
# Time and agreement with the exact answer
# ----------------------------------------
# ``"direct"`` factorises the damped Gauss-Newton matrix. The others are compared with it by the
# rank correlation of the training rows' influences, query by query. Each solver reports the
# residual of its solves: LiSSA is stopped long before it has converged, and warns of it.

solvers = {
    "direct": "direct",
    "cg": ConjugateGradient(),
    "ekfac": "ekfac",
    "kfac": "kfac",
    "lissa": LiSSA(tol=1e-2, max_iter=20 if FAST else 200),
    "arnoldi": Arnoldi(rank=50, n_iter=100),
    "datainf": DataInf(),
    "identity": "identity",
}
influences, seconds, residuals = {}, {}, {}
for name, solver in solvers.items():
    start = perf_counter()
    explainer = InfluenceExplainer(FrozenEstimator(net), method="influence", solver=solver)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        influences[name] = explainer.fit(X, y).transform(X_test, y_test)
    seconds[name] = perf_counter() - start
    if "residual" in explainer.solver_.report_:
        residuals[name] = explainer.solver_.report_["residual"]


def agreement(values):
    """Mean rank correlation with the exact influences."""
    pairs = zip(values, influences["direct"], strict=True)
    return np.mean([spearmanr(a, b).statistic for a, b in pairs])


correlation = {name: agreement(values) for name, values in influences.items()}
for name in solvers:
    residual = f"residual {residuals[name]:.1e}" if name in residuals else ""
    print(f"{name:10s} {seconds[name]:6.2f} s   correlation {correlation[name]:.3f}   {residual}")

figure, ax = plt.subplots()
for name in solvers:
    ax.scatter(seconds[name], correlation[name])
    left = name in ("cg", "kfac", "lissa", "identity")
    place = {"xytext": (-5, 5), "ha": "right"} if left else {"xytext": (5, 5)}
    ax.annotate(name, (seconds[name], correlation[name]), textcoords="offset points", **place)
ax.set_xscale("log")
ax.margins(0.15)
ax.set_xlabel("seconds")
ax.set_ylabel("rank correlation with the exact influence")

# %%
# Agreement with retrained nets
# -----------------------------
# The exact inverse is not the truth either: that is a net trained without the rows. The linear
# datamodeling score trains the net on random halves of the rows and compares the losses with what
# the influences predict. Few subsets are trained here, so the intervals are wide. With ``cache``
# the trained nets' losses are kept on disk: the second score needs no training.


class Known:
    """Influences that were computed already."""

    estimator = net

    def __init__(self, values):
        self.values = values

    def transform(self, X, y):
        return self.values


cache = tempfile.TemporaryDirectory()
options = {"n_subsets": 4 if FAST else 16, "random_state": 0, "cache": cache.name}
scores = {}
for name in ("cg", "ekfac", "identity"):
    known = Known(influences[name])
    scores[name] = linear_datamodeling_score(known, X, y, X_test, y_test, **options)
    low, high = scores[name].interval
    print(f"{name:10s} datamodeling score {scores[name].score:.2f} ({low:.2f} to {high:.2f})")

# %%
# In short: leave ``solver="auto"``, which takes the direct solver for small nets, conjugate
# gradients with an EKFAC preconditioner beyond, and EKFAC alone for very large ones; take
# ``"ekfac"`` where seconds count; and use the dot product of gradients (``"identity"``) for a first
# ranking only.
