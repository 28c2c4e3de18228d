"""Leave-one-out optima of all rows from one Taylor expansion of the gradient, in O(n d³).

In coordinates in which the fitted Hessian is the identity, the gradient of the objective without
row ``i`` at ``θ̂ + δ`` is ``M_i δ - r_i u_i + ½ T₃[δ, δ] + ⅙ T₄[δ, δ, δ] + remainder``, the row's
own terms taken out of the tensors ``T``. The tensors are made once, so that no pair of rows is
ever formed. The remainder is bounded through the next derivative of the loss (see
:mod:`skinfluence.methods.certificate` for the inequalities), which proves the result.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
from scipy.linalg import solve_triangular

from .._blocks import blocks, index_blocks, map_threads, n_threads
from .rounding import UNIT
from .pairs import Pairs

UNIT32 = np.finfo(np.float32).eps / 2
BLOCK = 1024


@dataclass
class Solution:
    """Roots of the expansion for some rows, in whitened coordinates.

    Attributes
    ----------
    delta : ndarray of shape (b, d)
    residual : ndarray of shape (b,)
        Bound on what is left of the expansion there, in the norm of ``M_i⁻¹``.
    spread : ndarray of shape (b,)
        Bound on ``max_j |x_j'δ|``.
    """

    delta: np.ndarray
    residual: np.ndarray
    spread: np.ndarray


class Expansion:
    """Third-order expansion of a scalar loss of one output under a trivial removal rule.

    Parameters
    ----------
    certificate : LinearCertificate
        Of the objective; its solver holds the Cholesky factor.
    """

    max_iter = 12

    def __init__(self, certificate):
        self.certificate, self.objective = certificate, certificate.objective
        self.bounds = self.objective.loss.relative_bounds
        factor = certificate.solver.factors_[0]
        cholesky = np.tril(factor._cholesky[0])
        inverse = solve_triangular(cholesky, np.eye(len(cholesky)), lower=True)
        self.whitening = factor.scale[:, None] * inverse.T
        rounding = np.abs(inverse) @ np.abs(cholesky)
        # Rounding of whitened rows, and of products with them, relative to their length.
        self._unwhitening = cholesky.T / factor.scale
        self.relative_floor = 10 * UNIT * len(cholesky) * np.linalg.norm(rounding)
        self.pairs = Pairs(self.objective.d)
        self._third = self._weighted(self.objective.loss.third)
        self._fourth = self._quartic = None
        self._cubic = self._build_cubic()

    def _weighted(self, derivative):
        return self.objective.weights * derivative(self.objective.outputs, self.objective.y)

    # -- tensors ---------------------------------------------------------------------------
    def _rows(self, rows):
        """Whitened rows."""
        return self.objective.design.block(rows, np.float64) @ self.whitening

    def _sum(self, term):
        """Sum of ``term(slice)`` over blocks of rows, a running sum a thread."""
        pieces = list(blocks(self.objective.n_rows, BLOCK))
        shares = [pieces[k :: n_threads()] for k in range(min(n_threads(), len(pieces)))]

        def work(share):
            total = term(share[0])
            for piece in share[1:]:
                total += term(piece)
            return total

        return reduce(np.add, map_threads(work, shares))

    def _build_cubic(self):
        def term(piece):
            U = self._rows(piece)
            return self.pairs.of(U).T @ (self._third[piece, None] * U)

        return self._sum(term) * self.pairs.counts[:, None]

    def add_fourth(self):
        """Carry the fourth order: a table over pairs, products in float32, sums in float64.

        Rows are scaled to length at most 1 first; signs are kept apart, since BLAS forms a
        product of a matrix with itself at half the cost.
        """
        self._fourth = self._weighted(self.objective.loss.fourth)
        self._unit = 1 / np.sqrt(max(self.certificate.largest_reach, 1e-300))

        def term(piece):
            U = self._rows(piece) * self._unit
            f = self._fourth[piece]
            scaled = self.pairs.of(U.astype(np.float32))
            scaled *= np.sqrt(np.abs(f)).astype(np.float32)[:, None]
            positive, negative = scaled[f > 0], scaled[f < 0]
            return (positive.T @ positive).astype(np.float64) - negative.T @ negative

        def size(piece):
            return np.array([np.abs(self._fourth[piece]) @ (self._rows(piece) ** 2).sum(1) ** 2])

        table = self._sum(term) * self.pairs.counts[:, None]
        self._quartic = table.astype(np.float32)
        # Every float32 sum is over at most BLOCK rows or all pairs, with a few roundings more.
        terms = BLOCK + self.pairs.size + 2 * self.objective.d + 16
        self._quartic_floor = 1.01 * terms * UNIT32 * float(self._sum(size)[0]) / 6

    def _quartic_term(self, rows, U, delta):
        """``⅙ T₄[δ, δ, δ]`` without the row's own term."""
        scaled = (delta / self._unit_length(delta)).astype(np.float32)
        table = self.pairs.of(scaled) @ self._quartic
        out = self.pairs.contract(table, scaled).astype(np.float64)
        out *= self._unit_length(delta) ** 3 / self._unit**4
        own = np.einsum("ij,ij->i", U, delta)
        out -= (self._fourth[rows] * own**3)[:, None] * U
        return out / 6

    @staticmethod
    def _unit_length(delta):
        return np.maximum(np.linalg.norm(delta, axis=1), 1e-300)[:, None]

    # -- roots -----------------------------------------------------------------------------
    def solve(self, rows, tol, start=None, shift=None):
        """Roots of the expansion plus ``shift``, to a small part of ``tol``: a :class:`Solution`.

        Steps are those of the downdated Hessian; ``shift`` stands for the fourth order and all
        that follows, where it is known.
        """
        U = self._rows(rows)
        h = self.objective.curvatures[rows]
        r = self.objective.residuals[rows]
        left = 1 - h * np.einsum("ij,ij->i", U, U)
        delta = U * (r / left[:, None]) if start is None else start
        extra = np.zeros(delta.shape) if shift is None else shift
        fixed_at = delta
        for it in range(self.max_iter):
            if it == 2 and shift is None and self._quartic is not None:
                extra, fixed_at = self._quartic_term(rows, U, delta), delta
            own = np.einsum("ij,ij->i", U, delta)
            g = delta - (h * own + 0.5 * self._third[rows] * own**2)[:, None] * U
            g += 0.5 * (self.pairs.of(delta) @ self._cubic) - r * U + extra
            step = g + U * (h * np.einsum("ij,ij->i", U, g) / left)[:, None]
            before, delta = delta, delta - step
            small = np.abs(step).max(axis=1) <= 0.01 * tol * np.abs(delta).max(axis=1)
            if it >= 3 and small.all():
                break
        reach = np.sqrt(self.certificate.reach(rows))
        lengths = np.fmax(np.linalg.norm(delta, axis=1), np.linalg.norm(before, axis=1))
        spread = reach * lengths
        residual = self.bounds[0] * spread * self._length(U, h, step)
        if shift is None and self._quartic is not None:
            moved = self._length(U, h, delta - fixed_at)
            ball = reach * np.fmax(lengths, np.linalg.norm(fixed_at, axis=1))
            residual += self._cubed(ball) * moved
        with np.errstate(over="ignore", invalid="ignore"):
            return Solution(delta, np.where(np.isfinite(residual), residual, np.inf), spread)

    def _cubed(self, spread):
        """Bound on the change of the fourth-order terms, a unit of length."""
        with np.errstate(over="ignore"):
            return self.bounds[1] * np.exp(self.bounds[0] * spread) * spread**2 / 2

    @staticmethod
    def _length(U, h, V):
        """Norm in ``M_i``."""
        squares = np.einsum("ij,ij->i", V, V) - h * np.einsum("ij,ij->i", U, V) ** 2
        return np.sqrt(np.maximum(squares, 0.0))

    def lengths(self, rows, delta):
        """Norm in ``M_i`` of whitened moves."""
        return self._length(self._rows(rows), self.objective.curvatures[rows], delta)

    def _whitened(self, delta):
        return delta @ self._unwhitening.T

    def parameters(self, delta):
        """Whitened moves as moves of the parameters."""
        return delta @ self.whitening.T

    # -- proofs ----------------------------------------------------------------------------
    def remainder(self, rows, delta, spread, fourth):
        """Bound on the remainder, and float32 rounding, in the norm of ``M_i⁻¹``."""
        length = self.lengths(rows, delta)
        third, growth = self.bounds[0], self.bounds[2 if fourth else 1]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            out = np.exp(third * spread) * growth * length
            out *= spread**3 / 24 if fourth else spread**2 / 6
            if fourth:
                size = np.linalg.norm(delta, axis=1)
                out += self._quartic_floor * size**3 / np.sqrt(self.certificate.left(rows))
        return out

    def prove(self, rows, solution):
        """Bounds in the norm of ``M_i`` on the distance to the optimum, without rounding and with.

        Only for a solution without ``shift``.
        """
        certificate = self.certificate
        remainder = self.remainder(
            rows, solution.delta, solution.spread, self._quartic is not None
        )
        nu = solution.residual + remainder
        size = np.linalg.norm(solution.delta, axis=1)
        with np.errstate(divide="ignore"):
            noise = certificate.floor + self.relative_floor * size
            noise = noise / np.sqrt(certificate.left(rows))
        exact = certificate.error(rows, solution.spread, nu)
        return exact, certificate.error(rows, solution.spread, nu + noise)

    def provable(self, tol, fourth):
        """Share of all rows whose remainder is small enough, judged at the Newton step."""
        objective, n = self.objective, self.objective.n_rows
        good = np.zeros(n, dtype=bool)
        for rows in index_blocks(np.arange(n), 8 * BLOCK):
            U = self._rows(rows)
            left = self.certificate.left(rows)
            with np.errstate(divide="ignore", invalid="ignore"):
                delta = U * (objective.residuals[rows] / left[:, None])
                spread = np.sqrt(self.certificate.reach(rows)) * np.linalg.norm(delta, axis=1)
                factor = spread**3 / 24 if fourth else spread**2 / 6
                growth = self.bounds[2 if fourth else 1] * np.exp(2 * self.bounds[0] * spread)
                good[rows] = growth * factor < 0.9 * tol
        return good.mean()

    # -- correction by a measured gradient -------------------------------------------------
    def correct(self, rows, delta, slope, error, tol):
        """A better move from the true gradient at ``delta``, and bounds as :meth:`prove` has.

        What the expansion leaves out is measured at ``delta`` and held fixed; the distance then
        shrinks by the change of the fourth-order terms alone.
        """
        certificate = self.certificate
        U, h = self._rows(rows), self.objective.curvatures[rows]
        start = self._whitened(delta)
        own = np.einsum("ij,ij->i", U, start)
        model = start - (h * own + 0.5 * self._third[rows] * own**2)[:, None] * U
        model += 0.5 * (self.pairs.of(start) @ self._cubic)
        model -= self.objective.residuals[rows] * U
        shift = slope.gradient @ self.whitening - model
        solution = self.solve(rows, tol, start, shift)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            beyond = np.sqrt(certificate.reach(rows) / certificate.left(rows)) * error
            ball = np.fmax(solution.spread, slope.spread + beyond)
            lower = 1 - self.bounds[0] * ball
            bound = (solution.residual + self._cubed(ball) * error) / lower
            bound = np.where(lower > 0, bound, np.inf)
        return self.parameters(solution.delta), bound
