"""SGD models: the stated objective at its optimum, against roots found by scipy."""

import warnings

import numpy as np
import pytest
from scipy.optimize import root
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import (
    PassiveAggressiveClassifier,
    PassiveAggressiveRegressor,
    Perceptron,
    SGDClassifier,
    SGDRegressor,
)

from skinfluence import InfluenceExplainer

rng = np.random.default_rng(0)
N, ALPHA = 80, 0.02
X = rng.standard_normal((N, 4))
VALUES = X @ [1.0, -1.0, 0.5, 0.0] + rng.standard_normal(N)
SIDE = (VALUES > 0.3).astype(int)
THREE = np.digitize(VALUES, [-0.7, 0.7])
WEIGHTS = rng.uniform(0.5, 2, N)
ROWS = np.column_stack([X, np.ones(N)])
EPSILON = 0.4
MARGINS = ("log_loss", "squared_hinge", "modified_huber")


def margin(slope):
    return lambda z, y: (2 * y - 1) * slope((2 * y - 1) * z)


def tube(r):
    return np.sign(r) * np.maximum(0, np.abs(r) - EPSILON)


SLOPES = {
    "log_loss": margin(lambda u: -expit(-u)),
    "squared_hinge": margin(lambda u: -2 * np.maximum(0, 1 - u)),
    "modified_huber": margin(lambda u: np.where(u < -1, -4, -2 * np.maximum(0, 1 - u))),
    "squared_error": lambda z, y: z - y,
    "huber": lambda z, y: np.clip(z - y, -EPSILON, EPSILON),
    "squared_epsilon_insensitive": lambda z, y: 2 * tube(z - y),
}


def optimum(loss, y, weights, n, start):
    """``Σ s ℓ' x + n α w = 0``."""
    keep = np.array([1.0, 1.0, 1.0, 1.0, 0.0])

    def gradient(theta):
        return ROWS.T @ (weights * SLOPES[loss](ROWS @ theta, y)) + n * ALPHA * keep * theta

    found = root(gradient, start, tol=1e-14)
    assert np.abs(found.fun).max() < 1e-9
    return found.x


