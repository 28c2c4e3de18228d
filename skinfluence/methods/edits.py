"""Other edits of the training rows than removal: a new label, a new row, another weight.

For a linear predictor each edit changes the gradient of one row by ``Δr ⊗ x`` and its curvature
by ``ΔS``; the Newton step to the edited optimum is ``-H⁻¹ (I + ΔS A)⁻¹ Δr ⊗ x`` with ``A`` the
row's leverage block, and the first-order step leaves ``ΔS`` out.
"""

import copy
import warnings

import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from .._unwrap import fit_estimator
from ..objectives import resolve_objective
from ..objectives.composite import IndependentOutputs
from ..objectives.design import Design
from .exact import Exact
from .joint import is_smooth
from .newton import Newton
from .refit import Refit


class Edits:
    """Changes of the parameters under edits of a fitted explainer's rows.

    Parameters
    ----------
    explainer : InfluenceExplainer
        Fitted.
    """

    def __init__(self, explainer):
        self.explainer = explainer
        self.objective = explainer.objective_
        self.problem = explainer.effects_.problem
        self.method = explainer.method_

    def weighted(self, rows, factor):
        """Each row's weight times ``factor``."""
        if self.method.first_order:
            if getattr(getattr(self.objective, "rule", None), "balanced", False):
                raise ValueError(self._refused())  # some rules count rows, others their weights
            return (1 - factor) * self.explainer.effects_.parameters(rows)
        if self._steps("trivial"):
            objective = self.objective
            step = factor - 1
            return self._newton(
                rows,
                step * objective.residuals[rows],
                self._curvature(lambda: step * objective.curvature_matrices(rows)),
            )

        def edit(row):
            weight = self.problem.sample_weight
            weight = np.ones(len(self.problem.y)) if weight is None else weight.astype(float)
            weight[row] *= factor
            return self.problem.X, self.problem.y, weight

        return self._edited(rows, edit)

    def relabelled(self, rows, labels):
        """Each row given the label at the same position."""
        labels = np.asarray(labels)
        self._check_class_left(rows, labels)
        if self._steps("unbalanced"):
            objective = self.objective
            new, old = self._loss_targets(labels), objective.y[rows]
            Z, w = objective.outputs[rows], objective.weights[rows]
            loss = objective.loss
            slopes = loss.gradient(Z, new) - loss.gradient(Z, old)
            return self._newton(
                rows,
                w[:, None] * slopes,
                self._curvature(
                    lambda: w[:, None, None] * (_curvature(loss, Z, new) - _curvature(loss, Z, old))
                ),
            )
        y = np.asarray(self.problem.y)

        def edit(position):
            edited = y.astype(np.result_type(y, labels)) if y.dtype.kind in "biuf" else y.copy()
            edited[rows[position]] = labels[position]
            return self.problem.X, edited, self.problem.sample_weight

        return self._edited(np.arange(len(rows)), edit)

    def added(self, X, y):
        """Each row of ``X`` added with its label, at weight 1."""
        y = np.asarray(y)
        if self._steps("trivial"):
            objective = copy.copy(self.objective)
            objective.design = Design(X, self.objective.design.intercept)
            new, w = self._loss_targets(y), self._unit_weight()
            Z = objective.design.predict(objective.coef)
            return self._newton(
                np.arange(len(y)),
                w * objective.loss.gradient(Z, new),
                self._curvature(lambda: w * _curvature(objective.loss, Z, new)),
                objective,
            )
        self.objective.head.encode(y)  # refuses classes never seen
        problem = self.problem
        stack = sparse.vstack if sparse.issparse(problem.X) else np.concatenate

        def edit(position):
            weight = problem.sample_weight
            weight = None if weight is None else np.append(weight, 1.0)
            rows = stack([problem.X, X[[position]]])
            rows = rows.tocsr() if sparse.issparse(rows) else rows
            return rows, np.concatenate([problem.y, y[[position]]]), weight

        return self._edited(np.arange(len(y)), edit)

    # -- steps from the fitted Hessian -----------------------------------------------------
    def _steps(self, rule):
        """Whether one step from the fitted Hessian is what the method asks for, and is known.

        First-order methods have nothing else: they are refused where a rule would act.
        """
        known = is_smooth(self.objective) and self._uniform()
        if known:
            acting = self.objective.rule
            known = acting.trivial if rule == "trivial" else not acting.balanced
        if self.method.first_order and not known:
            raise ValueError(self._refused())
        return known and (self.method.first_order or isinstance(self.method, Newton))

    def _refused(self):
        return (
            f"method={type(self.method).__name__} knows this edit for linear predictors with a "
            "smooth loss, where no class weights or mean-form penalty follow the rows; use "
            "method='newton' or 'refit'"
        )

    def _uniform(self):
        """Whether a row's weight depends on its sample weight alone, not on its class."""
        shares = self._shares()
        return np.ptp(shares) <= 1e-12 * np.abs(shares).max()

    def _shares(self):
        weight = self.problem.sample_weight
        weight = np.ones(self.objective.n_rows) if weight is None else np.asarray(weight)
        return self.objective.weights[weight > 0] / weight[weight > 0]

    def _unit_weight(self):
        return self._shares()[0]

    def _curvature(self, make):
        """Change of curvature, which first-order methods leave out."""
        return None if self.method.first_order else make()

    def _newton(self, rows, slopes, curvature, objective=None):
        objective = self.objective if objective is None else objective
        solver = self.explainer.solver_
        if curvature is not None and curvature.any():
            leverages = objective.leverage_blocks(solver, rows)
            if leverages.ndim == 1:
                leverages = leverages[:, None, None] * np.eye(objective.n_outputs)
            system = np.eye(objective.n_outputs) + curvature @ leverages
            if (np.linalg.det(system) <= 1e-10).any():
                raise ValueError(
                    "after the edit the fit is not identified: a row's leverage reaches 1. Add a "
                    "penalty"
                )
            slopes = np.linalg.solve(system, slopes[:, :, None])[:, :, 0]
        x = objective.design.block(rows, np.float64)
        stacked = (slopes[:, :, None] * x[:, None, :]).reshape(len(x), -1)
        return -solver.solve(stacked.T).T

    def _loss_targets(self, labels):
        """Labels as the loss wants them."""
        objective = self.objective
        codes = objective.head.encode(labels)
        if objective.head.classes is None:
            return codes
        first = [np.flatnonzero(objective.head_targets == c)[0] for c in np.unique(codes)]
        place = np.searchsorted(np.unique(codes), codes)
        return objective.y[np.array(first)[place]]

    def _check_class_left(self, rows, labels):
        head = self.objective.head
        if head.classes is None:
            head.encode(labels)
            return
        new = head.encode(labels)
        old = head.encode(self.problem.y)
        counts = np.bincount(old, minlength=len(head.classes))
        lost = (counts[old[rows]] == 1) & (new != old[rows])
        if lost.any():
            raise ValueError(
                f"rows {np.asarray(rows)[lost][:5].tolist()} are the only ones of their class: "
                "relabelled, a refit would not know the class"
            )

    # -- edited rows -----------------------------------------------------------------------
    def _edited(self, edits, edit):
        if isinstance(self.method, Refit):
            fit = self._refitted
        elif isinstance(self.method, Newton | Exact) and _has_optimum(self.objective):
            fit = self._optimum
        else:
            raise TypeError(
                f"this edit is not known for {type(self.objective).__name__} with method="
                f"{type(self.method).__name__}; use method='refit', or 'newton' on a linear "
                "predictor"
            )
        return np.array([fit(*edit(each)) for each in edits]) - self._base()

    def _base(self):
        if isinstance(self.method, Refit):
            return self.objective.read_parameters(self.problem.estimator)
        return self.objective.theta

    def _optimum(self, X, y, sample_weight):
        """The objective of the edited rows, polished from the fitted parameters."""
        with warnings.catch_warnings():  # the fit is not at this optimum, and need not be
            warnings.simplefilter("ignore", ConvergenceWarning)
            edited = resolve_objective(
                self.explainer.objective, self.problem.estimator, X, y, sample_weight
            )
        return edited.theta

    def _refitted(self, X, y, sample_weight):
        if self.objective.read_outputs is not None or not hasattr(self.objective, "theta"):
            raise TypeError(
                f"the parameters of {type(self.problem.estimator).__name__} belong to its rows: "
                "edits are known for removals alone"
            )
        fitted = fit_estimator(clone(self.problem.estimator), X, y, sample_weight)
        return self.objective.read_parameters(fitted)


def _has_optimum(objective):
    parts = objective.parts if isinstance(objective, IndependentOutputs) else [objective]
    return all(is_smooth(part) for part in parts)


def _curvature(loss, Z, y):
    """Second derivatives in the outputs, (b, K, K)."""
    if loss.scalar:
        return loss.curvature(Z, y)[:, None, None] * np.eye(Z.shape[1])
    return loss.curvature_matrix(Z, y)
