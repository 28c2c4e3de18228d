"""Stages made of stages: one after the other, and side by side."""

import numpy as np
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils._indexing import _get_column_indices

from .base import Opaque, Stage, numeric, routed_weight, stage_for
from .products import taken


class Chain(Stage):
    """Stages one after the other.

    The parameters are the stages' own perturbations: a stage's ``η`` moves by its own, and by
    what the earlier stages do to its training rows.
    """

    def __init__(self, steps, X, y=None, sample_weight=None):
        self.names = [name for name, _ in steps]
        self.stages, rows = [], X
        for _, step in steps:
            stage = stage_for(step, rows, y, routed_weight(step, sample_weight))
            self.stages.append(stage)
            rows = stage.outputs
        self._hold_before_opaque()
        self.X, self.y, self.sample_weight = X, y, sample_weight
        self.outputs = rows
        self.held = _named(self.named())
        self.slices = _slices([stage.n_params for stage in self.stages])
        self.n_params = sum(stage.n_params for stage in self.stages)
        moving = [s for s, stage in enumerate(self.stages) if stage.n_params]
        self.moving = moving
        self.jumps = any(stage.jumps for stage in self.stages)
        self.rough = any(stage.rough for stage in self.stages)
        self.first = moving[0] if moving else len(self.stages)
        self.flat = len(moving) <= 1 and all(stage.flat for stage in self.stages)
        self._carried, self._asked = None, 0

    def _hold_before_opaque(self):
        """What cannot be followed through a later step is held too."""
        last = max((s for s, g in enumerate(self.stages) if getattr(g, "opaque", False)), default=0)
        for s, stage in enumerate(self.stages[:last]):
            if stage.n_params:
                reason = f"step {self.names[last]!r} after it is not followed"
                self.stages[s] = Opaque(stage.step, stage.X, stage.y, stage.sample_weight, reason)
                self.stages[s].outputs = stage.outputs

    def named(self):
        """Names and stages."""
        return zip(self.names, self.stages, strict=True)

    def inputs(self, X):
        """What each stage is given at query time, and the final rows."""
        rows = [X]
        for stage in self.stages:
            rows.append(stage.transform(rows[-1]))
        return rows

    def transform(self, X):
        """Through every stage."""
        return self.inputs(X)[-1]

    def derivatives(self, rows):
        """Side by side."""
        return self._beside([s.derivatives(rows) for s in self.stages], rows)

    def removals(self, rows):
        """Side by side."""
        return self._beside([s.removals(rows) for s in self.stages], rows)

    def _beside(self, parts, rows):
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(rows), 0))

    def pull_params(self, X, C):
        """Directly, then through the training rows of later stages."""
        rows, out = self.inputs(X), np.zeros((len(C), self.n_params))
        for s in range(len(self.stages) - 1, self.first - 1, -1):
            stage = self.stages[s]
            if stage.n_params:
                out[:, self.slices[s]] = stage.pull_params(rows[s], C)
            if s > self.first:
                C = stage.pull_inputs(rows[s], C)
        return self._carry(out)

    def pull_inputs(self, X, C):
        """Through every stage."""
        rows = self.inputs(X)
        for s in range(len(self.stages) - 1, -1, -1):
            C = self.stages[s].pull_inputs(rows[s], C)
        return C

    def pull_sum(self, C):
        """One backward pass."""
        return self._backward(np.zeros(self.n_params), C)

    def pull_columns(self, r):
        """Of the only stage, where there is one."""
        return self.stages[0].pull_columns(r) if len(self.stages) == 1 else super().pull_columns(r)

    def pull_fit(self, v):
        """From each stage's training rows back to the first's."""
        C = 0.0
        for s in range(len(self.stages) - 1, -1, -1):
            stage = self.stages[s]
            if np.ndim(C):
                C = stage.pull_training(taken(stage, C))
            if stage.n_params and v[self.slices[s]].any():
                C = C + stage.pull_fit(v[self.slices[s]])
        return taken(None, C)

    def pull_training(self, C):
        """Through every stage."""
        for stage in reversed(self.stages):
            C = stage.pull_training(taken(stage, C))
        return taken(None, C)

    def without(self, X, keep):
        """Every stage refitted on what the one before hands on."""
        functions = []
        for stage in self.stages:
            function, X = stage.without(X, keep)
            functions.append(function)

        def transform(rows):
            for function in functions:
                rows = function(rows)
            return rows

        return transform, X

    def flipped_rows(self):
        """Of every stage."""
        return _union(self.stages)

    def _backward(self, v, C=None):
        """Total cotangent of the own parameters, from cotangents of ``η`` and training rows."""
        out = v.copy()
        for s in range(len(self.stages) - 1, self.first - 1, -1):
            stage, piece = self.stages[s], self.slices[s]
            C = None if C is None else taken(stage, C)
            if C is not None and stage.n_params:
                out[piece] += stage.pull_sum(C)
            if s == self.first:
                break
            C = None if C is None else stage.pull_training(C)
            if stage.n_params and out[piece].any():
                moved = stage.pull_fit(out[piece])
                if np.ndim(moved):
                    C = moved if C is None else C + moved
        return out

    def _carry(self, V):
        """What cotangents of ``η`` (m, M) become through the training rows of later stages."""
        if len(self.moving) <= 1:
            return V
        if self._carried is None:
            self._asked += len(V)
            if self._asked < self.n_params:  # one by one, while they are few
                return np.array([self._backward(v) for v in V])
            self._carried = np.array([self._backward(v) for v in np.eye(self.n_params)])
        return V @ self._carried


