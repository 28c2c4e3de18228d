"""Objectives: what an estimator minimised. Importing this registers every supported model."""

from . import (  # noqa: F401 (each registers its objectives)
    gaussian,
    generalised,
    huber,
    kernel,
    lasso,
    linear_svm,
    logistic,
    multi_task,
    neighbors,
    one_vs_rest,
    ridge,
    smoother,
    stochastic,
    wrappers,
)
from .base import Objective, Queries, objective_for
from .nets import LastLayer, Net, resolve_objective

__all__ = [
    "LastLayer",
    "Net",
    "Objective",
    "Queries",
    "objective_for",
    "resolve_objective",
]
