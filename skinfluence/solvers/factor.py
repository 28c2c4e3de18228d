"""Factorised quadratic forms ``Λ + BᵀB``: primal (Cholesky) or dual (Woodbury), by size."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular
from scipy.linalg.lapack import dpocon

from .._blocks import one_blas_thread
from .._memory import check_memory

# Multiplications below which a solve is faster on one thread than shared out.
SMALL_SOLVE = 10_000_000

# Up to this growth of rounding errors are products of float32 rows formed in float32.
LARGEST_GROWTH = 100


@dataclass
class QuadraticBlock:
    """One diagonal block of a Hessian, ``Λ + BᵀB``, repeated for independent outputs.

    Attributes
    ----------
    penalty : ndarray of shape (size,)
        The diagonal ``Λ``.
    rows : object or None
        ``B``: has ``n_rows``, ``dot(V)``, ``tdot(U)``, ``gram()`` (``BᵀB``) and
        ``kernel(q)`` (``B diag(q) Bᵀ``).
    gauge : ndarray of shape (size, q) or None
        Orthonormal directions along which the objective is constant.
    repeats : int
        How many outputs share the block, one after the other in the parameter vector.
    """

    penalty: np.ndarray
    rows: Any
    gauge: np.ndarray | None = None
    repeats: int = 1
    _matrix: np.ndarray | None = None

    def __post_init__(self):
        side = self.size if self.primal else self.rows.n_rows
        check_memory(
            3 * 8 * side**2,
            f"a Hessian of {self.size} parameters over {self.rows.n_rows} curvature rows, {side} "
            f"by {side}, and its factor",
            "Use fewer columns, or a linear skorch net with solver='cg'",
        )

    @property
    def size(self):
        """Number of parameters of one copy."""
        return len(self.penalty)

    @property
    def primal(self):
        """Whether the dense block is smaller than its dual."""
        return self.size <= self.rows.n_rows

    def matrix(self):
        """The dense block, made once."""
        if self._matrix is None:
            self._matrix = self.rows.gram()
            self._matrix[np.diag_indices_from(self._matrix)] += self.penalty
        return self._matrix

    def product(self, V):
        """The block times ``V`` (size, m), not made for it."""
        if self._matrix is not None:
            return self._matrix @ V
        return self.rows.gram_product(V) + self.penalty[:, None] * V

    def damped(self, damping):
        """Another block, with ``damping`` added to the diagonal."""
        out = replace(self, penalty=self.penalty + damping, _matrix=None)
        if self._matrix is not None:
            out._matrix = self._matrix.copy()
            out._matrix[np.diag_indices_from(out._matrix)] += damping
        return out

    def length(self, direction):
        """Length of a direction in the norm of the Hessian."""
        parts = split_outputs(direction[:, None], self.repeats)
        if self.primal:
            return float(np.sqrt(max(0.0, (parts * (self.matrix() @ parts)).sum())))
        inner = self.rows.dot(parts)
        return float(np.sqrt((inner**2).sum() + (self.penalty[:, None] * parts**2).sum()))

    def factorise(self):
        """A factor with ``solve(V)``; raises LinAlgError when the block is singular."""
        if self.primal:
            return PrimalFactor(self.matrix(), self.gauge)
        return DualFactor(self.rows, self.penalty, self.gauge)


class PrimalFactor:
    """Cholesky factor of a symmetric positive definite matrix, scaled to a unit diagonal.

    The scaling makes the factorisation blind to the units of the columns. Null directions
    known in advance (``gauge``) are given unit curvature: for a right side without a part
    along them the solution is that of the pseudo-inverse.
    """

    form = "primal"

    # Below this reciprocal condition of the scaled matrix a solve has few correct digits left.
    smallest_rcond = 1e-13

    def __init__(self, matrix, gauge=None):
        if not np.isfinite(np.diag(matrix)).all():
            raise LinAlgError("the Hessian is not finite")
        matrix = _fix_gauge(matrix, gauge)
        diagonal = np.diag(matrix)
        if (diagonal <= 0).any():
            raise LinAlgError("the Hessian has a zero or negative diagonal entry")
        self.scale = 1 / np.sqrt(diagonal)
        scaled = matrix * self.scale[:, None] * self.scale
        norm = np.abs(scaled).sum(axis=0).max(initial=0.0)
        self._cholesky = cho_factor(scaled, lower=True, overwrite_a=True)
        rcond = dpocon(self._cholesky[0], norm, uplo="L")[0] if len(matrix) else 1.0
        if rcond < self.smallest_rcond:
            raise LinAlgError("the Hessian is singular to working precision")

    def solve(self, V):
        """``H⁻¹ V``."""
        right = self.scale[:, None] * V
        if right.size * len(right) < SMALL_SOLVE:
            with one_blas_thread():
                return self.scale[:, None] * cho_solve(self._cholesky, right)
        return self.scale[:, None] * cho_solve(self._cholesky, right)

    def root(self, V):
        """``R' V`` with ``R R' = H⁻¹``."""
        return solve_triangular(self._cholesky[0], self.scale[:, None] * V, lower=True)

    def inverse(self):
        """``H⁻¹``."""
        return self.solve(np.eye(len(self.scale)))

    @cached_property
    def whitening(self):
        """Lower triangular ``W`` with ``W' W = H⁻¹``."""
        return np.asfortranarray(self.root(np.eye(len(self.scale))))

    @cached_property
    def single_whitening(self):
        """:attr:`whitening` in float32; in float64 where the length of ``W x`` would suffer.

        That is where rounding the entries of ``x`` to float32 could itself change it by 1e-5.
        """
        with np.errstate(over="ignore"):
            single = self.whitening.astype(np.float32, order="F")
        grown = np.abs(self.whitening / self.scale) @ np.abs(np.tril(self._cholesky[0]))
        kept = np.isfinite(single).all() and np.linalg.norm(grown) <= LARGEST_GROWTH
        return single if kept else self.whitening

    def cholesky(self):
        """``(C, s)`` with ``diag(s) H diag(s) = C C'``, ``C`` lower triangular."""
        return np.tril(self._cholesky[0]), self.scale


