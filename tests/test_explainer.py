"""InfluenceExplainer as a scikit-learn estimator, and the numbers it puts together."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KNeighborsRegressor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from skinfluence import InfluenceExplainer
from skinfluence.methods import Exact, Influence, Problem
from skinfluence.solvers import Direct
from skinfluence.targets import Decision, Loss, Probability

from .cases.linear import BINARY, MANY, TWO, VALUES, WEIGHTS, WIDE, WIDE_Y, X, logistic

ROWS_ARE_COLUMNS = (
    "transform has one column a training row, so repeating or removing rows changes its shape; "
    "test_weight_two_is_two_rows and check_weight_zero compare the columns that correspond"
)
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": ROWS_ARE_COLUMNS,
    "check_sample_weight_equivalence_on_sparse_data": ROWS_ARE_COLUMNS,
}


@parametrize_with_checks(
    [InfluenceExplainer(LogisticRegression()), InfluenceExplainer(Ridge())],
    expected_failed_checks=lambda _: EXPECTED_FAILURES,
)
def test_sklearn_checks(estimator, check):
    with warnings.catch_warnings():
        # the checks' own data is separable at places and their fits are left unconverged
        warnings.simplefilter("ignore")
        check(estimator)


@pytest.mark.parametrize(
    "name",
    [
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_global_output_transform_pandas",
        "check_set_output_transform_polars",
        "check_global_set_output_transform_polars",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
        "check_dataframe_column_names_consistency",
        "check_param_validation",
        "check_inplace_ensure_writeable",
    ],
)
@pytest.mark.parametrize("inner", [LogisticRegression(), Ridge()], ids=["logistic", "ridge"])
def test_sklearn_checks_not_in_the_list(name, inner):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(estimator_checks, name)("InfluenceExplainer", InfluenceExplainer(inner))


def fitted(method="newton", estimator=None, y=BINARY, **options):
    return InfluenceExplainer(estimator or logistic(), method=method, **options).fit(X, y)


# -- the numbers ---------------------------------------------------------------------------


def test_weight_two_is_two_rows():
    """A row of weight 2 has the influence of removing both of two copies."""
    weights = np.ones(len(X))
    weights[3] = 2
    twice = np.vstack([X, X[[3]]]), np.append(BINARY, BINARY[3])
    weighted = InfluenceExplainer(logistic(), method="exact").fit(X, BINARY, sample_weight=weights)
    copied = InfluenceExplainer(logistic(), method="exact").fit(*twice)
    both = copied.group_influence([[3, len(X)]], X[:5], BINARY[:5])
    assert_allclose(weighted.transform(X[:5], BINARY[:5])[:, [3]], both, rtol=1e-8)


@pytest.mark.parametrize("target", ["loss", "decision", "proba"])
@pytest.mark.parametrize("y", [BINARY, MANY], ids=["binary", "many"])
@pytest.mark.parametrize("method", ["infinitesimal_jackknife", "newton", "exact"])
def test_target_is_reevaluated_at_the_moved_parameters(method, y, target):
    """Against the estimator itself with its parameters moved by ``parameter_influence``."""
    explainer = fitted(method, y=y, target=target)
    values = explainer.transform(X[:4], y[:4])[:, :6]
    moved = clone(explainer.estimator_).fit(X, y)
    theta = explainer.objective_.coef

    def quantity(coef):
        moved.coef_, moved.intercept_ = coef[:, :-1], coef[:, -1]
        index = np.searchsorted(moved.classes_, y[:4])
        if target == "decision":
            scores = moved.decision_function(X[:4])
            return scores if scores.ndim == 1 else scores[np.arange(4), index]
        P = moved.predict_proba(X[:4])
        if target == "loss":
            return -np.log(P[np.arange(4), index])
        return P[:, 1] if P.shape[1] == 2 else P[np.arange(4), index]

    base = quantity(theta)
    for i, change in enumerate(explainer.parameter_influence(np.arange(6))):
        expected = quantity(theta + change.reshape(theta.shape)) - base
        assert_allclose(values[:, i], expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("y", [BINARY, MANY], ids=["binary", "many"])
@pytest.mark.parametrize("target", [Loss(), Decision(), Probability()], ids=str)
def test_target_gradients(target, y):
    """Against central differences in the outputs."""
    explainer = fitted(y=y)
    bound = target.bind(explainer.objective_, X[:5], y[:5])
    Z, gradient, h = bound.queries.outputs, bound.gradient(), 1e-6
    for k in range(Z.shape[1]):
        step = np.zeros_like(Z)
        step[:, k] = h
        value = [target.value(bound.head, Z + s * step, *bound.context) for s in (1, -1)]
        assert_allclose(gradient[:, k], (value[0] - value[1]) / (2 * h), rtol=1e-7, atol=1e-9)


def test_influence_is_the_linear_part_of_the_jackknife():
    """For a target linear in the parameters the two first-order methods are one."""
    influence = fitted("influence", target="decision").transform(X[:5])
    jackknife = fitted("infinitesimal_jackknife", target="decision").transform(X[:5])
    assert_allclose(influence, jackknife, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    "method", ["influence", "infinitesimal_jackknife", "newton", Exact(tol=1e-12)], ids=str
)
@pytest.mark.parametrize("y", [BINARY, MANY], ids=["binary", "many"])
def test_every_view_agrees_with_transform(method, y):
    explainer = fitted(method, y=y)
    full = explainer.transform(X, y)
    weights = np.linspace(0, 1, len(X))
    assert_allclose(explainer.dataset_influence(X, y), full.mean(axis=0), atol=1e-14, rtol=1e-9)
    assert_allclose(
        explainer.dataset_influence(X, y, sample_weight=weights),
        weights @ full / weights.sum(),
        atol=1e-14,
        rtol=1e-9,
    )
    assert_allclose(explainer.self_influence(), np.diag(full), atol=1e-14, rtol=1e-9)
    singles = explainer.group_influence([[i] for i in range(len(X))], X, y)
    assert_allclose(singles, full, atol=1e-12, rtol=1e-8)
    for by, score in {
        "magnitude": np.abs(full),
        "helpful": full,
        "harmful": -full,
    }.items():
        top = explainer.top_influences(X, y, k=3, by=by)
        order = np.argsort(-score, axis=1)[:, :3]
        assert_allclose(top.values, np.take_along_axis(full, order, axis=1), rtol=1e-9)


def test_blocks_do_not_change_the_numbers():
    plain, small = fitted(), fitted(batch_size=7)
    assert_allclose(plain.transform(X, BINARY), small.transform(X, BINARY), rtol=1e-12)
    top = [e.top_influences(X, BINARY, k=20) for e in (plain, small)]
    assert_allclose(top[0].values, top[1].values, rtol=1e-12)
    with sklearn.config_context(working_memory=1e-3):
        assert_allclose(plain.transform(X, BINARY), fitted().transform(X, BINARY), rtol=1e-12)


@pytest.mark.parametrize("y", [BINARY, MANY], ids=["binary", "many"])
@pytest.mark.parametrize("size", [2, 25], ids=["woodbury", "dense"])
def test_newton_step_without_a_group(y, size):
    """Against the dense Hessian without the group."""
    rows = np.arange(size)
    explainer = fitted(y=y)
    objective = explainer.objective_
    weights = objective.weights.copy()
    weights[rows] = 0
    H = np.kron(np.eye(1), objective.quadratic(objective.theta, weights).matrix())
    gradient = objective.gradient(objective.theta, weights)
    expected = -np.linalg.lstsq(H, gradient, rcond=1e-12)[0]
    found = explainer.effects_.joint_parameters([rows])[0]
    assert_allclose(found, expected, rtol=1e-8, atol=1e-12)


def test_groups_by_label_or_index():
    explainer = fitted("exact")
    labels = np.where(np.arange(len(X)) % 3 == 0, "third", "other")
    by_label = explainer.group_influence(labels, X[:4], BINARY[:4])
    lists = [np.flatnonzero(labels == name) for name in ("other", "third")]
    assert_allclose(by_label, explainer.group_influence(lists, X[:4], BINARY[:4]))
    keep = labels == "third"
    refit = logistic().fit(X[keep], BINARY[keep])
    base = logistic().fit(X, BINARY)
    difference = refit.decision_function(X[:4]) - base.decision_function(X[:4])
    decisions = fitted("exact", target="decision").group_influence(labels, X[:4])
    assert_allclose(decisions[:, 0], difference, rtol=1e-8)


def test_parameter_influence_in_the_estimators_units():
    """liblinear's intercept is the parameter times ``intercept_scaling``."""
    inner = logistic(solver="liblinear", intercept_scaling=5.0, tol=1e-12, max_iter=100_000)
    explainer = fitted("exact", inner)
    refit = clone(inner).fit(X[1:], BINARY[1:])
    base = clone(inner).fit(X, BINARY)
    change = np.append(refit.coef_ - base.coef_, refit.intercept_ - base.intercept_)
    assert_allclose(explainer.parameter_influence([0])[0], change, rtol=1e-4)


