"""torch tensors where arrays are expected: rows, targets, and what an estimator has fitted."""

from sklearn.frozen import FrozenEstimator
from sklearn.utils._array_api import _estimator_with_converted_arrays


def on_host(array):
    """A torch tensor as a numpy array, from whatever device; anything else as it is."""
    if type(array).__module__ != "torch":
        return array
    return array.detach().cpu().numpy()


def frozen_on_host(frozen):
    """A FrozenEstimator whose fitted attributes are numpy arrays.

    scikit-learn's ``array_api_dispatch`` leaves them as tensors on the device of the rows.
    """
    fitted = vars(frozen.estimator).values()
    if not any(type(value).__module__ == "torch" for value in fitted):
        return frozen
    return FrozenEstimator(_estimator_with_converted_arrays(frozen.estimator, on_host))
