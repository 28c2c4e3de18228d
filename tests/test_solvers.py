"""Iterative, low-rank and Hessian-free solvers against the dense damped inverse."""

import pickle

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Lasso, LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import scale

from skinfluence import InfluenceExplainer
from skinfluence.objectives import Objective, objective_for, resolve_objective
from skinfluence.solvers import Arnoldi, DataInf, Identity, Lanczos, LiSSA, Nystrom
from skinfluence.solvers.low_rank import lanczos

IRIS = load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def objective():
    X, y = IRIS
    return objective_for(LogisticRegression(max_iter=1000).fit(scale(X), y), scale(X), y)


@pytest.fixture(scope="module")
def right_sides(objective):
    """More columns than parameters, one of them zero."""
    V = np.random.default_rng(0).standard_normal((objective.n_params, 2 * objective.n_params + 1))
    V[:, 3] = 0
    return V


def damped_inverse(objective, damping):
    return np.linalg.inv(objective.hessian() + damping * np.eye(objective.n_params))


def relative_error(X, expected):
    return np.abs(X - expected).max() / np.abs(expected).max()


EXACT = [
    LiSSA(tol=1e-9, max_iter=20_000),
    Arnoldi(rank=100, n_iter=100),
    Lanczos(rank=100, n_iter=100),
    Nystrom(rank=100),
]
ALL = [*EXACT, DataInf(), Identity()]


def named(solvers):
    return pytest.mark.parametrize("solver", solvers, ids=lambda s: type(s).__name__)


# -- against the dense inverse ---------------------------------------------------------------
@named(EXACT)
def test_dense_damped_inverse_at_full_rank(solver, objective, right_sides):
    fitted = clone(solver).set_params(damping=0.3).fit(objective)
    expected = damped_inverse(objective, 0.3) @ right_sides
    assert relative_error(fitted.solve(right_sides), expected) < 1e-7
    assert fitted.report_["damping"] == 0.3
    assert fitted.report_["residual"] < 1e-8


@named(EXACT)
def test_with_damping_equals_a_new_fit(solver, objective, right_sides):
    fitted = clone(solver).set_params(damping=0.3).fit(objective)
    moved = fitted.with_damping(2.0)
    assert (
        relative_error(moved.solve(right_sides), damped_inverse(objective, 2.0) @ right_sides)
        < 1e-7
    )
    assert (
        relative_error(fitted.solve(right_sides), damped_inverse(objective, 0.3) @ right_sides)
        < 1e-7
    )
    assert (moved.damping, fitted.damping) == (2.0, 0.3)


@named([*EXACT, Identity()])  # DataInf warns there: see its own tests
def test_large_damping_limit(solver, objective, right_sides):
    fitted = clone(solver).set_params(damping=1e9).fit(objective)
    assert relative_error(1e9 * fitted.solve(right_sides), right_sides) < 1e-6


@named(EXACT)
def test_influence_is_that_of_the_direct_solver(solver):
    X, y = load_breast_cancer(return_X_y=True)
    X, y = scale(X)[::5, ::6], y[::5]
    options = {"method": "influence"}
    expected = InfluenceExplainer(LogisticRegression(), **options).fit(X, y).transform(X[:7], y[:7])
    if isinstance(solver, Lanczos | Nystrom):  # they divide by the penalty: no free intercept
        options["estimator"] = LogisticRegression(solver="liblinear", tol=1e-8)
        expected = InfluenceExplainer(**options).fit(X, y).transform(X[:7], y[:7])
    options.setdefault("estimator", LogisticRegression())
    actual = InfluenceExplainer(solver=solver, **options).fit(X, y).transform(X[:7], y[:7])
    assert relative_error(actual, expected) < 1e-6


def test_independent_outputs():
    X, y = scale(IRIS[0]), IRIS[1]
    objective = objective_for(RidgeClassifier(fit_intercept=False).fit(X, y), X, y)
    V = np.random.default_rng(0).standard_normal((objective.n_params, 3))
    expected = damped_inverse(objective, 0.5) @ V
    for solver in EXACT:
        fitted = clone(solver).set_params(damping=0.5).fit(objective)
        assert relative_error(fitted.solve(V), expected) < 1e-6


