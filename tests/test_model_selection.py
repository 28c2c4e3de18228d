"""Cross-validation from one fit against scikit-learn's own, call for call."""

import warnings

import numpy as np
import pytest
import sklearn.model_selection as reference
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.datasets import load_diabetes, load_iris, make_classification
from sklearn.exceptions import FitFailedWarning
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import (
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    RidgeCV,
)
from sklearn.metrics import log_loss, make_scorer
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from skinfluence.model_selection import cross_val_predict, cross_val_score, cross_validate

X, TWO = make_classification(90, 6, n_informative=4, random_state=0)
IRIS, THREE = load_iris(return_X_y=True)
IRIS, THREE = IRIS[::2] - IRIS.mean(axis=0), np.array(["c", "a", "b"])[load_iris().target[::2]]
DIABETES, TARGET = (part[:80] for part in load_diabetes(return_X_y=True))
DIABETES = DIABETES * 20
GROUPS = np.arange(90) % 9
FITTED = np.linspace(0.5, 2, 90)

CVS = {
    "kfold": 5,
    "shuffled": reference.KFold(4, shuffle=True, random_state=0),
    "stratified": reference.StratifiedKFold(3),
    "loo": reference.LeaveOneOut(),
    "predefined": reference.PredefinedSplit(np.arange(90) % 4),
}


def logistic(**options):
    return LogisticRegression(tol=1e-12, max_iter=1000, solver="newton-cholesky", **options)


class TakesOffset(LogisticRegression):
    def fit(self, X, y, sample_weight=None, offset=None):
        return super().fit(X, y, sample_weight)


def both(function, *args, **kwargs):
    """Our answer and scikit-learn's."""
    return function(*args, **kwargs), getattr(reference, function.__name__)(*args, **kwargs)


@pytest.mark.parametrize("cv", CVS.values(), ids=CVS.keys())
@pytest.mark.parametrize("balanced", [None, "balanced"], ids=["plain", "balanced"])
def test_probabilities_are_those_of_refits(cv, balanced):
    """To 1e-7 in probability, balanced class weights counted again in every fold."""
    model = logistic(class_weight=balanced)
    ours, theirs = both(cross_val_predict, model, X, TWO, cv=cv, method="predict_proba")
    assert_allclose(ours, theirs, atol=1e-7)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba"])
@pytest.mark.parametrize("cv", [3, reference.LeaveOneOut()], ids=["kfold", "loo"])
def test_multinomial(method, cv):
    cv = reference.StratifiedKFold(3) if cv == 3 else cv
    ours, theirs = both(cross_val_predict, logistic(), IRIS, THREE, cv=cv, method=method)
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    if method == "predict":
        assert_array_equal(ours, theirs)
    else:
        assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


REGRESSORS = {
    "ols": LinearRegression(),
    "ridge": Ridge(3.0),
    "no intercept": Ridge(1.0, fit_intercept=False),
}


@pytest.mark.parametrize("model", REGRESSORS.values(), ids=REGRESSORS.keys())
@pytest.mark.parametrize("cv", [4, reference.LeaveOneOut()], ids=["kfold", "loo"])
@pytest.mark.parametrize("approximation", ["auto", "newton"])
def test_squared_loss_is_exact(model, cv, approximation):
    ours = cross_val_predict(model, DIABETES, TARGET, cv=cv, approximation=approximation)
    theirs = reference.cross_val_predict(model, DIABETES, TARGET, cv=cv)
    assert_allclose(ours, theirs, rtol=1e-8)


def test_ridge_leave_one_out_equals_the_stored_values_of_ridge_cv():
    alphas = [0.1, 1.0, 30.0]
    stored = RidgeCV(alphas, store_cv_results=True, scoring=None).fit(DIABETES, TARGET)
    for alpha, errors in zip(alphas, stored.cv_results_.T, strict=True):
        left_out = cross_val_predict(Ridge(alpha), DIABETES, TARGET)
        assert_allclose((TARGET - left_out) ** 2, errors, rtol=1e-10, atol=1e-10)


def test_least_squares_gives_press():
    model = LinearRegression().fit(DIABETES, TARGET)
    A = np.column_stack([DIABETES, np.ones(len(DIABETES))])
    leverage = np.einsum("ij,ji->i", A, np.linalg.pinv(A))
    press = (TARGET - model.predict(DIABETES)) / (1 - leverage)
    assert_allclose(TARGET - cross_val_predict(model, DIABETES, TARGET), press, rtol=1e-10)


