"""Leave-one-out optima of many rows at once by quasi-Newton steps over all pairs of rows."""

import numpy as np

from .._blocks import map_threads


class Sweep:
    """Steps from measured gradients until every row is proved to ``tol``, or contracts slowly.

    A step is that of the fitted Hessian less the row's own term or, where an expansion is given
    and its bound is the better one, a root of the expansion corrected by the measured gradient.

    Parameters
    ----------
    without : WithoutRow
    tol : float
    certificate : LinearCertificate or None
        Without one, a row is done when what its steps, by their observed rate, still add up to
        is below ``tol``.
    expansion : Expansion, optional
    """

    max_iter = 30

    def __init__(self, without, tol, certificate=None, expansion=None):
        self.without, self.tol = without, tol
        self.certificate, self.expansion = certificate, expansion

    def run(self, rows, delta):
        """Refine ``delta`` (b, n_params) in place.

        Returns
        -------
        bounds : ndarray of shape (b,)
            On the distance to the optimum in Euclidean norm; infinite for rows not finished,
            NaN for finished rows without a certificate.
        done : ndarray of shape (b,) of bool
        """
        bounds, done = np.full(len(rows), np.inf), np.zeros(len(rows), dtype=bool)

        def work(part):
            delta[part], bounds[part], done[part] = self._run(rows[part], delta[part])

        map_threads(work, self.without.chunks(np.arange(len(rows))))
        return bounds, done

    def _run(self, rows, delta):
        bounds, done = np.full(len(rows), np.inf), np.zeros(len(rows), dtype=bool)
        active = np.arange(len(rows))
        last = np.full(len(rows), np.inf)
        for it in range(self.max_iter):
            part, start = rows[active], delta[active]
            slope = self.without.slope(part, start)
            lengths = self.without.lengths(part, start)
            delta[active], left, noise, total = self._step(part, start, slope, lengths, last)
            good = left <= self.tol * lengths
            with np.errstate(invalid="ignore"):
                slow = ~np.isfinite(slope.decrement)
                if it > 1:
                    slow |= slope.decrement > 0.5 * last
            # steps that no longer shrink, and are within what rounding can be, are at the end
            good |= slow & (left <= self.tol * lengths + 4 * noise)
            done[active] = good
            bounds[active] = self._euclidean(part, total)
            going = ~good & ~slow
            active, last = active[going], slope.decrement[going]
            if len(active) == 0:
                break
        return delta, bounds, done

    def _step(self, rows, delta, slope, lengths, last):
        """Next points, how far from the optimum they can be, and rounding alone and added."""
        moved = delta - slope.step
        if self.certificate is None:
            with np.errstate(invalid="ignore", divide="ignore"):
                rate = slope.decrement / last
                left = slope.decrement * rate / (1 - rate)
            left = np.where((rate > 0) & (rate < 0.9), left, np.inf)
            left[slope.decrement == 0] = 0.0
            left = np.where(np.isinf(last), np.inf, left)
            return moved, left, np.zeros(len(rows)), left
        certificate = self.certificate
        noise = certificate.rounding(rows, lengths)
        error = certificate.error(rows, slope.spread, slope.decrement)
        with np.errstate(invalid="ignore"):
            left = certificate.contraction(rows, slope.spread, error) * error
        left = np.where(np.isnan(left), np.inf, left)
        if self.expansion is not None:
            corrected, after = self.expansion.correct(rows, delta, slope, error, self.tol)
            better = after < left
            moved[better], left[better] = corrected[better], after[better]
        with np.errstate(invalid="ignore"):
            rounding = certificate.error(rows, slope.spread, slope.decrement + noise) - error
        rounding = np.where(np.isfinite(rounding), rounding, np.inf)
        return moved, left, noise, left + noise + rounding

    def _euclidean(self, rows, left):
        if self.certificate is None:
            return np.full(len(rows), np.nan)
        return self.certificate.euclidean(rows) * left