def test_renamed_labels_change_nothing():
    renamed = np.where(BINARY == "yes", 9, 4)
    assert_allclose(
        fitted().transform(X, BINARY), fitted(y=renamed).transform(X, renamed), rtol=1e-10
    )


def test_newton_accuracy_on_a_table():
    """All 100 x 300 test-loss changes, binary, d = 10, C = 1, against the exact ones."""
    X_all, y_all = tabular(400, 10, seed=1)
    train, test = slice(0, 300), slice(300, 400)
    exact, newton = (
        InfluenceExplainer(logistic(), method=method)
        .fit(X_all[train], y_all[train])
        .transform(X_all[test], y_all[test])
        for method in ("exact", "newton")
    )
    assert np.linalg.norm(newton - exact) <= 0.02 * np.linalg.norm(exact)
    assert abs((newton * exact).sum() / (newton**2).sum() - 1) <= 0.01


def test_newton_accuracy_on_digits():
    """K = 10: the twelve rows of largest loss and twelve others, on all test losses."""
    X_all, y_all = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X_all / 16.0, y_all, test_size=0.3, random_state=0
    )
    explainer = InfluenceExplainer(logistic(tol=1e-8)).fit(X_train, y_train)
    objective = explainer.objective_
    losses = objective.head.loss(objective.outputs, objective.y)
    rows = np.append(np.argsort(-losses)[:12], np.arange(12))
    bound = Loss().bind(objective, X_test, y_test)
    exact_effects = Exact().bind(Problem(objective, explainer.solver_))
    newton, exact = (
        bound.changes(effects.outputs(bound.queries, rows))
        for effects in (explainer.effects_, exact_effects)
    )
    assert np.linalg.norm(newton - exact) <= 0.06 * np.linalg.norm(exact)


