"""The rows whose joint removal changes a conclusion."""

from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from ._distributed import in_memory
from ._removal_goals import ParameterGoal, PredictionGoal, SignificanceGoal, TargetGoal
from ._removal_prefix import (
    ParameterEffects,
    PredictionEffects,
    predicts_otherwise,
    ranked,
    shortest,
)
from ._removal_search import first_order_set, greedy_sets
from .methods import Refit
from .objectives.without import known_without, objective_without
from .targets import resolve_target

# Refits that may fail to confirm a flip before the search ends.
ATTEMPTS = 20


@dataclass
class InfluentialSet:
    """Rows and what their joint removal does.

    Parameters
    ----------
    rows : ndarray of int
        Positions of the rows; the most influential first.
    value : float
        The quantity with all rows: the mean target over the queries, the decision value of a
        prediction (with several classes its lead over the class that overtakes it), a
        coefficient, or for ``flip="significance"`` its t statistic.
    predicted : float
        The quantity without the rows, as the search has it: at the optimum without them; for
        ``method="amip"`` at the parameters to first order.
    refitted : float
        The quantity of the estimator refitted without the rows.
    flipped : bool or None
        Whether the refit flips the conclusion; None where no flip was asked for.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> X, y = load_diabetes(return_X_y=True)
    >>> explainer = InfluenceExplainer(Ridge(), target="decision").fit(X, y)
    >>> most = explainer.most_influential_set(X[:1], k=5)  # of one prediction
    >>> len(most.rows), most.flipped
    (5, None)
    """

    rows: np.ndarray
    value: float
    predicted: float
    refitted: float
    flipped: bool | None = None


