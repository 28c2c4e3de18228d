"""Which head and torch loss belong to a net: recognised by comparing numbers, not names."""

import numpy as np
import torch

from .heads import BinaryHead, RegressionHead, SoftmaxHead
from .losses import LogisticLoss
from .losses import Loss as OutputLoss
from .net_losses import CustomLoss, SoftmaxLoss, SquaredLoss
from .net_losses import LogisticLoss as TorchLogisticLoss


class ScaledSquaredLoss(OutputLoss):
    """``scale · ‖z - y‖²`` in numpy."""

    def __init__(self, scale):
        self.scale = scale

    def value(self, Z, y):
        """Losses."""
        return self.scale * (self._error(Z, y) ** 2).sum(axis=-1)

    def gradient(self, Z, y):
        """``2 scale (z - y)``."""
        return 2 * self.scale * self._error(Z, y)

    def curvature(self, Z, y):
        """``2 scale``."""
        return np.full(Z.shape[:-1], 2.0 * self.scale)

    def change(self, Z, dZ, y):
        """Without cancellation."""
        return (dZ * (self.gradient(Z, y) + self.scale * dZ)).sum(axis=-1)

    def _error(self, Z, y):
        y = np.asarray(y)
        return Z - (y[..., None] if Z.shape[-1] == 1 else y)


class TorchOutputLoss(OutputLoss):
    """A net's own loss as numpy heads want it.

    Parameters
    ----------
    loss : CustomLoss
    to_torch : callable
        From (Z, y) in numpy to torch.
    """

    def __init__(self, loss, to_torch):
        self.loss, self.to_torch = loss, to_torch

    def value(self, Z, y):
        """Losses, whatever the leading axes."""
        flat, targets = self._flat(Z, y)
        with torch.no_grad():
            values = self.loss.value(*self.to_torch(flat, targets))
        return values.double().cpu().numpy().reshape(Z.shape[:-1])

    def gradient(self, Z, y):
        """Derivatives."""
        flat, targets = self._flat(Z, y)
        return self.loss.gradient(*self.to_torch(flat, targets)).double().cpu().numpy()

    def _flat(self, Z, y):
        y = np.asarray(y)
        lead = Z.shape[:-1]
        y = np.broadcast_to(y, lead + y.shape[len(lead) :])
        return Z.reshape(-1, Z.shape[-1]), y.reshape(-1, *y.shape[len(lead) :])


class CustomRegressionHead(RegressionHead):
    """A net of any loss on numeric targets, which keep their shape."""

    def encode(self, y):
        """Targets as given."""
        y = np.asarray(y)
        if y.dtype.kind == "f" and not np.isfinite(y).all():
            raise ValueError("y contains NaN or infinity; drop or impute those rows")
        return y


class CustomClassifierHead(SoftmaxHead):
    """Class scores under another loss than plain cross-entropy."""

    def __init__(self, classes, loss, softmax):
        super().__init__(classes)
        self.loss_function, self.softmax = loss, softmax

    def proba(self, Z):
        """Softmax, where the criterion says that the outputs are logits."""
        if not self.softmax:
            raise ValueError(self._no_probability())
        return super().proba(Z)

    def proba_gradient(self, Z, index):
        """Derivative of the softmax."""
        if not self.softmax:
            raise ValueError(self._no_probability())
        return super().proba_gradient(Z, index)


def recognise(Z, y, losses, custom, to_torch, criterion):
    """``(loss, head)`` for outputs ``Z`` (b, K) of probe rows with these targets and losses.

    Parameters
    ----------
    Z, y : torch.Tensor
    losses : torch.Tensor of shape (b,)
        What the net's own ``get_loss`` gives, class weights taken out.
    custom : callable
        The net's own losses as a function of (Z, y).
    to_torch : callable
        As for :class:`TorchOutputLoss`.
    criterion : torch.nn.Module
    """
    K, whole = Z.shape[1], not y.dtype.is_floating_point
    if whole and y.ndim == 1 and K >= 2:
        classes = np.arange(K)
        if _agrees(SoftmaxLoss(), Z, y, losses):
            return SoftmaxLoss(), SoftmaxHead(classes)
        loss = CustomLoss(custom)
        softmax = isinstance(criterion, torch.nn.CrossEntropyLoss)
        return loss, CustomClassifierHead(classes, TorchOutputLoss(loss, to_torch), softmax)
    if K == 1 and y.numel() == len(Z) and bool(((y == 0) | (y == 1)).all()):
        if _agrees(TorchLogisticLoss(), Z, y, losses):
            return TorchLogisticLoss(), BinaryHead(np.arange(2), LogisticLoss())
    if y.numel() == Z.numel():
        for scale in (1.0, 1.0 / K, 0.5):
            loss = SquaredLoss(scale)
            if _agrees(loss, Z, y.to(Z.dtype), losses):
                return loss, RegressionHead(ScaledSquaredLoss(scale), K)
    loss = CustomLoss(custom)
    return loss, CustomRegressionHead(TorchOutputLoss(loss, to_torch), K)


def known_losses(Z, y):
    """Losses that outputs and targets of these shapes may have."""
    K = Z.shape[1]
    if not y.dtype.is_floating_point and y.ndim == 1 and K >= 2:
        return [SoftmaxLoss()]
    binary = K == 1 and bool(((y == 0) | (y == 1)).all())
    return [TorchLogisticLoss()] * binary + [SquaredLoss(1.0 / K)] * (y.numel() == Z.numel())


def _agrees(loss, Z, y, losses):
    if isinstance(loss, SoftmaxLoss) and (y.min() < 0 or y.max() >= Z.shape[1]):
        return False
    tolerance = 1e-4 if Z.dtype == torch.float32 else 1e-8
    value = loss.value(Z, y)
    return bool(torch.allclose(value, losses.to(value.dtype), rtol=tolerance, atol=tolerance))
