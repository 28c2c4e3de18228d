"""Targets: which quantity is explained, as a function of the outputs at the queries."""

import numpy as np
from sklearn.base import BaseEstimator

from .blocks import query_rows


class Target(BaseEstimator):
    """Base class: a value for each query, and its derivative with respect to the outputs.

    A target of your own is a subclass with :meth:`value` and :meth:`gradient`, and the attributes
    below. ``Z`` has shape (m, K), or (m, b, K) when it is asked for several removals at once;
    ``y`` and what else :meth:`context` holds then have a second axis of length one. Targets can
    be added, subtracted and multiplied by numbers.

    Attributes
    ----------
    needs_y : bool
        Whether queries must come with labels or targets.
    scalar : bool
        True for one number over all queries together instead of one a query. ``value`` then
        reduces the first axis, and queries are never split into blocks.
    """

    needs_y = False
    scalar = False

    def bind(self, objective, X, y):
        """A :class:`BoundTarget` for query rows ``X`` and raw targets ``y`` (or None)."""
        if self.needs_y and y is None:
            raise ValueError(f"target {type(self).__name__} needs the queries' y: pass y")
        encoded = None if y is None else objective.head.encode(y)
        return self.bind_queries(objective, query_rows(objective, X), encoded)

    def bind_queries(self, objective, queries, y):
        """As :meth:`bind`, with queries and encoded targets at hand."""
        return BoundTarget(self, objective.head, queries, y)

    def context(self, head, Z, y):
        """What :meth:`value` is held to, from the fitted outputs: a tuple of arrays a query."""
        return (y,)

    def value(self, head, Z, *context):
        """Values, shape ``Z.shape[:-1]`` (without the first axis when ``scalar``)."""
        raise NotImplementedError

    def gradient(self, head, Z, *context):
        """Derivative with respect to ``Z``, shape of ``Z``."""
        raise NotImplementedError

    def change(self, head, Z, dZ, *context):
        """``value(Z + dZ) - value(Z)``."""
        return self.value(head, Z + dZ, *context) - self.value(head, Z, *context)

    def of_table(self, X):
        """This target with what it names of a query table, such as a column, read from it."""
        return self

    def own(self):
        """This target as a training row is asked about itself: of its own label."""
        return self

    # -- arithmetic ------------------------------------------------------------------------
    def __add__(self, other):
        return combined([(1.0, self), (1.0, other)])

    def __sub__(self, other):
        return combined([(1.0, self), (-1.0, other)])

    def __rsub__(self, other):
        return combined([(-1.0, self), (1.0, other)])

    def __mul__(self, factor):
        return combined([(factor, self)])

    def __truediv__(self, divisor):
        return combined([(1 / divisor, self)])

    def __neg__(self):
        return combined([(-1.0, self)])

    __radd__, __rmul__ = __add__, __mul__


def combined(terms):
    """The sum of ``(factor, target)`` pairs."""
    from .arithmetic import Combination  # it is itself a target

    return Combination(terms)


class BoundTarget:
    """A target at given queries."""

    def __init__(self, target, head, queries, y):
        self.target, self.head, self.queries = target, head, queries
        self.context = target.context(head, queries.outputs, y)

    def value(self):
        """Values at the fit."""
        return self.target.value(self.head, self.queries.outputs, *self.context)

    def gradient(self):
        """Derivatives at the fit, (m, K)."""
        return self.target.gradient(self.head, self.queries.outputs, *self.context)

    def changes(self, dZ):
        """Change of the target for changed outputs ``dZ`` of shape (m, b, K): (m, b) or (b,)."""
        context = [None if part is None else np.expand_dims(part, 1) for part in self.context]
        Z = self.queries.outputs[:, None, :]
        return self.target.change(self.head, Z, dZ, *context)

    def paired_changes(self, dZ):
        """As :meth:`changes`, one removal a query: ``dZ`` of shape (m, K) to (m,)."""
        return self.target.change(self.head, self.queries.outputs, dZ, *self.context)

    def pullback(self):
        """Gradient with respect to the parameters: (m, n_params), or (1, n_params) if scalar."""
        gradient = self.gradient()
        if self.target.scalar:
            return self.queries.pullback_sum(gradient)[None]
        return self.queries.pullback(gradient)

    def pullback_sum(self, weights):
        """Gradient of ``Σ_q weights_q t_q`` with respect to the parameters: (n_params,)."""
        return self.queries.pullback_sum(np.asarray(weights)[:, None] * self.gradient())

    def reevaluated(self, moves):
        """Changes of the target where ``moves(queries)`` are the changed outputs (m, b, K).

        Shape (m, b), or (1, b) if scalar.
        """
        values = self.changes(moves(self.queries))
        return values[None] if self.target.scalar else values

    def linearised(self, moves):
        """As :meth:`reevaluated`, to first order in the change of the outputs."""
        values = np.einsum("mk,mbk->mb", self.gradient(), moves(self.queries))
        return values.sum(axis=0, keepdims=True) if self.target.scalar else values


def check_stored(target):
    """Refuse a target whose numbers a store on disk cannot name: its code may change.

    A store goes on where an interrupted call stopped, told by names; a function keeps its name
    when it is written anew.
    """
    if isinstance(target, list | tuple):
        for part in target:
            check_stored(part)
    if not isinstance(target, Target):
        return
    own = type(target).__module__ == "__main__"
    if own or any(callable(value) for value in vars(target).values()):
        raise ValueError(
            f"out= is a path, and the target {type(target).__name__} has code of yours, which may "
            "change under the same name: what the store holds would not be known. Pass an "
            "array, a memmap or an opened zarr array as out"
        )
    check_stored(list(vars(target).values()))
