"""Ranking targets."""

from numbers import Real

import numpy as np
from scipy.special import expit

from .._blocks import block_length, blocks
from ..objectives.heads import SoftmaxHead
from .base import Target
from .predictions import class_index

# Scores this close, relative to the largest, are one: rounding differs between equal rows.
TIE = 1e-12


class AUROC(Target):
    """Area under the ROC curve of the queries' scores, ties counted half: a scalar.

    It is piecewise constant: by default it is re-evaluated on the moved scores, and methods
    that linearise their target are refused. With ``smooth`` the steps between pairs of queries
    are sigmoids, at a cost quadratic in the queries.

    Parameters
    ----------
    smooth : float, optional
        Width of the sigmoid, in units of the decision value.
    positive : str or int, optional
        The class scored, against all others; default ``classes[1]`` of two. The score is the
        decision value of the class, under a softmax its log-odds.

    References
    ----------
    Hanley, J. A. and McNeil, B. J. (1982). The meaning and use of the area under a receiver
    operating characteristic (ROC) curve. Radiology 143.
    https://doi.org/10.1148/radiology.143.1.7063747

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.targets import AUROC
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> InfluenceExplainer(LogisticRegression(), target=AUROC()).fit(scale(X), y).transform(
    ...     scale(X), y
    ... ).shape
    (1, 569)
    """

    needs_y = True
    scalar = True

    def __init__(self, smooth=None, *, positive=None):
        self.smooth = smooth
        self.positive = positive

    def bind_queries(self, objective, queries, y):
        """At some queries."""
        if len(queries) < 2:
            raise ValueError("AUROC needs at least two queries")
        return super().bind_queries(objective, queries, y)

    def context(self, head, Z, y):
        """Which queries are of the class, and its position."""
        if self.smooth is not None and not (isinstance(self.smooth, Real) and self.smooth > 0):
            raise ValueError(f"smooth={self.smooth!r} must be a positive width, or None")
        if head.classes is None:
            raise ValueError("target AUROC needs a classifier")
        if self.positive is None and len(head.classes) != 2:
            raise ValueError(
                f"the model has {len(head.classes)} classes: say which one is scored with "
                "positive=label"
            )
        index = 1 if self.positive is None else class_index(head, self.positive, "positive")
        of_class = y == index
        if of_class.all() or not of_class.any():
            raise ValueError("the queries hold one class only: the area is not defined")
        return of_class, np.full(len(Z), index)

    def value(self, head, Z, of_class, index):
        """The area, for each removal."""
        scores = self._scores(head, Z, index)
        of_class = of_class.reshape(-1)
        flat = scores.reshape(len(scores), -1)
        if self.smooth is None:
            areas = _area(flat, of_class)
        else:
            areas = _smooth_area(flat, of_class, self.smooth)
        return areas.reshape(scores.shape[1:])

    def gradient(self, head, Z, of_class, index):
        """Of the smooth area; that of the exact one is zero almost everywhere and refused."""
        if self.smooth is None:
            raise ValueError(
                "AUROC is piecewise constant: its derivative is zero. Use a method that "
                "re-evaluates the target ('newton', 'exact', 'infinitesimal_jackknife', 'refit'), "
                "or AUROC(smooth=0.5)"
            )
        scores = self._scores(head, Z, index)
        high, low = np.flatnonzero(of_class), np.flatnonzero(~of_class)
        slopes = np.zeros(len(scores))
        for part in blocks(len(high), block_length(32 * len(low), share=1 / 8)):
            p = expit((scores[high[part], None] - scores[low]) / self.smooth)
            p *= (1 - p) / (self.smooth * len(high) * len(low))
            slopes[high[part]] += p.sum(axis=1)
            slopes[low] -= p.sum(axis=0)
        return slopes[:, None] * self._slopes(head, Z, index)

    def _scores(self, head, Z, index):
        if Z.shape[-1] == 1:  # the decision value of the second class
            one = head.decision(Z, np.ones(Z.shape[:-1], dtype=np.intp))
            return np.where(index == 1, one, -one)
        if len(head.classes) == 2:
            return np.where(index == 1, 1.0, -1.0) * (Z[..., 1] - Z[..., 0])
        if isinstance(head, SoftmaxHead):
            return head.log_odds(Z, index)
        return head.decision(Z, np.broadcast_to(index, Z.shape[:-1]))

    def _slopes(self, head, Z, index):
        if Z.shape[-1] == 1:
            one = head.decision_gradient(Z, np.ones(Z.shape[:-1], dtype=np.intp))
            return np.where(index[:, None] == 1, one, -one)
        if len(head.classes) == 2:
            return np.where(index[:, None] == 1, 1.0, -1.0) * np.array([-1.0, 1.0])
        if isinstance(head, SoftmaxHead):
            return head.log_odds_gradient(Z, index)
        return head.decision_gradient(Z, index)


def _area(scores, of_class):
    """Mann-Whitney's statistic of each column, ties counted half."""
    quantum = TIE * np.abs(scores).max()
    high, low = np.ascontiguousarray(scores[of_class].T), np.ascontiguousarray(scores[~of_class].T)
    low.sort(axis=1)
    high.sort(axis=1)  # neighbouring look-ups then share the cache
    out = np.empty(len(high))
    for b, (above, below) in enumerate(zip(high, low, strict=True)):
        beaten = np.searchsorted(below, above - quantum, "left").sum()
        beaten += np.searchsorted(below, above + quantum, "right").sum()
        out[b] = beaten / (2 * above.size * below.size)
    return out


def _smooth_area(scores, of_class, width):
    """Mean over the pairs of the sigmoid of their difference, of each column."""
    high, low = scores[of_class], scores[~of_class]
    total = np.zeros(scores.shape[1])
    for part in blocks(len(high), block_length(24 * low.size, share=1 / 16)):
        total += expit((high[part, None] - low) / width).sum(axis=(0, 1))
    return total / (len(high) * len(low))
