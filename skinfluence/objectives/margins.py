"""Losses of support vector machines and the heads of one-vs-one classifiers."""

import numpy as np

from .heads import ClassifierHead, _pick
from .losses import Loss


class HingeLoss(Loss):
    """``max(0, 1 - yz)`` for class indices ``y`` in {0, 1}; at the kink the derivative is 0."""

    smooth = False

    def value(self, Z, y):
        """Hinge."""
        return np.maximum(0.0, 1 - (2.0 * np.asarray(y) - 1) * Z[..., 0])

    def gradient(self, Z, y):
        """``-y`` inside the margin."""
        sign = 2.0 * np.asarray(y) - 1
        # a free vector stands on the kink up to rounding: no weight of another row moves it
        return (-sign * (sign * Z[..., 0] < 1 - 1e-9))[..., None]


class EpsilonInsensitiveLoss(Loss):
    """``max(0, |z - y| - ε)``; at the kinks the derivative is 0."""

    smooth = False

    def __init__(self, epsilon):
        self.epsilon = epsilon

    def value(self, Z, y):
        """What the residual exceeds the tube by."""
        return np.maximum(0.0, np.abs(Z[..., 0] - y) - self.epsilon)

    def gradient(self, Z, y):
        """``±1`` outside the tube."""
        residual = Z[..., 0] - y
        outside = np.abs(residual) > self.epsilon + 1e-9 * max(1.0, self.epsilon)
        return (np.sign(residual) * outside)[..., None]


class OneVsOneHead(ClassifierHead):
    """One output a pair of classes ``(a, b)``, ``a < b``, positive for ``b``.

    The loss is the sum of the losses of the pairs that the label belongs to: what the pairs'
    fits minimise on a row.

    Parameters
    ----------
    classes : ndarray
    loss : Loss
        Of one pair, class index 1 standing for the second class.
    shape : {"ovr", "ovo"}
        Decision values: votes and confidences of each class, or the pairs' own.
    sign : {1, -1}
        Sign of the pairs' own values as the estimator reports them.
    by_votes : bool, default=False
        Whether predictions go by votes alone, the first of several winners, as libsvm's do.
    """

    def __init__(self, classes, loss, shape="ovr", sign=1, by_votes=False):
        super().__init__(classes)
        self.by_votes = by_votes
        self.loss_function, self.shape, self.sign = loss, shape, sign
        K = len(self.classes)
        self.pairs = [(a, b) for a in range(K) for b in range(a + 1, K)]
        self.n_outputs = len(self.pairs)
        self.n_decisions = K if shape == "ovr" and K > 2 else self.n_outputs
        self._signs = np.zeros((self.n_outputs, K))
        for p, (a, b) in enumerate(self.pairs):
            self._signs[p, a], self._signs[p, b] = -1.0, 1.0

    def loss(self, Z, y):
        """Sum over the pairs with the label."""
        total = 0.0
        for p, (a, b) in enumerate(self.pairs):
            value = self.loss_function.value(Z[..., [p]], (y == b).astype(np.intp))
            total = total + np.where((y == a) | (y == b), value, 0.0)
        return total

    def loss_gradient(self, Z, y):
        """Derivative, zero for pairs without the label."""
        out = np.zeros_like(Z)
        for p, (a, b) in enumerate(self.pairs):
            slope = self.loss_function.gradient(Z[..., [p]], (y == b).astype(np.intp))[..., 0]
            out[..., p] = np.where((y == a) | (y == b), slope, 0.0)
        return out

    def decision(self, Z, index):
        """Votes and confidence of a class, or the value of a pair."""
        if self.shape == "ovo":
            return self.sign * _pick(Z, index)
        if len(self.classes) == 2:  # one decision value, that of the second class
            index = np.ones_like(index)
        confidence = Z @ self._signs
        return _pick(self._votes(Z) + confidence / (3 * (np.abs(confidence) + 1)), index)

    def _votes(self, Z):
        return (Z <= 0) @ np.maximum(-self._signs, 0) + (Z > 0) @ np.maximum(self._signs, 0)

    def decision_values(self, Z):
        """Side by side."""
        every = [self.decision(Z, np.full(len(Z), k)) for k in range(self.n_decisions)]
        return np.column_stack(every)

    def predicted_index(self, Z):
        """The class with most votes, ties as the estimator breaks them."""
        if self.n_outputs == 1:
            return super().predicted_index(Z)
        return (self._votes(Z) if self.by_votes else self.decision_values(Z)).argmax(axis=1)

    def decision_gradient(self, Z, index):
        """Derivative; the votes are constant almost everywhere."""
        index = np.asarray(index)
        if self.shape == "ovo":
            return self.sign * (np.arange(self.n_outputs) == index[..., None]).astype(float)
        if len(self.classes) == 2:
            index = np.ones_like(index)
        confidence = Z @ self._signs
        slope = 1 / (3 * (np.abs(confidence) + 1) ** 2)
        return _pick(slope, index)[..., None] * self._signs.T[index]

    def explained_index(self, Z, y):
        """The class of ``y``; the predicted class without it."""
        if self.shape == "ovo":
            raise ValueError(
                f"decision_function_shape='ovo' has {self.n_outputs} values, one a pair of "
                "classes: say which one with target=Decision(output=k), or fit with 'ovr'"
            )
        if len(self.classes) == 2:
            return np.ones(len(Z), dtype=np.intp)
        if y is not None:
            return y
        every = [self.decision(Z, np.full(len(Z), k)) for k in range(len(self.classes))]
        return np.argmax(every, axis=0)
