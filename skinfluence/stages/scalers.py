"""Scalers: means and variances, ranges, quantiles, and rows scaled to unit norm."""

import numpy as np
from scipy.special import ndtri
from sklearn.preprocessing import (
    Binarizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)

from .base import Opaque, Stage, Stateless, numeric, stage_for
from .order import Quantile
from .products import Products


class ColumnWise(Stage):
    """A step in which ``η`` holds some numbers a column, one array after the other."""

    def pull_columns(self, r):
        """A column's numbers are touched by its own output only."""
        width = self.outputs.shape[1]
        totals = self.pull_sum(np.broadcast_to(r[:, None], (len(r), width)))
        return np.hstack([np.diag(part) for part in totals.reshape(-1, width)])


@stage_for.register(StandardScaler)
class StandardScalerStage(ColumnWise):
    """``z = (x - μ) / s`` with ``μ, s`` over the values that are not missing."""

    takes_products = True

    def _prepare(self):
        step, X = self.step, numeric(self.X)
        weight = np.ones(len(X)) if self.sample_weight is None else self.sample_weight
        seen = ~np.isnan(X)
        self.holes = not seen.all()
        self.shares = np.where(seen, weight[:, None], 0.0) / (weight @ seen)
        self.with_mean, self.with_std = step.with_mean, step.with_std
        d = X.shape[1]
        mean = np.nansum(self.shares * X, axis=0) if step.mean_ is None else step.mean_
        self.centred = np.where(seen, X - mean, 0.0)
        self.variance = (self.shares * self.centred**2).sum(axis=0)
        self.scale = np.ones(d) if step.scale_ is None else step.scale_
        self.centre = step.mean_ if step.with_mean else np.zeros(d)
        # a constant column is not scaled, and its scale stays at one
        self.moves = self.variance > 10 * np.finfo(float).eps * (self.variance + mean**2)
        self.n_params = d * (step.with_mean + step.with_std)

    def _stack(self, mean, scale):
        parts = [mean] * self.with_mean + [scale * self.moves] * self.with_std
        return np.concatenate(parts, axis=-1) if parts else np.zeros((*mean.shape[:-1], 0))

    def derivatives(self, rows):
        """``-(x - μ) / W`` and ``-((x - μ)² - s²) / (2 s W)``."""
        share, centred = self.shares[rows], self.centred[rows]
        return self._stack(
            -share * centred, -share * (centred**2 - self.variance) / (2 * self.scale)
        )

    def removals(self, rows):
        """Downdated mean and standard deviation."""
        share, centred = self.shares[rows], self.centred[rows]
        left = 1 - share
        variance = self.variance - share * centred**2 / np.maximum(left, 1e-300)
        variance = np.maximum(variance / np.maximum(left, 1e-300), 0.0)
        variance = np.where(variance > 1e-13 * self.variance, variance, 1.0)
        return self._stack(-share * centred / left, np.sqrt(variance) - self.scale)

    def pull_params(self, X, C):
        """``-c / s`` and ``-c z / s``."""
        X = numeric(X)
        seen = ~np.isnan(X)
        C = np.where(seen, C, 0.0) / self.scale
        return self._stack(-C, -C * np.where(seen, X - self.centre, 0.0) / self.scale)

    def pull_sum(self, C):
        """Over the training rows, without an array of their parameters."""
        if isinstance(C, Products):
            return self._product_sum(C)
        C = np.where(np.isnan(numeric(self.X)), 0.0, C) / self.scale
        rows = self.centred if self.with_mean else np.nan_to_num(numeric(self.X))
        return self._stack(-C.sum(axis=0), -np.einsum("ij,ij->j", C, rows) / self.scale)

    def _product_sum(self, C):
        """The same from products with the rows handed on, each left side met once."""
        rows = self.outputs
        plain = type(rows) is np.ndarray and rows.dtype == np.float64
        if self.holes or not plain:
            return self.pull_sum(C.dense())
        sums, moments = C.sums(rows)
        return self._stack(-sums / self.scale, -moments / self.scale)

    def pull_training(self, C):
        """``c / s``."""
        if isinstance(C, Products):
            return C.scaled(1 / self.scale)
        return C / self.scale

    def pull_inputs(self, X, C):
        """``c / s``."""
        return C / self.scale

    def pull_fit(self, v):
        """Back to every row: each has its share in mean and variance."""
        d = self.X.shape[1]
        out = self.shares * v[:d] if self.with_mean else 0.0
        if not self.with_std:
            return out
        return out + self.shares * self.centred * (v[-d:] * self.moves / self.scale)