class Parallel(Stage):
    """Stages side by side, each on some of the input columns.

    Parameters
    ----------
    parts : list of (name, step, columns, output slice, factor)
    """

    def __init__(self, step, parts, X, y=None, sample_weight=None):
        self.step, self.X, self.y, self.sample_weight = step, X, y, sample_weight
        self.names = [name for name, *_ in parts]
        self.columns = [columns for _, _, columns, _, _ in parts]
        self.pieces = [piece for _, _, _, piece, _ in parts]
        self.factors = [factor for *_, factor in parts]
        self.stages = [
            stage_for(inner, _take(X, columns), y, routed_weight(inner, sample_weight))
            for _, inner, columns, _, _ in parts
        ]
        self.outputs = self._join([stage.outputs for stage in self.stages])
        self.held = _named(zip(self.names, self.stages, strict=True))
        self.opaque = any(getattr(stage, "opaque", False) for stage in self.stages)
        self.slices = _slices([stage.n_params for stage in self.stages])
        self.n_params = sum(stage.n_params for stage in self.stages)
        self.flat = all(stage.flat for stage in self.stages)
        self.jumps = any(stage.jumps for stage in self.stages)
        self.rough = any(stage.rough for stage in self.stages)

    def transform(self, X):
        """Side by side."""
        return self.step.transform(X)

    def derivatives(self, rows):
        """Side by side."""
        return np.concatenate([s.derivatives(rows) for s in self.stages], axis=1)

    def removals(self, rows):
        """Side by side."""
        return np.concatenate([s.removals(rows) for s in self.stages], axis=1)

    def pull_params(self, X, C):
        """Part by part."""
        out = np.zeros((len(C), self.n_params))
        for stage, columns, own, part in self._each(C):
            if stage.n_params:
                out[:, own] = stage.pull_params(_take(X, columns), part)
        return out

    def pull_inputs(self, X, C):
        """Added up where parts share columns."""
        out = np.zeros((len(C), X.shape[1]))
        for stage, columns, _, part in self._each(C):
            pulled = stage.pull_inputs(_take(X, columns), part)
            index = np.arange(X.shape[1]) if columns is None else _get_column_indices(X, columns)
            out[:, index] += pulled
        return out

    def pull_training(self, C):
        """Added up where parts share columns."""
        out = np.zeros(self.X.shape)
        for stage, columns, _, part in self._each(C):
            index = np.arange(out.shape[1])
            if columns is not None:
                index = _get_column_indices(self.X, columns)
            out[:, index] += taken(None, stage.pull_training(part))
        return out

    def pull_sum(self, C):
        """Part by part."""
        out = np.zeros(self.n_params)
        for stage, _, own, part in self._each(C):
            if stage.n_params:
                out[own] = stage.pull_sum(part)
        return out

    def pull_columns(self, r):
        """Block diagonal."""
        out = np.zeros((self.outputs.shape[1], self.n_params))
        for s, stage in enumerate(self.stages):
            if stage.n_params:
                out[self.pieces[s], self.slices[s]] = self.factors[s] * stage.pull_columns(r)
        return out

    def pull_fit(self, v):
        """Added up where parts share columns."""
        out = np.zeros((self.X.shape[0], self.X.shape[1]))
        for stage, columns, own in zip(self.stages, self.columns, self.slices, strict=True):
            if not stage.n_params:
                continue
            everything = np.arange(self.X.shape[1])
            index = everything if columns is None else _get_column_indices(self.X, columns)
            out[:, index] += taken(None, stage.pull_fit(v[own]))
        return out

    def without(self, X, keep):
        """Each part refitted on its columns."""
        pairs = [
            stage.without(_take(X, columns), keep)
            for stage, columns in zip(self.stages, self.columns, strict=True)
        ]

        def transform(rows):
            parts = zip(pairs, self.columns, strict=True)
            return self._join([function(_take(rows, c)) for (function, _), c in parts])

        return transform, self._join([outputs for _, outputs in pairs])

    def flipped_rows(self):
        """Of every part."""
        return _union(self.stages)

    def _each(self, C):
        parts = zip(self.stages, self.columns, self.slices, self.pieces, self.factors, strict=True)
        for stage, columns, own, piece, factor in parts:
            yield stage, columns, own, factor * C[:, piece]

    def _join(self, blocks):
        if any(sparse.issparse(block) for block in blocks):
            blocks = [sparse.csr_matrix(b, dtype=float) for b in blocks]
            blocks = [b * f for b, f in zip(blocks, self.factors, strict=True)]
            joined = sparse.hstack(blocks).tocsr()
            return joined if getattr(self.step, "sparse_output_", True) else joined.toarray()
        return np.hstack([f * numeric(b) for b, f in zip(blocks, self.factors, strict=True)])


