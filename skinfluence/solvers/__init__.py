"""Solvers: what stands in for ``H⁻¹ v``.

``SOLVERS`` names the defaults; add an entry to register another.
"""

from .base import Solver
from .direct import Direct
from .system import System

__all__ = ["SOLVERS", "Direct", "Solver", "System", "resolve_solver"]

SOLVERS = {"direct": Direct, "system": System}


def resolve_solver(solver, objective):
    """A solver object from a name, an object, or ``"auto"`` (the objective's own choice)."""
    if isinstance(solver, str) and solver == "auto":
        solver = getattr(objective, "default_solver", "direct")
    if isinstance(solver, str):
        if solver not in SOLVERS:
            raise ValueError(f"solver={solver!r} is not one of 'auto', {sorted(SOLVERS)}")
        return SOLVERS[solver]()
    if not (hasattr(solver, "fit") and hasattr(solver, "solve")):
        raise TypeError(f"solver={solver!r} has no fit and solve; see skinfluence.solvers.Solver")
    return solver
