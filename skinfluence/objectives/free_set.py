"""The inverse of a bordered kernel matrix, followed as vectors enter and leave."""

import numpy as np
from numpy.linalg import LinAlgError, inv, pinv
from scipy.linalg.lapack import dpstrf

NOT_DEFINITE = (
    "the kernel matrix of the free support vectors is not positive definite: the kernel is not "
    "positive semi-definite (a sigmoid kernel rarely is). Use method='refit', or another kernel"
)


class FreeSet:
    """Free vectors ``M`` and the inverse of ``[[0, 1'], [1, K_MM]]``, the intercept first.

    A vector enters or leaves by a rank-one update of the inverse, ``O(|M|²)``.

    Parameters
    ----------
    kernel : KernelRows
    row : ndarray of int
        Row of each variable: SVR has two variables a row.
    """

    # An entering vector whose distance from the span of the others is below this, relative to
    # its own length, is a combination of them to working precision.
    smallest_pivot = 1e-10

    def __init__(self, kernel, row):
        self.kernel, self.row = kernel, row
        self.members = np.empty(0, dtype=np.intp)
        self.inverse = np.zeros((1, 1))
        self._set_base()

    def __len__(self):
        return len(self.members)

    def copy(self):
        """A copy that shares what is never written: the kernel rows of the members."""
        out = object.__new__(FreeSet)
        out.__dict__.update(self.__dict__)
        return out

    def _set_base(self):
        """Hold the kernel rows of the members together, for products with all of them."""
        self._base = self.kernel.rows(self.row[self.members])
        self._slot = np.full(len(self.row), -1, dtype=np.intp)
        self._slot[self.members] = np.arange(len(self.members))

    def build(self, members):
        """Start from ``members``; returns those that depend on the others and were left out."""
        members = np.asarray(members, dtype=np.intp)
        self.members, self.inverse = members[:0], np.zeros((1, 1))
        if len(members) == 0:
            return members
        block = self.kernel.rows(self.row[members])[:, self.row[members]]
        kept = np.sort(_independent(block, self.smallest_pivot))
        self.members = members[kept]
        self._set_base()
        self._invert()
        return np.delete(members, kept)

    def _invert(self):
        """The inverse from scratch."""
        rows = self.row[self.members]
        bordered = np.ones((len(rows) + 1,) * 2)
        bordered[0, 0], bordered[1:, 1:] = 0.0, self.kernel.rows(rows)[:, rows]
        try:
            inverse = inv(bordered)
        except LinAlgError:
            inverse = pinv(bordered, hermitian=True)
        inverse += inverse @ (np.eye(len(bordered)) - bordered @ inverse)  # refined once
        self.inverse = (inverse + inverse.T) / 2

    def direction(self, j):
        """``(u, S, smallest)``: the border of ``j`` in terms of the members, what is left of it,
        and how much must be left for ``j`` to count as independent."""
        kernel_row = self.kernel.row(self.row[j])
        border = np.empty(len(self) + 1)
        border[0], border[1:] = 1.0, kernel_row[self.row[self.members]]
        own = kernel_row[self.row[j]]
        if len(self) == 0:
            return None, own, 0.0
        u = self.inverse @ border
        error = self._error(u, border)
        if np.abs(error).max() > 1e-8 * np.abs(border).max():  # too many updates behind it
            self._invert()
            u = self.inverse @ border
            error = self._error(u, border)
        smallest = 1e4 * np.finfo(float).eps * (abs(own) + np.abs(border) @ np.abs(u))
        smallest = max(self.smallest_pivot * abs(own), smallest)
        for _ in range(3):
            if np.abs(u) @ np.abs(error) <= smallest:
                break
            u += self.inverse @ error
            error = self._error(u, border)
        return u, own - border @ u - u @ error, smallest

    def _error(self, u, border):
        """``border - B u``."""
        inner = self.spread(u[1:])[self.row[self.members]] + u[0]
        return border - np.append(u[1:].sum(), inner)

    def enter(self, j):
        """Add ``j``; False (and nothing done) when it depends on the members."""
        u, pivot, smallest = self.direction(j)
        if u is None:
            self.inverse = np.array([[-pivot, 1.0], [1.0, 0.0]])
        else:
            if pivot < -1e7 * smallest:
                raise ValueError(NOT_DEFINITE)
            if pivot <= smallest:
                return False
            m = len(self) + 1
            inverse = np.empty((m + 1, m + 1))
            np.multiply(u[:, None], u / pivot, out=inverse[:m, :m])
            inverse[:m, :m] += self.inverse
            inverse[m, :m] = inverse[:m, m] = -u / pivot
            inverse[m, m] = 1 / pivot
            self.inverse = inverse
        self.members = np.append(self.members, j)
        return True

    def leave(self, position):
        """Drop the member at ``position``; returns the variable."""
        j, moved = self.members[position], self.members[-1]
        last = len(self)
        if last == 1:
            self.members, self.inverse = self.members[:0], np.zeros((1, 1))
            return j
        column = self.inverse[position + 1]
        inverse = np.multiply(column[:, None], column / -column[position + 1])
        inverse += self.inverse
        # the last member takes the place of the one that leaves
        inverse[position + 1], inverse[:, position + 1] = inverse[last], inverse[:, last]
        inverse[position + 1, position + 1] = inverse[last, last]
        self.inverse = inverse[:last, :last]
        self.members = self.members[:-1].copy()
        if position < last - 1:
            self.members[position] = moved
        return j

    def position(self, j):
        """Where variable ``j`` stands among the members."""
        return int(np.flatnonzero(self.members == j)[0])

    def spread(self, values):
        """``Σ_j K[row_j] v_j`` over the members: shape (n,)."""
        slots = self._slot[self.members]
        inside = slots >= 0
        weights = np.zeros(len(self._base))
        weights[slots[inside]] = values[inside]
        out = weights @ self._base
        if not inside.all():
            others = ~inside
            if others.sum() > 64:
                self._set_base()
                return values @ self._base
            out += values[others] @ self.kernel.rows(self.row[self.members[others]])
        return out


def _independent(block, smallest):
    """Rows of a kernel matrix whose differences are linearly independent, by pivoted Cholesky."""
    base = block - block[:, :1] - block[:1] + block[0, 0]  # of differences from the first row
    order, rank = dpstrf(base[1:, 1:], tol=smallest * np.abs(np.diag(block)).max())[1:3]
    return np.append(0, order[:rank])
