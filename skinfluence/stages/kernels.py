"""Kernel feature maps, landmarks and random directions held fixed."""

import copy

import numpy as np
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.metrics.pairwise import rbf_kernel

from .base import Opaque, Stage, numeric, stage_for


@stage_for.register(RBFSampler)
class RandomFeatures(Stage):
    """``√(2/D) cos(x W + b)``; with ``gamma="scale"``, ``W`` shrinks with the variance of ``X``."""

    def _prepare(self):
        X = numeric(self.X)
        self.follows = self.step.gamma == "scale" and X.var() > 0
        self.n_params = int(self.follows)
        self.variance, self.mean = X.var(), X.mean()
        self.spread = ((X - self.mean) ** 2).mean(axis=1)

    def derivatives(self, rows):
        """Of the variance of all entries."""
        moved = -(self.spread[rows] - self.variance) / len(self.spread)
        return moved[:, None] if self.follows else np.zeros((len(rows), 0))

    def _sine(self, X):
        step = self.step
        return -np.sqrt(2 / step.n_components) * np.sin(
            X @ step.random_weights_ + step.random_offset_
        )

    def pull_params(self, X, C):
        """Through the length of the directions."""
        if not self.follows:
            return np.zeros((len(C), 0))
        X = numeric(X)
        slope = self._sine(X) * (X @ self.step.random_weights_) / (-2 * self.variance)
        return (C * slope).sum(axis=1, keepdims=True)

    def pull_inputs(self, X, C):
        """Through the phase."""
        return (C * self._sine(numeric(X))) @ self.step.random_weights_.T

    def pull_fit(self, v):
        """To every entry."""
        X = numeric(self.X)
        return v[0] * 2 * (X - self.mean) / X.size if self.follows else 0.0

    def without(self, X, keep):
        """The same directions, scaled to the variance of the rows kept."""
        step = copy.copy(self.step)
        if self.follows:
            factor = np.sqrt(self.variance / numeric(X).var())
            step.random_weights_ = step.random_weights_ * factor
        return step.transform, step.transform(X)


@stage_for.register(Nystroem)
def nystroem_stage(step, X, y=None, sample_weight=None):
    """Landmarks held fixed as rows: they move with the steps before."""
    if step.kernel != "rbf":
        return Opaque(step, X, y, None, "only kernel='rbf' is followed")
    return NystroemStage(step, X, y)


class NystroemStage(Stage):
    """``k(x, L) k(L, L)^{-1/2}``; ``η`` holds the landmarks ``L``."""

    flat = False

    def _prepare(self):
        step = self.step
        self.landmarks = numeric(step.components_)
        self.k, self.d = self.landmarks.shape
        self.n_params = self.k * self.d
        self.gamma = 1 / self.d if step.gamma is None else step.gamma
        self.kernel = rbf_kernel(self.landmarks, gamma=self.gamma)
        values, self.vectors = np.linalg.eigh(self.kernel)
        roots = np.sqrt(np.maximum(values, 1e-12))
        self.root = (self.vectors / roots) @ self.vectors.T
        self.weights = -1 / (np.outer(roots, roots) * (roots[:, None] + roots))

    def derivatives(self, rows):
        """A row that goes leaves the landmarks where they are."""
        return np.zeros((len(rows), self.n_params))

    def pull_params(self, X, C):
        """Row by row."""
        X = numeric(X)
        parts = [self._pull(X[[i]], C[[i]]) for i in range(len(C))]
        return np.array(parts).reshape(len(C), self.n_params)

    def pull_sum(self, C):
        """All training rows at once."""
        return self._pull(numeric(self.X), C)

    def _pull(self, X, C):
        values = rbf_kernel(X, self.landmarks, gamma=self.gamma)
        own = (C @ self.root) * values
        out = 2 * self.gamma * (own.T @ X - own.sum(axis=0)[:, None] * self.landmarks)
        inner = self.vectors.T @ (values.T @ C) @ self.vectors
        moved = self.vectors @ (inner * self.weights) @ self.vectors.T
        pair = (moved + moved.T) * self.kernel
        out += 2 * self.gamma * (pair @ self.landmarks - pair.sum(axis=1)[:, None] * self.landmarks)
        return out.ravel()

    def pull_inputs(self, X, C):
        """Through the kernel's first argument."""
        X = numeric(X)
        own = (C @ self.root) * rbf_kernel(X, self.landmarks, gamma=self.gamma)
        return 2 * self.gamma * (own @ self.landmarks - own.sum(axis=1)[:, None] * X)

    def pull_fit(self, v):
        """To the rows that are landmarks."""
        out = np.zeros((self.X.shape[0], self.d))
        np.add.at(out, self.step.component_indices_, v.reshape(self.k, self.d))
        return out

    def without(self, X, keep):
        """Landmarks taken from the rows kept; one whose row goes stays where it was."""
        place = np.searchsorted(keep, self.step.component_indices_)
        place = np.minimum(place, len(keep) - 1)
        there = keep[place] == self.step.component_indices_
        landmarks = np.where(there[:, None], numeric(X)[place], self.landmarks)
        values, vectors = np.linalg.eigh(rbf_kernel(landmarks, gamma=self.gamma))
        root = (vectors / np.sqrt(np.maximum(values, 1e-12))) @ vectors.T

        def transform(rows):
            return rbf_kernel(numeric(rows), landmarks, gamma=self.gamma) @ root

        return transform, transform(X)
