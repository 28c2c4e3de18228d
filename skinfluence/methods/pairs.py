"""Products of pairs of coordinates, ``u_a u_b`` with ``a ≤ b``, and contractions with them."""

import numpy as np


class Pairs:
    """The ``d (d + 1) / 2`` pairs of ``d`` coordinates, in rows ``a`` of the upper triangle.

    Vectors are columns: every operation runs along contiguous rows, one entry a vector.
    """

    def __init__(self, d):
        stops = np.cumsum(np.arange(d, 0, -1))
        self.d, self.size = d, int(stops[-1])
        self.slices = [slice(int(stop) - d + a, int(stop)) for a, stop in enumerate(stops)]
        # How often a pair stands in the full d × d table.
        self.counts = np.full(self.size, 2.0)
        self.counts[[piece.start for piece in self.slices]] = 1.0

    def of(self, V):
        """All products of the columns of ``V`` (d, b): shape (size, b)."""
        out = np.empty((self.size, V.shape[1]), V.dtype)
        for a, piece in enumerate(self.slices):
            np.multiply(V[a:], V[a], out=out[piece])
        return out

    def contract(self, Y, V):
        """``Y_i v_i`` for symmetric tables ``Y`` (size, b), given by their upper triangle."""
        out = np.zeros_like(V)
        for a, piece in enumerate(self.slices):
            part = Y[piece]
            out[a] += np.einsum("ji,ji->i", part, V[a:])
            out[a + 1 :] += part[1:] * V[a]
        return out
