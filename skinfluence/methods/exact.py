"""The optimum of the objective without the row."""

import contextlib
import warnings
from dataclasses import replace
from functools import singledispatch

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .._blocks import blocks, map_threads, working_bytes
from ..objectives.composite import IndependentOutputs
from ..objectives.linear import LinearObjective
from ..solvers.factor import PrimalFactor
from .base import Effects, Method
from .certificate import LinearCertificate, certificate_for, exact_solver, provable
from .expansion import Expansion
from .newton import StackedEffects, check_lone_rows, newton_effects
from .pairs import Pairs
from .sweep import Sweep
from .without_row import WithoutRow

# Time of a row's expansion in d³ operations: with few rows a sweep's passes over them are faster.
TENSOR_COST = 30


class Exact(Method):
    """The optimum of the objective without each row, to a tolerance.

    Every row goes through the cheapest engine that can prove it:

    - squared losses: the Newton step, which is exact;
    - one smooth output without data-dependent weights: the root of a third- or fourth-order
      Taylor expansion of the gradient, for all rows at once in O(n d³);
    - else, and for the rows whose remainder is too large: quasi-Newton steps over all pairs
      of rows, several outputs and wide data included;
    - rows that contract slowly there: damped Newton, a row at a time.

    The engines never give up accuracy for time: with a strict ``tol``, rows the expansion cannot
    prove cost a pass over the data each. A larger ``tol`` makes them cheap. A warning names the
    rows that rounding keeps from ``tol``. ``error_bound`` of the explainer returns what was
    proved for each row.

    Parameters
    ----------
    tol : float, default=1e-8
        Relative accuracy of the change of the parameters, in the norm of the Hessian without the
        row. Losses whose second derivative jumps (squared hinge) are solved to it by the observed
        rate of convergence; the others are proved.

    References
    ----------
    Sun, T. and Tran-Dinh, Q. (2019). Generalized self-concordant functions: a recipe for
    Newton-type methods. Mathematical Programming 178. https://arxiv.org/abs/1703.04599

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.methods import Exact
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> explainer = InfluenceExplainer(LogisticRegression(), method=Exact(tol=1e-6))
    >>> explainer.fit(scale(X), y).parameter_influence([0, 1]).shape
    (2, 31)
    """

    def __init__(self, tol=1e-8):
        self.tol = tol

    def bind(self, problem):
        """Effects for the kind of objective."""
        if not 0 < self.tol < 1:
            raise ValueError(f"tol={self.tol!r} must lie between 0 and 1")
        return exact_effects(problem.objective, problem, self.tol)


@singledispatch
def exact_effects(objective, problem, tol):
    """Exact effects of an objective; register another kind of objective here."""
    raise TypeError(
        f"method='exact' is not known for {type(objective).__name__}; use method='newton' or "
        "'refit', or register one with methods.exact.exact_effects"
    )


@exact_effects.register(IndependentOutputs)
def _(objective, problem, tol):
    return StackedEffects(problem, lambda part, sub: exact_effects(part, sub, tol))


@exact_effects.register(LinearObjective)
def _(objective, problem, tol):
    problem = replace(problem, solver=exact_solver(objective, problem.solver))
    if is_quadratic(objective):
        return newton_effects(objective, problem)
    return LinearExactEffects(problem, tol)


def is_quadratic(objective):
    """Whether the loss is quadratic: one Newton step then ends at the optimum."""
    bounds = objective.loss.relative_bounds
    return bounds is not None and not any(bounds)


