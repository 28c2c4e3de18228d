"""Linear models whose prior is another fit: the fit itself, and influence through both."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import HuberRegressor, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import InfluenceExplainer, MultiStageInfluence
from skinfluence.fine_tuning import PriorLogisticRegression, PriorRidge
from skinfluence.targets import Decision

rng = np.random.default_rng(0)
X, X_FINE, X_QUERY = (rng.normal(size=(n, 4)) for n in (60, 25, 6))


def labels(X, K):
    scores = X @ np.random.default_rng(1).normal(size=(4, K)) + rng.gumbel(size=(len(X), K))
    return np.array(["a", "b", "c"])[scores.argmax(axis=1)]


def values(X, outputs=1):
    out = X @ np.arange(4.0) + rng.normal(size=len(X))
    return out if outputs == 1 else np.column_stack([out, np.sin(out)])


def logistic(**options):
    return LogisticRegression(solver="newton-cholesky", tol=1e-13, **options)


def liblinear():
    return LogisticRegression(
        solver="liblinear", tol=1e-13, max_iter=100_000, intercept_scaling=3.0, random_state=0
    )


CASES = {
    "binary": (logistic(C=0.5), PriorLogisticRegression(), 2),
    "multinomial": (logistic(), PriorLogisticRegression(alpha=3.0), 3),
    "balanced": (logistic(class_weight="balanced"), PriorLogisticRegression(), 3),
    "no intercept": (logistic(fit_intercept=False), PriorLogisticRegression(), 2),
    "intercept scaling": (liblinear(), PriorLogisticRegression(alpha=0.7), 2),
    "ridge": (Ridge(0.3), PriorRidge(alpha=2.0), None),
    "ridge of two targets": (Ridge(0.3), PriorRidge(), None),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    first, second, K = CASES[request.param]
    targets = 1 + request.param.endswith("two targets")
    ys = [labels(part, K) if K else values(part, targets) for part in (X, X_FINE, X_QUERY)]
    return first, second, ys


def outputs(model, X):
    read = model.predict if not hasattr(model, "classes_") else model.decision_function
    return read(X).reshape(len(X), -1)


def explained(ys):
    """The decision value: of the last of several targets."""
    return "decision" if ys[0].ndim == 1 else Decision(output=1)


def index(model, ys):
    """Which column of ``outputs`` that is."""
    if np.ndim(model.intercept_) and len(model.intercept_) > 2:
        return np.searchsorted(model.classes_, ys[2])
    return np.full(len(ys[2]), ys[0].ndim - 1)


# -- the fit -------------------------------------------------------------------------------------
def test_the_fit_minimises(case):
    """The stated function, written out and minimised by scipy."""
    first, second, ys = case
    weights = np.random.default_rng(2).uniform(0.5, 2, len(X_FINE))
    pretrained = clone(first).fit(X, ys[0])
    model = clone(second).set_params(pretrained=pretrained).fit(X_FINE, ys[1], weights)
    column = np.full((len(X_FINE), 1), float(pretrained.fit_intercept))
    A = np.hstack([X_FINE, column])

    def stack(m):
        coef = np.atleast_2d(m.coef_)
        return np.column_stack([coef, np.broadcast_to(m.intercept_, len(coef))])

    center = stack(pretrained)

    def loss(theta):
        theta = theta.reshape(center.shape)
        Z, near = A @ theta.T, model.alpha * ((theta - center) ** 2).sum()
        if not hasattr(model, "classes_"):
            return weights @ ((Z - ys[1].reshape(Z.shape)) ** 2).sum(axis=1) + near
        Z = np.hstack([np.zeros_like(Z), Z]) if Z.shape[1] == 1 else Z
        own = Z[np.arange(len(Z)), np.searchsorted(model.classes_, ys[1])]
        return weights @ (np.log(np.exp(Z).sum(axis=1)) - own) + near / 2

    best = minimize(loss, center.ravel(), method="BFGS", options={"gtol": 1e-7})
    assert loss(stack(model).ravel()) <= best.fun + 1e-10
    # gradients by differences: 1e-8 in the gradient is as much in the parameters
    np.testing.assert_allclose(stack(model).ravel(), best.x, atol=1e-5)


def test_no_rows_to_speak_of_and_no_prior_to_speak_of():
    """A strong prior is the pretrained model; around zero it is scikit-learn's own penalty."""
    y, y_fine = labels(X, 2), labels(X_FINE, 2)
    pretrained = logistic().fit(X, y)
    held = PriorLogisticRegression(pretrained, alpha=1e9).fit(X_FINE, y_fine)
    np.testing.assert_allclose(held.coef_, pretrained.coef_, atol=1e-7)
    zero = logistic(fit_intercept=False).fit(X, y)
    zero.coef_ = 0 * zero.coef_
    own = PriorLogisticRegression(zero, alpha=4.0).fit(X_FINE, y_fine)
    theirs = logistic(C=0.25, fit_intercept=False).fit(X_FINE, y_fine)
    np.testing.assert_allclose(own.coef_, theirs.coef_, rtol=1e-8)
    np.testing.assert_allclose(own.predict_proba(X), theirs.predict_proba(X), rtol=1e-8)
    np.testing.assert_array_equal(own.predict(X), theirs.predict(X))


