"""Steps that expand columns: functions, polynomials, splines, bins."""

import numpy as np
from sklearn.base import clone
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    PolynomialFeatures,
    SplineTransformer,
)

from .base import Opaque, Stage, Stateless, numeric, refitted, stage_for
from .numerical import input_slopes
from .order import Quantile


@stage_for.register(FunctionTransformer)
class FunctionStage(Stateless):
    """A function of the rows; its derivative is numerical, a column at a time."""

    flat = False

    def pull_inputs(self, X, C):
        """Central differences; the identity where there is no function."""
        if self.step.func is None:
            return C
        return input_slopes(self.transform, numeric(X), C)


@stage_for.register(str)
def passthrough_stage(step, X, y=None, sample_weight=None):
    """The word "passthrough"."""
    return stage_for(FunctionTransformer().fit(X), X)


@stage_for.register(PolynomialFeatures)
class PolynomialStage(Stateless):
    """Products of powers of the columns."""

    def pull_inputs(self, X, C):
        """Derivative of each monomial."""
        X, powers = numeric(X), self.step.powers_
        out = np.zeros(X.shape)
        for column in range(X.shape[1]):
            use = np.flatnonzero(powers[:, column])
            lower = powers[use].copy()
            lower[:, column] -= 1
            terms = np.ones((len(X), len(use)))
            for j in np.flatnonzero(lower.any(axis=0)):
                terms *= X[:, [j]] ** lower[:, j]
            out[:, column] = (C[:, use] * terms) @ powers[use, column]
        return out


class SplineStage(Stage):
    """B-splines whose knots lie at quantiles or between the extremes; ``η`` holds the knots."""

    flat = False
    rough = True

    def _prepare(self):
        step, X = self.step, numeric(self.X)
        self.n_knots, self.d = step.n_knots, X.shape[1]
        self.n_params = self.n_knots * self.d
        levels = np.linspace(0, 1, self.n_knots)
        self.even = step.knots == "uniform"
        self.quantiles = [Quantile(X, q) for q in ((0.0, 1.0) if self.even else levels)]
        self.knots = self._from(np.array([q.value for q in self.quantiles]))
        self._slopes = None

    def _from(self, values):
        """Knots (n_knots, ..., d) from the quantiles."""
        if not self.even:
            return values
        share = np.linspace(0, 1, self.n_knots).reshape(-1, *[1] * (values.ndim - 1))
        return values[0] + share * (values[1] - values[0])

    def derivatives(self, rows):
        """Exact knots, by lookup."""
        moved = self._from(np.array([q.without(rows) for q in self.quantiles]))
        return (moved - self.knots[:, None]).transpose(1, 0, 2).reshape(len(rows), -1)

    def _at(self, knots, X):
        return clone(self.step).set_params(knots=knots).fit(X).transform(X)

    def _knot_slopes(self, X):
        """Derivative of the output in every knot, by central differences."""
        spans = self.knots[-1] - self.knots[0]
        slopes = []
        for k in range(self.n_knots):
            for j in range(self.d):
                h = 1e-6 * spans[j]
                up, down = self.knots.copy(), self.knots.copy()
                up[k, j] += h
                down[k, j] -= h
                change = numeric(self._at(up, X)) - numeric(self._at(down, X))
                slopes.append(change / (2 * h))
        return slopes

    def pull_params(self, X, C):
        """By numerical derivatives in the knots."""
        X = numeric(X)
        return np.stack([(slope * C).sum(axis=1) for slope in self._knot_slopes(X)], axis=1)

    def pull_sum(self, C):
        """With the training rows' derivatives made once."""
        if self._slopes is None:
            self._slopes = self._knot_slopes(numeric(self.X))
        return np.array([(slope * C).sum() for slope in self._slopes])

    def pull_inputs(self, X, C):
        """By numerical derivatives in the rows."""
        return input_slopes(self.transform, numeric(X), C)

    def pull_fit(self, v):
        """To the rows at the quantiles."""
        v = v.reshape(self.n_knots, self.d)
        if self.even:
            share = np.linspace(0, 1, self.n_knots)[:, None]
            parts = [((1 - share) * v).sum(axis=0), (share * v).sum(axis=0)]
        else:
            parts = list(v)
        return sum(q.pull(part) for q, part in zip(self.quantiles, parts, strict=True))


@stage_for.register(SplineTransformer)
def spline_stage(step, X, y=None, sample_weight=None):
    """Knots from the data, unweighted; given knots do not move."""
    if sample_weight is not None:
        return Opaque(step, X, y, sample_weight, "weighted knots are not followed")
    return SplineStage(step, X, y) if isinstance(step.knots, str) else GivenSpline(step, X, y)


class GivenSpline(Stateless):
    """B-splines at given knots."""

    flat = False

    def pull_inputs(self, X, C):
        """By numerical derivatives in the rows."""
        return input_slopes(self.transform, numeric(X), C)


@stage_for.register(KBinsDiscretizer)
class BinsStage(Stateless):
    """Bins: the output is constant in the edges, except where a row crosses one.

    The derivative is zero almost everywhere; a removal that moves an edge across rows is a jump
    that only ``method="exact"`` sees.
    """

    jumps = True

    def pull_inputs(self, X, C):
        """Zero almost everywhere."""
        return np.zeros((len(C), X.shape[1]))

    def without(self, X, keep):
        """Refitted."""
        fitted = refitted(self, X, keep)
        return fitted.transform, fitted.transform(X)
