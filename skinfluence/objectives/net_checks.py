"""Nets that cannot be read as a sum of losses over rows are refused here, by name.

Imported only when a net comes in.
"""

import warnings
from collections.abc import Mapping

import torch


def check_fitted(net):
    """Refuse what was not trained by skorch alone, or lost what tells how."""
    if not getattr(net, "initialized_", False):
        raise ValueError("the net is not fitted: call fit, or initialize and load_params, first")
    needed = ("module_", "criterion_", "optimizer_")
    missing = [name for name in needed if getattr(net, name, None) is None]
    if missing:
        raise ValueError(
            f"the net has no {', '.join(missing)} (trim_for_prediction removes them): explain the "
            "net before trimming it, its loss and weight decay are needed"
        )
    others = sorted(set(net._modules) - {"module"})
    if others:
        raise ValueError(f"the net has modules besides module_: {others}; only one is supported")
    if any(True for _ in net.criterion_.parameters()):
        raise ValueError("the criterion has trainable parameters; move them into the module")


def check_independent(source, x, Z):
    """Refuse modules whose outputs of a row depend on the other rows of the batch."""
    if len(Z) < 2:
        return
    half = _take(x, slice(0, len(Z) // 2))
    alone = source.outputs(source.state, half)
    tolerance = 1e-3 if Z.dtype == torch.float32 else 1e-6
    if not torch.allclose(alone, Z[: len(alone)], rtol=tolerance, atol=tolerance):
        raise ValueError(
            "the module's output of a row depends on the other rows of its batch, so losses are "
            "not a sum over rows"
        )


def check_shapes(get_loss, raw, y, x):
    """Refuse targets that the loss broadcasts against a column of outputs."""
    column = y.dtype.is_floating_point and y.ndim == 1 and raw.ndim == 2 and raw.shape[1] == 1
    if not column or len(raw) < 2:
        return
    with warnings.catch_warnings():  # torch's own, of what is refused here
        warnings.simplefilter("ignore", UserWarning)
        values = get_loss(raw, y, X=x, training=False)
    if values.ndim == 2:  # a get_loss of one's own may know better
        raise ValueError(
            f"y has shape {tuple(y.shape)} but the module's outputs {tuple(raw.shape)}: the loss "
            "broadcasts them to a square. Pass y.reshape(-1, 1), or squeeze the output"
        )


def _take(x, rows):
    if isinstance(x, Mapping):
        return {name: _take(part, rows) for name, part in x.items()}
    return [_take(part, rows) for part in x] if isinstance(x, list | tuple) else x[rows]
