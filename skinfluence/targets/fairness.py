"""Fairness targets: gaps between groups of queries. Each is a scalar."""

from numbers import Real

import numpy as np
from scipy.special import expit

from ..objectives.heads import _onehot, _others, _pick
from .aggregate import Aggregate, aligned, codes
from .base import Target
from .predictions import Decision, Loss, Probability, class_index


class Predicted(Target):
    """1 where a class is predicted, else 0; or a sigmoid of its margin in place of the step.

    Parameters
    ----------
    positive : int
        Position of the class.
    width : float, optional
        Of the sigmoid, in units of the decision value; None for the step itself.
    """

    def __init__(self, positive, width=None):
        self.positive = positive
        self.width = width

    def context(self, head, Z, y):
        """None; refuses heads whose predictions are no sign or largest output."""
        if Z.shape[-1] not in (1, len(head.classes)):
            raise ValueError(
                f"{type(head).__name__} predicts by votes of {Z.shape[-1]} pairs of classes: "
                "fairness targets know two classes there"
            )
        return ()

    def value(self, head, Z):
        """Predictions, or sigmoids."""
        margin = self._margin(head, Z)
        if self.width is not None:
            return expit(margin / self.width)
        if Z.shape[-1] == 1:  # of a tie, scikit-learn predicts the first class
            return (margin > 0 if self.positive == 1 else margin >= 0).astype(float)
        return (Z.argmax(axis=-1) == self.positive).astype(float)

    def gradient(self, head, Z):
        """Of the sigmoid; the step's is zero almost everywhere and refused."""
        if self.width is None:
            raise ValueError(
                "predictions are piecewise constant: their derivative is zero. Use a method that "
                "re-evaluates the target ('newton', 'exact', 'infinitesimal_jackknife', 'refit'), "
                "or smooth=True, or a width such as smooth=0.5"
            )
        p = self.value(head, Z)
        if Z.shape[-1] == 1:
            index = np.ones(Z.shape[:-1], dtype=np.intp)
            slope = self._sign() * head.decision_gradient(Z, index)
        else:
            rival = _others(Z, self.positive).argmax(axis=-1)
            slope = _onehot(Z, self.positive) - _onehot(Z, rival)
        return (p * (1 - p) / self.width)[..., None] * slope

    def _margin(self, head, Z):
        """Decision value of the class, less the largest other one where each class has its own."""
        if Z.shape[-1] == 1:
            return self._sign() * head.decision(Z, np.ones(Z.shape[:-1], dtype=np.intp))
        return _pick(Z, self.positive) - _others(Z, self.positive).max(axis=-1)

    def _sign(self):
        return 1.0 if self.positive == 1 else -1.0


class GroupGap(Aggregate):
    """Shared by gaps: the largest difference of a rate between two groups."""

    columns = ("sensitive",)
    has_labels = True

    def __init__(self, sensitive, *, smooth=True, positive=None):
        self.sensitive = sensitive
        self.smooth = smooth
        self.positive = positive

    def inner(self, head):
        """What is averaged: probability, prediction, or a sigmoid in its place."""
        width = self._width()
        if head.classes is None:
            if self.has_labels or self.smooth is not True or self.positive is not None:
                raise ValueError(
                    f"target {type(self).__name__}(smooth={self.smooth!r}) needs a classifier; a "
                    "regressor's predictions have DemographicParity(sensitive) alone"
                )
            return Decision()
        positive = self._positive(head)
        if self.smooth is True:
            return Probability(head.classes[positive])
        return Predicted(positive, width)

    def _width(self):
        if self.smooth is True or self.smooth is False:
            return None
        if not isinstance(self.smooth, Real) or not self.smooth > 0:
            raise ValueError(
                f"smooth={self.smooth!r} must be True (probabilities), False (predictions) or the "
                "positive width of a sigmoid"
            )
        return float(self.smooth)

    def _positive(self, head):
        if self.positive is not None:
            return class_index(head, self.positive, "positive")
        if len(head.classes) != 2:
            raise ValueError(
                f"the model has {len(head.classes)} classes: say which outcome is meant with "
                "positive=label"
            )
        return 1

    def conditions(self, head, y, n):
        """``(name, mask)`` of the queries among which rates are compared."""
        raise NotImplementedError

    def cells(self, head, y, n):
        """Indicators: condition by condition, a column a group."""
        index, labels = codes(aligned(self.sensitive, n, "sensitive"), "sensitive")
        if len(labels) < 2:
            raise ValueError(f"sensitive holds one group only, {labels.tolist()}: there is no gap")
        groups = index[:, None] == np.arange(len(labels))
        cells = []
        for name, mask in self.conditions(head, y, n):
            inside = groups & mask[:, None]
            empty = labels[~inside.any(axis=0)]
            if len(empty):
                raise ValueError(f"group {str(empty[0])!r} has no queries{name}: it has no rate")
            cells.append(inside)
        return np.concatenate(cells, axis=1).astype(np.float64)

    def reduce(self, means):
        """Largest gap over the conditions."""
        return self._gaps(means).max(axis=0)

    def slope(self, means):
        """1 at the group of the highest rate, -1 at that of the lowest."""
        rates = self._by_condition(means)
        gaps = self._gaps(means)
        worst = int(gaps.argmax())
        out = np.zeros(rates.shape)
        high, low = rates[worst].argmax(), rates[worst].argmin()
        ties = (np.sort(gaps)[-2:] == gaps[worst]).sum() > 1 or (
            (rates[worst] == rates[worst][high]).sum() + (rates[worst] == rates[worst][low]).sum()
            > 2
        )
        if ties:
            raise ValueError(
                f"{type(self).__name__} is {gaps[worst]:.3g} and has no derivative there: groups "
                "tie for the largest gap. Use a method that re-evaluates the target, such as "
                "'newton'"
            )
        out[worst, high], out[worst, low] = 1.0, -1.0
        return out.ravel()

    def _by_condition(self, means):
        return means.reshape(self.n_conditions, -1, *means.shape[1:])

    def _gaps(self, means):
        rates = self._by_condition(means)
        return rates.max(axis=1) - rates.min(axis=1)