# -- LiSSA -------------------------------------------------------------------------------------
def test_lissa_solves_with_the_damping_of_its_recursion(objective, right_sides):
    # c ← v + (1 - d) c - H c / s, written out, tends to s (H + d s I)⁻¹ v
    s, d = 60.0, 0.02
    H, c = objective.hessian(), right_sides.copy()
    for _ in range(3000):
        c = right_sides + (1 - d) * c - H @ c / s
    fitted = LiSSA(damping=d * s, scale=s, tol=1e-12, max_iter=20_000).fit(objective)
    assert relative_error(fitted.solve(right_sides), c / s) < 1e-10
    assert fitted.report_["scale"] == s


def test_lissa_scale_is_above_the_largest_eigenvalue(objective):
    largest = np.linalg.eigvalsh(objective.hessian())[-1]
    assert largest < LiSSA(damping=0.0).fit(objective).scale_ < 1.1 * largest


def test_lissa_reports_the_smallest_curvature(objective):
    H = objective.hessian()
    values, vectors = np.linalg.eigh(H)
    fitted = LiSSA(damping=0.1, tol=1e-9, max_iter=20_000).fit(objective)
    fitted.solve(vectors @ np.ones((len(H), 1)))
    assert fitted.report_["smallest_curvature"] == pytest.approx(values[0] + 0.1, rel=1e-6)


class Quadratic(Objective):
    """``½ θ'Hθ`` for any symmetric ``H``: also an indefinite one."""

    def __init__(self, H):
        self.H, self.n_params = H, len(H)
        self.penalty, self.strictly_convex = np.zeros(len(H)), False

    def hessian(self):
        return self.H

    def hessian_product(self, V):
        return self.H @ V


def indefinite():
    return Quadratic(np.diag([-1.0, 0.5, 2.0, 5.0]))


def test_lissa_stops_at_negative_curvature():
    V = np.ones((4, 2))
    V[0] = 1e-3
    fitted = LiSSA(damping=0.1, scale=10.0, tol=1e-8).fit(indefinite())
    with pytest.warns(ConvergenceWarning, match="diverged on 2 of 2"):
        X = fitted.solve(V)
    assert np.isfinite(X).all()
    assert fitted.report_["diverged"] and not fitted.report_["converged"]
    residual = np.linalg.norm(V - indefinite().H @ X - 0.1 * X, axis=0).max()
    assert residual / np.linalg.norm(V[:, 0]) == pytest.approx(fitted.report_["residual"])
    assert fitted.report_["residual"] < 1


def test_lissa_stops_at_a_scale_too_small(objective, right_sides):
    fitted = LiSSA(damping=0.1, scale=5.0).fit(objective)
    with pytest.warns(ConvergenceWarning, match="diverged"):
        X = fitted.solve(right_sides)
    assert np.isfinite(X).all()


def test_lissa_says_that_it_ran_out_of_steps(objective, right_sides):
    fitted = LiSSA(damping=0.1, max_iter=5).fit(objective)
    with pytest.warns(ConvergenceWarning, match="after 5 steps"):
        fitted.solve(right_sides)
    assert fitted.report_["iterations"] == 5
    assert not fitted.report_["converged"]


# -- low rank ----------------------------------------------------------------------------------
def test_arnoldi_keeps_the_largest_eigenpairs(objective, right_sides):
    values, vectors = np.linalg.eigh(objective.hessian())
    top = slice(-4, None)
    expected = (vectors[:, top] / (values[top] + 0.2)) @ (vectors[:, top].T @ right_sides)
    fitted = Arnoldi(rank=4, n_iter=100, damping=0.2).fit(objective)
    assert fitted.eigenvalues_ == pytest.approx(values[top][::-1])
    assert relative_error(fitted.solve(right_sides), expected) < 1e-9


def test_arnoldi_drops_or_keeps_negative_eigenvalues():
    V = np.eye(4)
    dropped = Arnoldi(rank=4, damping=0.1).fit(indefinite())
    kept = Arnoldi(rank=4, damping=0.1, drop_negative=False).fit(indefinite())
    inverse = 1 / (np.array([-1.0, 0.5, 2.0, 5.0]) + 0.1)
    assert kept.solve(V) == pytest.approx(np.diag(inverse))
    inverse[0] = 0
    assert dropped.solve(V) == pytest.approx(np.diag(inverse))
    for fitted in (dropped, kept):
        assert fitted.report_["n_negative"] == 1
        assert fitted.report_["smallest_curvature"] == pytest.approx(-1)
    with pytest.raises(ValueError, match="cancels an eigenvalue"):
        Arnoldi(rank=4, damping=1.0, drop_negative=False).fit(indefinite())


