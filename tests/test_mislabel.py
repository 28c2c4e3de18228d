"""Detector of wrong labels: against planted errors, refits without a row, and its own contract."""

import pickle

import numpy as np
import pandas as pd
import pytest
from imblearn.pipeline import Pipeline as ImbalancedPipeline
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from skinfluence.mislabel import (
    CleanedClassifier,
    CleanedRegressor,
    HoldOut,
    MislabelDetector,
    out_of_sample,
)
from skinfluence.mislabel import committee as committee_module
from skinfluence.mislabel.combine import member_weights
from skinfluence.mislabel.folds import spread_folds
from skinfluence.mislabel.out_of_sample import is_blind

LOGISTIC = LogisticRegression(C=0.1, max_iter=1000)


def flipped(n_classes=2, n=300, share=0.1, seed=0):
    """Well separated classes with known wrong labels."""
    X, y = make_classification(
        n,
        8,
        n_informative=5,
        n_classes=n_classes,
        class_sep=2.5,
        flip_y=0,
        n_clusters_per_class=1,
        random_state=seed,
    )
    rng = np.random.default_rng(seed)
    wrong = np.zeros(n, dtype=bool)
    wrong[rng.permutation(n)[: int(share * n)]] = True
    noisy = np.where(wrong, (y + rng.integers(1, n_classes, n)) % n_classes, y)
    return X, noisy, y, wrong


@pytest.fixture
def small_committee(monkeypatch):
    """The committee with few trees and landmarks: same code, less time."""
    monkeypatch.setattr(committee_module, "N_TREES", 40)
    monkeypatch.setattr(committee_module, "N_LANDMARKS", 40)


# -- held-out predictions --------------------------------------------------------------------
@pytest.mark.parametrize("n_classes", [2, 3])
def test_logistic_leave_one_out_matches_refits(n_classes):
    # one Newton step without the row: its error is of second order in the row's leverage
    X, y, _, _ = flipped(n_classes, n=120)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-10, max_iter=5000))
    held = out_of_sample(model, X, y)
    assert held.how == "approximate leave-one-out"
    Z = StandardScaler().fit_transform(X)
    for i in range(0, 120, 13):
        rest = np.arange(120) != i
        refit = LogisticRegression(C=0.1, tol=1e-10, max_iter=5000).fit(Z[rest], y[rest])
        np.testing.assert_allclose(held.values[i], refit.predict_proba(Z[[i]])[0], atol=5e-3)
        assert np.abs(held.values[i] - model.fit(X, y).predict_proba(X[[i]])[0]).max() > 1e-5


def test_ridge_leave_one_out_is_exact():
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:80], y[:80]
    held = out_of_sample(Ridge(alpha=0.5), X, y)
    rest = [np.arange(80) != i for i in range(80)]
    refits = [Ridge(alpha=0.5).fit(X[r], y[r]).predict(X[~r])[0] for r in rest]
    np.testing.assert_allclose(held.values, refits, rtol=1e-9)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_neighbours_match_refits(weights):
    X, y, _, _ = flipped(3, n=80)
    model = KNeighborsClassifier(7, weights=weights)
    held = out_of_sample(model, X, y)
    target = X[:, 0]
    numbers = out_of_sample(KNeighborsRegressor(7, weights=weights), X, target)
    for i in range(80):
        rest = np.arange(80) != i
        refit = clone(model).fit(X[rest], y[rest])
        np.testing.assert_allclose(held.values[i], refit.predict_proba(X[[i]])[0], atol=1e-12)
        refit = KNeighborsRegressor(7, weights=weights).fit(X[rest], target[rest])
        np.testing.assert_allclose(numbers.values[i], refit.predict(X[[i]])[0], rtol=1e-10)


def test_forest_votes_are_those_of_trees_that_did_not_draw_the_row():
    X, y, _, _ = flipped(n=100)
    held = out_of_sample(RandomForestClassifier(30, random_state=0), X, y)
    forest, i = held.estimator, 17
    votes = [
        tree.predict_proba(X[[i]])[0]
        for tree, drawn in zip(forest.estimators_, forest.estimators_samples_, strict=True)
        if i not in drawn
    ]
    np.testing.assert_allclose(held.values[i], np.mean(votes, axis=0), atol=1e-12)


