"""Rigorous bounds on the distance to the optimum without a row.

Let ``M_i`` be the Hessian at the fit less the row's own term, ``g`` the gradient of ``F_{-i}`` at
``θ_a = θ̂ + δ``, and ``b`` the bound of the third derivative of the loss in units of the second
(1 for logistic and softmax losses). With ``s = b max_j |x_j'δ|`` over the remaining rows,
``∇²F_{-i}(θ_a) ≥ e^{-s} M_i`` and, along a direction ``v`` from there, ``≥ e^{-s - b max_j
|x_j'v|} M_i``. Integrating ``g`` from the optimum to ``θ_a`` gives

    ‖θ_a - θ_{-i}‖_{M_i} ≤ -log(1 - b √a ‖g‖_{M_i⁻¹} e^s) / (b √a),   a = max_j x_j' M_i⁻¹ x_j,

when the logarithm exists. For coupled outputs ``|x_j'v|`` is the range of the row's outputs,
which no common shift changes. One quasi-Newton step ``M_i⁻¹ g`` shortens the distance by a
factor that the same inequality bounds, so the distance is the length of that step up to little.
"""

from dataclasses import replace
from functools import singledispatch

import numpy as np
from scipy.linalg import eigh

from .._blocks import block_length, blocks, map_threads
from ..objectives.composite import IndependentOutputs
from ..objectives.linear import LinearObjective
from ..solvers.direct import Direct
from ..solvers.factor import PrimalFactor, PseudoFactor, solve_repeated
from .rounding import UNIT, gradient_floor
from .without_row import WithoutRow


@singledispatch
def certificate_for(objective, problem):
    """A certificate of an objective: ``bound(rows, delta)``; register another kind here.

    ``bound`` takes index arrays and approximations ``delta`` of shape (b, n_params), and returns
    bounds of shape (b,) on ``‖θ̂ + δ_i - θ_{-i}‖₂``. ``joint_bound`` is that of rows removed
    together.
    """
    raise TypeError(
        f"error_bound is not known for {type(objective).__name__}: it takes a linear predictor "
        "with a strictly convex objective. Compare some rows with method='refit' instead"
    )


@certificate_for.register(LinearObjective)
def _(objective, problem):
    return LinearCertificate(replace(problem, solver=exact_solver(objective, problem.solver)))


@certificate_for.register(IndependentOutputs)
def _(objective, problem):
    return StackedCertificate(objective, problem)


def exact_solver(objective, solver):
    """The solver itself where it inverts the Hessian and nothing else, else a direct one."""
    undamped = isinstance(solver, Direct) and not solver.damping_
    return solver if undamped else Direct().fit(objective)