class Affine(ColumnWise):
    """``z = (x - a) / b`` with ``a, b`` linear in quantiles of the columns.

    Quantiles are order statistics: their derivative in a weight is zero or undefined, so that a
    removal is followed exactly, by looking up the neighbouring order statistics.
    """

    rough = True

    def _prepare(self):
        X = numeric(self.X)
        self.quantiles = [Quantile(X, q) for q in self._levels()]
        self.width = X.shape[1]
        self.n_params = 2 * self.width
        self.centre, self.scale = self._from(np.array([q.value for q in self.quantiles]))

    def _levels(self):
        raise NotImplementedError

    def _from(self, values):
        """``a, b`` from quantiles of shape (n_levels, ..., d)."""
        raise NotImplementedError

    def derivatives(self, rows):
        """Exact, by lookup."""
        values = np.array([q.without(rows) for q in self.quantiles])
        centre, scale = self._from(values)
        return np.hstack([centre - self.centre, scale - self.scale])

    def pull_params(self, X, C):
        """``-c / b`` and ``-c z / b``."""
        X = numeric(X)
        C = self._inside(X, C) / self.scale
        C = np.where(np.isnan(X), 0.0, C)
        return np.hstack([-C, -C * np.nan_to_num((X - self.centre) / self.scale)])

    def pull_inputs(self, X, C):
        """``c / b``."""
        return self._inside(numeric(X), C) / self.scale

    def pull_fit(self, v):
        """Back to the rows at the order statistics."""
        centre, scale = v[: self.width], v[self.width :]
        out, base = 0.0, np.array([q.value for q in self.quantiles])
        for k, quantile in enumerate(self.quantiles):
            moved, h = base.copy(), 1e-6 * self.scale  # linear up to there
            moved[k] += h
            a, b = self._from(moved)
            slope = (centre * (a - self.centre) + scale * (b - self.scale)) / h
            out = out + quantile.pull(slope)
        return out

    def _inside(self, X, C):
        return C


@stage_for.register(MinMaxScaler)
class MinMaxScalerStage(Affine):
    """Range of the columns."""

    def _levels(self):
        return [0.0, 1.0]

    def _from(self, values):
        low, high = self.step.feature_range
        span = np.where(values[1] > values[0], values[1] - values[0], 1.0) / (high - low)
        return values[0] - low * span, span

    def _inside(self, X, C):
        if not self.step.clip:
            return C
        low, high = self.step.feature_range
        Z = (X - self.centre) / self.scale
        return np.where((Z > low) & (Z < high), C, 0.0)


@stage_for.register(MaxAbsScaler)
class MaxAbsScalerStage(Affine):
    """Largest absolute value of the columns."""

    def _levels(self):
        return [0.0, 1.0]

    def _from(self, values):
        top = np.maximum(-values[0], values[1])
        return np.zeros_like(top), np.where(top > 0, top, 1.0)

    def _inside(self, X, C):
        return C


class RobustScalerStage(Affine):
    """Median and quantile range of the columns."""

    def _levels(self):
        low, high = self.step.quantile_range
        return [0.5, low / 100, high / 100]

    def _from(self, values):
        step = self.step
        centre = values[0] if step.with_centering else np.zeros_like(values[0])
        if not step.with_scaling:
            return centre, np.ones_like(centre)
        scale = np.where(values[2] > values[1], values[2] - values[1], 1.0)
        if step.unit_variance:
            low, high = step.quantile_range
            scale = scale / (ndtri(high / 100) - ndtri(low / 100))
        return centre, scale


@stage_for.register(RobustScaler)
def robust_scaler_stage(step, X, y=None, sample_weight=None):
    """Order statistics, unweighted."""
    if sample_weight is not None:
        return Opaque(step, X, y, sample_weight, "weighted quantiles are not followed")
    return RobustScalerStage(step, X, y)


@stage_for.register(Normalizer)
class NormalizerStage(Stateless):
    """Rows divided by their norm."""

    def pull_inputs(self, X, C):
        """Derivative of ``x / ‖x‖``."""
        X = numeric(X)
        kind = self.step.norm
        if kind == "l2":
            norm, slope = np.linalg.norm(X, axis=1, keepdims=True), None
            norm = np.where(norm > 0, norm, 1.0)
            slope = X / norm
        elif kind == "l1":
            norm, slope = np.abs(X).sum(axis=1, keepdims=True), np.sign(X)
        else:
            norm, top = np.abs(X).max(axis=1, keepdims=True), np.abs(X).argmax(axis=1)
            slope = np.zeros_like(X)
            index = np.arange(len(X))
            slope[index, top] = np.sign(X[index, top])
        norm = np.where(norm > 0, norm, 1.0)
        return (C - slope * ((C * X).sum(axis=1, keepdims=True) / norm)) / norm


@stage_for.register(Binarizer)
class BinarizerStage(Stateless):
    """A threshold: constant on both sides."""

    def pull_inputs(self, X, C):
        """Zero almost everywhere."""
        return np.zeros((len(C), X.shape[1]))
