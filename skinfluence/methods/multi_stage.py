"""Influence of pretraining rows on a fine-tuned model, to first order.

With ``θ`` the pretrained parameters, ``φ`` the fine-tuned ones and ``t`` a target of the fine-tuned
model, ``dt = ∇_φ t' dφ + ∇_θ t' dθ`` and ``dθ_i = H_1⁻¹ p_i`` for pretraining row ``i``. A coupling
says how ``φ`` follows ``θ``; it turns the gradient of a target into that with respect to ``θ``,
with one solve of the fine-tuning stage. One solve of the pretraining stage then scores all rows.
"""

import numpy as np

from .first_order import FirstOrderEffects


class MultiStageEffects(FirstOrderEffects):
    """Effects of pretraining rows on targets of the fine-tuned model.

    Parameters
    ----------
    problem : Problem
        Of the pretraining stage, its solver fitted.
    coupling : FixedCoupling or UpdatedCoupling
    """

    def __init__(self, problem, coupling):
        super().__init__(problem)
        self.coupling = coupling

    @property
    def adjoint_size(self):
        """The longer of a target's gradient and the pretrained parameters."""
        return max(self.objective.n_params, self.coupling.objective.n_params)

    def bind_target(self, target, X, y):
        """The target at the fine-tuned model."""
        return target.bind(self.coupling.objective, X, y)

    def adjoint(self, pulled):
        """One solve a query in either stage."""
        return super().adjoint(self.coupling.carried(pulled))

    def joint_linearised(self, bound, groups):
        """Rows add up to first order."""
        adjoint = self.adjoint(bound.pullback())
        out = np.zeros((adjoint.shape[1], len(groups)))
        for k, group in enumerate(groups):
            for rows in self.row_blocks(group):
                out[:, k] += self.linearised(adjoint, rows).sum(axis=1)
        return out


class FixedCoupling:
    """Shared parameters ``θ_s`` stay where pretraining left them.

    ``dφ = -H_φφ⁻¹ H_φs dθ_s``. The cross block ``H_φs`` is that of the Hessian whatever the
    curvature of the solver: it is not inverted, so it need not be definite, and where the outputs
    are linear in ``φ`` the Gauss-Newton matrix ``H_φφ`` is the Hessian too.

    Parameters
    ----------
    objective : NeuralObjective
        Of the fine-tuned net, over its own and the shared parameters.
    solver : Solver
        Fitted on the objective over its own alone.
    own, shared : ndarray of int
        Positions of either in ``objective``.
    n_params : int
        Of the pretrained net.
    into : ndarray of int
        Positions of the shared parameters there.
    """

    def __init__(self, objective, solver, own, shared, n_params, into):
        self.objective, self.solver = objective, solver
        self.own, self.shared, self.n_params, self.into = own, shared, n_params, into

    def carried(self, pulled):
        """From gradients (m, n_params) of the fine-tuned net to those of the pretrained one."""
        moved = np.zeros((self.objective.n_params, len(pulled)))
        moved[self.own] = self.solver.solve(pulled[:, self.own].T.astype(np.float64))
        crossed = self.objective.curvature_product(moved, "hessian", penalty=False)
        out = np.zeros((len(pulled), self.n_params))
        out[:, self.into] = pulled[:, self.shared] - crossed[self.shared].T
        return out


class UpdatedCoupling:
    """Shared parameters are held near the pretrained ones by ``½ Σ α_j (φ_j - θ_j)²``.

    ``dφ = H_φφ⁻¹ α dθ_s``, with ``α`` part of ``H_φφ``.

    Parameters
    ----------
    objective : Objective
        Of the fine-tuned model.
    solver : Solver
        Fitted on it.
    strength : ndarray of shape (n_shared,)
        ``α`` in total form, times the units of ``θ`` over those of ``φ``.
    shared : ndarray of int
        Positions of the shared parameters in ``objective``.
    n_params : int
        Of the pretrained model.
    into : ndarray of int
        Positions of the shared parameters there.
    """

    def __init__(self, objective, solver, strength, shared, n_params, into):
        self.objective, self.solver, self.strength = objective, solver, strength
        self.shared, self.n_params, self.into = shared, n_params, into

    def carried(self, pulled):
        """From gradients (m, n_params) of the fine-tuned model to those of the pretrained one."""
        moved = self.solver.solve(pulled.T.astype(np.float64))
        out = np.zeros((len(pulled), self.n_params))
        out[:, self.into] = (self.strength[:, None] * moved[self.shared]).T
        return out
