"""Confidence intervals of the evaluation's numbers."""

import numpy as np
from scipy.stats import norm


def bootstrap_interval(statistic, shape, confidence, rng, n_resamples=500):
    """Percentiles of ``statistic(*indices)`` with every axis of ``shape`` resampled.

    Returns
    -------
    (float, float)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence!r} must lie between 0 and 1")
    values = [
        statistic(*(rng.randint(0, size, size) for size in shape)) for _ in range(n_resamples)
    ]
    half = (1 - confidence) / 2
    low, high = np.nanquantile(values, [half, 1 - half])
    return float(low), float(high)


def share_interval(n_hits, n, confidence):
    """Wilson's interval of a share."""
    z = norm.ppf((1 + confidence) / 2)
    share, extra = n_hits / n, z**2 / n
    middle = (share + extra / 2) / (1 + extra)
    half = z * np.sqrt(share * (1 - share) / n + extra / (4 * n)) / (1 + extra)
    return float(middle - half), float(middle + half)