def test_lanczos_goes_on_past_repeated_eigenvalues():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    H = (basis * [1, 1, 1, 1, 1, 1, 4, 4, 7]) @ basis.T
    values, vectors = lanczos(lambda V: H @ V, 9, 50, 0)
    assert values == pytest.approx([1, 1, 1, 1, 1, 1, 4, 4, 7])
    assert vectors.T @ vectors == pytest.approx(np.eye(9))
    assert H @ vectors == pytest.approx(vectors * values)


@named([Lanczos(rank=3, n_iter=30), Nystrom(rank=3)])
def test_low_rank_plus_diagonal_on_a_low_rank_loss(solver):
    # three rows: the loss's curvature has rank three, and what is left is the penalty
    X, y = np.random.default_rng(0).standard_normal((3, 20)), np.array([1.0, 2, -1])
    objective = objective_for(Ridge(alpha=0.7, fit_intercept=False).fit(X, y), X, y)
    V = np.random.default_rng(1).standard_normal((20, 4))
    fitted = solver.fit(objective)
    assert fitted.report_["damping"] == 0.0
    assert relative_error(fitted.solve(V), np.linalg.solve(objective.hessian(), V)) < 1e-10


def test_low_rank_refusals(objective):
    with pytest.raises(ValueError, match="indefinite"):
        Nystrom(rank=4, damping=0.1).fit(indefinite())
    with pytest.raises(ValueError, match="without penalty nor damping"):
        Lanczos(rank=4, damping=0).fit(objective)  # the intercepts
    with pytest.raises(ValueError, match="above n_iter"):
        Arnoldi(rank=10, n_iter=5).fit(objective)
    with pytest.raises(ValueError, match="positive integer"):
        Nystrom(rank=0).fit(objective)


# -- DataInf -----------------------------------------------------------------------------------
def row_gradients(objective):
    return objective.loss_gradients().block(slice(None)), objective.weights


def one_row_objective():
    X, y = IRIS
    objective = objective_for(LogisticRegression(max_iter=1000).fit(X, y), X, y)
    return type(objective)(
        type(objective.design)(X[:1]),
        objective.loss,
        objective.y[:1],
        np.array([1.7]),
        objective.penalty,
        objective.coef,
        objective.head,
        polish=False,
    )


def test_datainf_is_exact_for_one_row():
    objective = one_row_objective()
    G, w = row_gradients(objective)
    V = np.random.default_rng(0).standard_normal((objective.n_params, 20))
    matrix = G.T @ G / w + np.diag(objective.penalty.ravel()) + 0.01 * np.eye(objective.n_params)
    fitted = DataInf(damping=0.01).fit(objective)
    assert relative_error(fitted.solve(V), np.linalg.solve(matrix, V)) < 1e-10
    assert fitted.report_["residual"] < 1e-10


def test_datainf_is_the_mean_of_the_inverses(objective, right_sides):
    G, w = row_gradients(objective)
    D = np.diag(objective.penalty.ravel() + 0.3)
    inverses = [
        weight / w.sum() * np.linalg.inv(w.sum() * np.outer(g, g) / weight**2 + D)
        for g, weight in zip(G, w, strict=True)
    ]
    fitted = DataInf(damping=0.3).fit(objective)
    assert relative_error(fitted.solve(right_sides), sum(inverses) @ right_sides) < 1e-12
    moved = fitted.with_damping(0.9).solve(right_sides)
    assert relative_error(moved, DataInf(damping=0.9).fit(objective).solve(right_sides)) == 0


def test_datainf_says_when_it_has_collapsed(objective, right_sides):
    with pytest.warns(UserWarning, match="collapsed to a dot product"):
        fitted = DataInf(damping=1e9).fit(objective)
    assert relative_error(1e9 * fitted.solve(right_sides), right_sides) < 1e-6


