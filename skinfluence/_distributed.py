"""Rows or queries that lie in dask collections: what an explainer does with them."""

import inspect
from functools import wraps

from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_is_fitted, validate_data

from ._effects import check_steps
from ._partitions import Partitions, is_dask
from ._unwrap import unwrap
from .methods import InfinitesimalJackknife, Influence, Newton, resolve_method
from .solvers import Direct, resolve_solver
from .targets import resolve_target

METHODS = (Influence, InfinitesimalJackknife, Newton)
# What is put into the container of ``set_output``.
CONTAINED = ("transform", "parameter_influence")


def on_shards(method):
    """Method of an explainer that :class:`~skinfluence._shards.Shards` has too.

    It is theirs where the training rows lie in dask collections. Where queries alone do, it is
    done partition by partition, as :class:`~skinfluence._shard_queries.QueryParts` knows.
    """
    name, called = method.__name__, inspect.signature(method)

    @wraps(method)
    def dispatch(self, *args, **kwargs):
        """The method, of the shards or over the partitions of the queries."""
        check_is_fitted(self)
        queries = called.bind(self, *args, **kwargs).arguments.get("X")
        if self._shards is None and not is_dask(queries):
            return method(self, *args, **kwargs)
        contained = name in CONTAINED and _get_output_config("transform", self)["dense"]
        if contained not in (False, "default"):
            raise ValueError(f"{name} gives a dask array here: use set_output(transform='default')")
        if self._shards is not None:
            return getattr(self._shards, name)(*args, **kwargs)
        from ._shard_queries import QueryParts

        return getattr(QueryParts(self), name)(*args, **kwargs)

    return dispatch


def in_memory(method):
    """Method of an explainer that takes rows and queries in memory alone."""
    name, called = method.__name__, inspect.signature(method)

    @wraps(method)
    def dispatch(self, *args, **kwargs):
        """The method, unless something of it lies in dask collections."""
        check_is_fitted(self)
        check_whole(self, name)
        given = called.bind(self, *args, **kwargs).arguments
        for argument, value in given.items():
            if is_dask(value):
                raise TypeError(
                    f"{name} takes arrays, and {argument} is a dask collection: compute it"
                )
        return method(self, *args, **kwargs)

    return dispatch


def check_whole(explainer, what):
    """Refuse an explainer whose training rows lie in shards."""
    if getattr(explainer, "_shards", None) is not None:
        raise TypeError(f"{what} needs all training rows at once: pass them as arrays")


def fit_sharded(explainer, X, y, sample_weight):
    """Fit an explainer of a fitted estimator on rows in dask collections."""
    from ._shards import Shards

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
    explainer._name_features()
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
            "'direct': their Newton steps have made the Hessian anyway"
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
            "dataset_influence, relative_influence, group_influence, self_influence, row_norms and "
            "parameter_influence are; pass the rows as arrays"
        )
