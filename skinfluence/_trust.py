"""What an archive may name and set: parts that hold numbers and compute, nothing that acts.

A list of what is needed, not of what is harmful: scipy.stats, for one, compiles text that its
objects hold, and numpy and scikit-learn have functions that write files.
"""

import inspect
import types
from collections import OrderedDict, defaultdict
from functools import cached_property
from operator import attrgetter

import numpy as np

FUNCTIONS = (type, types.FunctionType, types.BuiltinFunctionType, np.ufunc, type(np.sum))
BUILTIN = (attrgetter, OrderedDict, defaultdict)

# Modules (with those inside) whose objects compute from their own attributes alone.
OWN = tuple(f"skinfluence.{name}" for name in ("objectives", "solvers", "methods", "stages"))
OWN += ("skinfluence.targets",)
CLASSES = (
    *OWN,
    *(f"skinfluence.{name}" for name in ("explainer", "ensemble", "gradients")),
    *(
        f"numpy.random.{name}"
        for name in (
            "_generator _mt19937 _pcg64 _philox _pickle _sfc64 bit_generator mtrand".split()
        )
    ),
    *("scipy.sparse", "scipy.interpolate", "scipy.spatial._ckdtree"),
    *("sklearn._loss", "sklearn.utils._bunch", "sklearn.utils._metadata_requests"),
    *(
        f"sklearn.{name}"
        for name in (
            "calibration cluster compose covariance cross_decomposition decomposition "
            "discriminant_analysis dummy ensemble feature_extraction feature_selection frozen "
            "gaussian_process impute isotonic kernel_approximation kernel_ridge linear_model "
            "manifold metrics mixture model_selection multiclass multioutput naive_bayes "
            "neighbors neural_network pipeline preprocessing random_projection semi_supervised "
            "svm tree"
        ).split()
    ),
)
COMPUTING = (
    *OWN,
    "scipy._lib.array_api_compat.numpy._aliases",  # of splines
    "sklearn.feature_selection",
    "sklearn.metrics",
    "sklearn.preprocessing",
    "sklearn.utils.extmath",
)
NUMPY = set(
    "average clip cumsum diff max mean median min nan_to_num percentile prod quantile round std "
    "sum var".split()
)
METHODS = (*OWN, "sklearn.kernel_ridge")
# Functions that compiled classes are rebuilt by.
REBUILDERS = (
    "__pyx_unpickle",
    "newObj",
    "__randomstate_ctor",
    "__generator_ctor",
    "__bit_generator_ctor",
)


def may_name(found, module, path):
    """Whether an archive may name this class or function."""
    if isinstance(found, type):
        numbers = issubclass(found, np.generic)
        return numbers or found in BUILTIN or (_within(module, CLASSES) and "." not in path)
    if module == "numpy":
        return isinstance(found, np.ufunc) or path in NUMPY
    rebuilds = path.startswith(REBUILDERS) and _within(module, CLASSES)
    return rebuilds or _within(module, COMPUTING)


def may_import(module):
    """Whether a module may be looked into; importing one runs it."""
    bare = ("numpy", "operator", "collections")
    return module in bare or _within(module, (*CLASSES, *COMPUTING))


def may_call(make):
    """Whether it makes an object when called: what ``__reduce__`` of its objects names."""
    if isinstance(make, type):
        plain = object.__reduce__, object.__reduce_ex__
        return (make.__reduce__, make.__reduce_ex__) != plain
    return make.__name__.startswith(REBUILDERS)


def bound_method(owner, name, trusted):
    """The method of an object, read without running a property."""
    kind = type(owner)
    function = inspect.getattr_static(kind, name, None)
    own = _within(kind.__module__, METHODS) or f"{kind.__module__}.{kind.__qualname__}" in trusted
    if not own or not isinstance(function, types.FunctionType):
        raise ValueError(
            f"the archive uses {name} of a {kind.__module__}.{kind.__qualname__}, which is no "
            "method that it may name"
        )
    return types.MethodType(function, owner)


def check_state(kind, state):
    """Refuse attributes that would stand for the code of a class.

    An object may have data and computed values of its own. Those of this package also take each
    other's functions for their own, which a source of a net, whose code reading runs, does not.
    """
    takes = _within(kind.__module__, OWN) and not hasattr(kind, "with_code")
    if not isinstance(state, dict) or not all(type(name) is str for name in state):
        raise ValueError(f"the archive gives a {kind.__name__} a state that is no dict of names")
    for name, value in state.items():
        there = inspect.getattr_static(kind, name, None)
        is_data = not callable(there) and not hasattr(type(there), "__get__")
        kept = isinstance(there, cached_property | types.MemberDescriptorType)
        taken = takes and isinstance(there, types.FunctionType) and callable(value)
        if name.startswith("__") or not (is_data or kept or taken):
            raise ValueError(
                f"the archive sets {name!r} of a {kind.__name__}, which is code of its class"
            )


def check_arguments(make, args):
    """Refuse the reading of private attributes."""
    if make is attrgetter and any(
        part.startswith("_") for name in args for part in str(name).split(".")
    ):
        raise ValueError(f"the archive reads the attributes {args}")


def _within(module, packages):
    if "tests" in module.split("."):
        return False
    return any(module == package or module.startswith(f"{package}.") for package in packages)
