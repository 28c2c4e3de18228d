"""Training rows in partitions: sums over them, and results a partition at a time.

The work is cut into dask tasks, each of which makes the objective of its own rows; a worker that
dies costs its tasks, which dask gives to another.
"""

import copy
from functools import partial

import numpy as np
from joblib import hash as joblib_hash

from . import _shard_tasks as tasks
from ._blocks import blocks
from ._partitions import Partitions, is_dask
from ._shard_groups import group_moves, of_groups
from ._shard_queries import check_no_out, divided, name_queries, weighted_mean, write
from ._top import TopInfluences, check_top
from .objectives.shard import parts_of, rule_totals
from .objectives.sharded import sharded
from .targets import resolve_target
from .targets.base import check_stored

# Partial sums added up in one task.
FAN_IN = 8


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
        _check_linear(final)
        self.rows, self.estimator = rows, (steps, final)

    # -- fitting ---------------------------------------------------------------------------
    def objective(self):
        """The objective of all rows together, at its minimum."""
        import dask

        # sent to the workers once, not with every task
        estimator = dask.delayed(self.estimator, traverse=False)
        template = dask.delayed(tasks.first_rows)(estimator, self.rows.parts[0])
        work = dask.delayed(tasks.on_rows)
        totals = _tree([work(estimator, part, rule_totals) for part in self.rows.parts])
        template, totals = dask.compute(template, totals)
        return sharded(template, len(self.rows), list(map(np.array, totals)), self._sums)

    def _sums(self, wholes):
        """For each part of the objective ``sums(function, *args)`` over the shards."""
        import dask

        self.wholes = wholes
        fitted = dask.delayed((self.estimator, wholes), traverse=False)
        return [partial(self._sum, fitted, k) for k in range(len(wholes))]

    def _sum(self, fitted, k, function, *args):
        import dask

        work = dask.delayed(tasks.on_shard)
        pieces = [work(fitted, part, k, function, args) for part in self.rows.parts]
        return list(map(np.array, _tree(pieces).compute()))

    def sum_explainers(self, function):
        """Sums over the shards of what ``function(explainer of a shard)`` gives."""
        import dask

        work = dask.delayed(tasks.on_explainer)
        pieces = [work(self.fitted, part, function, ()) for part in self.rows.parts]
        return list(map(np.array, _tree(pieces).compute()))

    def sum_groups(self, function, members):
        """Sums over the shards of what ``function(explainer of a shard, its members)`` gives."""
        import dask

        work, pairs = dask.delayed(tasks.on_explainer), zip(self.rows.parts, members, strict=True)
        pieces = [work(self.fitted, part, function, (own,)) for part, own in pairs]
        return list(map(np.array, _tree(pieces).compute()))

    def bind(self, explainer):
        """Keep what the workers need of a fitted explainer: no row of it."""
        local, solver = copy.copy(explainer), copy.copy(explainer.solver_)
        solver._objective = local.objective_ = local.effects_ = local._shards = None
        local.solver_ = solver
        for k, whole in enumerate(self.wholes):
            whole.solver = copy.copy(solver)
            whole.solver.blocks_ = solver.blocks_[k : k + 1]
            whole.solver.factors_ = solver.factors_[k : k + 1]
        self.explainer, self._local = explainer, local
        self._tell()
        return self

    def _tell(self):
        import dask

        fitted = (self.estimator, self.wholes, self._local)
        self.fitted = dask.delayed(fitted, traverse=False)

    def know_curvature(self):
        """Have the workers know the Hessian of all rows."""
        if any([part.know_curvature() for part in parts_of(self.explainer.objective_)]):
            self._tell()

    # -- results ---------------------------------------------------------------------------
    def each_row(self, function, *args, width=None, dtype=np.float64):
        """``function(explainer of a shard, *args)`` for all shards, as one dask array."""
        import dask
        import dask.array as da

        work = dask.delayed(tasks.on_explainer)
        pieces = [
            da.from_delayed(
                work(self.fitted, part, function, args),
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
            rows = Partitions(X, y)
            shape = (sum(rows.lengths), len(self.rows))
            dtype = self.explainer._check_queries(rows.head, None)[0].dtype
        else:
            query, _ = self.explainer._check_queries(X, y)
            shape, dtype = (1 if target.scalar else query.shape[0], len(self.rows)), query.dtype
        return write(
            lambda X, y: self._matrix(X, y, target),
            X,
            y,
            out,
            shape,
            dtype,
            lambda: self._fingerprint(target, X, y),
        )

    def _fingerprint(self, target, X, y):
        """A name of the numbers that ``transform`` gives."""
        check_stored(self.explainer.target)
        import dask

        work = dask.delayed(tasks.on_explainer)
        pieces = [work(self.fitted, part, tasks.name_rows, ()) for part in self.rows.parts]
        explainer = self.explainer
        options = [explainer.get_params(deep=False), explainer.method_, target]
        rows = [explainer.objective_.theta, self.rows.lengths, dask.compute(*pieces)]
        return joblib_hash([options, rows, name_queries(X, y)])

    def _matrix(self, X, y, target):
        import dask.array as da

        parts, lengths, dtype = self._queries(X, y)
        self._check_scalar(parts, y)
        if target.scalar:
            return self.each_row(tasks.scalar_influence, parts[0])[None]
        pieces = [
            self.each_row(tasks.influences, part, width=length, dtype=dtype).T
            for part, length in zip(parts, lengths, strict=True)
        ]
        return da.concatenate(pieces)

    def _check_scalar(self, parts, y):
        """A scalar of all queries is not made of those of its partitions."""
        if len(parts) > 1 and resolve_target(self.explainer.target, y is not None).scalar:
            raise ValueError(
                "a scalar target needs its queries in one partition: compute them, or rechunk "
                "them into one"
            )

    def _queries(self, X, y, sample_weight=None):
        """Queries in pieces that are sent once, their lengths, and the dtype of the results."""
        import dask

        if is_dask(X):
            rows = Partitions(X, y, sample_weight)
            return rows.parts, rows.lengths, self.explainer._check_queries(rows.head, None)[0].dtype
        query, _ = self.explainer._check_queries(X, y)
        rows = dask.delayed((X, y, sample_weight), traverse=False)
        return [rows], [query.shape[0]], query.dtype

    def relative_influence(self, X, y=None, *, norm="loss", out=None):
        """Influences divided by the size of a row's change of the model: a dask array."""
        check_no_out(out)
        sizes = self.row_norms(norm=norm)
        return divided(self.transform(X, y), sizes)

    def top_influences(self, X, y=None, *, k=10, by="magnitude", relative=None):
        """The best of each shard, merged."""
        import dask

        check_top(k, by, len(self.rows))
        if relative is not None:
            self._prepare_norm(relative)
        starts = np.cumsum([0, *self.rows.lengths[:-1]])
        find, merge = dask.delayed(tasks.on_explainer), dask.delayed(tasks.best)
        found, pieces = [], self._queries(X, y)[0]
        self._check_scalar(pieces, y)
        for queries in pieces:
            tops = [
                find(self.fitted, part, tasks.top, (queries, k, by, relative, int(start)))
                for part, start in zip(self.rows.parts, starts, strict=True)
            ]
            while len(tops) > 1:
                tops = [merge(tops[part], k, by) for part in blocks(len(tops), FAN_IN)]
            found.append(tops[0])
        indices, values = zip(*dask.compute(*found), strict=True)
        return TopInfluences(indices=np.concatenate(indices), values=np.concatenate(values))

    def dataset_influence(self, X, y=None, *, sample_weight=None):
        """Influence of each row on the mean target: a dask array."""
        parts, lengths, _ = self._queries(X, y, sample_weight)
        self._check_scalar(parts, y)

        def mean(part):
            return self.each_row(tasks.dataset_influence, part)

        return weighted_mean(mean, parts, lengths, sample_weight)

    def group_influence(self, groups, X, y=None, *, method=None):
        """Influence of groups of rows, removed jointly; a dask array where the queries are."""
        method, delta = group_moves(self, groups, method)
        return of_groups(self.explainer, method, delta, X, y)

    def self_influence(self, target="loss"):
        """Influence of each row on itself: a dask array."""
        if resolve_target(target, True).scalar:
            raise ValueError("self_influence needs a target of one row, not a scalar of all")
        return self.each_row(tasks.self_influence, target)

    def parameter_influence(self, rows=None, *, out=None):
        """Changes of the parameters without each row: a dask array."""
        check_no_out(out)
        n_params = self.explainer.objective_.n_params
        return self._some(rows, self.each_row(tasks.parameter_influence, width=n_params))

    def row_norms(self, rows=None, *, norm="loss"):
        """How far the model moves without each row: a dask array."""
        self._prepare_norm(norm)
        return self._some(rows, self.each_row(tasks.row_norms, norm))

    def _some(self, rows, values):
        return values if rows is None else values[self.explainer._check_rows(rows)]

    def _prepare_norm(self, norm):
        if norm not in ("loss", "parameters"):
            raise ValueError(f"norm={norm!r} is not one of 'loss', 'parameters'")
        if norm == "loss" and not self.explainer.method_.first_order:
            self.know_curvature()

    def leverages(self):
        """Leverage of each row: a dask array."""
        objective = self.explainer.objective_
        if not hasattr(objective, "output_leverages"):
            raise TypeError(f"leverages are not known for {type(objective).__name__}")
        return self.each_row(tasks.leverages)

    def left_out(self, method):
        """``estimator.method`` of each row by the fit without it: a dask array."""
        from .model_selection._model import template

        like = template(self.explainer.estimator_, self.rows.head, method)
        width = like.shape[1] if like.ndim == 2 else None
        return self.each_row(tasks.left_out, method, like, width=width, dtype=like.dtype)


def _check_linear(final):
    """Refuse what is no linear predictor before any of its rows is looked at."""
    fits = np.ravel(getattr(final, "estimators_", [final]))
    closed = ("support_", "priors_")  # linear by a kernel, or by moments of classes
    if any(not hasattr(fit, "coef_") or any(hasattr(fit, n) for n in closed) for fit in fits):
        raise TypeError(
            f"rows in shards are for linear predictors, which {type(final).__name__} is not. Pass "
            "the rows as one array"
        )


def _tree(totals):
    """Sums of the lists of arrays that delayed tasks give."""
    import dask

    add = dask.delayed(tasks.add)
    while len(totals) > 1:
        totals = [add(totals[part]) for part in blocks(len(totals), FAN_IN)]
    return totals[0]
