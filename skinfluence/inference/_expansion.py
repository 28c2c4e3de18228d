"""Taylor expansion of the parameters in the row weights, to second order."""

import numpy as np

from .._blocks import block_length, blocks
from ..methods.joint import is_smooth
from ..objectives.stacked import StackedObjective


class Expansion:
    """Derivatives of ``θ̂(w)`` at the weights of the fit.

    Weights are factors on those of the fit: 1 keeps a row as it is, 0 drops it.
    ``θ' = -H⁻¹ G_Δ`` and ``θ'' = -H⁻¹ (2 H_Δ θ' + T[θ', θ'])`` along ``Δ``, with
    ``G_Δ = Σ Δ_i g_i``, ``H_Δ = Σ Δ_i H_i`` and ``T`` the third derivative of the objective.

    Parameters
    ----------
    objective : Objective
    solver : Solver
        Fitted on it.
    """

    def __init__(self, objective, solver):
        self.objective, self.solver = objective, solver
        self.gradients = objective.removal_gradients()

    def first(self, delta):
        """``θ'`` along rows of ``delta``, (b, n): shape (b, n_params)."""
        return -self.solver.solve(self.gradients.tdot(np.asarray(delta, np.float64).T)).T

    def rows(self, index=None):
        """``dθ̂/dw_i`` for every row, or for those of ``index`` in their order.

        In blocks: yields ``(rows, (b, n_params))``.
        """
        n, p = self.gradients.shape
        for part in blocks(n if index is None else len(index), block_length(24 * p, share=1 / 8)):
            rows = part if index is None else index[part]
            released = self.gradients.block(rows).astype(np.float64)
            yield rows, -self.solver.solve(released.T).T

    def second(self, delta, first):
        """``θ''`` along rows of ``delta`` with ``first`` their ``θ'``."""
        self.check_second_order()
        objective = self.objective
        rights = np.empty(first.shape)
        for b, (along, step) in enumerate(zip(np.atleast_2d(delta), first, strict=True)):
            dZ = objective.predict(step)
            moved = 2 * along[:, None] * self._curved(dZ)
            moved += self._third(dZ[:, :, None] * dZ[:, None, :])
            rights[b] = objective.design.tdot(moved).T.ravel()
        return -self.solver.solve(rights.T).T

    def bias(self, covariance):
        """``½ Σ_i d²θ̂/dw_i²``: the bias over independent unit-variance weights.

        ``Σ_i T[θ'_i, θ'_i]`` is ``T`` contracted with the covariance ``Σ_i θ'_i θ'_i'``, so no
        pair of rows is formed.
        """
        self.check_second_order()
        objective = self.objective
        total = np.zeros(objective.n_params)
        K, d = objective.n_outputs, objective.d
        for part, step in self.rows():
            x = objective.design.block(part, np.float64)
            dZ = np.einsum("ij,ikj->ik", x, step.reshape(len(x), K, d))
            own = 2 * self._curved(dZ, part)
            V = np.einsum("ij,kjlm,im->ikl", x, covariance.reshape(K, d, K, d), x, optimize=True)
            own += self._third(V, part)
            total += (own.T @ x).ravel()
        return -0.5 * self.solver.solve(total[:, None])[:, 0]

    def _curved(self, dZ, rows=slice(None)):
        """``w_i ∇²ℓ_i dz_i``."""
        objective = self.objective
        if objective.loss.scalar:
            return objective.curvatures[rows][:, None] * dZ
        matrices = objective.curvature_matrices(rows)
        return (matrices @ dZ[:, :, None])[:, :, 0]

    def _third(self, V, rows=slice(None)):
        """``w_i ∇³ℓ_i`` contracted with ``V`` of shape (b, K, K)."""
        objective = self.objective
        Z, y, weights = objective.outputs[rows], objective.y[rows], objective.weights[rows]
        return weights[:, None] * objective.loss.third_product(Z, y, V)

    def check_second_order(self):
        """Refuse objectives whose second-order term is not known."""
        objective = self.objective
        if isinstance(objective, StackedObjective):
            raise TypeError(
                "the second order is not known where weights move a pipeline's steps; use order=1, "
                "or preprocessing='frozen'"
            )
        if not is_smooth(objective):
            raise TypeError(
                f"the second order is not known for {type(objective).__name__}; use order=1"
            )
        if not objective.rule.trivial:
            raise ValueError(
                "the second order is not known where other rows' weights or the penalty move with "
                "a row (class_weight='balanced', a penalty on the mean loss); use order=1"
            )