def test_forest_row_drawn_by_every_tree_gets_the_class_shares():
    X, y, _, _ = flipped(n=60)
    held = out_of_sample(RandomForestClassifier(2, random_state=0), X, y)
    drawn = [set(rows.tolist()) for rows in held.estimator.estimators_samples_]
    always = sorted(set.intersection(*drawn))
    assert always
    shares = np.tile([np.mean(y == 0), np.mean(y == 1)], (len(always), 1))
    np.testing.assert_allclose(held.values[always], shares)


def test_labels_seen_by_a_step_force_refits():
    X, y, _, _ = flipped(n=100)
    assert not is_blind(SelectKBest(k=2))
    held = out_of_sample(make_pipeline(SelectKBest(k=2), LOGISTIC), X, y)
    assert held.how == "5 folds"
    folds = spread_folds(y, np.unique(y), 5, 0)
    model = make_pipeline(SelectKBest(k=2), LOGISTIC)
    for k in range(5):
        refit = clone(model).fit(X[folds != k], y[folds != k])
        np.testing.assert_allclose(held.values[folds == k], refit.predict_proba(X[folds == k]))


@pytest.mark.parametrize("model", [RidgeClassifier(), DecisionTreeClassifier(max_depth=3)])
def test_probabilities_sum_to_one_whatever_the_model(model):
    X, y, _, wrong = flipped(3)
    held = out_of_sample(model, X, y)
    np.testing.assert_allclose(held.values.sum(axis=1), 1)
    own = held.values[np.arange(len(y)), y]
    assert own[wrong].mean() < 0.2 < 0.7 < own[~wrong].mean()
    np.testing.assert_allclose(held.predict_proba(X[:4]).sum(axis=1), 1)


def test_nystroem_pipeline_needs_no_refit():
    X, y, _, _ = flipped(n=100)
    model = make_pipeline(StandardScaler(), Nystroem(n_components=20, random_state=0), LOGISTIC)
    assert out_of_sample(model, X, y).how == "approximate leave-one-out"


def test_weights_reach_the_closed_form():
    # weight zero is a removed row: the others' predictions are those without it
    X, y, _, _ = flipped(n=60)
    weight = np.ones(60)
    weight[::4] = 0
    weighted = out_of_sample(LOGISTIC, X, y, weight).values[weight > 0]
    dropped = out_of_sample(LOGISTIC, X[weight > 0], y[weight > 0]).values
    np.testing.assert_allclose(weighted, dropped, atol=1e-8)


def test_weights_reach_one_vs_rest(small_committee):
    X, noisy, _, wrong = flipped(3, n=200)
    weight = np.ones(200)
    weight[::10] = 0
    detector = MislabelDetector(random_state=0).fit(X, noisy, weight)
    assert "approximate leave-one-out" in [m.how for m in detector.members_ if m.name == "kernel"]
    assert detector.is_mislabeled_[wrong].mean() > 0.8
    model = make_pipeline(StandardScaler(), OneVsRestClassifier(LOGISTIC))
    weighted = out_of_sample(model, X, noisy, weight).values[weight > 0]
    Z = StandardScaler().fit(X).transform(X)[weight > 0]
    dropped = out_of_sample(OneVsRestClassifier(LOGISTIC), Z, noisy[weight > 0]).values
    np.testing.assert_allclose(weighted, dropped, atol=1e-8)


def test_folds_spread_rare_classes():
    y = np.array(["a"] * 47 + ["b"] * 3)
    folds = spread_folds(y, np.unique(y), 5, 0)
    assert len(set(folds[y == "b"])) == 3
    assert np.bincount(folds).tolist() == [10] * 5