# -- nets --------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def net_objective():
    import torch
    from skorch import NeuralNetClassifier
    from torch import nn

    torch.manual_seed(0)
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.LayerNorm(5), nn.Linear(5, 3)).double(),
        criterion=nn.CrossEntropyLoss,
        optimizer__weight_decay=1e-2,
        max_epochs=50,
        lr=0.5,
        batch_size=-1,
        train_split=None,
        verbose=0,
    )
    X, y = scale(IRIS[0]), IRIS[1]
    return resolve_objective("net", net.fit(X, y), X, y)


ON_NETS = [(solver, 30.0) for solver in EXACT]
# the weight decay alone would take LiSSA thousands of steps
ON_NETS += [(solver, "auto") for solver in EXACT if not isinstance(solver, LiSSA)]


@pytest.mark.parametrize(("solver", "damping"), ON_NETS, ids=str)
def test_nets_against_the_dense_gauss_newton_inverse(solver, damping, net_objective):
    p = net_objective.n_params
    V = np.random.default_rng(0).standard_normal((p, p + 3))
    solver = clone(solver).set_params(damping=damping, curvature="gauss_newton")
    fitted = solver.fit(net_objective)
    added = 0.0 if damping == "auto" else damping  # the weight decay is in the curvature
    matrix = net_objective.curvature_product(np.eye(p), "gauss_newton") + added * np.eye(p)
    assert fitted.damping_ == added
    assert relative_error(fitted.solve(V), np.linalg.solve(matrix, V)) < 1e-7


def test_arnoldi_drops_a_nets_negative_curvature(net_objective):
    values, vectors = np.linalg.eigh(net_objective.hessian())
    assert values[0] < 0
    kept = values > 0
    V = np.random.default_rng(0).standard_normal((len(values), 3))
    expected = (vectors[:, kept] / (values[kept] + 0.5)) @ (vectors[:, kept].T @ V)
    fitted = Arnoldi(rank=200, n_iter=200, damping=0.5).fit(net_objective)
    assert relative_error(fitted.solve(V), expected) < 1e-7
    assert fitted.report_["n_negative"] == (~kept).sum()


def test_datainf_goes_layer_by_layer(net_objective):
    G, w = row_gradients(net_objective)
    V = np.random.default_rng(0).standard_normal((net_objective.n_params, 3))
    expected = np.zeros_like(V)
    for layer in net_objective.layers():
        cols = np.r_[layer.weight, layer.bias]
        D = np.diag(net_objective.penalty[cols] + 0.3)
        for g, weight in zip(G[:, cols], w, strict=True):
            one = np.linalg.inv(w.sum() * np.outer(g, g) / weight**2 + D)
            expected[cols] += weight / w.sum() * one @ V[cols]
    assert len(net_objective.layers()) == 3
    fitted = DataInf(damping=0.3).fit(net_objective)
    assert relative_error(fitted.solve(V), expected) < 1e-10


# -- all of them -------------------------------------------------------------------------------
@named(ALL)
def test_right_sides_are_independent(solver, objective, right_sides):
    fitted = clone(solver).set_params(damping=3.0).fit(objective)
    together = fitted.solve(right_sides)
    alone = np.hstack([fitted.solve(column[:, None]) for column in right_sides.T[:5]])
    assert relative_error(alone, together[:, :5]) < 1e-7
    assert (together[:, 3] == 0).all()
    assert fitted.solve(right_sides[:, :0]).shape == (objective.n_params, 0)


@named([DataInf(damping=0.3), Arnoldi(rank=9, damping=0.3), Nystrom(rank=9, damping=0.3)])
def test_results_do_not_depend_on_the_batch_size(solver):
    X, y = load_breast_cancer(return_X_y=True)
    X = scale(X)[:, :8]
    options = {"method": "influence", "solver": solver}
    expected = InfluenceExplainer(LogisticRegression(), **options).fit(X, y).transform(X[:5], y[:5])
    with config_context(working_memory=0.01):
        explainer = InfluenceExplainer(LogisticRegression(), batch_size=7, **options).fit(X, y)
        assert relative_error(explainer.transform(X[:5], y[:5]), expected) < 1e-10