def tabular(n, d, seed):
    """Correlated, skewed and binary columns, standardised; labels with 8 % noise."""
    rng = np.random.default_rng(seed)
    mix = 0.6 * np.eye(d) + 0.6 * rng.normal(size=(d, d)) / np.sqrt(d)
    table = rng.normal(size=(n, d)) @ mix
    table[:, : d // 4] = np.exp(0.7 * table[:, : d // 4])
    table[:, d // 4 : d // 2] = table[:, d // 4 : d // 2] > 0.5
    table = (table - table.mean(axis=0)) / table.std(axis=0)
    coef = rng.normal(size=d) * (rng.random(d) < 0.5) * 2 / np.sqrt(d)
    y = (rng.random(n) < 1 / (1 + np.exp(0.7 - table @ coef))).astype(int)
    return table, np.where(rng.random(n) < 0.08, 1 - y, y)


def test_float32_rows_keep_their_dtype_and_agree():
    explainer = InfluenceExplainer(logistic(), method="influence").fit(X, BINARY)
    narrow = InfluenceExplainer(FrozenEstimator(explainer.estimator_), method="influence")
    narrow.fit(X.astype(np.float32), BINARY)
    values = narrow.transform(X.astype(np.float32), BINARY)
    assert values.dtype == np.float32
    wide = explainer.transform(X, BINARY)
    assert_allclose(values, wide, atol=2e-6 * np.abs(wide).max())


# -- leverages and diagnostics ---------------------------------------------------------------


def test_leverage_is_the_hat_matrix():
    A = np.column_stack([X, np.ones(len(X))])
    hat = np.diag(A @ np.linalg.pinv(A))
    assert_allclose(fitted(estimator=LinearRegression(), y=VALUES).leverage_, hat, rtol=1e-10)
    assert_allclose(fitted(estimator=LinearRegression(), y=TWO).leverage_, hat, rtol=1e-10)


def test_leverage_of_softmax_is_an_eigenvalue():
    """Against eigenvalues of ``H_i H⁻¹`` with dense matrices."""
    explainer = fitted(y=MANY)
    objective = explainer.objective_
    inverse = np.linalg.pinv(objective.hessian(), rcond=1e-12, hermitian=True)
    A = np.column_stack([X, np.ones(len(X))])
    for i in (0, 7):
        S = objective.curvature_matrices(np.array([i]))[0]
        own = np.kron(S, np.outer(A[i], A[i]))
        largest = np.linalg.eigvals(own @ inverse).real.max()
        assert_allclose(explainer.leverage_[i], largest, rtol=1e-8)


def test_leverage_of_independent_outputs_is_the_largest_of_theirs():
    alphas = [0.1, 10.0]
    explainer = fitted(estimator=Ridge(alpha=alphas), y=TWO)
    parts = [
        fitted(estimator=Ridge(alpha=alpha), y=y).leverage_
        for alpha, y in zip(alphas, TWO.T, strict=True)
    ]
    assert_allclose(explainer.leverage_, np.maximum(*parts), rtol=1e-10)
    with pytest.raises(TypeError, match="has no leverages"):
        _ = fitted(estimator=KNeighborsRegressor(), method="exact", y=VALUES).leverage_


def test_leverage_bound_is_a_bound():
    for scale in (1.0, np.array([1e-3, 1.0, 10.0, 1e3])):
        explainer = InfluenceExplainer(Ridge(), method="newton").fit(X * scale, VALUES)
        bound = explainer.objective_.leverage_bound(explainer.solver_)
        assert explainer.leverage_.max() <= bound


def test_high_leverage_is_named_for_first_order_methods():
    Xl, yl = X.copy(), VALUES
    Xl[5] = 0
    Xl[5, 0] = 1e4
    with pytest.warns(UserWarning, match=r"rows have leverage above 0.9: \[5\]"):
        InfluenceExplainer(Ridge(), method="influence").fit(Xl, yl)


def test_gradient_norm_before_and_after_polishing():
    with pytest.warns(ConvergenceWarning, match="was not at its optimum"):
        loose = fitted(estimator=LogisticRegression(tol=0.2, C=100))
    assert loose.objective_.gradient_norm_fitted > 1e-3
    assert loose.gradient_norm_ < 1e-9
    tight = fitted(estimator=logistic(C=100))
    assert_allclose(loose.transform(X, BINARY), tight.transform(X, BINARY), rtol=1e-6)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("data", ["narrow", "wide"])
def test_eigenvalues_of_the_hessian(intercept, data):
    rows, y = (X, BINARY) if data == "narrow" else (WIDE, WIDE_Y)
    inner = logistic(fit_intercept=intercept, C=0.5)
    solver = InfluenceExplainer(inner).fit(rows, y).solver_
    values = np.linalg.eigvalsh(InfluenceExplainer(inner).fit(rows, y).objective_.hessian())
    assert_allclose(solver.smallest_eigenvalue_, values[0], rtol=1e-8)
    assert_allclose(solver.condition_number_, values[-1] / values[0], rtol=1e-8)


def test_eigenvalues_leave_out_the_gauge():
    values = np.linalg.eigvalsh(fitted(y=MANY).objective_.hessian())
    assert values[0] < 1e-10
    assert_allclose(fitted(y=MANY).solver_.smallest_eigenvalue_, values[1], rtol=1e-8)


# -- what comes in and goes out -----------------------------------------------------------------


def test_dataframes_in_named_columns_out():
    frame = pd.DataFrame(X, columns=list("abcd"), index=[f"id{i}" for i in range(len(X))])
    explainer = InfluenceExplainer(logistic()).fit(frame, BINARY).set_output(transform="pandas")
    out = explainer.transform(frame[:3], BINARY[:3])
    assert list(out.columns) == list(frame.index) and list(out.index) == ["id0", "id1", "id2"]
    table = explainer.parameter_influence([1, 2])
    assert list(table.columns) == ["a", "b", "c", "d", "intercept"]
    assert list(table.index) == ["id1", "id2"]
    many = InfluenceExplainer(logistic()).fit(frame, MANY)
    assert many.objective_.parameter_names[:5] == ["a:a", "a:b", "a:c", "a:d", "a:intercept"]


def test_polars_in_and_out():
    frame = pl.DataFrame(X, schema=list("abcd"))
    explainer = InfluenceExplainer(logistic()).fit(frame, BINARY).set_output(transform="polars")
    assert explainer.transform(frame[:3], BINARY[:3]).columns[:2] == ["row_0", "row_1"]
    assert explainer.parameter_influence().shape == (len(X), 5)


def test_frozen_estimator_is_not_refitted():
    model = logistic().fit(X, BINARY)
    explainer = InfluenceExplainer(FrozenEstimator(model)).fit(X, BINARY)
    assert explainer.estimator_.estimator is model
    assert_allclose(explainer.transform(X, BINARY), fitted().transform(X, BINARY), rtol=1e-10)


def test_search_explains_its_best_estimator():
    search = GridSearchCV(logistic(), {"C": [0.01, 10.0]}, cv=3)
    explainer = InfluenceExplainer(search).fit(X, BINARY, sample_weight=WEIGHTS)
    best = clone(explainer.estimator_.best_estimator_)
    plain = InfluenceExplainer(best).fit(X, BINARY, sample_weight=WEIGHTS)
    assert_allclose(explainer.transform(X, BINARY), plain.transform(X, BINARY))


def mixed_table(n=60):
    color = np.array(["red", "green", "blue"])[np.arange(n) % 3]
    return pd.DataFrame({"color": color, "size": X[:n, 0], "age": X[:n, 1] * 10})


def mixed_pipeline():
    columns = ColumnTransformer([("color", OneHotEncoder(), ["color"])], remainder=StandardScaler())
    return make_pipeline(columns, logistic())


def test_pipeline_on_mixed_columns():
    table = mixed_table()
    pipeline = mixed_pipeline().fit(table, BINARY)
    explainer = InfluenceExplainer(pipeline, preprocessing="frozen")
    explainer.fit(table, BINARY, sample_weight=WEIGHTS)
    rows = pipeline[:-1].fit_transform(table)
    last = InfluenceExplainer(logistic()).fit(rows, BINARY, sample_weight=WEIGHTS)
    assert_allclose(explainer.transform(table, BINARY), last.transform(rows, BINARY))
    assert explainer.objective_.parameter_names[0] == "color__color_blue"


class Rank(TransformerMixin, BaseEstimator):
    """A transformer that nothing is known of."""

    def fit(self, X, y=None):
        self.sorted_ = np.sort(X, axis=0)
        return self

    def transform(self, X):
        columns = zip(self.sorted_.T, np.asarray(X).T, strict=True)
        return np.column_stack([np.searchsorted(a, b) / len(a) for a, b in columns])


def test_unknown_steps_are_named_and_held_with_those_before():
    pipeline = make_pipeline(StandardScaler(), Rank(), StandardScaler(), logistic())
    with pytest.raises(ValueError, match=r"'rank' \(Rank: no stage.*stage_for.register"):
        InfluenceExplainer(pipeline, preprocessing="refit").fit(X, BINARY)
    names = r"'standardscaler-1' \(.*'rank' after it.*'rank' \(Rank.*kept as fitted"
    with pytest.warns(UserWarning, match=names):
        explainer = InfluenceExplainer(pipeline).fit(X, BINARY)
    rows = pipeline[:2].fit_transform(X)
    rest = InfluenceExplainer(pipeline[2:], preprocessing="refit").fit(rows, BINARY)
    assert_allclose(explainer.transform(X, BINARY), rest.transform(rows, BINARY), rtol=1e-8)


def test_known_steps_are_followed_without_a_warning():
    table = mixed_table()
    followed = InfluenceExplainer(mixed_pipeline()).fit(table, BINARY)
    refit = InfluenceExplainer(mixed_pipeline(), preprocessing="refit").fit(table, BINARY)
    frozen = InfluenceExplainer(mixed_pipeline(), preprocessing="frozen").fit(table, BINARY)
    values = followed.transform(table, BINARY)
    assert_allclose(values, refit.transform(table, BINARY))
    assert np.abs(values - frozen.transform(table, BINARY)).max() > 1e-3 * np.abs(values).max()


def test_steps_before_an_unsupported_last_step_are_held():
    pipeline = make_pipeline(StandardScaler(), SVC(gamma="auto"))
    with pytest.warns(UserWarning, match="not followed into SVC"):
        InfluenceExplainer(pipeline).fit(X, MANY)
    with pytest.raises(ValueError, match="not followed into SVC"):
        InfluenceExplainer(pipeline, preprocessing="refit").fit(X, MANY)


def test_objects_carry_options_through_clone_and_parameters():
    explainer = InfluenceExplainer(logistic(), method=Exact(tol=1e-6), solver=Direct())
    assert clone(explainer).get_params()["method__tol"] == 1e-6
    explainer.set_params(method__tol=1e-5, estimator__C=3.0)
    assert explainer.method.tol == 1e-5 and explainer.estimator.C == 3.0


def test_pickle():
    explainer = fitted()
    copy = pickle.loads(pickle.dumps(explainer))
    assert_allclose(copy.transform(X, BINARY), explainer.transform(X, BINARY))


def test_metadata_routing_carries_weights():
    with sklearn.config_context(enable_metadata_routing=True):
        inner = logistic().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), inner)
        explainer = InfluenceExplainer(pipeline, preprocessing="frozen")
        explainer.fit(X, BINARY, sample_weight=WEIGHTS)
    plain = InfluenceExplainer(
        make_pipeline(StandardScaler(), logistic()), preprocessing="frozen"
    ).fit(X, BINARY, sample_weight=WEIGHTS)
    assert_allclose(explainer.transform(X, BINARY), plain.transform(X, BINARY))


