"""What a set of removed rows is searched for: a quantity of the fit, and its margin to a flip.

A goal is asked of fits: the objective with all rows, and those on fewer rows. ``reported`` is the
quantity that users see, ``margin`` a number that the search drives down and that is negative once
the conclusion has flipped; ``changes`` estimates what each row's removal does to the margin.
"""

from functools import cached_property

import numpy as np
from scipy.stats import norm, t

from ._blocks import block_length, blocks, working_bytes
from .methods import Problem
from .methods.first_order import FirstOrderEffects
from .methods.newton import newton_effects
from .objectives.generalised import HalfDeviance
from .objectives.linear import LinearObjective
from .objectives.losses import HalfSquaredLoss, LogisticLoss, SquaredLoss
from .solvers.direct import Direct


class Steps:
    """Changes of a fit's parameters when each of its rows goes, by either order.

    Parameters
    ----------
    fit : Objective
    rows : index array
        The rows that may go.
    order : {"first", "newton"}
    """

    def __init__(self, fit, rows, order):
        self.fit, self.rows, self.order = fit, rows, order
        self.solver = Direct().fit(fit)

    def dot(self, V):
        """Changes of the parameters times ``V`` of shape (n_params,): (b,)."""
        if self._parameters is not None:
            return self._parameters @ V
        return np.concatenate(
            [self._effects.parameters(part) @ V for part in self._effects.row_blocks(self.rows)]
        )

    @cached_property
    def _effects(self):
        problem = Problem(self.fit, self.solver)
        return (
            FirstOrderEffects(problem)
            if self.order == "first"
            else newton_effects(self.fit, problem)
        )

    @cached_property
    def _parameters(self):
        """All changes, (b, n_params), where they are few enough to keep."""
        if 8 * len(self.rows) * self.fit.n_params > working_bytes() / 8:
            return None
        return self._effects.parameters(self.rows)

    def left(self):
        """One less the leverage, 1 to first order: (b,)."""
        left = np.ones(len(self.rows))
        if self.order == "first":
            return left
        length = block_length(24 * self.fit.n_params * self.fit.n_outputs, share=1 / 8)
        for part in blocks(len(self.rows), length):
            left[part] -= self.fit.output_leverages(self.solver, self.rows[part])
        return left


class ParameterGoal:
    """A parameter's sign: the margin is the parameter, signed as at the fit.

    Parameters
    ----------
    index : int
    unit : float
        Units of the estimator's attribute per unit of the parameter.
    sign : {1, -1}
    """

    def __init__(self, index, unit, sign):
        self.index, self.unit, self.sign = index, unit, sign

    def reported(self, fit):
        """The parameter."""
        return float(self.unit * fit.theta[self.index])

    def margin(self, fit):
        """Signed."""
        return self.sign * self.reported(fit)

    def changes(self, steps):
        """Linear in the parameters."""
        return self.sign * self.unit * steps.dot(_unit(steps.fit, self.index))


class TargetGoal:
    """The mean of a target over query rows; the margin is it, signed.

    What the target holds to at the fit with all rows (which class it speaks of) stays.
    """

    def __init__(self, target, X, y, objective, sign):
        self.target, self.X, self.y, self.sign = target, X, y, sign
        self.objective, self.start = objective, target.bind(objective, X, y)

    def _bound(self, fit):
        if fit is self.objective:
            return self.start
        bound = self.target.bind(fit, self.X, self.y)
        _hold(bound, self.start)
        return bound

    def reported(self, fit):
        """The mean."""
        return float(np.mean(self._bound(fit).value()))

    def margin(self, fit):
        """Signed."""
        return self.sign * self.reported(fit)

    def changes(self, steps):
        """To first order in the outputs."""
        bound = self._bound(steps.fit)
        if bound.target.scalar:
            pulled = bound.pullback()[0].astype(np.float64)
        else:
            m = len(bound.queries)
            pulled = bound.pullback_sum(np.full(m, 1 / m))
        return self.sign * steps.dot(pulled)


def _hold(bound, start):
    """Give a bound target, or its parts, the context of another."""
    if hasattr(start, "parts"):
        for (_, part), (_, other) in zip(bound.parts, start.parts, strict=True):
            _hold(part, other)
    else:
        bound.context = start.context


