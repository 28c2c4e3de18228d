"""How the other rows' weights and the penalty move when rows go."""

import numpy as np


def row_weights(sample_weight, n):
    """Sample weights as float64, ones when there are none."""
    if sample_weight is None:
        return np.ones(n)
    return np.broadcast_to(np.asarray(sample_weight, dtype=np.float64), (n,)).copy()


class RemovalRule:
    """What an estimator recomputes from its data when rows are removed.

    Two rules exist in scikit-learn. ``class_weight="balanced"`` gives class ``c`` the weight
    ``M / (K M_c)``, with ``M_c`` the measure of its rows; and an objective in mean form lets
    the total penalty grow with the total weight of the rows.

    Parameters
    ----------
    n_rows : int
    groups : ndarray of shape (n,) of int, optional
        Class of each row, when class weights are balanced.
    measure : ndarray of shape (n,), optional
        What the balance counts: sample weights, or ones. Default ones.
    penalty_measure : ndarray of shape (n,), optional
        What the penalty is proportional to, when the objective is in mean form.
    n_groups : int, optional
        Number of classes, of which these rows need not have all.
    """

    penalty_total = None  # of the measure over all rows, where these are only some of them

    def __init__(self, n_rows, *, groups=None, measure=None, penalty_measure=None, n_groups=None):
        self.groups = np.zeros(n_rows, dtype=np.intp) if groups is None else groups
        self.balanced = groups is not None
        self.measure = np.ones(n_rows) if measure is None else measure
        self.penalty_measure = penalty_measure
        self.n_groups = int(self.groups.max(initial=0)) + 1 if n_groups is None else n_groups
        self.sums = np.bincount(self.groups, self.measure, minlength=self.n_groups)
        self.total = self.sums.sum()

    def subset(self, rows):
        """The rule of some of the rows."""
        part = None if self.penalty_measure is None else self.penalty_measure[rows]
        groups = self.groups[rows] if self.balanced else None
        return type(self)(
            len(rows), groups=groups, measure=self.measure[rows], penalty_measure=part
        )

    def balance(self):
        """By what class weights multiply each class, up to a constant: shape (G,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.total / self.sums

    def totals(self):
        """What :meth:`extend` wants of these rows; it adds up over others."""
        penalty = 0.0 if self.penalty_measure is None else self.penalty_measure.sum()
        return self.sums, np.array(penalty)

    def extend(self, sums, penalty_total):
        """Count rows elsewhere in: ``sums`` and the penalty's measure are those of all rows.

        Returns the factor by which that changes the weight of each row here.
        """
        before = self.balance()
        self.sums, self.total, self.penalty_total = sums, sums.sum(), penalty_total
        if not self.balanced:
            return np.ones(len(self.groups))
        with np.errstate(invalid="ignore"):
            factors = (self.balance() / before)[self.groups]
        return np.where(self.measure > 0, factors, 0.0)

    @property
    def trivial(self):
        """True when nothing moves but the row itself."""
        return not self.balanced and self.penalty_measure is None

    def first_order(self, rows):
        """Derivative of the factors for the removal of each row of ``rows``.

        Returns ``(phi - 1, rho - 1)`` of shapes (b, G) and (b,): class factors and penalty factor.
        """
        phi = np.zeros((len(rows), self.n_groups))
        if self.balanced:
            m, own = self.measure[rows], self.groups[rows]
            phi -= (m / self.total)[:, None]
            phi[np.arange(len(rows)), own] += m / self.sums[own]
        return phi, self._penalty(rows)

    def factors(self, rows):
        """Factors after the removal of each row of ``rows`` alone: shapes (b, G) and (b,)."""
        phi = np.ones((len(rows), self.n_groups))
        if self.balanced:
            m, own = self.measure[rows], self.groups[rows]
            phi *= (1 - m / self.total)[:, None]
            with np.errstate(divide="ignore"):
                phi[np.arange(len(rows)), own] *= self.sums[own] / (self.sums[own] - m)
        return phi, 1 + self._penalty(rows)

    def joint_factors(self, rows):
        """Factors ``(phi, rho)`` after the joint removal of ``rows``: shape (G,) and a scalar."""
        gone = np.bincount(self.groups[rows], self.measure[rows], minlength=self.n_groups)
        return self.factors_left(gone), 1 + self._penalty(rows).sum()

    def factors_left(self, gone):
        """Factors of the classes when a measure ``gone`` of each is removed: shape (G,)."""
        if not self.balanced:
            return np.ones(self.n_groups)
        left = self.sums - gone
        with np.errstate(divide="ignore", invalid="ignore"):
            return left.sum() / self.total * self.sums / left

    def _penalty(self, rows):
        if self.penalty_measure is None:
            return np.zeros(len(rows))
        total = self.penalty_total
        return -self.penalty_measure[rows] / (
            self.penalty_measure.sum() if total is None else total
        )