# -- influence of the fine-tuning rows -------------------------------------------------------------
@pytest.mark.parametrize("method", ["influence", "newton", "exact", "refit"])
def test_single_stage(case, method):
    """Exact removal is the refit; the first order is a finite difference of weights."""
    first, second, ys = case
    pretrained = FrozenEstimator(clone(first).fit(X, ys[0]))
    model = clone(second).set_params(pretrained=pretrained)
    explainer = InfluenceExplainer(model, method=method, target=explained(ys))
    got = explainer.fit(X_FINE, ys[1]).transform(X_QUERY, ys[2])
    fitted = outputs(explainer.estimator_, X_QUERY)
    picked = index(explainer.estimator_, ys)
    for row in (0, 11):
        if method == "influence":
            ends = []
            for h in (1e-4, -1e-4):
                weights = np.ones(len(X_FINE))
                weights[row] += h
                ends.append(outputs(clone(model).fit(X_FINE, ys[1], weights), X_QUERY))
            change, tolerance = (ends[1] - ends[0]) / 2e-4, 1e-6
        else:
            keep = np.arange(len(X_FINE)) != row
            change = outputs(clone(model).fit(X_FINE[keep], ys[1][keep]), X_QUERY) - fitted
            tolerance = {"newton": 0.2, "exact": 1e-8, "refit": 1e-8}[method]
        expected = change[np.arange(len(X_QUERY)), picked]
        assert np.abs(got[:, row] - expected).max() <= tolerance * np.abs(expected).max()


# -- through both stages -------------------------------------------------------------------------
def test_both_stages(case):
    """Finite differences of weighted refits of both, 1e-5."""
    first, second, ys = case
    explainer = MultiStageInfluence(first, second, shared="*", coupling="updated")
    explainer.set_params(target=explained(ys))
    got = explainer.fit(X, ys[0], X_FINE, ys[1]).transform(X_QUERY, ys[2])
    picked = index(explainer.finetuned_, ys)
    for row in (2, 31):
        ends = []
        for h in (1e-4, -1e-4):
            weights = np.ones(len(X))
            weights[row] += h
            pretrained = clone(first).fit(X, ys[0], sample_weight=weights)
            model = clone(second).set_params(pretrained=pretrained).fit(X_FINE, ys[1])
            ends.append(outputs(model, X_QUERY))
        change = (ends[1] - ends[0])[np.arange(len(X_QUERY)), picked] / 2e-4
        assert np.abs(got[:, row] - change).max() <= 1e-5 * np.abs(change).max()