def test_several_outputs_and_column_targets():
    Y = np.column_stack([TARGET, DIABETES[:, 0] + np.sin(TARGET)])
    for model in (Ridge(1.0), Ridge([1.0, 5.0])):
        ours, theirs = both(cross_val_predict, model, DIABETES, Y, cv=4)
        assert ours.shape == theirs.shape
        assert_allclose(ours, theirs, rtol=1e-8)
    ours, theirs = both(cross_val_predict, Ridge(), DIABETES, TARGET[:, None], cv=4)
    assert ours.shape == theirs.shape
    assert_allclose(ours, theirs, rtol=1e-8)


@pytest.mark.parametrize("y", [TWO, THREE], ids=["binary", "many"])
def test_other_classifiers(y):
    rows = X if len(y) == len(X) else IRIS
    for model in (RidgeClassifier(), OneVsRestClassifier(logistic())):
        cv = reference.StratifiedKFold(4)
        for method in ("predict", "decision_function"):
            ours, theirs = both(cross_val_predict, model, rows, y, cv=cv, method=method)
            assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
            if method == "predict":
                assert_array_equal(ours, theirs)
            else:
                assert_allclose(ours, theirs, atol=1e-7)


def test_sparse_and_float32_rows():
    wide = sparse.random_array((60, 200), density=0.1, rng=np.random.default_rng(0)).tocsr()
    y = np.arange(60) % 2
    ours, theirs = both(cross_val_predict, logistic(), wide, y, cv=5, method="predict_proba")
    assert_allclose(ours, theirs, atol=1e-7)
    single = X.astype(np.float32)
    ours = cross_val_predict(LogisticRegression(), single, TWO, cv=5, method="predict_proba")
    theirs = reference.cross_val_predict(
        logistic(), single.astype(float), TWO, cv=5, method="predict_proba"
    )
    assert ours.dtype == np.float32
    assert_allclose(ours, theirs, atol=1e-5)


def test_sample_weights_follow_the_rows():
    params = {"sample_weight": FITTED}
    ours, theirs = both(
        cross_val_predict, logistic(), X, TWO, cv=5, method="predict_proba", params=params
    )
    assert_allclose(ours, theirs, atol=1e-7)
    ours, theirs = both(cross_validate, logistic(), X, TWO, cv=5, params=params)
    assert_allclose(ours["test_score"], theirs["test_score"])


SCORINGS = {
    "default": None,
    "name": "roc_auc",
    "several": ["accuracy", "neg_log_loss"],
    "dict": {"a": "f1", "b": "neg_brier_score"},
    "callable": lambda estimator, X, y: {"right": (estimator.predict(X) == y).mean()},
}
SPLITTERS = {
    "kfold": reference.StratifiedKFold(4),
    "grouped": reference.GroupKFold(3),
    "repeated": reference.RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0),
    "shuffle": reference.ShuffleSplit(4, test_size=0.3, random_state=0),  # rows never tested
    "leave groups out": reference.LeavePGroupsOut(2),
    "iterable": [(np.arange(60), np.arange(60, 90)), (np.arange(30, 90), np.arange(10))],
    "bootstrap": [(np.r_[np.arange(80), np.arange(5)], np.arange(80, 90))],
}


@pytest.mark.parametrize("scoring", SCORINGS.values(), ids=SCORINGS.keys())
@pytest.mark.parametrize("train", [False, True], ids=["test", "train"])
def test_scores_of_every_kind(scoring, train):
    ours, theirs = both(
        cross_validate, logistic(), X, TWO, cv=4, scoring=scoring, return_train_score=train
    )
    assert list(ours) == list(theirs)
    for key in set(ours) - {"fit_time", "score_time"}:
        assert_allclose(ours[key], theirs[key], rtol=1e-7)


@pytest.mark.parametrize("cv", SPLITTERS.values(), ids=SPLITTERS.keys())
def test_every_splitter(cv):
    groups = GROUPS if "group" in type(cv).__name__.lower() else None
    ours, theirs = both(
        cross_val_score, logistic(), X, TWO, cv=cv, groups=groups, scoring="neg_log_loss"
    )
    assert_allclose(ours, theirs, rtol=1e-7)


def test_leave_p_out_and_time_series():
    for cv in (reference.LeavePOut(2), reference.TimeSeriesSplit(4)):
        ours, theirs = both(
            cross_val_score, Ridge(), DIABETES[:14], TARGET[:14], cv=cv, scoring="neg_max_error"
        )
        assert_allclose(ours, theirs, rtol=1e-8)


