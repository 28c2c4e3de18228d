"""Solvers: what stands in for ``H⁻¹ v``."""

from sklearn.base import BaseEstimator, clone


class Solver(BaseEstimator):
    """Base class: parameters in ``__init__`` only, so that ``clone`` and grid search work.

    ``fit(objective)`` returns a fitted solver and leaves ``self`` alone otherwise;
    ``solve(V)`` takes right sides ``V`` of shape (n_params, m). ``report_`` is a dict of what the
    solver did (damping, iterations, residual, smallest curvature).
    """

    rough = False  # whether what is inverted is only a stand-in for the curvature

    def fit(self, objective):
        """Prepare for right sides of ``objective``."""
        raise NotImplementedError

    def solve(self, V):
        """Approximate ``H⁻¹ V``, shape of ``V``."""
        raise NotImplementedError

    def root(self, V):
        """``R' V`` with ``R R' = H⁻¹``: columns whose inner products are those of :meth:`solve`.

        Which root is the solver's choice; its number of rows may differ from that of ``V``.
        """
        raise TypeError(
            f"solver {type(self).__name__} has no square root of the inverse curvature; use "
            "'direct', 'ekfac', 'lanczos', 'diagonal' or 'identity'"
        )


def fitted_solver(solver, objective):
    """A clone of ``solver``, fitted on ``objective``."""
    if hasattr(objective, "fit_solver"):  # an objective of which a solver sees only a part
        return objective.fit_solver(clone(solver))
    return clone(solver).fit(objective)