@stage_for.register(Pipeline)
def pipeline_stage(step, X, y=None, sample_weight=None):
    """The steps of a pipeline of transformers."""
    steps = [(n, s) for n, s in step.steps if s is not None and s != "passthrough"]
    return Chain(steps, X, y, sample_weight)


@stage_for.register(ColumnTransformer)
def column_transformer_stage(step, X, y=None, sample_weight=None):
    """The transformers of the columns, in the order of their output."""
    parts = []
    for name, inner, columns in step.transformers_:
        piece = step.output_indices_[name]
        if inner == "drop" or piece.start == piece.stop:
            continue
        factor = (step.transformer_weights or {}).get(name, 1.0)
        parts.append((name, inner, columns, piece, factor))
    return Parallel(step, parts, X, y, sample_weight)


@stage_for.register(FeatureUnion)
def feature_union_stage(step, X, y=None, sample_weight=None):
    """The transformers of the union."""
    parts, start = [], 0
    for name, inner in step.transformer_list:
        if inner == "drop":
            continue
        width = X.shape[1] if inner == "passthrough" else inner.transform(_head(X)).shape[1]
        factor = (step.transformer_weights or {}).get(name, 1.0)
        parts.append((name, inner, None, slice(start, start + width), factor))
        start += width
    return Parallel(step, parts, X, y, sample_weight)


def _take(X, columns):
    return X if columns is None else _safe_indexing(X, columns, axis=1)


def _head(X):
    return X[:2]


def _named(pairs):
    """Names of what nested stages hold, with the names of the steps around them."""
    held = []
    for name, stage in pairs:
        held += [(f"{name}__{inner}" if inner else name, why) for inner, why in stage.held]
    return held


def _slices(sizes):
    stops = np.cumsum([0, *sizes])
    return [slice(int(a), int(b)) for a, b in zip(stops[:-1], stops[1:], strict=True)]


def _union(stages):
    flipped = [np.empty(0, dtype=np.intp), *[stage.flipped_rows() for stage in stages]]
    return np.unique(np.concatenate(flipped))
