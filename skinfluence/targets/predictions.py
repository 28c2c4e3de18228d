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


class Probability(Target):
    """The probability of a class: of ``classes[1]`` for a binary model, else as ``Decision``.

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

    def context(self, head, Z, y):
        """Which class each query speaks of."""
        if head.classes is None:
            raise ValueError("target='proba' needs a classifier; use target='decision'")
        return (head.explained_index(Z, y),)

    def value(self, head, Z, index):
        """Probabilities."""
        P = head.proba(Z)
        index = np.broadcast_to(index, P.shape[:-1])[..., None]
        return np.take_along_axis(P, index, axis=-1)[..., 0]

    def gradient(self, head, Z, index):
        """Derivative."""
        return head.proba_gradient(Z, index)
