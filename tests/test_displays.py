"""Displays hold the numbers of refits and draw them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict, cross_val_score

from skinfluence import InfluenceExplainer
from skinfluence.inference import InfinitesimalJackknife
from skinfluence.inspection import (
    InfluencePathDisplay,
    IntervalDisplay,
    LeaveOneOutDisplay,
    MemorizationDisplay,
)

X, Y = (part[:50] for part in load_diabetes(return_X_y=True))
X = X * 20
LABELS = np.where(np.median(Y) < Y, "high", "low")
MODEL = LogisticRegression(tol=1e-10, max_iter=1000, solver="newton-cholesky")


@pytest.fixture(autouse=True)
def close_figures():
    plt.switch_backend("Agg")
    yield
    plt.close("all")


def test_leave_one_out_of_a_regressor():
    display = LeaveOneOutDisplay.from_estimator(Ridge(), X, Y, scatter_kwargs={"s": 3})
    assert_allclose(display.fitted, Ridge().fit(X, Y).predict(X))
    left_out = cross_val_predict(Ridge(), X, Y, cv=LeaveOneOut())
    assert_allclose(display.left_out, left_out, rtol=1e-9)
    assert_allclose(display.points_.get_offsets(), np.column_stack([display.fitted, left_out]))
    assert display.figure_ is display.ax_.figure


def test_leave_one_out_of_classifiers_is_the_margin():
    display = LeaveOneOutDisplay.from_estimator(MODEL, X, LABELS)
    decision = cross_val_predict(MODEL, X, LABELS, cv=LeaveOneOut(), method="decision_function")
    assert_allclose(display.left_out, np.where(LABELS == "low", decision, -decision), atol=1e-6)
    rows, y = load_iris(return_X_y=True)
    rows, y = rows[::5], y[::5]
    display = LeaveOneOutDisplay.from_estimator(MODEL, rows, y)
    decision = MODEL.fit(rows, y).decision_function(rows)
    margins = [d[k] - np.delete(d, k).max() for d, k in zip(decision, y, strict=True)]
    assert_allclose(display.fitted, margins)
    assert display.ax_.get_xlabel() == "margin, fitted"


def test_path_of_scores():
    values = [0.01, 1.0]
    ax = plt.subplots()[1]
    display = InfluencePathDisplay.from_estimator(
        MODEL, X, LABELS, param_range=values, scoring="accuracy", cv=4, ax=ax
    )
    assert display.ax_ is ax
    for k, value in enumerate(values):
        model = LogisticRegression(C=value, tol=1e-10, solver="newton-cholesky")
        assert display.train[k] == model.fit(X, LABELS).score(X, LABELS)
        left_out = cross_val_score(model, X, LABELS, cv=LeaveOneOut())
        folds = cross_val_score(model, X, LABELS, cv=4)
        assert display.left_out[k] == pytest.approx(left_out.mean())
        assert display.fold_mean[k] == pytest.approx(folds.mean())
        assert display.fold_error[k] == pytest.approx(folds.std(ddof=1) / 2)
    assert_allclose(display.lines_[1].get_ydata(), display.left_out)


def test_intervals_of_parameters_and_predictions():
    jackknife = InfinitesimalJackknife(Ridge()).fit(X[:40], Y[:40])
    display = IntervalDisplay.from_estimator(jackknife, level=0.9)
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == display.names
    assert_allclose(display.interval, jackknife.confidence_interval(0.9))
    segments = display.bars_.lines[2][0].get_segments()
    assert_allclose([s[:, 0] for s in segments], display.interval)
    display = IntervalDisplay.from_predictions(jackknife, X[40:], Y[40:], level=0.8)
    assert_allclose(display.interval, jackknife.predict_interval(X[40:], 0.8))
    order = np.argsort(display.estimate)
    segments = display.bars_.lines[2][0].get_segments()
    assert_allclose([s[:, 1] for s in segments], display.interval[order])


def test_memorization():
    explainer = InfluenceExplainer(LogisticRegression()).fit(X, LABELS)
    display = MemorizationDisplay.from_explainer(explainer, threshold=0.02)
    values = explainer.memorization()
    np.testing.assert_array_equal(display.memorization, values)
    assert set(display.memorized) == set(np.flatnonzero(values >= 0.02))
    assert (np.diff(values[display.memorized]) <= 0).all()
    assert sum(bar.get_height() for bar in display.bars_) == len(values)
    assert display.ax_.get_yscale() == "log"
