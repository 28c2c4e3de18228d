"""Sets of removed rows for models of any kind: ranked once, by the effects of a method.

Where the objective without rows is not known, no ranking can follow a removal. The rows are ranked
by what a method says of each, and as many of the first go as it says of them together.
"""

import numpy as np

from ._unwrap import unwrap
from .methods.refit import fit_without
from .methods.stacked import fit_pipeline_without


class ParameterEffects:
    """What removals do to a parameter of the model."""

    def __init__(self, objective, index):
        self.objective, self.index = objective, index
        self.value = float(objective.public_parameters(objective.theta[None])[0, index])

    def each(self, effects, rows):
        """Change when each of the rows goes: (b,)."""
        return self.objective.public_parameters(effects.parameters(rows))[:, self.index]

    def joint(self, effects, rows):
        """Change when the rows go together."""
        moved = self.objective.public_parameters(effects.joint_parameters([rows]))
        return float(moved[0, self.index])

    def stated(self, estimator):
        """The parameter of a fitted estimator, before any polishing."""
        last = getattr(self.objective, "inner", self.objective)
        theta = last.read_parameters(unwrap(estimator, stacks=True)[1])
        return float(last.public_parameters(theta[None])[0, self.index])


class PredictionEffects:
    """What removals do to the decision value of one query, or its lead over another class."""

    def __init__(self, objective, query, classes):
        self.head, self.queries = objective.head, objective.queries(query)
        self.own, self.other = classes
        self.value = float(self._decision(self.queries.outputs)[0])

    def _decision(self, Z):
        value = self.head.decision(Z, np.full(Z.shape[:-1], self.own))
        if self.other is None:
            return value
        return value - self.head.decision(Z, np.full(Z.shape[:-1], self.other))

    def _changes(self, dZ):
        return (self._decision(self.queries.outputs[:, None] + dZ) - self.value)[0]

    def each(self, effects, rows):
        """Change when each of the rows goes: (b,)."""
        return self._changes(effects.outputs(self.queries, rows))

    def joint(self, effects, rows):
        """Change when the rows go together."""
        return float(self._changes(effects.joint_outputs(self.queries, [rows]))[0])


def ranked(quantity, effects, sign, blocks):
    """Rows whose removal lowers ``sign`` times the quantity, the strongest first."""
    change = sign * np.concatenate([quantity.each(effects, rows) for rows in blocks])
    order = np.argsort(change, kind="stable")
    return order[change[order] < 0]


def shortest(quantity, effects, sign, order):
    """How many of the first rows cross zero together; None where none of the sizes tried does."""

    def crossed(size):
        return sign * (quantity.value + quantity.joint(effects, order[:size])) < 0

    low, high = 0, 1
    try:
        while not crossed(min(high, len(order))):
            if high >= len(order):
                return None
            low, high = high, 2 * high
    except ValueError:  # a class, or what identifies the fit, would go with them
        return None
    high = min(high, len(order))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if crossed(middle) else (middle, high)
    return high


def predicts_otherwise(problem, rows, query, stacked):
    """Whether the estimator fitted without the rows predicts another class, or another sign."""
    refit = (fit_pipeline_without if stacked else fit_without)(problem, rows)
    before, after = (np.ravel(each.predict(query))[0] for each in (problem.estimator, refit))
    if hasattr(problem.estimator, "classes_"):
        return bool(before != after)
    return bool((before < 0) != (after < 0))
