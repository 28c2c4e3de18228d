"""Influence functions for scikit-learn and skorch models: which rows did this?"""

from ._config import config_context, get_config, set_config
from ._most_influential import InfluentialSet
from ._unlearn import Unlearned
from .embedding import InfluenceEmbedding
from .ensemble import EnsembleExplainer
from .explainer import InfluenceExplainer
from .multi_stage import MultiStageInfluence
from .selection import InfluenceSelector
from .store import GradientStore
from .valuation import value_rows

__version__ = "0.1.0"

__all__ = [
    "EnsembleExplainer",
    "GradientStore",
    "InfluenceEmbedding",
    "InfluenceExplainer",
    "InfluenceSelector",
    "InfluentialSet",
    "MultiStageInfluence",
    "Unlearned",
    "__version__",
    "config_context",
    "get_config",
    "set_config",
    "value_rows",
]
