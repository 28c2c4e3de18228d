"""Objects as JSON and arrays, and back: classes by name, of those that may be named.

skops has such a format, but neither cycles, nor bound methods, nor dataframes, all of which a
fitted explainer holds.
"""

import copyreg
import importlib
import inspect
import io
import sys
import types
from functools import partial

import numpy as np

from ._trust import (
    FUNCTIONS,
    bound_method,
    check_arguments,
    check_state,
    may_call,
    may_import,
    may_name,
)

PLAIN = (type(None), bool, int, str)
SEQUENCES = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


class Encoder:
    """Turns objects into JSON nodes; arrays go to a zip file.

    Parameters
    ----------
    archive : ZipFile
        Open for writing.
    """

    def __init__(self, archive):
        self.archive = archive
        self.seen = {}  # by identity; the objects are kept, or their identities would be reused
        self.modules = {}  # of nets, by identity: (the source that has it, its path there)
        self.n_arrays = 0

    def encode(self, value):
        """The node of a value; an object met before becomes a reference."""
        if type(value) in PLAIN:
            return value
        if type(value) is float:
            return {"float": value.hex()}
        if id(value) in self.seen:
            return {"ref": self.seen[id(value)][0]}
        number = len(self.seen)
        self.seen[id(value)] = (number, value)
        return {"id": number, **self._node(value)}

    def _node(self, value):
        kind = type(value)
        if kind.__name__ in SEQUENCES and kind in SEQUENCES.values():
            return {kind.__name__: [self.encode(part) for part in value]}
        if kind is dict:
            return {"dict": self._pairs(value.items())}
        if isinstance(value, np.generic) or kind in (np.ndarray, np.memmap):
            return self._array(value)
        if kind is np.ma.MaskedArray:
            parts = (value.data, np.ma.getmaskarray(value), value.fill_value)
            return {"masked": [self.encode(part) for part in parts]}
        if isinstance(value, np.dtype):
            return {"dtype": np.lib.format.dtype_to_descr(value)}
        if isinstance(value, slice):
            return {"slice": [self.encode(p) for p in (value.start, value.stop, value.step)]}
        if isinstance(value, types.MethodType):
            return {"method": value.__name__, "of": self.encode(value.__self__)}
        if isinstance(value, partial):
            parts = (value.func, value.args, value.keywords)
            return {"partial": [self.encode(part) for part in parts]}
        if isinstance(value, FUNCTIONS):
            return {"name": _name(value)}
        table = _table_bytes(value)
        if table is not None:
            return {"table": table[0], **self._array(np.frombuffer(table[1], np.uint8))}
        return self._object(value)

    def _array(self, value):
        if value.dtype.hasobject:
            items = [self.encode(item) for item in value.ravel().tolist()]
            return {"objects": items, "shape": list(value.shape)}
        kind = "scalar" if isinstance(value, np.generic) else "array"
        return {kind: self.write_array(value)}

    def write_array(self, value):
        """Write an array; returns its name in the archive."""
        name = f"{self.n_arrays}.npy"
        self.n_arrays += 1
        with self.archive.open(name, "w", force_zip64=True) as file:
            np.lib.format.write_array(file, np.asarray(value), allow_pickle=False)
        return name

    def _object(self, value):
        if "torch" in sys.modules:
            node = _net_objects().encode_net_part(self, value)
            if node is not None:
                return node
        if type(value).__module__.split(".")[0] == "torch" or hasattr(value, "named_parameters"):
            raise TypeError(
                f"a {type(value).__name__} is code, which an archive does not hold: keep the "
                "gradients of such a net in a GradientStore"
            )
        try:
            make, args, state, items, pairs = (*value.__reduce_ex__(4), None, None, None)[:5]
        except Exception as error:
            raise TypeError(f"a {type(value).__name__} cannot be saved as data") from error
        if make is copyreg.__newobj__:
            node = {"object": _name(args[0]), "args": self._list(args[1:])}
        else:
            node = {"call": _name(make), "args": self._list(args)}
        node["state"] = self.encode(state)
        if items is not None:
            node["items"] = self._list(items)
        if pairs is not None:
            node["pairs"] = self._pairs(pairs)
        return node

    def _list(self, values):
        return [self.encode(value) for value in values]

    def _pairs(self, pairs):
        return [[self.encode(key), self.encode(value)] for key, value in pairs]


