"""The picture of the start page: ``python doc/start_picture.py`` draws it again.

A logistic regression reads handwritten digits. For one that it gets wrong: the training rows
behind the mistake, and the influence of every training row against a refit without it.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from skinfluence import InfluenceExplainer

N_TRAIN = 300
digits, labels = load_digits(return_X_y=True)
rows = np.random.default_rng(0).permutation(len(digits))
train, test = rows[:N_TRAIN], rows[N_TRAIN:]
X, y = digits[train] / 16, labels[train]
X_test, y_test = digits[test] / 16, labels[test]


def loss(model, query):
    """Of the query's true label, in nats."""
    return -model.predict_log_proba(X_test[[query]])[0, y_test[query]]


def picture():
    """The figure."""
    explainer = InfluenceExplainer(LogisticRegression(), method="exact").fit(X, y)
    predicted = explainer.estimator_.predict(X_test)
    proba = explainer.estimator_.predict_proba(X_test)[np.arange(len(test)), y_test]
    query = int(np.argmin(np.where(predicted != y_test, proba, 1)))
    influence = explainer.transform(X_test[[query]], y_test[[query]])[0]
    model = LogisticRegression(tol=1e-8, max_iter=2000)
    without = [loss(model.fit(np.delete(X, i, 0), np.delete(y, i)), query) for i in range(N_TRAIN)]
    refitted = np.array(without) - loss(model.fit(X, y), query)

    fig = plt.figure(figsize=(10, 3.6), layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=[1.55, 1])
    order = np.argsort(influence)
    axes = left.subplots(2, 4, gridspec_kw={"width_ratios": [1.5, 1, 1, 1]})
    for line, (found, color) in enumerate(((order[:3], "C3"), (order[:-4:-1], "C0"))):
        for ax, i in zip(axes[line, 1:], found, strict=True):
            show(ax, X[i], f"{y[i]}: {influence[i]:+.2f}", color)
    for ax in axes[:, 0]:
        ax.remove()
    show(left.add_subplot(axes[0, 0].get_gridspec()[:, 0]), X_test[query], "", "k")
    left.axes[-1].set_title(f"{y_test[query]}, read as {predicted[query]}", fontsize=13)
    axes[0, 2].set_title(
        "training rows that make it worse\n" + axes[0, 2].get_title(), fontsize=11, color="C3"
    )
    axes[1, 2].set_title(
        "training rows that help\n" + axes[1, 2].get_title(), fontsize=11, color="C0"
    )
    ax = right.subplots()
    ax.axline((0, 0), slope=1, color="0.75", lw=1)
    ax.scatter(refitted, influence, s=14, c=np.where(influence < 0, "C3", "C0"), alpha=0.7)
    ax.set_xlabel(f"loss without the row minus with it, {N_TRAIN} refits")
    ax.set_ylabel("influence of the row, one fit")
    return fig


def show(ax, image, title, color):
    ax.imshow(image.reshape(8, 8), cmap="gray_r")
    ax.set_title(title, fontsize=11, color=color)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set(color=color, linewidth=1.5)


if __name__ == "__main__":
    folder = Path(__file__).parent / "_static"
    folder.mkdir(exist_ok=True)
    picture().savefig(folder / "start.png", dpi=110)
