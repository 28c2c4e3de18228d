"""Estimators without some of their rows, with a certificate of how close they are to a refit."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from ._distributed import in_memory
from ._unwrap import unwrap
from .methods import Problem
from .methods.certificate import certificate_for
from .methods.rounding import UNIT
from .methods.stacked import as_design_rows
from .objectives.design import Design
from .objectives.without import check_known_without, gradient_without
from .solvers.direct import Direct

# Fitted attributes that hold nothing of single rows, and those that only describe the old fit.
KEPT = {"classes_", "feature_names_in_", "loss_function_", "n_features_in_", "n_iter_", "solver_"}
DROPPED = {"rank_", "singular_"}


@dataclass
class Unlearned:
    """An estimator without some rows.

    Parameters
    ----------
    estimator : estimator
        A copy with other parameters. Of a search, its best estimator.
    distance_bound : float
        Upper bound on the Euclidean distance between its parameters (``coef_`` and ``intercept_``)
        and those of the optimum without the rows, rounding included. A refit goes to that optimum
        as far as its tolerance lets it. Infinite where a step is too long to prove anything of:
        ``method="exact"`` goes on to the optimum.
    gradient_norm : float
        Euclidean norm of the gradient of the objective without the rows at its parameters, which
        is zero at the optimum.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> without = InfluenceExplainer(Ridge()).fit(*load_diabetes(return_X_y=True)).unlearn([0, 1])
    >>> without.distance_bound < 1e-8
    True
    """

    estimator: Any
    distance_bound: float
    gradient_norm: float


class Unlearning:
    """Mixin of the explainer: the estimator without some rows."""

    @in_memory
    def unlearn(self, rows):
        """The fitted estimator without some training rows, and how far from a refit it can be.

        The parameters are moved by the explainer's method: one Newton step by default, the optimum
        itself with ``method="exact"``. The bound is computed at what was written into the
        estimator, from the gradient of the objective without the rows, so it holds whatever the
        method. To remove more rows, explain ``FrozenEstimator(unlearned.estimator)`` on the
        rows that are left: bounds do not add up.

        A pipeline's last step is changed. The other steps are fitted again on the rows left where
        the explainer follows removals through them. With ``preprocessing="frozen"``, or where
        nothing in them moves, they stay, the bound takes them so, and they may still hold what
        the rows left there, such as an encoder's categories.

        Parameters
        ----------
        rows : array-like of int or bool
            Positions of the training rows to remove, or a mask.

        Returns
        -------
        Unlearned
            ``estimator``, ``distance_bound``, ``gradient_norm``.

        Raises
        ------
        TypeError
            If the objective is no linear predictor with a quadratic penalty, or the estimator's
            fitted attributes are others than ``coef_`` and ``intercept_``.
        ValueError
            If no bound is known, or a class or the fit has no rows left.

        Notes
        -----
        The certificate is of parameters. It is no (ε, δ) guarantee that the removed rows cannot be
        told from the model: that needs noise in the training objective (Guo et al.), which
        scikit-learn's estimators do not add.

        References
        ----------
        Guo, C., Goldstein, T., Hannun, A. and van der Maaten, L. (2020). Certified data removal
        from machine learning models. ICML. https://arxiv.org/abs/1911.03030

        Examples
        --------
        >>> from sklearn.datasets import load_breast_cancer
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.preprocessing import scale
        >>> from skinfluence import InfluenceExplainer
        >>> X, y = load_breast_cancer(return_X_y=True)
        >>> explainer = InfluenceExplainer(LogisticRegression()).fit(scale(X), y)
        >>> without = explainer.unlearn([3, 14, 15])
        >>> without.estimator
        LogisticRegression()
        >>> without.distance_bound < 0.05
        True
        """
        check_is_fitted(self)
        rows = self._check_rows(rows)
        if not len(rows) or len(np.unique(rows)) < len(rows):
            raise ValueError("rows is empty or names the same row twice")
        if hasattr(self.objective_, "source"):
            raise TypeError(
                "unlearn writes the parameters of linear predictors, and a net has no certificate"
            )
        if self._stacked:
            return self._unlearn_stages(rows)
        objective = self.objective_
        check_known_without(objective)
        final = unwrap(self.estimator_)[1]
        moved = objective.theta + self.effects_.joint_parameters([rows])[0]
        written = write_parameters(objective, final, moved)
        theta = objective.read_parameters(written)
        bound = certificate_for(objective, self.effects_.problem).joint_bound(
            rows, theta - objective.theta
        )
        gradient = gradient_without(objective, rows, theta)
        return _certified(_with_final(self.estimator_, written), theta, gradient, bound)

    def _unlearn_stages(self, rows):
        """Steps fitted again, and the last one at its optimum on what they hand on."""
        chain, inner = self.objective_.chain, self.objective_.inner
        if chain.held:
            raise ValueError(
                f"the steps {[name for name, _ in chain.held]} are kept as fitted among others "
                "that are not; use preprocessing='frozen' to keep all"
            )
        check_known_without(inner)
        if hasattr(inner, "parts") or self.objective_.target is not None:
            raise TypeError(
                "unlearn fits the steps before one linear model again, not those before several or "
                "beside a transformed target; use preprocessing='frozen'"
            )
        inner.check_removable(rows)
        keep = np.setdiff1d(np.arange(inner.n_rows), rows)
        steps, outputs = [], _safe_indexing(chain.X, keep)
        for stage in chain.stages:
            weight = stage.sample_weight
            options = {} if weight is None else {"sample_weight": weight[keep]}
            steps.append(clone(stage.step))
            outputs = steps[-1].fit_transform(outputs, chain.y[keep], **options)
        rest = _behind_stages(self.objective_, as_design_rows(outputs), keep, rows)
        written = write_parameters(rest, unwrap(self.estimator_)[1], rest.theta)
        theta = rest.read_parameters(written)
        problem = Problem(rest, Direct().fit(rest))
        none = np.empty(0, dtype=np.intp)
        bound = certificate_for(rest, problem).joint_bound(none, theta - rest.theta)
        whole = _with_final(self.estimator_, written, dict(zip(chain.names, steps, strict=True)))
        return _certified(whole, theta, gradient_without(rest, none, theta), bound)


def _behind_stages(objective, outputs, keep, rows):
    """The last step's objective without ``rows``, at its optimum on what the steps hand on."""
    inner = objective.inner
    if outputs.shape[1] != inner.design.X.shape[1]:
        raise ValueError(
            f"without rows {rows[:5].tolist()} the steps hand on {outputs.shape[1]} columns "
            f"instead of {inner.design.X.shape[1]}: fit the pipeline again"
        )
    phi, rho = inner.rule.joint_factors(rows)
    return type(inner)(
        Design(outputs, inner.design.intercept),
        inner.loss,
        inner.y[keep],
        (inner.weights * phi[inner.rule.groups])[keep],
        rho * inner.penalty,
        objective.behind.minimum(outputs, None, keep, rows).reshape(inner.coef.shape),
        inner.head,
        rule=inner.rule.subset(keep),
        head_targets=inner.head_targets[keep],
        feature_names=inner.feature_names,
        polish=False,
    )


