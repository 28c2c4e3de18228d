"""Mislabelled rows: find them, say why, train without them."""

from .cleaned import CleanedClassifier, CleanedRegressor
from .detector import MislabelDetector
from .folds import refit_in_folds
from .held_out import HeldOut, HoldOut
from .out_of_sample import hold_out, out_of_sample
from .verdict import Member

__all__ = [
    "CleanedClassifier",
    "CleanedRegressor",
    "HeldOut",
    "HoldOut",
    "Member",
    "MislabelDetector",
    "hold_out",
    "out_of_sample",
    "refit_in_folds",
]
