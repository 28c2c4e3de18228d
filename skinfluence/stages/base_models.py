"""A model whose predictions are handed on as columns, with their derivatives."""

import numpy as np
from sklearn.base import is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing

from .base import numeric
from .numerical import input_slopes

# Rows on which an objective's predictions are compared with those of its estimator.
COMPARED = 50


class BaseModel:
    """A fitted model, the objective behind its predictions, and how both move with their rows.

    Parameters
    ----------
    estimator : fitted estimator
        A pipeline, too.
    method : {"predict", "predict_proba", "decision_function"}
        Which of its predictions are handed on; of two classes the second alone.
    X, y, sample_weight
        What it was fitted on.
    members : ndarray of int, optional
        Which training rows these are; all by default.

    Attributes
    ----------
    known : bool
        Whether its parameters are followed; else it is kept as fitted.
    held : list of str
        What of it is kept as fitted, and why.
    """

    def __init__(self, estimator, method, X, y, sample_weight=None, members=None):
        self.estimator, self.method, self.members = estimator, method, members
        self.width = self._fitted_values(_safe_indexing(X, np.arange(1))).shape[1]
        self.held, self.objective, self.n_params = [], None, 0
        self._effects, self.frozen = None, isinstance(estimator, FrozenEstimator)
        if self.frozen:  # no removal moves it
            return
        try:
            self._follow(X, y, sample_weight)
        except (TypeError, ValueError) as error:
            self.forget(f"{type(estimator).__name__}: {str(error).split(';')[0]}")

    def forget(self, reason):
        """Keep it as fitted."""
        self.objective, self.n_params, self.held = None, 0, [reason]

    @property
    def rough(self):
        """Whether some step before it moves by lookups, not by a derivative."""
        if not self.known or not self.staged:
            return False
        target = self.objective.target
        return self.objective.chain.rough or (target is not None and target.rough)

    @property
    def known(self):
        """Whether there is an objective."""
        return self.objective is not None

    def _follow(self, X, y, sample_weight):
        from .._effects import as_rows
        from .._follow import stacked  # which follows chains of stages, this one among them
        from .._unwrap import unwrap
        from ..objectives.base import objective_for
        from ..objectives.behind import behind
        from ..objectives.stacked import StackedObjective
        from ..solvers.base import fitted_solver
        from ..solvers.direct import Direct

        def make(rows):
            rows = as_rows(rows)
            return objective_for(final, rows, y, sample_weight), rows

        steps, final = unwrap(self.estimator)
        rows = X if hasattr(X, "shape") else np.asarray(X)
        objective, _, held = stacked(steps, final, rows, y, sample_weight, make)
        self.staged = isinstance(objective, StackedObjective)
        self.behind = objective.behind if self.staged else behind(objective)
        if self.behind is None:
            raise ValueError("it is not followed")
        if self.method == "predict" and is_classifier(self.estimator):
            raise ValueError("its labels have no derivative")
        self.objective, self.steps = objective, steps
        self.held = [f"{name}: {why}" if name else why for name, why in held]
        some = _safe_indexing(X, np.arange(min(COMPARED, X.shape[0])))
        gap = np.abs(self.values(some) - self._fitted_values(some)).max()
        if gap > 0.05 * max(1.0, np.abs(self.values(some)).max()):
            raise ValueError(f"its {self.method} is not that of the optimum it approaches")
        self.n_params = objective.n_params
        self.gradients = objective.removal_gradients()
        self.solver = fitted_solver(Direct(), objective)

    # -- predictions -----------------------------------------------------------------------
    def values(self, X):
        """Columns handed on for ``X``, at the optimum: (m, width)."""
        if not self.known:
            return self._fitted_values(X)
        Z, head = self._queries(X).outputs, self.objective.head
        if self.method == "predict_proba":
            P = head.proba(Z)
            return P[:, 1:] if P.shape[1] == 2 else P
        return np.column_stack([head.decision(Z, np.intp(k)) for k in self._columns()])

    def _fitted_values(self, X):
        out = np.asarray(getattr(self.estimator, self.method)(X), dtype=np.float64)
        if self.method == "predict_proba" and out.shape[1] == 2:
            return out[:, 1:]
        return out.reshape(len(out), -1)

    def _columns(self):
        head = self.objective.head
        if self.method == "predict_proba" and len(head.classes) == 2:
            return [1]
        return range(self.width)

    def _queries(self, X):
        from .._effects import as_rows
        from .._unwrap import transform
        from ..objectives.stacked import RawRows

        if self.staged:
            return self.objective.queries(RawRows(X))
        return self.objective.queries(as_rows(transform(self.steps, X)))

    def _pull_values(self, Z, C):
        """Cotangents of the columns back to the outputs."""
        head = self.objective.head
        proba = self.method == "predict_proba"
        slope = head.proba_gradient if proba else head.decision_gradient
        index = [np.full(len(Z), k) for k in self._columns()]
        return sum(C[:, [c]] * slope(Z, k) for c, k in enumerate(index))

    # -- derivatives -----------------------------------------------------------------------
    def pull_params(self, X, C):
        """Cotangents of the columns back to the parameters: (m, n_params)."""
        queries = self._queries(X)
        return queries.pullback(self._pull_values(queries.outputs, C))

    def pull_rows(self, X, C):
        """Cotangents of the columns back to the rows, parameters held: (m, d)."""
        if self.frozen:
            return input_slopes(self.values, numeric(X), C)
        pulled = self.behind.pull_rows(self._pull_values(self._queries(X).outputs, C))
        return self.objective.chain.pull_inputs(X, pulled) if self.staged else pulled

    def pull_fit(self, v):
        """A cotangent of the parameters back to the rows of the fit: (n, d)."""
        if not self.staged:
            return self.behind.pull_fit(v)
        size, chain = self.objective.n_theta, self.objective.chain
        out = chain.pull_training(self.behind.pull_fit(v[:size]))
        return out + chain.pull_fit(v[size : size + self.objective.n_chain])

    def derivatives(self, rows):
        """Change of the parameters to first order when each training row goes."""
        place, inside = self._inside(rows)
        out = np.zeros((len(rows), self.n_params))
        if len(place):
            block = self.gradients.block(place).astype(np.float64)
            out[inside] = self.solver.solve(block.T).T
        return out

    def removals(self, rows):
        """Change of the parameters by the objective's own best step without each row."""
        if self._effects is None:
            from ..methods import Problem, resolve_method

            problem = Problem(self.objective, self.solver)
            self._effects = resolve_method("auto", self.objective).bind(problem)
        place, inside = self._inside(rows)
        out = np.zeros((len(rows), self.n_params))
        if len(place):
            out[inside] = self._effects.parameters(place)
        return out

    def _inside(self, rows):
        """Places among the model's own rows of those of ``rows`` it was fitted on."""
        rows = np.asarray(rows)
        if self.members is None:
            return rows, np.ones(len(rows), dtype=bool)
        inside = np.isin(rows, self.members)
        return np.searchsorted(self.members, rows[inside]), inside
