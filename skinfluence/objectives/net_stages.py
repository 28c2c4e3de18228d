"""The objective of a fine-tuned net, seen from the net it started from.

Imported only when a net comes in.
"""

import copy
import warnings

import numpy as np

from ..fine_tuning.nets import Proximity
from . import neural_newton  # noqa: F401  registers method="newton"
from .nets import Net
from .neural import NeuralObjective


class FixedStage(Net):
    """Of a net whose shared parameters stayed at the pretrained values: of the others.

    Parameters
    ----------
    names : list of str
        The shared parameters.
    """

    def __init__(self, names=()):
        super().__init__()
        self.names = names

    def build(self, estimator, X, y, sample_weight=None):
        """The objective of the parameters that were fine-tuned."""
        source = self.source(estimator, X, y, sample_weight)
        own = [name for name in source.penalties if name not in self.names]
        if not own:
            raise ValueError("every parameter of the fine-tuned net is shared: none was trained")
        return NeuralObjective(source, own)


class UpdatedStage(Net):
    """Of a net whose shared parameters were held near the pretrained values.

    Parameters
    ----------
    proximity : Proximity
        What held them.
    """

    def __init__(self, proximity=None):
        super().__init__()
        self.proximity = proximity

    def build(self, estimator, X, y, sample_weight=None):
        """The objective of all parameters that were fine-tuned."""
        source = self.source(estimator, X, y, sample_weight)
        if not source.held:
            warnings.warn(
                f"the fine-tuned {type(estimator).__name__} was trained without a term that holds "
                f"its shared parameters: alpha={self.proximity.alpha:g} stands in for what kept "
                "them near the pretrained ones (few steps, a small learning rate). Train it with "
                "skinfluence.fine_tuning.FineTunedMixin to have the term in its loss.",
                UserWarning,
                stacklevel=2,
            )
            source.hold(self.proximity)
        return NeuralObjective(source)


def unfixed(objective, names):
    """The objective of a fine-tuned net over its own and the shared parameters."""
    source = copy.copy(objective.source)
    penalties = objective.source.penalties
    kept = {*objective.names, *names}
    source.penalties = {name: penalties.get(name, 0.0) for name in source.state if name in kept}
    return NeuralObjective(source)


def positions(objective, names):
    """Where parameters are in ``θ``, in the order of ``names``."""
    parts = [np.arange(objective.slices[n].start, objective.slices[n].stop) for n in names]
    return np.concatenate(parts)


def stand_in(alpha, names, module):
    """``½ α ‖θ - θ_pretrained‖²`` for a net that was trained without it."""
    own = dict(module.named_parameters())
    return Proximity(float(alpha), {name: own[name].detach().clone() for name in names})
