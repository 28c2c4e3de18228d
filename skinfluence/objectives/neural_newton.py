"""One Newton step of a net without a row, on its Gauss-Newton curvature."""

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from .._blocks import block_length
from ..methods.base import Effects
from ..methods.newton import newton_effects
from ..solvers.dense import root_columns
from .neural import NeuralObjective


class NeuralNewtonEffects(Effects):
    """``(C - B_i' B_i + (ρ - 1) Λ)⁻¹ p_i`` with ``B_i' B_i`` the row's own curvature.

    The row's curvature has rank ``K``, and is taken out by Woodbury; the change of the penalty,
    of relative size 1/n, by iterating on what is left.
    """

    # The share of the penalty is iterated to this relative step.
    tolerance = 1e-13

    def __init__(self, problem):
        super().__init__(problem)
        self.gradients = self.objective.removal_gradients()
        kind = getattr(self.solver, "curvature", "gauss_newton")
        if kind not in ("auto", "gauss_newton", "fisher"):
            raise ValueError(
                f"method='newton' takes a row's own Gauss-Newton curvature out of the solver's, "
                f"which is built on curvature={kind!r}; use curvature='gauss_newton' or "
                "method='infinitesimal_jackknife'"
            )

    def parameters(self, rows):
        """Row by row, the solves of a block at once."""
        rho = self.objective.rule.factors(rows)[1]
        out = np.empty((len(rows), self.objective.n_params))
        for part in self.row_blocks(np.arange(len(rows))):
            roots = [self._roots([row]) for row in rows[part]]
            right = self.gradients.block(rows[part]).astype(np.float64)
            out[part] = self._steps(roots, right, rho[part])
        return out

    def joint_parameters(self, groups):
        """One Newton step without each group."""
        out = []
        for group in groups:
            rho = self.objective.rule.joint_factors(group)[1]
            right = self.gradients.tdot(np.ones((len(group), 1)), group).T
            if self.objective.common_gradient is not None:
                right = right - (len(group) - 1) * self.objective.common_gradient
            out.append(self._steps([self._roots(group)], right.astype(float), [rho])[0])
        return np.array(out)

    def block_length(self, n_queries=1):
        """Rows in a block: each brings ``K`` right sides besides its own."""
        objective = self.objective
        per_row = 24 * (objective.n_outputs + 1) * objective.n_params
        per_row += 16 * n_queries * objective.n_outputs
        return block_length(per_row, self.problem.batch_size, share=1 / 8)

    def _roots(self, rows):
        """Rows ``B`` (K·b, n_params) of the curvature of some training rows."""
        objective = self.objective
        rows = np.asarray(rows)
        rows = rows[objective.weights[rows] > 0]
        if not len(rows):
            return np.zeros((0, objective.n_params))
        x, columns = root_columns(objective, "gauss_newton", rows)
        return np.concatenate([objective.to_numpy(objective.pull(x, c)) for c in columns])

    def _steps(self, roots, right, rho):
        """Solutions (b, n_params); ``roots`` are the rows to take out of each."""
        stops = np.cumsum([len(B) for B in roots])
        solved = self.solver.solve(np.concatenate([*roots, right]).T).T
        pieces = np.split(solved[: stops[-1]], stops[:-1])
        factors = [self._factor(B, Z) for B, Z in zip(roots, pieces, strict=True)]

        def take_out(base):
            moved = [
                y + Z.T @ cho_solve(factor, B @ y)
                for y, B, Z, factor in zip(base, roots, pieces, factors, strict=True)
            ]
            return np.array(moved)

        first = x = take_out(solved[stops[-1] :])
        share = (1 - np.asarray(rho))[:, None] * self.objective.penalty
        if not share.any():
            return x
        for _ in range(30):
            last = x
            x = first + take_out(self.solver.solve((share * x).T).T)
            if np.abs(x - last).max() <= self.tolerance * np.abs(x).max():
                break
        return x

    @staticmethod
    def _factor(B, Z):
        inner = np.eye(len(B)) - B @ Z.T
        try:
            return cho_factor((inner + inner.T) / 2)
        except LinAlgError as error:
            raise ValueError(
                "a row's own curvature is as large as the solver's in some direction, so that "
                "nothing is left without it: the solver's approximation is too coarse for "
                "method='newton'; use solver='cg' or 'direct', or method='influence'"
            ) from error


@newton_effects.register(NeuralObjective)
def _(objective, problem):
    return NeuralNewtonEffects(problem)