def _certified(estimator, theta, gradient, bound):
    # the parameters that were bounded are those written, up to the rounding of their difference
    bound = bound + 2 * UNIT * np.linalg.norm(theta)
    return Unlearned(estimator, float(bound), float(np.linalg.norm(gradient)))


def _with_final(estimator, final, steps=None):
    """A copy of a fitted estimator with another last step, and other steps before it."""
    while not isinstance(estimator, Pipeline):
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return final
    replaced = [(name, (steps or {}).get(name, step)) for name, step in estimator.steps[:-1]]
    name, last = estimator.steps[-1]
    # a shallow copy keeps the fitted steps, which nobody writes into
    whole = copy.copy(estimator)
    whole.steps = [*replaced, (name, _with_final(last, final, steps))]
    return whole


def write_parameters(objective, estimator, theta):
    """A copy of a fitted linear model whose ``coef_`` and ``intercept_`` are ``theta``.

    Refuses a model with other fitted attributes, which may hold the rows that are to go.
    """
    name = type(estimator).__name__
    fitted = {key for key in vars(estimator) if key.endswith("_") and not key.startswith("_")}
    other = sorted(fitted - KEPT - DROPPED - {"coef_", "intercept_"})
    if "coef_" not in fitted or other or sparse.issparse(estimator.coef_):
        held = f"it holds {other}" if other else "it has no dense coef_"
        raise TypeError(
            f"{name} cannot be written without its rows: {held}. Unlearn from a linear model that "
            "holds coef_ and intercept_ alone"
        )
    column = getattr(objective, "parts", [objective])[0].design.intercept
    written = copy.deepcopy(estimator)
    coef = np.asarray(estimator.coef_)
    width = coef.shape[-1]
    table = theta.reshape(-1, width + (column is not None))
    written.coef_ = table[:, :width].reshape(coef.shape).astype(coef.dtype)
    if column is not None:
        bias = np.asarray(estimator.intercept_)
        value = (column * table[:, -1]).reshape(bias.shape).astype(bias.dtype)
        written.intercept_ = value if bias.ndim else value[()]
    for key in DROPPED & fitted:
        delattr(written, key)
    read = objective.read_parameters(written)
    precision = 4 * np.finfo(coef.dtype).eps * np.abs(theta).max()
    if not np.abs(read - theta).max() <= precision:
        raise TypeError(f"{name} does not keep the coef_ and intercept_ that are written into it")
    return written
