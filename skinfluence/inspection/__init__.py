"""Displays, in the way of ``sklearn.inspection``; matplotlib is imported when they plot."""

from ._intervals import IntervalDisplay
from ._leave_one_out import InfluencePathDisplay, LeaveOneOutDisplay
from .detection_curve import DetectionCurveDisplay
from .label_quality import LabelQualityDisplay
from .memorization import MemorizationDisplay
from .removal_curve import RemovalCurveDisplay
from .top_influence import TopInfluenceDisplay

__all__ = [
    "DetectionCurveDisplay",
    "InfluencePathDisplay",
    "IntervalDisplay",
    "LabelQualityDisplay",
    "LeaveOneOutDisplay",
    "MemorizationDisplay",
    "RemovalCurveDisplay",
    "TopInfluenceDisplay",
]