_PARAMETERS = """
    Of more than two groups the gap is the largest between any two.

    Parameters
    ----------
    sensitive : array-like of shape (n_queries,) or str
        Group of each query, or the name of that column of the query dataframe.
    smooth : bool or float, default=True
        What a rate is the mean of: True the probability of the outcome, False the prediction (no
        derivative: re-evaluating methods only), a number the sigmoid of the decision value over
        this width, which stands in for the prediction.
    positive : str or int, optional
        Class of the outcome; default ``classes[1]`` of two.
"""


class DemographicParity(GroupGap):
    """How far apart the groups' rates of the positive outcome are: a scalar, not negative.

    Of a regressor, how far apart its mean predictions are.
    {parameters}
    References
    ----------
    Li, P. and Liu, H. (2022). Achieving fairness at no utility cost via data reweighing with
    influence. ICML. https://arxiv.org/abs/2202.00787

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.targets import DemographicParity
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X, group = scale(X), X[:, 1] > 20
    >>> explainer = InfluenceExplainer(LogisticRegression(), target=DemographicParity(group))
    >>> explainer.fit(X, y).transform(X).shape
    (1, 569)
    """

    n_conditions = 1
    has_labels = False

    def conditions(self, head, y, n):
        """All queries."""
        return [("", np.ones(n, dtype=bool))]


class EqualOpportunity(GroupGap):
    """How far apart the groups' rates are among the queries whose ``y`` is the outcome: a scalar.
    {parameters}
    References
    ----------
    Hardt, M., Price, E. and Srebro, N. (2016). Equality of opportunity in supervised learning.
    NeurIPS. https://arxiv.org/abs/1610.02413

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.targets import EqualOpportunity
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X, group = scale(X), X[:, 1] > 20
    >>> explainer = InfluenceExplainer(LogisticRegression(), target=EqualOpportunity(group))
    >>> explainer.fit(X, y).transform(X, y).shape
    (1, 569)
    """

    needs_y = True
    n_conditions = 1

    def conditions(self, head, y, n):
        """Queries whose label is the outcome."""
        positive = self._positive(head)
        return [(f" of class {str(head.classes[positive])!r}", y == positive)]


class EqualizedOdds(GroupGap):
    """The larger of two gaps, among queries whose ``y`` is the outcome and among the others.
    {parameters}
    References
    ----------
    Hardt, M., Price, E. and Srebro, N. (2016). Equality of opportunity in supervised learning.
    NeurIPS. https://arxiv.org/abs/1610.02413

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.targets import EqualizedOdds
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X, group = scale(X), X[:, 1] > 20
    >>> explainer = InfluenceExplainer(LogisticRegression(), target=EqualizedOdds(group))
    >>> explainer.fit(X, y).transform(X, y).shape
    (1, 569)
    """

    needs_y = True
    n_conditions = 2

    def conditions(self, head, y, n):
        """Queries whose label is the outcome, and the others."""
        positive = self._positive(head)
        name = f"class {str(head.classes[positive])!r}"
        return [(f" of {name}", y == positive), (f" outside {name}", y != positive)]


for _each in (DemographicParity, EqualOpportunity, EqualizedOdds):
    _each.__doc__ = _each.__doc__.replace("{parameters}", _PARAMETERS)


class WorstGroupLoss(Aggregate):
    """The mean loss of the group of queries where it is largest: a scalar.

    Parameters
    ----------
    groups : array-like of shape (n_queries,) or str
        Group of each query, or the name of that column of the query dataframe.

    References
    ----------
    Sagawa, S., Koh, P. W., Hashimoto, T. B. and Liang, P. (2020). Distributionally robust neural
    networks for group shifts. ICLR. https://arxiv.org/abs/1911.08731

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.targets import WorstGroupLoss
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X, group = scale(X), X[:, 1] > 20
    >>> explainer = InfluenceExplainer(LogisticRegression(), target=WorstGroupLoss(group))
    >>> explainer.fit(X, y).transform(X, y).shape
    (1, 569)
    """

    needs_y = True
    columns = ("groups",)

    def __init__(self, groups):
        self.groups = groups

    def inner(self, head):
        """The loss."""
        return Loss()

    def cells(self, head, y, n):
        """A column a group."""
        index, labels = codes(aligned(self.groups, n, "groups"), "groups")
        return (index[:, None] == np.arange(len(labels))).astype(np.float64)

    def reduce(self, means):
        """The largest mean."""
        return means.max(axis=0)

    def slope(self, means):
        """1 at the worst group."""
        if (means == means.max()).sum() > 1:
            raise ValueError(
                "two groups tie for the largest loss, which has no derivative there: use a method "
                "that re-evaluates the target, such as 'newton'"
            )
        return (means == means.max()).astype(float)