# -- the committee ---------------------------------------------------------------------------
def test_stacking_prefers_the_better_member_and_sums_to_one():
    rng = np.random.default_rng(0)
    good, bad = rng.uniform(0.6, 1, 200), rng.uniform(0.1, 0.9, 200)
    weights = member_weights("mean", np.stack([good, bad]))
    assert weights[0] > 0.8
    np.testing.assert_allclose(weights.sum(), 1)
    np.testing.assert_allclose(member_weights("equal", np.stack([good, bad])), 0.5)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_committee_finds_planted_errors(small_committee, n_classes):
    X, noisy, y, wrong = flipped(n_classes)
    detector = MislabelDetector(random_state=0).fit(X, noisy)
    flagged = detector.is_mislabeled_
    assert (flagged & wrong).sum() / wrong.sum() > 0.85
    assert (flagged & ~wrong).sum() <= 0.02 * len(y)
    assert set(np.flatnonzero(wrong)) > set(detector.ranking_[: wrong.sum() // 2])
    right = detector.suggested_labels_[wrong & flagged] == y[wrong & flagged]
    assert right.mean() > 0.9
    np.testing.assert_array_equal(detector.suggested_labels_[~flagged], noisy[~flagged])
    np.testing.assert_allclose(detector.noise_matrix_.sum(axis=1), 1)
    np.testing.assert_allclose(detector.contamination_, wrong.mean(), atol=0.02)
    np.testing.assert_allclose(sum(m.weight for m in detector.members_), 1)
    assert [m.how for m in detector.members_].count("5 folds") == 1
    assert detector.label_quality_.min() >= 0 and detector.label_quality_.max() <= 1


def test_regression_finds_planted_errors(small_committee):
    X, y = load_diabetes(return_X_y=True)
    rng = np.random.default_rng(0)
    wrong = np.isin(np.arange(len(y)), rng.permutation(len(y))[:20])
    noisy = y + np.where(wrong, rng.choice([-1, 1], len(y)) * 400, 0)
    detector = MislabelDetector(random_state=0).fit(X, noisy)
    assert detector.classes_ is None
    np.testing.assert_array_equal(np.flatnonzero(detector.is_mislabeled_), np.flatnonzero(wrong))
    error = np.abs(detector.suggested_labels_ - y)[wrong]
    assert np.median(error) < 60
    worst = np.abs(detector.residuals_).argmax()
    assert worst == detector.ranking_[0]


@pytest.mark.parametrize(
    "labels", [["no", "yes"], [False, True], [3, 7], np.array(["b", "a"], dtype=object)]
)
def test_any_labels(labels):
    X, noisy, _, _ = flipped()
    plain = MislabelDetector(LOGISTIC).fit(X, noisy)
    detector = MislabelDetector(LOGISTIC).fit(X, np.asarray(labels)[noisy])
    np.testing.assert_allclose(detector.label_quality_, plain.label_quality_, atol=1e-9)
    assert set(detector.suggested_labels_) <= set(labels)


def test_sparse_and_missing_values(small_committee):
    X, noisy, _, wrong = flipped()
    X[np.abs(X) < 0.5] = 0
    thin = MislabelDetector(random_state=0).fit(sparse.csr_array(X), noisy)
    assert thin.is_mislabeled_[wrong].mean() > 0.7
    X[::7, 0] = np.nan
    holes = MislabelDetector(random_state=0).fit(X, noisy)
    assert holes.is_mislabeled_[wrong].mean() > 0.7


def test_dataframe_with_words():
    X, noisy, _, wrong = flipped()
    words = pd.DataFrame({"w": np.where(X[:, 0] > 0, "up", "down"), "v": (X[:, 1] > 0).astype(str)})
    model = make_pipeline(OneHotEncoder(), LOGISTIC)
    detector = MislabelDetector(model).fit(words, noisy)
    assert list(detector.feature_names_in_) == ["w", "v"]
    assert detector.members_[0].how == "approximate leave-one-out"


def test_imbalance_does_not_condemn_the_rare_class():
    # features say nothing: every rare label has probability .05, which is no evidence against it
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 3)), (np.arange(400) < 20).astype(int)
    detector = MislabelDetector(make_pipeline(StandardScaler(), LogisticRegression(C=0.01)))
    assert detector.fit(X, y).is_mislabeled_[y == 1].mean() < 0.3
    assert detector.contamination_ < 0.01


