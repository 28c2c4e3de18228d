"""Imputation by a statistic of each column."""

import numpy as np
from sklearn.impute import MissingIndicator, SimpleImputer

from .base import Stage, Stateless, refitted, stage_for
from .order import Quantile


class NumericImputer(Stage):
    """``SimpleImputer`` on numbers: mean, median, most frequent value or a constant."""

    def _prepare(self):
        X = self._table(self.X)
        statistics = np.asarray(self.step.statistics_, dtype=float)
        self.kept = np.flatnonzero(~np.isnan(statistics))
        self.statistics = statistics[self.kept]
        self.values = X[:, self.kept]
        self.moving = self.step.strategy != "constant"
        self.rough = self.step.strategy in ("median", "most_frequent")
        self.n_params = len(self.kept) if self.moving else 0
        self.width = X.shape[1]

    def _table(self, X):
        X = np.array(X.toarray() if hasattr(X, "toarray") else X, dtype=object)
        missing = self.step.missing_values
        gone = X == missing if missing == missing else X != X  # NaN differs from itself
        X[gone.astype(bool)] = np.nan
        return X.astype(float)

    def derivatives(self, rows):
        """First order for a mean; exact, by lookup, for order statistics."""
        if self.step.strategy == "mean":
            return -self._centred(rows) / (~np.isnan(self.values)).sum(axis=0)
        return self.removals(rows)

    def removals(self, rows):
        """The statistic without each row, minus the statistic."""
        if not self.moving:
            return np.zeros((len(rows), 0))
        if self.step.strategy == "mean":
            left = np.maximum((~np.isnan(self.values)).sum(axis=0) - 1, 1)
            return -self._centred(rows) / left
        if self.step.strategy == "median":
            return Quantile(self.values, 0.5).without(rows) - self.statistics
        return self._modes(rows) - self.statistics

    def _centred(self, rows):
        return np.nan_to_num(self.values[rows] - self.statistics)

    def _modes(self, rows):
        """The most frequent value without each row: it changes only on a tie or near tie."""
        out = np.tile(self.statistics, (len(rows), 1))
        for j, column in enumerate(self.values.T):
            levels, counts = np.unique(column[~np.isnan(column)], return_counts=True)
            best = counts.max()
            rivals = levels[counts >= best - 1]
            rivals = rivals[rivals != self.statistics[j]]
            same = column[rows] == self.statistics[j]
            if len(rivals) == 0 or not same.any():
                continue
            level = counts[np.searchsorted(levels, rivals)]
            tied = rivals[level == best]
            # ties go to the smallest value: it is also the fitted one without a removal
            smaller = rivals[(level == best - 1) & (rivals < self.statistics[j])]
            change = tied if len(tied) else smaller
            if len(change):
                out[same, j] = change.min()
        return out

    def pull_params(self, X, C):
        """Where a value is missing."""
        if not self.moving:
            return np.zeros((len(C), 0))
        return np.where(np.isnan(self._table(X)[:, self.kept]), C[:, : len(self.kept)], 0.0)

    def pull_inputs(self, X, C):
        """Where a value is there."""
        out = np.zeros((len(C), self.width))
        out[:, self.kept] = np.where(
            np.isnan(self._table(X)[:, self.kept]), 0.0, C[:, : len(self.kept)]
        )
        return out

    def pull_fit(self, v):
        """Back to the observed values."""
        out = np.zeros((len(self.values), self.width))
        seen = ~np.isnan(self.values)
        if self.step.strategy == "mean":
            out[:, self.kept] = seen * (v / seen.sum(axis=0))
        elif self.step.strategy == "median":
            out[:, self.kept] = Quantile(self.values, 0.5).pull(v)
        else:
            rows = (self.values == self.statistics).argmax(axis=0)
            out[rows, self.kept] = v
        return out


class CategoryImputer(Stateless):
    """``SimpleImputer`` on categories: the most frequent one, or a constant, held fixed."""

    jumps = True

    def pull_inputs(self, X, C):
        """Categories have no derivative."""
        return np.zeros((len(C), X.shape[1]))

    def without(self, X, keep):
        """Refitted."""
        fitted = refitted(self, X, keep)
        return fitted.transform, fitted.transform(X)

    def flipped_rows(self):
        """Rows whose removal could change the most frequent category."""
        if self.step.strategy != "most_frequent":
            return np.empty(0, dtype=np.intp)
        table, out = np.asarray(self.X, dtype=object), []
        for column, fitted in zip(table.T, self.step.statistics_, strict=True):
            known = [str(value) for value in column if value == value and value is not None]
            _, counts = np.unique(known, return_counts=True)
            counts = np.sort(counts)[::-1]
            if len(counts) > 1 and counts[0] - counts[1] <= 1:
                out.append(np.flatnonzero([value == fitted for value in column]))
        return np.unique(np.concatenate(out)) if out else np.empty(0, dtype=np.intp)


@stage_for.register(SimpleImputer)
def simple_imputer_stage(step, X, y=None, sample_weight=None):
    """By what the columns hold: numbers or categories."""
    try:
        np.asarray(step.statistics_, dtype=float)
    except (TypeError, ValueError):
        return CategoryImputer(step, X, y)
    return NumericImputer(step, X, y)


@stage_for.register(MissingIndicator)
class MissingIndicatorStage(Stateless):
    """Which values are missing: no derivative."""

    def pull_inputs(self, X, C):
        """Zero."""
        return np.zeros((len(C), X.shape[1]))
