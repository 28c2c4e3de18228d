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

__all__ = [
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
    "ridge",
    "stochastic",
]