# -- refusals -------------------------------------------------------------------------------------


def _with(value):
    out = X.copy()
    out[3, 1] = value
    return out


@pytest.mark.parametrize(
    "X_bad, y_bad, message",
    [
        (_with(np.nan), BINARY, "NaN"),
        (_with(np.inf), BINARY, "infinity"),
        (X, np.repeat("yes", len(X)), "class"),
        (X[:0], BINARY[:0], "minimum of 1 is required"),
        (X, BINARY[:-1], "inconsistent numbers of samples"),
        (X, None, "requires y"),
    ],
    ids=["nan", "inf", "one class", "no rows", "lengths", "no y"],
)
def test_bad_training_data(X_bad, y_bad, message):
    with pytest.raises(ValueError, match=message):
        InfluenceExplainer(logistic()).fit(X_bad, y_bad)


@pytest.mark.parametrize(
    "weights, message",
    [(np.zeros(len(X)), "zero"), (-np.ones(len(X)), "Negative"), (np.ones(3), "shape")],
    ids=["all zero", "negative", "length"],
)
def test_bad_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        InfluenceExplainer(logistic()).fit(X, BINARY, sample_weight=weights)


@pytest.mark.parametrize(
    "X_bad, y_bad, message",
    [
        (X[:3], np.array(["yes", "maybe", "no"]), r"never seen in fitting: \['maybe'\]"),
        (X[:3], np.array([0, 1, 1]), "never seen"),
        (X[:3, :2], BINARY[:3], "features"),
        (_with(np.nan), BINARY, "NaN"),
        (X[:3], BINARY[:2], "inconsistent"),
    ],
    ids=["unseen", "other type", "columns", "nan", "lengths"],
)
def test_bad_queries(X_bad, y_bad, message):
    with pytest.raises(ValueError, match=message):
        fitted(target="loss").transform(X_bad, y_bad)


