"""What a model's outputs mean: labels, losses, probabilities, decision values.

A head turns an array of outputs ``Z`` of shape ``(..., K)`` (linear predictors, logits, decision
values) into what a target explains, and knows the derivative of each with respect to ``Z``.
"""

import numpy as np
from scipy.special import expit, log_expit, logsumexp, softmax
from sklearn.utils.validation import column_or_1d

from .losses import LogisticLoss, MultinomialLoss


class Head:
    """Base class of heads.

    Attributes
    ----------
    n_outputs : int
    classes : ndarray or None
        Class labels of a classifier, in the order of its probabilities.
    """

    classes = None
    n_outputs = 1

    def encode(self, y):
        """Targets as the loss wants them; refuses labels never seen and wrong shapes."""
        raise NotImplementedError

    def loss(self, Z, y):
        """The model's own loss on one row, unweighted; shape ``Z.shape[:-1]``."""
        raise NotImplementedError

    def loss_gradient(self, Z, y):
        """Derivative of :meth:`loss`, shape of ``Z``."""
        raise NotImplementedError

    def loss_change(self, Z, dZ, y):
        """``loss(Z + dZ, y) - loss(Z, y)``."""
        return self.loss(Z + dZ, y) - self.loss(Z, y)

    def decision(self, Z, index):
        """Decision value (or regression prediction) of output ``index``."""
        raise NotImplementedError

    def decision_gradient(self, Z, index):
        """Derivative of :meth:`decision`, shape of ``Z``."""
        raise NotImplementedError

    def decision_change(self, Z, dZ, index):
        """``decision(Z + dZ) - decision(Z)``; exact where the decision is linear in ``Z``."""
        return self.decision(Z + dZ, index) - self.decision(Z, index)

    def proba(self, Z):
        """Class probabilities, shape ``(..., n_classes)``."""
        raise ValueError(self._no_probability())

    def class_proba(self, Z, index):
        """Probability of class ``index``, shape ``Z.shape[:-1]``."""
        return _pick(self.proba(Z), index)

    def proba_gradient(self, Z, index):
        """Derivative of the probability of class ``index``, shape of ``Z``."""
        raise ValueError(self._no_probability())

    def log_odds(self, Z, index):
        """``log p - log(1 - p)`` of class ``index``."""
        p = self.class_proba(Z, index)
        if ((p <= 0) | (p >= 1)).any():
            raise ValueError(
                "a probability is 0 or 1, so its log-odds are infinite: use target='proba'"
            )
        return np.log(p) - np.log1p(-p)

    def log_odds_gradient(self, Z, index):
        """Derivative of :meth:`log_odds`, shape of ``Z``."""
        self.log_odds(Z, index)  # refuses 0 and 1
        p = self.class_proba(Z, index)[..., None]
        return self.proba_gradient(Z, index) / (p * (1 - p))

    def explained_index(self, Z, y):
        """Which output ``decision`` and ``proba`` speak of, for encoded ``y`` (or None)."""
        raise NotImplementedError

    def labels(self, Z):
        """What ``predict`` gives for outputs (m, n_outputs); None where it gives decisions."""
        return None

    def _no_probability(self):
        return "this model has no class probabilities; use target='decision' or target='loss'"


class RegressionHead(Head):
    """A regressor: its prediction is an (optional) mean function of its outputs."""

    def __init__(self, loss, n_outputs=1):
        self.loss_function, self.n_outputs = loss, n_outputs

    def encode(self, y):
        """Targets as float64, ``(n,)`` or ``(n, K)``."""
        y = np.asarray(y, dtype=np.float64)
        expected = "(n_samples,)" if self.n_outputs == 1 else f"(n_samples, {self.n_outputs})"
        if self.n_outputs == 1 and y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.shape[1:] != (() if self.n_outputs == 1 else (self.n_outputs,)):
            raise ValueError(f"y has shape {y.shape}, but the model was fitted on y of {expected}")
        if not np.isfinite(y).all():
            raise ValueError("y contains NaN or infinity; drop or impute those rows")
        return y

    def loss(self, Z, y):
        """Loss on one row."""
        return self.loss_function.value(Z, y)

    def loss_gradient(self, Z, y):
        """Derivative of the loss."""
        return self.loss_function.gradient(Z, y)

    def loss_change(self, Z, dZ, y):
        """Change of the loss."""
        return self.loss_function.change(Z, dZ, y)

    def decision(self, Z, index):
        """The prediction."""
        return _pick(Z, index)

    def decision_gradient(self, Z, index):
        """1 at the output explained."""
        return _onehot(Z, index)

    def decision_change(self, Z, dZ, index):
        """The change of that output."""
        return _pick(dZ, index)

    def explained_index(self, Z, y):
        """The only output; several are ambiguous."""
        if self.n_outputs > 1:
            raise ValueError(
                f"the model has {self.n_outputs} outputs: say which one with "
                "target=Decision(output=k), or pass y for target='loss'"
            )
        return np.zeros(len(Z), dtype=np.intp)


