"""How often the labels of each class are wrong, and so how likely each label is to be right.

A label is taken to be drawn from row ``j`` of a transition matrix, where ``j`` is the true class
and is not seen. Held-out probabilities, made by models of the labels as given, say how the classes
lie: the true class of a row is taken to be drawn in proportion to ``proba ** power *
exp(offset)``. Where labels are wrong at random this is sharper than ``proba`` and its ends do not
reach 0 and 1: how far from them the labels stay is the share of wrong ones.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

FLOOR = 1e-3  # of a probability: beyond, one member's confidence would decide
# Errors' worth of belief, a class, that each of its wrong labels is as likely as the others.
PRIOR_ERRORS = 10.0
SIGNIFICANT = 1.92  # of a log-likelihood: half the 95 % point of chi-squared with one degree
LEAST_POWER = 0.05
MOST_WRONG = 0.5  # of a class: more than that, and the classes would trade names
MOST_STEPS = 60
CLOSE = 1e-5


@dataclass
class ClassNoise:
    """Rates of wrong labels, class by class, and what turns probabilities into true classes.

    Attributes
    ----------
    transition : ndarray of shape (K, K)
        Row j, column k: probability that a row of class j carries label k.
    power : float
    offsets : ndarray of shape (K,)
    """

    transition: np.ndarray
    power: float
    offsets: np.ndarray

    def true_classes(self, proba):
        """Probabilities of the true class from the features alone."""
        return softmax(self.power * _logarithm(proba) + self.offsets, axis=1)

    def posterior(self, proba, codes):
        """Probabilities of the true class from the features and the given label: (n, K)."""
        out = self.true_classes(proba) * self.transition[:, codes].T
        return out / out.sum(axis=1, keepdims=True)

    def with_share(self, least, codes):
        """The same with all rates of errors raised until a share ``least`` of labels is wrong."""
        share = 1 - self.transition[codes, codes].mean()
        errors = self.transition * (1 - np.eye(len(self.transition)))
        errors *= max(1.0, least / share)
        errors *= np.minimum(1, MOST_WRONG / np.maximum(errors.sum(axis=1), 1e-9))[:, None]
        return ClassNoise(errors + np.diag(1 - errors.sum(axis=1)), self.power, self.offsets)


def fit_class_noise(proba, codes, transition=None):
    """The :class:`ClassNoise` of largest likelihood, or none where it explains no more than none.

    Parameters
    ----------
    proba : ndarray of shape (n, K)
        Held-out probabilities of the labels as given.
    codes : ndarray of int of shape (n,)
    transition : ndarray of shape (K, K), optional
        Held where it is known.
    """
    K = proba.shape[1]
    if transition is not None:
        return _calibrated(proba, codes, transition, held=True)[0]
    # the rates at which the likeliest class differs from the label are too high: a start
    likeliest = np.eye(K)[proba.argmax(axis=1)].T @ np.eye(K)[codes]
    noise, likelihood = _calibrated(proba, codes, _shrunk(likeliest), held=False)
    none, without = _calibrated(proba, codes, _shrunk(np.diag(np.bincount(codes))), held=True)
    return noise if likelihood - without > SIGNIFICANT else none


def _calibrated(proba, codes, transition, held):
    """The fit from a start by expectation maximisation, and its log-likelihood.

    Errors are shrunk towards even ones: labels that are wrong equally often in each class, and
    equally often of each other class.
    """
    K = proba.shape[1]
    logarithm, given = _logarithm(proba), np.eye(K)[codes]
    noise = ClassNoise(transition, 1.0 if held else 2.0, np.zeros(K))
    for _ in range(MOST_STEPS):
        before = np.r_[noise.power, noise.offsets, noise.transition.ravel()]
        clean = noise.true_classes(proba)
        true = clean * noise.transition[:, codes].T
        true /= true.sum(axis=1, keepdims=True)
        power, offsets = _newton_step(logarithm, clean, true, noise.power)
        transition = noise.transition if held else _shrunk(true.T @ given)
        noise = ClassNoise(transition, noise.power + power, noise.offsets + offsets)
        after = np.r_[noise.power, noise.offsets, noise.transition.ravel()]
        if np.abs(after - before).max() < CLOSE:
            break
    mixture = (noise.true_classes(proba) * noise.transition[:, codes].T).sum(axis=1)
    return noise, np.log(mixture).sum()


def _logarithm(proba):
    return np.log(np.maximum(proba, FLOOR))


def _newton_step(features, clean, true, power, longest=0.5):
    """Steps of power and offsets towards the expected true classes: a calibration by logits."""
    n, K = clean.shape
    gradient = np.r_[np.sum((true - clean) * features), (true - clean).sum(axis=0)]
    centred = clean * (features - (clean * features).sum(axis=1, keepdims=True))
    hessian = np.empty((K + 1, K + 1))
    hessian[0, 0] = np.sum(centred * features)
    hessian[0, 1:] = hessian[1:, 0] = centred.sum(axis=0)
    hessian[1:, 1:] = np.diag(clean.sum(axis=0)) - clean.T @ clean
    hessian += 1e-5 * n * np.eye(K + 1)  # a constant on all offsets changes nothing
    step = np.clip(np.linalg.solve(hessian, gradient), -longest, longest)
    if power + step[0] < LEAST_POWER:  # held there, so that the order of the rows stays
        step[0] = LEAST_POWER - power
        rest = gradient[1:] - hessian[1:, 0] * step[0]
        step[1:] = np.clip(np.linalg.solve(hessian[1:, 1:], rest), -longest, longest)
    return step[0], step[1:]


def _shrunk(counts):
    """Transition rates from expected counts (true, given), drawn towards even errors."""
    K = len(counts)
    rows = np.maximum(counts.sum(axis=1), 1e-9)
    errors = counts - np.diag(np.diag(counts))
    n_errors = max(errors.sum(), 1e-4 * rows.sum())
    even = np.outer(rows, np.ones(K)) * (1 - np.eye(K))
    even *= n_errors / even.sum()
    prior = PRIOR_ERRORS / (K - 1)
    errors = even * (errors + prior) / (even + prior)
    errors *= n_errors / errors.sum()
    rates = errors / rows[:, None]
    rates *= np.minimum(1, MOST_WRONG / np.maximum(rates.sum(axis=1), 1e-9))[:, None]
    return rates + np.diag(1 - rates.sum(axis=1))
