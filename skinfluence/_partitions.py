"""Dask collections of rows, targets and weights, cut alike."""

import numpy as np


def is_dask(X):
    """Whether ``X`` is a dask collection, without importing dask."""
    return type(X).__module__.split(".")[0] in ("dask", "dask_expr")


def refuse_dask(X, what):
    """Refuse a dask collection where all rows are needed at once."""
    if is_dask(X):
        raise TypeError(f"{what} needs all rows at once, and X is a dask collection: compute it")


class Partitions:
    """Rows, targets and weights cut into the same partitions.

    Attributes
    ----------
    parts : list of (delayed, delayed, delayed or None)
    lengths : list of int
    head : array or dataframe
        The first row, for names and number of columns.
    """

    def __init__(self, X, y=None, sample_weight=None):
        import dask

        # pieces of persisted collections name what workers hold, but do not hold it themselves
        self._held = X, y, sample_weight
        if hasattr(X, "npartitions") and hasattr(X, "divisions"):  # a dataframe
            lengths = dask.compute(*[dask.delayed(len)(part) for part in X.to_delayed()])
            self.head = X.head(1, npartitions=-1)
            pieces = list(X.to_delayed())
        else:
            if X.ndim != 2:
                raise ValueError(f"X has {X.ndim} dimensions; rows by columns are needed")
            X = X.rechunk({1: -1})
            if np.isnan(X.shape[0]):
                X = X.compute_chunk_sizes()
            lengths = X.chunks[0]
            pieces = X.to_delayed().ravel().tolist()
            self.head = X[:1].compute()
        lengths = [int(length) for length in lengths]
        columns = [cut(part, lengths, name) for part, name in ((y, "y"), (sample_weight, "w"))]
        rows = zip(pieces, *columns, lengths, strict=True)
        kept = [(parts, length) for *parts, length in rows if length]
        if not kept:
            raise ValueError("found 0 rows in the dask collection; at least 1 is needed")
        self.parts = [tuple(parts) for parts, _ in kept]
        self.lengths = [length for _, length in kept]

    def __len__(self):
        return sum(self.lengths)


def cut(column, lengths, name):
    """A column as delayed pieces of the given lengths."""
    import dask.array as da

    if column is None:
        return [None] * len(lengths)
    if hasattr(column, "divisions"):
        column = _series_values(column)
    if not is_dask(column):
        column = da.from_array(np.asarray(column), chunks=-1)
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if np.isnan(column.shape[0]):
        column = column.compute_chunk_sizes()
    if column.shape[0] != sum(lengths):
        raise ValueError(f"{name} has {column.shape[0]} rows and X has {sum(lengths)}")
    whole = [-1] * (column.ndim - 1)
    nonempty = tuple(length for length in lengths if length)
    pieces = iter(column.rechunk((nonempty, *whole)).to_delayed().ravel().tolist())
    return [next(pieces) if length else None for length in lengths]


def _series_values(column):
    """A series or one-column frame as a dask array; dask itself warns of string columns."""
    import dask
    import dask.array as da

    pieces = [dask.delayed(np.asarray)(part) for part in column.to_delayed()]
    lengths = dask.compute(*[dask.delayed(len)(piece) for piece in pieces])
    example = np.asarray(column.head(1, npartitions=-1))
    return da.concatenate(
        [
            da.from_delayed(piece, (length, *example.shape[1:]), example.dtype)
            for piece, length in zip(pieces, lengths, strict=True)
        ]
    )