def test_loss_needs_y():
    with pytest.raises(ValueError, match="needs the queries' y"):
        fitted(target="loss").transform(X)


def test_refused_models():
    lasso = LogisticRegression(solver="saga", l1_ratio=0.5, max_iter=10_000)
    with pytest.raises(TypeError, match="no objective is known for DecisionTreeClassifier"):
        InfluenceExplainer(DecisionTreeClassifier()).fit(X, BINARY)
    with pytest.raises(ValueError, match="constrained"):
        InfluenceExplainer(Ridge(positive=True)).fit(X, VALUES)
    with pytest.raises((TypeError, ValueError)):
        InfluenceExplainer(NearestNeighbors()).fit(X, BINARY)
    assert lasso.l1_ratio == 0.5


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "magic"}, "method='magic' is not one of"),
        ({"solver": "magic"}, "solver='magic' is not one of"),
        ({"target": "magic"}, "target='magic' is not one of"),
        ({"preprocessing": "magic"}, "preprocessing"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        InfluenceExplainer(logistic(), **options).fit(X, BINARY)


def test_bad_questions():
    explainer = fitted()
    with pytest.raises(ValueError, match="k=0"):
        explainer.top_influences(X[:2], k=0)
    with pytest.raises(ValueError, match="by='best'"):
        explainer.top_influences(X[:2], by="best")
    with pytest.raises(ValueError, match="between 0 and"):
        explainer.parameter_influence([len(X)])
    with pytest.raises(ValueError, match="the same row twice"):
        explainer.group_influence([[1, 1]], X[:2])
    with pytest.raises(ValueError, match="a label for each"):
        explainer.group_influence([0, 1], X[:2])
    with pytest.raises(ValueError, match="say which one"):
        fitted(estimator=Ridge(), y=TWO).transform(X[:2])
    with pytest.raises(ValueError, match="needs a classifier"):
        fitted(estimator=Ridge(), y=VALUES, target="proba").transform(X[:2])


def test_separable_without_penalty_is_refused():
    y = (X[:, 0] > 0).astype(int)
    inner = LogisticRegression(C=np.inf, max_iter=5)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="separable"):
        InfluenceExplainer(inner).fit(X, y)