def test_class_with_one_row_cannot_be_confirmed():
    X, y = load_iris(return_X_y=True)
    labels = np.array(["setosa", "versicolor", "virginica"])[y]
    labels[0] = "setsoa"
    detector = MislabelDetector(LogisticRegression(max_iter=1000)).fit(X, labels)
    assert detector.ranking_[0] == 0
    assert detector.suggested_labels_[0] == "setosa"
    assert detector.predict_proba_[0, list(detector.classes_).index("setsoa")] == 0


def test_given_probabilities_need_no_model():
    rng = np.random.default_rng(0)
    P = rng.dirichlet([1, 1, 1], 50)
    y = rng.integers(0, 3, 50)
    detector = MislabelDetector().fit(None, y, pred_proba=P)
    np.testing.assert_array_equal(detector.predict_proba_, P)
    assert detector.members_ == []
    alone = MislabelDetector().fit(None, np.arange(3), pred_proba=P[:3])
    assert np.isfinite(alone.label_quality_).all() and np.isfinite(alone.contamination_)
    with pytest.raises(ValueError, match="fitted without X"):
        detector.explain()
    with pytest.raises(ValueError, match="pred_proba has shape"):
        MislabelDetector().fit(None, y, pred_proba=P[:, :2])
    with pytest.raises(ValueError, match="sum to one"):
        MislabelDetector().fit(None, y, pred_proba=P / 2)


def test_binary_quality_orders_each_class_like_the_probability():
    X, noisy, _, _ = flipped()
    detector = MislabelDetector(LOGISTIC).fit(X, noisy)
    own = np.maximum(detector.predict_proba_[np.arange(len(noisy)), noisy], 1e-3)
    for label in (0, 1):
        quality = detector.label_quality_[noisy == label][np.argsort(own[noisy == label])]
        assert (np.diff(quality) >= 0).all()


def test_contamination_is_the_share_flagged():
    X, noisy, _, _ = flipped()
    detector = MislabelDetector(LOGISTIC, contamination=0.2).fit(X, noisy)
    assert detector.is_mislabeled_.sum() == 60
    assert set(np.flatnonzero(detector.is_mislabeled_)) == set(detector.ranking_[:60])


def test_same_seed_same_answer_and_pickles(small_committee):
    X, noisy, _, _ = flipped(n=120)
    first = MislabelDetector(random_state=3).fit(X, noisy)
    second = MislabelDetector(random_state=3).fit(X, noisy)
    np.testing.assert_array_equal(first.label_quality_, second.label_quality_)
    again = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(again.ranking_, first.ranking_)


@pytest.mark.parametrize(
    ("options", "y", "message"),
    [
        ({"combine": "best"}, None, "combine='best'"),
        ({"contamination": 0.7}, None, "contamination=0.7"),
        ({"n_rounds": 0}, None, "n_rounds=0"),
        ({"estimators": []}, None, "empty list"),
        ({"estimators": [LOGISTIC, Ridge()]}, None, "all classifiers or all regressors"),
        ({}, np.array([None, "a"] * 20, dtype=object), "None at 20 rows"),
        ({}, np.repeat("a", 40), "one class"),
        ({}, np.array([f"l{i}" for i in range(40)]), "fewer than two classes have two rows"),
    ],
)
def test_refusals(options, y, message):
    X, labels = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 2
    with pytest.raises(ValueError, match=message):
        MislabelDetector(**options).fit(X, labels if y is None else y)


# -- why -------------------------------------------------------------------------------------
def test_evidence_is_what_a_refit_without_the_other_row_says():
    X, noisy, _, _ = flipped(n=100)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-10, max_iter=5000))
    detector = MislabelDetector(model).fit(X, noisy)
    found = detector.explain(k=2)
    assert set(found["role"]) == {"supports", "contradicts"}
    assert (found["row"] != found["other"]).all()
    assert ((found["influence"] > 0) == (found["role"] == "supports")).all()
    Z = StandardScaler().fit_transform(X)  # the scaler is kept as fitted

    def loss(rows, i):
        fit = LogisticRegression(C=0.1, tol=1e-10, max_iter=5000).fit(Z[rows], noisy[rows])
        return log_loss(noisy[[i]], fit.predict_proba(Z[[i]]), labels=[0, 1])

    for line in found.head(4).itertuples():
        rest = np.arange(100) != line.other
        truth = loss(rest, line.row) - loss(np.arange(100), line.row)
        np.testing.assert_allclose(line.influence, truth, rtol=0.05)


