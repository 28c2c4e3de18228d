"""Solvers: what stands in for ``H⁻¹ v``."""

from sklearn.base import BaseEstimator, clone


class Solver(BaseEstimator):
    """Base class: parameters in ``__init__`` only, so that ``clone`` and grid search work.

    ``fit(objective)`` returns a fitted solver and leaves ``self`` alone otherwise;
    ``solve(V)`` takes right sides ``V`` of shape (n_params, m). ``report_`` is a dict of what the
    solver did (damping, iterations, residual, smallest curvature).
    """

    def fit(self, objective):
        """Prepare for right sides of ``objective``."""
        raise NotImplementedError

    def solve(self, V):
        """Approximate ``H⁻¹ V``, shape of ``V``."""
        raise NotImplementedError


def fitted_solver(solver, objective):
    """A clone of ``solver``, fitted on ``objective``."""
    if hasattr(objective, "fit_solver"):  # an objective of which a solver sees only a part
        return objective.fit_solver(clone(solver))
    return clone(solver).fit(objective)
