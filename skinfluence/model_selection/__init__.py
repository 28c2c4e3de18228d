"""Cross-validation without refits, with the signatures of ``sklearn.model_selection``."""

from ._search import InfluenceSearchCV
from ._validation import cross_val_predict, cross_val_score, cross_validate

__all__ = ["InfluenceSearchCV", "cross_val_predict", "cross_val_score", "cross_validate"]
