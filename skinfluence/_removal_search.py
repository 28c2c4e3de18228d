"""Search for few rows whose joint removal drives a goal's margin down."""

import numpy as np

from ._removal_goals import Steps
from .methods.newton import SMALLEST_LEFT
from .objectives.without import objective_without

# Of the rows still thought necessary, the share that goes between two linearisations.
SHARE = 1 / 16


def first_order_set(goal, fit, size, flip):
    """Rows by the sum of their first-order effects (AMIP).

    With ``flip`` as few as the sum needs to cross zero, None where ``size`` rows do not.
    """
    change = goal.changes(Steps(fit, np.arange(fit.n_rows), "first"))
    order = np.argsort(change, kind="stable")[:size]
    order = order[change[order] < 0]
    if not flip:
        return order
    crossed = np.flatnonzero(goal.margin(fit) + np.cumsum(change[order]) < 0)
    return order[: crossed[0] + 1] if len(crossed) else None


def greedy_sets(goal, fit, size, flip):
    """Growing sets: yields ``(rows, fit without them)`` at ``size``, or each time it has flipped.

    The rows whose removal, by a Newton step, lowers the margin most go; the fit without them is
    solved to its optimum, and the rest is ranked anew.
    """
    left, gone = np.arange(fit.n_rows), []
    while True:
        if flip and gone and goal.margin(fit) < 0:
            yield np.array(gone), fit
        if len(gone) == size:
            break
        rows = _candidates(fit)
        change = goal.changes(Steps(fit, rows, "newton")) if len(rows) else np.empty(0)
        order = np.argsort(change, kind="stable")[: size - len(gone)]
        order = order[change[order] < 0]
        if not len(order):
            break
        count = _how_many(change[order], goal.margin(fit) if flip else np.inf)
        picked, fit = _take_out(fit, rows[order[:count]])
        if not len(picked):
            break
        gone.extend(left[picked].tolist())
        left = np.delete(left, picked)
    if not flip or goal.margin(fit) >= 0:
        yield np.array(gone, dtype=np.intp), fit


def _candidates(fit):
    """Rows whose removal leaves every class and an identified fit."""
    rows = np.arange(fit.n_rows)
    alone, heavy = [], np.zeros(fit.n_rows, dtype=bool)
    for part in getattr(fit, "parts", [fit]):
        alone.append(part.lone_rows())
        solver = Steps(part, rows, "newton")
        heavy |= solver.left() <= SMALLEST_LEFT
    return np.setdiff1d(rows[~heavy], np.concatenate(alone))


def _how_many(falling, margin):
    """A share of those that the sum of effects, in falling order, still needs."""
    crossed = np.flatnonzero(margin + np.cumsum(falling) < 0)
    needed = crossed[0] + 1 if len(crossed) else len(falling)
    return max(1, int(SHARE * needed))


def _take_out(fit, rows):
    """The fit without the rows; without the first that can go where not all can together."""
    for picked in [rows] + ([[row] for row in rows] if len(rows) > 1 else []):
        try:
            return np.asarray(picked), objective_without(fit, picked)
        except ValueError:  # a class, or what identifies the fit, would go with them
            continue
    return np.empty(0, dtype=np.intp), fit
