"""Leave-one-out optima of all rows from one Taylor expansion of the gradient, in O(n d³).

In coordinates in which the fitted Hessian is the identity, the gradient of the objective without
row ``i`` at ``θ̂ + δ`` is ``M_i δ - r_i u_i + ½ T₃[δ, δ] + ⅙ T₄[δ, δ, δ] + remainder``, the row's
own terms taken out of the tensors ``T``. The tensors are made once, so that no pair of rows is
ever formed. The remainder is bounded through the next derivative of the loss (see
:mod:`skinfluence.methods.certificate` for the inequalities), which proves the result.

Vectors are columns throughout: arrays have shape (d, rows).
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
from scipy.linalg import solve_triangular

from .._blocks import blocks, index_blocks, map_threads, n_threads
from .pairs import Pairs
from .rounding import UNIT

UNIT32 = np.finfo(np.float32).eps / 2
BLOCK = 1024

# Rows of a sum in float32.
SHORT = 256


@dataclass
class Solution:
    """Roots of the expansion for some rows.

    Attributes
    ----------
    whitened : ndarray of shape (d, b)
    length : ndarray of shape (b,)
        Norm in ``M_i``.
    residual : ndarray of shape (b,)
        Bound on what is left of the expansion there, in the norm of ``M_i⁻¹``.
    spread : ndarray of shape (b,)
        Bound on ``max_j |x_j'δ|``.
    """

    whitened: np.ndarray
    length: np.ndarray
    residual: np.ndarray
    spread: np.ndarray

    def of(self, index):
        """The solution of some of the rows."""
        parts = (self.length[index], self.residual[index], self.spread[index])
        return Solution(self.whitened[:, index], *parts)


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
        cholesky, scale = certificate.solver.factors_[0].cholesky()
        inverse = solve_triangular(cholesky, np.eye(len(cholesky)), lower=True)
        self.whitening = inverse * scale
        self._unwhitening = cholesky.T / scale
        # Rounding of whitened rows, and of products with them, relative to their length.
        rounding = np.linalg.norm(np.abs(inverse) @ np.abs(cholesky))
        self.relative_floor = 10 * UNIT * len(cholesky) * rounding
        self.pairs = Pairs(self.objective.d)
        self._third = self._weighted(self.objective.loss.third)
        self._fourth = None
        self._cubic = self._build_cubic()
        self._tables = self._cubic.astype(np.float32)

    @property
    def fourth(self):
        """Whether the fourth order is carried."""
        return self._fourth is not None

    def _weighted(self, derivative):
        return self.objective.weights * derivative(self.objective.outputs, self.objective.y)

    # -- tensors ---------------------------------------------------------------------------
    def _rows(self, rows):
        """Whitened rows, as columns."""
        return self.whitening @ self.objective.design.block(rows, np.float64).T

    def _sum(self, term, length=BLOCK):
        """Sum of ``term(slice)`` over blocks of rows, a running sum in float64 a thread."""
        pieces = list(blocks(self.objective.n_rows, length))
        shares = [pieces[k :: n_threads()] for k in range(min(n_threads(), len(pieces)))]

        def work(share):
            total = term(share[0]).astype(np.float64)
            for piece in share[1:]:
                total += term(piece)
            return total

        return reduce(np.add, map_threads(work, shares))

    def _build_cubic(self):
        """``T₃`` as (d, pairs)."""

        def term(piece):
            U = self._rows(piece)
            return (self._third[piece] * U) @ self.pairs.of(U).T

        return self._sum(term) * self.pairs.counts

    def add_fourth(self):
        """Carry the fourth order: a table over pairs, products in float32, sums in float64.

        Rows are scaled to length at most 1 first; signs are kept apart, since BLAS forms a
        product of a matrix with itself at half the cost.
        """
        self._fourth = self._weighted(self.objective.loss.fourth)
        self._unit = 1 / np.sqrt(max(self.certificate.largest_reach, 1e-300))

        def term(piece):
            f = self._fourth[piece]
            U = (self._rows(piece) * (self._unit * np.abs(f) ** 0.25)).astype(np.float32)
            positive, negative = self.pairs.of(U[:, f > 0]), self.pairs.of(U[:, f < 0])
            return positive @ positive.T - negative @ negative.T

        def size(piece):
            U = self._rows(piece)
            return np.array([np.abs(self._fourth[piece]) @ np.einsum("ji,ji->i", U, U) ** 2])

        counts = self.pairs.counts
        quartic = self._sum(term, SHORT) * counts
        self._tables = np.concatenate([self._tables, quartic.astype(np.float32)])
        # The float32 sums of the table are over at most SHORT rows, with a few roundings more,
        # those of its contraction over all pairs, on which it has its Frobenius norm.
        made = (SHORT + 16) * float(self._sum(size)[0])
        norm = np.sqrt(counts @ quartic**2 @ (1 / counts))
        taken = (self.pairs.size + 2 * self.objective.d + 16) * norm / self._unit**4
        self._quartic_floor = 1.01 * UNIT32 * (made + taken) / 6

    # -- roots -----------------------------------------------------------------------------
    def solve(self, rows, tol, start=None, shift=None):
        """Roots of the expansion plus ``shift``, to a small part of ``tol``: a :class:`Solution`.

        Steps are those of the downdated Hessian. ``shift`` stands for the fourth order and all
        that follows, where it is known. The first steps take the tensors in float32: the bounds
        rest on the last one. Rows whose steps do not shrink go back to their start.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            return self._solve(rows, tol, start, shift)

    def _solve(self, rows, tol, start, shift):
        U = self._rows(rows)
        h, r = self.objective.curvatures[rows], self.objective.residuals[rows, 0]
        t = 0.5 * self._third[rows]
        left = 1 - h * _dot(U, U)
        reach = np.sqrt(self.certificate.reach(rows))
        first = delta = U * (r / left) if start is None else start
        extra, residual = (0.0 if shift is None else shift), np.inf
        fixed_at = None
        for it in range(self.max_iter):
            own = _dot(U, delta)
            if it < 2 and start is None:
                square, cube = self._tensors32(rows, U, delta, own, it == 1)
                if cube is not None:
                    extra, fixed_at = cube, delta
            else:
                square = self._cubic @ self.pairs.of(delta)
            g = delta + 0.5 * square - U * (h * own + t * own**2 + r) + extra
            inner = _dot(U, g)
            step = g + U * (h * inner / left)
            before, delta = delta, delta - step
            lengths = np.fmax(_norm(delta), _norm(before))
            last, residual = residual, self.bounds[0] * reach * lengths * _length(U, h, step)
            good = (residual <= 0.1 * tol * lengths) | ~(residual < 0.5 * last)
            if it >= (2 if start is None else 0) and good.all():
                break
        if fixed_at is not None:
            ball = reach * np.fmax(lengths, _norm(fixed_at))
            residual += self._cubed(ball) * _length(U, h, delta - fixed_at)
        lost = ~(residual <= 0.1 * lengths)
        delta[:, lost], residual[lost] = first[:, lost], np.inf
        return Solution(delta, _length(U, h, delta), residual, reach * lengths)

    def _tensors32(self, rows, U, delta, own, fourth):
        """``T₃[δ, δ]`` and, if asked for and carried, ``⅙ T₄[δ, δ, δ]`` without the row's own."""
        d = self.objective.d
        lengths = np.maximum(_norm(delta), 1e-300)
        scaled = (delta / lengths).astype(np.float32)
        tables = self._tables if fourth else self._tables[:d]
        product = tables @ self.pairs.of(scaled)
        square = product[:d] * lengths**2
        if not fourth or not self.fourth:
            return square, None
        cube = self.pairs.contract(product[d:], scaled) * (lengths**3 / self._unit**4)
        return square, (cube - U * (self._fourth[rows] * own**3)) / 6

    def _cubed(self, spread):
        """Bound on the change of the fourth-order terms, a unit of length."""
        with np.errstate(over="ignore"):
            return self.bounds[1] * np.exp(self.bounds[0] * spread) * spread**2 / 2

    def parameters(self, whitened):
        """Whitened moves as moves of the parameters, (b, d)."""
        return whitened.T @ self.whitening

    # -- proofs ----------------------------------------------------------------------------
    def prove(self, rows, solution, measured=False):
        """Bounds in the norm of ``M_i`` on the distance to the optimum, without rounding and with.

        Only for a solution without ``shift``. What the expansion leaves out is bounded from the
        length of the move, or ``measured`` over all rows.
        """
        certificate, size = self.certificate, _norm(solution.whitened)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if measured:
                spread, remainder = self._measured(rows, solution.whitened, size)
            else:
                spread = solution.spread
                remainder = self._growth(spread, self.fourth) * solution.length
            nu = solution.residual + np.exp(self.bounds[0] * spread) * remainder
            noise = certificate.floor + self.relative_floor * size
            if self.fourth:
                nu += self._quartic_floor * size**3 / np.sqrt(certificate.left(rows))
            noise = noise / np.sqrt(certificate.left(rows))
        exact = certificate.error(rows, spread, nu)
        return exact, certificate.error(rows, spread, nu + noise)

    def _measured(self, rows, whitened, size):
        """``max_j |x_j'δ|``, and the remainder, from the outputs ``u`` of all other rows.

        The remainder is ``Σ_j c_j x_j`` with ``c_j`` at most ``h_j u_j⁴ b / 24`` (of third order
        ``h_j |u_j|³ b / 6``), its growth left out. As ``M_i ≥ Σ_j h_j x_j x_j'``, its norm in
        ``M_i⁻¹`` is at most the square root of ``Σ_j c_j² / h_j``. Products are in float32, of
        ``u`` in units of what it can be at most.
        """
        objective, order = self.objective, 4 if self.fourth else 3
        unit = size * np.sqrt(max(self.certificate.largest_reach, 1e-300))
        moves = (whitened / np.maximum(unit, 1e-300)).astype(np.float32)
        top = max(objective.curvatures.max(), 1e-300)
        weights = (objective.curvatures / top).astype(np.float32)
        largest, sums = np.zeros(len(rows)), np.zeros(len(rows))
        for piece in blocks(objective.n_rows, BLOCK // 2):
            others = self._rows(piece) * (objective.weights[piece] > 0)
            moved = others.astype(np.float32).T @ moves
            own = np.flatnonzero((rows >= piece.start) & (rows < piece.stop))
            moved[rows[own] - piece.start, own] = 0.0
            np.abs(moved, out=moved)
            np.maximum(largest, moved.max(axis=0), out=largest)
            squares = moved * moved
            squares *= squares if self.fourth else moved
            squares *= squares
            sums += weights[piece] @ squares
        # of the products; powers of what is smaller may vanish
        noise = 2 * (objective.d + 3) * UNIT32 + 1e-4
        mean = (1.001 * sums) ** (0.5 / order) + noise * weights.sum() ** (0.5 / order)
        factor = self.bounds[2] / 24 if self.fourth else self.bounds[1] / 6
        return unit * (1.001 * largest + noise), factor * np.sqrt(top) * (unit * mean) ** order

    def _growth(self, spread, fourth):
        """Remainder a unit of length, its growth along the move left out."""
        return self.bounds[2] * spread**3 / 24 if fourth else self.bounds[1] * spread**2 / 6

    def provable(self, tol, fourth):
        """Share of all rows whose remainder is small enough, judged at the Newton step."""
        objective, n = self.objective, self.objective.n_rows
        good = np.zeros(n, dtype=bool)
        for rows in index_blocks(np.arange(n), 8 * BLOCK):
            left = self.certificate.left(rows)
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                size = _norm(self._rows(rows)) * np.abs(objective.residuals[rows, 0]) / left
                spread = np.sqrt(self.certificate.reach(rows)) * size
                remainder = self._growth(spread, fourth) * np.exp(2 * self.bounds[0] * spread)
            good[rows] = remainder < 0.9 * tol
        return good.mean()

    # -- correction by a measured gradient -------------------------------------------------
    def correct(self, rows, delta, slope, error, tol):
        """Better moves from the true gradient at ``delta``, and bounds on what is left.

        What the expansion leaves out is measured at ``delta`` and held fixed; the distance then
        shrinks by the change of the fourth-order terms alone.
        """
        certificate = self.certificate
        U, h = self._rows(rows), self.objective.curvatures[rows]
        start = self._unwhitening @ delta.T
        own = _dot(U, start)
        model = start + 0.5 * (self._cubic @ self.pairs.of(start))
        model -= U * (
            h * own + 0.5 * self._third[rows] * own**2 + self.objective.residuals[rows, 0]
        )
        shift = self.whitening @ slope.gradient.T - model
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            solution = self.solve(rows, tol, start, shift)
            reach = np.sqrt(certificate.reach(rows))
            beyond = reach * np.fmax(
                _norm(solution.whitened - start), error / np.sqrt(certificate.left(rows))
            )
            ball = slope.spread + beyond
            lower = 1 - self.bounds[0] * ball
            bound = (solution.residual + self._cubed(ball) * error) / lower
        return self.parameters(solution.whitened), np.where(lower > 0, bound, np.inf)


def _dot(A, B):
    return np.einsum("ji,ji->i", A, B)


def _norm(columns):
    return np.sqrt(_dot(columns, columns))


def _length(U, h, V):
    """Norm in ``M_i``."""
    return np.sqrt(np.maximum(_dot(V, V) - h * _dot(U, V) ** 2, 0.0))