def explained(loss, method, y, **options):
    kind = (
        SGDClassifier if loss in ("log_loss", "squared_hinge", "modified_huber") else SGDRegressor
    )
    model = kind(loss=loss, alpha=ALPHA, epsilon=EPSILON, random_state=0, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return InfluenceExplainer(model, method=method).fit(X, y, sample_weight=WEIGHTS)


@pytest.mark.parametrize("loss", SLOPES)
def test_derivative_and_exact(loss):
    y = SIDE if loss in MARGINS else VALUES
    first = explained(loss, "influence", y)
    exact = explained(loss, "exact", y)
    start = first.objective_.theta
    base = optimum(loss, y, WEIGHTS, N, start)
    np.testing.assert_allclose(start, base, atol=1e-9)
    rows, h = [3, 30, 61], 1e-5
    ours, jumps = first.parameter_influence(rows), exact.parameter_influence(rows)
    largest = np.abs(ours).max()
    for row, derivative, jump in zip(rows, ours, jumps, strict=True):
        sides = []
        for sign in (1, -1):  # the removal takes the row's weight, and one from the row count
            weights = WEIGHTS.copy()
            weights[row] *= 1 - sign * h
            sides.append(optimum(loss, y, weights, N - sign * h, start))
        desired = (sides[0] - sides[1]) / (2 * h)
        assert np.abs(derivative - desired).max() <= 1e-4 * largest  # a kink may lie within h
        weights = WEIGHTS.copy()
        weights[row] = 0.0
        desired = optimum(loss, y, weights, N - 1, start) - base
        assert np.abs(jump - desired).max() <= 1e-7 * np.abs(desired).max()


def test_one_class_against_the_rest():
    explainer = explained("log_loss", "exact", THREE, class_weight={0: 2.0, 1: 1.0, 2: 0.5})
    factors = [2.0, 1.0, 0.5]
    theta = explainer.objective_.theta.reshape(3, 5)
    for k, factor in enumerate(factors):  # the class's own weight; the rest keep theirs
        own = (THREE == k).astype(int)
        weights = WEIGHTS * np.where(own, factor, 1.0)
        base = optimum("log_loss", own, weights, N, theta[k])
        np.testing.assert_allclose(theta[k], base, atol=1e-9)
    change = explainer.parameter_influence([7])[0].reshape(3, 5)
    weights[7] = 0.0
    desired = optimum("log_loss", own, weights, N - 1, theta[2]) - theta[2]
    np.testing.assert_allclose(change[2], desired, atol=1e-8)


def test_balanced_counts_rows():
    explainer = explained("log_loss", "exact", SIDE, class_weight="balanced")

    def weights_without(row):
        keep = np.arange(N) != row
        counts = np.bincount(SIDE[keep], minlength=2)
        return np.where(keep, WEIGHTS * (keep.sum() / (2 * counts))[SIDE], 0.0)

    base = optimum("log_loss", SIDE, weights_without(-1), N, explainer.objective_.theta)
    np.testing.assert_allclose(explainer.objective_.theta, base, atol=1e-9)
    desired = optimum("log_loss", SIDE, weights_without(5), N - 1, base) - base
    np.testing.assert_allclose(explainer.parameter_influence([5])[0], desired, atol=1e-8)


@pytest.mark.parametrize("penalty", ["l1", "elasticnet"])
def test_l1_meets_its_optimality_conditions(penalty):
    explainer = explained("log_loss", "exact", SIDE, penalty=penalty, l1_ratio=0.3)
    ratio = 1.0 if penalty == "l1" else 0.3
    for row, change in zip([2, 50], explainer.parameter_influence([2, 50]), strict=True):
        theta = explainer.objective_.theta + change
        weights = np.where(np.arange(N) == row, 0.0, WEIGHTS)
        slope = ROWS.T @ (weights * SLOPES["log_loss"](ROWS @ theta, SIDE))
        slope[:4] += (N - 1) * ALPHA * (1 - ratio) * theta[:4]
        bound = (N - 1) * ALPHA * ratio
        assert abs(slope[4]) <= 1e-9
        at, zero = theta[:4] != 0, theta[:4] == 0
        np.testing.assert_allclose(slope[:4][at], -bound * np.sign(theta[:4][at]), atol=1e-9)
        assert (np.abs(slope[:4][zero]) <= bound + 1e-9).all()


@pytest.mark.parametrize("loss", ["hinge", "epsilon_insensitive"])
def test_kinked_losses_meet_their_optimality_conditions(loss):
    kind, y = (SGDClassifier, SIDE) if loss == "hinge" else (SGDRegressor, VALUES)
    model = kind(loss=loss, alpha=0.3, random_state=0, epsilon=EPSILON)
    with pytest.warns(ConvergenceWarning, match="not at its optimum"):
        explainer = InfluenceExplainer(model, method="exact").fit(X, y)
    kinks = np.array([2 * SIDE - 1.0]) if loss == "hinge" else np.stack([y - EPSILON, y + EPSILON])
    for row in (4, 40):
        theta = explainer.objective_.theta + explainer.parameter_influence([row])[0]
        keep = np.arange(N) != row
        gap = ROWS @ theta - kinks
        at = (np.abs(gap) < 1e-9).any(axis=0) & keep
        if loss == "hinge":
            slopes = np.where((2 * SIDE - 1) * (ROWS @ theta) < 1, 1.0 - 2 * SIDE, 0.0)
        else:
            slopes = np.where(gap[0] < 0, -1.0, np.where(gap[1] > 0, 1.0, 0.0))
        others = keep & ~at
        rest = -ROWS[others].T @ slopes[others] - (N - 1) * 0.3 * np.append(theta[:4], 0.0)
        duals = np.linalg.lstsq(ROWS[at].T, rest)[0]
        assert np.abs(ROWS[at].T @ duals - rest).max() <= 1e-8
        assert (np.abs(duals) <= 1 + 1e-8).all()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (SGDClassifier(loss="perceptron"), "perceptron"),
        (SGDClassifier(early_stopping=True), "early_stopping=True"),
        (SGDClassifier(penalty="l1"), "linear program"),
        (SGDRegressor(loss="epsilon_insensitive", penalty=None), "linear program"),
        (Perceptron(), "minimises no objective"),
    ],
    ids=str,
)
def test_refused_by_name(model, words):
    y = VALUES if isinstance(model, SGDRegressor) else SIDE
    with pytest.raises(ValueError, match=words):
        InfluenceExplainer(model).fit(X, y)


@pytest.mark.parametrize("kind", [PassiveAggressiveClassifier, PassiveAggressiveRegressor])
@pytest.mark.filterwarnings("ignore:.*PassiveAggressive.*:FutureWarning")
def test_passive_aggressive_is_refused(kind):
    with pytest.raises(ValueError, match="minimises no objective"):
        InfluenceExplainer(kind()).fit(X, SIDE)
