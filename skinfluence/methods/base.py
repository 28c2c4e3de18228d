"""Methods: how "row removed" is approximated.

A method is an estimator-like object with options; ``bind(problem)`` gives its :class:`Effects`,
the only thing the explainer works with: what removing rows does to parameters and outputs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from .._blocks import block_length, index_blocks


@dataclass
class Problem:
    """A fitted model to explain.

    Attributes
    ----------
    objective : Objective
    solver : Solver
        Fitted on the objective; None for a method with ``uses_solver = False``.
    estimator, X, y, sample_weight
        The fitted final estimator and what it was fitted on, for methods that refit.
    n_jobs, verbose, batch_size
        As given to the explainer.
    """

    objective: Any
    solver: Any
    estimator: Any = None
    X: Any = None
    y: Any = None
    sample_weight: Any = None
    n_jobs: int | None = None
    verbose: int = 0
    batch_size: int | None = None


class Method(BaseEstimator):
    """Base class of methods.

    Attributes
    ----------
    linear_target : bool
        True where the target is linearised at the fit; False where it is re-evaluated.
    first_order : bool
        True where parameters move to first order only: high leverage is then warned of.
    uses_solver : bool
        False where no ``H⁻¹ v`` is needed.
    """

    linear_target = False
    first_order = False
    uses_solver = True

    def bind(self, problem):
        """The :class:`Effects` of this method on a :class:`Problem`."""
        raise NotImplementedError


class Effects:
    """What removing rows does, according to one method.

    Rows are index arrays. Subclasses give :meth:`parameters` (and :meth:`joint_parameters`);
    outputs follow through the objective's queries. A model without parameters overrides the
    output methods instead.

    Attributes
    ----------
    threaded : bool
        Whether blocks of rows may be asked for from several threads at once.
    """

    threaded = False

    def __init__(self, problem):
        self.problem = problem
        self.objective, self.solver = problem.objective, problem.solver
        self._certificate = None

    @property
    def adjoint_size(self):
        """Length of a query's gradient as :meth:`adjoint` takes it."""
        return self.objective.n_params

    def parameters(self, rows):
        """``θ`` without each row minus ``θ̂``: (b, n_params)."""
        raise NotImplementedError

    def joint_parameters(self, groups):
        """``θ`` without each group (a list of index arrays) minus ``θ̂``: (g, n_params)."""
        raise NotImplementedError

    def outputs(self, queries, rows):
        """Change of the outputs at the queries when each row goes: (m, b, n_outputs)."""
        return queries.changes(self.parameters(rows))

    def joint_outputs(self, queries, groups):
        """Change of the outputs at the queries when each group goes: (m, g, n_outputs)."""
        return queries.changes(self.joint_parameters(groups))

    def own_outputs(self, rows):
        """Change of each row's own outputs when it goes: (b, n_outputs)."""
        return self.objective.training_queries(rows).paired_changes(self.parameters(rows))

    def left_out_outputs(self):
        """Outputs of each training row when it is left out: (n_rows, n_outputs)."""
        objective = self.objective
        out = np.empty((objective.n_rows, objective.n_outputs))
        for rows in self.row_blocks(np.arange(objective.n_rows)):
            out[rows] = objective.training_queries(rows).outputs + self.own_outputs(rows)
        return out

    def bind_target(self, target, X, y):
        """The target at query rows ``X`` with raw targets ``y``."""
        return target.bind(self.objective, X, y)

    def own_linearised(self, target, rows):
        """First-order change of a target at each row itself when it goes: (b,)."""
        objective = self.objective
        queries, y = objective.training_queries(rows), objective.training_targets(rows)
        gradient = target.bind_queries(objective, queries, y).gradient()
        return (gradient * self.own_outputs(rows)).sum(axis=1)

    def joint_linearised(self, bound, groups):
        """First-order change of the targets when each group goes: (m, g), (1, g) if scalar."""
        return bound.linearised(lambda queries: queries.joint_moved(self, groups))

    def error_bound(self, rows):
        """Rigorous bounds on ``‖θ̂ + parameters(rows) - θ_{-i}‖₂``: (b,).

        Refused by name where no bound is known for the objective.
        """
        # Certificates build on the methods' own parts, so they are imported when asked for.
        from .certificate import certificate_for

        if self._certificate is None:
            self._certificate = certificate_for(self.objective, self.problem)
        return self._certificate.bound(np.asarray(rows), self.parameters(rows))

    def adjoint(self, pulled):
        """``H⁻¹ pulled`` for a linearised target, ``pulled`` of shape (m, n_params), or None."""
        return None

    def linearised(self, adjoint, rows, out=None):
        """First-order change of the targets of :meth:`adjoint` when each row goes: (m, b)."""
        raise NotImplementedError

    def row_blocks(self, rows, n_queries=1):
        """Pieces of ``rows`` such that one piece's arrays stay in the memory budget."""
        return index_blocks(np.asarray(rows), self.block_length(n_queries))

    def block_length(self, n_queries=1):
        """Rows in one such piece."""
        objective = self.objective
        per_row = 8 * (2 * objective.n_params + 2 * n_queries * objective.n_outputs)
        return block_length(per_row, self.problem.batch_size, share=1 / 8)