class MostInfluentialSet:
    """Mixin of the explainer: the rows that a conclusion rests on."""

    @in_memory
    def most_influential_set(
        self,
        X=None,
        y=None,
        *,
        parameter=None,
        k=None,
        flip=False,
        direction="increase",
        method="greedy",
        covariance="classical",
        level=0.95,
    ):
        """Rows whose joint removal moves a quantity most, or the fewest that flip a conclusion.

        Parameters
        ----------
        X : array-like, dataframe or sparse of shape (n_queries, n_features), optional
            Queries: the quantity is the mean of the explainer's target over them. With ``flip``
            one query, whose prediction is to flip.
        y : array-like of shape (n_queries,), optional
        parameter : str, optional
            In the place of ``X``: a parameter, by its name in ``objective_.parameter_names``.
        k : int, optional
            How many rows go, fewer where no other moves the quantity that way; with ``flip`` at
            most how many, default half of them.
        flip : bool or {"sign", "significance"}, default=False
            Look for few rows without which the predicted class (the sign of a regressor's
            prediction) or the sign of the parameter is another (True or "sign"), or without
            which the parameter is significant no more, or has become so ("significance").
        direction : {"increase", "decrease"}, default="increase"
            Without ``flip``: where the removal is to move the quantity.
        method : {"greedy", "amip"}, default="greedy"
            "greedy" takes the rows with the largest effects by a Newton step, solves the fit
            without them and ranks the others anew. "amip" adds up first-order effects once, as
            the approximate maximum influence perturbation does. Other models than linear predictors
            with a quadratic penalty (kernels, lasso, pipelines whose steps are followed) are ranked
            once by the explainer's method, and as many rows go as it says of them together.
        covariance : {"classical", "sandwich"}, default="classical"
            Standard errors for ``flip="significance"``, formed anew without the rows: those of
            unpenalised least squares (Student's t), logistic or Poisson regression, or the
            sandwich (HC0) of any smooth linear model.
        level : float, default=0.95
            For ``flip="significance"``: a parameter is significant whose confidence interval of
            this level leaves zero out.

        Returns
        -------
        InfluentialSet
            Its ``rows``, and the quantity before, as predicted and as refitted. ``flipped`` is
            what the refit says: a flip that it does not confirm is never claimed. The set is
            small, not proved to be smallest; it never has more rows than that of "amip" where the
            refit confirms the latter. Without ``rows`` where "amip" finds no sum that flips.

        Raises
        ------
        TypeError
            If the model is a net; or if it is no linear predictor with a quadratic penalty and
            the question is not of a prediction or of a sign.

        References
        ----------
        Broderick, T., Giordano, R. and Meager, R. (2020). An automatic finite-sample robustness
        metric: when can dropping a little data make a big difference?
        https://arxiv.org/abs/2011.14999

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.linear_model import LinearRegression
        >>> from skinfluence import InfluenceExplainer
        >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
        >>> explainer = InfluenceExplainer(LinearRegression()).fit(X, y)
        >>> few = explainer.most_influential_set(parameter="age", flip="sign")
        >>> few.flipped, bool(few.value * few.refitted < 0)
        (True, True)
        """
        check_is_fitted(self)
        self._check_search(X, parameter, k, flip, direction, method, covariance, level)
        size = self.n_rows_ // 2 if k is None else k
        sign = {"increase": -1.0, "decrease": 1.0}[direction]
        if not known_without(self.objective_):
            return self._by_prefix(X, parameter, size, flip, method)
        if parameter is not None:
            goals = self._parameter_goals(parameter, flip, sign, covariance, level)
        elif flip:
            goals = self._prediction_goals(X, y)
        else:
            query, y = self._check_queries(X, y)
            target = resolve_target(self.target, y is not None, X)
            goals = [TargetGoal(target, query, y, self.objective_, sign)]
        if method == "amip":
            found = [self._amip(goal, size, bool(flip)) for goal in goals]
        else:
            found = [self._greedy(goal, size, bool(flip)) for goal in goals]
        return min(found, key=lambda each: (each.flipped is False, len(each.rows)))

    # -- goals -----------------------------------------------------------------------------
    def _parameter_index(self, parameter):
        names = list(getattr(self.objective_, "parameter_names", []))
        if parameter not in names:
            raise ValueError(f"parameter={parameter!r} is not one of {names[:20]}")
        return names.index(parameter)

    def _parameter_goals(self, parameter, flip, sign, covariance, level):
        objective, index = self.objective_, self._parameter_index(parameter)
        basis = np.zeros((1, objective.n_params))
        basis[0, index] = 1.0
        unit = float(objective.public_parameters(basis)[0, index])
        own = 1.0 if objective.theta[index] * unit >= 0 else -1.0
        if flip == "significance":
            first = SignificanceGoal(objective, index, unit, own, covariance, level)
            if first.loses:
                return [first]
            # an insignificant parameter may become significant on either side
            return [first, SignificanceGoal(objective, index, unit, -own, covariance, level)]
        return [ParameterGoal(index, unit, own if flip else sign)]

    def _prediction_goals(self, X, y):
        query, _ = self._check_queries(X, y)
        queries = self.objective_.queries(query)
        return [PredictionGoal(queries, self.objective_, c) for c in self._rivals(queries)]

    def _rivals(self, queries):
        """``(class, class that could overtake it)`` of one query; None where a sign flips."""
        if len(queries) != 1:
            raise ValueError(f"flip=True takes one query, not {len(queries)}")
        head = self.objective_.head
        own = int(head.explained_index(queries.outputs, None)[0])
        if head.classes is None or len(head.classes) == 2:
            return [(own, None)]
        others = np.setdiff1d(np.arange(len(head.classes)), own)
        return [(own, int(other)) for other in others]

    # -- searches --------------------------------------------------------------------------
    def _amip(self, goal, size, flip):
        result = self._by_sum(goal, size, flip)
        if result is None:
            result = self._result(goal, np.empty(0, dtype=np.intp), self.objective_, flip)
        return result

    def _by_sum(self, goal, size, flip):
        """The set of first-order sums; None where there is none, or no fit without it."""
        fit = self.objective_
        rows = first_order_set(goal, fit, size, flip)
        if rows is None:
            return None
        try:
            optimum = objective_without(fit, rows)
        except ValueError:  # a class, or what identifies the fit, would go with them
            if flip:
                return None
            raise
        result = self._result(goal, rows, self._first_order_fit(rows), flip)
        if result.flipped and goal.margin(optimum) >= 0:  # the refit stopped short of its optimum
            result.flipped = False
        return result

    def _greedy(self, goal, size, flip):
        result = None
        for attempt, found in enumerate(greedy_sets(goal, self.objective_, size, flip)):
            result = self._result(goal, *found, flip)
            if result.flipped or attempt + 1 == ATTEMPTS:
                break
        if flip:
            largest = len(result.rows) - 1 if result.flipped else size
            baseline = self._by_sum(goal, largest, flip) if largest else None
            if baseline is not None and baseline.flipped:
                return baseline
        return result

    def _by_prefix(self, X, parameter, size, flip, method):
        """For other models: the first of the rows as one ranking has them."""
        objective, problem = self.objective_, self.effects_.problem
        name = type(objective).__name__
        if flip not in (True, "sign") or method == "amip" or self._pairwise():
            raise TypeError(
                f"for {name} most_influential_set looks for flips of signs and predictions, from "
                "rows that are no kernel, with method='greedy' alone; other questions need a "
                "linear predictor with a quadratic penalty"
            )
        if parameter is not None:
            quantities = [ParameterEffects(objective, self._parameter_index(parameter))]
        else:
            query, _ = self._check_queries(X, None)
            rivals = self._rivals(objective.queries(query))
            quantities = [PredictionEffects(objective, query, pair) for pair in rivals]
        found = []
        for quantity in quantities:
            sign = -1.0 if quantity.value < 0 else 1.0
            blocks = self.effects_.row_blocks(np.arange(self.n_rows_))
            order = ranked(quantity, self.effects_, sign, blocks)[:size]
            count = shortest(quantity, self.effects_, sign, order) if len(order) else None
            if count is not None:
                found.append((count, sign, quantity, order))
        if not found:
            value = quantities[0].value
            return InfluentialSet(np.empty(0, dtype=np.intp), value, value, value, False)
        count, sign, quantity, order = min(found, key=lambda each: each[0])
        refits = Refit().bind(replace(problem, n_jobs=None))
        start = quantity.value if parameter is None else quantity.stated(problem.estimator)
        for rows in (order[:n] for n in range(count, min(count + ATTEMPTS, len(order) + 1))):
            refitted = start + quantity.joint(refits, rows)
            flipped = bool(sign * refitted < 0)
            if flipped and parameter is None:
                raw = query.rows if self._stacked else query
                flipped = predicts_otherwise(problem, rows, raw, self._stacked)
            predicted = quantity.value + quantity.joint(self.effects_, rows)
            result = InfluentialSet(rows, quantity.value, predicted, refitted, flipped)
            if flipped:
                break
        return result

    def _pairwise(self):
        return get_tags(self.effects_.problem.estimator).input_tags.pairwise

    def _first_order_fit(self, rows):
        """The fit without the rows, its parameters moved to first order."""
        fit = self.objective_
        total = fit.removal_gradients().tdot(np.ones((len(rows), 1)), rows)
        step = self._exact_solver().solve(total.astype(np.float64))[:, 0]
        return objective_without(fit, rows, fit.theta + step)

    def _exact_solver(self):
        from .solvers.direct import Direct  # whatever the explainer's own solver is

        return Direct().fit(self.objective_)

    def _result(self, goal, rows, predicted, flip):
        refitted = self._refitted(rows)
        return InfluentialSet(
            rows,
            goal.reported(self.objective_),
            goal.reported(predicted),
            goal.reported(refitted),
            bool(goal.margin(refitted) < 0) if flip else None,
        )

    def _refitted(self, rows):
        """The objective without the rows, at the parameters of the estimator refitted."""
        objective, problem = self.objective_, self.effects_.problem
        if not len(rows):
            return objective
        change = Refit().bind(replace(problem, n_jobs=None)).joint_parameters([rows])[0]
        theta = objective.read_parameters(problem.estimator) + change
        return objective_without(objective, rows, theta)

    # -- checks ----------------------------------------------------------------------------
    def _check_search(self, X, parameter, k, flip, direction, method, covariance, level):
        if (X is None) == (parameter is None):
            raise ValueError("pass either queries X or a parameter")
        if flip not in (False, True, "sign", "significance"):
            raise ValueError(f"flip={flip!r} is not one of False, True, 'sign', 'significance'")
        if flip == "significance" and parameter is None:
            raise ValueError("flip='significance' is of a parameter: pass parameter=")
        for name, value, known in (
            ("direction", direction, ("increase", "decrease")),
            ("method", method, ("greedy", "amip")),
            ("covariance", covariance, ("classical", "sandwich")),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is not one of {known}")
        if not 0 < level < 1:
            raise ValueError(f"level={level!r} must lie between 0 and 1")
        if k is None and not flip:
            raise ValueError("pass k, how many rows go, or flip=")
        if k is not None and (not isinstance(k, Integral) or not 1 <= k < self.n_rows_):
            raise ValueError(f"k={k!r} must be an integer between 1 and {self.n_rows_ - 1}")
        if hasattr(self.objective_, "source"):
            raise TypeError(
                "most_influential_set confirms by a refit, and a net trained again differs by its "
                "start alone; use top_influences or group_influence"
            )
