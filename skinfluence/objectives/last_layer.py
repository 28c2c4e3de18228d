"""The last layer of a net as a convex model on the features before it.

With the rest of the net held fixed, a final linear layer under cross-entropy, logistic or squared
loss is a logistic regression or a ridge on what enters it: every method for linear predictors
applies. Imported only when a net comes in.
"""

import numpy as np
import torch

from .design import Design
from .linear import LinearObjective
from .linear_rows import LinearQueries
from .losses import LogisticLoss, MultinomialLoss, SquaredLoss
from .net_layers import Recorder, find_layers
from .net_losses import LogisticLoss as TorchLogisticLoss
from .net_losses import SoftmaxLoss
from .net_losses import SquaredLoss as TorchSquaredLoss

BLOCK = 1024


class LastLayerObjective(LinearObjective):
    """The head of a net, polished to its own optimum on the features.

    Parameters
    ----------
    source : object
        A net and its rows, e.g. :class:`~skinfluence.objectives.net_sources.SkorchSource`.
    """

    def __init__(self, source):
        self.source = source
        self.layer, self._names = _last_linear(source)
        if any(name in getattr(source, "centers", {}) for name in self._names.values()):
            raise ValueError(
                "the last layer is held near pretrained values, which objective='last_layer' does "
                "not know; use objective='auto'"
            )
        features, logits = self._pass(source.X)
        self._check_head(logits)
        module = self.layer.module
        theta = module.weight.detach().double().cpu().numpy()
        penalty = np.full(theta.shape, source.penalties[self._names["weight"]])
        intercept = None
        if module.bias is not None:
            intercept = 1.0
            theta = np.column_stack([theta, module.bias.detach().double().cpu().numpy()])
            extra = np.full((len(theta), 1), source.penalties[self._names["bias"]])
            penalty = np.concatenate([penalty, extra], axis=1)
        loss, scale = _convex_loss(source.loss)
        y = source.head.encode(source.y)
        design = Design(features, intercept)
        weights = scale * source.weights
        super().__init__(design, loss, y, weights, penalty, theta, source.head, rule=source.rule)

    def queries(self, X):
        """Features of the query rows."""
        return LinearQueries(self, Design(self._pass(X)[0], self.design.intercept))

    def input_gradient(self, X, C):
        """Refused: the rest of the net lies between."""
        raise TypeError("the gradient in a net's input is known for objective='net' alone")

    @property
    def parameter_names(self):
        """``layer.weight[k, j]`` and ``layer.bias[k]``, output by output."""
        weight, bias = self._names["weight"], self._names.get("bias")
        out = []
        for k in range(self.n_outputs):
            out += [f"{weight}[{k}, {j}]" for j in range(self.layer.d_in)]
            out += [] if bias is None else [f"{bias}[{k}]"]
        return out

    def read_parameters(self, estimator):
        """The layer's parameters in another fitted net (its features may differ)."""
        parts = [self.source.read([self._names["weight"]], estimator)]
        coef = parts[0].reshape(self.n_outputs, -1)
        if "bias" in self._names:
            coef = np.column_stack([coef, self.source.read([self._names["bias"]], estimator)])
        return coef.ravel()

    def _pass(self, X):
        """``(features, outputs of the layer)`` in float64."""
        features, logits = [], []
        for start in range(0, X.shape[0], BLOCK):
            x = self.source.inputs(X[start : start + BLOCK])
            with torch.no_grad(), Recorder([self.layer]) as seen:
                Z = self.source.outputs(self.source.state, x)
            if len(seen.passes) != 1 or seen.passes[0][1].ndim != 2:
                raise ValueError(
                    f"the last linear layer {self.layer.name!r} is not applied once to one vector "
                    "a row; use objective='auto'"
                )
            _, a, out = seen.passes[0]
            features.append(a.double().cpu().numpy())
            logits.append(
                torch.stack([out.double(), Z.double()]).cpu().numpy()
                if out.shape == Z.shape
                else None
            )
        if any(part is None for part in logits):
            raise ValueError(_not_last(self.layer.name))
        return np.concatenate(features), np.concatenate(logits, axis=1)

    def _check_head(self, logits):
        """The outputs are those of the layer, up to a shift that softmax does not see."""
        gap = logits[1] - logits[0]
        if isinstance(self.source.loss, SoftmaxLoss):
            gap = gap - gap.mean(axis=1, keepdims=True)
        tolerance = 1e-3 if self.source.dtype == torch.float32 else 1e-8
        if np.abs(gap).max() > tolerance * max(1.0, np.abs(logits).max()):
            raise ValueError(_not_last(self.layer.name))


def _not_last(name):
    return (
        f"something besides a softmax follows the last linear layer {name!r}, so the head is no "
        "linear model on its features; use objective='auto'"
    )


def _last_linear(source):
    """The last linear layer of the forward pass, and the names of its parameters."""
    names = {id(p): name for name, p in source.module.named_parameters()}
    everything = {name: slice(0, p.numel()) for name, p in source.module.named_parameters()}
    layers, _ = find_layers(source.module, everything)
    layers = [layer for layer in layers if isinstance(layer.module, torch.nn.Linear)]
    x, _ = source.batch(source.trained[:1])
    with torch.no_grad(), Recorder(layers) as seen:
        source.outputs(source.state, x)
    if not seen.passes:
        raise ValueError("the module has no linear layer of its own; use objective='auto'")
    layer = seen.passes[-1][0]
    own = {key: names[id(p)] for key, p in layer.module.named_parameters()}
    frozen = [name for name in own.values() if name not in source.penalties]
    if frozen:
        raise ValueError(f"the last layer's parameters {frozen} were not trained")
    return layer, own


def _convex_loss(loss):
    if isinstance(loss, SoftmaxLoss):
        return MultinomialLoss(), 1.0
    if isinstance(loss, TorchLogisticLoss):
        return LogisticLoss(), 1.0
    if isinstance(loss, TorchSquaredLoss):
        return SquaredLoss(), loss.scale
    raise ValueError(
        "objective='last_layer' needs cross-entropy, logistic or squared loss; use objective='auto'"
    )
