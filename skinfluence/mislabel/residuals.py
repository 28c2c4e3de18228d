"""Wrong regression targets: studentised held-out residuals over a committee."""

import numpy as np
from scipy.stats import t as student

# Iglewicz and Hoaglin's limit for a residual in robust standard deviations.
LIMIT = 3.5
# Heavy tails: a residual of 100 deviations still ranks before one of 50.
DEGREES = 4


def studentised(predictions, weights, y, present):
    """Residuals of the weighted mean prediction in robust standard deviations.

    The variance of a row is that of the residuals (from their median absolute deviation over the
    rows ``present``) plus that of the members' predictions, which is large where they guess.

    Parameters
    ----------
    predictions : ndarray of shape (m, n)
    weights : ndarray of shape (m,)
    y : ndarray of shape (n,)
    present : ndarray of bool of shape (n,)

    Returns
    -------
    residuals, mean prediction : ndarrays of shape (n,)
    """
    mean = weights @ predictions
    spread = weights @ (predictions - mean) ** 2
    residuals = y - mean
    center = np.median(residuals[present])
    scale = 1.4826 * np.median(np.abs(residuals[present] - center))
    if scale == 0:  # more than half of the rows are met exactly
        scale = residuals[present].std() or np.finfo(float).tiny
    return residuals / np.sqrt(scale**2 + spread), mean


def quality(residuals):
    """Two-sided tail probability of each residual under a t distribution."""
    return 2 * student.sf(np.abs(residuals), DEGREES)
