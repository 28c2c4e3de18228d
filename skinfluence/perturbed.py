"""Perturbed copies of a fitted explainer: the same rows and loss at other parameters."""

import copy
from dataclasses import replace

import joblib
import numpy as np
from sklearn.base import clone, is_classifier

from ._checks import take_rows
from ._effects import bind
from ._unwrap import check_new_start, unfrozen
from .explainer import row_names
from .objectives.base import is_net

SCALES = {"noise": 0.1, "dropout": 0.03}


def perturbed_copies(explainer, kind, n_copies, scale, rng):
    """Copies of a fitted explainer, at parameters with noise or with units left out.

    Rows, weights and the rules of removal stay; the solver is fitted anew at each copy.
    """
    scale = SCALES[kind] if scale is None else scale
    method, objective = explainer.method_, explainer.objective_
    if not (method.first_order and method.uses_solver):
        raise ValueError(
            f"perturbation={kind!r} moves the parameters away from the optimum, where only first "
            f"order has a meaning; use method='influence', not {type(method).__name__}"
        )
    perturb = getattr(objective, f"with_{kind}")
    return [_at(explainer, perturb(scale, rng)) for _ in range(n_copies)]


def _at(explainer, objective):
    """The explainer with another objective of the same rows."""
    out = copy.copy(explainer)
    problem = replace(explainer.effects_.problem, objective=objective, solver=None)
    out.objective_, out._leverage = objective, None
    out.method_, out.solver_, out.effects_ = bind(explainer.method, explainer.solver, problem)
    return out


def check_resampling(explainer):
    """Refuse what cannot be fitted on rows drawn with replacement."""
    check_new_start(explainer.estimator)
    estimator = unfrozen(explainer.estimator)
    if is_net(estimator) and estimator.train_split:
        raise ValueError(
            "perturbation='bootstrap' would put copies of a row into both parts of the net's "
            "train_split; use train_split=None"
        )


class Resampled:
    """An explainer fitted on rows drawn with replacement, that speaks of the original rows.

    A row stands for all of its copies, whose first-order influences add up; one that was not
    drawn had no part in the fit: its influence is zero.

    Parameters
    ----------
    explainer : InfluenceExplainer
        It is cloned.
    rng : RandomState
    """

    def __init__(self, explainer, rng):
        self.explainer, self._rng = clone(explainer), rng

    def fit(self, X, y, sample_weight=None):
        """Draw and fit; drawn again while a class is missing."""
        self.n_rows_ = len(y)
        index = getattr(X, "index", None)
        self._names = row_names(None if callable(index) else index, len(y))
        self.drawn = self._draw(np.asarray(y))
        weight = None if sample_weight is None else np.asarray(sample_weight)[self.drawn]
        rows = take_rows(X, self.drawn)
        self.explainer.fit(rows, np.asarray(y)[self.drawn], weight)
        if not self.explainer.method_.linear_target:
            raise ValueError(
                "perturbation='bootstrap' adds up what the copies of a row do, which is right to "
                "first order only; use method='influence' or 'tracin'"
            )
        return self

    def _draw(self, y):
        n = self.n_rows_
        labels = y if is_classifier(self.explainer.estimator) and y.ndim == 1 else np.zeros(n)
        for _ in range(100):
            drawn = np.sort(self._rng.randint(0, n, n))
            if len(np.unique(labels[drawn])) == len(np.unique(labels)):
                return drawn
        raise ValueError(
            "100 bootstrap samples lacked a class that has very few rows: leave it out, or use "
            "another perturbation"
        )

    def _add_up(self, values):
        """Columns of drawn rows to those of the original ones."""
        out = np.zeros((*values.shape[:-1], self.n_rows_))
        np.add.at(out.T, self.drawn, values.T)
        return out

    def _fingerprint(self, target, X, y):
        """That of the explainer, and which rows were drawn."""
        return joblib.hash([self.explainer._fingerprint(target, X, y), self.drawn])

    def transform(self, X, y=None):
        """Influences on each query."""
        return self._add_up(np.asarray(self.explainer.transform(X, y)))

    def dataset_influence(self, X, y=None, *, sample_weight=None):
        """Influences on the mean target."""
        return self._add_up(self.explainer.dataset_influence(X, y, sample_weight=sample_weight))

    def self_influence(self, target="loss"):
        """Of all copies of a row together on the row."""
        return self._add_up(self.explainer.self_influence(target))

    def group_influence(self, groups, X, y=None, *, method=None):
        """Of all copies of a group's rows."""
        groups = self.explainer._check_groups(groups)  # as many rows were drawn
        copies = [np.flatnonzero(np.isin(self.drawn, group)) for group in groups]
        drawn = [k for k, rows in enumerate(copies) if len(rows)]
        copies = [copies[k] for k in drawn]
        values = self.explainer.group_influence(copies, X, y, method=method)
        out = np.zeros((len(values), len(groups)))
        out[:, drawn] = values
        return out

    def get_feature_names_out(self, input_features=None):
        """Names of the original rows."""
        return self._names