def test_leave_one_out_scores_come_at_once_and_are_those_of_single_calls():
    scorers = {
        "accuracy": "accuracy",
        "loss": make_scorer(
            log_loss, labels=[0, 1], greater_is_better=False, response_method="predict_proba"
        ),
    }
    ours, theirs = both(
        cross_validate, logistic(), X, TWO, cv=reference.LeaveOneOut(), scoring=scorers
    )
    for name in ("test_accuracy", "test_loss"):
        assert_allclose(ours[name], theirs[name], atol=1e-7)
    for name in ("neg_mean_squared_error", "neg_mean_absolute_error"):
        ours, theirs = both(
            cross_val_score, Ridge(), DIABETES, TARGET, cv=reference.LeaveOneOut(), scoring=name
        )
        assert_allclose(ours, theirs, rtol=1e-8)


def test_none_means_leave_one_out():
    ours = cross_val_predict(logistic(), X, TWO, method="decision_function")
    theirs = reference.cross_val_predict(
        logistic(), X, TWO, cv=reference.LeaveOneOut(), method="decision_function"
    )
    assert_allclose(ours, theirs, atol=1e-7)


def test_r2_of_single_rows_is_undefined_as_in_scikit_learn():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = cross_val_score(Ridge(), DIABETES[:10], TARGET[:10])
    assert np.isnan(scores).all()


def test_class_missing_from_a_training_fold():
    """Columns of zeros and a warning, as scikit-learn's, for the fold without the class."""
    cv = reference.KFold(3)  # iris is sorted: each fold is one class
    with pytest.warns(RuntimeWarning, match="Number of classes in training fold"):
        ours = cross_val_predict(logistic(), IRIS, THREE, cv=cv, method="predict_proba")
    with pytest.warns(RuntimeWarning):
        theirs = reference.cross_val_predict(logistic(), IRIS, THREE, cv=cv, method="predict_proba")
    assert_allclose(ours, theirs, atol=1e-7)


def test_failing_folds_score_error_score():
    y = np.r_[np.zeros(30), np.ones(60)].astype(int)
    cv = [(np.arange(60), np.arange(60, 90)), (np.arange(40, 90), np.arange(40))]
    with pytest.warns(FitFailedWarning, match="1 fits failed"):
        ours = cross_val_score(logistic(), X, y, cv=cv, error_score=-7)
    with pytest.warns(FitFailedWarning, match="1 fits failed"):
        theirs = reference.cross_val_score(logistic(), X, y, cv=cv, error_score=-7)
    assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="at least 2 classes|one class"):
        cross_val_score(logistic(), X, y, cv=cv, error_score="raise")


def test_folds_are_tried_where_the_one_fit_fails():
    """A value that no fit takes: errors and scores are scikit-learn's."""
    rows = X.copy()
    rows[3, 1] = np.nan
    with pytest.warns(FitFailedWarning), pytest.warns(UserWarning, match="Scoring failed"):
        ours = cross_val_score(logistic(), rows, TWO, cv=3)
    assert np.isnan(ours).all()
    with pytest.raises(ValueError, match="Input X contains NaN"):
        cross_val_score(logistic(), rows, TWO, cv=3, error_score="raise")
    with pytest.raises(ValueError, match="Input X contains NaN"):
        cross_val_predict(logistic(), rows, TWO, cv=3, approximation="newton")


def test_the_one_fit_may_stop_early():
    """Whatever the solver's tolerance, the answer is that of the optimum, and nothing warns."""
    options = {"cv": 4, "method": "predict_proba"}
    theirs = reference.cross_val_predict(logistic(), X, TWO, **options)
    for solver in ("lbfgs", "newton-cg", "saga"):
        model = LogisticRegression(solver=solver, max_iter=3, random_state=0)
        assert_allclose(cross_val_predict(model, X, TWO, **options), theirs, atol=1e-8)


def test_failing_scorers_score_error_score():
    def fails(estimator, X, y):
        raise ValueError("no")

    with pytest.warns(UserWarning, match="Scoring failed"):
        scores = cross_val_score(logistic(), X, TWO, cv=3, scoring=fails)
    assert np.isnan(scores).all()


def test_not_a_partition():
    with pytest.raises(ValueError, match="only works for partitions"):
        cross_val_predict(Ridge(), DIABETES, TARGET, cv=reference.ShuffleSplit(3, random_state=0))