@named(ALL)
def test_not_finite_right_sides_are_refused(solver, objective, right_sides):
    fitted = clone(solver).set_params(damping=0.3).fit(objective)
    V = right_sides.copy()
    V[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        fitted.solve(V)
    with pytest.raises(ValueError, match=r"V has shape \(4, 4\)"):
        fitted.solve(np.eye(4))


@named(ALL)
@pytest.mark.parametrize("damping", [-1.0, np.inf, np.nan, "large"])
def test_wrong_dampings_are_refused(solver, damping, objective):
    with pytest.raises(ValueError, match="damping="):
        clone(solver).set_params(damping=damping).fit(objective)


@named(ALL)
def test_pickle(solver, objective, right_sides):
    fitted = clone(solver).set_params(damping=3.0).fit(objective)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.solve(right_sides), fitted.solve(right_sides))


@named([solver for solver in EXACT if not isinstance(solver, Nystrom)])
def test_empirical_fisher(solver, objective, right_sides):
    G, w = row_gradients(objective)
    matrix = G.T @ (G / w[:, None]) + np.diag(objective.penalty.ravel() + 0.3)
    fitted = clone(solver).set_params(damping=0.3, curvature="empirical_fisher").fit(objective)
    expected = np.linalg.solve(matrix, right_sides)
    assert relative_error(fitted.solve(right_sides), expected) < 1e-6


@named(ALL)
def test_l1_penalties_are_refused(solver):
    X, y = IRIS
    for model in (Lasso(alpha=0.1), LogisticRegression(l1_ratio=1, solver="saga", max_iter=5000)):
        explainer = InfluenceExplainer(model, method="influence", solver=solver)
        with pytest.raises(TypeError, match="an L1 penalty or a kink holds parameters"):
            explainer.fit(scale(X), (y > 0) * 1.0)


@named(ALL)
def test_models_without_a_hessian_are_refused(solver):
    explainer = InfluenceExplainer(KernelRidge(), method="influence", solver=solver)
    with pytest.raises(TypeError, match="KernelSmoother has none"):
        explainer.fit(*IRIS)


def test_no_curvature_is_refused():
    flat = Quadratic(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="the curvature is zero"):
        LiSSA(damping=0.0).fit(flat)
    with pytest.raises(ValueError, match="no eigenvalue of the curvature was kept"):
        Arnoldi(damping=0.1).fit(Quadratic(np.diag([-1.0, -2.0])))
    with pytest.raises(ValueError, match="damping='auto' cannot be derived"):
        LiSSA().fit(Quadratic(-np.eye(3)))


def test_unknown_curvature_is_refused(objective):
    with pytest.raises(ValueError, match="curvature='newton' is not one of"):
        LiSSA(curvature="newton").fit(objective)
    with pytest.raises(ValueError, match="curvature='fisher' is not known"):
        LiSSA(curvature="fisher").fit(objective)


@pytest.mark.parametrize("name", ["lissa", "arnoldi", "lanczos", "nystrom", "datainf", "identity"])
def test_names(name):
    X, y = IRIS
    explainer = InfluenceExplainer(LogisticRegression(C=0.1), method="influence", solver=name)
    values = explainer.fit(scale(X), y).transform(scale(X)[:3], y[:3])
    assert values.shape == (3, 150)
    assert np.isfinite(values).all()


class ByInfluence(ClassifierMixin, BaseEstimator):
    """Fits without the rows that an explainer calls harmful; takes part in a grid search."""

    def __init__(self, explainer):
        self.explainer = explainer

    def fit(self, X, y):
        self.explainer_ = clone(self.explainer).fit(X, y)
        keep = self.explainer_.dataset_influence(X, y) > -1e-4
        self.classes_ = np.unique(y)
        self.model_ = LogisticRegression().fit(X[keep], y[keep])
        return self

    def predict(self, X):
        return self.model_.predict(X)


def test_grid_search_over_the_damping():
    X, y = IRIS
    inner = InfluenceExplainer(LogisticRegression(), method="influence", solver=LiSSA())
    grid = {"explainer__solver__damping": [0.5, 50.0]}
    search = GridSearchCV(ByInfluence(inner), grid, cv=2).fit(scale(X), y)
    best = search.best_params_["explainer__solver__damping"]
    assert search.best_estimator_.explainer_.solver_.report_["damping"] == best
    assert clone(search.best_estimator_).explainer.solver.damping == best
