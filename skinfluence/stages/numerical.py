"""Derivatives by finite differences, for steps that ask for them by name."""

import numpy as np
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from .base import Stage, numeric, refitted


def input_slopes(function, X, C):
    """``C`` pulled back through ``function`` by central differences, a column at a time."""
    out = np.empty(X.shape)
    sizes = 1e-6 * np.maximum(np.nanstd(X, axis=0), 1e-3 * np.nanmax(np.abs(X), axis=0) + 1e-12)
    for column, h in enumerate(sizes):
        up, down = X.copy(), X.copy()
        up[:, column] += h
        down[:, column] -= h
        change = numeric(function(up)) - numeric(function(down))
        out[:, column] = (C * change).sum(axis=1) / (2 * h)
    return out


def numerical_stage(*attributes):
    """A stage by finite differences, to be registered by name for a transformer of one's own.

    The fitted numbers in ``attributes`` are its parameters ``η``. Their change when a row goes is
    found by refitting the transformer alone without it; the rest by differences of its
    ``transform``. It has to be the first step that moves: what ``η`` owes to earlier steps is not
    followed.

    Parameters
    ----------
    *attributes : str
        Names of the fitted float arrays that ``transform`` uses, such as ``"mean_"``.

    Returns
    -------
    type
        A :class:`~skinfluence.stages.Stage` class for ``stage_for.register``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator, TransformerMixin
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.stages import numerical_stage, stage_for
    >>> class Centre(TransformerMixin, BaseEstimator):
    ...     def fit(self, X, y=None):
    ...         self.centre_ = np.mean(X, axis=0)
    ...         return self
    ...     def transform(self, X):
    ...         return X - self.centre_
    >>> _ = stage_for.register(Centre, numerical_stage("centre_"))
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = make_pipeline(Centre(), Ridge())
    >>> explainer = InfluenceExplainer(model, preprocessing="refit").fit(X[:60], y[:60])
    >>> explainer.transform(X[60:62], y[60:62]).shape
    (2, 60)
    """
    return type("NumericalStage", (_Numerical,), {"attributes": attributes})


class _Numerical(Stage):
    attributes = ()
    rough = True

    def _prepare(self):
        if not self.attributes:
            raise ValueError("numerical_stage needs the names of the fitted arrays")
        self.eta = self._read(self.step)
        self.n_params = len(self.eta)
        self._kept = {}

    def _read(self, step):
        parts = [np.ravel(np.asarray(getattr(step, name), float)) for name in self.attributes]
        return np.concatenate(parts)

    def _at(self, eta):
        moved, start = clone(self.step), 0
        moved.__dict__.update(self.step.__dict__)
        for name in self.attributes:
            value = np.asarray(getattr(self.step, name), dtype=float)
            piece = eta[start : start + value.size].reshape(value.shape)
            setattr(moved, name, piece if value.ndim else float(piece))
            start += value.size
        return moved

    def derivatives(self, rows):
        """Refits of the step alone."""
        for i in map(int, rows):
            if i not in self._kept:
                keep = np.delete(np.arange(self.X.shape[0]), i)
                self._kept[i] = (
                    self._read(refitted(self, _safe_indexing(self.X, keep), keep)) - self.eta
                )
        return np.array([self._kept[int(i)] for i in rows])

    def pull_params(self, X, C):
        """Central differences in every number."""
        out = np.empty((len(C), self.n_params))
        for a, value in enumerate(self.eta):
            h = 1e-6 * max(1e-3, abs(value))
            sides = []
            for sign in (1, -1):
                eta = self.eta.copy()
                eta[a] += sign * h
                sides.append(numeric(self._at(eta).transform(X)))
            out[:, a] = (C * (sides[0] - sides[1])).sum(axis=1) / (2 * h)
        return out

    def pull_inputs(self, X, C):
        """Central differences in every column."""
        return input_slopes(self.transform, numeric(X), C)

    def pull_fit(self, v):
        """Refused: a fit has too many inputs for differences."""
        raise ValueError(
            f"{type(self.step).__name__} has a numerical stage, which does not follow steps "
            "before it; put it first, or register a Stage of its own with pull_fit"
        )
