"""Weights of a committee's members, from how well each predicts rows it has not seen."""

import numpy as np

COMBINE = ("mean", "equal")
# The least probability a member is charged for: one confident error must not decide.
FLOOR = 1e-3


def member_weights(combine, likelihoods):
    """Weights of the members, from the likelihood each gives to every held-out label.

    Parameters
    ----------
    combine : {"mean", "equal"}
        "mean" maximises the likelihood of the weighted mean, "equal" ignores it.
    likelihoods : ndarray of shape (m, n)

    Returns
    -------
    ndarray of shape (m,)
        Non-negative, of sum one.
    """
    if combine == "equal" or len(likelihoods) == 1:
        return np.full(len(likelihoods), 1 / len(likelihoods))
    return stacking_weights(likelihoods)


def stacking_weights(likelihoods, n_steps=30):
    """Mixture weights towards the largest likelihood, by expectation maximisation.

    It starts at equal weights and stops early: where rows are few or members alike it stays near.
    """
    p = np.maximum(likelihoods, FLOOR)
    w = np.full(len(p), 1 / len(p))
    for _ in range(n_steps):
        shares = w[:, None] * p
        shares /= shares.sum(axis=0)
        w = shares.mean(axis=1)
    return w


def robust_likelihoods(predictions, y):
    """Likelihoods of a regressor's held-out targets, of one scale for all members.

    The tails are those of a Cauchy distribution, so that a wrong target cannot decide.
    """
    residuals = np.abs(predictions - y)
    scale = np.median(residuals) or 1.0
    return 1 / (1 + (residuals / scale) ** 2)