class PseudoFactor:
    """Generalised inverse of a positive semi-definite matrix, known gauges fixed."""

    form = "pseudo-inverse"

    def __init__(self, matrix, gauge=None):
        matrix = _fix_gauge(matrix, gauge)
        diagonal = np.diag(matrix)
        self.scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        values, vectors = np.linalg.eigh(matrix * self.scale[:, None] * self.scale)
        keep = values > values[-1] * len(values) * 1e-13
        self.rank = int(keep.sum())
        self._root = self.scale[:, None] * vectors[:, keep] / np.sqrt(values[keep])
        self.null = self.scale[:, None] * vectors[:, ~keep]

    def solve(self, V):
        """A solution of ``H x = V`` for ``V`` in the range of ``H``."""
        return self._root @ self.root(V)

    def root(self, V):
        """``R' V`` with ``R R'`` the generalised inverse; as many rows as the rank."""
        return self._root.T @ V

    def inverse(self):
        """A generalised inverse of ``H``."""
        return self._root @ self._root.T


class DualFactor:
    """Woodbury factor for more parameters than curvature rows.

    Unpenalised parameters (an intercept) have no ``Λ⁻¹``; they are eliminated last, through
    their Schur complement ``B_fᵀ (I + B_u Λ_u⁻¹ B_uᵀ)⁻¹ B_f``.
    """

    form = "dual"

    def __init__(self, rows, penalty, gauge=None):
        self.rows, self._inner_root = rows, None
        self.free = np.flatnonzero(penalty <= 0)
        if len(self.free) >= rows.n_rows:
            raise LinAlgError("more unpenalised parameters than rows: the Hessian is singular")
        self.inverse_penalty = np.divide(
            1.0, penalty, out=np.zeros_like(penalty), where=penalty > 0
        )
        kernel = rows.kernel(self.inverse_penalty)
        kernel[np.diag_indices_from(kernel)] += 1
        self._cholesky = cho_factor(kernel, lower=True, overwrite_a=True)
        self._schur = None
        if len(self.free):
            selector = np.zeros((len(penalty), len(self.free)))
            selector[self.free, np.arange(len(self.free))] = 1.0
            self._free_rows = rows.dot(selector)
            self._solved_free = cho_solve(self._cholesky, self._free_rows)
            schur = self._free_rows.T @ self._solved_free
            self._schur = PrimalFactor(schur, None if gauge is None else gauge[self.free])

    def solve(self, V):
        """``H⁻¹ V``."""
        scaled = self.inverse_penalty[:, None] * V
        inner = cho_solve(self._cholesky, self.rows.dot(scaled))
        if self._schur is None:
            return scaled - self.inverse_penalty[:, None] * self.rows.tdot(inner)
        x_free = self._schur.solve(V[self.free] - self._free_rows.T @ inner)
        inner = inner + self._solved_free @ x_free
        out = scaled - self.inverse_penalty[:, None] * self.rows.tdot(inner)
        out[self.free] = x_free
        return out

    def root(self, V):
        """``R' V`` with ``R R' = H⁻¹``; unpenalised parameters by their Schur complement."""
        inner = self.rows.dot(self.inverse_penalty[:, None] * V)
        if self._inner_root is None:
            self._inner_root = inner_root(self.rows.kernel(self.inverse_penalty))
        scale = np.sqrt(self.inverse_penalty)[:, None]
        out = scale * (V + self.rows.tdot(self._inner_root @ inner))
        if self._schur is not None:
            out[self.free] = self._schur.root(V[self.free] - self._solved_free.T @ inner)
        return out


def inner_root(kernel):
    """``M`` with ``(I + A'A)^{-1/2} = I + A' M A``, from the kernel ``A A'``."""
    values, vectors = np.linalg.eigh(kernel)
    roots = np.sqrt(1 + np.maximum(values, 0.0))
    return (vectors / (-roots * (1 + roots))) @ vectors.T


def solve_repeated(factor, V, repeats):
    """Solve with one factor that several outputs share."""
    return join_outputs(factor.solve(split_outputs(V, repeats)), repeats)


def split_outputs(V, repeats):
    """(repeats * d, m) to (d, repeats * m)."""
    if repeats == 1:
        return V
    return V.reshape(repeats, -1, V.shape[1]).transpose(1, 0, 2).reshape(len(V) // repeats, -1)


def join_outputs(X, repeats):
    """Inverse of :func:`split_outputs`."""
    if repeats == 1:
        return X
    return X.reshape(len(X), repeats, -1).transpose(1, 0, 2).reshape(len(X) * repeats, -1)


def _fix_gauge(matrix, gauge):
    """Give each null direction known in advance the mean curvature of its own parameters."""
    if gauge is None:
        return matrix
    curvature = np.diag(matrix) @ gauge**2  # of all of them, large columns would swamp small ones
    return matrix + gauge * np.where(curvature > 0, curvature, 1.0) @ gauge.T
