"""Transformers fitted with row weights, written from their definitions: oracles of the stages."""

import numpy as np
from scipy.optimize import brentq
from sklearn.base import clone
from sklearn.model_selection import KFold


class Step:
    """Base class: ``fit(X, y, w)`` and ``transform``; ``training`` where that differs."""

    def fit(self, X, y, w):
        return self

    def training(self, X):
        return self.transform(X)


class Fixed(Step):
    """A fitted scikit-learn step that weights do not move."""

    def __init__(self, step):
        self.step = step

    def transform(self, X):
        out = self.step.transform(X)
        return out.toarray() if hasattr(out, "toarray") else np.asarray(out)


class Scaler(Step):
    """Weighted mean and standard deviation, missing values left out."""

    def __init__(self, mean=True, std=True):
        self.options = mean, std

    def fit(self, X, y, w):
        seen = ~np.isnan(X)
        total = w @ seen
        mean = (w @ np.where(seen, X, 0.0)) / total
        self.scale = np.sqrt(w @ np.where(seen, X - mean, 0.0) ** 2 / total)
        self.mean = mean if self.options[0] else 0.0
        self.scale = self.scale if self.options[1] else 1.0
        return self

    def transform(self, X):
        return (X - self.mean) / self.scale


class MeanImputer(Step):
    """Weighted mean of what is there."""

    def fit(self, X, y, w):
        seen = ~np.isnan(X)
        self.mean = (w @ np.where(seen, X, 0.0)) / (w @ seen)
        return self

    def transform(self, X):
        return np.where(np.isnan(X), self.mean, X)


class Components(Step):
    """Leading eigenvectors of the weighted covariance (or of the raw cross products)."""

    def __init__(self, k, centred=True, whiten=False):
        self.k, self.centred, self.whiten = k, centred, whiten

    def fit(self, X, y, w):
        self.mean = w @ X / w.sum() if self.centred else np.zeros(X.shape[1])
        Xc = X - self.mean
        values, vectors = np.linalg.eigh((Xc * w[:, None]).T @ Xc)
        vectors = vectors[:, ::-1][:, : self.k]
        signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(self.k)])
        self.vectors = vectors * signs
        if self.whiten:
            self.vectors = self.vectors / np.sqrt(values[::-1][: self.k] / (w.sum() - 1))
        return self

    def transform(self, X):
        return (X - self.mean) @ self.vectors


class TargetMeans(Step):
    """Smoothed weighted means of ``y`` by category, cross-fitted on given folds."""

    def __init__(self, n_categories, smooth, cv):
        self.n_categories, self.smooth, self.cv = n_categories, smooth, cv

    def encodings(self, column, y, w, size):
        total = w.sum()
        mean = w @ y / total
        n, s = np.bincount(column, w, size), np.bincount(column, w * y, size)
        if self.smooth != "auto":
            return (s + self.smooth * mean) / (n + self.smooth)
        variance = w @ (y - mean) ** 2 / total
        spread = np.bincount(column, w * (y - (s / n)[column]) ** 2, size)
        share = variance * n / (variance * n + spread / n)
        return share * s / n + (1 - share) * mean

    def fit(self, X, y, w):
        codes = X.astype(int)
        self.sets = [
            self.encodings(column, y, w, size)
            for column, size in zip(codes.T, self.n_categories, strict=True)
        ]
        self.trained = np.empty(X.shape)
        for fit, test in self.cv.split(codes, y):
            for j, size in enumerate(self.n_categories):
                table = self.encodings(codes[fit, j], y[fit], w[fit], size)
                self.trained[test, j] = table[codes[test, j]]
        return self

    def transform(self, X):
        columns = zip(self.sets, X.astype(int).T, strict=True)
        return np.column_stack([table[column] for table, column in columns])

    def training(self, X):
        return self.trained


class Power(Step):
    """Yeo-Johnson powers at the weighted maximum of the likelihood, then standardised."""

    def __init__(self, start):
        self.start = start

    def score(self, power, x, w):
        def value(p):
            moved = self.power(x, p)
            mean = w @ moved / w.sum()
            jacobian = w @ (np.sign(x) * np.log1p(np.abs(x)))
            spread = w @ (moved - mean) ** 2 / w.sum()
            return -w.sum() / 2 * np.log(spread) + (p - 1) * jacobian

        h = 1e-4
        first = (value(power + h) - value(power - h)) / (2 * h)
        second = (value(power + 2 * h) - value(power - 2 * h)) / (4 * h)
        return (4 * first - second) / 3

    @staticmethod
    def power(x, p):
        up, down = np.maximum(x, 0.0), np.maximum(-x, 0.0)
        return ((up + 1) ** p - 1) / p - ((down + 1) ** (2 - p) - 1) / (2 - p)

    def fit(self, X, y, w):
        self.powers = [
            brentq(self.score, p - 0.05, p + 0.05, args=(x, w), xtol=1e-13)
            for p, x in zip(self.start, X.T, strict=True)
        ]
        self.scaler = Scaler().fit(self._moved(X), y, w)
        return self

    def _moved(self, X):
        return np.column_stack([self.power(x, p) for p, x in zip(self.powers, X.T, strict=True)])

    def transform(self, X):
        return self.scaler.transform(self._moved(X))


class Columns(Step):
    """Steps side by side on column index lists."""

    def __init__(self, *parts):
        self.parts = parts

    def fit(self, X, y, w):
        for step, columns in self.parts:
            step.fit(X[:, columns], y, w)
        return self

    def transform(self, X):
        return np.hstack([step.transform(X[:, columns]) for step, columns in self.parts])


class Series(Step):
    """Steps one after the other."""

    def __init__(self, *steps):
        self.steps = steps

    def fit(self, X, y, w):
        self.rows = X
        for step in self.steps:
            self.rows = step.fit(self.rows, y, w).training(self.rows)
        return self

    def transform(self, X):
        for step in self.steps:
            X = step.transform(X)
        return X

    def training(self, X):
        return self.rows


FOLDS = KFold(4)


class Lookup(Step):
    """A step of order statistics: its numbers go as far as the weight of one row falls short of 1,
    on a straight line from those of all rows to those of the rows without it.
    """

    def __init__(self, step, attributes, apply):
        self.step, self.attributes, self.apply = step, attributes, apply

    def _read(self, X):
        fitted = clone(self.step).fit(X)
        return [np.array(getattr(fitted, name), float) for name in self.attributes]

    def fit(self, X, y, w):
        (gone,) = np.flatnonzero(w != 1)
        pairs = zip(self._read(X), self._read(np.delete(X, gone, axis=0)), strict=True)
        self.numbers = [full + (1 - w[gone]) * (left - full) for full, left in pairs]
        return self

    def transform(self, X):
        return self.apply(X, *self.numbers)
