"""Nets in archives: tensors as arrays; modules, which are code, from a net the reader brings.

Imported only when an archive holds a net.
"""

import copy

import numpy as np
import torch
from sklearn.base import clone

from ._trust import check_state
from .objectives.base import is_net


def encode_net_part(encoder, value):
    """The node of a tensor, of a net or of a part of one; None for anything else."""
    if isinstance(value, torch.Tensor):
        return {"tensor": encoder.write_array(value.detach().cpu().numpy())}
    if isinstance(value, torch.Size):
        return {"tuple": list(value)}
    if isinstance(value, torch.dtype | torch.device):
        return {"torch": str(value)}
    if hasattr(type(value), "without_code"):
        return _encode_source(encoder, value)
    if is_net(value):
        fitted = hasattr(value, "module_")
        return {"net": encoder.encode(dict(value.module_.state_dict()) if fitted else None)}
    if isinstance(value, torch.nn.Module) and id(value) in encoder.modules:
        source, path = encoder.modules[id(value)]
        return {"module": path, "of": encoder.encode(source)}
    return None


def _encode_source(encoder, source):
    for path, module in source.module.named_modules():
        encoder.modules[id(module)] = (source, path)
    probe = source.probe()
    twin = copy.copy(source)
    twin.with_code(source.without_code())
    if not _agree(twin.probe(), probe, source.dtype):
        raise TypeError(
            "the net of this explainer computes something else than its module with its "
            "parameters (units left out by hooks?), which an archive cannot hold"
        )
    kind = type(source)
    return {
        "source": f"{kind.__module__}:{kind.__qualname__}",
        "state": encoder.encode(source.without_code()),
        "probe": encoder.encode(probe),
    }


def _agree(found, expected, dtype):
    """Equal up to rounding, which another device or library version does otherwise."""
    rtol = torch.finfo(dtype).eps ** 0.6  # 7e-5 in float32, 4e-10 in float64
    atol = 1e-2 * rtol * max(float(np.abs(part).max(initial=0)) for part in expected)
    pairs = zip(found, expected, strict=True)
    return all(np.allclose(a, b, rtol=rtol, atol=atol) for a, b in pairs)


# -- reading -------------------------------------------------------------------------------
def read_tensor(decoder, node):
    """On the device of the net that was brought."""
    with decoder.archive.open(node["tensor"]) as file:
        value = np.lib.format.read_array(file, allow_pickle=False)
    return torch.as_tensor(value, device=_device(decoder))


def read_torch(decoder, node):
    """A dtype, or the device of the net that was brought."""
    name = node["torch"]
    if not name.startswith("torch."):
        return _device(decoder)
    dtype = getattr(torch, name[6:], None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"the archive uses {name}, which is no dtype")
    return dtype


def read_net(decoder, node):
    """The net that was brought, with the parameters of the archive."""
    given = decoder.net
    if given is None:
        raise ValueError(
            "the archive is of a net, whose module is code: pass net=, a skorch net like the one "
            "that was explained (fitted or not)"
        )
    state = decoder.decode(node["net"])
    if state is None:
        return clone(given)
    net = copy.deepcopy(given) if hasattr(given, "module_") else clone(given).initialize()
    try:
        net.module_.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"net= has other parameters than the archive: {error}") from error
    return net


def read_module(decoder, node):
    """A part of a source's module."""
    source = decoder.decode(node["of"])
    if not hasattr(type(source), "with_code"):
        raise ValueError(f"the archive reads the module of a {type(source).__name__}")
    return source.module.get_submodule(node["module"])


def read_source(decoder, node):
    """The net and its rows, with the module that was brought."""
    kind = decoder.find(node["source"])
    if not hasattr(kind, "with_code"):
        raise ValueError(f"the archive builds {node['source']}, which is no source of a net")
    source = decoder.made[node["id"]] = object.__new__(kind)
    state = decoder.decode(node["state"])
    check_state(kind, state)
    if "net" in state and not is_net(state["net"]):
        raise ValueError(f"the archive has a {type(state['net']).__name__} where a net should be")
    source.with_code(state)
    if not _agree(source.probe(), decoder.decode(node["probe"]), source.dtype):
        raise ValueError(
            "net= computes other outputs or losses than the net of the archive did with the same "
            "parameters: pass one with the same module and criterion"
        )
    return source


def _device(decoder):
    device = getattr(decoder.net, "device", None)
    return torch.device("cpu" if device is None else device)
