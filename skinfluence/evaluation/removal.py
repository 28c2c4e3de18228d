"""Predicted against true changes when chosen rows are left out."""

import numbers

import numpy as np
from scipy.stats import pearsonr
from sklearn.base import is_classifier
from sklearn.utils import Bunch, check_random_state

from .datamodels import mean_defined, spearman
from .intervals import bootstrap_interval, share_interval
from .retraining import Retraining, ensure_fitted, random_subsets


def leave_out_score(
    explainer,
    groups,
    X,
    y,
    X_test,
    y_test,
    *,
    n_groups=50,
    factory=None,
    measure=None,
    warm_start=False,
    n_repeats=1,
    confidence=0.95,
    n_jobs=None,
    cache=None,
    random_state=None,
    verbose=0,
):
    """Correlation of the predicted with the true change when groups of rows are left out.

    Parameters
    ----------
    explainer : InfluenceExplainer
        Taken as it is when fitted (on ``X``, ``y``), else a clone is fitted.
    groups : int or list of index arrays
        Rows in a group, chosen at random ``n_groups`` times; or the groups.
    X, y : training rows
    X_test, y_test : queries
    n_groups : int, default=50
    factory : callable, optional
        ``factory(seed)`` gives an unfitted estimator; default a clone of the explainer's own
        with its ``random_state`` set to the seed. With a net, torch is seeded as well.
    measure : callable, optional
        ``measure(estimator, X_test, y_test)`` of shape (n_queries,), what the explainer
        explains; default the prediction loss.
    warm_start : bool, default=False
        Train on from the fitted parameters, for an estimator with ``warm_start``: a net's second
        training from another start differs by more than what a row does. The fit with all rows
        is trained on likewise before it is compared.
    n_repeats : int, default=1
        Trainings a group, with seeds 0, 1, ...; their mean is taken.
    confidence : float, default=0.95
        Of the interval, by resampling groups.
    n_jobs : int, optional
    cache : str or path, optional
        Folder in which trainings are kept between calls.
    random_state : int, RandomState or None, default=None
    verbose : int, default=0

    Returns
    -------
    Bunch
        ``pearson`` over all groups and queries together, with ``interval``; ``spearman``, mean
        over queries; ``slope`` of the true on the predicted changes, 1 when the size is right;
        ``predicted`` and ``actual`` of shape (n_queries, n_groups); ``groups``.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.evaluation import leave_out_score
    >>> X, y = load_diabetes(return_X_y=True)
    >>> result = leave_out_score(
    ...     InfluenceExplainer(Ridge()), 5, X[:400], y[:400], X[400:], y[400:],
    ...     n_groups=10, random_state=0,
    ... )
    >>> round(result.pearson, 6)
    1.0
    """
    rng = check_random_state(random_state)
    explainer = ensure_fitted(explainer, X, y)
    training = Retraining(
        explainer,
        X,
        y,
        X_test,
        y_test,
        factory=factory,
        measure=measure,
        warm_start=warm_start,
        n_jobs=n_jobs,
        cache=cache,
        verbose=verbose,
    )
    if isinstance(groups, numbers.Integral):
        if not 1 <= groups < training.n_rows:
            raise ValueError(f"groups={groups!r} must be below the {training.n_rows} rows")
        groups = list(random_subsets(training.n_rows, groups, n_groups, rng))
    everything = np.arange(training.n_rows)
    subsets = [everything, *(np.setdiff1d(everything, group) for group in groups)]
    measures = training.measures(subsets, range(n_repeats))
    actual = (measures[1:] - measures[0]).T
    predicted = np.asarray(explainer.group_influence(list(groups), X_test, y_test))
    interval = bootstrap_interval(
        lambda columns: _pearson(predicted[:, columns], actual[:, columns]),
        (len(groups),),
        confidence,
        rng,
    )
    return Bunch(
        pearson=_pearson(predicted, actual),
        interval=interval,
        spearman=mean_defined(spearman(predicted.T, actual.T)),
        slope=float((predicted * actual).sum() / (predicted**2).sum()),
        predicted=predicted,
        actual=actual,
        groups=groups,
    )


def brittleness(
    explainer,
    X,
    y,
    X_test,
    *,
    k=(1, 5, 10, 20),
    factory=None,
    n_repeats=1,
    confidence=0.95,
    n_jobs=None,
    cache=None,
    verbose=0,
):
    """Share of the predictions that change when the rows most helpful to them are left out.

    For each query and each ``k``, the ``k`` rows whose removal is said to raise the loss of the
    *predicted* label most are left out, and the estimator is trained anew.

    Parameters
    ----------
    explainer : explainer
        With ``top_influences`` and ``estimator_``; taken as it is when fitted (on ``X``, ``y``),
        else a clone is fitted. Its target must be the loss.
    X, y : training rows
    X_test : array-like of shape (n_queries, n_features)
    k : sequence of int, default=(1, 5, 10, 20)
        Rows left out.
    factory : callable, optional
        ``factory(seed)`` gives an unfitted estimator; default a clone of the explainer's own.
    n_repeats : int, default=1
        Trainings for each; a prediction counts as changed by the share of them that differ.
    confidence : float, default=0.95
        Of Wilson's intervals.
    n_jobs : int, optional
    cache : str or path, optional
        Folder in which trainings are kept between calls.
    verbose : int, default=0

    Returns
    -------
    Bunch
        ``k``; ``share`` (len(k),) of changed predictions; ``intervals`` (len(k), 2); ``changed``
        (len(k), n_queries); ``predicted``, the labels before.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.evaluation import brittleness
    >>> from sklearn.preprocessing import scale
    >>> X, y = load_iris(return_X_y=True)
    >>> X = scale(X)
    >>> explainer = InfluenceExplainer(LogisticRegression(), target="loss")
    >>> brittleness(explainer, X, y, X[[0, 77]], k=[1, 20]).share.shape
    (2,)
    """
    explainer = ensure_fitted(explainer, X, y)
    if not is_classifier(explainer.estimator_):
        raise ValueError("brittleness is about predicted labels: the estimator is no classifier")
    k = np.unique(np.asarray(k))
    predicted = np.asarray(explainer.estimator_.predict(X_test))
    training = Retraining(
        explainer,
        X,
        y,
        X_test,
        predicted,
        factory=factory,
        measure=differs,
        n_jobs=n_jobs,
        cache=cache,
        verbose=verbose,
    )
    if k[0] < 1 or k[-1] >= training.n_rows:
        raise ValueError(f"k={k.tolist()} must lie between 1 and {training.n_rows - 1}")
    top = explainer.top_influences(X_test, predicted, k=int(k[-1]), by="helpful")
    everything, m = np.arange(training.n_rows), len(predicted)
    subsets = [np.setdiff1d(everything, rows[:size]) for size in k for rows in top.indices]
    changed = training.measures(subsets, range(n_repeats)).reshape(len(k), m, m)
    changed = np.einsum("kqq->kq", changed)
    return Bunch(
        k=k,
        share=changed.mean(axis=1),
        intervals=np.array([share_interval(row.sum(), m, confidence) for row in changed]),
        changed=changed,
        predicted=predicted,
    )


def differs(estimator, X, labels):
    """1 where the estimator's prediction is not ``labels``, else 0."""
    return (np.asarray(estimator.predict(X)) != labels).astype(np.float64)


def _pearson(A, B):
    if np.ptp(A) == 0 or np.ptp(B) == 0:
        return float("nan")
    return float(pearsonr(np.ravel(A), np.ravel(B)).statistic)
