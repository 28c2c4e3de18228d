"""Objectives: what an estimator minimised. Importing this registers every supported model."""

from . import (
    generalised,
    huber,
    lasso,
    linear_svm,
    logistic,
    multi_task,
    one_vs_rest,
    ridge,
    stochastic,
)
from .base import Objective, Queries, objective_for
from .nets import LastLayer, Net, resolve_objective

__all__ = [
    "LastLayer",
    "Net",
    "Objective",
    "Queries",
    "generalised",
    "huber",
    "lasso",
    "linear_svm",
    "logistic",
    "multi_task",
    "objective_for",
    "one_vs_rest",
    "resolve_objective",
    "ridge",
    "stochastic",
]
