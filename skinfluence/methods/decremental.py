"""Rows taken out of a piecewise linear loss: the path of optima as their slopes go to zero."""

import numpy as np

from ..objectives.kinked import PinnedFactor

# More events than this, or a path that ends off the optimum (duplicated rows at a kink): no path.
MOST_EVENTS = 300
SLACK = 1e-10


def decrement(objective, rows):
    """``θ`` without ``rows`` minus ``θ̂`` along the piecewise linear path, or None.

    Between events the pinned rows keep their outputs and everything moves in a straight line. At
    an event a pinned row's dual reaches its bound and lets go, or another row reaches a kink.

    References
    ----------
    Cauwenberghs, G. and Poggio, T. (2000). Incremental and decremental support vector machine
    learning. NeurIPS.
    """
    path = Path(objective, rows)
    left = 1.0
    for _ in range(MOST_EVENTS):
        step, push, moved = path.direction()
        length, row, leaves = path.next_event(push, moved)
        done = length >= left
        path.move(min(length, left), step, push, moved)
        left -= length
        if done:
            return path.theta - objective.theta if path.at_optimum() else None
        path.switch(row, leaves)
    return None


class Path:
    """Where the path stands: parameters, duals, pinned rows and outputs."""

    def __init__(self, objective, rows):
        self.objective, self.rows = objective, rows
        self.penalty = objective.penalty[0]
        self.kinks, low, high = objective.loss.kinks(np.asarray(objective.y))
        self.weights = objective.weights.copy()
        self.weights[rows] = 0.0
        self.low, self.high = low * self.weights, high * self.weights
        self.theta, self.dual = objective.theta.copy(), objective.dual.copy()
        self.outputs = objective.predict(self.theta)[:, 0]
        self.scale = max(float(np.std(self.kinks)), 1e-300)
        self.release = objective.design.subset(rows).tdot(self.dual[rows][:, None])
        self.pinned = np.setdiff1d(np.flatnonzero(objective.pinned), rows)
        self.live = self.weights > 0
        self.last = None

    def direction(self):
        """Moves of the parameters, pinned duals and outputs while all slopes of ``rows`` go."""
        pinned_rows = self.objective.design.block(self.pinned, np.float64)
        factor = PinnedFactor(pinned_rows, self.penalty)
        step, push = factor.saddle(self.release, np.zeros((len(self.pinned), 1)))
        return step[:, 0], push[:, 0], self.objective.predict(step[:, 0])[:, 0]

    def next_event(self, push, moved):
        """How far the next event is, which row, and whether it lets go of its kink."""
        least, most = self._range(self.pinned)
        dual = self.dual[self.pinned]
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.where(push > 0, (most - dual) / push, (least - dual) / push)
            ends = np.where(np.abs(push) <= 1e-14 * np.abs(push).max(initial=0), np.inf, ends)
            gap = self.kinks - self.outputs
            hits = np.where(np.abs(moved) > 1e-14 * np.abs(moved).max(), gap / moved, np.inf)
        free = self.live.copy()
        free[self.pinned] = False
        if self.last is not None:
            free[self.last] = False
        hits = np.where(free & (hits >= 0), hits, np.inf).min(axis=0)
        entering = int(hits.argmin())
        leaving = int(ends.argmin()) if len(ends) else None
        if leaving is not None and ends[leaving] <= hits[entering]:
            return max(0.0, float(ends[leaving])), self.pinned[leaving], True
        return float(hits[entering]), entering, False

    def move(self, length, step, push, moved):
        """Go along the direction."""
        if not np.isfinite(length):
            return
        self.theta += length * step
        self.dual[self.pinned] += length * push
        self.outputs += length * moved

    def switch(self, row, leaves):
        """Let a row go from its kink, or pin it there."""
        if leaves:
            least, most = self._range(np.array([row]))
            nearer = abs(self.dual[row] - least[0]) < abs(self.dual[row] - most[0])
            self.dual[row] = least[0] if nearer else most[0]
            self.pinned = self.pinned[self.pinned != row]
            self.last = row
            return
        self.pinned, self.last = np.append(self.pinned, row), None

    def _range(self, rows):
        """Bounds of the duals of rows at a kink."""
        gap = self.outputs[rows] - self.kinks[:, rows]
        slack = SLACK * self.scale
        least = np.where(gap > slack, self.high[:, rows], self.low[:, rows]).sum(axis=0)
        return least, np.where(gap < -slack, self.low[:, rows], self.high[:, rows]).sum(axis=0)

    def at_optimum(self):
        """Whether duals are slopes of the losses, and the gradient is zero."""
        self.dual[self.rows] = 0.0
        push = self.objective.design.tdot(self.dual[:, None])[:, 0]
        gradient = np.abs(self.penalty * self.theta + push).max()
        size = np.abs(self.objective.design.tdot(np.abs(self.dual)[:, None])).max()
        arguments = (self.theta, self.dual, self.kinks, self.low, self.high, self.scale)
        return gradient <= 1e-10 * max(size, 1e-300) and self.objective.optimal(*arguments)
