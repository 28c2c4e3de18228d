"""Nearest neighbours: no parameters, a removal is a lookup of one neighbour more."""

import numpy as np
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from .base import Objective, Queries, objective_for
from .heads import ClassifierHead, RegressionHead, _onehot, _pick
from .losses import SquaredLoss
from .removable import check_classes_left


class ShareHead(ClassifierHead):
    """Outputs are the classes' shares of the vote.

    There is no training loss; the loss is ``1 - share of the true class``, the expected error of a
    neighbour drawn in proportion to its weight.
    """

    def __init__(self, classes):
        super().__init__(classes)
        self.n_outputs = len(self.classes)

    def loss(self, Z, y):
        """One minus the share."""
        return 1 - _pick(Z, y)

    def loss_gradient(self, Z, y):
        """-1 at the class."""
        return -_onehot(Z, y)

    def decision(self, Z, index):
        """The share of a class."""
        return _pick(Z, index)

    def decision_gradient(self, Z, index):
        """1 at the class."""
        return _onehot(Z, index)

    def proba(self, Z):
        """The shares."""
        return Z

    def proba_gradient(self, Z, index):
        """1 at the class."""
        return _onehot(Z, index)

    def explained_index(self, Z, y):
        """``classes[1]`` of two; else the class of ``y``, or the predicted one."""
        if len(self.classes) == 2:
            return np.ones(len(Z), dtype=np.intp)
        return Z.argmax(axis=-1) if y is None else y


class Neighbors(Objective):
    """The weighted mean of the values of the ``k`` nearest rows.

    Parameters
    ----------
    estimator : fitted KNeighborsClassifier or KNeighborsRegressor
    X : ndarray or CSR of shape (n, n_features)
    values : ndarray of shape (n, n_outputs)
        What the neighbours are averaged over: targets, or indicators of the classes.
    head : Head
    targets : ndarray
        Encoded for the head.
    """

    n_params = 1  # there are none; blocks are sized by the outputs
    default_solver = "system"
    default_method = "exact"
    gradient_norm = gradient_norm_fitted = 0.0

    def __init__(self, estimator, X, values, head, targets):
        self.estimator, self.X, self.values = estimator, X, values
        self.head, self.targets = head, targets
        self.n_rows, self.n_outputs = values.shape
        self.n_neighbors = estimator.n_neighbors
        self.theta = np.zeros(0)
        self.parameter_names = []

    def average(self, distances, values):
        """Weighted means over the last axis but one of ``values``: (m, k, K) to (m, K)."""
        weights = self.estimator.weights
        if weights in (None, "uniform"):
            return values.mean(axis=1)
        if callable(weights):
            w = np.asarray(weights(distances), dtype=np.float64)
        else:
            zero = distances == 0
            with np.errstate(divide="ignore"):
                w = np.where(zero.any(axis=1, keepdims=True), zero, 1 / distances)
        return np.einsum("mk,mko->mo", w, values) / w.sum(axis=1, keepdims=True)

    def factorise_system(self):
        """There is none."""
        return None

    def removal_gradients(self):
        """Refused: nothing is differentiable in a neighbour's weight."""
        raise TypeError(
            "nearest neighbours have no parameters and no derivative in the weight of a row; use "
            "method='exact', which looks up the next neighbour"
        )

    def check_removable(self, rows):
        """Refuse removals that leave fewer rows than neighbours, or a class without rows."""
        left = self.n_rows - len(np.unique(rows))
        if left < self.n_neighbors:
            raise ValueError(
                f"without the rows removed {left} are left, fewer than "
                f"n_neighbors={self.n_neighbors}"
            )
        codes = None if self.head.classes is None else self.targets
        check_classes_left(rows, codes, np.ones(self.n_rows, dtype=bool), self.head.classes)

    def queries(self, X):
        """Rows with their neighbours."""
        return NeighborQueries(self, X)

    def input_gradient(self, X, C):
        """Refused: the vote is constant between rows."""
        raise TypeError("nearest neighbours have no gradient in the query: it is zero or jumps")

    def training_queries(self, rows):
        """Training rows as queries: each is its own nearest neighbour."""
        return NeighborQueries(self, self.X[rows])

    def training_targets(self, rows):
        """Encoded targets."""
        return self.targets[rows]

    def read_outputs(self, estimator, X):
        """Outputs of another fitted estimator of the same kind."""
        if self.head.classes is not None:
            return np.asarray(estimator.predict_proba(X), dtype=np.float64)
        values = np.asarray(estimator.predict(X), dtype=np.float64)
        return values.reshape(len(values), -1)


class NeighborQueries(Queries):
    """Queries with their ``k + 1`` nearest rows."""

    def __init__(self, objective, X):
        self.objective, self.X = objective, X
        k = objective.n_neighbors
        distances, index = objective.estimator.kneighbors(X, min(k + 1, objective.n_rows))
        self.distances, self.index = distances, index
        self.outputs = objective.average(distances[:, :k], objective.values[index[:, :k]])

    def without_each(self):
        """Change of the outputs without each of the ``k`` neighbours: (m, k, K)."""
        objective, k = self.objective, self.objective.n_neighbors
        values = objective.values[self.index]
        out = np.empty((len(self), k, objective.n_outputs))
        for p in range(k):
            left = np.delete(np.arange(k + 1), p)
            out[:, p] = objective.average(self.distances[:, left], values[:, left])
        return out - self.outputs[:, None]

    def without(self, group):
        """Change of the outputs without a group of rows: (m, K)."""
        objective, k = self.objective, self.objective.n_neighbors
        reach = min(k + len(group), objective.n_rows)
        distances, index = objective.estimator.kneighbors(self.X, reach)
        order = np.argsort(np.isin(index, group), axis=1, kind="stable")[:, :k]
        index = np.take_along_axis(index, order, axis=1)
        distances = np.take_along_axis(distances, order, axis=1)
        return objective.average(distances, objective.values[index]) - self.outputs


@objective_for.register(KNeighborsClassifier)
def neighbors_classifier_objective(estimator, X, y, sample_weight=None):
    """Shares of the classes among the neighbours."""
    _check_weights(estimator, sample_weight)
    if estimator.outputs_2d_:
        raise ValueError("KNeighborsClassifier on several labels a row is not supported")
    head = ShareHead(estimator.classes_)
    codes = head.encode(y)
    return Neighbors(estimator, X, np.eye(head.n_outputs)[codes], head, codes)


@objective_for.register(KNeighborsRegressor)
def neighbors_regressor_objective(estimator, X, y, sample_weight=None):
    """Mean of the neighbours' targets."""
    _check_weights(estimator, sample_weight)
    y = np.asarray(y, dtype=np.float64)
    values = y.reshape(len(y), -1)
    head = RegressionHead(SquaredLoss(), values.shape[1])
    return Neighbors(estimator, X, values, head, y)


def _check_weights(estimator, sample_weight):
    if sample_weight is not None:
        raise ValueError(f"{type(estimator).__name__} takes no sample_weight; pass None")
