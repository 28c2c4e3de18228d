"""Second-order expansions of the parameters in the removal of a group."""

from functools import singledispatch

import numpy as np

from .._blocks import block_length, blocks
from ..objectives.composite import IndependentOutputs
from ..objectives.linear import LinearObjective
from ..objectives.subset import SubsetObjective
from .base import Effects, Method
from .newton import StackedEffects, check_left, check_lone_rows
from .subset import SubsetEffects


class SecondOrder(Method):
    """Second-order expansion of the parameters in a group's removal; target re-evaluated.

    With ``D = c F_{-G} - F`` the parameters follow ``F + t D`` from ``t = 0``, the fit, to
    ``t = 1``, the optimum without the group: ``θ' = -H⁻¹ ∇D`` and
    ``θ'' = -H⁻¹ (2 ∇²D θ' + T[θ', θ'])``, with ``T`` the third derivative of ``F``. Best for small
    groups, and for those whose rows pull one way; large groups of similar rows want "newton".

    Parameters
    ----------
    third_derivative : bool, default=True
        Whether ``T`` takes part. Without it the expansion is that of a Newton step without the
        group, cut after two terms.
    renormalised : bool, default=False
        False takes ``c = 1``: the rows fade out. True takes ``c = 1 / (1 - q)``, with ``q`` the
        group's share of the weight: the other rows take its weight over along the way. The
        formula of Basu et al. is ``SecondOrder(third_derivative=False, renormalised=True)`` where
        the penalty is one on the mean loss.

    References
    ----------
    Basu, S., You, X. and Feizi, S. (2020). On second-order group influence functions for
    black-box predictions. ICML. https://arxiv.org/abs/1911.00418

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.methods import SecondOrder
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> explainer = InfluenceExplainer(LogisticRegression(), method=SecondOrder())
    >>> explainer.fit(scale(X), y).group_influence([range(40)], scale(X)[:3], y[:3]).shape
    (3, 1)
    """

    def __init__(self, *, third_derivative=True, renormalised=False):
        self.third_derivative = third_derivative
        self.renormalised = renormalised

    def bind(self, problem):
        """Effects for the kind of objective."""
        return second_order_effects(problem.objective, problem, self)


@singledispatch
def second_order_effects(objective, problem, method):
    """Second-order effects of an objective; register another kind of objective here."""
    raise TypeError(
        f"method='second_order' is not known for {type(objective).__name__}; use 'newton' or "
        "'influence', or register it with methods.second_order.second_order_effects"
    )


@second_order_effects.register(LinearObjective)
def _(objective, problem, method):
    plain = type(objective).minimise is LinearObjective.minimise
    if not (plain and objective.loss.smooth):
        raise TypeError(
            f"method='second_order' needs a smooth loss and a quadratic penalty, which "
            f"{type(objective).__name__} has not; use method='newton' or 'exact'"
        )
    return LinearSecondOrderEffects(problem, method)


@second_order_effects.register(IndependentOutputs)
def _(objective, problem, method):
    return StackedEffects(problem, lambda part, sub: second_order_effects(part, sub, method))


@second_order_effects.register(SubsetObjective)
def _(objective, problem, method):
    return SubsetEffects(problem, lambda part, sub: second_order_effects(part, sub, method))


def path_scale(weights, group, renormalised):
    """``c``: what multiplies the objective without the group at the end of the path."""
    if not renormalised:
        return 1.0
    return weights.sum() / (weights.sum() - weights[group].sum())