class LinearCertificate:
    """Certificate of a linear predictor.

    Attributes
    ----------
    third : float or None
        Bound of the third derivative of the loss in units of the second.
    own : ndarray of shape (n_rows,)
        Leverage of each row.
    floor : float
        Rounding of the gradient at the fit, in the norm of the inverse Hessian.
    relative_floor : float
        Rounding of the gradient of a move, in units of the length of the move.
    """

    def __init__(self, problem):
        objective = self.objective = problem.objective
        _check_convex(objective, problem.solver)
        self.solver = problem.solver
        self.without = WithoutRow(problem)
        bounds = objective.loss.relative_bounds
        self.third = None if bounds is None else bounds[0]
        self._measure_rows()
        self._measure_hessian()

    def _measure_rows(self):
        objective = self.objective
        reach = np.empty(objective.n_rows)
        self.own = np.empty(objective.n_rows)
        for piece in _leverage_blocks(objective, objective.n_rows):
            rows = np.arange(piece.start, piece.stop)
            reach[piece] = _pair_leverage(self.without.leverages(rows))
            self.own[piece] = objective.output_leverages(self.solver, rows)
        reach[objective.weights == 0] = 0.0
        top = np.argsort(reach)[-2:]
        self._furthest = int(top[-1])
        self.largest_reach, self._second = float(reach[top[-1]]), float(reach[top[0]])

    def _measure_hessian(self):
        objective = self.objective
        factor, block = self.solver.factors_[0], self.solver.blocks_[0]
        skip = 0 if block.gauge is None else block.gauge.shape[1]
        matrix = self.without.matrix
        scale = factor.scale if isinstance(factor, PrimalFactor) else np.ones(block.size)
        values = np.linalg.eigvalsh(matrix)
        self.smallest, self._largest = float(values[skip]), float(values[-1])
        scaled = np.linalg.eigvalsh(matrix * scale[:, None] * scale)
        n, P = objective.n_rows, objective.n_params
        condition = scaled[-1] / scaled[skip]
        self.relative_floor = UNIT * np.sqrt(P) * (n + 4 * P * np.sqrt(condition))
        if self.smallest <= UNIT * P * np.abs(matrix).max():
            raise ValueError(
                "the Hessian is singular to working precision: the objective is not strictly "
                "convex and the distance to its minimum has no bound. Add a penalty"
            )
        self.floor = gradient_floor(objective, self.solver, self.smallest)

    # -- parts of the bound ----------------------------------------------------------------
    def left(self, rows):
        """``1 - leverage``: ``M_i ≥ (1 - leverage) H``."""
        return np.maximum(1 - self.own[rows], 0.0)

    def reach(self, rows):
        """Largest ``x_j' H⁻¹ x_j`` of the rows other than each of ``rows``."""
        return np.where(np.asarray(rows) == self._furthest, self._second, self.largest_reach)

    def rule_range(self, rows):
        """Smallest and largest factor by which the rules scale a part of the objective."""
        phi, rho = self.objective.rule.factors(rows)
        factors = np.column_stack([phi, rho])
        return factors.min(axis=1), factors.max(axis=1)

    def stretch(self, rows):
        """``b √a``: by how much the outputs of the remaining rows can move, a unit of length."""
        with np.errstate(divide="ignore"):
            return self.third * np.sqrt(self.reach(rows) / self.left(rows))

    def error(self, rows, spread, decrement):
        """Bound on the distance to the optimum in the norm of ``M_i``; infinite if none."""
        if self.third is None:
            return np.full(len(rows), np.inf)
        low, _ = self.rule_range(rows)
        with np.errstate(over="ignore", invalid="ignore"):
            nu = decrement * np.exp(self.third * spread) / low
        return _concordant(nu, self.stretch(rows))

    def contraction(self, rows, spread, error):
        """Factor by which the step ``M_i⁻¹ g`` shortens a distance of at most ``error``."""
        if self.third is None:
            return np.full(len(rows), np.inf)
        low, high = self.rule_range(rows)
        with np.errstate(over="ignore", invalid="ignore"):
            along = np.where(error > 0, error * self.stretch(rows), 0.0)
            along = along + self.third * spread
            return np.fmax(high * np.exp(along) - 1, 1 - low * np.exp(-along))

    def rounding(self, rows, lengths):
        """Rounding of the gradient in the norm of ``M_i⁻¹``, for moves of these lengths."""
        with np.errstate(divide="ignore"):
            return (self.floor + self.relative_floor * lengths) / np.sqrt(self.left(rows))

    def euclidean(self, rows):
        """Largest ``‖v‖₂`` of a unit of length in the norm of ``M_i``, in public units."""
        smallest = np.maximum(self.left(rows) * self.smallest, self.objective.penalty.min())
        with np.errstate(divide="ignore"):
            return self._units / np.sqrt(smallest)

    @property
    def _units(self):
        return max(1.0, abs(self.objective.design.intercept or 1.0))

    # -- the bound -------------------------------------------------------------------------
    def bound(self, rows, delta):
        """Bounds on ``‖θ̂ + δ_i - θ_{-i}‖₂``, shape (b,)."""
        return self.bound_and_rounding(rows, delta)[0]

    def bound_and_rounding(self, rows, delta):
        """Bounds, and the part of each that is float64 rounding: both (b,)."""
        rows = np.asarray(rows)
        out = np.empty((2, len(rows)))

        def work(part):
            out[:, part] = self._bound(rows[part], delta[part])

        map_threads(work, self.without.chunks(np.arange(len(rows))))
        return out

    def _bound(self, rows, delta):
        slope = self.without.slope(rows, delta)
        noise = self.rounding(rows, self.without.lengths(rows, delta))
        error = self.error(rows, slope.spread, slope.decrement + noise)
        out = self.distance(rows, slope, error, noise)
        rounding = self.euclidean(rows) * noise
        for i in np.flatnonzero(~(out < np.inf)):
            out[i], rounding[i] = self._far_bound(rows[i], delta[i], slope.gradient[i])
        return np.fmin(out, self._strong(rows, slope.gradient, noise)), rounding

    def distance(self, rows, slope, error, noise):
        """Euclidean bound from one in the norm of ``M_i``: by the step, where that is shorter."""
        units = self.euclidean(rows)
        factor = self.contraction(rows, slope.spread, error)
        step = self._units * np.linalg.norm(slope.step, axis=1) + units * noise
        with np.errstate(invalid="ignore"):
            return np.fmin(units * error, step + units * factor * error)

    def _strong(self, rows, gradient, noise):
        """Bound by the penalty alone, where it covers every parameter."""
        smallest = self.rule_range(rows)[0] * self.objective.penalty.min()
        norm = np.linalg.norm(gradient, axis=1) + noise * np.sqrt(self._largest)
        with np.errstate(divide="ignore"):
            return self._units * norm / smallest

    def _far_bound(self, row, delta, gradient):
        """Where ``M_i`` tells nothing: the Hessian at ``θ_a``, else the way to the optimum."""
        _, bound, rounding = self.own_step(np.array([row]), delta, gradient)
        if np.isfinite(bound) or self.third is None:
            return bound, rounding
        optimum = self.without.minimum(np.array([row]), delta)
        optimum, left, rounding = self.refine(row, optimum)
        return self._units * np.linalg.norm(delta - optimum) + left, rounding

    def refine(self, row, delta):
        """Newton steps from a point close to the optimum, and the bound at the last.

        Gradients are those of differences from the fit, precise relative to ``delta``, which those
        of the whole objective are not.
        """
        for _ in range(3):
            gradient = self.without.slope(np.array([row]), delta[None]).gradient[0]
            step, bound, rounding = self.own_step(np.array([row]), delta, gradient)
            if not np.isfinite(bound) or np.linalg.norm(step) <= 1e-12 * np.linalg.norm(delta):
                break
            delta = delta - step
        return delta, bound, rounding

    def own_step(self, rows, delta, gradient, floor=None):
        """Newton step by the Hessian at ``θ_a`` itself, and the bound and rounding it gives.

        ``rows`` are removed together; ``floor`` is :attr:`floor` unless given.
        """
        if self.third is None:
            return np.zeros_like(delta), np.inf, np.inf
        objective = self.objective
        floor = self.floor if floor is None else floor
        phi, rho = objective.rule.joint_factors(rows)
        weights = objective.weights * phi[objective.rule.groups]
        weights[rows] = 0.0
        block = objective.quadratic(objective.theta + delta, weights, rho)
        try:
            factor = block.factorise()
        except np.linalg.LinAlgError:
            return np.zeros_like(delta), np.inf, np.inf
        step = solve_repeated(factor, gradient[:, None], block.repeats)[:, 0]
        smallest, share = self._smallest_at(block)
        if not (smallest > 0 and share > 0):
            return step, np.inf, np.inf
        reach = _reach_at(objective, factor, block, weights > 0)
        length = np.sqrt(self.without.fitted_squares(delta[None])[0])
        noise = (floor + self.relative_floor * length) / np.sqrt(share)
        stretch = self.third * np.sqrt(reach)
        nu = np.sqrt(max(0.0, gradient @ step)) + noise
        error = float(_concordant(np.array([nu]), np.array([stretch]))[0])
        units = self._units / np.sqrt(smallest)
        if not np.isfinite(error):
            return step, np.inf, units * noise
        stepped = self._units * np.linalg.norm(step) + units * noise
        stepped += units * np.expm1(stretch * error) * error
        return step, min(units * error, stepped), units * noise

    def joint_bound(self, rows, delta):
        """Bound on ``‖θ̂ + δ - θ_{-G}‖₂`` for the rows of a group ``G`` removed together."""
        rows = np.asarray(rows)
        gradient = self.without.joint_gradient(rows, delta)
        phi, rho = self.objective.rule.joint_factors(rows)
        floor = (1 + max(1.0, np.abs(phi - 1).max())) * self.floor  # of the fit, of the rows
        bound = self.own_step(rows, delta, gradient, floor)[1]
        strong = rho * self.objective.penalty.min()
        if not strong > 0:
            return bound
        length = np.sqrt(self.without.fitted_squares(delta[None])[0])
        noise = (floor + self.relative_floor * length) * np.sqrt(self._largest)
        return min(bound, self._units * (np.linalg.norm(gradient) + noise) / strong)

    def _smallest_at(self, block):
        """Smallest eigenvalue of another Hessian, by itself and in units of the fitted one."""
        gauge, matrix, fitted = block.gauge, block.matrix(), self.without.matrix
        if gauge is not None:
            matrix = matrix + self._largest * gauge @ gauge.T
            fitted = fitted + self._largest * gauge @ gauge.T
        share = eigh(matrix, fitted, eigvals_only=True, subset_by_index=[0, 0])
        return float(np.linalg.eigvalsh(matrix)[0]), float(share[0])


