"""TracIn: gradients along the training run."""

import warnings
from pathlib import Path

import numpy as np

from ..objectives.base import is_net
from .base import Effects, Method


class TracIn(Method):
    """``Σ_t η_t ∇t(θ_t)·∇ℓ_i(θ_t)`` over checkpoints of the training run (Pruthi et al. 2020).

    Gradient descent moved the parameters by ``-η ∇ℓ_i`` for row ``i`` at every step; without the
    row these moves are missing. What is kept fixed is everything else: the batches, the other
    rows' moves, and what the missing moves would have changed later. Each checkpoint stands for
    the steps from it to the next (the first also for those before), with the sum of their
    learning rates as ``η_t``, so that the influence is in the units of the target.

    A net needs checkpoints, kept by :class:`skinfluence.callbacks.TracInCheckpoint`. A momentum
    ``μ`` lengthens every step by ``1 / (1 - μ)``, which ``η_t`` takes in. Optimizers that rescale
    the gradient (Adam) do not step along it: a warning says that the values then are a ranking.

    Models without a training run (scikit-learn's convex ones) are taken at their single fitted
    point with ``η = 1``: the dot product of gradients, up to a positive factor.

    Parameters
    ----------
    checkpoints : None, path or list of Checkpoint, default=None
        A folder that ``TracInCheckpoint`` wrote, or its ``checkpoints_``; default those of the
        ``TracInCheckpoint`` among the net's callbacks.

    References
    ----------
    Pruthi, G., Liu, F., Kale, S. and Sundararajan, M. (2020). Estimating training data influence
    by tracing gradient descent. NeurIPS. https://arxiv.org/abs/2002.08484

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> X, y = load_diabetes(return_X_y=True)
    >>> InfluenceExplainer(Ridge(), method="tracin").fit(X, y).transform(X[:2], y[:2]).shape
    (2, 442)
    """

    linear_target = True
    uses_solver = False

    def __init__(self, checkpoints=None):
        self.checkpoints = checkpoints

    def bind(self, problem):
        """Effects at every checkpoint."""
        return TracInEffects(problem, self._points(problem))

    def _points(self, problem):
        """``(objective, rates)`` at each checkpoint."""
        objective = problem.objective
        if not is_net(problem.estimator):
            if self.checkpoints is not None:
                raise ValueError(
                    f"checkpoints are of nets; {type(problem.estimator).__name__} has one fitted "
                    "point only: pass checkpoints=None"
                )
            parts = getattr(objective, "parts", [objective])
            if not all(hasattr(part, "loss_gradients") for part in parts):
                raise TypeError(
                    f"method='tracin' needs the gradients of the rows' losses, and "
                    f"{type(parts[0]).__name__} gives none; use method='auto'"
                )
            return [(objective, np.ones(objective.n_params))]
        if not hasattr(objective, "at"):
            raise ValueError(
                f"method='tracin' needs the objective of the whole net, not "
                f"{type(objective).__name__}; use objective='net'"
            )
        checkpoints = self._checkpoints(problem.estimator)
        _note_optimizer(checkpoints[0])
        points = [(objective.at(c.load()), _rates(c, objective)) for c in checkpoints if c.rates]
        if not points:
            raise ValueError("the net was initialised but made no training step")
        return points

    def _checkpoints(self, net):
        from ..callbacks import TracInCheckpoint, load_checkpoints

        found = self.checkpoints
        if found is None:
            kept = [each for _, each in net.callbacks_ if isinstance(each, TracInCheckpoint)]
            if len(kept) != 1:
                raise ValueError(
                    f"method='tracin' needs one TracInCheckpoint among the net's callbacks, "
                    f"{len(kept)} found: fit with callbacks=[TracInCheckpoint()], or pass "
                    "TracIn(checkpoints=...)"
                )
            found = kept[0].checkpoints_
        elif isinstance(found, str | Path):
            found = load_checkpoints(found)
        if not len(found):
            raise ValueError("there are no checkpoints: none of the chosen epochs was reached")
        return list(found)


def _rates(checkpoint, objective):
    """Sum over the checkpoint's steps of what a step moves by per unit of ``w_i ∇ℓ_i``."""
    mean = objective.source.form == "mean"
    sums = checkpoint.rates if mean else checkpoint.row_rates
    total = objective.weights.sum() if mean else np.count_nonzero(objective.weights)
    out = np.zeros(objective.n_params)
    for name, part in objective.slices.items():
        out[part] = sums.get(name, 0.0) / total
    return out * checkpoint.momentum_factor


def _note_optimizer(checkpoint):
    if not checkpoint.follows_gradient:
        warnings.warn(
            f"{checkpoint.optimizer} rescales the gradient: its learning rate is not the length "
            "of its steps along it. TracIn then ranks rows; its values have no units.",
            UserWarning,
            stacklevel=5,
        )


class TracInEffects(Effects):
    """Sums over checkpoints; a query's gradients at all of them are side by side."""

    def __init__(self, problem, points):
        super().__init__(problem)
        self.points = [(objective, objective.loss_gradients(), r) for objective, r in points]

    @property
    def adjoint_size(self):
        """One gradient a checkpoint."""
        return len(self.points) * self.objective.n_params

    def parameters(self, rows):
        """``Σ_t η_t w_i ∇ℓ_i(θ_t)``: the moves that are missing without the row."""
        return sum(rates * gradients.block(rows) for _, gradients, rates in self.points)

    def joint_parameters(self, groups):
        """Sums over the rows of each group."""
        return np.array([self.parameters(np.asarray(group)).sum(axis=0) for group in groups])

    def bind_target(self, target, X, y):
        """The target at every checkpoint."""
        return CheckpointTargets(
            target, [target.bind(objective, X, y) for objective, _, _ in self.points]
        )

    def adjoint(self, pulled):
        """Scaled by the learning rates: (T·p, m)."""
        rates = np.concatenate([rates for _, _, rates in self.points])
        return (pulled.astype(np.float64) * rates).T

    def linearised(self, adjoint, rows, out=None):
        """One product a checkpoint."""
        p, total = self.objective.n_params, 0.0
        for t, (_, gradients, _) in enumerate(self.points):
            total = total + adjoint[t * p : (t + 1) * p].T @ gradients.block(rows).T
        if out is None:
            return total
        out[...] = total
        return out

    def own_linearised(self, target, rows):
        """Each row's gradient of the target against its gradient of the loss."""
        total = np.zeros(len(rows))
        for objective, gradients, rates in self.points:
            queries, y = objective.training_queries(rows), objective.training_targets(rows)
            pulled = target.bind_queries(objective, queries, y).pullback()
            total += (pulled.astype(np.float64) * rates * gradients.block(rows)).sum(axis=1)
        return total

    def joint_linearised(self, bound, groups):
        """Sums of the rows' influences."""
        adjoint = self.adjoint(bound.pullback())
        values = [self.linearised(adjoint, np.asarray(group)).sum(axis=1) for group in groups]
        return np.stack(values, axis=1)


class CheckpointTargets:
    """A target bound at every checkpoint."""

    def __init__(self, target, bounds):
        self.target, self.bounds = target, bounds
        self.queries = bounds[-1].queries

    def pullback(self):
        """Gradients at all checkpoints side by side: (m, T·p)."""
        return np.concatenate([bound.pullback() for bound in self.bounds], axis=1)
