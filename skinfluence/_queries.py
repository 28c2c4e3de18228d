"""Influence of every training row on queries: all of it, the largest, the mean."""

import joblib
import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils._metadata_requests import UNUSED
from sklearn.utils.validation import _check_sample_weight

from ._blocks import blocks
from ._distributed import on_shards
from ._out import check_plain, open_sink
from ._relative import divide, relative_to
from ._tensors import as_output, empty_tensor, is_tensor, on_host, output_device
from ._top import TopInfluences, TopValues, check_top
from .targets import resolve_target
from .targets.base import check_stored


class QueryInfluence(TransformerMixin):
    """Mixin of a fitted explainer: what each training row did to queries."""

    __metadata_request__transform = {"out": UNUSED}

    @on_shards
    def transform(self, X, y=None, *, out=None):
        """Influence of each training row on each query.

        Parameters
        ----------
        X : array-like, dataframe, sparse or dask collection of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional
            Labels or targets of the queries; needed for the loss.
        out : array of shape (n_queries, n_train) or path, optional
            Where to write the result: an ndarray, a memmap, a torch tensor on any device or a zarr
            array; or a path that ends in ``.zarr``, where a store is made. It is named
            ``PATH.part`` until it is whole, and the same call goes on with what an interrupted
            one left there.

        Returns
        -------
        ndarray of shape (n_queries, n_train), or ``out``
            Target without the row minus target with all rows. One row for a scalar target. A
            dask array where queries or training rows are dask collections; for a tensor ``X``
            under scikit-learn's ``array_api_dispatch``, a tensor on its device.

        Raises
        ------
        MemoryError
            If the result is larger than the memory that is free and there is no ``out``.
        """
        device = output_device(X)
        query, y = self._check_queries(X, y)
        target = resolve_target(self.target, y is not None, X)
        plain = check_plain(self, out)
        shape = (1 if target.scalar else query.shape[0], self.n_rows_)
        dtype = np.float64 if target.scalar else query.dtype
        if out is None and device is not None and plain:
            out = empty_tensor(shape, dtype, device)
        sink = open_sink(out, shape, dtype, lambda: self._fingerprint(target, X, y))
        self._fill(sink, target, query, y)
        if target.scalar and not plain:  # its one row is not one of the queries'
            return self._as_output(sink.result(), self.get_feature_names_out(), ["target"])
        return sink.result()

    def _fill(self, sink, target, query, y, sizes=None):
        """Write the influences, divided by the ``sizes`` of the training rows if there are any."""
        for part in sink.parts(self._query_block(query.shape[0])):
            if target.scalar:
                bound = self.effects_.bind_target(target, query, y)
            else:
                bound = self._bind(target, query, y, part)
            block = self._all_rows(bound, sink.block(part))
            if sizes is not None:
                divide(block, sizes)
            sink.done(part, block)

    def _fingerprint(self, target, X, y):
        """A name of the numbers that ``transform`` gives."""
        check_stored(self.target)
        objective = self.objective_
        fitted = [getattr(objective, name, None) for name in ("theta", "outputs")]
        options = (self.get_params(deep=False), self.method_, target)
        return joblib.hash([options, fitted, self._training_name(), joblib.hash(on_host(X)), y])

    def _training_name(self):
        """A name of the training rows, their targets and weights."""
        problem = self.effects_.problem
        return joblib.hash([joblib.hash(problem.X), problem.y, problem.sample_weight])

    @on_shards
    def top_influences(self, X, y=None, *, k=10, by="magnitude", relative=None):
        """The training rows that matter most for each query.

        Parameters
        ----------
        X : array-like, dataframe, sparse or dask collection of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional
        k : int, default=10
        by : {"magnitude", "helpful", "harmful"}, default="magnitude"
            Largest absolute influence, most positive, or most negative.
        relative : {"loss", "parameters"}, optional
            Rank (and return) :meth:`~skinfluence.InfluenceExplainer.relative_influence` with
            this norm instead.

        Returns
        -------
        Bunch
            ``indices`` and ``values`` of shape (n_queries, k), most influential first. The full
            (n_queries, n_train) array is never held.
        """
        query, y = self._check_queries(X, y)
        check_top(k, by, self.n_rows_)
        target = resolve_target(self.target, y is not None, X)
        sizes = None if relative is None else self.row_norms(norm=relative)
        parts = []
        for part in blocks(query.shape[0], self._query_block(query.shape[0])):
            if target.scalar:
                bound = self.effects_.bind_target(target, query, y)
            else:
                bound = self._bind(target, query, y, part)
            n_values = 1 if target.scalar else part.stop - part.start
            top = TopValues(n_values, k, by)
            self._each_block(bound, relative_to(sizes, top.update))
            parts.append(top.result())
            if target.scalar:
                break
        pieces = (np.concatenate(piece) for piece in zip(*parts, strict=True))
        indices, values = (as_output(piece, output_device(X)) for piece in pieces)
        return TopInfluences(indices=indices, values=values)

    @on_shards
    def dataset_influence(self, X, y=None, *, sample_weight=None):
        """Influence of each training row on the mean target over a set of queries.

        Parameters
        ----------
        X : array-like, dataframe, sparse or dask collection of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional
        sample_weight : array-like of shape (n_queries,), optional
            Weights of the mean.

        Returns
        -------
        ndarray of shape (n_train,)
            A dask array where queries or training rows are dask collections.
        """
        query, y = self._check_queries(X, y)
        target = resolve_target(self.target, y is not None, X)
        weights = _check_sample_weight(sample_weight, query, ensure_non_negative=True)
        if not weights.any():
            raise ValueError("every sample_weight is zero: the mean is not defined")
        weights = weights.astype(np.float64) / weights.sum()
        if target.scalar:
            if sample_weight is not None:
                raise ValueError(
                    f"{type(target).__name__} is one number for all queries: there is no mean to "
                    "weigh. Pass sample_weight=None, or Mean(target, mask=weights) as the target"
                )
            bound = self.effects_.bind_target(target, query, y)
            total = self._all_rows(bound, np.empty((1, self.n_rows_)))[0]
            return as_output(total, output_device(X))
        total = np.zeros(self.n_rows_)
        pulled = 0.0
        for part in blocks(query.shape[0], self._query_block(query.shape[0])):
            bound = self._bind(target, query, y, part)
            if self.method_.linear_target:
                pulled = pulled + weights[part] @ bound.pullback()
            else:
                self._each_block(bound, _Accumulate(total, weights[part]))
        if self.method_.linear_target:
            adjoint = self.effects_.adjoint(pulled[None])
            for rows in self.effects_.row_blocks(np.arange(self.n_rows_)):
                total[rows] = self.effects_.linearised(adjoint, rows)[0]
        return as_output(total, output_device(X))


class _Accumulate:
    """Adds weighted column sums of blocks into a vector."""

    def __init__(self, total, weights):
        self.total, self.weights = total, weights

    def __call__(self, rows, values):
        weights = self.weights
        if is_tensor(values):
            weights, values = as_output(weights, values.device), values.double()
        self.total[rows] += on_host(weights @ values)
