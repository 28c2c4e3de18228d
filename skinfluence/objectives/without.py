"""An objective on fewer rows: what is left when some of them go."""

from functools import singledispatch

import numpy as np

from .composite import IndependentOutputs
from .linear import LinearObjective
from .piecewise import PiecewiseObjective


def known_without(objective):
    """Whether :func:`objective_without` knows a kind of objective."""
    return all(type(part) in KINDS for part in getattr(objective, "parts", [objective]))


def check_known_without(objective):
    """Refuse a kind of objective that :func:`objective_without` does not know."""
    for part in getattr(objective, "parts", [objective]):
        if type(part) not in KINDS:
            objective_without.dispatch(object)(part, [])


@singledispatch
def objective_without(objective, rows, theta=None):
    """The objective of the rows that are left, its rules applied to them.

    Parameters
    ----------
    objective : Objective
    rows : index array
    theta : ndarray of shape (n_params,), optional
        Parameters to put it at, taken as they are. Default its optimum, found from ``objective``'s.

    Raises
    ------
    TypeError
        If no such objective is known.
    ValueError
        If a class, or the fit, has no rows left, or the rows left do not identify it.
    """
    raise TypeError(
        f"the objective without rows is not known for {type(objective).__name__}: it takes a "
        "linear predictor with a quadratic penalty"
    )


def gradient_without(objective, rows, theta):
    """Gradient of that objective at parameters ``theta``, shape (n_params,)."""
    if hasattr(objective, "parts"):
        pairs = zip(objective.parameter_slices, objective.parts, strict=True)
        return np.concatenate([gradient_without(part, rows, theta[piece]) for piece, part in pairs])
    objective.check_removable(rows)
    phi, rho = objective.rule.joint_factors(rows)
    weights = objective.weights * phi[objective.rule.groups]
    weights[rows] = 0.0
    return objective.gradient(theta, weights, rho)


KINDS = (LinearObjective, PiecewiseObjective)


@objective_without.register(LinearObjective)
def _(objective, rows, theta=None):
    kind = type(objective)
    if kind not in KINDS:
        return objective_without.dispatch(object)(objective, rows)
    rows = np.asarray(rows)
    objective.check_removable(rows)
    keep = np.setdiff1d(np.arange(objective.n_rows), rows)
    phi, rho = objective.rule.joint_factors(rows)
    weights = objective.weights * phi[objective.rule.groups]
    if theta is None:
        weights[rows] = 0.0
        with objective.identified_without(rows):
            theta = objective.minimise(objective.theta, weights, rho).theta
    return kind(
        objective.design.subset(keep),
        objective.loss,
        objective.y[keep],
        weights[keep],
        rho * objective.penalty,
        theta.reshape(objective.coef.shape),
        objective.head,
        rule=objective.rule.subset(keep),
        head_targets=objective.head_targets[keep],
        feature_names=objective.feature_names,
        polish=False,
    )


@objective_without.register(IndependentOutputs)
def _(objective, rows, theta=None):
    parts = [
        objective_without(part, rows, None if theta is None else theta[piece])
        for piece, part in zip(objective.parameter_slices, objective.parts, strict=True)
    ]
    y = np.delete(objective.y, rows, axis=0)
    return IndependentOutputs(parts, objective.head, objective.labels, y, objective.split)