class LinearExactEffects(Effects):
    """Optima without a row of a linear predictor, kept once found.

    Attributes
    ----------
    engines : dict
        How many rows each engine has solved.
    """

    def __init__(self, problem, tol):
        super().__init__(problem)
        self.tol = tol
        self.start = newton_effects(self.objective, problem)
        self._without = WithoutRow(problem)
        self.engines = {"expansion": 0, "sweep": 0, "damped Newton": 0}
        self._planned, self._asked = False, 0
        self._lone = self.objective.lone_rows()
        n, p = self.objective.n_rows, self.objective.n_params
        self._bounds, self._known = np.full(n, np.nan), np.zeros(n, dtype=bool)
        self._kept = None
        if 8 * n * p <= working_bytes() / 2:
            self._kept = np.empty((n, p))

    # -- what the explainer asks -----------------------------------------------------------
    def parameters(self, rows):
        """From what was found before, or by the engines."""
        rows = np.asarray(rows)
        check_lone_rows(self.objective, self._lone, rows)
        if self._kept is None:
            return self._solve(rows)
        wanted = np.zeros(self.objective.n_rows, dtype=bool)
        wanted[rows] = True
        missing = np.flatnonzero(wanted & ~self._known)
        if len(missing):
            missing = self._widened(missing)
            self._kept[missing] = self._solve(missing)
            self._known[missing] = True
        return self._kept[rows]

    def joint_parameters(self, groups):
        """Group by group, re-linearised until the step is small."""
        starts = self.start.joint_parameters(groups)
        return np.array([self._without.minimum(g, s) for g, s in zip(groups, starts, strict=True)])

    def error_bound(self, rows):
        """Bounds proved for the rows, (b,): distance of the parameters to the optimum."""
        rows = np.asarray(rows)
        self._plan()
        if self._certificate is None:
            certificate_for(self.objective, self.problem)  # says why there is none
        unknown = rows[np.isnan(self._bounds[rows])]
        for piece in self.row_blocks(unknown):
            self.parameters(piece)
        return self._bounds[rows]

    # -- engines ---------------------------------------------------------------------------
    def _widened(self, rows):
        """Fill whole blocks when a table is asked for piece by piece: the engines like many."""
        if self._expansion_due() and len(rows) > 16 and rows[-1] - rows[0] + 1 == len(rows):
            length = 8192
            first, last = rows[0] // length * length, -(-(rows[-1] + 1) // length) * length
            wide = np.arange(first, min(last, self.objective.n_rows))
            return np.setdiff1d(wide[~self._known[wide]], self._lone)
        return rows

    def _solve(self, rows):
        """Changes of the parameters for rows not known yet; keeps their bounds."""
        self._plan()
        self._asked += len(rows)
        if self._expansion_due():
            delta, open_rows = self._expand(rows)
        else:
            delta, open_rows = self._newton(rows)
        open_rows = self._sweep(rows, delta, open_rows)
        self._damp(rows, delta, open_rows)
        return delta

    def _plan(self):
        """Which engines there are for the objective."""
        if self._planned:
            return
        objective = self.objective
        if provable(objective, self.problem.solver):
            # none for a Hessian that is singular in the units of its columns
            with contextlib.suppress(ValueError):
                self._certificate = LinearCertificate(self.problem)
        self._expansion = None
        bounds = objective.loss.relative_bounds
        self._expandable = (
            self._certificate is not None
            and objective.n_outputs == 1
            and objective.rule.trivial
            and None not in bounds
            and isinstance(self.problem.solver.factors_[0], PrimalFactor)
            and 64 * Pairs(objective.d).size * objective.d <= working_bytes()
            and objective.n_rows * _pair_cost(objective.d) >= TENSOR_COST * objective.d**3
        )
        self._planned = True

    def _expansion_due(self):
        """Whether the rows asked for so far are worth the tensors of an expansion."""
        self._plan()
        if not self._expandable:
            return False
        d = self.objective.d
        per_row = 3 * self.objective.n_rows * _pair_cost(d)
        tensor = 4 * self.objective.n_rows * Pairs(d).size * d
        return self._asked * per_row >= tensor or self._asked == self.objective.n_rows

    def _expand(self, rows):
        if self._expansion is None:
            self._expansion = self._make_expansion()
        expansion = self._expansion
        delta = np.empty((len(rows), self.objective.n_params))
        proved = np.zeros(len(rows), dtype=bool)

        def work(part):
            solution = expansion.solve(rows[part], self.tol)
            exact, total = expansion.prove(rows[part], solution)
            wide = np.flatnonzero(~(exact <= self.tol * solution.length))
            if len(wide):
                closer = expansion.prove(rows[part][wide], solution.of(wide), measured=True)
                exact[wide], total[wide] = np.minimum((exact[wide], total[wide]), closer)
            delta[part] = expansion.parameters(solution.whitened)
            proved[part] = exact <= self.tol * solution.length
            self._bounds[rows[part]] = self._certificate.euclidean(rows[part]) * total

        map_threads(work, blocks(len(rows), 512))
        self.engines["expansion"] += int(proved.sum())
        return delta, np.flatnonzero(~proved)

    def _make_expansion(self):
        """Third order, or fourth where that saves more passes over the rows than it costs."""
        expansion = Expansion(self._certificate)
        n, size = self.objective.n_rows, expansion.pairs.size
        third, fourth = (expansion.provable(self.tol, order) for order in (False, True))
        # A tenth of a pass is worth paying for a better start even where it proves nothing.
        saved = max(fourth - third, 0.1 * (1 - third))
        if saved * n * _pair_cost(self.objective.d) > 3 * size**2:
            expansion.add_fourth()
        return expansion

    def _newton(self, rows):
        try:
            delta = self.start.parameters(rows)
        except ValueError:
            if self.objective.rule.trivial:
                raise
            delta = np.zeros((len(rows), self.objective.n_params))
        return delta, np.arange(len(rows))

    def _sweep(self, rows, delta, open_rows):
        if len(open_rows) == 0 or self.objective.rank_deficient:
            return open_rows
        sweep = Sweep(self._without, self.tol, self._certificate, self._expansion)
        part = delta[open_rows]
        bounds, done = sweep.run(rows[open_rows], part)
        delta[open_rows[done]] = part[done]
        self._bounds[rows[open_rows]] = bounds
        self.engines["sweep"] += int(done.sum())
        return open_rows[~done]

    def _damp(self, rows, delta, open_rows):
        if len(open_rows) == 0:
            return
        starts = self._newton(rows[open_rows])[0]
        rounding = np.empty(len(open_rows))
        for k, (i, start) in enumerate(zip(open_rows, starts, strict=True)):
            delta[i] = self._without.minimum(rows[[i]], start)
            if self._certificate is not None:
                refined = self._certificate.refine(rows[i], delta[i])
                delta[i], self._bounds[rows[i]], rounding[k] = refined
        self.engines["damped Newton"] += len(open_rows)
        if self._certificate is not None:
            damped = rows[open_rows]
            self._warn_unproved(damped, delta[open_rows], self._bounds[damped], rounding)

    def _warn_unproved(self, rows, delta, bounds, rounding):
        bad = ~(bounds <= self.tol * np.linalg.norm(delta, axis=1) + 4 * rounding)
        if bad.any():
            worst = rows[bad][np.argmax(bounds[bad])]
            warnings.warn(
                f"{bad.sum()} rows are not proved to tol={self.tol}: the largest bound on the "
                f"error of the parameters is {bounds[bad].max():.1e}, at row {worst}; "
                "error_bound() has that of every row",
                ConvergenceWarning,
                stacklevel=2,
            )


def _pair_cost(d):
    """Time of one pair of rows in a sweep, in operations of a float32 matrix product."""
    return 8 * d + 1000
