"""Fine-tuning: models that start from, or are held near, a model of other data.

:class:`~skinfluence.MultiStageInfluence` explains them by the rows of that other data.
"""

from .nets import FineTunedMixin
from .priors import PriorLogisticRegression, PriorRidge

__all__ = ["FineTunedMixin", "PriorLogisticRegression", "PriorRidge"]