def test_fold_that_does_not_determine_the_parameters_is_fitted():
    rows = DIABETES[:14].copy()
    ours, theirs = both(cross_val_predict, LinearRegression(), rows, TARGET[:14], cv=2)
    assert_allclose(ours, theirs, rtol=1e-6)


def test_pipeline_steps_are_frozen():
    """Transformed rows are fixed: the same as cross-validating the last step on them."""
    pipeline = make_pipeline(StandardScaler(), logistic())
    scaled = StandardScaler().fit_transform(X)
    ours = cross_val_predict(pipeline, X, TWO, cv=4, method="predict_proba", preprocessing="frozen")
    theirs = reference.cross_val_predict(logistic(), scaled, TWO, cv=4, method="predict_proba")
    assert_allclose(ours, theirs, atol=1e-7)
    with pytest.raises(ValueError, match="preprocessing='all' is not one of"):
        cross_val_score(pipeline, X, TWO, cv=4, preprocessing="all")


def test_frozen_model_is_not_fitted_again():
    model = FrozenEstimator(logistic().fit(X, TWO))
    ours = cross_val_predict(model, X, TWO, cv=4, method="predict_proba")
    theirs = reference.cross_val_predict(logistic(), X, TWO, cv=4, method="predict_proba")
    assert_allclose(ours, theirs, atol=1e-7)


def test_chosen_parameters_are_held_with_a_warning():
    with pytest.warns(UserWarning, match="chose on all rows"):
        cross_val_predict(RidgeCV([1.0, 2.0]), DIABETES, TARGET, cv=4)


def test_refit_and_refusals():
    ours = cross_val_predict(KNeighborsClassifier(), X, TWO, cv=4, approximation="refit")
    assert_array_equal(ours, reference.cross_val_predict(KNeighborsClassifier(), X, TWO, cv=4))
    with pytest.raises(TypeError, match="DecisionTreeClassifier"):
        cross_val_predict(DecisionTreeClassifier(), X, TWO, cv=4)
    with pytest.raises(ValueError, match="approximation='jackknife' is not one of"):
        cross_val_score(logistic(), X, TWO, approximation="jackknife")
    with pytest.raises(ValueError, match=r"fit parameters \['offset'\]"):
        cross_val_predict(TakesOffset(), X, TWO, cv=3, params={"offset": FITTED})
    with pytest.raises(AttributeError):
        cross_val_predict(Ridge(), DIABETES, TARGET, method="predict_proba")


def test_returned_estimators_predict_as_refits():
    ours, theirs = both(
        cross_validate, logistic(), X, TWO, cv=3, return_estimator=True, return_indices=True
    )
    for mine, yours in zip(ours["estimator"], theirs["estimator"], strict=True):
        assert_allclose(mine.predict_proba(X), yours.predict_proba(X), atol=1e-7)
        assert_array_equal(mine.classes_, yours.classes_)
    for name in ("train", "test"):
        for mine, yours in zip(ours["indices"][name], theirs["indices"][name], strict=True):
            assert_array_equal(mine, yours)


def test_metadata_routing():
    model = logistic()
    with config_context(enable_metadata_routing=True):
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        params = {"sample_weight": FITTED, "groups": GROUPS}
        cv = reference.GroupKFold(3)
        for function in (cross_val_score, cross_val_predict):
            ours, theirs = both(function, model, X, TWO, cv=cv, params=params)
            assert_allclose(ours, theirs, rtol=1e-7)
        with pytest.raises(ValueError, match="groups"):
            cross_val_score(model, X, TWO, cv=cv, groups=GROUPS)


OTHERS = {
    "poisson": (PoissonRegressor(tol=1e-10, max_iter=500, solver="newton-cholesky"), TARGET),
    "huber": (HuberRegressor(tol=1e-10, max_iter=10_000), TARGET),
    "lasso": (Lasso(tol=1e-12, max_iter=100_000), TARGET),
    "linear svc": (LinearSVC(tol=1e-10, max_iter=1_000_000), (TARGET > 140).astype(int)),
    "svc": (SVC(gamma=0.1, tol=1e-8), (TARGET > 140).astype(int)),
    "svr": (SVR(gamma=0.1, tol=1e-8), TARGET),
    "kernel ridge": (KernelRidge(kernel="rbf", gamma=0.1), TARGET),
    "neighbors": (KNeighborsRegressor(), TARGET),
}


