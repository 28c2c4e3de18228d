"""Where a matrix of influences is written: memory, a given array, or a store on disk."""

import math
import os
from pathlib import Path

import numpy as np
from sklearn.utils._set_output import _get_output_config

from ._blocks import block_length, blocks
from ._memory import check_memory
from ._tensors import is_tensor

# Entries of one chunk of a store made here.
CHUNK = 2**21


# What needs less memory than a matrix of queries by training rows.
OF_QUERIES = (
    "Use top_influences or dataset_influence, which hold no such array, fewer queries at a time, "
    "or out= with a memmap or the path of a zarr store"
)


def open_sink(out, shape, dtype, fingerprint, what="queries by training rows", instead=OF_QUERIES):
    """Where to write a matrix of ``shape``, a block of its rows at a time.

    Parameters
    ----------
    out : None, array with ``__setitem__``, or path ending in ``.zarr``
    shape : tuple of int
    dtype : numpy dtype
        Of an array or a store that is made here.
    fingerprint : callable
        Names the numbers that will be written; asked only for a store on disk.
    what : str
        What rows and columns are, for messages: "queries by training rows".
    instead : str
        The call that needs less memory.
    """
    if out is None:
        return ArraySink(empty(shape, dtype, what, instead))
    if isinstance(out, str | os.PathLike):
        return StoreSink(Path(out), shape, np.dtype(dtype), fingerprint())
    for attribute in ("shape", "dtype", "__setitem__"):
        if not hasattr(out, attribute):
            raise TypeError(
                f"out is a {type(out).__name__} without {attribute}: pass an array, a memmap, a "
                "zarr array, or a path that ends in '.zarr'"
            )
    if tuple(out.shape) != tuple(shape):
        raise ValueError(f"out has shape {tuple(out.shape)}; the influences have shape {shape}")
    if is_tensor(out):
        if not out.is_floating_point() or out.requires_grad:
            raise ValueError(f"out is a tensor of {out.dtype}: it must be floating, without grad")
        return ArraySink(out)
    if np.dtype(out.dtype).kind != "f":
        raise ValueError(f"out has dtype {out.dtype}; influences are floating-point numbers")
    if not isinstance(out, np.ndarray):
        return ChunkSink(out)
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    return ArraySink(out)


def check_plain(explainer, out):
    """Whether ``transform`` gives plain arrays, which ``out`` needs."""
    plain = _get_output_config("transform", explainer)["dense"] == "default"
    if out is not None and not plain:
        raise ValueError("out= takes plain arrays: use set_output(transform='default')")
    return plain


def empty(shape, dtype, what, instead):
    """An array to fill, refused where the machine has not the memory for it.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy dtype
    what : str
        What its axes are, joined by " by ".
    instead : str
        The call that needs less memory.
    """
    axes = " by ".join(f"{size} {of}" for size, of in zip(shape, what.split(" by "), strict=True))
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    check_memory(n_bytes, f"an array of {axes}", instead)
    return np.empty(shape, dtype)


class ArraySink:
    """An array in memory or a memmap: blocks of rows are computed in place."""

    def __init__(self, out):
        self.out = out

    def parts(self, length):
        """Slices of queries still to be done, at most ``length`` long."""
        return blocks(len(self.out), length)

    def block(self, part):
        """Where the influences of these queries go."""
        return self.out[part]

    def done(self, part, values):
        """These queries are complete."""

    def result(self):
        """All are complete."""
        return self.out


class ChunkSink:
    """An array that is not numpy's: a block of queries is written when it is complete."""

    first = 0

    def __init__(self, out):
        self.out = out

    def parts(self, length):
        """Slices of queries still to be done, ending with a chunk."""
        chunk = (getattr(self.out, "chunks", None) or (1,))[0]
        room = block_length(8 * self.out.shape[1], share=1 / 4)
        aligned = max(1, min(length, room) // chunk) * chunk
        for part in blocks(self.out.shape[0] - self.first, aligned):
            yield slice(self.first + part.start, self.first + part.stop)

    def block(self, part):
        """A buffer."""
        return np.empty((part.stop - part.start, self.out.shape[1]), self.out.dtype)

    def done(self, part, values):
        """Write the buffer."""
        self.out[part] = values

    def result(self):
        """The array."""
        return self.out


class StoreSink(ChunkSink):
    """A zarr store that is named ``PATH.part`` until it is whole, and can be gone on with.

    Queries that are complete are counted in the store; a second call with the same fingerprint
    starts after them.
    """

    def __init__(self, path, shape, dtype, fingerprint):
        import zarr

        if path.suffix != ".zarr":
            raise ValueError(f"out={str(path)!r} must end in '.zarr'")
        self.path, self.partial = path, path.with_name(path.name + ".part")
        self.whole = path.exists()
        if not self.whole and not self.partial.exists():
            columns = min(shape[1], CHUNK)
            self.out = zarr.create_array(
                self.partial,
                shape=shape,
                dtype=dtype,
                chunks=(min(shape[0], max(1, CHUNK // columns)), columns),
                attributes={"fingerprint": fingerprint, "queries_done": 0},
            )
            return
        found = path if self.whole else self.partial
        self.out = zarr.open_array(found, mode="r+")
        if self.out.attrs.get("fingerprint") != fingerprint:
            raise ValueError(
                f"{found} holds influences of another fit, method or set of queries: remove it "
                "or choose another path"
            )
        self.first = self.out.attrs["queries_done"]

    def done(self, part, values):
        """Write the buffer, then count it."""
        super().done(part, values)
        self.out.attrs["queries_done"] = part.stop

    def result(self):
        """The store under its own name, open for reading."""
        import zarr

        if not self.whole:
            os.rename(self.partial, self.path)
        return zarr.open_array(self.path, mode="r")
