"""Objectives: what an estimator minimised. Importing this registers every supported model."""

from . import logistic, one_vs_rest, ridge
from .base import Objective, Queries, objective_for
from .nets import LastLayer, Net, resolve_objective

__all__ = [
    "LastLayer",
    "Net",
    "Objective",
    "Queries",
    "logistic",
    "objective_for",
    "one_vs_rest",
    "resolve_objective",
    "ridge",
]
