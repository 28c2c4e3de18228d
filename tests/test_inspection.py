"""Displays draw what they are given, and compute it from the estimators as stated."""

import matplotlib
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skinfluence import InfluenceExplainer
from skinfluence.inspection import (
    DetectionCurveDisplay,
    LabelQualityDisplay,
    RemovalCurveDisplay,
    TopInfluenceDisplay,
)
from skinfluence.mislabel import MislabelDetector

matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def judged():
    X, y = load_breast_cancer(return_X_y=True)
    train = np.arange(len(y)) < 400
    wrong = np.isin(np.arange(400), np.random.default_rng(0).permutation(400)[:60])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    noisy = np.where(wrong, 1 - y[train], y[train])
    return MislabelDetector(model).fit(X[train], noisy), wrong, X[~train], y[~train]


def test_label_quality_bars_count_every_row(judged):
    detector, *_ = judged
    display = LabelQualityDisplay.from_estimator(detector)
    kept, flagged = display.patches_
    count = sum(bar.get_height() for bar in flagged)
    assert count == detector.is_mislabeled_.sum()
    assert sum(bar.get_height() for bar in kept) + count == len(detector.label_quality_)


def test_detection_curve_ends_at_all_and_orders_by_quality(judged):
    detector, wrong, *_ = judged
    _, ax = plt.subplots()
    display = DetectionCurveDisplay.from_estimator(detector, wrong, ax=ax, name="mine", color="k")
    assert display.ax_ is ax and display.line_.get_color() == "k"
    x, y = display.line_.get_data()
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    first = wrong[detector.ranking_[:50]].sum() / wrong.sum()
    np.testing.assert_allclose(y[50], first)
    assert "mine (average precision" in display.line_.get_label()
    with pytest.raises(ValueError, match="marks no row"):
        DetectionCurveDisplay.from_quality(detector.label_quality_, np.zeros(len(wrong)))
    with pytest.raises(ValueError, match="is_wrong has shape"):
        DetectionCurveDisplay.from_quality(detector.label_quality_, [True])


def test_top_influence_shows_both_ends_of_the_influences():
    X, y = load_diabetes(return_X_y=True)
    explainer = InfluenceExplainer(Ridge()).fit(X, y)
    display = TopInfluenceDisplay.from_estimator(explainer, X[:1], y[:1], k=4)
    values = np.sort(explainer.transform(X[:1], y[:1])[0])[::-1]
    np.testing.assert_allclose(display.values, np.r_[values[:4], values[-4:]])
    np.testing.assert_allclose([bar.get_width() for bar in display.bars_], display.values)
    assert [t.get_text() for t in display.ax_.get_yticklabels()] == display.names
    assert "loss" in display.ax_.get_xlabel()
    with pytest.raises(ValueError, match="one query"):
        TopInfluenceDisplay.from_estimator(explainer, X[:2])


def test_removal_curve_marks_are_refits(judged):
    detector, wrong, X, y = judged
    tree = DecisionTreeClassifier(random_state=0)
    display = RemovalCurveDisplay.from_estimator(detector, tree, X, y, n_marks=3, max_share=0.15)
    assert display.removed.tolist() == [0, 30, 60]
    keep = np.setdiff1d(np.arange(400), detector.ranking_[:30])
    refit = DecisionTreeClassifier(random_state=0).fit(detector._X[keep], detector._y[keep])
    np.testing.assert_allclose(display.scores[1], refit.score(X, y))
    np.testing.assert_allclose(display.line_.get_ydata(), display.scores)
    assert display.scores[-1] > display.random_scores[-1]
