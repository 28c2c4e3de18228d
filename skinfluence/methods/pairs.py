"""Products of pairs of coordinates, ``u_a u_b`` with ``a ≤ b``, and contractions with them."""

import numpy as np


class Pairs:
    """The ``d (d + 1) / 2`` pairs of ``d`` coordinates, in rows ``a`` of the upper triangle."""

    def __init__(self, d):
        stops = np.cumsum(np.arange(d, 0, -1))
        self.d, self.size = d, int(stops[-1])
        self.slices = [slice(int(stop) - d + a, int(stop)) for a, stop in enumerate(stops)]
        # How often a pair stands in the full d × d table.
        self.counts = np.full(self.size, 2.0)
        self.counts[[piece.start for piece in self.slices]] = 1.0

    def of(self, U):
        """All products of each row of ``U`` (b, d): shape (b, size)."""
        out = np.empty((len(U), self.size), U.dtype)
        for a, piece in enumerate(self.slices):
            np.multiply(U[:, a:], U[:, a, None], out=out[:, piece])
        return out

    def contract(self, Y, V):
        """``Y_i v_i`` for symmetric tables ``Y`` (b, size), given by their upper triangle."""
        out = np.zeros(V.shape, np.result_type(Y, V))
        for a, piece in enumerate(self.slices):
            part = Y[:, piece]
            out[:, a] += np.einsum("ij,ij->i", part, V[:, a:])
            out[:, a + 1 :] += part[:, 1:] * V[:, a, None]
        return out
