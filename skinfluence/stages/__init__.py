"""Stages: what a removal does to the transformers before the last step.

``stage_for`` gives the stage of a fitted transformer; register another with
``@stage_for.register(MyTransformer)``.
"""

from . import (  # noqa: F401 (each registers its stages)
    compose,
    encoders,
    expansions,
    impute,
    kernels,
    power,
    projections,
    scalers,
    selectors,
    stacking,
)
from .base import Opaque, Stage, Stateless, stage_for
from .compose import Chain
from .numerical import numerical_stage

__all__ = [
    "Chain",
    "Opaque",
    "Stage",
    "Stateless",
    "numerical_stage",
    "stage_for",
]
