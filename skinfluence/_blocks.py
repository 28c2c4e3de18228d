"""Block sizes from a memory budget, and threads held to the machine's cores."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import joblib
from threadpoolctl import ThreadpoolController

from ._config import get_config


def working_bytes():
    """Bytes that one step may use for temporary blocks (the option ``working_memory``)."""
    return int(get_config()["working_memory"] * 2**20)


def block_length(bytes_per_row, batch_size=None, *, share=1.0, smallest=1):
    """Rows in a block, so that a block stays within its share of the working memory."""
    if batch_size is not None:
        return int(batch_size)
    return max(smallest, int(working_bytes() * share / max(1, bytes_per_row)))


def blocks(n, length):
    """Slices of at most ``length`` rows that cover ``range(n)``."""
    for start in range(0, n, length):
        yield slice(start, min(start + length, n))


def index_blocks(rows, length):
    """Consecutive pieces of an index array."""
    for part in blocks(len(rows), length):
        yield rows[part]


@cache
def _controller():
    return ThreadpoolController()


_alone = ContextVar("alone", default=False)


@contextmanager
def calling_thread():
    """No further threads inside: the caller is one of several that share the cores."""
    token = _alone.set(True)
    try:
        with one_blas_thread():
            yield
    finally:
        _alone.reset(token)


@cache  # asking the system takes longer than a small block
def n_threads():
    """Cores this process may use."""
    return joblib.cpu_count()


def one_blas_thread():
    """A context in which BLAS stays on the calling thread."""
    return _controller().limit(limits=1, user_api="blas")


def map_threads(function, items):
    """Apply ``function`` to every item, one thread a core, BLAS held to one thread inside.

    Element-wise numpy work releases the interpreter lock, so blocks run side by side; BLAS
    is limited to one thread meanwhile, which keeps the total at the number of cores.
    """
    items = list(items)
    workers = 1 if _alone.get() else min(n_threads(), len(items))
    if workers <= 1:
        return [function(item) for item in items]
    with (
        one_blas_thread(),
        ThreadPoolExecutor(workers) as pool,
    ):
        return list(pool.map(function, items))
