"""A linear predictor whose rows lie in shards: sums over them come from elsewhere."""

import copy

import numpy as np
from scipy.linalg import eigh

from ..solvers.factor import QuadraticBlock
from .composite import IndependentOutputs
from .linear import LinearObjective
from .piecewise import PiecewiseObjective
from .shard import (
    Whole,
    curvature_product,
    group_gradients,
    group_matrices,
    line_slopes,
    loss_model,
    loss_value,
    parts_of,
    running_in_shard,
)
from .sparse import SparseObjective

# Points along a step at which a line search over shards asks for the slope in one pass.
LINE_POINTS = 16


class ShardedObjective(LinearObjective):
    """The objective of all shards together; it holds no rows.

    Parameters
    ----------
    template : LinearObjective
        That of a few of the rows: its loss, head and parameters are those of all.
    n_rows : int
        In all shards.
    sums : callable
        ``sums(function, *args)`` is the sum over shards of the arrays that ``function(shard,
        *args)`` gives, ``shard`` the :class:`~skinfluence.objectives.shard.Shard` of its rows.
    whole : Whole
        What the shards know already; the minimum and its curvature are added.
    """

    def __init__(self, template, n_rows, sums, whole):
        vars(self).update(vars(template))
        self.n_rows, self.sums, self.whole = n_rows, sums, whole
        self.outputs = self.residuals = self.curvatures = self.weights = self.y = None
        self.penalty, self._known = whole.penalty, None
        if n_rows * self.n_outputs < self.n_params:
            raise ValueError(
                f"{n_rows} rows for {self.n_params} parameters: shards are for more rows than "
                "parameters. Pass the rows as one array"
            )
        self.rule.extend(whole.sums, whole.penalty_total)
        self._polish(self.theta)
        whole.theta = self.theta
        if not self.rule.trivial:
            self.know_curvature()

    def know_curvature(self):
        """Tell the shards the Hessian of all rows, by one pass; False if they know it."""
        whole = self.whole
        if whole.matrix is not None:
            return False
        if self.rule.balanced:
            whole.group_matrices = self.sums(group_matrices, self.theta)[0]
        else:
            whole.group_matrices = self._at(self.theta)[1][None]
        penalty = self.penalty[0] if self.loss.scalar else self.penalty.ravel()
        whole.matrix = whole.group_matrices.sum(axis=0) + np.diag(penalty)
        return True

    def hessian_product(self, V):
        """``H @ V``."""
        self.know_curvature()
        return curvature_product(self, V)

    def predict(self, theta):
        """None: outputs of the rows stay where the rows are."""

    def _at(self, theta):
        """Gradient and Hessian of the losses, by one pass over the shards."""
        if self._known is None or not np.array_equal(self._known[0], theta):
            self._known = theta, *self.sums(loss_model, theta)
        return self._known[1:]

    def local_model(self, theta, weights=None, rho=1.0):
        """``(None, gradient, QuadraticBlock)`` at ``theta``."""
        return None, self.gradient(theta), self.quadratic(theta)

    def gradient(self, theta, weights=None, rho=1.0, Z=None):
        """``∇F`` at ``theta``."""
        return self._at(theta)[0] + self.penalty_gradient(theta)

    def quadratic(self, theta, weights=None, rho=1.0, Z=None):
        """``∇²F`` at ``theta``."""
        matrix = self._at(theta)[1]
        penalty = self.penalty[0] if self.loss.scalar else self.penalty.ravel()
        repeats = self.n_outputs if self.loss.scalar else 1
        rows = self.curvature_summary(matrix, self.n_rows * self.n_outputs // repeats)
        matrix = matrix + np.diag(penalty)
        return QuadraticBlock(penalty, rows, self.gauge(), repeats, matrix)

    def curvature_summary(self, matrix, n_rows):
        """What stands for the curvature rows."""
        return CountedRows(n_rows)

    def slope_model(self, theta, weights=None, rho=1.0):
        """``(None, gradient)`` at ``theta``, by one pass over the shards."""
        gradient = self.sums(group_gradients, theta)[0].sum(axis=0)
        return None, gradient + self.penalty_gradient(theta)

    def value(self, theta, weights=None, rho=1.0, Z=None):
        """``F`` at ``theta``, by one pass."""
        return float(self.sums(loss_value, theta)[0]) + self.penalty_value(theta)

    def _running(self, theta, step, null):
        return self.sums(running_in_shard, theta, step, null)[0]

    def leverage_bound(self, solver):
        """None is known without a pass over the shards."""
        return np.inf

    def _stationarity(self):
        self.whole.group_gradients = self.sums(group_gradients, self.theta)[0]
        return self.whole.group_gradients.sum(axis=0) + self.penalty_gradient(self.theta)

    def _set_theta(self, theta):
        self.theta, self.coef = theta, theta.reshape(self.n_outputs, self.d)


class ShardedPiecewise(PiecewiseObjective, ShardedObjective):
    """All shards of a piecewise quadratic loss."""

    def _step_size(self, theta, value, step, decrement, weights, rho):
        def slopes(sizes):
            penalty = [self.penalty_gradient(theta - t * step) @ step for t in sizes]
            return self.sums(line_slopes, theta, step, sizes)[0] + penalty

        return crossing(slopes)


class ShardedSparse(SparseObjective, ShardedObjective):
    """All shards of a linear predictor with an L1 penalty."""

    def __init__(self, template, n_rows, sums, whole):
        template.l1 = whole.l1
        ShardedObjective.__init__(self, template, n_rows, sums, whole)

    def curvature_summary(self, matrix, n_rows):
        """As many rows as parameters, of the same curvature."""
        return RootRows(matrix, n_rows)

    def curvature_columns(self, rows, index):
        """Columns of those rows."""
        return rows.root[:, index]


KINDS = {
    LinearObjective: ShardedObjective,
    PiecewiseObjective: ShardedPiecewise,
    SparseObjective: ShardedSparse,
}


def sharded(template, n_rows, totals, sums):
    """The objective of all shards, at its minimum.

    Parameters
    ----------
    template : LinearObjective, or IndependentOutputs over such
        Of a few rows, all of weight 1.
    n_rows : int
    totals : list of ndarray
        Sum over shards of :func:`~skinfluence.objectives.shard.rule_totals`.
    sums : callable
        ``sums(wholes)`` takes a :class:`Whole` a part, to be known by all shards, and gives for
        each part what :class:`ShardedObjective` wants.
    """
    templates = parts_of(template)
    wholes = [_whole(part, *totals[3 * k : 3 * k + 3]) for k, part in enumerate(templates)]
    parts = [
        KINDS[type(part)](part, n_rows, sum_part, whole)
        for part, sum_part, whole in zip(templates, sums(wholes), wholes, strict=True)
    ]
    if not hasattr(template, "parts"):
        return parts[0]
    return IndependentOutputs(parts, template.head, template.labels, None, template.split)


def _whole(template, class_counts, sums, penalty_total):
    penalty, l1 = template.penalty, getattr(template, "l1", None)
    if template.rule.penalty_measure is not None:  # in proportion to it
        factor = penalty_total / template.rule.penalty_measure.sum()
        penalty, l1 = factor * penalty, None if l1 is None else factor * l1
    return Whole(class_counts, sums, float(penalty_total), penalty, l1)


def without_shards(objective):
    """The objective of all shards where no more sums are needed: at queries."""
    out = copy.copy(objective)
    if hasattr(objective, "parts"):
        out.parts = [without_shards(part) for part in objective.parts]
    else:
        out.sums = None
    return out


def crossing(slopes):
    """The step ``t <= 1`` at which a falling, piecewise linear slope crosses zero.

    ``slopes(t)`` gives many of them at once. Between the points last asked for the slope is taken
    to be linear: within 16⁻² of the step.
    """
    low, high = 0.0, 1.0
    for _ in range(2):
        t = np.linspace(low, high, LINE_POINTS + 1)
        values = slopes(t)
        if values[-1] >= 0 or values[0] <= 0:  # the function still falls; or only rounding is left
            return high
        k = int(np.flatnonzero(values > 0)[-1])
        low, high = t[k], t[k + 1]
    return float(low + (high - low) * values[k] / (values[k] - values[k + 1]))


class CountedRows:
    """Curvature rows of which only the number is known."""

    def __init__(self, n_rows):
        self.n_rows = n_rows


class RootRows(CountedRows):
    """Curvature rows of which only ``BᵀB`` is known: a square root of it in their place."""

    def __init__(self, gram, n_rows):
        super().__init__(n_rows)
        values, vectors = eigh(gram)
        self.root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T

    def dot(self, V):
        """``B V``."""
        return self.root @ V

    def tdot(self, U):
        """``Bᵀ U``."""
        return self.root.T @ U

    def gram_product(self, V):
        """``BᵀB V``."""
        return self.root.T @ (self.root @ V)
