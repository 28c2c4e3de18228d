"""Targets of one prediction: its loss, its decision value, its probability."""

import numpy as np

from .base import Target


class Loss(Target):
    """The model's own loss on the query, unweighted: log-loss, squared error, hinge...

    A positive influence means that the loss would be higher without the row: it helps.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.targets import Loss
    >>> X, y = load_diabetes(return_X_y=True)
    >>> InfluenceExplainer(Ridge(), target=Loss()).fit(X, y).transform(X[:3], y[:3]).shape
    (3, 442)
    """

    needs_y = True

    def value(self, head, Z, y):
        """Losses."""
        return head.loss(Z, y)

    def gradient(self, head, Z, y):
        """Derivative of the losses."""
        return head.loss_gradient(Z, y)

    def change(self, head, Z, dZ, y):
        """Change of the losses, by the head's own stable form."""
        return head.loss_change(Z, dZ, y)


class Decision(Target):
    """A regressor's prediction, or a classifier's decision value.

    With more than two classes, the decision value of the query's class ``y``, or of the class
    predicted when ``y`` is not given.

    Parameters
    ----------
    output : int, optional
        Which output of a model with several; default as above.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.targets import Decision
    >>> X, y = load_iris(return_X_y=True)
    >>> explainer = InfluenceExplainer(LogisticRegression(max_iter=1000), target=Decision(output=2))
    >>> explainer.fit(X, y).transform(X[:3]).shape
    (3, 150)
    """

    def __init__(self, output=None):
        self.output = output

    def context(self, head, Z, y):
        """Which output each query speaks of."""
        if self.output is None:
            return (head.explained_index(Z, y),)
        n_decisions = getattr(head, "n_decisions", Z.shape[-1])
        if not 0 <= self.output < n_decisions:
            raise ValueError(f"output={self.output} is not one of the {n_decisions} outputs")
        return (np.full(len(Z), self.output),)

    def value(self, head, Z, index):
        """Decision values."""
        return head.decision(Z, index)

    def gradient(self, head, Z, index):
        """Derivative."""
        return head.decision_gradient(Z, index)

    def change(self, head, Z, dZ, index):
        """Change of the decision values."""
        return head.decision_change(Z, dZ, index)


class OfClass(Target):
    """Shared by targets of one class's probability."""

    def __init__(self, label=None):
        self.label = label

    @property
    def needs_y(self):
        """Where it is the class of ``y`` that is asked for."""
        return isinstance(self.label, str) and self.label == "own"

    def own(self):
        """Of the row's own class, unless a class is named."""
        return type(self)("own") if self.label is None else self

    def context(self, head, Z, y):
        """Which class each query speaks of."""
        if head.classes is None:
            raise ValueError(
                f"target {type(self).__name__} needs a classifier; use target='decision'"
            )
        if self.label is None:
            return (head.explained_index(Z, y),)
        if self.needs_y:
            if "own" in head.classes.tolist():
                raise ValueError("a class is itself called 'own': label='own' is ambiguous")
            return (np.asarray(y),)
        return (np.full(len(Z), class_index(head, self.label)),)


def class_index(head, label, name="label"):
    """Position of a class among those of a classifier."""
    found = [k for k, known in enumerate(head.classes.tolist()) if known == label]
    if not found:
        raise ValueError(f"{name}={label!r} is not one of the classes {head.classes.tolist()}")
    return found[0]


class Probability(OfClass):
    """The probability of a class: of ``classes[1]`` for a binary model, else as ``Decision``.

    Parameters
    ----------
    label : str, int or None, default=None
        Whose probability: None as above, ``"own"`` the class of the query's ``y``, else a class.
        ``self_influence`` asks each row about its own class.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.targets import Probability
    >>> X, y = load_iris(return_X_y=True)
    >>> explainer = InfluenceExplainer(LogisticRegression(max_iter=1000), target=Probability())
    >>> explainer.fit(X, y).transform(X[:3]).shape
    (3, 150)
    """

    def value(self, head, Z, index):
        """Probabilities."""
        return head.class_proba(Z, index)

    def gradient(self, head, Z, index):
        """Derivative."""
        return head.proba_gradient(Z, index)


class LogOdds(OfClass):
    """``log p - log(1 - p)`` with ``p`` as in :class:`Probability`.

    It does not saturate where the probability does.

    Parameters
    ----------
    label : str, int or None, default=None
        As for :class:`Probability`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.targets import LogOdds
    >>> X, y = load_iris(return_X_y=True)
    >>> explainer = InfluenceExplainer(LogisticRegression(max_iter=1000), target=LogOdds(2))
    >>> explainer.fit(X, y).transform(X[:3]).shape
    (3, 150)
    """

    def value(self, head, Z, index):
        """Log-odds."""
        return head.log_odds(Z, index)

    def gradient(self, head, Z, index):
        """Derivative."""
        return head.log_odds_gradient(Z, index)


class BrierScore(Target):
    """Squared error of the probabilities: ``(p - y)²`` of two classes, of more the sum over them.

    One value a query; ``Mean(BrierScore())`` is the score of a table.

    References
    ----------
    Brier, G. W. (1950). Verification of forecasts expressed in terms of probability. Monthly
    Weather Review 78. https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.targets import BrierScore
    >>> X, y = load_iris(return_X_y=True)
    >>> explainer = InfluenceExplainer(LogisticRegression(max_iter=1000), target=BrierScore())
    >>> explainer.fit(X, y).transform(X[:3], y[:3]).shape
    (3, 150)
    """

    needs_y = True

    def context(self, head, Z, y):
        """Class indices."""
        if head.classes is None:
            raise ValueError("target BrierScore needs a classifier with probabilities")
        return (y,)

    def value(self, head, Z, y):
        """Squared errors."""
        error = self._errors(head, Z, y)
        total = (error**2).sum(axis=-1)
        return total / 2 if len(head.classes) == 2 else total  # both classes' are the same

    def gradient(self, head, Z, y):
        """Through the probability of each class."""
        error = self._errors(head, Z, y)
        slopes = error if len(head.classes) == 2 else 2 * error
        return probability_pullback(head, Z, slopes)

    def _errors(self, head, Z, y):
        P = head.proba(Z)
        return P - (np.asarray(y)[..., None] == np.arange(P.shape[-1]))


def probability_pullback(head, Z, C):
    """Cotangents ``C`` of the class probabilities (m, n_classes), back to the outputs."""
    parts = (
        C[..., [k]] * head.proba_gradient(Z, np.full(Z.shape[:-1], k))
        for k in range(len(head.classes))
    )
    return sum(parts)
