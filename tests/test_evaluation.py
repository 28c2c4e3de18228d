"""The evaluation functions against brute-force computations on small models."""

import numpy as np
import pytest
import torch
from joblib import parallel_config
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import scale
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import InfluenceExplainer
from skinfluence.evaluation import (
    brittleness,
    flipped_label_score,
    leave_out_score,
    linear_datamodeling_score,
    prediction_loss,
)
from skinfluence.evaluation.intervals import bootstrap_interval, share_interval
from skinfluence.evaluation.labels import flip_labels
from skinfluence.evaluation.retraining import Retraining

X, Y = load_diabetes(return_X_y=True)
TRAIN, TEST = (X[:60], Y[:60]), (X[60:75], Y[60:75])
IRIS = scale(load_iris().data), load_iris().target


@pytest.fixture(scope="module")
def explainer():
    return InfluenceExplainer(Ridge()).fit(*TRAIN)


# -- linear datamodeling score -----------------------------------------------------------------
def test_lds_is_the_brute_force_number(explainer):
    result = linear_datamodeling_score(
        explainer, *TRAIN, *TEST, n_subsets=12, fraction=0.6, random_state=0
    )
    influence = explainer.transform(*TEST)
    expected = []
    for j, (x, y) in enumerate(zip(*TEST, strict=True)):
        predicted, actual = [], []
        for subset in result.subsets:
            assert len(set(subset)) == 36
            out = np.setdiff1d(np.arange(60), subset)
            predicted.append(sum(influence[j, i] for i in out))
            model = Ridge().fit(TRAIN[0][subset], TRAIN[1][subset])
            actual.append((model.predict(x[None])[0] - y) ** 2)
        expected.append(spearmanr(predicted, actual).statistic)
        np.testing.assert_allclose(result.actual[:, j], actual, rtol=1e-10)
    np.testing.assert_allclose(result.per_query, expected, rtol=1e-10)
    assert result.score == pytest.approx(np.mean(expected))
    assert result.interval[0] < result.score < result.interval[1]


def test_lds_of_a_perfect_and_of_a_reversed_prediction(explainer):
    options = {"n_subsets": 8, "random_state": 0}
    result = linear_datamodeling_score(explainer, *TRAIN, *TEST, **options)

    class Told:
        """Influences whose sums over left-out rows are the true losses."""

        estimator, sign = Ridge(), 1.0

        def transform(self, X, y):
            left_out = np.ones((8, 60))
            np.put_along_axis(left_out, result.subsets, 0.0, axis=1)
            return self.sign * np.linalg.lstsq(left_out, result.actual)[0].T

    told = Told()
    assert linear_datamodeling_score(told, *TRAIN, *TEST, **options).score == pytest.approx(1)
    told.sign = -1.0
    assert linear_datamodeling_score(told, *TRAIN, *TEST, **options).score == pytest.approx(-1)


def test_lds_options(explainer):
    def factory(seed):
        return Ridge(alpha=10.0 ** (seed - 1))

    def measure(estimator, X, y):
        return estimator.predict(X)

    explainer = clone(explainer).set_params(target="decision")
    result = linear_datamodeling_score(
        explainer, *TRAIN, *TEST, factory=factory, measure=measure, n_repeats=2, n_subsets=5
    )
    rows = result.subsets[3]
    fits = [Ridge(alpha=a).fit(TRAIN[0][rows], TRAIN[1][rows]) for a in (0.1, 1.0)]
    expected = np.mean([fit.predict(TEST[0]) for fit in fits], axis=0)
    np.testing.assert_allclose(result.actual[3], expected)


def test_trainings_are_kept_on_disk_and_do_not_depend_on_n_jobs(explainer, tmp_path, monkeypatch):
    options = {"n_subsets": 5, "random_state": 3}
    plain = linear_datamodeling_score(explainer, *TRAIN, *TEST, **options)
    kept = linear_datamodeling_score(explainer, *TRAIN, *TEST, cache=tmp_path, **options)
    np.testing.assert_array_equal(plain.actual, kept.actual)
    with parallel_config("threading"):
        threads = linear_datamodeling_score(explainer, *TRAIN, *TEST, n_jobs=2, **options)
    np.testing.assert_array_equal(plain.actual, threads.actual)

    def fit(self, X, y):
        raise AssertionError("trained although kept on disk")

    monkeypatch.setattr(Ridge, "fit", fit)
    again = linear_datamodeling_score(explainer, *TRAIN, *TEST, cache=tmp_path, **options)
    np.testing.assert_array_equal(again.actual, kept.actual)


