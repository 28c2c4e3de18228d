"""Rates of wrong labels against labels whose rates are known."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax

from skinfluence.mislabel import MislabelDetector
from skinfluence.mislabel.class_noise import ClassNoise, fit_class_noise
from skinfluence.mislabel.noise import flag, likely_wrong


def labelled(transition, n=4000, seed=0):
    """Probabilities, true and given classes under known rates.

    The probabilities are flatter than those of the true classes, as a model's are that was trained
    on wrong labels and with a penalty.
    """
    rng = np.random.default_rng(seed)
    K = len(transition)
    logits = 3 * rng.normal(size=(n, K))
    clean = softmax(logits, axis=1)
    true = np.array([rng.choice(K, p=p) for p in clean])
    given = np.array([rng.choice(K, p=transition[j]) for j in true])
    return softmax(logits / 3, axis=1), true, given


@pytest.mark.parametrize(
    "transition",
    [
        np.eye(2),
        np.array([[0.9, 0.1], [0.3, 0.7]]),
        np.array([[0.8, 0.2, 0.0], [0.0, 0.95, 0.05], [0.1, 0.1, 0.8]]),
    ],
)
def test_rates_that_made_the_labels_are_found(transition):
    proba, _, given = labelled(transition)
    found = fit_class_noise(proba, given)
    np.testing.assert_allclose(found.transition, transition, atol=0.04)
    np.testing.assert_allclose(found.transition.sum(axis=1), 1)


def test_posterior_is_bayes_rule_and_calibrated():
    transition = np.array([[0.9, 0.1], [0.3, 0.7]])
    proba, true, given = labelled(transition, n=20_000)
    noise = fit_class_noise(proba, given)
    posterior = noise.posterior(proba, given)
    clean = noise.true_classes(proba)
    for i in range(5):
        joint = clean[i] * noise.transition[:, given[i]]
        np.testing.assert_allclose(posterior[i], joint / joint.sum())
    quality = posterior[np.arange(len(given)), given]
    for low in (0.0, 0.25, 0.5, 0.75):
        part = (quality >= low) & (quality < low + 0.25)
        right = (true == given)[part]
        assert part.sum() > 200  # so that four standard errors are below 0.14, at most
        error = 4 * np.sqrt(right.mean() * (1 - right.mean()) / part.sum())
        np.testing.assert_allclose(right.mean(), quality[part].mean(), atol=0.02 + error)


def test_step_is_newton_s_on_the_calibration():
    # at rates that are held, the power and the offsets maximise the likelihood of the labels
    transition = np.array([[0.85, 0.15], [0.25, 0.75]])
    proba, _, given = labelled(transition, n=3000)
    noise = fit_class_noise(proba, given, transition)

    def loss(parameters):
        mixed = ClassNoise(transition, parameters[0], np.r_[parameters[1], -parameters[1]])
        mixture = mixed.true_classes(proba) @ transition
        return -np.log(mixture[np.arange(len(given)), given]).mean()

    best = minimize(loss, [1.0, 0.0], tol=1e-12)
    offset = (noise.offsets[0] - noise.offsets[1]) / 2
    assert loss([noise.power, offset]) < best.fun + 1e-5


def test_uneven_rates_put_the_class_that_is_wrong_more_often_first():
    noise = ClassNoise(np.array([[0.95, 0.05], [0.3, 0.7]]), 1.0, np.zeros(2))
    proba = np.array([[0.3, 0.7], [0.7, 0.3]])
    quality = noise.posterior(proba, np.array([0, 1]))[[0, 1], [0, 1]]
    # label 0 is often that of a row of class 1, label 1 rarely that of a row of class 0
    assert quality[0] < quality[1]
    np.testing.assert_allclose(quality[0], 0.3 * 0.95 / (0.3 * 0.95 + 0.7 * 0.3))


def test_flags_make_the_expected_f1_largest():
    quality = np.random.default_rng(0).uniform(size=50)
    wrong = 1 - quality
    mask = likely_wrong(quality)

    def expected_f1(chosen):
        return 2 * wrong[chosen].sum() / (chosen.sum() + wrong.sum())

    best = max(expected_f1(quality <= q) for q in quality)
    np.testing.assert_allclose(expected_f1(mask), best)
    assert quality[mask].max() < quality[~mask].min()
    everywhere = np.full((50, 2), 0.5)
    np.testing.assert_array_equal(flag(quality, everywhere, np.arange(50) % 2), mask)


def test_right_labels_are_left_alone():
    proba, _, given = labelled(np.eye(2))
    detector = MislabelDetector().fit(None, given, pred_proba=proba)
    assert detector.contamination_ < 0.01
    # labels of overlapping classes are unlikely now and then without being wrong
    assert detector.is_mislabeled_.mean() < 0.06


def test_raised_rates_keep_the_order_of_each_class():
    proba, _, given = labelled(np.eye(3))
    noise = fit_class_noise(proba, given)
    own = np.arange(len(given)), given
    raised = noise.with_share(0.05, given)
    np.testing.assert_allclose(1 - raised.transition[given, given].mean(), 0.05)
    before, after = noise.posterior(proba, given)[own], raised.posterior(proba, given)[own]
    for label in range(3):
        order = np.argsort(before[given == label])
        assert (np.diff(after[given == label][order]) > -1e-12).all()
    assert (after < before).all()
    np.testing.assert_array_equal(noise.with_share(1e-9, given).transition, noise.transition)
