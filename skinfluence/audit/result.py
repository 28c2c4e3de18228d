"""What an audit found, as plain data."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass
class Neighbour:
    """A row that speaks for or against a suspect's label.

    Attributes
    ----------
    row : int
        Position among the audited rows.
    name : str
        Its identifier.
    label : object
    influence : float
        Change of the suspect's loss had this row not been there.
    """

    row: int
    name: str
    label: Any
    influence: float


@dataclass
class Suspect:
    """A row whose label or target is doubted.

    Attributes
    ----------
    row, name
        Position and identifier.
    label, suggested
        Given, and likelier.
    quality : float
        In [0, 1], low is bad.
    probability, suggested_probability : float
        Held-out probabilities of both labels; NaN in regression.
    flagged : bool
    values : dict
        Its cells.
    supports, contradicts : list of Neighbour
    """

    row: int
    name: str
    label: Any
    suggested: Any
    quality: float
    probability: float
    suggested_probability: float
    flagged: bool
    values: dict
    supports: list = field(default_factory=list)
    contradicts: list = field(default_factory=list)


@dataclass
class Audit:
    """Everything an audit found; the command line and the report only show it."""

    source: str
    target: str
    task: str
    n_rows: int
    n_features: int
    contamination: float
    n_flagged: int
    members: list  # (name, how, weight)
    suspects: list
    driving: list  # (name, label, self-influence)
    scores: dict  # measure, fitted, left out
    findings: list
    flagged_rows: np.ndarray  # positions, most suspect first
    flagged_suggestions: np.ndarray
    qualities: np.ndarray
    quality_by_class: dict  # label: (rows, flagged, mean quality)
    classes: list | None
    noise_matrix: np.ndarray | None
    removal: dict  # loss, loss_without
    curve: tuple | None  # (rows looked at, wrong labels found, average precision)

    def as_dict(self):
        """For JSON: numpy values become Python's, arrays become lists."""
        skipped = ("qualities",)
        return {k: plain(v) for k, v in asdict(self).items() if k not in skipped}


def plain(value):
    """JSON-ready value; NaN becomes None."""
    if isinstance(value, dict):
        return {str(plain(k)): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
