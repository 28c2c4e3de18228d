"""Stacked models: base models as stages, against weighted refits and refits on the same folds."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import (
    RandomForestClassifier,
    StackingClassifier,
    StackingRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
)
from sklearn.model_selection import KFold, PredefinedSplit, StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from skinfluence import InfluenceExplainer
from skinfluence.model_selection import cross_val_predict

from . import weighted_steps as ws
from .common import assert_close
from .test_stages import BINARY, COUNTS, MANY, QUERIES, VALUES, X, explained, logistic

ROWS = [1, 7, 23, 40]
poisson = PoissonRegressor(alpha=0.1, tol=1e-12, solver="newton-cholesky")
LABELS = np.array(["no", "yes"])[BINARY]
STACKS = {
    "regressors": (
        StackingRegressor([("a", Ridge(2.0)), ("b", LinearRegression())], Ridge(1.0), cv=4),
        VALUES,
    ),
    "counts": (
        StackingRegressor([("a", poisson), ("b", Ridge(2.0))], Ridge(1.0), passthrough=True),
        COUNTS.astype(float),
    ),
    "shared": (
        StackingRegressor([("a", Ridge(2.0)), ("b", "drop"), ("c", Ridge(50.0))], Ridge(0.1)),
        VALUES,
    ),
    "binary": (StackingClassifier([("a", logistic(C=0.5))], logistic(), cv=4), LABELS),
    "classes": (
        StackingClassifier(
            [("a", logistic(C=0.5)), ("b", logistic(C=0.01, class_weight="balanced"))],
            logistic(class_weight="balanced"),
            cv=StratifiedKFold(3, shuffle=True, random_state=0),
        ),
        MANY,
    ),
    "decisions": (
        StackingClassifier(
            [("a", logistic(C=0.5))], logistic(), stack_method="decision_function", passthrough=True
        ),
        MANY,
    ),
}


def stack_outputs(model, rows, y):
    """What target "decision" explains."""
    if not hasattr(model, "decision_function"):
        return model.predict(rows)
    values = model.decision_function(rows)
    if values.ndim == 1:
        return values
    return values[np.arange(len(rows)), np.searchsorted(model.classes_, y)]


@pytest.mark.parametrize("name", STACKS)
def test_derivative(name):
    """The weights of a stack reach each of its models."""
    model, y = STACKS[name]
    ours = explained(model, X, y).transform(X[QUERIES], y[QUERIES])[:, ROWS]
    h, truth = 1e-4, []
    for i in ROWS:
        sides = []
        for sign in (1, -1):
            w = np.ones(len(y))
            w[i] += sign * h
            fitted = clone(model).fit(X, y, sample_weight=w)
            sides.append(stack_outputs(fitted, X[QUERIES], y[QUERIES]))
        truth.append(-(sides[0] - sides[1]) / (2 * h))
    assert_close(ours, np.column_stack(truth), 1e-5)


FOLDS = np.arange(len(X)) % 4


class Stack:
    """Rows weighted in every fit, in steps before the stack and inside it: an oracle."""

    def __init__(self, before, inside, model, last):
        self.before, self.inside, self.model, self.last = before, inside, model, last

    def fit(self, X, y, w, folds):
        rows = self.before.fit(X, y, w).transform(X)
        columns = np.empty((len(y), 1))
        for f in range(4):
            rest, own = folds != f, folds == f
            self._base(rows[rest], y[rest], w[rest])
            columns[own, 0] = self._values(rows[own])
        self._base(rows, y, w)
        self.last.fit(columns, y, sample_weight=w)
        return self

    def _base(self, rows, y, w):
        self.model.fit(self.inside.fit(rows, y, w).transform(rows), y, sample_weight=w)

    def _values(self, rows):
        return outputs_of(self.model, self.inside.transform(rows))

    def outputs(self, X):
        columns = self._values(self.before.transform(X))[:, None]
        values = getattr(self.last, "decision_function", self.last.predict)(columns)
        return values


def outputs_of(model, rows):
    return model.predict_proba(rows)[:, 1] if hasattr(model, "classes_") else model.predict(rows)


NESTED = {
    "ridge": (
        make_pipeline(
            StandardScaler(),
            StackingRegressor(
                [("a", make_pipeline(StandardScaler(with_mean=False), Ridge(5.0)))],
                Ridge(1.0),
                cv=PredefinedSplit(FOLDS),
            ),
        ),
        Stack(ws.Scaler(), ws.Scaler(mean=False), Ridge(5.0), Ridge(1.0)),
        VALUES,
    ),
    "logistic": (
        make_pipeline(
            StandardScaler(with_std=False),
            StackingClassifier(
                [("a", make_pipeline(StandardScaler(), logistic(C=0.2)))],
                logistic(),
                cv=PredefinedSplit(FOLDS),
            ),
        ),
        Stack(ws.Scaler(std=False), ws.Scaler(), logistic(C=0.2), logistic()),
        BINARY,
    ),
}


@pytest.mark.parametrize("name", NESTED)
def test_steps_before_and_inside_are_followed(name):
    model, oracle, y = NESTED[name]
    ours = explained(model, X, y).transform(X[QUERIES])[:, ROWS]
    h, truth = 1e-4, []
    for i in ROWS:
        sides = []
        for sign in (1, -1):
            w = np.ones(len(y))
            w[i] += sign * h
            sides.append(oracle.fit(X, y, w, FOLDS).outputs(X[QUERIES]))
        truth.append(-(sides[0] - sides[1]) / (2 * h))
    assert_close(ours, np.column_stack(truth), 1e-5)


@pytest.mark.parametrize("name", NESTED)
def test_a_row_dropped_with_the_folds_as_they_were(name):
    model, oracle, y = NESTED[name]
    full, truth = oracle.fit(X, y, np.ones(len(y)), FOLDS).outputs(X[QUERIES]), []
    for i in ROWS:
        keep = np.delete(np.arange(len(y)), i)
        oracle.fit(X[keep], y[keep], np.ones(len(keep)), FOLDS[keep])
        truth.append(oracle.outputs(X[QUERIES]) - full)
    truth = np.column_stack(truth)
    exact = explained(model, X, y, "exact").group_influence([[i] for i in ROWS], X[QUERIES])
    assert_close(exact, truth, 1e-6)
    newton = explained(model, X, y, "newton").transform(X[QUERIES])[:, ROWS]
    frozen = InfluenceExplainer(model, method="newton", target="decision", preprocessing="frozen")
    frozen = frozen.fit(X, y).transform(X[QUERIES])[:, ROWS]
    correlation = np.corrcoef([newton.ravel(), frozen.ravel(), truth.ravel()])[2]
    assert correlation[0] > 0.98
    assert correlation[1] < correlation[0]


def test_the_last_model_may_be_a_pipeline():
    """What its scaler does to the base models' predictions, an unpenalised fit undoes."""
    bases = [("a", Ridge(2.0)), ("b", Ridge(50.0))]
    plain = StackingRegressor(bases, LinearRegression(), cv=4)
    scaled = StackingRegressor(bases, make_pipeline(StandardScaler(), LinearRegression()), cv=4)
    for method, tolerance in (("influence", 1e-8), ("newton", 0.02), ("exact", 1e-8)):
        first, second = (explained(model, X, VALUES, method) for model in (scaled, plain))
        rows = [[i] for i in ROWS] if method == "exact" else np.arange(len(X))
        values, desired = (e.group_influence(rows, X[QUERIES]) for e in (first, second))
        assert_close(values, desired, tolerance)


