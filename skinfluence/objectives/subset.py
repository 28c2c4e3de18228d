"""An objective over some of the rows, seen from all of them."""

import numpy as np

from ..gradients import Rows
from .base import Objective


class SubsetObjective(Objective):
    """A part fitted on the rows ``members``; the other rows have no effect on it.

    Parameters
    ----------
    part : Objective
        Over the member rows.
    members : ndarray of int
    X : ndarray or sparse of shape (n, n_features)
        All rows.
    """

    def __init__(self, part, members, X):
        self.part, self.members, self.X = part, members, X
        self.n_rows = X.shape[0]
        self.place = np.full(self.n_rows, -1, dtype=np.intp)
        self.place[members] = np.arange(len(members))
        for name in ("n_params", "n_outputs", "n_blocks", "theta", "head", "strictly_convex"):
            setattr(self, name, getattr(part, name))
        self.gradient_norm = part.gradient_norm
        self.gradient_norm_fitted = part.gradient_norm_fitted
        self.parameter_names = part.parameter_names
        # what the part offers its solver, and how it is read: all of it the part's own
        for name in (
            "default_solver",
            "default_method",
            "quadratic_blocks",
            "factorise_blocks",
            "factorise_system",
            "hessian",
            "hessian_product",
            "penalty",
            "restricted",
            "queries",
            "read_parameters",
            "read_outputs",
            "public_parameters",
        ):
            if hasattr(part, name):
                setattr(self, name, getattr(part, name))

    def removal_gradients(self):
        """Those of the part; zero for the other rows."""
        return SubsetRows(self.part.removal_gradients(), self.place)

    def training_queries(self, rows):
        """Training rows, members or not, as queries."""
        return self.part.queries(self.X[rows])


class SubsetRows(Rows):
    """Rows of a part, and zeros."""

    def __init__(self, rows, place):
        self.rows, self.place = rows, place
        self.shape = (len(place), rows.shape[1])

    def block(self, rows):
        """Dense rows."""
        place = self.place[rows]
        out = np.zeros((len(place), self.shape[1]))
        inside = place >= 0
        out[inside] = self.rows.block(place[inside])
        return out