class Decoder:
    """Turns nodes back into objects.

    Parameters
    ----------
    archive : ZipFile
        Open for reading.
    trusted : list of str
        Names that may be used besides those of ``_trust``.
    net : skorch net, optional
        Has the module of a net in the archive.
    """

    def __init__(self, archive, trusted=(), net=None):
        self.archive, self.trusted, self.net = archive, {*trusted}, net
        self.made = {}

    def decode(self, node):
        """The value of a node."""
        if not isinstance(node, dict):
            return node
        if "float" in node:
            return float.fromhex(node["float"])
        if "ref" in node:
            return self.made[node["ref"]]
        for kind, read in self._readers.items():
            if kind in node:
                value = read(self, node)
                self.made[node["id"]] = value
                return value
        raise ValueError(f"the archive has an unknown entry {sorted(node)}")

    def _sequence(self, node):
        name = next(name for name in SEQUENCES if name in node)
        if name == "list":
            out = self.made[node["id"]] = []
            out.extend(self.decode(part) for part in node["list"])
            return out
        return SEQUENCES[name](self.decode(part) for part in node[name])

    def _dict(self, node):
        out = self.made[node["id"]] = {}
        self._fill(out, node["dict"])
        return out

    def _fill(self, out, pairs):
        for key, value in pairs:
            out[self.decode(key)] = self.decode(value)

    def _array(self, node):
        with self.archive.open(node.get("array") or node["scalar"]) as file:
            value = np.lib.format.read_array(file, allow_pickle=False)
        return value[()] if "scalar" in node else value

    def _masked(self, node):
        data, mask, fill = (self.decode(part) for part in node["masked"])
        return np.ma.MaskedArray(data, mask, fill_value=fill)

    def _objects(self, node):
        out = np.empty(len(node["objects"]), dtype=object)
        for i, item in enumerate(node["objects"]):
            out[i] = self.decode(item)
        return out.reshape(node["shape"])

    def _table(self, node):
        return _read_table(node["table"], self._array(node).tobytes())

    def _partial(self, node):
        func, args, keywords = (self.decode(part) for part in node["partial"])
        if not isinstance(func, (types.MethodType, *FUNCTIONS)):
            raise ValueError(f"the archive calls a {type(func).__name__}, which is no function")
        return partial(func, *args, **keywords)

    def _method(self, node):
        return bound_method(self.decode(node["of"]), node["method"], self.trusted)

    def _object(self, node):
        kind = self.find(node["object"])
        if not isinstance(kind, type) or hasattr(kind, "with_code"):
            raise ValueError(f"the archive builds {node['object']}, which is no class of data")
        out = kind.__new__(kind, *(self.decode(part) for part in node["args"]))
        return self._restore(out, node)

    def _call(self, node):
        make = self.find(node["call"])
        if not may_call(make):
            raise ValueError(f"the archive calls {node['call']}, which makes no object anew")
        args = [self.decode(part) for part in node["args"]]
        check_arguments(make, args)
        return self._restore(make(*args), node)

    def _restore(self, out, node):
        self.made[node["id"]] = out
        state = self.decode(node["state"])
        if state is not None:
            self._set_state(out, state)
        for item in node.get("items", ()):
            out.append(self.decode(item))
        self._fill(out, node.get("pairs", ()))
        return out

    def _set_state(self, out, state):
        kind = type(out)
        setter = inspect.getattr_static(kind, "__setstate__", None)
        if setter is not None and not isinstance(setter, types.FunctionType):
            out.__setstate__(state)  # of a compiled class, which takes what it knows
            return
        if isinstance(state, tuple) and setter is None:
            plain, slots = state
            state = {**(plain or {}), **(slots or {})}
        check_state(kind, state)
        if setter is not None:
            out.__setstate__(state)
            return
        for name, value in state.items():
            object.__setattr__(out, name, value)

    def find(self, name):
        """The class or function of a name that may be used."""
        module, _, path = name.partition(":")
        trusted = f"{module}.{path}" in self.trusted
        found = None
        if trusted or may_import(module):
            found = importlib.import_module(module)
            for part in path.split("."):
                found = getattr(found, part, None)
            named = callable(found) and hasattr(found, "__name__")  # compiled functions too
            if not named or _name(found) != name:  # os, imported there
                raise ValueError(f"the archive uses {name}, which is defined elsewhere")
        if not trusted and not may_name(found, module, path):
            raise ValueError(
                f"the archive uses {module}.{path}; pass trusted=['{module}.{path}'] if you know "
                "where the file comes from"
            )
        return found

    _readers = {
        **dict.fromkeys(SEQUENCES, _sequence),
        "dict": _dict,
        "table": _table,
        "array": _array,
        "scalar": _array,
        "masked": _masked,
        "objects": _objects,
        "dtype": lambda self, node: np.lib.format.descr_to_dtype(_descr(node["dtype"])),
        "slice": lambda self, node: slice(*(self.decode(part) for part in node["slice"])),
        "method": _method,
        "partial": _partial,
        "name": lambda self, node: self.find(node["name"]),
        "object": _object,
        "call": _call,
        **{
            kind: lambda self, node, read=f"read_{kind}": getattr(_net_objects(), read)(self, node)
            for kind in ("tensor", "torch", "net", "module", "source")
        },
    }


def _net_objects():
    from . import _net_objects

    return _net_objects


def _name(value):
    """``module:qualified.name`` under which a class or function is found again."""
    name = getattr(value, "__qualname__", value.__name__)
    module = getattr(value, "__module__", None) or "numpy"
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        found = None
    if found is not value:
        raise TypeError(
            f"{module}.{name} cannot be imported by its name, so that an archive cannot hold it: "
            "use a function or class defined in a module"
        )
    return f"{module}:{name}"


def _descr(node):
    """JSON has lists where a structured dtype needs tuples."""
    return [tuple(field) for field in node] if isinstance(node, list) else node


def _table_bytes(value):
    """``(library, Arrow stream)`` of a dataframe, series or index; None for anything else."""
    library = type(value).__module__.split(".")[0]
    if library not in ("pandas", "polars"):
        return None
    kind = type(value).__name__
    buffer = io.BytesIO()
    if library == "polars":
        frame = value if kind == "DataFrame" else value.to_frame()
        frame.write_ipc_stream(buffer)
    else:
        import pyarrow as pa

        frame = value if kind == "DataFrame" else value.to_frame()
        table = pa.Table.from_pandas(frame)
        with pa.ipc.new_stream(buffer, table.schema) as stream:
            stream.write_table(table)
    return f"{library}.{kind}", buffer.getvalue()


def _read_table(kind, data):
    library, _, kind = kind.partition(".")
    if library == "polars":
        import polars as pl

        frame = pl.read_ipc_stream(io.BytesIO(data))
    else:
        import pyarrow as pa

        frame = pa.ipc.open_stream(data).read_all().to_pandas()
    if kind == "DataFrame":
        return frame
    return frame.iloc[:, 0] if library == "pandas" and kind == "Series" else _first(frame, library)


def _first(frame, library):
    return frame.index if library == "pandas" else frame.to_series(0)