def test_weights_of_both_stages():
    """Those of a row are in its influence: weight two is two copies, jointly."""
    y, y_fine, y_query = (values(part) for part in (X, X_FINE, X_QUERY))
    twice, once = np.ones(len(X)), np.ones(len(X_FINE))
    twice[3], once[5] = 2.0, 3.0
    explainer = MultiStageInfluence(Ridge(), PriorRidge(), shared="*", coupling="updated")
    weighted = clone(explainer).fit(
        X, y, X_FINE, y_fine, sample_weight=twice, sample_weight_fine=once
    )
    fine = [*range(len(X_FINE)), 5, 5]
    copied = clone(explainer).fit(
        np.vstack([X, X[[3]]]), np.r_[y, y[3]], X_FINE[fine], y_fine[fine]
    )
    both = [weighted.transform(X_QUERY, y_query), copied.transform(X_QUERY, y_query)]
    np.testing.assert_allclose(both[0][:, 3], both[1][:, [3, -1]].sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(both[0][:, 7], both[1][:, 7], rtol=1e-9)


def test_iterative_solver_and_frozen_models():
    y, y_fine, y_query = (labels(part, 2) for part in (X, X_FINE, X_QUERY))
    options = {"shared": "*", "coupling": "updated"}
    direct = MultiStageInfluence(logistic(), PriorLogisticRegression(), alpha=5.0, **options)
    expected = direct.fit(X, y, X_FINE, y_fine).transform(X_QUERY, y_query)
    assert direct.finetuned_.alpha == 5.0
    frozen = FrozenEstimator(direct.pretrained_), FrozenEstimator(direct.finetuned_)
    for solver in ("direct", "cg"):
        again = MultiStageInfluence(*frozen, solver=solver, **options)
        got = again.fit(X, y, X_FINE, y_fine).transform(X_QUERY, y_query)
        # cg stops at a relative residual of 0.05
        tolerance = 1e-9 if solver == "direct" else 0.1
        assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()


# -- refusals ------------------------------------------------------------------------------------
def test_what_does_not_fit_is_refused():
    y, y_fine = labels(X, 2), labels(X_FINE, 2)
    first, second = logistic(), PriorLogisticRegression()

    def fit(first=first, second=second, y=y, y_fine=y_fine, **options):
        options = {"shared": "*", "coupling": "updated"} | options
        return MultiStageInfluence(first, second, **options).fit(X, y, X_FINE, y_fine)

    with pytest.raises(ValueError, match="leave nothing to fine-tune"):
        fit(coupling="fixed")
    with pytest.raises(ValueError, match="pass shared='\\*'"):
        fit(shared="coef_")
    with pytest.raises(ValueError, match="pipeline"):
        fit(make_pipeline(StandardScaler(), first))
    with pytest.raises(ValueError, match="use PriorRidge"):
        fit(Ridge(), y=values(X))
    with pytest.raises(ValueError, match="use PriorLogisticRegression"):
        fit(second=PriorRidge(), y_fine=values(X_FINE))
    with pytest.raises(TypeError, match="other parameters than coef_ and intercept_"):
        fit(HuberRegressor(), PriorRidge(), values(X), values(X_FINE))
    with pytest.raises(ValueError, match="never seen"):
        fit(y_fine=np.where(y_fine == "a", "z", y_fine))
    other = FrozenEstimator(logistic(C=0.1).fit(X, y))
    tuned = FrozenEstimator(PriorLogisticRegression(other).fit(X_FINE, y_fine))
    with pytest.raises(ValueError, match="coef_ of the prior of the fine-tuned model is not"):
        fit(second=tuned)
    with pytest.raises(ValueError, match="alpha=2.0 but the fine-tuned model has alpha=1.0"):
        fit(other, tuned, alpha=2.0)
    with pytest.raises(ValueError, match="is not fitted"):
        PriorLogisticRegression(logistic()).fit(X_FINE, y_fine)
    with pytest.raises(ValueError, match="X has 2 features"):
        PriorLogisticRegression(other).fit(X_FINE[:, :2], y_fine)
    with pytest.raises(ValueError, match="y has 2 targets"):
        PriorRidge(Ridge().fit(X, values(X))).fit(X_FINE, values(X_FINE, 2))
