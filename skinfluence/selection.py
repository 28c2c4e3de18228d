"""A meta-estimator that chooses its training rows by what they do to validation rows."""

import numbers
import warnings

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state, column_or_1d, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from ._checks import RowChecks, take_rows
from ._partitions import refuse_dask
from ._unwrap import fit_estimator, inner_has
from .explainer import InfluenceExplainer
from .targets import resolve_target

STRATEGIES = ("select", "weight")
SHARES = (0.25, 0.5, 1.0)  # of the budget: what is tried
SMALLEST_CLASS = 4  # rows of smaller classes are never taken for validation
N_RESAMPLES = 200


class InfluenceSelector(MetaEstimatorMixin, RowChecks, BaseEstimator):
    """Trains an estimator on the rows that serve validation rows best.

    Validation rows are parted in two. On the *choosing* part every training row gets a value, its
    influence on the objective there (positive: without the row it would be higher), and rows are
    left out, or weighed down, by it. Fits with and without are then compared on the *checking*
    part, which had no say: a choice that does not help there is not taken, and the estimator is
    fitted on all rows.

    Parameters
    ----------
    estimator : estimator
        Of a kind that :class:`InfluenceExplainer` supports. It is cloned.
    n_rows : int or float, optional
        Keep so many (or this share) of the training rows, the most valuable ones.
    budget : int or float, optional
        Leave out at most so many (or this share) of the training rows, harmful ones only. A
        quarter, half and all of the budget are tried by refits: each half of the choosing part
        judges choices made by the other. Default 0.1, when ``n_rows`` is not given.
    strategy : {"select", "weight"}, default="select"
        Leave rows out; or move weights within 0 and 2 along the values, so that the moves add up
        to the budget (the estimator must take ``sample_weight``).
    objective : str or Target, default="loss"
        What is to be low on the validation rows, in the mean: any target.
    X_val, y_val : array-like, optional
        Validation rows. Default: a share of the training rows is taken for the choice, and joins
        the final fit again.
    validation_fraction : float, default=0.3
        That share.
    check_fraction : float, default=0.5
        Share of the validation rows that check.
    accept : float or "always", default=1.0
        By how many standard errors the gain on the checking part must exceed zero.
    method, solver, preprocessing : default="auto"
        As of :class:`InfluenceExplainer`.
    random_state : int, RandomState or None, default=None
        Of the splits.

    Attributes
    ----------
    estimator_ : estimator
        Fitted on the rows (or weights) that were chosen, or on all where the check failed.
    support_ : ndarray of bool of shape (n_samples,)
        Rows that ``estimator_`` was fitted on.
    sample_indices_ : ndarray of int
        Their positions.
    sample_weight_ : ndarray of shape (n_samples,) or None
        The weights of the fit, zero for rows left out; None if there were none.
    values_ : ndarray of shape (n_samples,)
        Influence on the objective of the choosing part; NaN for rows taken for validation.
    gain_, gain_error_ : float
        Objective with all training rows minus with the chosen ones, on the checking part, and its
        standard error. Validation rows take no part in these fits.
    choosing_gain_ : float
        The same on the choosing part, which flatters.
    accepted_ : bool
        Whether the choice was taken.

    See Also
    --------
    value_rows : Values of rows by several definitions.
    skinfluence.mislabel.CleanedClassifier : Leaves out rows whose label is wrong.

    Notes
    -----
    A class keeps its most valuable row. The standard error is that of the mean difference of the
    checking rows; of a scalar target, by resampling them.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence import InfluenceSelector
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X = scale(X)
    >>> y[:30] = 1 - y[:30]  # wrong labels
    >>> selector = InfluenceSelector(
    ...     LogisticRegression(C=0.1), budget=30, X_val=X[300:], y_val=y[300:], random_state=0
    ... )
    >>> selector = selector.fit(X[:300], y[:300])
    >>> selector.accepted_, bool(selector.gain_ > 2 * selector.gain_error_)
    (True, True)
    >>> int((~selector.support_[:30]).sum()), int((~selector.support_[30:]).sum())
    (16, 14)
    """

    def __init__(
        self,
        estimator,
        *,
        n_rows=None,
        budget=None,
        strategy="select",
        objective="loss",
        X_val=None,
        y_val=None,
        validation_fraction=0.3,
        check_fraction=0.5,
        accept=1.0,
        method="auto",
        solver="auto",
        preprocessing="auto",
        random_state=None,
    ):
        self.estimator = estimator
        self.n_rows = n_rows
        self.budget = budget
        self.strategy = strategy
        self.objective = objective
        self.X_val = X_val
        self.y_val = y_val
        self.validation_fraction = validation_fraction
        self.check_fraction = check_fraction
        self.accept = accept
        self.method = method
        self.solver = solver
        self.preprocessing = preprocessing
        self.random_state = random_state

    # -- fitting ---------------------------------------------------------------------------
    def fit(self, X, y, sample_weight=None):
        """Value the rows, choose, check, and fit the estimator.

        Parameters
        ----------
        X : array-like, dataframe or sparse of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the fits; the objective's mean over validation rows is a plain one.

        Returns
        -------
        self
        """
        self._check()
        refuse_dask(X, "InfluenceSelector")
        if is_classifier(self.estimator) and getattr(y, "shape", ())[1:] == (1,):
            y = column_or_1d(y, warn=True)
        X, y, sample_weight = self._check_training(X, y, sample_weight)
        self._X, self._y, self._weight = X, np.asarray(y), sample_weight
        self._check_labels()
        rng = check_random_state(self.random_state)
        train, choosing, checking = self._parts(rng)
        if checking is None:
            return self._without_choice()
        rows = take_rows(self._X, train)
        explainer = self._fit_explainer(self.method, train, self._weights(train), rows)
        self.values_ = np.full(len(self._y), np.nan)
        self.values_[train] = explainer.dataset_influence(*choosing)
        base = self._fit_explainer("refit", train, self._weights(train), rows)
        chosen, fitted = self._choose(explainer, train, choosing, rng)
        self._judge(base, fitted, choosing, checking, rng)
        return self._settle(train, chosen)

    def _check(self):
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy={self.strategy!r} is not one of {STRATEGIES}")
        if self.n_rows is not None and self.budget is not None:
            raise ValueError("pass either n_rows, how many to keep, or budget, how many to drop")
        if self.n_rows is not None and self.strategy == "weight":
            raise ValueError("strategy='weight' keeps every row: pass budget, not n_rows")
        if (self.X_val is None) != (self.y_val is None):
            raise ValueError("X_val and y_val go together")
        for name in ("validation_fraction", "check_fraction"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Real) or not 0 < value < 1:
                raise ValueError(f"{name}={value!r} must lie between 0 and 1")
        accept = self.accept
        if accept != "always" and not (isinstance(accept, numbers.Real) and accept >= 0):
            raise ValueError(f"accept={accept!r} must be 'always' or a number of at least 0")
        if isinstance(self.estimator, FrozenEstimator):
            raise ValueError("a frozen estimator cannot be fitted on chosen rows: pass it unfrozen")

    def _check_labels(self):
        if not is_classifier(self.estimator):
            return
        check_classification_targets(self._y)
        used = self._y if self._weight is None else self._y[self._weight > 0]
        if self._y.ndim == 1 and len(np.unique(used)) < 2:
            raise ValueError("y has one class only, so there is nothing to tell apart")

    def _parts(self, rng):
        """Training positions, and the choosing and the checking validation rows."""
        labels = self._y if is_classifier(self.estimator) and self._y.ndim == 1 else None
        if self.X_val is None:
            rows = np.arange(len(self._y))  # those without weight stay, and count for no class
            rows = rows if self._weight is None else rows[self._weight > 0]
            held = _split(rows, labels, self.validation_fraction, rng)
            train = np.setdiff1d(np.arange(len(self._y)), held)
            X, y = take_rows(self._X, held), self._y[held]
        else:
            train, X, y = np.arange(len(self._y)), self.X_val, np.asarray(self.y_val)
        labels = y if labels is not None else None
        second = _split(np.arange(len(y)), labels, self.check_fraction, rng, smallest=2)
        parts = np.setdiff1d(np.arange(len(y)), second), second
        if min(len(part) for part in parts) < 2:
            few = f"{len(y)} validation rows are too few to choose by and to check with"
            if self.X_val is not None:
                raise ValueError(f"{few}; pass more as X_val")
            warnings.warn(
                f"{few}: no row is left out. Pass X_val, or raise validation_fraction",
                UserWarning,
                stacklevel=3,
            )
            return train, None, None
        choosing, checking = ((take_rows(X, part), y[part]) for part in parts)
        return train, choosing, checking

    def _weights(self, rows):
        return None if self._weight is None else self._weight[rows]

    def _fit_explainer(self, method, rows, weights, X=None):
        explainer = InfluenceExplainer(
            self.estimator,
            method=method,
            solver=self.solver,
            target=self.objective,
            preprocessing=self.preprocessing,
            random_state=self.random_state,
        )
        X = take_rows(self._X, rows) if X is None else X
        return explainer.fit(X, self._y[rows], weights)

    # -- the choice ------------------------------------------------------------------------
    def _choose(self, explainer, train, choosing, rng):
        """``(rows, weights)`` of the choice, and its fit."""
        sizes, size = self._sizes(len(train)), 0
        if len(sizes) > 1:
            size = int(np.argmin(self._crossed_costs(explainer, train, choosing, sizes, rng)))
        rows, weights = self._candidate(self.values_[train], train, sizes[size])
        return (rows, weights), self._fit_explainer("refit", rows, weights)

    def _crossed_costs(self, explainer, train, choosing, sizes, rng):
        """Cost of each size on one half of the choosing rows, for values by the other half.

        Rows that gave the values would take any size for the better, the larger the more.
        """
        X, y = choosing
        labels = y if is_classifier(self.estimator) and y.ndim == 1 else None
        half = _split(np.arange(len(y)), labels, 0.5, rng, smallest=2)
        rest = np.setdiff1d(np.arange(len(y)), half)
        if min(len(half), len(rest)) < 2:
            return np.arange(len(sizes))  # too few rows to compare: the smallest
        costs = np.zeros(len(sizes))
        for by, on in ((half, rest), (rest, half)):
            values = explainer.dataset_influence(take_rows(X, by), y[by])
            for k, size in enumerate(sizes):
                fitted = self._fit_explainer("refit", *self._candidate(values, train, size))
                cost = np.mean(_costs(fitted, (take_rows(X, on), y[on])))
                costs[k] += cost * len(on) / len(y)
        return costs

    def _sizes(self, n):
        """What is tried: rows to keep, or shares of the budget."""
        if self.n_rows is not None:
            return np.array([_count(self.n_rows, n, "n_rows")])
        budget = _count(0.1 if self.budget is None else self.budget, n, "budget")
        return np.unique(np.ceil(np.array(SHARES) * budget).astype(int))

    def _candidate(self, values, train, size):
        """``(rows, weights)`` of a choice by the values of the training rows."""
        if self.strategy == "weight":
            factors = _moves(values, size)
            mask = factors > 0
            own = self._weights(train[mask])
            return train[mask], factors[mask] if own is None else factors[mask] * own
        if self.n_rows is None:  # harmful rows only
            size = len(values) - min(size, int((values < 0).sum()))
        mask = _leading(values, size)
        labels = self._y[train] if is_classifier(self.estimator) else None
        rows = train[_with_classes(mask, values, labels)]
        return rows, self._weights(rows)

    def _judge(self, base, fitted, choosing, checking, rng):
        """Gains on both parts; only that on the checking part decides."""
        self.choosing_gain_ = float(np.mean(_costs(base, choosing) - _costs(fitted, choosing)))
        gains = _costs(base, checking) - _costs(fitted, checking)
        self.gain_ = float(np.mean(gains))
        if np.ndim(gains):
            self.gain_error_ = float(np.std(gains, ddof=1) / np.sqrt(len(gains)))
        else:
            self.gain_error_ = _resampled_error(base, fitted, checking, rng)
        enough = self.accept == "always" or self.gain_ > self.accept * self.gain_error_
        self.accepted_ = bool(enough)

    def _without_choice(self):
        """All rows, where none could be put aside to choose by."""
        self.values_ = np.full(len(self._y), np.nan)
        self.choosing_gain_ = self.gain_ = self.gain_error_ = 0.0
        self.accepted_ = False
        return self._settle(np.arange(len(self._y)), None)

    def _settle(self, train, chosen):
        """Fit the estimator on what was chosen, validation rows taken from ``X`` included."""
        n = len(self._y)
        rows, weights = chosen if self.accepted_ else (train, self._weights(train))
        self.support_ = ~np.isin(np.arange(n), np.setdiff1d(train, rows))
        self.sample_indices_ = np.flatnonzero(self.support_)
        full = None
        if weights is not None:
            full = np.ones(n) if self._weight is None else self._weight.astype(np.float64)
            full[np.setdiff1d(train, rows)] = 0.0
            full[rows] = weights
        self.sample_weight_ = full
        self.estimator_ = fit_estimator(
            self.estimator,
            take_rows(self._X, self.sample_indices_),
            self._y[self.support_],
            None if full is None else full[self.support_],
        )
        del self._X, self._y, self._weight
        return self

    # -- using -----------------------------------------------------------------------------
    def fit_resample(self, X, y):
        """Fit, and return the rows that were chosen: the sampler's form of imbalanced-learn.

        Parameters
        ----------
        X : array-like, dataframe or sparse of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)

        Returns
        -------
        X, y
            Rows ``sample_indices_``, of the types given.
        """
        if self.strategy != "select":
            raise ValueError("strategy='weight' gives weights, not rows: use fit, sample_weight_")
        self.fit(X, y)
        return take_rows(X, self.sample_indices_), take_rows(y, self.sample_indices_)

    @available_if(inner_has("predict"))
    def predict(self, X):
        """Predictions of the estimator fitted on the chosen rows."""
        return self._ask("predict", X)

    @available_if(inner_has("predict_proba"))
    def predict_proba(self, X):
        """Probabilities of the estimator fitted on the chosen rows."""
        return self._ask("predict_proba", X)

    @available_if(inner_has("decision_function"))
    def decision_function(self, X):
        """Decision values of the estimator fitted on the chosen rows."""
        return self._ask("decision_function", X)

    @available_if(inner_has("score"))
    def score(self, X, y, **options):
        """Score of the estimator fitted on the chosen rows."""
        check_is_fitted(self)
        return self.estimator_.score(self._check_rows_of(X), y, **options)

    @property
    def classes_(self):
        """Labels of a classifier."""
        return self.estimator_.classes_

    def _ask(self, name, X):
        check_is_fitted(self)
        return getattr(self.estimator_, name)(self._check_rows_of(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags, tags.regressor_tags = inner.classifier_tags, inner.regressor_tags
        tags.target_tags = inner.target_tags
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        return tags


def _costs(explainer, rows):
    """The objective at validation rows for a fit: one a row, or a number for a scalar target."""
    query, y = explainer._check_queries(*rows)
    return explainer.effects_.bind_target(resolve_target(explainer.target, True), query, y).value()


def _resampled_error(base, fitted, rows, rng):
    """Standard error of the gain in a scalar target, by resampling the checking rows."""
    X, y = rows
    gains = []
    for _ in range(N_RESAMPLES):
        drawn = rng.randint(0, len(y), len(y))
        part = take_rows(X, drawn), y[drawn]
        gains.append(_costs(base, part) - _costs(fitted, part))
    return float(np.std(gains, ddof=1))


def _count(value, n, name):
    """A number of rows from a number or a share."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and 1 <= value:
        return min(int(value), n)
    if isinstance(value, numbers.Real) and 0 < value < 1:
        return max(1, int(round(value * n)))
    raise ValueError(f"{name}={value!r} must be a positive number of rows, or a share below 1")


def _leading(values, k):
    """Mask of the ``k`` most valuable rows."""
    mask = np.zeros(len(values), dtype=bool)
    mask[np.argsort(-values, kind="stable")[:k]] = True
    return mask


def _with_classes(mask, values, labels):
    """The mask with the most valuable row of every class that it would lose."""
    if labels is not None:
        for label in np.setdiff1d(np.unique(labels), np.unique(labels[mask])):
            own = np.flatnonzero(labels == label)
            mask[own[values[own].argmax()]] = True
    return mask


def _moves(values, budget):
    """Weights ``clip(1 + τ v, 0, 2)`` whose moves from 1 add up to ``budget``.

    To first order they lower the objective most among weights as far from 1 in the mean square.
    """
    sizes = np.abs(values)
    if not sizes.any():
        return np.ones(len(values))
    low, high = 0.0, 1 / sizes[sizes > 0].min()
    for _ in range(200):
        middle = (low + high) / 2
        if np.minimum(middle * sizes, 1).sum() < budget:
            low = middle
        else:
            high = middle
    return np.clip(1 + high * values, 0, 2)


def _split(rows, labels, share, rng, smallest=SMALLEST_CLASS):
    """A random share of the rows, class by class; classes with few rows give none."""
    groups = [rows]
    if labels is not None:
        own = labels[rows]
        groups = [rows[own == label] for label in np.unique(own)]
        groups = [group for group in groups if len(group) >= smallest]
    taken, owed = [rows[:0]], 0.0
    for group in groups:  # what rounding owes one class the next one gets
        exact = share * len(group) + owed
        size = min(int(round(exact)), len(group) - 1)
        owed = exact - size
        taken.append(rng.permutation(group)[:size])
    return np.sort(np.concatenate(taken))
