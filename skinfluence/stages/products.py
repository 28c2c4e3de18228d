"""Cotangents of training rows as sums of products: tall arrays times small ones."""

import numpy as np


class Tall:
    """A tall array that lasts, with its products with other rows: made once each."""

    def __init__(self, array):
        self.array = array
        self._products = []

    def products(self, rows):
        """``(column sums, rows' array)``."""
        for known, sums, moments in self._products:
            if known is rows:
                return sums, moments
        self._products.append((rows, self.array.sum(axis=0), rows.T @ self.array))
        return self._products[-1][1:]


class Products:
    """``C = Σ_t L_t R_t'`` of shape (n, d), never formed.

    Parameters
    ----------
    terms : list of (Tall of shape (n, r), ndarray of shape (d, r))
    """

    ndim = 2

    def __init__(self, terms):
        self.terms = terms

    def dense(self):
        """The array."""
        return sum(left.array @ right.T for left, right in self.terms)

    def scaled(self, factors):
        """With each column multiplied."""
        return Products([(left, factors[:, None] * right) for left, right in self.terms])

    def sums(self, rows):
        """``(Σ_i c_ij, Σ_i c_ij x_ij)`` of each column, with ``rows`` (n, d)."""
        total, moment = 0.0, 0.0
        for left, right in self.terms:
            sums, moments = left.products(rows)
            total = total + right @ sums
            moment = moment + np.einsum("jr,jr->j", right, moments)
        return total, moment

    def __add__(self, other):
        if isinstance(other, Products):
            return Products(self.terms + other.terms)
        return self.dense() + other

    __radd__ = __add__
    __array_priority__ = 1000  # an array on the left leaves the sum to the line above


def taken(stage, C):
    """``C`` as ``stage`` takes it: dense unless it knows products."""
    known = stage is not None and stage.takes_products
    return C if known or not isinstance(C, Products) else C.dense()