def test_the_only_row_of_a_class_cannot_go():
    y = BINARY.copy()
    y[:] = "no"
    y[4] = "yes"
    for method in ("newton", "exact"):
        with pytest.raises(ValueError, match=r"without rows \[4\] no row of class 'yes'"):
            fitted(method, y=y).transform(X[:2], y[:2])
    with pytest.raises(ValueError, match="no row of class 'yes'"):
        fitted(y=BINARY).group_influence([np.flatnonzero(BINARY == "yes")], X[:2], BINARY[:2])


def test_dependent_columns_without_penalty_warn_and_predict_right():
    """A repeated column: parameters are not identified, predictions are."""
    doubled = np.column_stack([X, X[:, 0]])
    with pytest.warns(UserWarning, match="linearly dependent"):
        explainer = InfluenceExplainer(LinearRegression(), target="decision").fit(doubled, VALUES)
    plain = fitted(estimator=LinearRegression(), y=VALUES, target="decision")
    assert_allclose(explainer.transform(doubled[:5]), plain.transform(X[:5]), rtol=1e-8)


def test_dependent_columns_in_an_unpenalised_logistic_fit():
    doubled = np.column_stack([X, X[:, 0]])
    inner = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    for y in (BINARY, MANY):
        with pytest.warns(UserWarning, match="linearly dependent"):
            explainer = InfluenceExplainer(inner, target="decision").fit(doubled, y)
        plain = InfluenceExplainer(inner, target="decision").fit(X, y)
        expected = plain.transform(X[:5], y[:5])
        assert_allclose(explainer.transform(doubled[:5], y[:5]), expected, rtol=1e-5, atol=1e-9)


