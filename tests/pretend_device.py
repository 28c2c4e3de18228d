"""A torch device on the CPU that keeps to a GPU's rules, where there is no GPU to test on.

Its tensors lie in ordinary memory, but torch sees another device: in one operation they do not
mix with tensors of the CPU, ``numpy()`` refuses them, and generators of the CPU draw nothing
there. What runs here has put every tensor where it belongs and brought every number back.
"""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from skinfluence._blocks import calling_thread

_setup_privateuseone_for_python_backend("pretend")
DEVICE = torch.device("pretend", 0)
aten = torch.ops.aten
# Operations that take tensors of two devices, as on a GPU.
COPIES = {aten._to_copy, aten.copy_, aten._copy_from}
# Tensors on a GPU may be indexed by tensors of the CPU.
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class PretendTensor(torch.Tensor):
    """A tensor on the device; its numbers lie in ``inner``."""

    @staticmethod
    def __new__(cls, inner):
        """Around a tensor on the CPU."""
        out = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        out.inner = inner
        return out

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        """An operation on such a tensor."""
        return run(function, args, kwargs or {})

    def tolist(self):
        """As of a GPU's tensor: a copy."""
        return self.cpu().tolist()

    def __repr__(self):
        return f"PretendTensor({self.inner!r})"


class PretendDevice(TorchDispatchMode):
    """Within this context the device is there: tensors can be made on it."""

    n_operations = n_copied = 0  # operations on its tensors, numbers brought to the host

    def __enter__(self):
        self._lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) as copies to it
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(self._lifted)
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Any operation."""
        self.n_operations += any(issubclass(kind, PretendTensor) for kind in types)
        out = run(function, args, kwargs or {})
        if function.overloadpacket in COPIES and isinstance(args[0], PretendTensor):
            self.n_copied += 0 if isinstance(out, PretendTensor) else out.numel()
        elif function is aten.copy_.default and isinstance(args[1], PretendTensor):
            self.n_copied += 0 if isinstance(out, PretendTensor) else out.numel()
        return out


def run(function, args, kwargs):
    """An operation on the CPU's tensors, if the device would have taken its own together."""
    leaves = tree_leaves((args, kwargs))
    ours = [leaf for leaf in leaves if isinstance(leaf, PretendTensor)]
    asked = None if kwargs.get("device") is None else torch.device(kwargs["device"])
    asked_ours = asked is not None and asked.type == DEVICE.type
    if ours and function.overloadpacket in INDEXED:
        check_together(function, [ours[0], args[0], *args[2:]])
    elif ours and function.overloadpacket not in COPIES:
        check_together(function, leaves)
    if asked_ours:
        if kwargs.get("generator") is not None:
            raise RuntimeError(f"{function}: a generator of the CPU for numbers on {DEVICE}")
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if function is aten._efficientzerotensor.default:
        function = aten.zeros.default  # the other has no numbers to compute with
    out = function(*tree_map(unwrapped, args), **tree_map(unwrapped, kwargs))
    own = {id(leaf.inner): leaf for leaf in ours}  # what an operation in place gives back
    on_device = asked_ours if asked is not None else bool(ours)
    return tree_map(lambda x: wrapped(x, own) if on_device else x, out)


def check_together(function, leaves):
    """Refuse tensors of two devices, but for single numbers, and generators of the CPU."""
    for leaf in leaves:
        other = isinstance(leaf, torch.Tensor) and not isinstance(leaf, PretendTensor)
        if isinstance(leaf, torch.Generator) or (other and leaf.dim() > 0):
            raise RuntimeError(f"{function}: a {type(leaf).__name__} of the CPU on {DEVICE}")


def unwrapped(x):
    return x.inner if isinstance(x, PretendTensor) else x


def wrapped(x, own):
    if not isinstance(x, torch.Tensor) or isinstance(x, PretendTensor):
        return x
    return own[id(x)] if id(x) in own else PretendTensor(x)


def devices():
    """Names of devices to test on."""
    return ["cpu", "pretend", *(["cuda"] if torch.cuda.is_available() else [])]


@contextmanager
def at_device(name):
    """``(put, mode)``: ``put(array)`` is a tensor on the device, which ``put.device`` names."""
    if name != "pretend":
        yield Put(torch.device(name)), None
        return
    # torch's modes are of one thread
    with PretendDevice() as mode, calling_thread():
        yield Put(DEVICE), mode
        assert mode.n_operations > 0


class Put:
    """Arrays to tensors on a device."""

    def __init__(self, device):
        self.device = device

    def __call__(self, array):
        """A tensor; arrays are copied, as to another device."""
        return torch.tensor(array).to(self.device)