def test_lds_refusals(explainer):
    with pytest.raises(ValueError, match="fraction=1.5"):
        linear_datamodeling_score(explainer, *TRAIN, *TEST, fraction=1.5)
    with pytest.raises(ValueError, match="n_subsets=2"):
        linear_datamodeling_score(explainer, *TRAIN, *TEST, n_subsets=2)
    with pytest.raises(ValueError, match="the same for every subset"):
        linear_datamodeling_score(
            explainer, *TRAIN, *TEST, n_subsets=3, measure=lambda e, X, y: np.ones(len(X))
        )
    with pytest.raises(ValueError, match="NaN or infinite"):
        linear_datamodeling_score(
            explainer, *TRAIN, *TEST, n_subsets=3, measure=lambda e, X, y: np.full(len(X), np.nan)
        )


# -- leaving rows out --------------------------------------------------------------------------
def test_leave_out_is_exact_where_newton_is(explainer):
    result = leave_out_score(explainer, 4, *TRAIN, *TEST, n_groups=6, random_state=0)
    assert all(len(group) == 4 for group in result.groups)
    np.testing.assert_allclose(result.predicted, result.actual, rtol=1e-6, atol=1e-6)
    assert result.pearson == pytest.approx(1)
    assert result.spearman == pytest.approx(1)
    assert result.slope == pytest.approx(1)
    assert result.interval == pytest.approx((1, 1))


def test_leave_out_of_given_groups(explainer):
    group = np.array([3, 5])
    result = leave_out_score(explainer, [group, [7]], *TRAIN, *TEST)
    keep = np.setdiff1d(np.arange(60), group)
    model = Ridge().fit(TRAIN[0][keep], TRAIN[1][keep])
    before = (explainer.estimator_.predict(TEST[0]) - TEST[1]) ** 2
    expected = (model.predict(TEST[0]) - TEST[1]) ** 2 - before
    np.testing.assert_allclose(result.actual[:, 0], expected, rtol=1e-8, atol=1e-8)


def test_warm_start_trains_on_from_the_fit():
    model = MLPClassifier(4, max_iter=30, random_state=0, solver="adam", tol=0.0)
    model.set_params(n_iter_no_change=10_000)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(*IRIS)

        class Holder:
            estimator_ = model

        warm = Retraining(Holder(), *IRIS, *IRIS, warm_start=True).measures([np.arange(150)], [0])
        cold = model.set_params(warm_start=False).fit(*IRIS)
    assert warm.mean() < prediction_loss(cold, *IRIS).mean()


def test_warm_start_refusals(explainer):
    with pytest.raises(ValueError, match="Ridge has no warm_start"):
        leave_out_score(explainer, 1, *TRAIN, *TEST, warm_start=True)
    with pytest.raises(ValueError, match="pass no factory"):
        leave_out_score(explainer, 1, *TRAIN, *TEST, warm_start=True, factory=lambda seed: Ridge())
    with pytest.raises(ValueError, match="below the 60 rows"):
        leave_out_score(explainer, 60, *TRAIN, *TEST)


def test_brittleness_is_the_brute_force_number():
    model = LogisticRegression(C=0.1)
    train = IRIS[0][::3], IRIS[1][::3]
    queries = IRIS[0][[70, 77, 83, 106, 119, 133]]
    explainer = InfluenceExplainer(model, target="loss").fit(*train)
    result = brittleness(explainer, *train, queries, k=[8, 2])
    labels = explainer.estimator_.predict(queries)
    influence = explainer.transform(queries, labels)
    for size, row in zip([2, 8], result.changed, strict=True):
        for j, changed in enumerate(row):
            keep = np.argsort(-influence[j])[size:]
            fit = clone(model).fit(train[0][keep], train[1][keep])
            assert changed == (fit.predict(queries[[j]])[0] != labels[j])
    assert result.k.tolist() == [2, 8]
    assert result.share[1] >= result.share[0]
    assert 0 < result.share[1]
    assert (result.intervals[:, 0] < result.share).all() or (result.share == 0).any()


def test_brittleness_refusals(explainer):
    with pytest.raises(ValueError, match="no classifier"):
        brittleness(explainer, *TRAIN, TEST[0])
    fitted = InfluenceExplainer(LogisticRegression()).fit(*IRIS)
    with pytest.raises(ValueError, match=r"k=\[200\]"):
        brittleness(fitted, *IRIS, IRIS[0][:2], k=[200])


# -- flipped labels ----------------------------------------------------------------------------
def test_flipped_labels():
    rng = np.random.RandomState(0)
    noisy, flipped = flip_labels(IRIS[1], 20, rng)
    assert flipped.sum() == 20
    np.testing.assert_array_equal(noisy != IRIS[1], flipped)
    assert set(noisy) == {0, 1, 2}


