"""Relative influence against its definition, by dense matrices."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.svm import SVC

from skinfluence import (
    InfluenceExplainer,
)
from skinfluence.solvers import Direct
from tests.cases.nets import fitted

X, Y = load_iris(return_X_y=True)
X = scale(X)


def test_norms_of_logistic_regression_are_those_of_dense_matrices():
    weight = np.random.default_rng(0).random(len(Y))
    weight[3] = 0.0
    explainer = InfluenceExplainer(LogisticRegression(), method="influence").fit(X, Y, weight)
    objective = explainer.objective_
    G = objective.removal_gradients().block(slice(None))
    moved = G @ np.linalg.pinv(objective.hessian())
    lengths = np.sqrt((moved * G).sum(axis=1))
    np.testing.assert_allclose(explainer.row_norms(), lengths, rtol=1e-9)
    np.testing.assert_allclose(
        explainer.row_norms([5, 2], norm="parameters"),
        np.linalg.norm(moved[[5, 2]], axis=1),
        rtol=1e-9,
    )
    plain = explainer.transform(X[:4], Y[:4])
    relative = explainer.relative_influence(X[:4], Y[:4])
    assert (relative[:, 3] == 0).all()
    kept = np.arange(len(Y)) != 3
    np.testing.assert_allclose(relative[:, kept], plain[:, kept] / lengths[kept], rtol=1e-9)


@pytest.mark.parametrize("method", ["newton", "exact"])
def test_ridge_moves_by_the_distance_to_the_refit(method):
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:60], y[:60]
    explainer = InfluenceExplainer(Ridge(0.1), method=method).fit(X, y)
    H = explainer.objective_.hessian()
    fit = Ridge(0.1).fit(X, y)
    for i in (0, 7):
        keep = np.arange(60) != i
        other = Ridge(0.1).fit(X[keep], y[keep])
        moved = np.append(other.coef_ - fit.coef_, other.intercept_ - fit.intercept_)
        lengths = explainer.row_norms([i]), explainer.row_norms([i], norm="parameters")
        expected = np.sqrt(moved @ H @ moved), np.linalg.norm(moved)
        np.testing.assert_allclose(np.ravel(lengths), expected, rtol=1e-8)


def test_loss_norm_does_not_see_the_scale_of_columns():
    """Without a penalty the model is the same in any units, and so is the norm."""
    X, y = load_diabetes(return_X_y=True)
    X, scales = X[:80], np.geomspace(0.1, 10, 10)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    plain, scaled = (
        InfluenceExplainer(model, method="influence").fit(part * 20, y[:80] > 140)
        for part in (X, X * scales)
    )
    np.testing.assert_allclose(plain.row_norms(), scaled.row_norms(), rtol=1e-6)


@pytest.mark.parametrize("norm", ["loss", "parameters"])
@pytest.mark.parametrize("by", ["magnitude", "helpful", "harmful"])
def test_top_relative_influences_are_those_of_the_full_array(norm, by):
    explainer = InfluenceExplainer(LogisticRegression(), batch_size=40).fit(X, Y)
    top = explainer.top_influences(X[::30], Y[::30], k=4, by=by, relative=norm)
    full = explainer.relative_influence(X[::30], Y[::30], norm=norm)
    scores = {"magnitude": np.abs(full), "helpful": full, "harmful": -full}[by]
    best = -np.sort(-scores, axis=1)[:, :4]
    np.testing.assert_allclose(np.take_along_axis(scores, top.indices, axis=1), best, rtol=1e-12)
    np.testing.assert_allclose(
        top.values, np.take_along_axis(full, top.indices, axis=1), rtol=1e-12
    )


def test_net_norms_count_damping():
    net, rows, y = fitted("dense")
    explainer = InfluenceExplainer(FrozenEstimator(net), solver=Direct(damping=0.5)).fit(rows, y)
    objective = explainer.objective_
    C = objective.gauss_newton_product(np.eye(objective.n_params))
    G = objective.removal_gradients().block(slice(None))
    inverse = np.linalg.inv(C + 0.5 * np.eye(len(C)))
    lengths = np.sqrt(np.einsum("ij,jk,ik->i", G, inverse, G))
    np.testing.assert_allclose(explainer.row_norms(), lengths, rtol=1e-8)


def test_refusals():
    explainer = InfluenceExplainer(LogisticRegression()).fit(X, Y)
    with pytest.raises(ValueError, match="norm='l2'"):
        explainer.relative_influence(X[:2], Y[:2], norm="l2")
    with pytest.raises(ValueError, match="uses none"):
        InfluenceExplainer(LogisticRegression(), method="tracin").fit(X, Y).row_norms()
    with pytest.raises(TypeError, match="needs a Hessian"):
        InfluenceExplainer(SVC(gamma="auto"), method="influence").fit(X, Y).row_norms()
    piped = InfluenceExplainer(make_pipeline(StandardScaler(), Ridge())).fit(X, Y)
    with pytest.raises(ValueError, match="earlier steps move"):
        piped.row_norms()
    assert (piped.row_norms(norm="parameters") > 0).all()
    net, rows, y = fitted("image")
    frozen = InfluenceExplainer(FrozenEstimator(net))
    lowest = np.linalg.eigvalsh(frozen.fit(rows, y).objective_.hessian())[0]
    solver = Direct(curvature="hessian", damping=-0.999 * lowest)
    explainer = frozen.set_params(solver=solver).fit(rows, y)
    with pytest.raises(ValueError, match="indefinite"):
        explainer.row_norms()
