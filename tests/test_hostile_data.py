"""Faults that hostile tables once brought to light, each against a refit or refused by name."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import (
    ElasticNet,
    HuberRegressor,
    Lasso,
    LassoCV,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    RidgeCV,
)
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from sklearn.svm import SVC, SVR

from skinfluence import GradientStore, InfluenceExplainer
from skinfluence.inference import InfinitesimalJackknife
from skinfluence.methods import Influence
from skinfluence.model_selection import cross_val_predict, cross_val_score
from skinfluence.objectives.kernel import KernelMachine

rng = np.random.default_rng(0)
N = 40
X = rng.standard_normal((N, 3))
BINARY = (X[:, 0] + rng.standard_normal(N) > 0).astype(int)
MANY = np.digitize(X[:, 1] + rng.standard_normal(N), [-0.5, 0.5])
VALUES = X @ [1.0, 2.0, 3.0] + rng.standard_normal(N)
COUNTS = rng.poisson(2.0, N)
WEIGHTS = rng.uniform(0.5, 2, N)


def explained(model, rows=X, y=VALUES, method="exact", weights=None, **options):
    return InfluenceExplainer(model, method=method, target="decision", **options).fit(
        rows, y, weights
    )


# -- rows that nearly fix the fit alone ---------------------------------------------------
def interpolator(rows, y, alpha, weights):
    """Predictions at ``rows`` of a ridge fit to rows of positive weight, by its kernel."""
    kept = weights > 0
    K = rows[kept] @ rows[kept].T + alpha * np.diag(1 / weights[kept])
    return rows @ rows[kept].T @ np.linalg.solve(K, y[kept])


@pytest.mark.parametrize("alpha", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("shape", [(8, 20), (10, 10)])
def test_wide_ridge_near_interpolation(shape, alpha):
    """One less leverage is of the size of alpha: a plain division would lose it twice."""
    wide = np.random.default_rng(1).standard_normal(shape)
    y, every = wide[:, 0] + 1, np.ones(shape[0])
    explainer = explained(Ridge(alpha, fit_intercept=False), wide, y)
    base = interpolator(wide, y, alpha, every)
    truth = []
    for i in range(shape[0]):
        without = every.copy()
        without[i] = 0
        truth.append(interpolator(wide, y, alpha, without) - base)
    tolerance = 1e-12 / alpha * np.abs(truth).max()
    assert_allclose(explainer.transform(wide), np.transpose(truth), atol=tolerance)
    group = explainer.group_influence([[0, 1]], wide)[:, 0]
    without = every.copy()
    without[:2] = 0
    assert_allclose(group, interpolator(wide, y, alpha, without) - base, atol=tolerance)
    own = explainer.self_influence("decision")
    assert_allclose(own, np.diag(np.transpose(truth)), atol=tolerance)


def test_a_row_that_outweighs_all_others():
    weights = np.where(np.arange(N) == 3, 1e9, 1.0)
    for model, y in ((Ridge(), VALUES), (LogisticRegression(tol=1e-12, max_iter=999), BINARY)):
        keep = np.arange(N) != 3
        # the explainer of the rows left is polished too: a difference to it is that of the removal
        left = explained(model, X[keep], y[keep]).objective_.queries(X).outputs[:, 0]
        explainer = explained(model, X, y, weights=weights)
        fitted = explainer.objective_.queries(X).outputs[:, 0]
        assert_allclose(fitted + explainer.transform(X)[:, 3], left, atol=1e-6)


def test_coefficients_of_softmax_keep_adding_up_to_zero():
    """A weak penalty alone holds their common shift: rounding along it would be blown up."""
    model = LogisticRegression(C=1e4, fit_intercept=False, tol=1e-10, max_iter=999)
    explainer = explained(model, 100 * X[:, :1], MANY, "newton")
    moves = explainer.parameter_influence()
    rounding = 10 * np.finfo(float).eps * explainer.solver_.condition_number_  # of one solve
    assert np.abs(moves.sum(axis=1)).max() <= rounding * np.abs(moves).max() < 1e-5


@pytest.mark.parametrize("method", ["newton", "exact"])
@pytest.mark.parametrize("model", [Ridge(), Lasso(0.1), PoissonRegressor()], ids=str)
@pytest.mark.filterwarnings("ignore:the columns of X are linearly dependent")
def test_the_only_row_cannot_go(model, method):
    with pytest.raises(ValueError, match=r"no row of positive weight|have leverage 1"):
        explained(model, X[:1], np.ones(1), method).transform(X[:2])


# -- minima that are not there --------------------------------------------------------------
@pytest.mark.parametrize("method", ["influence", "newton", "exact"])
@pytest.mark.parametrize(
    ("model", "y"),
    [
        (LogisticRegression(C=np.inf, tol=1e-8, max_iter=500), BINARY),
        (LogisticRegression(C=np.inf, tol=1e-8, max_iter=500), MANY),
        (PoissonRegressor(alpha=0, tol=1e-8, max_iter=500), COUNTS),
    ],
    ids=["binary", "several classes", "counts"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:.*stumbled.*")
def test_quasi_separation_is_refused(model, y, method):
    """A column that only one class fills: its coefficient runs to infinity, and no other does."""
    dummy = np.isin(np.arange(N), np.flatnonzero(y == y.max())[:4]).astype(float)
    y = y * (1 - dummy).astype(int) if isinstance(model, PoissonRegressor) else y
    with pytest.raises(ValueError, match="separable along a direction without a penalty"):
        explained(model, np.column_stack([X, dummy]), y, method).transform(X)


def test_separable_without_one_row_is_refused_for_that_row():
    ones, zeros = np.flatnonzero(BINARY), np.flatnonzero(1 - BINARY)
    dummy = np.isin(np.arange(N), [*ones[:4], zeros[0]]).astype(float)
    rows = np.column_stack([X, dummy])
    explainer = explained(LogisticRegression(C=np.inf, tol=1e-10, max_iter=999), rows, BINARY)
    with pytest.raises(ValueError, match="separable along"):
        explainer.parameter_influence([zeros[0]])
    assert np.isfinite(explainer.parameter_influence([ones[0]])).all()


@pytest.mark.filterwarnings("ignore:.*failed to converge.*")
def test_a_robust_scale_that_vanishes_is_refused():
    """More parameters than rows to hold them: the inlying rows are fitted exactly."""
    few = np.random.default_rng(2).standard_normal((6, 3))
    with pytest.raises(ValueError, match="scale"):
        explained(HuberRegressor(alpha=1e-9, epsilon=1.1, max_iter=1000), few, few[:, 0] ** 2)


@pytest.mark.parametrize("kind", [Lasso, ElasticNet])
@pytest.mark.parametrize("method", ["influence", "newton", "exact"])
def test_no_coefficient_left(kind, method):
    """A penalty above every correlation, and no intercept: nothing moves."""
    model = kind(alpha=100.0, fit_intercept=False)
    assert_array_equal(explained(model, method=method).transform(X[:3]), np.zeros((3, N)))


# -- columns of very different sizes --------------------------------------------------------
def contrast_changes(model, rows, y):
    """Linearised changes of all rows' outputs without each row, (n, n, K).

    In class contrasts, which the common shift of all classes is no part of, and scaled columns.
    """
    n, K, design = len(y), len(model.classes_), np.column_stack([rows, np.ones(len(y))])
    contrasts = np.linalg.svd(np.eye(K) - 1 / K)[0][:, : K - 1]
    proba = model.predict_proba(rows)
    inner = proba[:, :, None] * np.eye(K) - proba[:, :, None] * proba[:, None, :]
    inner = contrasts.T @ inner @ contrasts
    hessian = np.einsum("nab,ni,nj->aibj", inner, design, design)
    hessian = hessian.reshape(2 * [design.shape[1] * (K - 1)])
    hessian += np.diag(np.tile(np.append(np.ones(rows.shape[1]), 0.0), K - 1))  # C = 1
    slopes = (proba - np.eye(K)[y]) @ contrasts
    gradients = (slopes[:, :, None] * design[:, None, :]).reshape(n, -1)
    scale = 1 / np.sqrt(np.diag(hessian))
    moves = scale * np.linalg.solve(hessian * scale[:, None] * scale, (gradients * scale).T).T
    return np.einsum("qj,naj,ka->qnk", design, moves.reshape(n, K - 1, -1), contrasts)


@pytest.mark.filterwarnings("ignore")  # of fits and Hessians that such columns are hard for
@pytest.mark.parametrize("size", [1.0, 1e4, 1e7])
def test_multinomial_columns_of_any_size(size):
    rows = X * [1.0, 1.0, size]
    explainer = explained(LogisticRegression(tol=1e-8), rows, MANY, "influence")
    model, objective = explainer.estimator_, explainer.objective_
    parameters = objective.theta.reshape(3, -1)  # of the optimum itself
    model.coef_, model.intercept_ = parameters[:, :-1], parameters[:, -1]
    expected = contrast_changes(model, rows, MANY)
    found = explainer.effects_.parameters(np.arange(N)).reshape(N, 3, -1)
    found = np.einsum("qj,nkj->qnk", np.column_stack([rows, np.ones(N)]), found)
    found -= found.mean(axis=2, keepdims=True)
    assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())


@pytest.mark.filterwarnings("ignore")  # of scikit-learn's own fits to such columns
@pytest.mark.parametrize(
    ("model", "y"),
    [
        (LogisticRegression(tol=1e-10, solver="newton-cholesky"), BINARY),
        (PoissonRegressor(alpha=0.1, tol=1e-10, solver="newton-cholesky"), COUNTS),
    ],
    ids=["logistic", "Poisson"],
)
def test_exact_bears_large_columns(model, y):
    """At such sizes the penalty of a column counts for nothing: its unit does not matter."""
    large, larger = (
        explained(model, X * [1.0, 1.0, size], y).transform(X[:4] * [1.0, 1.0, size])
        for size in (1e5, 1e9)
    )
    assert_allclose(larger, large, atol=1e-8)


def test_balanced_classes_in_nearly_dependent_columns():
    """Rows of the last digits each settle at another step of the refinement."""
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((1500, 12))
    rows[:, 1:] = rows[:, :1] + 1e-2 * rows[:, 1:]
    y = (rows[:, 0] + generator.standard_normal(1500) > 1).astype(int)
    model = LogisticRegression(C=1e4, class_weight="balanced", tol=1e-10, max_iter=5000)
    newton = explained(model.set_params(solver="newton-cholesky"), rows, y, "newton")
    exact = explained(model, rows, y, "exact")
    some = [0, 3, 7]
    assert_allclose(
        newton.parameter_influence(some), exact.parameter_influence(some), rtol=0.2, atol=1e-3
    )


@pytest.mark.parametrize("solver", ["identity", "diagonal", "datainf", "lanczos", "nystrom"])
def test_rough_solvers_take_first_order_behind_a_pipeline(solver):
    model = make_pipeline(StandardScaler(), Ridge())
    explainer = explained(model, method="auto", solver=solver)
    assert isinstance(explainer.method_, Influence)
    assert np.isfinite(explainer.transform(X[:2])).all()


# -- support vectors --------------------------------------------------------------------------
@pytest.mark.parametrize("model", [SVC(gamma=0.3, tol=1e-10), SVR(gamma=0.3, tol=1e-10)], ids=str)
def test_support_vectors_are_found_past_rows_of_weight_zero(model):
    """libsvm numbers the rows of positive weight only; no ConvergenceWarning is raised here."""
    y = BINARY if isinstance(model, SVC) else VALUES
    weights = np.where(np.arange(N) % 4 == 1, 0.0, 1.0)
    explainer = explained(model, y=y, weights=weights)
    assert explainer.objective_.gradient_norm_fitted < 1e-5
    kept = weights > 0
    assert_allclose(
        explainer.transform(X[:5])[:, kept],
        explained(model, X[kept], y[kept]).transform(X[:5]),
        atol=1e-6,
    )


def test_a_fit_that_libsvm_got_wrong_is_warned_of():
    """Weights of zero and a kernel given as a matrix: scikit-learn mixes up the columns."""

    def kernel(A, B):
        return np.exp(-0.3 * np.abs(A[:, None] - B[None]).sum(axis=2))

    weights = np.where(np.arange(N) % 4 == 1, 0.0, 1.0)
    with pytest.warns(UserWarning, match="kernel='precomputed' or a callable leave rows"):
        explained(SVC(kernel=kernel), y=BINARY, weights=weights)


def test_rows_that_bound_an_intercept_without_free_vectors():
    """No row reaches the tube: the middle of the intercepts allowed moves with the extreme rows."""
    y = np.random.default_rng(3).uniform(-1, 1, N)
    model = SVR(gamma=0.3, epsilon=3.0)
    explainer = explained(model, X, y)
    assert isinstance(explainer.objective_, KernelMachine) and explainer.objective_.n_free == 0
    ours = explainer.transform(X[:1])[0]
    base = model.fit(X, y).predict(X[:1])
    for i in (int(y.argmin()), int(y.argmax()), 5):
        keep = np.arange(N) != i
        assert_allclose(ours[i], (model.fit(X[keep], y[keep]).predict(X[:1]) - base)[0], atol=1e-9)
    assert (np.abs(ours) > 1e-12).sum() == 2


# -- estimators that write into their rows ----------------------------------------------------
@pytest.mark.parametrize(
    ("writes", "reads", "weighted"),
    [
        (Ridge(copy_X=False), Ridge(), True),
        (LinearRegression(copy_X=False), LinearRegression(), True),
        (Lasso(0.1, copy_X=False, tol=1e-12), Lasso(0.1, tol=1e-12), True),
        (RidgeClassifier(copy_X=False), RidgeClassifier(), True),
        (
            make_pipeline(StandardScaler(copy=False), Ridge(copy_X=False)),
            make_pipeline(StandardScaler(), Ridge()),
            False,
        ),
        # without an intercept it scales rows by their weights in place, whatever copy_X says
        (
            LassoCV(alphas=[0.1], cv=2, fit_intercept=False, tol=1e-12),
            Lasso(0.1, fit_intercept=False, tol=1e-12),
            True,
        ),
    ],
    ids=str,
)
def test_rows_stay_as_they_are(writes, reads, weighted):
    rows = np.asfortranarray(X + 3)
    y = BINARY if isinstance(reads, RidgeClassifier) else VALUES
    weights = WEIGHTS if weighted else None
    given, queries = rows.copy("F"), rows[:4].copy("F")
    ours = explained(writes, given, y, weights=weights).transform(queries)
    assert_array_equal(given, rows)
    assert_array_equal(queries, rows[:4])
    expected = explained(reads, np.array(rows), y, weights=weights).transform(rows[:4])
    assert_allclose(ours, expected, rtol=1e-6, atol=1e-9)
    given = rows.copy("F")
    if not isinstance(writes, LassoCV):
        assert_allclose(
            cross_val_predict(writes, given, y, cv=4), cross_val_predict(reads, rows, y, cv=4)
        )
        assert_array_equal(given, rows)
    if isinstance(reads, Ridge):
        InfinitesimalJackknife(writes).fit(given, y)
        assert_array_equal(given, rows)


WRITER = StandardScaler(copy=False)


@pytest.mark.filterwarnings("ignore:the target transformer StandardScaler is kept")
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(WRITER, Ridge()),
        make_pipeline(make_column_transformer((WRITER, [0, 1, 2])), Ridge()),
        make_pipeline(make_pipeline(WRITER, MaxAbsScaler(copy=False)), Ridge()),
        make_pipeline(FrozenEstimator(clone(WRITER).fit(X.copy())), Ridge()),
        TransformedTargetRegressor(make_pipeline(WRITER, Ridge()), transformer=WRITER),
    ],
    ids=["step", "columns", "inner pipeline", "frozen step", "target"],
)
def test_steps_do_not_write_into_rows(model, frozen):
    if frozen:
        model = FrozenEstimator(clone(model).fit(X.copy(), VALUES.copy()))
    rows, targets, queries, values = X.copy(), VALUES.copy(), X[:4].copy(), VALUES[:4].copy()
    explainer = InfluenceExplainer(model, preprocessing="frozen").fit(rows, targets)
    ours = explainer.transform(queries, values)
    assert_array_equal(explainer.transform(queries, values), ours)
    for used, was in ((rows, X), (targets, VALUES), (queries, X[:4]), (values, VALUES[:4])):
        assert_array_equal(used, was)


def test_frozen_steps_that_write_compute_the_same():
    fitted = make_pipeline(StandardScaler(copy=False), Ridge()).fit(X.copy(), VALUES)
    ours = explained(FrozenEstimator(fitted), X.copy()).transform(X[:4].copy())
    assert_allclose(ours, explained(make_pipeline(StandardScaler(), Ridge())).transform(X[:4]))


# -- what is held, and what is not known ------------------------------------------------------
@pytest.mark.parametrize(
    ("model", "y", "match"),
    [
        (SVC(), BINARY, "gamma='scale' is held at"),
        (SVR(), VALUES, "gamma='scale' is held at"),
        (GaussianProcessRegressor(RBF(), alpha=0.1), VALUES, "the kernel is held at RBF"),
        (RidgeCV([0.1, 1.0]), VALUES, "alpha is held at .*, which RidgeCV chose"),
        (LassoCV(alphas=[0.1, 0.2], cv=2), VALUES, "alpha is held at .*, which LassoCV chose"),
    ],
    ids=str,
)
def test_what_a_fit_read_off_its_rows_is_named(model, y, match):
    with pytest.warns(UserWarning, match=match):
        explained(model, y=y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explained(model, y=y, method="refit")  # chooses again
    if isinstance(model, SVC):
        with pytest.warns(UserWarning, match=match):
            cross_val_predict(model, X, y, cv=3)


@pytest.mark.parametrize("solver", ["identity", "diagonal", "datainf", "lanczos", "nystrom"])
def test_newton_needs_an_inverse(solver):
    with pytest.raises(ValueError, match="solver .* knows only roughly; use solver='direct'"):
        explained(Ridge(), method="newton", solver=solver)
    assert isinstance(explained(Ridge(), method="auto", solver=solver).method_, Influence)


def test_conjugate_gradients_are_tight_for_convex_models():
    for method in ("influence", "newton"):
        direct, cg = (
            explained(Ridge(), method=method, solver=solver).transform(X[:5])
            for solver in ("direct", "cg")
        )
        assert_allclose(cg, direct, atol=1e-7 * np.abs(direct).max())


@pytest.mark.parametrize("y", [BINARY, MANY], ids=["binary", "several classes"])
def test_balanced_ridge_is_the_derivative_of_repeating_a_row(y):
    """The balance counts rows, not weights: a fraction of a row counts as that fraction."""
    K = len(np.unique(y))
    ours = explained(RidgeClassifier(class_weight="balanced"), y=y, method="influence")
    ours = ours.transform(X, None if K == 2 else y)

    def repeated(i, times):
        copies = np.ones(N)
        copies[i] = times
        balance = {k: copies.sum() / (K * copies[y == k].sum()) for k in range(K)}
        fit = RidgeClassifier(class_weight=balance).fit(X, y, copies)
        values = fit.decision_function(X)
        return values if K == 2 else values[np.arange(N), y]

    for i in (0, 7):
        slope = (repeated(i, 1 - 1e-5) - repeated(i, 1 + 1e-5)) / 2e-5
        assert_allclose(ours[:, i], slope, atol=1e-7 * np.abs(slope).max())


def test_a_class_whose_weights_are_all_zero_is_named():
    weights = np.where(MANY == 1, 0.0, 1.0)
    for model in (SVC(gamma=0.3), LogisticRegression()):
        with pytest.raises(ValueError, match="zero for every row of class 1: drop those rows"):
            explained(model, y=MANY, weights=weights)


def test_stores_and_several_targets_say_why_not():
    followed = make_pipeline(StandardScaler(), LogisticRegression())
    explainer = InfluenceExplainer(followed, method="influence").fit(X, BINARY)
    with pytest.raises(TypeError, match="preprocessing='frozen'"):
        GradientStore().fit(explainer)
    frozen = clone(explainer).set_params(preprocessing="frozen").fit(X, BINARY)
    plain = frozen.transform(X[:3], BINARY[:3])
    stored = GradientStore().fit(frozen).transform(X[:3], BINARY[:3])
    assert_allclose(stored, plain, atol=1e-5 * np.abs(plain).max())
    both = MultiOutputClassifier(LogisticRegression())
    with pytest.raises(ValueError, match="different numbers of classes: predict one target"):
        cross_val_predict(both, X, np.column_stack([BINARY, MANY]), cv=3, method="predict_proba")


# -- tables -------------------------------------------------------------------------------------
def test_a_series_in_another_order_is_refused():
    index = np.random.default_rng(0).permutation(N) + 100
    frame = pd.DataFrame(X, columns=list("abc"), index=index)
    backwards = {"index": index[::-1]}
    with pytest.raises(ValueError, match="y has the index of X in another order"):
        InfluenceExplainer(Ridge()).fit(frame, pd.Series(VALUES, **backwards))
    with pytest.raises(ValueError, match="sample_weight has the index of X in another order"):
        InfluenceExplainer(Ridge()).fit(frame, VALUES, pd.Series(WEIGHTS, **backwards))
    explainer = InfluenceExplainer(Ridge()).fit(frame, pd.Series(VALUES, index=index))
    with pytest.raises(ValueError, match="y has the index of X in another order"):
        explainer.transform(frame, pd.Series(VALUES, **backwards))
    with pytest.raises(ValueError, match="groups has the index of X in another order"):
        explainer.group_influence(pd.Series(np.arange(N) % 3, **backwards), frame)
    # another index altogether goes by position, as everywhere in scikit-learn
    other = explainer.group_influence(pd.Series(np.arange(N) % 3), frame)
    assert_array_equal(other, explainer.group_influence(np.arange(N) % 3, frame))


@pytest.mark.parametrize("kind", ["category", "object", "string", "bool", "Int64", "boolean"])
def test_labels_of_every_dtype(kind):
    words = np.array(["no", "yes"])[BINARY]
    y = pd.Series(words if kind in ("category", "object", "string") else BINARY).astype(kind)
    ours = InfluenceExplainer(LogisticRegression()).fit(X, y).transform(X[:4], y[:4])
    plain = InfluenceExplainer(LogisticRegression()).fit(X, BINARY).transform(X[:4], BINARY[:4])
    assert_allclose(ours, plain, rtol=1e-12)


BAD = {"nan": np.nan, "inf": np.inf}


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("steps", ["none", "followed", "frozen"])
def test_queries_that_are_not_finite_are_refused(steps, value):
    model = LogisticRegression()
    model = model if steps == "none" else make_pipeline(StandardScaler(), model)
    preprocessing = "frozen" if steps == "frozen" else "auto"
    explainer = InfluenceExplainer(model, preprocessing=preprocessing).fit(X, BINARY)
    bad, y = X[:3].copy(), BINARY[:3]
    bad[1, 1] = BAD[value]
    calls = [
        lambda q: explainer.transform(q, y),
        lambda q: explainer.top_influences(q, y, k=2),
        lambda q: explainer.dataset_influence(q, y),
        lambda q: explainer.group_influence([[0, 1]], q, y),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            call(bad)
        with pytest.raises(ValueError, match=r"no row|0 sample"):
            call(X[:0])


def test_processes_do_not_change_the_numbers():
    for run in (
        lambda n: explained(Ridge(), method="refit", n_jobs=n).transform(X[:3]),
        lambda n: cross_val_score(
            Ridge(), X, VALUES, cv=3, n_jobs=n, params={"sample_weight": WEIGHTS}
        ),
    ):
        assert_array_equal(run(2), run(None))