class LinearSecondOrderEffects(Effects):
    """Those of a linear predictor, many groups in one product with the rows.

    ``F_{-G}`` is the objective with its rules (balanced weights, mean form) applied to the rows
    that are left.
    """

    threaded = True

    def __init__(self, problem, method):
        super().__init__(problem)
        self.method = method

    def parameters(self, rows):
        """Each row as a group."""
        return self.joint_parameters([[row] for row in rows])

    def joint_parameters(self, groups):
        """Two solves a group."""
        objective = self.objective
        self._check_identified(groups)
        per_group = 8 * objective.n_rows * 5 * objective.n_outputs
        pieces = blocks(len(groups), block_length(per_group, share=1 / 8))
        return np.concatenate([self._expand(groups[piece]) for piece in pieces])

    def _check_identified(self, groups):
        """Refuse groups without which the fit is not identified, which no expansion would see."""
        objective = self.objective
        free = (objective.penalty == 0).sum(axis=1).max()
        if free <= (objective.design.intercept is not None):
            return
        single = np.array([group[0] for group in groups if len(group) == 1], dtype=np.intp)
        if len(single):
            check_lone_rows(objective, objective.lone_rows(), single)
            check_left(1 - objective.output_leverages(self.solver, single), single)
        for group in groups:
            if len(group) > 1:
                objective.check_removable(group)
                phi, rho = objective.rule.joint_factors(group)
                weights = objective.weights * phi[objective.rule.groups]
                weights[group] = 0
                with objective.identified_without(group):
                    objective.factorise_blocks([objective.quadratic(objective.theta, weights, rho)])

    def _expand(self, groups):
        objective = self.objective
        lost, rho, scale = self._path(groups)
        first = self._solve(lost[:, :, None] * objective.residuals[:, None, :])
        first += self._solve_penalty(
            (1 - rho)[:, None] * objective.penalty_gradient(objective.theta)
        )
        first *= scale[:, None]
        moved = objective.predict_many(first)
        right = scale[:, None] * lost[:, :, None] * self._curved(moved)
        if self.method.third_derivative:
            right -= 0.5 * self._third(moved)
        second = self._solve(right)
        share = (scale * (1 - rho))[:, None] * objective.penalty_product(first)
        second += self._solve_penalty(share)
        return first + second - (scale - 1)[:, None] * first

    def _path(self, groups):
        """Share of each row's weight that goes (n, g), and for each group ``ρ`` and ``c``."""
        objective = self.objective
        rule = objective.rule
        lost = np.empty((objective.n_rows, len(groups)))
        rho, scale = np.empty(len(groups)), np.empty(len(groups))
        for g, rows in enumerate(groups):
            rows = np.asarray(rows)
            objective.check_removable(rows)
            phi, rho[g] = rule.joint_factors(rows)
            lost[:, g] = 1 - phi[rule.groups]
            lost[rows, g] = 1.0
            scale[g] = path_scale(objective.weights, rows, self.method.renormalised)
        return lost, rho, scale

    def _solve(self, slopes):
        """``H⁻¹ Σ_i slopes_i ⊗ x_i`` for slopes (n, g, K): (g, n_params)."""
        objective = self.objective
        n, g, K = slopes.shape
        sums = objective.design.tdot(slopes.reshape(n, g * K)).T.reshape(g, K * objective.d)
        return self.solver.solve(sums.T).T

    def _solve_penalty(self, right):
        return self.solver.solve(right.T).T if right.any() else np.zeros(right.shape)

    def _curved(self, moved):
        """``w_i ∇²ℓ_i dz_i``, shape (n, g, K)."""
        objective = self.objective
        if objective.loss.scalar:
            return objective.curvatures[:, None, None] * moved
        out = np.empty(moved.shape)
        for rows in self._rows(moved):
            out[rows] = moved[rows] @ objective.curvature_matrices(rows)
        return out

    def _third(self, moved):
        """``w_i ∇³ℓ_i[dz_i, dz_i]``, shape (n, g, K)."""
        objective = self.objective
        out = np.empty(moved.shape)
        for rows in self._rows(moved):
            Z, y = objective.outputs[rows, None], np.expand_dims(objective.y[rows], 1)
            V = moved[rows, :, :, None] * moved[rows, :, None, :]
            third = objective.loss.third_product(Z, y, V)
            out[rows] = objective.weights[rows, None, None] * third
        return out

    @staticmethod
    def _rows(moved):
        """Slices of rows whose pairs of outputs fit the memory budget."""
        n, g, K = moved.shape
        return blocks(n, block_length(24 * g * K * K, share=1 / 8))