def test_refit_shows_progress(capsys):
    explainer = InfluenceExplainer(Ridge(), method="refit", verbose=1).fit(X, VALUES)
    explainer.parameter_influence([0, 1])
    shown = capsys.readouterr()
    assert "refits" in shown.out + shown.err


def test_leverage_one_is_refused_by_name():
    """A column that one row alone fills: without that row the fit is not identified."""
    marked = np.column_stack([X, np.arange(len(X)) == 7])
    explainer = InfluenceExplainer(LinearRegression()).fit(marked, VALUES)
    with pytest.raises(ValueError, match=r"rows \[7\] have leverage 1"):
        explainer.transform(marked[:2], VALUES[:2])


@pytest.mark.parametrize("size", [2, 25], ids=["woodbury", "dense"])
def test_a_group_that_identifies_a_column_cannot_go(size):
    """A column that the group alone fills, by either way of solving; later answers are right."""
    marked = np.column_stack([X, (np.arange(len(X)) < size) * np.arange(1, len(X) + 1)])
    explainer = InfluenceExplainer(LinearRegression()).fit(marked, VALUES)
    before = explainer.transform(marked[:2], VALUES[:2])
    with pytest.raises(ValueError, match="not identified"):
        explainer.group_influence([np.arange(size)], marked[:2], VALUES[:2])
    assert_allclose(explainer.transform(marked[:2], VALUES[:2]), before)
    assert not explainer.objective_.rank_deficient


