"""Standard errors, intervals and reweighting by the infinitesimal jackknife."""

from ._ensembles import bagging_variance
from ._jackknife import InfinitesimalJackknife

__all__ = ["InfinitesimalJackknife", "bagging_variance"]
