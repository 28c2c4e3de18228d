"""Rows that lie in dask collections: sums over partitions, and results a partition at a time.

The work is cut into dask tasks, each of which makes the objective of its own rows; a worker that
dies costs its tasks, which dask gives to another.
"""

import copy
from functools import wraps

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted, validate_data

from ._blocks import block_length, blocks, calling_thread
from ._effects import as_rows, check_steps
from ._out import open_sink
from ._partitions import Partitions, is_dask
from ._top import TopInfluences, TopValues, check_top
from ._unwrap import transform, unwrap
from .methods import InfinitesimalJackknife, Influence, Newton, Problem, resolve_method
from .objectives.sharded import ShardedObjective, shard_objective
from .solvers import Direct, resolve_solver
from .targets import resolve_target

METHODS = (Influence, InfinitesimalJackknife, Newton)
# Partial sums added up in one task.
FAN_IN = 8


def on_shards(method):
    """Method of an explainer that :class:`Shards` has too, for rows in dask collections."""

    @wraps(method)
    def dispatch(self, *args, **kwargs):
        """The method, of the shards if the training rows lie in them."""
        check_is_fitted(self)
        if self._shards is not None:
            if kwargs.pop("relative", None) is not None:
                raise TypeError("relative influence needs all training rows at once: compute them")
            return getattr(self._shards, method.__name__)(*args, **kwargs)
        if args and is_dask(args[0]):
            if method.__name__ != "transform" or kwargs.keys() - {"y"}:
                raise TypeError(
                    "queries in dask collections are for transform, or for an explainer whose "
                    "training rows lie in them too: compute the queries"
                )
            return over_queries(self, *args, **kwargs)
        return method(self, *args, **kwargs)

    return dispatch


def check_whole(explainer, what):
    """Refuse an explainer whose training rows lie in shards."""
    if getattr(explainer, "_shards", None) is not None:
        raise TypeError(f"{what} needs all training rows at once: pass them as arrays")


def fit_sharded(explainer, X, y, sample_weight):
    """Fit an explainer of a fitted estimator on rows in dask collections."""
    estimator = _fitted(explainer.estimator)
    steps, final = unwrap(estimator)
    check_steps(steps, explainer.preprocessing, stacklevel=5)
    if explainer.objective != "auto":
        raise ValueError(f"objective={explainer.objective!r} is not known for dask collections")
    rows = Partitions(X, y, sample_weight)
    validate_data(explainer, rows.head, skip_check_array=True)
    shards = Shards(rows, steps, final)
    objective = shards.objective()
    explainer.estimator_, explainer._steps, explainer._stacked = estimator, steps, False
    explainer.objective_ = objective
    explainer._name_features(rows.head)
    explainer.n_rows_, explainer.gradient_norm_ = objective.n_rows, objective.gradient_norm
    target = explainer.target
    explainer.target_ = None if target == "auto" else resolve_target(target, True)
    explainer._index = explainer._leverage = None
    explainer.method_ = resolve_method(explainer.method, objective)
    if not isinstance(explainer.method_, METHODS):
        raise ValueError(
            f"method {type(explainer.method_).__name__} needs all rows at once; over dask "
            "collections use 'newton', 'infinitesimal_jackknife' or 'influence'"
        )
    solver = resolve_solver(explainer.solver, objective)
    if not isinstance(solver, Direct):
        raise ValueError(
            f"solver {type(solver).__name__} needs all rows at once; over dask collections use "
            "'direct'"
        )
    explainer.solver_ = solver.fit(objective)
    explainer.effects_ = OnShards()
    explainer._shards = shards.bind(explainer)
    return explainer


def _fitted(estimator):
    inner = estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator
    try:
        check_is_fitted(inner)
    except NotFittedError as error:
        raise NotFittedError(
            f"{type(inner).__name__} is not fitted: over dask collections the estimator is taken "
            "as it is, and Newton steps over all rows bring it to its optimum. Fit it on a sample"
        ) from error
    return estimator