class ClassifierHead(Head):
    """Shared by classifiers: label encoding."""

    def __init__(self, classes):
        self.classes = np.asarray(classes)

    def encode(self, y):
        """Class indices; a label never seen in fitting is refused."""
        if type(y) is not np.ndarray or y.ndim != 1:  # else the look would take the longest
            y = column_or_1d(y, warn=False)
        index = np.searchsorted(self.classes, y) if _sortable(self.classes, y) else None
        if index is None:
            lookup = {label: i for i, label in enumerate(self.classes.tolist())}
            index = np.array([lookup.get(label, -1) for label in np.asarray(y).tolist()])
        index = np.clip(index, -1, len(self.classes) - 1)
        unseen = (index < 0) | (self.classes[index] != y)
        if np.any(unseen):
            labels = np.unique(np.asarray(y)[unseen].astype(str))[:5].tolist()
            raise ValueError(
                f"y contains labels never seen in fitting: {labels}; "
                f"the model knows {self.classes.tolist()}"
            )
        return index.astype(np.intp)

    def decision_values(self, Z):
        """What ``decision_function`` gives for outputs (m, n_outputs)."""
        return Z

    def predicted_index(self, Z):
        """Class index that ``predict`` gives for outputs (m, n_outputs)."""
        return (Z[:, 0] > 0).astype(np.intp) if Z.shape[1] == 1 else Z.argmax(axis=1)

    def labels(self, Z):
        """Predicted labels."""
        return self.classes[self.predicted_index(Z)]


class BinaryHead(ClassifierHead):
    """A binary classifier with one output, positive for ``classes[1]``."""

    def __init__(self, classes, loss=None, has_probability=True):
        super().__init__(classes)
        self.loss_function = LogisticLoss() if loss is None else loss
        self.has_probability = has_probability

    def loss(self, Z, y):
        """Loss on one row."""
        return self.loss_function.value(Z, y)

    def loss_gradient(self, Z, y):
        """Derivative of the loss."""
        return self.loss_function.gradient(Z, y)

    def loss_change(self, Z, dZ, y):
        """Change of the loss."""
        return self.loss_function.change(Z, dZ, y)

    def decision(self, Z, index):
        """The decision value of the positive class."""
        return Z[..., 0]

    def decision_gradient(self, Z, index):
        """1."""
        return np.ones_like(Z)

    def proba(self, Z):
        """Probabilities of both classes."""
        if not self.has_probability:
            raise ValueError(self._no_probability())
        p = expit(Z)
        return np.concatenate([1 - p, p], axis=-1)

    def class_proba(self, Z, index):
        """``sigmoid(± z)``."""
        return expit(self.log_odds(Z, index))

    def proba_gradient(self, Z, index):
        """``± p (1 - p)``."""
        if not self.has_probability:
            raise ValueError(self._no_probability())
        slope = expit(Z) * expit(-Z)
        return np.where(np.asarray(index)[..., None] == 1, slope, -slope)

    def log_odds(self, Z, index):
        """``± z``."""
        return np.where(np.asarray(self._sigmoid_index(index)) == 1, 1.0, -1.0) * Z[..., 0]

    def log_odds_gradient(self, Z, index):
        """``± 1``."""
        sign = np.where(np.asarray(self._sigmoid_index(index)) == 1, 1.0, -1.0)
        return np.broadcast_to(sign[..., None], Z.shape).copy()

    def _sigmoid_index(self, index):
        if not self.has_probability:
            raise ValueError(self._no_probability())
        return index

    def decision_change(self, Z, dZ, index):
        """The change itself."""
        return dZ[..., 0]

    def explained_index(self, Z, y):
        """The positive class."""
        return np.ones(len(Z), dtype=np.intp)


