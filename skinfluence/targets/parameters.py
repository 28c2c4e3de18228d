"""Targets that are no function of outputs: one parameter of the model."""

import difflib
from numbers import Integral

import numpy as np

from ..objectives.base import Queries
from .base import BoundTarget, Target


class Parameter(Target):
    """One parameter of the model, such as a coefficient: a scalar, in the units of the attribute.

    The queries play no part in it.

    Parameters
    ----------
    name : str or int
        One of ``objective_.parameter_names``, or its position there.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.targets import Parameter
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> explainer = InfluenceExplainer(Ridge(), target=Parameter("bmi")).fit(X, y)
    >>> explainer.transform(X[:1]).shape
    (1, 442)
    """

    scalar = True

    def __init__(self, name):
        self.name = name

    def bind(self, objective, X, y):
        """The parameter as if it were the output of one query."""
        head = getattr(objective, "head", None)
        return BoundTarget(self, head, ParameterQueries(objective, self._index(objective)), None)

    def bind_queries(self, objective, queries, y):
        """Refused: a row about itself has no parameter."""
        raise ValueError("Parameter is a scalar of the model, not of one row")

    def context(self, head, Z, y):
        """None."""
        return ()

    def value(self, head, Z):
        """The parameter: Z of shape (1, 1), or (1, b, 1) for several removals."""
        return Z[0, ..., 0]

    def gradient(self, head, Z):
        """One."""
        return np.ones_like(Z)

    def change(self, head, Z, dZ):
        """The change itself."""
        return dZ[0, ..., 0]

    def _index(self, objective):
        names = list(getattr(objective, "parameter_names", []))
        if not names:
            raise TypeError(
                f"target Parameter needs a model with parameters; {type(objective).__name__} has "
                "none"
            )
        if isinstance(self.name, Integral) and not isinstance(self.name, bool):
            if not 0 <= self.name < len(names):
                raise ValueError(f"name={self.name} is not one of the {len(names)} parameters")
            return int(self.name)
        if self.name not in names:
            close = difflib.get_close_matches(str(self.name), names[:10_000], n=5) or names[:5]
            raise ValueError(
                f"name={self.name!r} is not one of the {len(names)} parameters "
                f"(objective_.parameter_names), such as {close}"
            )
        if names.count(self.name) > 1:
            raise ValueError(f"several parameters are called {self.name!r}: pass a position")
        return names.index(self.name)


class ParameterQueries(Queries):
    """One parameter as the only output of a single query."""

    def __init__(self, objective, index):
        self.objective, self.index = objective, index
        self.outputs = self._public(objective.theta[None])[:, None]

    def _public(self, delta):
        return self.objective.public_parameters(delta)[:, self.index]

    def pullback(self, C):
        """Row of the (linear) map from parameters to public ones."""
        probe = np.zeros((1, self.objective.n_params))
        if self.objective.public_parameters(probe) is probe:  # the map is the identity
            probe[0, self.index] = 1.0
            return C * probe
        rows = np.zeros(self.objective.n_params)
        for j in range(len(rows)):
            probe[0, j] = 1.0
            rows[j] = self._public(probe)[0]
            probe[0, j] = 0.0
        return C * rows

    def moved(self, effects, rows):
        """By what the method says of parameters."""
        return self.changes(effects.parameters(rows))

    def joint_moved(self, effects, groups):
        """By what the method says of parameters."""
        return self.changes(effects.joint_parameters(groups))

    def changes(self, delta):
        """In public units: (1, b, 1)."""
        return self._public(delta)[None, :, None]
