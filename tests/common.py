"""Checks that every supported estimator passes, each against something independent.

A :class:`Case` is an estimator with data and options. ``tests/cases/*.py`` each define a list
``CASES``; ``test_common.py`` runs every check on every case.
"""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skinfluence import InfluenceExplainer
from skinfluence.solvers import Direct
from skinfluence.targets import Decision


@dataclass
class Case:
    """One estimator with data.

    Attributes
    ----------
    estimator : estimator
        Its own tolerance tight enough for the comparisons below.
    derivative, exact, stationary : float
        Relative tolerances of ``influence`` against finite differences, of ``exact`` against
        refits and of the polished fit against the fit; ``why`` says what limits the first two
        when they are not 1e-5 and 1e-8.
    ordered : bool
        False where ``newton`` need not come closer than ``influence``: the span rule with few
        rows at the margin.
    weights_follow : bool
        False when a rule of the estimator ignores ``sample_weight`` (it counts rows), so that
        weight 0 is not a dropped row and the derivative in the weight is not the removal's.
    takes_weights, takes_sparse : bool
        What the estimator's fit accepts.
    ordered : bool
        False where one step without the row need not beat the first order.
    methods : tuple
        Methods that the model supports.
    """

    name: str
    estimator: Any
    X: Any
    y: Any
    sample_weight: Any = None
    derivative: float = 1e-5
    exact: float = 1e-8
    stationary: float = 1e-5
    ordered: bool = True
    why: str = ""
    weights_follow: bool = True
    takes_weights: bool = True
    takes_sparse: bool = True
    ordered: bool = True
    methods: tuple = ("influence", "infinitesimal_jackknife", "newton", "exact", "refit")
    options: dict = field(default_factory=dict)

    def __str__(self):
        return self.name

    @property
    def weights(self):
        """Sample weights, ones when there are none."""
        return np.ones(len(self.y)) if self.sample_weight is None else self.sample_weight

    def fit(self, rows=None, weights=None):
        """A clone fitted on some rows (all unless given)."""
        rows = np.arange(len(self.y)) if rows is None else rows
        weights = self.sample_weight if weights is None else weights
        options = {} if weights is None else {"sample_weight": weights[rows]}
        with warnings.catch_warnings():
            # tolerances below rounding leave some solvers at max_iter: the comparison decides
            warnings.simplefilter("ignore", ConvergenceWarning)
            return clone(self.estimator).fit(self.X[rows], self.y[rows], **options)

    def explainer(self, method, target="decision", X=None, y=None, weights=None):
        """A fitted explainer; of several regression outputs the first is explained."""
        if target == "decision" and np.ndim(self.y) == 2:
            target = Decision(output=0)
        X, y = (self.X if X is None else X), (self.y if y is None else y)
        weights = self.sample_weight if weights is None else weights
        explainer = InfluenceExplainer(self.estimator, method=method, target=target, **self.options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", message=".*rows have leverage above.*")
            warnings.filterwarnings("ignore", message=".*free support vectors: the span rule.*")
            warnings.filterwarnings("ignore", message=".*rows at the margin are few.*")
            return explainer.fit(X, y, sample_weight=weights)


def outputs_of(estimator, X):
    """Decision values or predictions, the quantity most checks compare."""
    if hasattr(estimator, "decision_function"):
        return np.asarray(estimator.decision_function(X), dtype=float)
    if hasattr(estimator, "predict_joint_log_proba"):
        joint = estimator.predict_joint_log_proba(X)
        return joint[:, 1] - joint[:, 0] if joint.shape[1] == 2 else joint
    return np.asarray(estimator.predict(X), dtype=float)


def explained(values, head, y):
    """What target "decision" explains of :func:`outputs_of`, given the queries' labels."""
    if values.ndim == 1:
        return values
    index = np.zeros(len(values), int) if head.classes is None else head.encode(y)
    return values[np.arange(len(values)), index]


def queries(case, m=6):
    """A few rows to ask about, with labels."""
    pick = np.linspace(0, len(case.y) - 1, m).astype(int)
    return case.X[pick], case.y[pick]


def some_rows(case, m=5):
    """A few training rows of positive weight."""
    rows = np.flatnonzero(case.weights > 0)
    return rows[np.linspace(1, len(rows) - 2, m).astype(int)]


def assert_close(actual, desired, rtol, floor=1e-10):
    """Relative to the largest desired value; differences below ``floor`` of it never count."""
    scale = np.abs(desired).max()
    assert scale > 0, "nothing to compare: the desired values are all zero"
    error = np.abs(np.asarray(actual) - desired).max() / scale
    assert error <= max(rtol, floor), f"relative error {error:.1e} > {rtol:.1e}"


def check_stationary(case):
    """The polished optimum is the estimator's: same outputs, gradient near zero."""
    explainer = case.explainer("influence")
    Xq, yq = queries(case)
    outputs = explainer.objective_.queries(explainer._check_queries(Xq, yq)[0]).outputs
    theirs = outputs_of(explainer.estimator_, Xq).reshape(len(yq), -1)
    decision = explainer.objective_.head.decision
    ours = [decision(outputs, np.full(len(yq), k)) for k in range(theirs.shape[1])]
    assert_close(np.column_stack(ours), theirs, case.stationary)
    assert explainer.gradient_norm_ <= 1e-6 * max(1.0, explainer.objective_.gradient_norm_fitted)


def check_derivative(case, h=1e-4):
    """``influence`` equals ``-s_i dt/ds_i`` by central differences of weighted refits."""
    explainer = case.explainer("influence")
    head, (Xq, yq) = explainer.objective_.head, queries(case)
    rows = some_rows(case)
    ours = explainer.transform(Xq, yq)[:, rows]
    desired = np.empty_like(ours, dtype=float)
    for column, i in enumerate(rows):
        sides = []
        for sign in (1, -1):
            weights = case.weights.copy()
            weights[i] *= 1 + sign * h
            sides.append(explained(outputs_of(case.fit(weights=weights), Xq), head, yq))
        desired[:, column] = -(sides[0] - sides[1]) / (2 * h)
    assert_close(ours, desired, case.derivative)


def check_sum_rule(case, h=1e-4):
    """Influences of all rows add up to minus the derivative in the scale of all weights.

    This is the probe of total form against mean form: in mean form the sum is zero.
    """
    explainer = case.explainer("influence")
    head, (Xq, yq) = explainer.objective_.head, queries(case)
    total = explainer.transform(Xq, yq).sum(axis=1)
    sides = [
        explained(outputs_of(case.fit(weights=case.weights * (1 + sign * h)), Xq), head, yq)
        for sign in (1, -1)
    ]
    desired = -(sides[0] - sides[1]) / (2 * h)
    scale = np.abs(explainer.transform(Xq, yq)).sum(axis=1).max()  # a query may not move at all
    assert (np.abs(total - desired) <= case.derivative * scale + 1e-7 * np.abs(sides[0])).all()


def check_exact(case):
    """``exact`` equals refits without the row, on outputs and on losses."""
    Xq, yq = queries(case)
    rows = some_rows(case)
    explainer = case.explainer("exact")
    head = explainer.objective_.head
    base = explained(outputs_of(case.fit(), Xq), head, yq)
    desired = np.empty((len(yq), len(rows)))
    for column, i in enumerate(rows):
        refit = case.fit(rows=np.delete(np.arange(len(case.y)), i))
        desired[:, column] = explained(outputs_of(refit, Xq), head, yq) - base
    assert_close(explainer.transform(Xq, yq)[:, rows], desired, case.exact)


def check_weight_zero(case):
    """A row of weight zero has influence zero, and the others' influence is as without it."""
    keep = np.arange(len(case.y)) != 1
    weights = case.weights.copy()
    weights[1] = 0.0
    Xq, yq = queries(case)
    zero = case.explainer("newton", weights=weights).transform(Xq, yq)
    dropped = case.explainer(
        "newton", X=case.X[keep], y=case.y[keep], weights=case.weights[keep]
    ).transform(Xq, yq)
    assert np.abs(zero[:, 1]).max() <= 1e-12 * np.abs(zero).max()
    assert_close(zero[:, keep], dropped, max(case.exact, 1e-7))


def check_duplicates(case):
    """Copies of a row share influence; removing both is the group's influence."""
    X, y = _append(case.X, 0), np.append(case.y, case.y[[0]], axis=0)
    weights = np.append(case.weights, case.weights[0])
    method = "exact" if "exact" in case.methods else case.methods[0]
    options = {"weights": weights if case.takes_weights else None, "X": X, "y": y}
    explainer = case.explainer(method, **options)
    Xq, yq = queries(case)
    values = explainer.transform(Xq, yq)
    assert_close(values[:, 0], values[:, -1], max(case.exact, 1e-8))


def check_permutation(case):
    """Row order does not matter."""
    order = np.random.default_rng(0).permutation(len(case.y))
    Xq, yq = queries(case)
    plain = case.explainer("newton").transform(Xq, yq)
    weights = None if case.sample_weight is None else case.sample_weight[order]
    options = {"X": case.X[order], "y": case.y[order], "weights": weights}
    shuffled = case.explainer("newton", **options).transform(Xq, yq)
    assert_close(shuffled, plain[:, order], max(case.exact, 1e-7))


def check_sparse(case):
    """CSR and CSC, matrix and array, equal dense."""
    Xq, yq = queries(case)
    plain = case.explainer("newton").transform(Xq, yq)
    for kind in (sparse.csr_matrix, sparse.csc_array):
        explainer = case.explainer("newton", X=kind(case.X))
        assert_close(explainer.transform(kind(Xq), yq), plain, max(case.exact, 1e-7))


def check_methods_agree_in_order(case):
    """Every method's decision is finite, and ``newton`` is at least as close as ``influence``."""
    Xq, yq = queries(case)
    exact = case.explainer("exact").transform(Xq, yq)
    errors = {
        name: np.abs(case.explainer(name).transform(Xq, yq) - exact).sum()
        for name in ("influence", "infinitesimal_jackknife", "newton")
        if name in case.methods
    }
    assert all(np.isfinite(list(errors.values())))
    if case.ordered:
        assert errors["newton"] <= errors["influence"] * (1 + 1e-9) + 1e-12


def _append(X, i):
    if sparse.issparse(X):
        return sparse.vstack([X, X[[i]]]).tocsr()
    return np.vstack([X, X[[i]]])


def check_damping(case):
    """A damped direct solve is that with the dense damped Hessian, or is refused by name."""
    objective = (
        InfluenceExplainer(case.estimator).fit(case.X, case.y, case.sample_weight).objective_
    )
    parts = getattr(objective, "parts", [objective])
    solver = Direct(damping=0.7)
    if not all(hasattr(part, "quadratic_blocks") for part in parts):
        with pytest.raises(TypeError, match="explicit quadratic blocks"):
            solver.fit(objective)
        return
    if any(part.restricted for part in parts):
        with pytest.raises(ValueError, match="damping=0.7 is not defined"):
            solver.fit(objective)
        return
    V = objective.removal_gradients().block(np.arange(3)).T.astype(float)
    solver.fit(objective)
    for fitted, damping in ((solver, 0.7), (solver.with_damping(2.0), 2.0), (solver, 0.7)):
        expected = np.linalg.solve(objective.hessian() + damping * np.eye(len(V)), V)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(fitted.solve(V), expected, rtol=1e-7, atol=1e-9 * scale)
