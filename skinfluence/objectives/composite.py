"""Several objectives over the same rows, their outputs side by side."""

import copy

import numpy as np

from ..gradients import Rows
from .base import Objective, Queries


class IndependentOutputs(Objective):
    """Independent objectives (one-vs-rest problems, targets) that share rows.

    Parameters, outputs and diagonal blocks of the Hessian are those of the parts, one after the
    other.

    Parameters
    ----------
    parts : list of Objective
    head : Head
        What the outputs mean together.
    labels : list
        A name for each part, put before its parameter names.
    y : ndarray
        Targets encoded for ``head``.
    split : callable
        From a fitted estimator to those of the parts, for ``read_parameters``.
    """

    def __init__(self, parts, head, labels, y, split):
        self.split = split
        self.parts, self.head, self.labels, self.y = parts, head, list(labels), y
        self.n_rows = parts[0].n_rows
        self.n_params = sum(part.n_params for part in parts)
        self.n_outputs = sum(part.n_outputs for part in parts)
        self.theta = np.concatenate([part.theta for part in parts])
        self.default_solver = getattr(parts[0], "default_solver", "direct")
        self.default_method = getattr(parts[0], "default_method", "newton")
        self.strictly_convex = all(part.strictly_convex for part in parts)
        self.gradient_norm = max(part.gradient_norm for part in parts)
        self.gradient_norm_fitted = max(part.gradient_norm_fitted for part in parts)
        self.parameter_slices = _slices([part.n_params for part in parts])
        self.output_slices = _slices([part.n_outputs for part in parts])

    @property
    def outputs(self):
        """Training outputs of the parts."""
        return np.concatenate([part.outputs for part in self.parts], axis=1)

    @property
    def parameter_names(self):
        """``label:name``."""
        return [
            f"{label}:{name}"
            for label, part in zip(self.labels, self.parts, strict=True)
            for name in part.parameter_names
        ]

    def removal_gradients(self):
        """Those of the parts, side by side."""
        return StackedRows([part.removal_gradients() for part in self.parts])

    def loss_gradients(self):
        """Those of the parts, side by side."""
        return StackedRows([part.loss_gradients() for part in self.parts])

    def quadratic_blocks(self):
        """Those of the parts."""
        return [block for part in self.parts for block in part.quadratic_blocks()]

    def factorise_blocks(self, parts):
        """Those of the parts, in their order."""
        factors, start = [], 0
        for part in self.parts:
            stop = start + part.n_blocks
            factors += part.factorise_blocks(parts[start:stop])
            start = stop
        return factors

    @property
    def n_blocks(self):
        """Number of diagonal blocks."""
        return sum(part.n_blocks for part in self.parts)

    def hessian(self):
        """Block diagonal."""
        out = np.zeros((self.n_params, self.n_params))
        for piece, part in zip(self.parameter_slices, self.parts, strict=True):
            out[piece, piece] = part.hessian()
        return out

    def hessian_product(self, V):
        """Part by part."""
        pairs = zip(self.parameter_slices, self.parts, strict=True)
        return np.concatenate([part.hessian_product(V[piece]) for piece, part in pairs])

    def with_noise(self, scale, rng):
        """Part by part."""
        other = copy.copy(self)
        other.parts = [part.with_noise(scale, rng) for part in self.parts]
        other.theta = np.concatenate([part.theta for part in other.parts])
        return other

    def queries(self, X):
        """Queries of the parts."""
        return StackedQueries(self, [part.queries(X) for part in self.parts])

    def input_gradient(self, X, C):
        """Sum over the parts."""
        pairs = zip(self.output_slices, self.parts, strict=True)
        return sum(part.input_gradient(X, C[:, piece]) for piece, part in pairs)

    def training_queries(self, rows):
        """Training rows as queries."""
        return StackedQueries(self, [part.training_queries(rows) for part in self.parts])

    def training_targets(self, rows):
        """Targets encoded for the head."""
        return self.y[rows]

    def read_parameters(self, estimator):
        """Those of the parts."""
        pairs = zip(self.parts, self.split(estimator), strict=True)
        return np.concatenate([part.read_parameters(piece) for part, piece in pairs])

    @property
    def read_outputs(self):
        """Those of the parts, where every part reads outputs."""
        if any(part.read_outputs is None for part in self.parts):
            return None
        return self._read_outputs

    def _read_outputs(self, estimator, X):
        pairs = zip(self.parts, self.split(estimator), strict=True)
        return np.concatenate([part.read_outputs(piece, X) for part, piece in pairs], axis=1)

    def public_parameters(self, delta):
        """Part by part."""
        pairs = zip(self.parameter_slices, self.parts, strict=True)
        return np.concatenate([p.public_parameters(delta[..., s]) for s, p in pairs], axis=-1)


def _slices(sizes):
    stops = np.cumsum(sizes)
    return [slice(int(stop - size), int(stop)) for size, stop in zip(sizes, stops, strict=True)]


class StackedRows(Rows):
    """Row-gradient operators side by side."""

    def __init__(self, parts):
        self.parts = parts
        self.slices = _slices([part.shape[1] for part in parts])
        self.shape = (parts[0].shape[0], sum(part.shape[1] for part in parts))

    def block(self, rows):
        """Dense rows."""
        return np.concatenate([part.block(rows) for part in self.parts], axis=1)

    def tdot(self, U, rows=slice(None)):
        """Part by part."""
        return np.concatenate([part.tdot(U, rows) for part in self.parts])


class StackedQueries(Queries):
    """Queries of objectives side by side."""

    def __init__(self, objective, parts):
        self.objective, self.parts = objective, parts
        self.X = getattr(parts[0], "X", None)
        self.outputs = np.concatenate([part.outputs for part in parts], axis=1)

    def pullback(self, C):
        """Side by side."""
        pairs = zip(self.objective.output_slices, self.parts, strict=True)
        return np.concatenate([part.pullback(C[:, piece]) for piece, part in pairs], axis=1)

    def pullback_sum(self, C):
        """Side by side."""
        pairs = zip(self.objective.output_slices, self.parts, strict=True)
        return np.concatenate([part.pullback_sum(C[:, piece]) for piece, part in pairs])

    def changes(self, delta):
        """Side by side."""
        return self._each("changes", delta)

    def paired_changes(self, delta):
        """Side by side."""
        return self._each("paired_changes", delta)

    def _each(self, name, delta):
        pairs = zip(self.objective.parameter_slices, self.parts, strict=True)
        return np.concatenate([getattr(part, name)(delta[:, s]) for s, part in pairs], axis=-1)