class PredictionGoal:
    """The prediction of one query: its sign, or with several classes the lead over another.

    Parameters
    ----------
    queries : Queries
        Of one row.
    objective : Objective
    classes : (int, int or None)
        The predicted class and the one that should overtake it; None for a sign.
    """

    def __init__(self, queries, objective, classes):
        self.queries, self.head, self.start = queries, objective.head, objective.theta
        self.own, self.other = classes
        self.sign = 1.0
        if self.other is None and self.reported(objective) < 0:
            self.sign = -1.0

    def _outputs(self, fit):
        return self.queries.outputs + self.queries.changes((fit.theta - self.start)[None])[:, 0]

    def reported(self, fit):
        """The decision value, or the lead."""
        Z = self._outputs(fit)
        value = self.head.decision(Z, np.array([self.own]))
        if self.other is not None:
            value = value - self.head.decision(Z, np.array([self.other]))
        return float(value[0])

    def margin(self, fit):
        """Signed as at the fit."""
        return self.sign * self.reported(fit)

    def changes(self, steps):
        """To first order in the outputs."""
        Z = self._outputs(steps.fit)
        C = self.head.decision_gradient(Z, np.array([self.own]))
        if self.other is not None:
            C = C - self.head.decision_gradient(Z, np.array([self.other]))
        return self.sign * steps.dot(self.queries.pullback(C)[0].astype(np.float64))


class SignificanceGoal:
    """Whether the confidence interval of a parameter holds zero.

    The margin is ``s β - c se`` for a significant parameter, and ``c se - s β`` for one that is to
    become so on the side ``s``.

    Parameters
    ----------
    index, unit, sign
        As for :class:`ParameterGoal`.
    covariance : {"classical", "sandwich"}
    level : float
        Of the confidence interval.
    """

    def __init__(self, objective, index, unit, sign, covariance, level):
        self.index, self.unit, self.sign = index, unit, sign
        self.sandwich, self.level = covariance == "sandwich", level
        _check_significance(objective, covariance)
        self.loses = True
        self.loses = self._bound(objective) > 0

    def reported(self, fit):
        """``β / se``."""
        return float(fit.theta[self.index] / np.sqrt(self.variance(fit)))

    def significant(self, fit):
        """Whether the interval leaves zero out."""
        return abs(self.reported(fit)) > self.critical(fit)

    def margin(self, fit):
        """Negative once what the fit said is no longer so."""
        return self._bound(fit) if self.loses else -self._bound(fit)

    def _bound(self, fit):
        error = abs(self.unit) * np.sqrt(self.variance(fit))
        return self.sign * self.unit * fit.theta[self.index] - self.critical(fit) * error

    def critical(self, fit):
        """Of Student's t for least squares, else of the normal."""
        if _squared(fit) is None or self.sandwich:
            return norm.isf((1 - self.level) / 2)
        return t.isf((1 - self.level) / 2, _freedom(fit))

    def variance(self, fit):
        """Of the parameter; refused where nothing is left to estimate it from."""
        column, freedom = self._column(Direct().fit(fit)), _freedom(fit)
        if freedom < 2:
            raise ValueError(
                f"{freedom + fit.n_params} rows for {fit.n_params} parameters leave no degrees of "
                "freedom for a standard error"
            )
        if self.sandwich:
            scores = fit.design.predict(column[None]) * fit.residuals
            found = float((scores**2).sum())
        else:
            found = float(_dispersion(fit) * column[self.index])
        if not found > 0:
            raise ValueError(
                "the standard error of the parameter is zero: its column is constant, or the rows "
                "fit exactly. Nothing can be said of its significance"
            )
        return found

    def _column(self, solver):
        unit = np.zeros((solver.blocks_[0].size, 1))
        unit[self.index] = 1.0
        return solver.solve(unit)[:, 0]

    def changes(self, steps):
        """``s Δβ - c Δse`` of each row."""
        fit = steps.fit
        before = self.variance(fit)
        moved = self._sandwich_changes(steps) if self.sandwich else self._classical_changes(steps)
        if steps.order == "first":
            error = moved / (2 * np.sqrt(before))
        else:
            error = np.sqrt(np.maximum(before + moved, 0)) - np.sqrt(before)
        change = self.sign * self.unit * steps.dot(_unit(fit, self.index))
        change = change - self.critical(fit) * abs(self.unit) * error
        return change if self.loses else -change

    def _classical_changes(self, steps):
        """Of the variance; for least squares exact in the order "newton"."""
        fit, rows = steps.fit, steps.rows
        column = self._column(steps.solver)
        along = fit.design.predict(column[None])[:, 0]
        left = steps.left()
        inverse = fit.curvatures[rows] * along[rows] ** 2 / left
        scale = _squared(fit)
        if scale is None:
            third = fit.weights * fit.loss.third(fit.outputs, fit.y) * along**2
            return inverse - steps.dot(fit.design.tdot(third[:, None])[:, 0])
        # Σ w e² falls by w e² / (1 - leverage), the degrees of freedom by one
        own = 2 / scale * fit.weights[rows] * fit.loss.value(fit.outputs[rows], fit.y[rows]) / left
        freedom, present = _freedom(fit), fit.weights[rows] > 0
        total = freedom * _dispersion(fit) / scale
        if steps.order == "first":
            spread = -own / freedom + present * total / freedom**2
            return scale * (spread * column[self.index] + total / freedom * inverse)
        after = (total - own) / (freedom - present) * (column[self.index] + inverse)
        return scale * after - _dispersion(fit) * column[self.index]

    def _sandwich_changes(self, steps):
        """Of ``Σ_k (H⁻¹ g_k)_j²``, to first order but for the row's own terms."""
        fit, rows, solver = steps.fit, steps.rows, steps.solver
        column = self._column(solver)
        design, left = fit.design, steps.left()
        along = design.predict(column[None])[:, 0]
        scores = along * fit.residuals[:, 0]
        q = solver.solve(design.tdot((scores * fit.residuals[:, 0])[:, None]))[:, 0]
        back = design.predict(q[None])[:, 0]
        third = fit.weights * fit.loss.third(fit.outputs, fit.y)
        slopes = scores * along * fit.curvatures - third * along * back
        pulled = design.tdot(slopes[:, None])[:, 0]
        own = fit.curvatures[rows] * along[rows] * back[rows] / left
        return 2 * (steps.dot(pulled) + own) - scores[rows] ** 2 / left


