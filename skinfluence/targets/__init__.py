"""Targets: which quantity is explained.

``TARGETS`` names the defaults; add an entry to register another.
"""

from .base import BoundTarget, Target
from .predictions import Decision, Loss, Probability

__all__ = ["TARGETS", "BoundTarget", "Decision", "Loss", "Probability", "Target", "resolve_target"]

TARGETS = {"loss": Loss, "decision": Decision, "proba": Probability}


def resolve_target(target, has_y):
    """A target object from a name, an object, or ``"auto"``: loss with ``y``, else decision."""
    if isinstance(target, str):
        if target == "auto":
            return Loss() if has_y else Decision()
        if target not in TARGETS:
            raise ValueError(f"target={target!r} is not one of 'auto', {sorted(TARGETS)}")
        return TARGETS[target]()
    if not hasattr(target, "bind"):
        raise TypeError(f"target={target!r} has no bind; see skinfluence.targets.Target")
    return target