class StackedCertificate:
    """Certificates of independent objectives together."""

    def __init__(self, objective, problem):
        self.objective = objective
        self.parts = [
            certificate_for(part, replace(problem, objective=part, solver=None))
            for part in objective.parts
        ]

    def bound(self, rows, delta):
        """Root of the sum of squares of the parts' bounds."""
        pairs = zip(self.objective.parameter_slices, self.parts, strict=True)
        return np.sqrt(sum(part.bound(rows, delta[:, piece]) ** 2 for piece, part in pairs))

    def joint_bound(self, rows, delta):
        """The same for rows removed together."""
        pairs = zip(self.objective.parameter_slices, self.parts, strict=True)
        return np.sqrt(sum(part.joint_bound(rows, delta[piece]) ** 2 for piece, part in pairs))


def _concordant(nu, stretch):
    """``-log(1 - stretch nu) / stretch``; ``nu`` where ``stretch`` is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = stretch * nu
        grown = -np.log1p(-inside) / stretch
    return np.where(inside < 1, np.where(inside > 0, grown, nu), np.inf)


def _pair_leverage(leverages):
    """``x'H⁻¹x`` of a row, or the largest of the differences between two of its outputs."""
    if leverages.ndim == 1:
        return leverages
    own = np.einsum("ikk->ik", leverages)
    return (own[:, :, None] + own[:, None, :] - 2 * leverages).max(axis=(1, 2))


