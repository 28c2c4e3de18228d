"""Sums, multiples and means of targets."""

from numbers import Real

import numpy as np

from .aggregate import Aggregate, aligned
from .base import Target


class Combination(Target):
    """``Σ_k c_k t_k``: what ``2 * a - b`` makes of targets ``a`` and ``b``.

    All terms have one value a query, or all are scalar.

    Parameters
    ----------
    terms : list of (float, Target)

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.targets import Mean, Probability
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X, large = scale(X), X[:, 0] > 15
    >>> gap = Mean(Probability(), large) - Mean(Probability(), ~large)
    >>> InfluenceExplainer(LogisticRegression(), target=gap).fit(X, y).transform(X).shape
    (1, 569)
    """

    def __init__(self, terms):
        self.terms = terms

    @property
    def scalar(self):
        """Whether the terms are scalar; a mixture is refused."""
        kinds = {bool(target.scalar) for _, target in self._flat()}
        if len(kinds) > 1:
            raise ValueError(
                "a target with one value a query and a scalar one cannot be added: take the "
                "Mean of the first"
            )
        return kinds.pop()

    @property
    def needs_y(self):
        """Whether any term needs labels."""
        return any(target.needs_y for _, target in self._flat())

    def _flat(self):
        """Terms, those of inner sums multiplied out."""
        out = []
        for factor, target in self.terms:
            if not isinstance(factor, Real):
                raise TypeError(
                    f"a target can be multiplied by a number, not by {factor!r}; use "
                    "Functional for a function of predictions"
                )
            if not hasattr(target, "bind"):
                raise TypeError(f"{target!r} is no target: add or subtract targets only")
            inner = target._flat() if isinstance(target, Combination) else [(1.0, target)]
            out += [(float(factor) * c, part) for c, part in inner]
        return out

    def of_table(self, X):
        """Each term."""
        return Combination([(factor, target.of_table(X)) for factor, target in self._flat()])

    def own(self):
        """Each term."""
        return Combination([(factor, target.own()) for factor, target in self._flat()])

    def bind(self, objective, X, y):
        """Each term at its own queries; terms of plain outputs share them."""
        first, bounds = None, []
        for factor, target in self._flat():
            shares = type(target).bind is Target.bind
            if shares and first is not None:
                if target.needs_y and y is None:
                    raise ValueError(f"target {type(target).__name__} needs the queries' y: pass y")
                encoded = None if y is None else objective.head.encode(y)
                bound = target.bind_queries(objective, first, encoded)
            else:
                bound = target.bind(objective, X, y)
                first = bound.queries if shares else first
            bounds.append((factor, bound))
        return BoundSum(self, bounds)

    def bind_queries(self, objective, queries, y):
        """Each term at the same queries."""
        parts = self._flat()
        return BoundSum(self, [(c, t.bind_queries(objective, queries, y)) for c, t in parts])


class BoundSum:
    """Bound targets added up."""

    def __init__(self, target, parts):
        self.target, self.parts = target, parts
        # blocks of rows are sized by the longest
        self.queries = max((bound.queries for _, bound in parts), key=len)

    def _sum(self, values):
        return sum(factor * values(bound) for factor, bound in self.parts)

    def _shared(self, moves):
        """``moves``, asked once for the queries that several terms share."""
        kept = {}

        def once(queries):
            if id(queries) not in kept:
                kept[id(queries)] = moves(queries)
            return kept[id(queries)]

        return once

    def value(self):
        """Sum of the values at the fit."""
        return self._sum(lambda bound: bound.value())

    def pullback(self):
        """Sum of the gradients with respect to the parameters."""
        return self._sum(lambda bound: bound.pullback())

    def pullback_sum(self, weights):
        """Sum of the gradients of the weighted sums."""
        return self._sum(lambda bound: bound.pullback_sum(weights))

    def reevaluated(self, moves):
        """Sum of the changes."""
        moves = self._shared(moves)
        return self._sum(lambda bound: bound.reevaluated(moves))

    def linearised(self, moves):
        """Sum of the first-order changes."""
        moves = self._shared(moves)
        return self._sum(lambda bound: bound.linearised(moves))

    # Where all terms have the same queries (a training row about itself):
    def gradient(self):
        """Sum of the derivatives in the outputs."""
        self._check_one()
        return self._sum(lambda bound: bound.gradient())

    def paired_changes(self, dZ):
        """Sum of the changes."""
        self._check_one()
        return self._sum(lambda bound: bound.paired_changes(dZ))

    def _check_one(self):
        if any(bound.queries is not self.queries for _, bound in self.parts):
            raise TypeError(
                "the terms of this sum are not functions of the same outputs: ask for transform "
                "or group_influence"
            )


class Mean(Aggregate):
    """The mean of a target over the queries, or over some of them: a scalar.

    Parameters
    ----------
    target : Target
        With one value a query.
    mask : array-like of shape (n_queries,) or str, optional
        Which queries (booleans), or their weights (numbers, not negative); or the name of such a
        column of the query dataframe. Default all.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.targets import Decision, Mean
    >>> X, y = load_diabetes(return_X_y=True)
    >>> older = Mean(Decision(), X[:, 0] > 0)
    >>> InfluenceExplainer(Ridge(), target=older).fit(X, y).transform(X).shape
    (1, 442)
    """

    columns = ("mask",)

    def __init__(self, target, mask=None):
        self.target = target
        self.mask = mask

    @property
    def needs_y(self):
        """As the target."""
        return self.target.needs_y

    def of_table(self, X):
        """The column, and those of the target."""
        return Mean(self.target.of_table(X), super().of_table(X).mask)

    def inner(self, head):
        """The target."""
        return self.target

    def cells(self, head, y, n):
        """One cell, with the mask's weights."""
        if self.mask is None:
            return np.ones((n, 1))
        weights = aligned(self.mask, n, "mask").astype(np.float64)
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError("mask must be booleans, or weights that are finite and not negative")
        if not weights.any():
            raise ValueError("mask marks no query: its mean is not defined")
        return weights[:, None]

    def reduce(self, means):
        """The mean itself."""
        return means[0]

    def slope(self, means):
        """One."""
        return np.ones(1)
