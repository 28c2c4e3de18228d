"""Nets that start from another net. Importing this imports neither torch nor skorch."""

from dataclasses import dataclass
from numbers import Real

from .._unwrap import unwrap
from ..objectives.base import is_net

COUPLINGS = ("fixed", "updated")


class FineTunedMixin:
    """Makes a skorch net start from a pretrained one, whose parameters it shares in part.

    Write ``class FineTuned(FineTunedMixin, NeuralNetClassifier)``; training is otherwise skorch's.
    The shared parameters, and the running statistics of their layers, are copied from the
    pretrained net whenever the module is made (``fit``, ``initialize``).

    Parameters
    ----------
    *args, **kwargs
        As for the skorch net.
    pretrained : FrozenEstimator of a fitted skorch net, optional
        Without it the net trains from scratch.
    shared : str or list of str, default="*"
        Patterns of the parameters carried over, by their names in both modules
        (``module.named_parameters()``): ``"encoder.*"``, or the path of a layer, ``"encoder"``.
    coupling : {"fixed", "updated"}, default="fixed"
        "fixed" leaves the shared parameters at the pretrained values. "updated" trains them too,
        with ``½ α ‖θ_shared - θ_pretrained‖²`` added to the training loss.
    alpha : float, optional
        ``α``, in the units of a weight decay: it adds to the loss of a batch, whatever its
        reduction. Needed for "updated".

    Attributes
    ----------
    proximity_ : Proximity or None
        What was added to the training loss.

    References
    ----------
    Chen, H., Si, S., Li, Y., Chelba, C., Kumar, S., Boning, D. and Hsieh, C.-J. (2020).
    Multi-stage influence function. NeurIPS. https://arxiv.org/abs/2007.09081

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.frozen import FrozenEstimator
    >>> from skorch import NeuralNetClassifier
    >>> from skinfluence.fine_tuning import FineTunedMixin
    >>> class FineTuned(FineTunedMixin, NeuralNetClassifier):
    ...     pass
    >>> def module():
    ...     embedding, head = torch.nn.Linear(64, 8), torch.nn.Linear(8, 5)
    ...     return torch.nn.Sequential(embedding, torch.nn.Tanh(), head)
    >>> X, y = load_digits(return_X_y=True)
    >>> X, low = X.astype("float32") / 16, y < 5
    >>> options = {"criterion": torch.nn.CrossEntropyLoss, "verbose": 0, "train_split": None}
    >>> pretrained = NeuralNetClassifier(module, **options).fit(X[low], y[low])
    >>> net = FineTuned(module, pretrained=FrozenEstimator(pretrained), shared="0", **options)
    >>> _ = net.fit(X[~low], y[~low] - 5)
    >>> torch.equal(net.module_[0].weight, pretrained.module_[0].weight)
    True
    """

    def __init__(self, *args, pretrained=None, shared="*", coupling="fixed", alpha=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.pretrained = pretrained
        self.shared = shared
        self.coupling = coupling
        self.alpha = alpha

    def initialize_module(self, *args, **kwargs):
        """Make the module, and carry the shared parameters over."""
        super().initialize_module(*args, **kwargs)
        self.proximity_ = None
        if self.pretrained is None:
            return self
        check_coupling(self.coupling, self.alpha)
        source = pretrained_net(self.pretrained)
        names = shared_names(self.shared, source.module_, self.module_)
        buffers = shared_buffers(self.shared, names, source.module_)
        _copy(source.module_, self.module_, names + buffers)
        own = dict(self.module_.named_parameters())
        if self.coupling == "fixed":
            _refuse_statistics(buffers)
            for name in names:
                own[name].requires_grad_(False)
        else:
            centers = {name: own[name].detach().clone() for name in names}
            self.proximity_ = Proximity(float(self.alpha), centers)
        return self

    def get_loss(self, y_pred, y_true, *args, training=False, **kwargs):
        """The net's own loss; in training, with what holds the shared parameters."""
        loss = super().get_loss(y_pred, y_true, *args, training=training, **kwargs)
        if training and self.proximity_ is not None:
            loss = loss + self.proximity_.penalty(self.module_)
        return loss


@dataclass
class Proximity:
    """``½ α ‖θ - c‖²`` over some parameters.

    Attributes
    ----------
    alpha : float
    centers : dict of Tensor
        ``c`` by name of the parameter.
    """

    alpha: float
    centers: dict

    def penalty(self, module):
        """Its value, a Tensor."""
        own = dict(module.named_parameters())
        parts = [((own[name] - c.to(own[name])) ** 2).sum() for name, c in self.centers.items()]
        return 0.5 * self.alpha * sum(parts)


def check_coupling(coupling, alpha):
    """Refuse an unknown coupling, and one without its strength or with a strength it ignores."""
    if coupling not in COUPLINGS:
        raise ValueError(f"coupling={coupling!r} is not one of {COUPLINGS}")
    if coupling == "fixed" and alpha is not None:
        raise ValueError(
            f"alpha={alpha!r} holds shared parameters that move: it goes with coupling='updated'; "
            "with coupling='fixed' they stay where they are"
        )
    if coupling == "updated" and not (isinstance(alpha, Real) and 0 < alpha < float("inf")):
        raise ValueError(
            f"coupling='updated' needs alpha, a positive number, for ½ α ‖θ - θ_pretrained‖²; got "
            f"alpha={alpha!r}"
        )


def pretrained_net(pretrained):
    """The fitted net inside a frozen one; refuses others."""
    steps, net = unwrap(pretrained)
    if steps or not is_net(net):
        raise TypeError(
            f"pretrained is a {type(net if not steps else pretrained).__name__}; pass the fitted "
            "skorch net alone, inside FrozenEstimator"
        )
    if not getattr(net, "initialized_", False):
        raise ValueError(
            "the pretrained net is not fitted: pass FrozenEstimator(fitted net), since a clone of "
            "the net itself forgets its fit"
        )
    return net


def shared_names(patterns, pretrained, finetuned):
    """Names of the parameters that two modules share, in the order of the first.

    Every pattern must match in both, and what matches must be there in both with one shape.
    """
    from ..objectives.neural import matches

    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    before = {name: tuple(p.shape) for name, p in pretrained.named_parameters()}
    after = {name: tuple(p.shape) for name, p in finetuned.named_parameters()}
    for pattern in patterns:
        for which, names in (("pretrained", before), ("fine-tuned", after)):
            if not any(matches(pattern, name) for name in names):
                raise ValueError(
                    f"shared={pattern!r} matches no parameter of the {which} net; it has "
                    f"{list(names)}"
                )
    found = [n for n in [*before, *after] if any(matches(p, n) for p in patterns)]
    found = list(dict.fromkeys(found))
    for name in found:
        if name not in before or name not in after:
            which = "fine-tuned" if name in before else "pretrained"
            raise ValueError(
                f"shared={patterns} matches {name!r}, which the {which} net does not have: shared "
                "parameters have the same names in both"
            )
        if before[name] != after[name]:
            raise ValueError(
                f"shared={patterns} matches {name!r}, of shape {before[name]} in the pretrained "
                f"net and {after[name]} in the fine-tuned one; leave it out of the patterns"
            )
    return found


def shared_buffers(patterns, names, module):
    """Names of the buffers that the patterns match, or that lie beside shared parameters."""
    from ..objectives.neural import matches

    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    paths = {name.rpartition(".")[0] for name in names}
    return [
        name
        for name, _ in module.named_buffers()
        if name.rpartition(".")[0] in paths or any(matches(p, name) for p in patterns)
    ]


def _copy(source, target, names):
    import torch

    values = {**dict(source.named_parameters()), **dict(source.named_buffers())}
    own = {**dict(target.named_parameters()), **dict(target.named_buffers())}
    with torch.no_grad():
        for name in names:
            if name not in own:
                raise ValueError(f"the fine-tuned net has no {name!r}, which is shared")
            own[name].copy_(values[name])


def _refuse_statistics(buffers):
    moving = [name for name in buffers if name.rpartition(".")[2].startswith("running_")]
    if moving:
        raise ValueError(
            f"training moves the running statistics {moving} of shared layers, so the embedding "
            "would not stay fixed: use layers without such statistics (LayerNorm, GroupNorm), "
            "coupling='updated', or train with those layers in eval mode and pass the net frozen"
        )
