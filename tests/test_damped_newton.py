"""Newton steps and optima without rows under damped solvers, against dense matrices."""

import numpy as np
import pytest
from sklearn.linear_model import (
    HuberRegressor,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
)

from skinfluence import InfluenceExplainer
from skinfluence.objectives import objective_for
from skinfluence.objectives.huber import HuberObjective
from skinfluence.solvers import ConjugateGradient, Direct

MODELS = {
    "ridge": (Ridge(alpha=0.5), None),
    "balanced": (LogisticRegression(class_weight="balanced", tol=1e-10), None),
    "mean form": (PoissonRegressor(alpha=0.1, tol=1e-8, max_iter=1000), None),
    "several classes": (RidgeClassifier(class_weight="balanced"), 3),
    "huber": (HuberRegressor(alpha=0.1), None),
}


def _damped_problem(name):
    estimator, n_classes = MODELS[name]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    score = X[:, 0] + 0.5 * rng.normal(size=40)
    if n_classes:
        return estimator, X, np.digitize(score, np.quantile(score, [0.3, 0.7]))
    if isinstance(estimator, LogisticRegression):
        return estimator, X, (score > 0.3).astype(int)
    return estimator, X, np.abs(score)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("solver", [Direct(damping=5.0), ConjugateGradient(damping=5.0, tol=1e-12)])
def test_newton_steps_of_rows_and_groups_are_damped_alike(name, solver):
    """A row alone is a group of one, and a group is what the damped dense system says."""
    estimator, X, y = _damped_problem(name)
    explainer = InfluenceExplainer(estimator, method="newton", solver=solver).fit(X, y)
    effects, objective = explainer.effects_, explainer.objective_
    scale = np.abs(effects.parameters(np.arange(len(y)))).max()
    alone = effects.joint_parameters([np.array([i]) for i in range(len(y))])
    np.testing.assert_allclose(alone, effects.parameters(np.arange(len(y))), atol=1e-8 * scale)
    # the gradient is the same with and without damping; the matrix has 5 more on its diagonal
    plain = InfluenceExplainer(estimator, method="newton").fit(X, y)
    for group in (np.array([4]), np.arange(15)):
        moved, damped = (e.effects_.joint_parameters([group])[0] for e in (plain, explainer))
        left = _hessian_without(objective, group)
        np.testing.assert_allclose(left @ moved, left @ damped + 5 * damped, atol=1e-6 * scale)


def _hessian_without(objective, group):
    if isinstance(objective, HuberObjective):
        weights = objective.weights.copy()
        weights[group] = 0.0
        return objective.quadratic(objective.theta, weights).matrix()
    phi, rho = objective.rule.joint_factors(group)
    weights = objective.weights * phi[objective.rule.groups]
    weights[group] = 0.0
    block = objective.quadratic(objective.theta, weights, rho)
    return np.kron(np.eye(block.repeats), block.matrix())


@pytest.mark.parametrize("name", MODELS)
def test_the_optimum_without_a_row_knows_no_damping(name):
    """method="exact" with a damped solver is what it is without, its proofs included."""
    estimator, X, y = _damped_problem(name)
    group = [np.arange(6)]
    plain, damped = (
        InfluenceExplainer(estimator, method="exact", solver=Direct(damping=damping)).fit(X, y)
        for damping in ("auto", 5.0)
    )
    expected = plain.parameter_influence()
    atol = 1e-8 * np.abs(expected).max()
    np.testing.assert_allclose(damped.parameter_influence(), expected, atol=atol)
    joint = (e.effects_.joint_parameters(group) for e in (damped, plain))
    np.testing.assert_allclose(*joint, atol=10 * atol)
    if name != "huber":
        np.testing.assert_allclose(damped.error_bound(), plain.error_bound(), rtol=1e-6)


def test_a_solver_fitted_again_keeps_nothing():
    """Inverses and eigenvalues are those of the last objective and damping."""
    _, X, y = _damped_problem("ridge")
    first, second = (objective_for(Ridge(alpha=alpha).fit(X, y), X, y) for alpha in (0.5, 20.0))
    solver = Direct().fit(first)
    solver.inverses(), solver.condition_number_
    for fitted, objective, damping in (
        (solver.with_damping(3.0), first, 3.0),
        (solver.fit(second), second, 0.0),
    ):
        dense = objective.hessian() + damping * np.eye(objective.n_params)
        np.testing.assert_allclose(fitted.inverses()[0], np.linalg.inv(dense), rtol=1e-9)
        np.testing.assert_allclose(fitted.condition_number_, np.linalg.cond(dense), rtol=1e-9)
