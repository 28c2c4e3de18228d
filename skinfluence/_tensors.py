"""torch tensors where arrays are expected: rows, targets, and what an estimator has fitted."""

import sys
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from sklearn import get_config
from sklearn.frozen import FrozenEstimator
from sklearn.utils._array_api import _estimator_with_converted_arrays

# The training rows as an array on the host and as the tensor they came in.
_rows = ContextVar("rows", default=None)


def is_tensor(value):
    """Whether a value is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def on_host(array):
    """A torch tensor as a numpy array, from whatever device; anything else as it is."""
    if not is_tensor(array):
        return array
    if str(array.layout) != "torch.strided":
        raise TypeError(
            f"a tensor of layout {array.layout} is not taken: pass a dense tensor, or a scipy CSR "
            "matrix on the host"
        )
    array = array.detach().cpu()
    # numpy has no bfloat16; float32 holds each of its numbers
    return (array.float() if str(array.dtype) == "torch.bfloat16" else array).numpy()


@contextmanager
def rows_as_tensor(array, tensor):
    """Designs of ``array`` that are made inside compute where ``tensor``, the same rows, lies."""
    token = _rows.set((array, tensor) if is_tensor(tensor) else None)
    try:
        yield
    finally:
        _rows.reset(token)


def tensor_of(array):
    """The tensor that the rows ``array`` came in, or None if there is none to compute with.

    In the dtype of ``array``. Devices without float64 (Apple's) get no work: sums over rows and
    factors need it.
    """
    held = _rows.get()
    if held is None or held[0] is not array or held[1].device.type == "mps":
        return None
    import torch

    return held[1].detach().to(torch.as_tensor(np.empty(0, array.dtype)).dtype)


def output_device(X):
    """Device of a result for queries ``X``: theirs under ``array_api_dispatch``, else None."""
    return X.device if is_tensor(X) and get_config()["array_api_dispatch"] else None


def empty_tensor(shape, dtype, device):
    """A tensor to be filled, of a numpy dtype."""
    import torch

    return torch.empty(shape, dtype=torch.as_tensor(np.empty(0, dtype)).dtype, device=device)


def as_output(values, device):
    """An array as it is, or as a tensor on a device."""
    if device is None or is_tensor(values):
        return values
    import torch

    return torch.as_tensor(values, device=device)


def frozen_on_host(frozen):
    """A FrozenEstimator whose fitted attributes are numpy arrays.

    scikit-learn's ``array_api_dispatch`` leaves them as tensors on the device of the rows.
    """
    if not any(is_tensor(value) for value in vars(frozen.estimator).values()):
        return frozen
    return FrozenEstimator(_estimator_with_converted_arrays(frozen.estimator, on_host))
