"""Methods: how "row removed" is approximated.

``METHODS`` names the defaults; add an entry to register another.
"""

from . import (  # noqa: F401 (each registers its effects)
    active_set,
    kernel,
    moments,
    neighbors,
    smoother,
    stacked,
    subset,
)
from .base import Effects, Method, Problem
from .exact import Exact
from .first_order import InfinitesimalJackknife, Influence
from .newton import Newton
from .refit import Refit
from .rescaled import RescaledInfluence
from .second_order import SecondOrder
from .tracin import TracIn

__all__ = [
    "METHODS",
    "Effects",
    "Exact",
    "InfinitesimalJackknife",
    "Influence",
    "Method",
    "Newton",
    "Problem",
    "Refit",
    "RescaledInfluence",
    "SecondOrder",
    "TracIn",
    "resolve_method",
]

#: Default methods by name.
METHODS = {
    "influence": Influence,
    "infinitesimal_jackknife": InfinitesimalJackknife,
    "newton": Newton,
    "second_order": SecondOrder,
    "rescaled": RescaledInfluence,
    "exact": Exact,
    "refit": Refit,
    "tracin": TracIn,
}


def resolve_method(method, objective):
    """A method object from a name, an object, or ``"auto"`` (the objective's own choice)."""
    if isinstance(method, str) and method == "auto":
        method = getattr(objective, "default_method", "newton")
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"method={method!r} is not one of 'auto', {sorted(METHODS)}")
        return METHODS[method]()
    if not hasattr(method, "bind"):
        raise TypeError(f"method={method!r} has no bind; see skinfluence.methods.Method")
    return method
