"""How good influences are: against retrained models, and at finding what was broken on purpose."""

from .datamodels import linear_datamodeling_score
from .labels import flipped_label_score
from .removal import brittleness, leave_out_score
from .retraining import prediction_loss

__all__ = [
    "brittleness",
    "flipped_label_score",
    "leave_out_score",
    "linear_datamodeling_score",
    "prediction_loss",
]