def test_removal_effect_is_that_of_a_refit():
    X, noisy, _, wrong = flipped(n=400)
    model = LogisticRegression(C=0.01, tol=1e-10, max_iter=5000)
    detector = MislabelDetector(model).fit(X, noisy)
    rows = np.flatnonzero(wrong)[:3]
    effect = detector.removal_effect(X, noisy, rows=rows)
    keep = ~np.isin(np.arange(400), rows)
    full, rest = clone(model).fit(X, noisy), clone(model).fit(X[keep], noisy[keep])
    np.testing.assert_allclose(effect.loss, log_loss(noisy, full.predict_proba(X)), rtol=1e-6)
    # a joint Newton step: second order in the group
    truth = log_loss(noisy, rest.predict_proba(X)) - effect.loss
    np.testing.assert_allclose(effect.loss_change, truth, rtol=0.1)
    moved = np.append(rest.coef_[0] - full.coef_[0], rest.intercept_ - full.intercept_)
    np.testing.assert_allclose(effect.coefficients_change, moved, atol=0.1 * np.abs(moved).max())
    assert effect.parameter_names[-1] == "intercept"


def test_explains_with_a_linear_model_when_no_member_has_an_objective():
    X, noisy, _, _ = flipped(n=100)
    detector = MislabelDetector(KNeighborsClassifier(9)).fit(X, noisy)
    assert len(detector.explain(detector.ranking_[:3], k=1)) == 6


# -- cleaned estimators ----------------------------------------------------------------------
@pytest.mark.parametrize("strategy", ["remove", "relabel"])
def test_cleaning_helps_on_planted_errors(strategy):
    X, noisy, y, wrong = flipped(n=400, share=0.2)
    tree = DecisionTreeClassifier(random_state=0)
    model = CleanedClassifier(tree, MislabelDetector(LOGISTIC), strategy=strategy)
    half = np.arange(400) < 300
    model.fit(X[half], noisy[half])
    plain = clone(tree).fit(X[half], noisy[half])
    assert model.score(X[~half], y[~half]) > plain.score(X[~half], y[~half]) + 0.05
    assert (model.inlier_mask_ == ~wrong[half]).mean() > 0.95
    assert model.predict_proba(X[:3]).shape == (3, 2)


def test_reweighting_is_a_fit_with_the_quality_as_weight():
    X, noisy, _, _ = flipped()
    model = CleanedClassifier(LOGISTIC, MislabelDetector(LOGISTIC), strategy="reweight")
    model.fit(X, noisy)
    refit = clone(LOGISTIC).fit(X, noisy, sample_weight=model.detector_.label_quality_)
    np.testing.assert_allclose(model.estimator_.coef_, refit.coef_)


def test_as_many_rows_are_removed_as_are_estimated_to_be_wrong():
    X, noisy, _, wrong = flipped()
    model = CleanedClassifier(LOGISTIC, MislabelDetector(LOGISTIC)).fit(X, noisy)
    kept, judge = model.inlier_mask_, model.detector_
    assert (~kept).sum() == round(judge.contamination_ * 300)
    assert judge.label_quality_[~kept].max() <= judge.label_quality_[kept].min()
    refit = clone(LOGISTIC).fit(X[kept], noisy[kept])
    np.testing.assert_allclose(model.estimator_.coef_, refit.coef_)
    relabelled = CleanedClassifier(LOGISTIC, MislabelDetector(LOGISTIC), strategy="relabel")
    refit = clone(LOGISTIC).fit(X, np.where(kept, noisy, 1 - noisy))
    np.testing.assert_allclose(relabelled.fit(X, noisy).estimator_.coef_, refit.coef_)


def test_given_share_removes_the_flagged_rows():
    X, noisy, _, _ = flipped()
    model = CleanedClassifier(LOGISTIC, MislabelDetector(LOGISTIC, contamination=0.2))
    np.testing.assert_array_equal(model.fit(X, noisy).inlier_mask_, ~model.detector_.is_mislabeled_)
    assert (~model.inlier_mask_).sum() == 60


