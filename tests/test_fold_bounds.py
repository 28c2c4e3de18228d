"""Bounds on the error of test predictions against true refits: never violated."""

import numpy as np
import pytest
import sklearn.model_selection as reference
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, make_classification
from sklearn.linear_model import (
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
)
from sklearn.multiclass import OneVsRestClassifier

from skinfluence.model_selection import cross_validate

X, TWO = make_classification(90, 6, n_informative=4, random_state=0)
IRIS, THREE = load_iris(return_X_y=True)
IRIS, THREE = IRIS[::2] - IRIS.mean(axis=0), THREE[::2]
DIABETES, TARGET = (part[:80] for part in load_diabetes(return_X_y=True))
DIABETES = DIABETES * 20
COUNTS = np.random.default_rng(0).poisson(np.exp(DIABETES[:, 2]))


def logistic(**options):
    return LogisticRegression(tol=1e-13, max_iter=1000, solver="newton-cholesky", **options)


MODELS = {
    "binary": (logistic(), X, TWO),
    "balanced": (logistic(class_weight="balanced"), X, TWO),
    "unpenalised": (logistic(C=np.inf), X[:, :3], TWO),
    "liblinear": (LogisticRegression(solver="liblinear", tol=1e-13, max_iter=5000), X, TWO),
    "multinomial": (logistic(C=0.1), IRIS, THREE),
    "one vs rest": (OneVsRestClassifier(logistic(C=0.1)), IRIS, THREE),
    "sparse": (logistic(), sparse.csr_array(X * (np.abs(X) > 0.7)), TWO),
    "poisson": (PoissonRegressor(alpha=0.1, tol=1e-13, solver="newton-cholesky"), DIABETES, COUNTS),
    "ridge": (Ridge(2.0), DIABETES, TARGET),
    "ols": (LinearRegression(), DIABETES, TARGET),
}
CVS = {
    "loo": reference.LeaveOneOut(),
    "many": reference.KFold(25, shuffle=True, random_state=0),
    "few": reference.StratifiedKFold(3),
}


def outputs(model, rows):
    """The linear predictor, (n_rows, n_outputs)."""
    if hasattr(model, "decision_function"):
        Z = model.decision_function(rows)
    else:
        Z = model.predict(rows)
        Z = np.log(Z) if isinstance(model, PoissonRegressor) else Z
    return Z.reshape(len(Z), -1)


def refit_outputs(model, train, y, test):
    """Of the optimum, which liblinear's own solver stops short of: its bias is one more column."""
    if getattr(model, "solver", None) == "liblinear":
        model = logistic(fit_intercept=False)
        train, test = (np.column_stack([part, np.ones(len(part))]) for part in (train, test))
    return outputs(clone(model).fit(train, y), test)


def bounds_and_errors(model, rows, y, cv, approximation):
    """Error bounds and errors of the moved models, a split each."""
    out = cross_validate(
        model,
        rows,
        y,
        cv=cv,
        approximation=approximation,
        scoring=lambda *args: 0.0,
        return_estimator=True,
        return_indices=True,
        return_error_bound=True,
    )
    errors = []
    for k, moved in enumerate(out["estimator"]):
        train, test = (out["indices"][part][k] for part in ("train", "test"))
        truth = refit_outputs(model, rows[train], y[train], rows[test])
        error = moved.model.outputs(moved.model.queries(rows[test]), moved.move_) - truth
        errors.append(np.linalg.norm(error, axis=1).max())
    return out["error_bound"], np.array(errors)


@pytest.mark.parametrize("model, rows, y", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("cv", CVS.values(), ids=CVS.keys())
@pytest.mark.parametrize("approximation", ["auto", "newton", "infinitesimal_jackknife"])
def test_never_violated(model, rows, y, cv, approximation):
    """The refit itself is known to its solver's tolerance, 1e-9 of the outputs or less."""
    if cv is CVS["few"] and y is not TWO and y is not THREE:
        cv = reference.KFold(3)
    bounds, errors = bounds_and_errors(model, rows, y, cv, approximation)
    size = np.abs(outputs(clone(model).fit(rows, y), rows)).max()
    assert bounds.shape == errors.shape and (errors <= bounds + 1e-9 * size).all()
    if cv is CVS["loo"] and approximation == "auto":
        assert (bounds < 1e-3 * size).all()


def test_bounds_are_tight_where_the_fold_is_small():
    """A proof of one Newton step is within a hundredfold of its largest error."""
    model, rows, y = MODELS["binary"]
    bounds, errors = bounds_and_errors(model, rows, y, CVS["many"], "newton")
    assert np.isfinite(bounds).all() and bounds.max() < 100 * errors.max()
    exact, _ = bounds_and_errors(model, rows, y, CVS["few"], "auto")
    assert (exact < 1e-6).all()


def test_nothing_else_changes():
    plain = cross_validate(logistic(), X, TWO, cv=4)
    asked = cross_validate(logistic(), X, TWO, cv=4, return_error_bound=True)
    assert [*plain, "error_bound"] == list(asked)
    assert_array_equal(plain["test_score"], asked["test_score"])
    rows = cross_validate(logistic(), X, TWO, scoring="accuracy", return_error_bound=True)
    assert rows["error_bound"].shape == (90,)


def test_folds_fitted_by_the_estimator_have_no_bound():
    y = np.r_[np.zeros(30), np.ones(30), np.full(30, 2)].astype(int)
    cv = [(np.arange(60), np.arange(60, 90)), (np.r_[np.arange(80), 0], np.arange(80, 90))]
    cv += [(np.arange(85), np.arange(85, 90)), (np.arange(90), np.arange(4))]
    bounds = cross_validate(logistic(), X, y, cv=cv, return_error_bound=True)["error_bound"]
    assert_array_equal(np.isnan(bounds), [True, True, False, False])


def test_refusals():
    with pytest.raises(TypeError, match="active set"):
        cross_validate(Lasso(), DIABETES, TARGET, cv=4, return_error_bound=True)
    with pytest.raises(ValueError, match="nothing to bound"):
        cross_validate(Ridge(), X, TWO, approximation="refit", return_error_bound=True)
