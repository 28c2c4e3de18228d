"""Mislabelled rows: find them, say why, train without them."""

from .cleaned import CleanedClassifier, CleanedRegressor
from .detector import MislabelDetector
from .out_of_sample import HeldOut, HoldOut, hold_out, out_of_sample, refit_in_folds
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