@pytest.mark.parametrize("model, y", OTHERS.values(), ids=OTHERS.keys())
@pytest.mark.parametrize("cv", [4, reference.LeaveOneOut()], ids=["kfold", "loo"])
def test_other_objectives(model, y, cv):
    """Penalties on the mean loss, a scale, L1 and squared hinge, to the solvers' tolerance."""
    method = "predict" if y is TARGET else "decision_function"
    ours, theirs = both(cross_val_predict, model, DIABETES, y, cv=cv, method=method)
    loose = isinstance(model, HuberRegressor)  # whose lbfgs takes no tolerance on the value
    assert_allclose(ours, theirs, rtol=2e-4 if loose else 2e-6, atol=1e-6)


@pytest.mark.parametrize("p", [6, 30])
def test_newton_is_closer_than_the_first_order(p):
    rng = np.random.default_rng(p)
    rows = rng.standard_normal((120, p))
    y = (rng.random(120) < 1 / (1 + np.exp(-rows @ rng.standard_normal(p) / np.sqrt(p)))) * 1

    def left_out(approximation):
        return cross_val_predict(
            logistic(), rows, y, method="decision_function", approximation=approximation
        )

    truth = left_out("refit")
    newton, first = (
        np.abs(left_out(a) - truth).max() for a in ("newton", "infinitesimal_jackknife")
    )
    assert newton < first / 2
    assert_allclose(left_out("exact"), truth, atol=1e-6)


def test_folds_of_one_approximation_agree_with_the_group_effects():
    """Five folds by one Newton step: the dense Newton step without the fold."""
    model = logistic().fit(X, TWO)
    ours = cross_val_predict(
        model, X, TWO, cv=5, method="decision_function", approximation="newton"
    )
    A = np.column_stack([X, np.ones(len(X))])
    theta = np.r_[model.coef_[0], model.intercept_]
    p = 1 / (1 + np.exp(-A @ theta))
    penalty = np.diag([1.0] * 6 + [0.0])
    for train, test in reference.StratifiedKFold(5).split(X, TWO):
        K = A[train]
        gradient = K.T @ (p - TWO)[train] + penalty @ theta
        step = np.linalg.solve((K.T * (p * (1 - p))[train]) @ K + penalty, gradient)
        assert_allclose(ours[test], A[test] @ (theta - step), rtol=1e-8)


@pytest.mark.parametrize("n_classes", [3, 4])
@pytest.mark.parametrize(
    "estimator",
    [
        SVC(gamma=0.3, tol=1e-9),
        SVC(gamma=0.3, tol=1e-9, break_ties=True),
        SVC(gamma=0.3, tol=1e-9, decision_function_shape="ovo"),
        OneVsOneClassifier(LogisticRegression(tol=1e-10, max_iter=1000)),
    ],
    ids=["votes", "break_ties", "ovo", "OneVsOneClassifier"],
)
def test_pairs_of_classes_answer_for_classes(estimator, n_classes):
    """Outputs are pairs of classes: their votes, not the largest of them, name the class."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(48, 3))
    order = np.argsort(np.argsort(X[:, 0] + 0.5 * rng.normal(size=48)))
    y = np.array(list("dbca"))[order * n_classes // 48]
    cv = reference.StratifiedKFold(3)
    for method in ("predict", "decision_function"):
        ours = cross_val_predict(estimator, X, y, cv=cv, method=method)
        theirs = reference.cross_val_predict(estimator, X, y, cv=cv, method=method)
        if method == "predict":
            assert_array_equal(ours, theirs)
        else:
            assert_allclose(ours, theirs, atol=1e-6)
    ours, theirs = (
        function(estimator, X, y, cv=reference.LeaveOneOut())["test_score"]
        for function in (cross_validate, reference.cross_validate)
    )
    assert_array_equal(ours, theirs)


@pytest.mark.parametrize("cv", [reference.KFold(4), reference.LeaveOneOut()], ids=["4", "loo"])
def test_several_labels_a_row_are_predicted_as_labels(cv):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    codes = np.digitize(X[:, :2] + rng.normal(size=(40, 2)), [-0.5, 0.5])
    y = np.array(["low", "middle", "high"])[codes]
    estimator = MultiOutputClassifier(LogisticRegression(tol=1e-8, max_iter=1000))
    for labels in (y, codes):
        ours, theirs = (
            function(estimator, X, labels, cv=cv)
            for function in (cross_val_predict, reference.cross_val_predict)
        )
        assert_array_equal(ours, theirs)
