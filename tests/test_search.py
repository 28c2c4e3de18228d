"""InfluenceSearchCV against GridSearchCV."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, make_scorer
from sklearn.model_selection import GridSearchCV, LeaveOneOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler, scale
from sklearn.utils.estimator_checks import parametrize_with_checks

from skinfluence.model_selection import InfluenceSearchCV
from skinfluence.model_selection._refine import leave_one_out_loss
from skinfluence.objectives import objective_for
from skinfluence.solvers import Direct

X, Y = (part[:70] for part in load_diabetes(return_X_y=True))
X = X * 20
LABELS = (Y > np.median(Y)).astype(int)
IRIS, THREE = load_iris(return_X_y=True)
IRIS, THREE = scale(IRIS)[::2], THREE[::2]
MODEL = LogisticRegression(tol=1e-10, max_iter=1000, solver="newton-cholesky")
GRID = {"C": [0.001, 0.03, 1.0, 30.0]}
DATA = {
    "breast cancer": [part[::8] for part in load_breast_cancer(return_X_y=True)],
    "diabetes": [X, LABELS],
    "iris": [IRIS, THREE],
    "wine": [part[::2] for part in load_wine(return_X_y=True)],
    "setosa or not": [IRIS[:, :1], (THREE == 1).astype(int)],
}


def log_score(y):
    return make_scorer(
        log_loss,
        labels=np.unique(y),
        greater_is_better=False,
        response_method="predict_proba",
    )


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@parametrize_with_checks(
    [InfluenceSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2, error_score="raise")]
)
def test_scikit_learn_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("X, y", DATA.values(), ids=DATA.keys())
def test_picks_what_a_grid_search_picks(X, y):
    X, scoring = scale(X), log_score(y)
    theirs = GridSearchCV(MODEL, GRID, scoring=scoring, cv=LeaveOneOut()).fit(X, y)
    for approximation in ("newton", "auto", "exact"):
        ours = InfluenceSearchCV(MODEL, GRID, scoring=scoring, approximation=approximation)
        assert ours.fit(X, y).best_params_ == theirs.best_params_
    assert set(ours.cv_results_) == set(theirs.cv_results_)
    assert_allclose(ours.best_score_, theirs.best_score_, rtol=1e-6)
    for key in ("mean_test_score", "std_test_score", "split7_test_score"):
        assert_allclose(ours.cv_results_[key], theirs.cv_results_[key], rtol=1e-5, atol=1e-7)
    assert_array_equal(ours.cv_results_["rank_test_score"], theirs.cv_results_["rank_test_score"])
    assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("scoring", [None, ["accuracy", "neg_log_loss"]], ids=["one", "several"])
def test_folds_and_train_scores(scoring):
    options = {
        "cv": 4,
        "scoring": scoring,
        "refit": True if scoring is None else "neg_log_loss",
        "return_train_score": True,
    }
    grid = {**GRID, "class_weight": [None, "balanced"]}
    ours = InfluenceSearchCV(MODEL, grid, **options).fit(X, LABELS)
    theirs = GridSearchCV(MODEL, grid, **options).fit(X, LABELS)
    assert ours.best_params_ == theirs.best_params_
    assert set(ours.cv_results_) == set(theirs.cv_results_)
    for key in ours.cv_results_:
        if "_test_" in key or "_train_" in key:
            assert_allclose(ours.cv_results_[key], theirs.cv_results_[key], rtol=1e-6, atol=1e-9)


def test_pipeline_and_weights():
    pipeline = make_pipeline(StandardScaler(), MODEL)
    grid = {"logisticregression__" + name: values for name, values in GRID.items()}
    weights = {"logisticregression__sample_weight": np.linspace(0.5, 2, 70)}
    ours = InfluenceSearchCV(pipeline, grid, cv=4, preprocessing="frozen")
    theirs = GridSearchCV(make_pipeline(FunctionTransformer(), MODEL), grid, cv=4)
    ours.fit(X, LABELS, **weights)
    theirs.fit(scale(X), LABELS, **weights)
    assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-9
    )


@pytest.mark.parametrize("name", ["binary", "multinomial", "ridge"])
def test_slope_of_the_leave_one_out_loss(name):
    """Against central differences of the loss, to their own accuracy."""
    rows, y = {"binary": (X, LABELS), "multinomial": (IRIS, THREE), "ridge": (X, Y)}[name]

    def at(log_penalty):
        model = Ridge(np.exp(log_penalty))
        if name != "ridge":
            model = LogisticRegression(
                C=np.exp(-log_penalty), tol=1e-12, max_iter=1000, solver="newton-cholesky"
            )
        objective = objective_for(model.fit(rows, y), rows, y)
        return leave_one_out_loss(objective, Direct().fit(objective))

    h = 1e-4
    slope = (at(0.3 + h)[0] - at(0.3 - h)[0]) / (2 * h)
    assert at(0.3)[1] == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("kind", ["C", "alpha"])
def test_refine_finds_the_best_penalty_between_the_grid_points(kind):
    """Better than the grid, and than a fine grid around what it found."""
    if kind == "C":
        model, grid, y, scoring = MODEL, GRID, LABELS, log_score(LABELS)
    else:
        model, grid, y = Ridge(), {"alpha": [0.1, 10.0, 1000.0]}, Y
        scoring = "neg_mean_squared_error"
    search = InfluenceSearchCV(model, grid, scoring=scoring, refine=kind, approximation="newton")
    search.fit(X, y)
    assert len(search.cv_results_["params"]) == len(grid[kind]) + 1
    assert search.best_index_ == len(grid[kind])
    found = search.best_params_[kind]
    around = InfluenceSearchCV(
        model, {kind: found * np.array([0.9, 1.0, 1.1])}, scoring=scoring, approximation="newton"
    ).fit(X, y)
    assert around.best_index_ == 1
    assert getattr(search.best_estimator_, kind) == found


def test_one_standard_error_rule():
    scoring, grid = log_score(LABELS), {"C": np.logspace(-4, 2, 13)}
    search = InfluenceSearchCV(MODEL, grid, scoring=scoring, one_standard_error=True)
    search.fit(X, LABELS)
    mean, std = (search.cv_results_[f"{what}_test_score"] for what in ("mean", "std"))
    close = mean >= mean.max() - std[mean.argmax()] / np.sqrt(70)
    assert search.best_params_["C"] == grid["C"][close].min() < grid["C"][mean.argmax()]
    with pytest.raises(ValueError, match="one penalty"):
        InfluenceSearchCV(MODEL, {"fit_intercept": [True]}, one_standard_error=True).fit(X, LABELS)


def test_refusals_and_failures():
    with pytest.raises(ValueError, match="needs a score with a derivative"):
        InfluenceSearchCV(MODEL, GRID, refine="C").fit(X, LABELS)
    with pytest.raises(ValueError, match="needs leave-one-out"):
        InfluenceSearchCV(MODEL, GRID, refine="C", cv=3).fit(X, LABELS)
    with pytest.raises(ValueError, match="every candidate failed"):
        InfluenceSearchCV(MODEL, {"C": [-1.0]}, cv=3).fit(X, LABELS)
    with (
        pytest.warns(UserWarning, match="non-finite"),
        pytest.warns(FitFailedWarning, match="1 of 2 candidates failed"),
    ):
        search = InfluenceSearchCV(MODEL, {"C": [1.0, -1.0]}, cv=3, scoring="accuracy")
        search.fit(X, LABELS)
    assert np.isnan(search.cv_results_["mean_test_score"][1])
    assert search.best_params_ == {"C": 1.0}


def test_weights():
    """Single rows score the same with weights; folds need routing to weight their scores."""
    weight = np.linspace(0.5, 2, 70)
    ours = InfluenceSearchCV(MODEL, GRID, approximation="exact")
    ours.fit(X, LABELS, sample_weight=weight)
    theirs = GridSearchCV(MODEL, GRID, cv=LeaveOneOut()).fit(X, LABELS, sample_weight=weight)
    assert_allclose(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])
    with pytest.raises(ValueError, match="metadata routing"):
        InfluenceSearchCV(MODEL, GRID, cv=3).fit(X, LABELS, sample_weight=weight)
    with config_context(enable_metadata_routing=True):
        model = clone(MODEL).set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=True)
        ours = InfluenceSearchCV(model, GRID, cv=3).fit(X, LABELS, sample_weight=weight)
        theirs = GridSearchCV(model, GRID, cv=3).fit(X, LABELS, sample_weight=weight)
    assert_allclose(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])


def test_refit_falls_to_scikit_learn():
    ours = InfluenceSearchCV(MODEL, GRID, cv=3, approximation="refit").fit(X, LABELS)
    theirs = GridSearchCV(MODEL, GRID, cv=3).fit(X, LABELS)
    assert_array_equal(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])
