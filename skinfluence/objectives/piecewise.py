"""Linear predictors whose loss has kinks in its slope: squared hinge, Huber, squared tube."""

from scipy.optimize import brentq

from .linear import LinearObjective


class PiecewiseObjective(LinearObjective):
    """A linear objective minimised by semismooth Newton steps with an exact line search.

    The Hessian is a generalised one: rows on a flat or linear piece have no curvature. Full
    steps between pieces can cycle; with exact line searches they cannot.
    """

    def _step_size(self, theta, value, step, decrement, weights, rho):
        return exact_step(lambda t: self.gradient(theta - t * step, weights, rho) @ step)


def exact_step(slope, longest=1.0):
    """The ``t <= longest`` at which a falling ``slope(t)`` (``slope(0) > 0``) crosses zero.

    The slope resolves the minimum along a line where differences of values no longer do.
    """
    if slope(longest) >= 0 or slope(0.0) <= 0:  # the function still falls; or only rounding is left
        return longest
    return brentq(slope, 0.0, longest, xtol=1e-14)
