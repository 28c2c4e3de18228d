"""Meta-estimators over supported models."""

import warnings
from operator import attrgetter

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingClassifier, StackingRegressor
from sklearn.multiclass import OneVsOneClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.preprocessing import FunctionTransformer

from .base import objective_for
from .composite import IndependentOutputs
from .heads import BinaryHead, ClassifierHead, Head
from .margins import OneVsOneHead
from .subset import SubsetObjective


class SideBySideHead(Head):
    """Heads of independent targets, one a column of ``y``; the loss is their sum."""

    def __init__(self, heads):
        self.heads = heads
        stops = np.cumsum([head.n_outputs for head in heads])
        self.slices = [
            slice(int(stop - head.n_outputs), int(stop))
            for head, stop in zip(heads, stops, strict=True)
        ]
        self.n_outputs = int(stops[-1])

    def encode(self, y):
        """Column by column."""
        y = np.asarray(y)
        if y.ndim != 2 or y.shape[1] != len(self.heads):
            raise ValueError(
                f"y has shape {y.shape}, but the model was fitted on {len(self.heads)} targets"
            )
        return np.column_stack([head.encode(y[:, k]) for k, head in enumerate(self.heads)])

    def loss(self, Z, y):
        """Sum over the targets."""
        return sum(head.loss(Z[..., s], y[..., k]) for k, head, s in self._each())

    def loss_gradient(self, Z, y):
        """Side by side."""
        parts = [head.loss_gradient(Z[..., s], y[..., k]) for k, head, s in self._each()]
        return np.concatenate(parts, axis=-1)

    def loss_change(self, Z, dZ, y):
        """Sum over the targets, each in its stable form."""
        return sum(
            head.loss_change(Z[..., s], dZ[..., s], y[..., k]) for k, head, s in self._each()
        )

    def decision(self, Z, index):
        """The prediction or decision value of one output of all."""
        index = np.broadcast_to(index, Z.shape[:-1])
        out = np.zeros(Z.shape[:-1])
        for _, head, s in self._each():
            inside = (index >= s.start) & (index < s.stop)
            own = np.clip(index - s.start, 0, head.n_outputs - 1)
            out += np.where(inside, head.decision(Z[..., s], own), 0.0)
        return out

    def decision_gradient(self, Z, index):
        """Zero but in the output's own target."""
        index = np.broadcast_to(index, Z.shape[:-1])
        out = np.zeros_like(Z)
        for _, head, s in self._each():
            inside = (index >= s.start) & (index < s.stop)
            own = np.clip(index - s.start, 0, head.n_outputs - 1)
            out[..., s] = np.where(inside[..., None], head.decision_gradient(Z[..., s], own), 0.0)
        return out

    def labels(self, Z):
        """Predicted labels, a column a target."""
        columns = [head.labels(Z[:, s]) for _, head, s in self._each()]
        return None if any(column is None for column in columns) else np.column_stack(columns)

    def explained_index(self, Z, y):
        """Several targets are ambiguous."""
        raise ValueError(
            f"the model has {self.n_outputs} outputs for {len(self.heads)} targets: say which one "
            "with target=Decision(output=k), or pass y for target='loss'"
        )

    def _no_probability(self):
        return "a model of several targets has no one probability; explain the model of one target"

    def _each(self):
        return zip(range(len(self.heads)), self.heads, self.slices, strict=True)


class TransformedHead(Head):
    """A regressor of transformed targets: decisions are predictions in the original units.

    The loss stays that of the transformed target, which the fit minimises.
    """

    def __init__(self, head, transformer):
        self.head, self.transformer = head, transformer
        self.n_outputs = self.n_decisions = head.n_outputs

    def encode(self, y):
        """Transformed targets."""
        y = np.asarray(y, dtype=np.float64)
        moved = self.transformer.transform(y.reshape(len(y), -1))
        return self.head.encode(moved[:, 0] if self.n_outputs == 1 else moved)

    def loss(self, Z, y):
        """Loss of the transformed target."""
        return self.head.loss(Z, y)

    def loss_gradient(self, Z, y):
        """Its derivative."""
        return self.head.loss_gradient(Z, y)

    def loss_change(self, Z, dZ, y):
        """Its change."""
        return self.head.loss_change(Z, dZ, y)

    def decision(self, Z, index):
        """The prediction, transformed back."""
        columns = [self.head.decision(Z, np.intp(k)) for k in range(self.n_outputs)]
        stacked = np.stack(columns, axis=-1)
        back = self.transformer.inverse_transform(stacked.reshape(-1, self.n_outputs))
        back = np.asarray(back).reshape(stacked.shape)
        index = np.broadcast_to(index, Z.shape[:-1])[..., None]
        return np.take_along_axis(back, index, axis=-1)[..., 0]

    def decision_gradient(self, Z, index):
        """By central differences: a transformer does not know its derivative."""
        out = np.empty_like(Z)
        for k in range(self.n_outputs):
            step = np.zeros_like(Z)
            step[..., k] = 6e-6 * np.maximum(1.0, np.abs(Z[..., k]))
            ahead, behind = self.decision(Z + step, index), self.decision(Z - step, index)
            out[..., k] = (ahead - behind) / (2 * step[..., k])
        return out

    def explained_index(self, Z, y):
        """That of the regressor."""
        return self.head.explained_index(Z, y)


