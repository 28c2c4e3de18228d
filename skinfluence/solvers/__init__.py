"""Solvers: what stands in for ``H⁻¹ v``.

``SOLVERS`` names the defaults; add an entry to register another.
"""

from .base import Solver
from .cg import ConjugateGradient
from .datainf import DataInf
from .diagonal import Diagonal
from .direct import Direct
from .identity import Identity
from .kronecker import EKFAC, KFAC
from .lissa import LiSSA
from .low_rank import Arnoldi, Lanczos, Nystrom
from .system import System

__all__ = [
    "EKFAC",
    "KFAC",
    "SOLVERS",
    "Arnoldi",
    "ConjugateGradient",
    "DataInf",
    "Diagonal",
    "Direct",
    "Identity",
    "Lanczos",
    "LiSSA",
    "Nystrom",
    "Solver",
    "System",
    "resolve_solver",
]

#: Default solvers by name.
SOLVERS = {
    "direct": Direct,
    "system": System,
    "cg": ConjugateGradient,
    "kfac": KFAC,
    "ekfac": EKFAC,
    "diagonal": Diagonal,
    "lissa": LiSSA,
    "arnoldi": Arnoldi,
    "lanczos": Lanczos,
    "nystrom": Nystrom,
    "datainf": DataInf,
    "identity": Identity,
}


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