def _unit(fit, index):
    out = np.zeros(fit.n_params)
    out[index] = 1.0
    return out


def _squared(fit):
    """Second derivative of a squared loss, None for another."""
    if type(fit.loss) is SquaredLoss:
        return 2.0
    return 1.0 if type(fit.loss) is HalfSquaredLoss else None


def _freedom(fit):
    return np.count_nonzero(fit.weights) - fit.n_params


def _dispersion(fit):
    """What the inverse Hessian is multiplied by: ``σ²`` in units of the loss, 1 for counts."""
    scale = _squared(fit)
    if scale is None:
        return 1.0
    # the loss is scale/2 · e²
    return 2.0 * fit.weights @ fit.loss.value(fit.outputs, fit.y) / _freedom(fit)


def _check_significance(objective, covariance):
    name = type(objective).__name__
    if type(objective) is not LinearObjective or objective.n_outputs > 1:
        raise TypeError(
            f"flip='significance' takes a linear predictor with one output, not {name}: use "
            "flip='sign'"
        )
    if not objective.rule.trivial:
        raise ValueError(
            "flip='significance' is not known where other rows' weights or the penalty move with "
            "a row (class_weight='balanced', a penalty on the mean loss): use flip='sign'"
        )
    likelihood = isinstance(objective.loss, LogisticLoss | SquaredLoss) or (
        isinstance(objective.loss, HalfDeviance) and objective.loss.power == 1
    )
    if covariance == "classical" and (objective.penalty.any() or not likelihood):
        raise ValueError(
            "covariance='classical' is that of unpenalised least squares, logistic or Poisson "
            "regression: drop the penalty (LinearRegression, C=np.inf, alpha=0), or use "
            "covariance='sandwich'"
        )