class MulticlassHead(ClassifierHead):
    """Shared by classifiers with one output a class."""

    def __init__(self, classes):
        super().__init__(classes)
        self.n_outputs = len(self.classes)

    def decision(self, Z, index):
        """The decision value of class ``index``."""
        return _pick(Z, index)

    def decision_gradient(self, Z, index):
        """1 at that class."""
        return _onehot(Z, index)

    def decision_change(self, Z, dZ, index):
        """The change of that output."""
        return _pick(dZ, index)

    def explained_index(self, Z, y):
        """The class of ``y``; the predicted class without it."""
        return Z.argmax(axis=-1) if y is None else y


class SoftmaxHead(MulticlassHead):
    """Softmax over ``K ≥ 2`` outputs."""

    def __init__(self, classes):
        super().__init__(classes)
        self.loss_function = MultinomialLoss()

    def loss(self, Z, y):
        """Cross-entropy."""
        return self.loss_function.value(Z, y)

    def loss_gradient(self, Z, y):
        """``p - onehot(y)``."""
        return self.loss_function.gradient(Z, y)

    def proba(self, Z):
        """Softmax."""
        return softmax(Z, axis=-1)

    def proba_gradient(self, Z, index):
        """``p_c (onehot(c) - p)``."""
        P = softmax(Z, axis=-1)
        return _pick(P, index)[..., None] * (_onehot(P, index) - P)

    def log_odds(self, Z, index):
        """``z_c`` less the log-sum-exp of the others."""
        self.proba(Z[:0])  # refuses outputs that are no logits
        return _pick(Z, index) - logsumexp(_others(Z, index), axis=-1)

    def log_odds_gradient(self, Z, index):
        """1 at the class, minus the softmax of the others."""
        self.proba(Z[:0])
        return _onehot(Z, index) - softmax(_others(Z, index), axis=-1)


class OneVsRestHead(MulticlassHead):
    """K independent binary problems, one a class; ``loss`` is the sum of their losses."""

    def __init__(self, classes, loss, has_probability=False):
        super().__init__(classes)
        self.loss_function, self.has_probability = loss, has_probability

    def loss(self, Z, y):
        """Sum over the binary problems."""
        return sum(self._each(self.loss_function.value, Z, y))

    def loss_gradient(self, Z, y):
        """Derivative, one column a problem."""
        return np.concatenate(self._each(self.loss_function.gradient, Z, y), axis=-1)

    def proba(self, Z):
        """Sigmoids divided by their sum, as ``OneVsRestClassifier`` does."""
        if not self.has_probability:
            raise ValueError(self._no_probability())
        P = expit(Z)
        return P / P.sum(axis=-1, keepdims=True)

    def proba_gradient(self, Z, index):
        """Derivative of the normalised sigmoid."""
        P = self.proba(Z)
        total = expit(Z).sum(axis=-1, keepdims=True)
        slope = expit(Z) * expit(-Z)
        return slope / total * (_onehot(P, index) - _pick(P, index)[..., None])

    def log_odds(self, Z, index):
        """Log of the class's sigmoid over the sum of the others'."""
        self.proba(Z[:0])
        S = log_expit(Z)
        return _pick(S, index) - logsumexp(_others(S, index), axis=-1)

    def log_odds_gradient(self, Z, index):
        """Derivative through the log-sigmoids."""
        self.proba(Z[:0])
        inner = _onehot(Z, index) - softmax(_others(log_expit(Z), index), axis=-1)
        return inner * expit(-Z)

    def _each(self, function, Z, y):
        y = np.asarray(y)
        return [function(Z[..., [k]], (y == k).astype(np.intp)) for k in range(self.n_outputs)]


def _sortable(classes, y):
    return classes.dtype.kind == np.asarray(y).dtype.kind and classes.dtype.kind != "O"


def _pick(Z, index):
    index = np.broadcast_to(np.asarray(index), Z.shape[:-1])[..., None]
    return np.take_along_axis(Z, index, axis=-1)[..., 0]


def _others(Z, index):
    """``Z`` without the entry ``index`` of each row: minus infinity there."""
    return np.where(_onehot(Z, index) == 1, -np.inf, Z)


def _onehot(Z, index):
    out = np.zeros_like(Z)
    np.put_along_axis(out, np.broadcast_to(np.asarray(index), Z.shape[:-1])[..., None], 1.0, -1)
    return out