def test_weights_reach_every_model():
    model, y = STACKS["regressors"]
    w = np.random.default_rng(0).integers(1, 3, len(y)).astype(float)
    explainer = InfluenceExplainer(model, method="influence", preprocessing="refit")
    ours = explainer.fit(X, y, sample_weight=w).transform(X[QUERIES])[:, 5]
    sides = []
    for sign in (1, -1):
        moved = w.copy()
        moved[5] *= 1 + sign * 1e-4
        sides.append(clone(model).fit(X, y, sample_weight=moved).predict(X[QUERIES]))
    assert_close(ours, -(sides[0] - sides[1]) / 2e-4, 1e-5)


@pytest.mark.parametrize("cv", ["prefit", 4])
def test_models_fitted_elsewhere_do_not_move(cv):
    bases = [("a", Ridge(3.0).fit(X[:30], VALUES[:30])), ("b", LinearRegression().fit(X, VALUES))]
    frozen = [(name, FrozenEstimator(base)) for name, base in bases]
    stack = StackingRegressor(frozen, Ridge(1.0), cv=cv)
    ours = explained(stack, X, VALUES, "newton").transform(X[QUERIES])
    rows = np.column_stack([base.predict(X) for _, base in bases])
    plain = InfluenceExplainer(Ridge(1.0), target="decision").fit(rows, VALUES)
    assert_close(ours, plain.transform(rows[QUERIES]), 1e-9)
    behind = explained(make_pipeline(StandardScaler(), stack), X, VALUES, "exact")
    values = behind.group_influence([[3]], X[QUERIES])[:, 0]
    keep = np.delete(np.arange(len(X)), 3)
    model = make_pipeline(StandardScaler(), StackingRegressor(frozen, Ridge(1.0), cv="prefit"))
    full, without = (clone(model).fit(X[k], VALUES[k]) for k in (slice(None), keep))
    assert_close(values, without.predict(X[QUERIES]) - full.predict(X[QUERIES]), 1e-9)
    first = explained(make_pipeline(StandardScaler(), stack), X, VALUES).transform(X[QUERIES])
    exact = behind.transform(X[QUERIES])
    assert np.corrcoef(first.ravel(), exact.ravel())[0, 1] > 0.99


