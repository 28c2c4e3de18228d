"""Options of the package: how much memory one step may use."""

import threading
from contextlib import contextmanager
from numbers import Real

import sklearn

_shared = {"working_memory": None}
_local = threading.local()


def get_config():
    """The options in force.

    Returns
    -------
    dict
        ``working_memory``: MiB that one step may use for temporary blocks; scikit-learn's own
        option of that name unless :func:`set_config` gave another.

    Examples
    --------
    >>> import skinfluence
    >>> skinfluence.get_config()
    {'working_memory': 1024}
    """
    options = getattr(_local, "options", _shared)
    if options["working_memory"] is None:
        return {"working_memory": sklearn.get_config()["working_memory"]}
    return dict(options)


def set_config(*, working_memory=None):
    """Set the options for all threads that have not entered a :func:`config_context`.

    Parameters
    ----------
    working_memory : float, optional
        MiB that one step may use for temporary blocks. Blocks of rows and queries are sized to
        it; what has to be held whole (the training rows, a factor, a result) comes on top. None
        goes back to scikit-learn's option.

    Raises
    ------
    ValueError
        If it is not a positive number.

    Examples
    --------
    >>> import skinfluence
    >>> skinfluence.set_config(working_memory=256)
    >>> skinfluence.get_config()["working_memory"]
    256
    >>> skinfluence.set_config()
    """
    _shared["working_memory"] = _checked(working_memory)


@contextmanager
def config_context(*, working_memory=None):
    """Options inside a ``with`` block, on this thread.

    Parameters
    ----------
    working_memory : float, optional
        As for :func:`set_config`.

    Yields
    ------
    None

    Examples
    --------
    >>> import skinfluence
    >>> with skinfluence.config_context(working_memory=64):
    ...     skinfluence.get_config()["working_memory"]
    64
    """
    before = getattr(_local, "options", None)
    _local.options = {"working_memory": _checked(working_memory)}
    try:
        yield
    finally:
        if before is None:
            del _local.options
        else:
            _local.options = before


def _checked(working_memory):
    if working_memory is None:
        return None
    if not isinstance(working_memory, Real) or not 0 < working_memory < float("inf"):
        raise ValueError(f"working_memory={working_memory!r} must be a positive number of MiB")
    return working_memory
