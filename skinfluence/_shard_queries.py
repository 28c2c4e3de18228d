"""Queries in partitions, for an explainer whose training rows lie in memory."""

import joblib
import numpy as np
from sklearn.utils import _safe_indexing

from . import _shard_tasks as tasks
from ._blocks import block_length
from ._out import open_sink
from ._partitions import Partitions, is_dask
from ._top import TopInfluences, check_top
from .targets import resolve_target


class QueryParts:
    """Methods of a fitted explainer over dask collections of queries.

    Parameters
    ----------
    explainer : fitted explainer
    """

    def __init__(self, explainer):
        self.explainer = explainer

    def transform(self, X, y=None, *, out=None):
        """Influences as a dask array, or written to ``out`` a block of queries at a time."""
        if out is None:
            return self._matrix("transform", X, y)
        rows = self._rows(X, y)
        target = resolve_target(self.explainer.target, y is not None)
        return write(
            lambda X, y: self._matrix("transform", X, y),
            X,
            y,
            out,
            (sum(rows.lengths), self.explainer.n_rows_),
            self._dtype(rows),
            lambda: self.explainer._fingerprint(target, name_queries(X, y), None),
        )

    def relative_influence(self, X, y=None, *, norm="loss", out=None):
        """Influences divided by the size of a row's change of the model: a dask array."""
        check_no_out(out)
        return divided(self._matrix("transform", X, y), self.explainer.row_norms(norm=norm))

    def group_influence(self, groups, X, y=None, *, method=None):
        """Influence of groups of rows, removed jointly: a dask array."""
        groups = self.explainer._check_groups(groups)
        options = {"groups": groups, "method": method}
        return self._matrix("group_influence", X, y, width=len(groups), **options)

    def top_influences(self, X, y=None, *, k=10, by="magnitude", relative=None):
        """The training rows that matter most for each query."""
        import dask

        check_top(k, by, self.explainer.n_rows_)
        options = {"k": k, "by": by, "relative": relative}
        pieces = self._each("top_influences", self._rows(X, y), **options)
        tops = dask.compute(*pieces)
        return TopInfluences(
            indices=np.concatenate([top.indices for top in tops]),
            values=np.concatenate([top.values for top in tops]),
        )

    def dataset_influence(self, X, y=None, *, sample_weight=None):
        """Influence of each row on the mean target: a dask array."""
        import dask
        import dask.array as da

        rows, kept = self._rows(X, y, sample_weight), self._kept()
        work, n_rows = dask.delayed(tasks.dataset_influence), self.explainer.n_rows_

        def mean(part):
            return da.from_delayed(work(kept, part), (n_rows,), np.float64)

        return weighted_mean(mean, rows.parts, rows.lengths, sample_weight)

    def _matrix(self, name, X, y, width=None, **options):
        import dask.array as da

        rows = self._rows(X, y)
        width = self.explainer.n_rows_ if width is None else width
        pieces = zip(self._each(name, rows, **options), rows.lengths, strict=True)
        dtype = np.float64 if name == "group_influence" else self._dtype(rows)
        return da.concatenate(
            [da.from_delayed(piece, (length, width), dtype) for piece, length in pieces]
        )

    def _each(self, name, rows, **options):
        """The method for each partition of the queries, delayed."""
        import dask

        work, kept = dask.delayed(_call), self._kept()
        options = dask.delayed(options, traverse=False)
        return [work(kept, name, part, options) for part in rows.parts]

    def _kept(self):
        import dask

        return dask.delayed(self.explainer, traverse=False)

    def _rows(self, X, y, sample_weight=None):
        if resolve_target(self.explainer.target, y is not None).scalar:
            raise ValueError("a scalar target needs its queries in memory: compute them")
        return Partitions(X, y, sample_weight)

    def _dtype(self, rows):
        return self.explainer._check_queries(rows.head, None)[0].dtype


def _call(explainer, name, part, options):
    X, y, _ = part
    values = getattr(explainer, name)(X=X, y=None if y is None else np.asarray(y), **options)
    return values if name == "top_influences" else np.asarray(values)


def check_no_out(out):
    """Refuse ``out=`` where a dask array comes back."""
    if out is not None:
        raise ValueError("out= is for rows in memory: write the dask array that comes back")


def divided(matrix, sizes):
    """Columns divided by the sizes of their rows, zero where a row moves nothing."""
    import dask.array as da

    positive = sizes > 0
    out = da.where(positive, matrix / da.where(positive, sizes, 1.0), 0.0)
    return out.astype(matrix.dtype)  # of the queries, as in memory


def weighted_mean(mean, parts, lengths, sample_weight):
    """Mean over all queries from ``mean(part)``, that over each part."""
    import dask

    if sample_weight is not None and len(parts) > 1:
        lengths = dask.compute(*[dask.delayed(tasks.total_weight)(part) for part in parts])
        if not any(lengths):
            raise ValueError("every sample_weight is zero: the mean is not defined")
    shares = [
        (length / sum(lengths)) * mean(part)
        for part, length in zip(parts, lengths, strict=True)
        if length
    ]
    return sum(shares[1:], shares[0])


def name_queries(X, y):
    """A name of queries; of those in dask collections that of their graph."""
    if not is_dask(X):
        return joblib.hash(X), y
    from dask.base import tokenize

    return tokenize(X, y)


def write(matrix, X, y, out, shape, dtype, fingerprint):
    """Write ``matrix(X, y)``, a dask array of ``shape``, to ``out`` in blocks of queries."""
    sink = open_sink(out, shape, dtype, fingerprint)
    parts = list(sink.parts(block_length(8 * shape[1], share=1 / 4)))
    whole = None
    if is_dask(X) and parts:
        if not hasattr(X, "divisions"):
            lengths = [part.stop - part.start for part in parts]
            first = parts[0].start
            X = X.rechunk(((first, *lengths) if first else tuple(lengths), -1))
        whole = matrix(X, y)
    for part in parts:
        block = sink.block(part)
        if whole is None and shape[0] > 1:
            some = _safe_indexing(X, part), None if y is None else _safe_indexing(y, part)
            block[:] = matrix(*some).compute()
        else:
            block[:] = (matrix(X, y) if whole is None else whole[part]).compute()
        sink.done(part, block)
    return sink.result()
