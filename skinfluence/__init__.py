"""Influence functions for scikit-learn and skorch models: which rows did this?"""

from .explainer import InfluenceExplainer

__version__ = "0.1.0"

__all__ = ["InfluenceExplainer", "__version__"]