def test_sparse_rows_give_names_and_numbers():
    explainer = InfluenceExplainer(logistic(), method=Influence()).fit(sparse.csr_array(X), BINARY)
    assert explainer.get_feature_names_out()[:2].tolist() == ["row_0", "row_1"]
    assert np.isfinite(explainer.transform(sparse.csr_array(X[:3]), BINARY[:3])).all()


# -- nothing goes astray silently ------------------------------------------------------------
@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "groups is empty"),
        ([np.array([], dtype=int), [1]], "a group holds no row"),
        (np.where(np.arange(len(BINARY)) == 3, np.nan, 1.0), "missing labels, at row 3"),
    ],
)
def test_groups_without_rows_are_refused(groups, message):
    explainer = InfluenceExplainer(logistic(), method="influence").fit(X, BINARY)
    with pytest.raises(ValueError, match=message):
        explainer.group_influence(groups, X[:2], BINARY[:2])


def test_weights_that_miss_the_last_step_are_refused():
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        for reaches in (True, False):
            last = LogisticRegression().set_fit_request(sample_weight=reaches)
            explainer = InfluenceExplainer(make_pipeline(scaler, last))
            if reaches:
                explainer.fit(X, BINARY, sample_weight=WEIGHTS)
                continue
            with pytest.raises(ValueError, match="does not reach LogisticRegression"):
                explainer.fit(X, BINARY, sample_weight=WEIGHTS)
