"""A table of booleans that takes one bit an entry."""

import numpy as np


class BitRows:
    """Booleans of shape (n_rows, n_columns), all false until set.

    Parameters
    ----------
    n_rows, n_columns : int
    """

    def __init__(self, n_rows, n_columns):
        self.shape = n_rows, n_columns
        self._bytes = np.zeros((n_rows, -(-n_columns // 8)), np.uint8)

    def __setitem__(self, rows, values):
        self._bytes[rows] = np.packbits(values, axis=-1)

    def __getitem__(self, rows):
        """Rows as booleans, of shape (b, n_columns) or (n_columns,)."""
        found = np.unpackbits(self._bytes[rows], axis=-1, count=self.shape[1])
        return found.view(bool)

    def columns(self, part):
        """A slice of the columns as 0 and 1, float64 (n_rows, b); it starts at a multiple of 8."""
        inside = self._bytes[:, part.start // 8 : -(-part.stop // 8)]
        return np.unpackbits(inside, axis=1, count=part.stop - part.start).astype(np.float64)