def test_flipped_label_score_of_known_scores():
    explainer = InfluenceExplainer(LogisticRegression())

    def wrong(fitted):
        return (fitted.objective_.training_targets(np.arange(150)) != IRIS[1]).astype(float)

    perfect = flipped_label_score(explainer, *IRIS, n_repeats=2, score=wrong, random_state=0)
    assert perfect.average_precision == perfect.auc == 1
    assert perfect.interval == (1, 1)
    usual = flipped_label_score(explainer, *IRIS, n_repeats=3, random_state=0)
    assert usual.per_repeat.shape == (3, 2)
    assert usual.average_precision == pytest.approx(usual.per_repeat[:, 0].mean())
    assert 0.5 < usual.interval[0] <= usual.average_precision <= usual.interval[1]
    assert usual.loss_average_precision > 0.5


def test_flipped_label_refusals():
    explainer = InfluenceExplainer(LogisticRegression())
    with pytest.raises(ValueError, match="flips 0 of 150"):
        flipped_label_score(explainer, *IRIS, fraction=0.001)
    with pytest.raises(ValueError, match="one class only"):
        flipped_label_score(explainer, IRIS[0][:50], IRIS[1][:50])


# -- parts -------------------------------------------------------------------------------------
def test_prediction_loss():
    model = LogisticRegression().fit(*IRIS)
    losses = prediction_loss(model, *IRIS)
    assert losses.mean() == pytest.approx(log_loss(IRIS[1], model.predict_proba(IRIS[0])))
    with pytest.raises(TypeError, match="no predict_proba"):
        prediction_loss(RidgeClassifier().fit(*IRIS), *IRIS)
    with pytest.raises(ValueError, match="label 7 is unknown"):
        prediction_loss(model, IRIS[0][:1], [7])


def test_prediction_loss_keeps_its_digits_near_certainty():
    class Sure:
        classes_, _estimator_type = np.array([0, 1]), "classifier"

        def __sklearn_tags__(self):
            return LogisticRegression().__sklearn_tags__()

        def predict_proba(self, X):
            return np.array([[1e-20, 1.0]])

    assert prediction_loss(Sure(), np.zeros((1, 1)), [1])[0] == pytest.approx(1e-20)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x)


def make_net(module):
    return NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, max_epochs=2, train_split=None, verbose=0
    )


def test_nets_are_trained_anew_by_seed_and_kept_on_disk(tmp_path):
    X, y = IRIS[0].astype(np.float32), IRIS[1]
    holder = InfluenceExplainer(make_net(Small))
    training = Retraining(holder, X, y, X, y, cache=tmp_path)
    first, second = (training.measures([np.arange(0, 150, 2)], [seed]) for seed in (0, 1))
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(training.measures([np.arange(0, 150, 2)], [0]), first)
    torch.manual_seed(0)
    net = make_net(Small).fit(X[::2], y[::2])
    np.testing.assert_allclose(first[0], prediction_loss(net, X, y), rtol=1e-5)


def test_warm_start_of_a_net_goes_on_from_its_weights():
    X, y = IRIS[0].astype(np.float32), IRIS[1]
    net = make_net(Small).set_params(max_epochs=50, lr=0.5).fit(X, y)

    class Holder:
        estimator_ = FrozenEstimator(net)

    before = prediction_loss(net, X, y).mean()
    weights = net.module_.layer.weight.detach().clone()
    after = Retraining(Holder(), X, y, X, y, warm_start=True).measures([np.arange(150)], [0])
    assert after.mean() < before
    assert torch.equal(net.module_.layer.weight, weights)  # the fitted net itself stays


def test_nets_with_a_module_that_is_made_already_are_refused():
    with pytest.raises(ValueError, match="module that is made already"):
        Retraining(InfluenceExplainer(make_net(Small())), *IRIS, *IRIS)


def test_a_frozen_model_is_cloned_for_retraining():
    frozen = InfluenceExplainer(FrozenEstimator(Ridge(alpha=3.0).fit(*TRAIN))).fit(*TRAIN)
    values = Retraining(frozen, *TRAIN, *TEST).measures([np.arange(30)], [0])
    expected = (Ridge(alpha=3.0).fit(TRAIN[0][:30], TRAIN[1][:30]).predict(TEST[0]) - TEST[1]) ** 2
    np.testing.assert_allclose(values[0], expected)


def test_intervals_cover():
    rng = np.random.RandomState(0)
    hits = 0
    for _ in range(200):
        sample = rng.normal(size=40)
        low, high = bootstrap_interval(
            lambda rows, s=sample: s[rows].mean(), (40,), 0.9, rng, n_resamples=200
        )
        hits += low < 0 < high
    assert 0.8 < hits / 200 < 0.97
    # Wilson's interval of 3 in 20, as published in textbooks
    assert share_interval(3, 20, 0.95) == pytest.approx((0.0524, 0.3604), abs=1e-3)
