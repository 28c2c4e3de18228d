"""A skorch callback that keeps what TracIn needs. Importing this imports torch and skorch."""

import json
import numbers
from dataclasses import asdict, dataclass, field
from pathlib import Path

from skorch.callbacks import Callback
from skorch.dataset import get_len

__all__ = ["Checkpoint", "TracInCheckpoint", "load_checkpoints"]

# Optimizers whose step is the learning rate times the gradient, or a sum of past ones.
GRADIENT_STEPS = {"SGD"}
INDEX = "checkpoints.json"


@dataclass
class Checkpoint:
    """Parameters at the end of an epoch, and the steps from there to the next checkpoint.

    Parameters
    ----------
    epoch : int
        Epochs done; 0 is before training.
    rates : dict
        Sum of the learning rates over those steps, by name of the parameter.
    row_rates : dict
        Sum of the learning rates times the share of the rows in the step's batch, times the
        number of rows.
    optimizer : str
    momentum_factor : float
        How much longer momentum makes a step in the long run.
    state : dict or None
        Parameters and buffers by name; None when they are on disk.
    path : str or None
        The file that has them.

    Examples
    --------
    >>> from skinfluence.callbacks import Checkpoint
    >>> Checkpoint(epoch=3, optimizer="Adam").follows_gradient
    False
    """

    epoch: int
    rates: dict = field(default_factory=dict)
    row_rates: dict = field(default_factory=dict)
    optimizer: str = "SGD"
    momentum_factor: float = 1.0
    state: dict | None = None
    path: str | None = None

    @property
    def follows_gradient(self):
        """Whether the optimizer steps along the gradient."""
        return self.optimizer in GRADIENT_STEPS

    def load(self):
        """Parameters and buffers by name.

        Returns
        -------
        dict of str to tensor
        """
        if self.state is not None:
            return self.state
        from safetensors.torch import load_file

        return load_file(self.path)


class TracInCheckpoint(Callback):
    """Keeps parameters and learning rates at chosen epochs, for ``method="tracin"``.

    Learning rates are read before every step, so that schedulers and parameter groups count.

    Parameters
    ----------
    epochs : int or list of int, default=1
        Every how many epochs to keep the parameters, epoch 0 (before training) included; or which.
    folder : str or path, optional
        Where to write them, one safetensors file each and an index; default in memory. Files of
        an earlier training there are overwritten.

    Attributes
    ----------
    checkpoints_ : list of Checkpoint

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetRegressor
    >>> from torch import nn
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.callbacks import TracInCheckpoint
    >>> X = np.linspace(-1, 1, 20, dtype=np.float32)[:, None]
    >>> net = NeuralNetRegressor(
    ...     nn.Linear(1, 1), max_epochs=4, train_split=None, verbose=0,
    ...     callbacks=[TracInCheckpoint(epochs=2)],
    ... )
    >>> explainer = InfluenceExplainer(net, method="tracin").fit(X, 2 * X)
    >>> explainer.transform(X[:3], X[:3]).shape
    (3, 20)
    """

    def __init__(self, epochs=1, folder=None):
        self.epochs = epochs
        self.folder = folder

    def initialize(self):
        """Forget an earlier training.

        Returns
        -------
        self
        """
        if isinstance(self.epochs, numbers.Integral):
            if self.epochs < 1:
                raise ValueError(f"epochs={self.epochs!r} must be positive, or a list of epochs")
        elif not all(isinstance(e, numbers.Integral) and e >= 0 for e in self.epochs):
            raise ValueError(f"epochs={self.epochs!r} must hold integers of at least 0")
        self.checkpoints_ = []
        self._early_ = Checkpoint(0)  # steps before the first checkpoint
        return self

    def on_train_begin(self, net, **kwargs):
        """Keep the start when it is chosen."""
        if not len(net.history) and self._chosen(0):
            self._keep(net, 0)

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        """Add up the learning rates of the coming step."""
        if not training:
            return
        current = self.checkpoints_[-1] if self.checkpoints_ else self._early_
        size = get_len(batch[0])
        names = {id(p): name for name, p in net.module_.named_parameters()}
        for group in net.optimizer_.param_groups:
            for p in group["params"]:
                name = names.get(id(p))
                if name is not None:
                    rate = float(group["lr"])
                    current.rates[name] = current.rates.get(name, 0.0) + rate
                    current.row_rates[name] = current.row_rates.get(name, 0.0) + rate * size

    def on_epoch_end(self, net, **kwargs):
        """Keep the parameters when the epoch is chosen."""
        epoch = len(net.history)
        if self._chosen(epoch):
            self._keep(net, epoch)

    def on_train_end(self, net, **kwargs):
        """Write the learning rates since the last checkpoint."""
        self._write_index()

    def _chosen(self, epoch):
        if isinstance(self.epochs, numbers.Integral):
            return epoch % self.epochs == 0
        return epoch in set(self.epochs)

    def _keep(self, net, epoch):
        state = {name: p.detach().cpu().clone() for name, p in net.module_.state_dict().items()}
        optimizer = net.optimizer_
        checkpoint = Checkpoint(
            epoch,
            optimizer=type(optimizer).__name__,
            momentum_factor=_momentum_factor(optimizer),
        )
        if not self.checkpoints_:
            checkpoint.rates, checkpoint.row_rates = self._early_.rates, self._early_.row_rates
        if self.folder is None:
            checkpoint.state = state
        else:
            checkpoint.path = str(_write(state, Path(self.folder), epoch))
        self.checkpoints_.append(checkpoint)
        self._write_index()

    def _write_index(self):
        if self.folder is None:
            return
        entries = []
        for checkpoint in self.checkpoints_:
            entry = asdict(checkpoint) | {"path": Path(checkpoint.path).name}
            entry.pop("state")
            entries.append(entry)
        (Path(self.folder) / INDEX).write_text(json.dumps(entries, indent=1))


def load_checkpoints(folder):
    """The checkpoints that a :class:`TracInCheckpoint` wrote to ``folder``.

    Parameters
    ----------
    folder : str or path

    Returns
    -------
    list of Checkpoint

    Raises
    ------
    ValueError
        If the folder holds none.

    Examples
    --------
    >>> from skinfluence.callbacks import load_checkpoints
    >>> load_checkpoints("nowhere")
    Traceback (most recent call last):
        ...
    ValueError: nowhere has no checkpoints.json: TracInCheckpoint(folder=...) writes it
    """
    folder = Path(folder)
    if not (folder / INDEX).is_file():
        raise ValueError(f"{folder} has no {INDEX}: TracInCheckpoint(folder=...) writes it")
    entries = json.loads((folder / INDEX).read_text())
    return [Checkpoint(**(entry | {"path": str(folder / entry["path"])})) for entry in entries]


def _write(state, folder, epoch):
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"epoch_{epoch:05d}.safetensors"
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


def _momentum_factor(optimizer):
    """``(1 - dampening) / (1 - μ)`` of SGD; one momentum for all groups is assumed and checked."""
    factors = {
        (1 - float(group.get("dampening", 0.0))) / (1 - float(group["momentum"]))
        for group in optimizer.param_groups
        if group.get("momentum")
    } or {1.0}
    if len(factors) > 1 or (
        factors != {1.0} and not all(g.get("momentum") for g in optimizer.param_groups)
    ):
        raise ValueError("the optimizer's parameter groups differ in momentum; use one for all")
    return factors.pop()