class OnShards:
    """Stands for effects that only the shards have."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise TypeError(
            "this is not available for rows in dask collections, where transform, top_influences, "
            "dataset_influence, self_influence and parameter_influence are; pass the rows as "
            "arrays"
        )


class Shards:
    """Partitions as objectives of one fitted estimator.

    Parameters
    ----------
    rows : Partitions
    steps : list of (name, fitted transformer)
        Kept as fitted.
    final : fitted estimator
    """

    def __init__(self, rows, steps, final):
        import dask

        self.rows = rows
        # sent to the workers once, not with every task
        self.estimator = dask.delayed((steps, final), traverse=False)
        self.steps, self.final = steps, final

    # -- fitting ---------------------------------------------------------------------------
    def objective(self):
        """The objective of all rows together, at its minimum."""
        template = self._template()
        self.class_counts = None
        if template.head.classes is not None:
            self.class_counts = self.sum(_class_counts, len(template.head.classes))[0]
        return ShardedObjective(template, len(self.rows), self.sum)

    def sum(self, function, *args):
        """Sums over all shards of the arrays that ``function(shard, *args)`` gives."""
        import dask

        work, add = dask.delayed(_on_shard), dask.delayed(_add)
        totals = [work(self.estimator, part, function, args) for part in self.rows.parts]
        while len(totals) > 1:
            totals = [add(totals[part]) for part in blocks(len(totals), FAN_IN)]
        return [np.array(total) for total in dask.compute(totals[0])[0]]

    def _template(self):
        """The objective of a few of the rows."""
        import dask

        return dask.delayed(_first_rows)(self.estimator, self.rows.parts[0]).compute()

    def bind(self, explainer):
        """Keep what the workers need of a fitted explainer: no row of it."""
        import dask

        local = copy.copy(explainer)
        local.solver_ = copy.copy(explainer.solver_)
        local.solver_._objective = local.objective_ = local.effects_ = local._shards = None
        fitted = (local, explainer.objective_.theta, self.class_counts)
        self.local, self.explainer = dask.delayed(fitted, traverse=False), explainer
        return self

    # -- results ---------------------------------------------------------------------------
    def each_row(self, function, *args, width=None, dtype=np.float64):
        """``function(explainer of a shard, *args)`` for all shards, as one dask array."""
        import dask
        import dask.array as da

        work = dask.delayed(_on_explainer)
        pieces = [
            da.from_delayed(
                work(self.local, self.estimator, part, function, args),
                (length,) if width is None else (length, width),
                dtype,
            )
            for part, length in zip(self.rows.parts, self.rows.lengths, strict=True)
        ]
        return da.concatenate(pieces)

    def transform(self, X, y=None, *, out=None):
        """Influences as a dask array, or written to ``out`` a block of queries at a time."""
        target = resolve_target(self.explainer.target, y is not None)
        if out is None:
            return self._matrix(X, y, target)
        if is_dask(X):
            raise ValueError("out= takes queries in memory: compute them, or leave out away")
        query, _ = self.explainer._check_queries(X, y)
        shape = (1 if target.scalar else query.shape[0], len(self.rows))
        sink = open_sink(out, shape, query.dtype, lambda: self.explainer._fingerprint(target, X, y))
        for part in sink.parts(block_length(8 * shape[1], share=1 / 4)):
            rows = (
                (X, y) if target.scalar else (_safe_indexing(X, part), y if y is None else y[part])
            )
            block = sink.block(part)
            block[:] = self._matrix(*rows, target).compute()
            sink.done(part, block)
        return sink.result()

    def _matrix(self, X, y, target):
        import dask.array as da

        parts, lengths, dtype = self._queries(X, y)
        self._check_scalar(parts, y)
        if target.scalar:
            return self.each_row(_scalar, parts[0])[None]
        pieces = [
            self.each_row(_influences, part, width=length, dtype=dtype).T
            for part, length in zip(parts, lengths, strict=True)
        ]
        return da.concatenate(pieces)

    def _check_scalar(self, parts, y):
        """A scalar of all queries is not made of those of its partitions."""
        if len(parts) > 1 and resolve_target(self.explainer.target, y is not None).scalar:
            raise ValueError("a scalar target needs its queries in one partition")

    def _queries(self, X, y, sample_weight=None):
        """Queries in pieces that are sent once, their lengths, and the dtype of the results."""
        import dask

        if is_dask(X):
            rows = Partitions(X, y, sample_weight)
            return rows.parts, rows.lengths, self.explainer._check_queries(rows.head, None)[0].dtype
        query, _ = self.explainer._check_queries(X, y)
        rows = dask.delayed((X, y, sample_weight), traverse=False)
        return [rows], [query.shape[0]], query.dtype

    def top_influences(self, X, y=None, *, k=10, by="magnitude"):
        """The best of each shard, merged."""
        import dask

        check_top(k, by, len(self.rows))
        starts = np.cumsum([0, *self.rows.lengths[:-1]])
        find, merge = dask.delayed(_on_explainer), dask.delayed(_best)
        found, pieces = [], self._queries(X, y)[0]
        self._check_scalar(pieces, y)
        for queries in pieces:
            tops = [
                find(self.local, self.estimator, part, _top, (queries, k, by, int(start)))
                for part, start in zip(self.rows.parts, starts, strict=True)
            ]
            while len(tops) > 1:
                tops = [merge(tops[part], k, by) for part in blocks(len(tops), FAN_IN)]
            found.append(tops[0])
        indices, values = zip(*dask.compute(*found), strict=True)
        return TopInfluences(indices=np.concatenate(indices), values=np.concatenate(values))

    def dataset_influence(self, X, y=None, *, sample_weight=None):
        """Influence of each row on the mean target: a dask array."""
        import dask

        parts, lengths, _ = self._queries(X, y, sample_weight)
        self._check_scalar(parts, y)
        if sample_weight is not None:
            lengths = dask.compute(*[dask.delayed(_total_weight)(part) for part in parts])
        shares = [
            (length / sum(lengths)) * self.each_row(_dataset_influence, part)
            for part, length in zip(parts, lengths, strict=True)
            if length
        ]
        return sum(shares[1:], shares[0])

    def self_influence(self, target="loss"):
        """Influence of each row on itself: a dask array."""
        return self.each_row(_self_influence, target)

    def parameter_influence(self, rows=None, *, out=None):
        """Changes of the parameters without each row: a dask array."""
        if out is not None:
            raise ValueError("out= is for rows in memory: write the dask array that comes back")
        if rows is not None:
            raise ValueError("rows= is for rows in memory: index the dask array that comes back")
        return self.each_row(_parameter_influence, width=self.explainer.objective_.n_params)

    def leverages(self):
        """Leverage of each row: a dask array."""
        return self.each_row(_leverages)

    def left_out(self, method):
        """``estimator.method`` of each row by the fit without it: a dask array."""
        from .model_selection._model import template

        like = template(self.explainer.estimator_, self.rows.head, method)
        width = like.shape[1] if like.ndim == 2 else None
        return self.each_row(_left_out, method, like, width=width, dtype=like.dtype)


def over_queries(explainer, X, y=None):
    """Influences of rows in memory on queries in a dask collection: a dask array."""
    import dask
    import dask.array as da

    if resolve_target(explainer.target, y is not None).scalar:
        raise ValueError("a scalar target needs its queries in memory: compute them")
    queries, kept = Partitions(X, y), dask.delayed(explainer, traverse=False)
    dtype = explainer._check_queries(queries.head, None)[0].dtype
    work = dask.delayed(_transform)
    pieces = [
        da.from_delayed(work(kept, part), (length, explainer.n_rows_), dtype)
        for part, length in zip(queries.parts, queries.lengths, strict=True)
    ]
    return da.concatenate(pieces)


# -- what a worker does ------------------------------------------------------------------------
def _shard(estimator, part):
    (steps, final), (X, y, weight) = estimator, part
    X = as_rows(transform(steps, X))
    return shard_objective(final, X, np.asarray(y), weight)


def _first_rows(estimator, part):
    if not hasattr(estimator[1], "coef_") or hasattr(estimator[1], "support_"):
        raise TypeError(
            f"rows in shards are for linear predictors, which {type(estimator[1]).__name__} is "
            "not. Pass the rows as one array"
        )
    return _shard(estimator, tuple(None if column is None else column[:50] for column in part))


def _on_shard(estimator, part, function, args):
    with calling_thread():  # a worker has as many tasks at a time as it has threads
        return function(_shard(estimator, part), *args)


def _add(parts):
    return [sum(arrays[1:], arrays[0]) for arrays in zip(*parts, strict=True)]


def _class_counts(shard, n_classes):
    return (np.bincount(shard.head_targets[shard.weights > 0], minlength=n_classes),)


def _on_explainer(fitted, estimator, part, function, args):
    """Call ``function`` with an explainer whose training rows are those of one shard."""
    local, theta, class_counts = fitted
    with calling_thread():
        explainer, objective = copy.copy(local), _shard(estimator, part)
        objective._set_theta(theta)
        objective.class_counts = class_counts
        explainer.objective_, explainer.n_rows_ = objective, objective.n_rows
        problem = Problem(objective, local.solver_, batch_size=local.batch_size)
        explainer.effects_ = local.method_.bind(problem)
        return function(explainer, *args)


def _transform(explainer, queries):
    X, y, _ = queries
    return explainer.transform(X, None if y is None else np.asarray(y))


def _influences(explainer, queries):
    return np.ascontiguousarray(_transform(explainer, queries).T)


def _scalar(explainer, queries):
    return _transform(explainer, queries)[0]


def _self_influence(explainer, target):
    return explainer.self_influence(target)


def _parameter_influence(explainer):
    return explainer.parameter_influence()


def _leverages(explainer):
    return explainer.leverage_


def _dataset_influence(explainer, queries):
    X, y, weight = queries
    return explainer.dataset_influence(X, y, sample_weight=weight)


def _total_weight(queries):
    return float(np.sum(queries[2]))


def _left_out(explainer, method, like):
    from .model_selection._model import responses

    effects, objective = explainer.effects_, explainer.objective_
    Z = objective.outputs.copy()
    for rows in effects.row_blocks(np.arange(objective.n_rows)):
        Z[rows] += effects.own_outputs(rows)
    return responses(objective.head, Z, method, like)


def _top(explainer, queries, k, by, start):
    X, y, _ = queries
    top = explainer.top_influences(X, y, k=min(k, explainer.n_rows_), by=by)
    return top.indices + start, top.values


def _best(parts, k, by):
    indices, values = (np.concatenate(piece, axis=1) for piece in zip(*parts, strict=True))
    top = TopValues(len(values), min(k, values.shape[1]), by)
    top.update(slice(0, values.shape[1]), values)
    position, values = top.result()
    return np.take_along_axis(indices, position, axis=1), values