def test_right_labels_of_overlapping_classes_are_kept():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    y = (X[:, 0] + rng.logistic(size=600) > 0).astype(int)
    model = CleanedClassifier(LOGISTIC, MislabelDetector(LOGISTIC)).fit(X, y)
    assert model.detector_.is_mislabeled_.any()
    assert (~model.inlier_mask_).mean() < 0.01


def test_cleaned_regressor_ignores_wild_targets():
    X, y = load_diabetes(return_X_y=True)
    noisy = y.copy()
    noisy[:20] += 2000
    model = CleanedRegressor(DecisionTreeRegressor(max_depth=3), MislabelDetector(Ridge(0.1)))
    model.fit(X, noisy)
    assert not model.inlier_mask_[:20].any()
    assert model.score(X, y) > 0.3 > DecisionTreeRegressor(max_depth=3).fit(X, noisy).score(X, y)
    with pytest.raises(ValueError, match="Unknown label type"):
        CleanedClassifier(LOGISTIC, MislabelDetector(Ridge())).fit(X, noisy)


def test_pipeline_and_grid_search_clean_only_training_rows():
    X, noisy, _, _ = flipped()
    model = make_pipeline(
        StandardScaler(), CleanedClassifier(LogisticRegression(), MislabelDetector(LOGISTIC))
    )
    grid = {
        "cleanedclassifier__estimator__C": [0.1, 1.0],
        "cleanedclassifier__strategy": ["remove", "relabel"],
        "cleanedclassifier__detector__n_rounds": [1, 2],
    }
    search = GridSearchCV(model, grid, cv=3).fit(X, noisy)
    assert search.best_score_ > 0.8
    assert len(search.best_estimator_[-1].inlier_mask_) == len(noisy)
    assert search.predict(X).shape == (300,)


def test_imbalanced_learn_pipeline_drops_suspects_in_fit_only():
    X, noisy, y, _ = flipped(share=0.2)
    detector = MislabelDetector(LOGISTIC)
    steps = [("clean", detector), ("tree", DecisionTreeClassifier(random_state=0))]
    model = ImbalancedPipeline(steps).fit(X, noisy)
    kept = model["clean"].sample_indices_
    assert model["tree"].tree_.n_node_samples[0] == len(kept) < len(noisy)
    assert model.predict(X).shape == noisy.shape
    assert cross_val_score(model, X, noisy, cv=3).mean() > 0.7
    rows, labels = clone(detector).fit_resample(pd.DataFrame(X), pd.Series(noisy))
    assert list(rows.index) == kept.tolist() == list(labels.index)


def test_fit_predict_marks_suspects():
    X, noisy, _, _ = flipped()
    detector = MislabelDetector(LOGISTIC)
    np.testing.assert_array_equal(
        detector.fit_predict(X, noisy) == -1, clone(detector).fit(X, noisy).is_mislabeled_
    )


def _expected_failures(estimator):
    if isinstance(estimator, CleanedRegressor):  # the classifier finds nothing to remove there
        reason = "leave-one-out removes a row with all its weight, one of several copies does not"
        return {
            "check_sample_weight_equivalence_on_dense_data": reason,
            "check_sample_weight_equivalence_on_sparse_data": reason,
        }
    return {}


@parametrize_with_checks(
    [
        MislabelDetector(LogisticRegression(), n_rounds=1),
        CleanedClassifier(LogisticRegression(), MislabelDetector(LogisticRegression())),
        CleanedRegressor(Ridge(), MislabelDetector(Ridge())),
    ],
    expected_failed_checks=_expected_failures,
    xfail_strict=True,
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def test_boosting_is_refitted_in_the_folds_asked_for():
    X, y, _, _ = flipped(n=100)
    model = HistGradientBoostingClassifier(max_iter=5)
    assert out_of_sample(model, X, y, options=HoldOut(n_folds=3)).how == "3 folds"


def test_default_detector_on_real_labels(small_committee):
    X, y = load_breast_cancer(return_X_y=True)
    detector = MislabelDetector(random_state=0).fit(X, y)
    assert detector.contamination_ < 0.06
