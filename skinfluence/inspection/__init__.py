"""Displays, in the way of ``sklearn.inspection``; matplotlib is imported when they plot."""

from ._intervals import IntervalDisplay
from ._leave_one_out import InfluencePathDisplay, LeaveOneOutDisplay

__all__ = ["InfluencePathDisplay", "IntervalDisplay", "LeaveOneOutDisplay"]