def test_refits_deal_the_folds_anew():
    model, y = STACKS["binary"]
    values = explained(model, X, y, "refit").group_influence([[3]], X[QUERIES])
    without = clone(model).fit(np.delete(X, 3, axis=0), np.delete(y, 3))
    truth = without.decision_function(X[QUERIES]) - clone(model).fit(X, y).decision_function(
        X[QUERIES]
    )
    assert_close(values[:, 0], truth, 1e-9)


def test_class_weights_keep_their_labels():
    """The last model of a stack is fitted on codes, and its class weights are keyed by them."""
    y = np.where(BINARY, 5, 1)
    stack = StackingClassifier([("a", logistic())], logistic(class_weight={0: 1.0, 1: 3.0}), cv=3)
    even = StackingClassifier([("a", logistic())], logistic(class_weight={0: 1.0, 1: 3.0}), cv=3)
    ours = explained(stack, X, y, "newton").transform(X[QUERIES])
    assert_close(ours, explained(even, X, BINARY, "newton").transform(X[QUERIES]), 1e-10)


@pytest.mark.parametrize("last", [OneVsRestClassifier(logistic()), RidgeClassifier()])
def test_the_last_model_knows_labels_as_codes(last):
    stack = StackingClassifier([("a", logistic())], last, cv=3)
    values = [explained(stack, X, y).transform(X[QUERIES]) for y in (BINARY, LABELS)]
    assert_close(values[1], values[0], 1e-12)


def test_base_models_that_are_not_followed_are_named():
    forest = RandomForestClassifier(5, random_state=0)
    stack = StackingClassifier([("rf", forest), ("lr", logistic())], logistic(), cv=3)
    with pytest.raises(ValueError, match="stackingclassifier__rf.*RandomForestClassifier"):
        explained(stack, X, BINARY)
    with pytest.warns(UserWarning, match="stackingclassifier__rf.*RandomForestClassifier"):
        explainer = InfluenceExplainer(stack, method="influence").fit(X, BINARY)
    assert explainer.objective_.n_eta == 4 * 5  # the logistic regression's fits
    labels = StackingClassifier([("svm", LinearSVC())], logistic(), stack_method="predict", cv=3)
    with pytest.raises(ValueError, match="its labels have no derivative"):
        explained(labels, X, BINARY)


def test_folds_drawn_at_random_are_refused():
    stack = StackingRegressor([("a", Ridge())], cv=KFold(3, shuffle=True))
    with pytest.raises(ValueError, match="drew its folds at random"):
        explained(stack, X, VALUES)


def test_stacks_inside_other_estimators_are_refused():
    inner = StackingClassifier([("a", LogisticRegression())], LogisticRegression(), cv=3)
    with pytest.raises(ValueError, match="StackingClassifier is not supported here"):
        InfluenceExplainer(OneVsRestClassifier(inner)).fit(X, MANY)
    with pytest.raises(ValueError, match="StackingClassifier is not supported here"):
        cross_val_predict(inner, X, BINARY, cv=3)
