"""
Which rows decide what a lasso selects?
=======================================

A lasso keeps some columns and drops the others. Without most rows the choice stays as it is, and
one Newton step on the kept columns is the exact refit. A few rows change the choice itself;
``method="exact"`` follows them and lists them.
"""

# %%
# The diabetes data: 442 patients, ten columns.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Lasso

from skinfluence import InfluenceExplainer

X, y = load_diabetes(return_X_y=True, as_frame=True)
model = Lasso(alpha=0.05, tol=1e-10, max_iter=100_000)
exact = InfluenceExplainer(model, method="exact").fit(X, y)
newton = InfluenceExplainer(model, method="newton").fit(X, y)
kept = X.columns[exact.estimator_.coef_ != 0]
changing = exact.effects_.active_set_changes(np.arange(len(y)))
print(f"kept: {', '.join(kept)}")
print(f"rows whose removal changes that: {np.asarray(changing).tolist()}")

# %%
# Where the choice stays, the two methods agree to rounding. The plot shows their largest difference
# in a coefficient, row by row.

by_exact, by_newton = exact.parameter_influence(), newton.parameter_influence()
difference = np.abs(by_exact - by_newton).max(axis=1)
changes = np.zeros(len(y), dtype=bool)
changes[changing] = True
print(f"largest difference where the choice stays: {difference[~changes].max():.1e}")
print(f"largest difference where it changes:       {difference[changes].max():.1e}")

fig, ax = plt.subplots(figsize=(6, 3.8))
ax.semilogy(np.flatnonzero(~changes), difference[~changes] + 1e-16, ".", label="same columns")
ax.semilogy(np.flatnonzero(changes), difference[changes], "o", label="other columns")
ax.set_xlabel("row removed")
ax.set_ylabel("largest difference of a coefficient")
ax.legend()
fig.tight_layout()
plt.show()
