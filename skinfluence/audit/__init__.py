"""Audit the labels of a table: the command ``skinfluence audit`` and its HTML report."""

from .engine import audit_table
from .result import Audit, Neighbour, Suspect

__all__ = ["Audit", "Neighbour", "Suspect", "audit_table"]
