"""Robustness targets."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse

from ..objectives.base import Queries
from ..objectives.linear import LinearObjective
from .base import BoundTarget, Target
from .blocks import query_rows
from .predictions import Loss

NORMS = (2, "inf")


class AdversarialLoss(Target):
    """The model's loss where an attacker has moved the query by up to ``eps``.

    The attack follows the gradient of the loss in the query, at the fitted model (FGSM, with more
    ``steps`` projected gradient ascent). Queries are attacked in the units that the model's last
    step sees, where earlier steps are frozen.

    For a linear predictor with one output the loss is that of the worst case, in closed form, also
    after a removal: the attacker knows the new model. Elsewhere the attacked point is held fixed:
    its own move with the parameters changes the loss to second order only (Danskin).

    Parameters
    ----------
    norm : {2, "inf"}, default="inf"
        Which length of the perturbation ``eps`` bounds.
    eps : float, default=0.1
    steps : int, default=1
        Gradient steps, each of length ``2.5 eps / steps`` when there are several; the worst case
        of a linear predictor with one output needs one.

    References
    ----------
    Goodfellow, I. J., Shlens, J. and Szegedy, C. (2015). Explaining and harnessing adversarial
    examples. ICLR. https://arxiv.org/abs/1412.6572

    Madry, A., Makelov, A., Schmidt, L., Tsipras, D. and Vladu, A. (2018). Towards deep learning
    models resistant to adversarial attacks. ICLR. https://arxiv.org/abs/1706.06083

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.targets import AdversarialLoss
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> explainer = InfluenceExplainer(LogisticRegression(), target=AdversarialLoss(eps=0.2))
    >>> explainer.fit(scale(X), y).transform(scale(X)[:3], y[:3]).shape
    (3, 569)
    """

    needs_y = True

    def __init__(self, norm="inf", eps=0.1, steps=1):
        self.norm = norm
        self.eps = eps
        self.steps = steps

    def bind(self, objective, X, y):
        """The loss at the attacked queries."""
        self._check()
        if y is None:
            raise ValueError("target AdversarialLoss needs the queries' y: pass y")
        y = objective.head.encode(y)
        if has_worst_case(objective):
            queries = WorstCaseQueries(objective, query_rows(objective, X), y, self.norm, self.eps)
        else:
            queries = query_rows(objective, self.attack(objective, X, y))
        return BoundTarget(Loss(), objective.head, queries, y)

    def bind_queries(self, objective, queries, y):
        """Refused: outputs alone do not say where the queries are."""
        raise ValueError(
            "AdversarialLoss of training rows about themselves is not known: pass the rows to "
            "transform, or use the loss"
        )

    def attack(self, objective, X, y):
        """The attacked queries.

        Parameters
        ----------
        objective : Objective
            ``objective_`` of a fitted explainer.
        X : ndarray of shape (n_queries, n_features), or rows of a net
        y : ndarray of shape (n_queries,)
            Encoded: class positions, or targets.
        """
        start = getattr(X, "data", X) if not isinstance(X, np.ndarray) else X
        if sparse.issparse(X) or sparse.issparse(start):
            raise ValueError("an attack moves every entry of the queries: pass dense rows")
        if not isinstance(start, np.ndarray) or start.dtype.kind != "f":
            raise TypeError(
                f"AdversarialLoss needs queries of one floating-point array, not "
                f"{type(start).__name__}: a row of a table or of several inputs has no gradient. "
                "With a pipeline, use preprocessing='frozen'"
            )
        length = self.eps if self.steps == 1 else 2.5 * self.eps / self.steps
        moved = start
        for _ in range(self.steps):
            rows = moved if isinstance(X, np.ndarray) else type(X)(moved)
            Z = query_rows(objective, rows).outputs
            slope = objective.input_gradient(rows, objective.head.loss_gradient(Z, y))
            moved = self._project(moved + length * self._direction(slope) - start) + start
            moved = moved.astype(start.dtype)
        return moved if isinstance(X, np.ndarray) else type(X)(moved)

    def _direction(self, slope):
        """The unit step along which the loss grows fastest."""
        if self.norm == "inf":
            return np.sign(slope)
        length = self._lengths(slope)
        return np.divide(slope, length, out=np.zeros(slope.shape), where=length > 0)

    def _project(self, step):
        """Back into the ball."""
        if self.norm == "inf":
            return np.clip(step, -self.eps, self.eps)
        return step * np.minimum(1.0, self.eps / np.maximum(self._lengths(step), 1e-300))

    def _lengths(self, step):
        flat = np.sqrt((step.reshape(len(step), -1).astype(np.float64) ** 2).sum(axis=1))
        return flat.reshape(-1, *[1] * (step.ndim - 1))

    def _check(self):
        if self.norm not in NORMS:
            raise ValueError(f"norm={self.norm!r} is not one of {NORMS}")
        if not isinstance(self.eps, Real) or not self.eps >= 0:
            raise ValueError(f"eps={self.eps!r} must be a length, zero or positive")
        if not isinstance(self.steps, Integral) or self.steps < 1:
            raise ValueError(f"steps={self.steps!r} must be a positive integer")


def has_worst_case(objective):
    """Whether outputs are one linear predictor of the queries' own entries."""
    linear = isinstance(objective, LinearObjective) and objective.n_outputs == 1
    return linear and type(objective).queries is LinearObjective.queries


class WorstCaseQueries(Queries):
    """``z ± eps ‖w‖*``, by the sign that raises each query's loss; ``‖·‖*`` is the dual norm.

    Parameters
    ----------
    objective : LinearObjective
        With one output.
    queries : Queries
        Where they are before the attack.
    y : ndarray
        Encoded.
    norm, eps
        As for :class:`AdversarialLoss`.
    """

    def __init__(self, objective, queries, y, norm, eps):
        self.objective, self.queries, self.norm = objective, queries, norm
        self.width = objective.design.X.shape[1]
        slope = objective.head.loss_gradient(queries.outputs, y)
        self.reach = eps * np.sign(slope)
        self.outputs = queries.outputs + self.reach * self._dual(objective.theta[None])

    def _dual(self, theta):
        order = 1 if self.norm == "inf" else 2
        return np.linalg.norm(theta[:, : self.width], ord=order, axis=1)

    def pullback(self, C):
        """Those of the queries, and of the norm."""
        return self.queries.pullback(C) + (C * self.reach) * self._dual_gradient()

    def pullback_sum(self, C):
        """Summed."""
        total = (C * self.reach).sum()
        return self.queries.pullback_sum(C) + total * self._dual_gradient()

    def changes(self, delta):
        """Of the queries, and of the norm."""
        theta = self.objective.theta
        grown = self._dual(theta + delta) - self._dual(theta[None])
        return self.queries.changes(delta) + self.reach[:, None] * grown[:, None]

    def linear_changes(self, delta):
        """With the norm's derivative."""
        grown = delta @ self._dual_gradient()
        return self.queries.changes(delta) + self.reach[:, None] * grown[:, None]

    def _dual_gradient(self):
        theta, out = self.objective.theta, np.zeros(self.objective.n_params)
        w = theta[: self.width]
        length = np.linalg.norm(w)
        unit = w / length if length > 0 else w
        out[: self.width] = np.sign(w) if self.norm == "inf" else unit
        return out
