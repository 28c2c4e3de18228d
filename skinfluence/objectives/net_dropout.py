"""Units of a fitted net left out, the same ones for every row. Imported with nets only."""

import torch
from torch import nn

DROPOUTS = nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d
WEIGHTED = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


class Mask:
    """Scales units by 0 or ``1 / (1 - p)``; drawn when the first rows come through.

    Parameters
    ----------
    p : float
        Share of units left out.
    seed : int
    channels : bool
        Leave out whole channels, the first axis of a row.
    """

    def __init__(self, p, seed, channels):
        self.p, self.seed, self.channels = p, seed, channels
        self.values = None

    def __call__(self, x):
        """``x`` of shape (b, ...), every row by the same mask."""
        shape = x.shape[1:2] + (1,) * (x.ndim - 2) if self.channels else x.shape[1:]
        if self.values is None:
            draw = torch.Generator().manual_seed(self.seed)
            kept = torch.rand(shape, generator=draw, dtype=torch.float64) >= self.p
            self.values = kept / (1 - self.p)
        if self.values.shape != shape:
            raise ValueError(
                "rows reach a layer in shapes of different lengths, so no mask holds for all of "
                "them; use perturbation='noise'"
            )
        return x * self.values.to(x)

    def before(self, module, inputs):
        """As a forward pre-hook."""
        if not inputs:
            raise ValueError(
                f"{type(module).__name__} is called with keywords only, so that no mask can be put "
                "before it; use perturbation='noise'"
            )
        return (self(inputs[0]), *inputs[1:])

    def after(self, module, inputs, output):
        """As a forward hook."""
        return self(output)


def leave_out(module, p, rng):
    """Hook masks into a module: where it has dropout, else before every layer but the first."""
    layers = [part for part in module.modules() if isinstance(part, DROPOUTS)]
    if layers:
        for layer in layers:
            mask = Mask(p, _seed(rng), not isinstance(layer, nn.Dropout))
            layer.register_forward_hook(mask.after)
        return
    layers = [part for part in module.modules() if isinstance(part, WEIGHTED)][1:]
    if not layers:
        raise ValueError(
            "perturbation='dropout' leaves out units between layers, and this net has one layer; "
            "use perturbation='noise'"
        )
    for layer in layers:
        mask = Mask(p, _seed(rng), not isinstance(layer, nn.Linear))
        layer.register_forward_pre_hook(mask.before)


def _seed(rng):
    return int(rng.randint(2**31 - 1))
