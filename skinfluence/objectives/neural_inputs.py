"""Derivatives of a net's optimum in its training rows. Imported only when a net comes in."""

import numpy as np
import torch

from .._blocks import blocks
from ..methods.inputs import feature_derivatives
from .neural import NeuralObjective

QUERIES = 16  # under one vmap


@feature_derivatives.register(NeuralObjective)
def _(objective, solved, rows):
    x, y = objective.source.batch(rows)
    if not isinstance(x, torch.Tensor) or not x.dtype.is_floating_point:
        raise TypeError("the derivative in a training row needs one floating-point input")
    weights = objective.to_torch(objective.weights[rows])
    directions = objective.to_torch(solved)

    def along(inputs, direction):
        """``s' Σ w_i ∇ℓ_i``: each row's own part is its input's alone."""

        def total(flat):
            return weights @ objective.loss.value(objective.outputs_at(flat, inputs), y)

        # by two backward passes: forward mode loses what modules change in place
        return torch.func.grad(total)(objective.flat) @ direction

    out = []
    for part in blocks(len(directions), QUERIES):
        slopes = torch.func.vmap(torch.func.grad(along), in_dims=(None, 0))(x, directions[part])
        out.append(-objective.to_numpy(slopes))
    return np.concatenate(out)
