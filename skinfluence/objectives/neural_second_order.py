"""Second-order expansions of a net's parameters in the removal of a group."""

import numpy as np
import torch

from ..methods.base import Effects
from ..methods.first_order import FirstOrderEffects
from ..methods.second_order import path_scale, second_order_effects
from .neural import NeuralObjective


class NeuralSecondOrderEffects(Effects):
    """Those of a net, by products with the curvature that its solver inverts.

    The third derivative belongs to the Hessian and is refused beside another curvature.
    """

    def __init__(self, problem, method):
        super().__init__(problem)
        self.method = method
        kind = getattr(self.solver, "curvature", "auto")
        self._kind = "gauss_newton" if kind == "auto" else kind
        if method.third_derivative and self._kind != "hessian":
            raise ValueError(
                f"the third derivative expands the Hessian, but the solver inverts curvature="
                f"{self._kind!r}: pass solver=Direct(curvature='hessian'), or "
                "method=SecondOrder(third_derivative=False)"
            )
        if self.objective.common_gradient is not None:
            raise ValueError(
                "method='second_order' starts from a stationary fit: use residual=False, or "
                "method='newton'"
            )
        self._first = FirstOrderEffects(problem)

    def parameters(self, rows):
        """Each row as a group."""
        return self.joint_parameters([[row] for row in rows])

    def joint_parameters(self, groups):
        """Two solves a group."""
        objective = self.objective
        scale = [path_scale(objective.weights, g, self.method.renormalised) for g in groups]
        scale = np.array(scale)[:, None]
        first = scale * self._first.joint_parameters(groups)
        rights = [self._right(g, c, v) for g, c, v in zip(groups, scale, first, strict=True)]
        second = self.solver.solve(np.array(rights).T).T
        return first + second - (scale - 1) * first

    def _right(self, group, scale, step):
        objective = self.objective
        group = np.asarray(group)
        rho = objective.rule.joint_factors(group)[1]
        right = (1 - rho) * objective.penalty * step
        trained = group[objective.weights[group] > 0]
        if len(trained):
            product = objective.curvature_product(step[:, None], self._kind, False, trained)
            right = right + product[:, 0]
        right = scale * right
        return (
            right - 0.5 * third_product(objective, step) if self.method.third_derivative else right
        )


def third_product(objective, step):
    """``∇³F[v, v]`` by two forward passes over one backward: float64 of shape (n_params,)."""
    v = objective.to_torch(step)
    if objective._moving is not None:
        v = v * objective._moving
    total = torch.zeros_like(v)
    for rows in objective.row_blocks():
        x, y = objective.source.batch(rows)
        weights = objective.to_torch(objective.weights[rows])

        def value(flat, x=x, y=y, weights=weights):
            return weights @ objective.loss.value(objective.outputs_at(flat, x), y)

        def along(flat, value=value):
            return torch.func.jvp(torch.func.grad(value), (flat,), (v,))[1]

        with torch.no_grad():
            total += torch.func.jvp(along, (objective.flat,), (v,))[1]
    return objective.to_numpy(total)


@second_order_effects.register(NeuralObjective)
def _(objective, problem, method):
    return NeuralSecondOrderEffects(problem, method)
