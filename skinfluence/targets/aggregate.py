"""Scalar targets: a function of means of a target over groups of queries."""

import numpy as np

from .base import Target


class Aggregate(Target):
    """``ρ(means)`` of a target with one value a query, over cells of queries.

    A subclass says which target (:meth:`inner`), which queries make up each mean (:meth:`cells`)
    and what becomes of the means (:meth:`reduce`, :meth:`slope`).

    Attributes
    ----------
    columns : tuple of str
        Parameters that may name a column of the query dataframe.
    """

    scalar = True
    columns = ()

    def inner(self, head):
        """The target that is averaged."""
        raise NotImplementedError

    def cells(self, head, y, n):
        """Weights (n, n_cells) of the means; columns are scaled to sum to 1."""
        raise NotImplementedError

    def reduce(self, means):
        """The scalar, from ``means`` of shape (n_cells, ...): shape (...)."""
        raise NotImplementedError

    def slope(self, means):
        """Its derivative at means of shape (n_cells,)."""
        raise NotImplementedError

    def of_table(self, X):
        """Columns by name, where a parameter is one."""
        named = {k: getattr(self, k) for k in self.columns if isinstance(getattr(self, k), str)}
        if not named:
            return self
        values = self.get_params(deep=False)
        values.update({key: column(X, name, key) for key, name in named.items()})
        return type(self)(**values)

    def bind(self, objective, X, y):
        """The cells over the inner target's queries."""
        if self.needs_y and y is None:
            raise ValueError(f"target {type(self).__name__} needs the queries' y: pass y")
        inner = self.inner(objective.head)
        if inner.scalar:
            raise ValueError(
                f"{type(self).__name__} averages a target with one value a query; "
                f"{type(inner).__name__} is scalar"
            )
        bound = inner.bind(objective, X, y)
        encoded = None if y is None else objective.head.encode(y)
        weights = self.cells(objective.head, encoded, X.shape[0])
        return BoundAggregate(self, bound, weights / weights.sum(axis=0))

    def bind_queries(self, objective, queries, y):
        """Refused: training rows one by one have no mean."""
        raise ValueError(f"{type(self).__name__} is a scalar of all queries, not of one row")


class BoundAggregate:
    """Means of a bound target over cells."""

    def __init__(self, target, inner, weights):
        self.target, self.inner, self.weights = target, inner, weights
        self.queries, self.parts = inner.queries, [(1.0, inner)]

    def _means(self):
        return self.weights.T @ self.inner.value()

    def _query_weights(self):
        """Derivative with respect to the inner target's value at each query: (m,)."""
        return self.weights @ self.target.slope(self._means())

    def value(self):
        """The scalar at the fit."""
        return self.target.reduce(self._means())

    def pullback(self):
        """Gradient with respect to the parameters, (1, n_params)."""
        return self.inner.pullback_sum(self._query_weights())[None]

    def reevaluated(self, moves):
        """Changes (1, b)."""
        means = self._means()
        moved = means[:, None] + self.weights.T @ self.inner.reevaluated(moves)
        return (self.target.reduce(moved) - self.target.reduce(means))[None]

    def linearised(self, moves):
        """First-order changes (1, b)."""
        return self._query_weights()[None] @ self.inner.linearised(moves)


def aligned(values, n, name):
    """An array with one entry a query."""
    if isinstance(values, str):
        raise ValueError(
            f"{name}={values!r} names a column, but the queries are no dataframe; pass the values"
        )
    values = np.asarray(values)
    if values.shape != (n,):
        raise ValueError(f"{name} has shape {values.shape}, but there are {n} queries")
    return values


def column(X, name, parameter):
    """A column of a query dataframe."""
    if not hasattr(X, "columns"):
        raise ValueError(
            f"{parameter}={name!r} names a column, but the queries are no dataframe; pass the "
            "values, one a query"
        )
    if name not in list(X.columns):
        raise ValueError(f"{parameter}={name!r} is no column of the queries: {list(X.columns)}")
    return np.asarray(X[name])


def codes(values, name):
    """``(codes, labels)`` of groups; missing values are refused."""
    missing = np.array([value is None or value != value for value in values.tolist()])
    if missing.any():
        raise ValueError(f"{name} has {missing.sum()} missing values: drop or fill those queries")
    labels, index = np.unique(values, return_inverse=True)
    return index, labels