@objective_for.register(MultiOutputRegressor)
@objective_for.register(MultiOutputClassifier)
def multi_output_objective(estimator, X, y, sample_weight=None):
    """The objectives of the targets, side by side."""
    parts = [
        objective_for(part, X, np.asarray(y)[:, k], sample_weight)
        for k, part in enumerate(estimator.estimators_)
    ]
    head = SideBySideHead([part.head for part in parts])
    targets = head.encode(y)
    return IndependentOutputs(parts, head, range(len(parts)), targets, attrgetter("estimators_"))


@objective_for.register(OneVsOneClassifier)
def one_vs_one_objective(estimator, X, y, sample_weight=None):
    """The objectives of the pairs of classes, each over the rows of its pair."""
    if estimator.pairwise_indices_ is not None:
        raise ValueError(
            "OneVsOneClassifier over a precomputed kernel is not supported; use SVC itself, which "
            "is one-vs-one"
        )
    classes = estimator.classes_
    codes = ClassifierHead(classes).encode(y)
    pairs = OneVsOneHead(classes, None).pairs
    parts = []
    for (a, b), binary in zip(pairs, estimator.estimators_, strict=True):
        members = np.flatnonzero((codes == a) | (codes == b))
        weights = None if sample_weight is None else sample_weight[members]
        part = objective_for(binary, X[members], (codes[members] == b).astype(np.intp), weights)
        if not isinstance(part.head, BinaryHead) or not hasattr(binary, "decision_function"):
            raise TypeError(
                f"OneVsOneClassifier over {type(binary).__name__} is not supported: the base "
                "estimator is not a binary classifier with a decision_function"
            )
        parts.append(SubsetObjective(part, members, X))
    head = OneVsOneHead(classes, parts[0].head.loss_function)
    labels = [f"{classes[a]}-{classes[b]}" for a, b in pairs]
    return IndependentOutputs(parts, head, labels, codes, attrgetter("estimators_"))


@objective_for.register(TransformedTargetRegressor)
def transformed_objective(estimator, X, y, sample_weight=None):
    """The regressor's objective on transformed targets; the transformer is held fixed."""
    transformer = estimator.transformer_
    if not isinstance(transformer, FunctionTransformer):
        warnings.warn(
            f"the target transformer {type(transformer).__name__} is kept as fitted: a removed row "
            "moves the regressor alone",
            UserWarning,
            stacklevel=4,
        )
    y = np.asarray(y, dtype=np.float64)
    moved = np.asarray(transformer.transform(y.reshape(len(y), -1)))
    moved = moved[:, 0] if y.ndim == 1 and moved.shape[1] == 1 else moved
    objective = objective_for(estimator.regressor_, X, moved, sample_weight)
    objective.head = TransformedHead(objective.head, transformer)
    read = objective.read_parameters
    objective.read_parameters = _Inner(read)
    if objective.read_outputs is not None:
        objective.read_outputs = _Inner(objective.read_outputs)
    return objective


class _Inner:
    """Reads a TransformedTargetRegressor through its regressor."""

    def __init__(self, read):
        self.read = read

    def __call__(self, estimator, *rest):
        return self.read(estimator.regressor_, *rest)


@objective_for.register(CalibratedClassifierCV)
def calibrated_objective(estimator, X, y, sample_weight=None):
    """Refused: see the message."""
    raise ValueError(
        "CalibratedClassifierCV is not supported: its calibrators are fitted on folds (or, over a "
        "FrozenEstimator, on targets that Platt's rule smooths by the class counts), and none of "
        "its estimators is a fit on the rows passed. Explain the classifier inside it"
    )


@objective_for.register(StackingClassifier)
@objective_for.register(StackingRegressor)
def stacking_objective(estimator, X, y, sample_weight=None):
    """Refused: see the message."""
    name = type(estimator).__name__
    raise ValueError(
        f"{name} is not supported here: InfluenceExplainer follows it on its own or as the last "
        "step of a pipeline, not inside another estimator; model_selection and inference do not "
        "know it"
    )


calibrated_objective.refuses = stacking_objective.refuses = True
