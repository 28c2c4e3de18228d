"""Layers of a net whose row gradients have structure: ``Σ_t a_t ⊗ δ_t``.

``a`` is what enters a layer, ``δ`` the derivative with respect to what leaves it, ``t`` runs over
positions (pixels, tokens, repeated uses). Parameters of other modules, or shared by several, go
through ``torch.func``. Imported only when a net comes in.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class Layer:
    """A module with its own, selected parameters.

    Attributes
    ----------
    name : str
        Path of the module.
    module : torch.nn.Module
    weight, bias : slice or None
        Where in ``θ`` its parameters are; None for a parameter that is absent or not selected.
    kind : {"dense", "scale"}
        "dense": the gradient of the weight, as (d_out, d_in), is ``Σ_t δ_t a_t'`` and that of the
        bias ``Σ_t δ_t``. "scale": that of the weight is ``Σ_t δ_t ∘ a_t`` (normalisation layers).
    d_in, d_out : int
        Without the bias.
    """

    name: str
    module: nn.Module
    weight: slice | None
    bias: slice | None
    kind: str
    d_in: int
    d_out: int

    @property
    def size(self):
        """Number of its parameters."""
        return sum(s.stop - s.start for s in (self.weight, self.bias) if s is not None)

    def inputs(self, x):
        """``a`` of shape (b, T, d_in), or (b, T, d_out) for "scale"."""
        module = self.module
        if isinstance(module, nn.Embedding):
            out = F.one_hot(x, module.num_embeddings).to(module.weight.dtype)
            if module.padding_idx is not None:
                out[..., module.padding_idx] = 0
            return out.reshape(len(x), -1, module.num_embeddings)
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            return _patches(module, x)
        if isinstance(module, nn.LayerNorm):
            plain = F.layer_norm(x, module.normalized_shape, None, None, module.eps)
            return plain.reshape(len(x), -1, self.d_out)
        if self.kind == "scale":
            shape = (1, -1) + (1,) * (x.ndim - 2)
            spread = torch.sqrt(module.running_var + module.eps)
            plain = (x - module.running_mean.reshape(shape)) / spread.reshape(shape)
            return _positions(plain)
        return x.reshape(len(x), -1, self.d_in)

    def slopes(self, grad):
        """``δ`` (k, b, T, d_out) from derivatives with respect to the output, (k, b, ...)."""
        if isinstance(self.module, nn.Conv1d | nn.Conv2d | nn.modules.batchnorm._BatchNorm):
            return grad.reshape(*grad.shape[:3], -1).transpose(-1, -2)
        return grad.reshape(*grad.shape[:2], -1, self.d_out)

    def add_gradients(self, a, delta, out, fresh):
        """Row gradients from ``a`` and ``δ`` into ``out`` (b, n_params), or added to it."""
        if self.weight is not None:
            if self.kind == "scale":
                grad = torch.einsum("bto,bto->bo", delta, a)
            elif a.shape[1] == 1 and fresh and not isinstance(self.module, nn.Embedding):
                into = out[:, self.weight].unflatten(1, (self.d_out, self.d_in))
                torch.mul(delta.transpose(1, 2), a, out=into)
                grad = None
            else:
                grad = delta.transpose(1, 2) @ a
                if isinstance(self.module, nn.Embedding):  # its weight is (d_in, d_out)
                    grad = grad.transpose(1, 2)
            if grad is not None:
                _put(out[:, self.weight], grad.reshape(len(a), -1), fresh)
        if self.bias is not None:
            _put(out[:, self.bias], delta.sum(1), fresh)


def _put(out, values, fresh):
    if fresh:
        out.copy_(values)
    else:
        out += values


def find_layers(module, slices):
    """``(layers, rest)``: structured layers, and names of selected parameters outside of them.

    Parameters
    ----------
    module : torch.nn.Module
    slices : dict
        Slice of ``θ`` of each selected parameter, by name.
    """
    owners = {}
    for path, child in module.named_modules(remove_duplicate=True):
        for name, p in child.named_parameters(recurse=False):
            owners.setdefault(id(p), []).append((path, name))
    names = {id(p): name for name, p in module.named_parameters()}
    layers, covered = [], set()
    for path, child in module.named_modules():
        own = dict(child.named_parameters(recurse=False))
        if not own or not _structured(child):
            continue
        if set(own) - {"weight", "bias"} or any(len(owners[id(p)]) > 1 for p in own.values()):
            continue
        where = {key: slices.get(names[id(p)]) for key, p in own.items()}
        if not any(s is not None for s in where.values()):
            continue
        kind, d_in, d_out = _structured(child)
        layers.append(Layer(path, child, where.get("weight"), where.get("bias"), kind, d_in, d_out))
        covered.update(names[id(p)] for p in own.values())
    return layers, [name for name in slices if name not in covered]


def _structured(module):
    """``(kind, d_in, d_out)`` of a module with structure, else None."""
    cls = type(module)  # not isinstance: a subclass may compute something else
    if cls is nn.Linear:
        return "dense", module.in_features, module.out_features
    if cls in (nn.Conv1d, nn.Conv2d) and module.groups == 1:
        return "dense", module.weight[0].numel(), module.out_channels
    if cls is nn.Embedding and module.max_norm is None and not module.scale_grad_by_freq:
        return "dense", module.num_embeddings, module.embedding_dim
    if cls is nn.LayerNorm and module.weight is not None:
        return "scale", module.weight.numel(), module.weight.numel()
    if cls in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d) and module.affine:
        if module.track_running_stats:
            return "scale", module.num_features, module.num_features
    return None


def _patches(module, x):
    """What each output pixel of a convolution sees: (b, T, channels * kernel)."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
    kernel, dilation, stride = module.kernel_size, module.dilation, module.stride
    if isinstance(module, nn.Conv1d):
        x = x[:, :, None]
        kernel, dilation, stride = (1, *kernel), (1, *dilation), (1, *stride)
    return F.unfold(x, kernel, dilation, 0, stride).transpose(1, 2)


def _positions(x):
    """(b, channels, ...) to (b, T, channels)."""
    return x.reshape(*x.shape[:2], -1).transpose(1, 2)


class Recorder:
    """Keeps what enters and leaves each layer during one forward pass.

    ``with Recorder(layers) as seen: ...`` then ``seen.passes`` lists (layer, input, output), one
    for each use. What leaves is kept apart from what follows, which may overwrite it in place.
    """

    def __init__(self, layers):
        self.layers = layers
        self.passes = []

    def __enter__(self):
        self._handles = [
            layer.module.register_forward_hook(self._hook(layer), with_kwargs=True)
            for layer in self.layers
        ]
        return self

    def __exit__(self, *error):
        for handle in self._handles:
            handle.remove()

    def _hook(self, layer):
        def keep(module, inputs, named, output):
            x = inputs[0] if inputs else next(iter(named.values()))
            self.passes.append((layer, x.detach(), output))
            return output.clone()

        return keep
