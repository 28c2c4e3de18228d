"""What a worker does with the rows of one partition."""

import copy

import joblib
import numpy as np

from ._blocks import calling_thread
from ._effects import as_rows
from ._top import TopValues
from ._unwrap import transform
from .methods import Problem
from .objectives.shard import parts_of, rows_objective, shard_objective, shard_part


def part_rows(estimator, part):
    """Rows, targets and weights of a partition as the final estimator sees them."""
    X, y, weight = part
    return as_rows(transform(estimator[0], X)), np.asarray(y), weight


def first_rows(estimator, part):
    """The objective of a few rows, all of weight 1, for what it is but for its rows."""
    X, y, _ = part
    X, y, _ = part_rows(estimator, (X[:50], y[:50], None))
    return rows_objective(estimator[1], X, y, None)


def on_rows(estimator, part, function):
    """``function`` of the objective of a partition's rows alone."""
    with calling_thread():  # a worker has as many tasks at a time as it has threads
        return function(rows_objective(estimator[1], *part_rows(estimator, part)))


def on_shard(fitted, part, k, function, args):
    """``function`` of the ``k``-th objective of a partition, which knows all rows' sums."""
    estimator, wholes = fitted
    with calling_thread():
        shard = shard_part(estimator[1], part_rows(estimator, part), k, wholes[k])
        return function(shard, *args)


def on_explainer(fitted, part, function, args):
    """``function`` of an explainer whose training rows are those of one partition."""
    estimator, wholes, local = fitted
    with calling_thread():
        objective = shard_objective(estimator[1], part_rows(estimator, part), wholes)
        explainer = copy.copy(local)
        explainer.objective_, explainer.n_rows_ = objective, objective.n_rows
        problem = Problem(objective, local.solver_, batch_size=local.batch_size)
        explainer.effects_ = local.method_.bind(problem)
        return function(explainer, *args)


def add(parts):
    """Sums of arrays, place by place."""
    return [sum(arrays[1:], arrays[0]) for arrays in zip(*parts, strict=True)]


# -- of an explainer -----------------------------------------------------------------------------
def influences(explainer, queries):
    """A row for each training row, a column for each query."""
    X, y, _ = queries
    values = explainer.transform(X, None if y is None else np.asarray(y))
    return np.ascontiguousarray(values.T)


def scalar_influence(explainer, queries):
    """Of each training row on one number of all queries."""
    return influences(explainer, queries)[:, 0]


def self_influence(explainer, target):
    """Of each row on itself."""
    return explainer.self_influence(target)


def parameter_influence(explainer):
    """Changes of the parameters."""
    return explainer.parameter_influence()


def row_norms(explainer, norm):
    """Sizes of the changes of the model."""
    return explainer.row_norms(norm=norm)


def outer_products(explainer):
    """Sum of the outer products of the rows' derivatives of the parameters."""
    from .inference._expansion import Expansion

    derivatives = Expansion(explainer.objective_, explainer.solver_).rows()
    return (sum(block.T @ block for _, block in derivatives),)


def leverages(explainer):
    """Leverage of each row."""
    return explainer.leverage_


def dataset_influence(explainer, queries):
    """Of each row on the mean target."""
    X, y, weight = queries
    return explainer.dataset_influence(X, y, sample_weight=weight)


def total_weight(queries):
    """Sum of the weights of queries."""
    return float(np.sum(queries[2]))


def left_out(explainer, method, like):
    """``estimator.method`` of each row by the fit without it."""
    from .model_selection._model import responses

    outputs = explainer.effects_.left_out_outputs()
    return responses(explainer.objective_.head, outputs, method, like)


def name_rows(explainer):
    """A name of the rows and what was fitted to them."""
    parts = parts_of(explainer.objective_)
    return joblib.hash([(part.outputs, part.residuals) for part in parts])


def top(explainer, queries, k, by, relative, start):
    """The best rows of one partition, numbered from ``start``."""
    X, y, _ = queries
    k = min(k, explainer.n_rows_)
    found = explainer.top_influences(X, y, k=k, by=by, relative=relative)
    return found.indices + start, found.values


def best(parts, k, by):
    """The best of the best."""
    indices, values = (np.concatenate(piece, axis=1) for piece in zip(*parts, strict=True))
    kept = TopValues(len(values), min(k, values.shape[1]), by)
    kept.update(slice(0, values.shape[1]), values)
    position, values = kept.result()
    return np.take_along_axis(indices, position, axis=1), values