def _reach_at(objective, factor, block, present):
    """Largest pair leverage of the present rows under another Hessian."""

    class Factored:  # what leverage_blocks asks of a solver
        factors_ = (factor,)

        @staticmethod
        def solve(V):
            return solve_repeated(factor, V, block.repeats)

        @staticmethod
        def inverses():
            return [factor.inverse() if hasattr(factor, "inverse") else None]

    rows = np.flatnonzero(present)
    return max(
        float(_pair_leverage(objective.leverage_blocks(Factored, rows[part])).max())
        for part in _leverage_blocks(objective, len(rows))
    )


def _leverage_blocks(objective, n_rows):
    """Slices of rows whose leverage blocks, and what makes them, fit the memory budget."""
    per_row = 24 * (objective.n_params + objective.n_outputs**2)
    return blocks(n_rows, min(4096, block_length(per_row, share=1 / 8)))


def provable(objective, solver):
    """Whether distances to the optimum can be bounded."""
    try:
        _check_convex(objective, solver)
    except ValueError:
        return False
    return True


def _check_convex(objective, solver):
    if not objective.strictly_convex or isinstance(solver.factors_[0], PseudoFactor):
        raise ValueError(
            "error_bound needs a strictly convex objective, and the columns of X are linearly "
            "dependent without a penalty. Add a penalty or drop columns"
        )
    if objective.loss.relative_bounds is None and not objective.penalty.min() > 0:
        raise ValueError(
            f"error_bound is not known for {type(objective.loss).__name__} with an unpenalised "
            "parameter: the loss has no bound on its third derivative in units of the second. "
            "Penalise the intercept (liblinear does), or compare rows with method='refit'"
        )
