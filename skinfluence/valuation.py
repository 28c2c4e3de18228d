"""What training rows are worth: one unit, one sign, several definitions."""

import numbers

import numpy as np
from scipy.stats import binom
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_consistent_length

from ._bits import BitRows
from ._blocks import block_length, blocks
from ._partitions import refuse_dask
from ._unwrap import transform, unwrap
from .explainer import InfluenceExplainer

VALUES = ("influence", "leave_one_out", "banzhaf", "knn_shapley")
LARGEST_BATCH = 64  # subsets that are evaluated together


def value_rows(
    model,
    X,
    y,
    X_val,
    y_val,
    *,
    method="influence",
    sample_weight=None,
    n_samples=500,
    random_state=None,
):
    """Values of training rows: how much each lowers a cost on validation rows.

    All methods answer in the same unit, that of the mean loss of the validation rows (or of
    another target of the explainer, taken as a cost), and with the same sign: **positive is
    valuable**, the cost would be higher without the row. That is the sign of every influence on a
    loss. They differ in the company a row is judged in:

    - ``"leave_one_out"``: with all the others there, by the fit without the row. A row with a
      twin is worth little.
    - ``"influence"``: the same by the explainer's method, for most models without a refit.
    - ``"banzhaf"``: with a random half of the others (Wang & Jia 2023). In closed form for
      unweighted ``KNeighborsClassifier``; else by Monte Carlo, where each drawn subset counts for
      every row, inside or outside of it (maximum sample reuse).
    - ``"knn_shapley"``: with random subsets of all sizes, exactly, for unweighted nearest
      neighbours (Jia et al. 2019); the values add up to what all rows together are worth.

    Parameters
    ----------
    model : estimator or InfluenceExplainer
        An explainer brings its method, solver and target. With an estimator, and for
        "leave_one_out" and "banzhaf" also where the explainer says ``method="auto"``: "exact" where
        the model has it, else refits.
    X, y : training rows
    X_val, y_val : validation rows
    method : {"influence", "leave_one_out", "banzhaf", "knn_shapley"}, default="influence"
    sample_weight : array-like of shape (n_train,), optional
        Weights the model is fitted with; not for nearest neighbours.
    n_samples : int, default=500
        Subsets drawn for "banzhaf".
    random_state : int, RandomState or None, default=None
        Of the subsets.

    Returns
    -------
    Bunch
        ``value`` of shape (n_train,), and ``standard_error`` likewise of a Monte Carlo estimate,
        zero where nothing was drawn.

    Notes
    -----
    For neighbours the cost of a subset ``S`` is one minus ``1 / k`` times the number of right
    labels among its ``k`` nearest rows, or the squared error of ``1 / k`` times their sum, also
    where ``S`` has fewer than ``k`` rows. By Monte Carlo subsets without a row of some class, or
    with fewer rows than neighbours, are drawn again: no model could be fitted.

    References
    ----------
    Jia, R. et al. (2019). Efficient task-specific data valuation for nearest neighbor algorithms.
    VLDB 12. https://arxiv.org/abs/1908.08619

    Wang, J. T. and Jia, R. (2023). Data Banzhaf: a robust data valuation framework for machine
    learning. AISTATS. https://arxiv.org/abs/2205.15466

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skinfluence import value_rows
    >>> X, y = load_iris(return_X_y=True)
    >>> y[:2] = 2  # wrong labels
    >>> found = value_rows(
    ...     KNeighborsClassifier(5), X[::2], y[::2], X[1::2], y[1::2], method="knn_shapley"
    ... )
    >>> int(np.argmin(found.value))
    0
    """
    if method not in VALUES:
        raise ValueError(f"method={method!r} is not one of {VALUES}")
    if y_val is None:
        raise ValueError("values are of a cost on validation rows: pass y_val")
    for rows in (X, X_val):
        refuse_dask(rows, "value_rows")
    check_consistent_length(X, y)
    check_consistent_length(X_val, y_val)
    model = model if isinstance(model, InfluenceExplainer) else InfluenceExplainer(model)
    model = clone(model)
    if method == "influence":
        return _exact(model.fit(X, y, sample_weight).dataset_influence(X_val, y_val))
    model.fit(X, y, sample_weight)
    final = unwrap(model.estimator_)[1]
    if method == "knn_shapley":
        _check_neighbors(final, model)
        return _exact(_over_neighbors(model, final, X, y, X_val, y_val, SHAPLEY[type(final)]))
    if method == "banzhaf" and _closed_banzhaf(final, model):
        return _exact(_over_neighbors(model, final, X, y, X_val, y_val, _banzhaf_matches))
    model = _with_true_fits(model, X, y, sample_weight)
    if method == "leave_one_out":
        return _exact(model.dataset_influence(X_val, y_val))
    return _monte_carlo(model, np.asarray(y), X_val, y_val, n_samples, random_state)


def _exact(values):
    return Bunch(value=values, standard_error=np.zeros(len(values)))


def _with_true_fits(explainer, X, y, sample_weight):
    """The explainer with "exact" removals, or refits, where its method was left open."""
    from ._effects import most_accurate

    if explainer.method != "auto":
        return explainer
    try:
        name = most_accurate(explainer.objective_)
    except TypeError:
        name = "refit"
    name = "exact" if name == "exact" else "refit"
    return clone(explainer).set_params(method=name).fit(X, y, sample_weight)


# -- Banzhaf values by maximum sample reuse ----------------------------------------------------
def _monte_carlo(explainer, y, X_val, y_val, n_samples, random_state):
    if not isinstance(n_samples, numbers.Integral) or n_samples < 2:
        raise ValueError(f"n_samples={n_samples!r} must be an integer of at least 2")
    members = _subsets(explainer, y, n_samples, check_random_state(random_state))
    costs = np.zeros(n_samples)
    # a batch of subsets names a row about so often as half its subsets
    length = min(LARGEST_BATCH, block_length(8 * len(y), share=1 / 8))
    for part in blocks(n_samples, length):
        left_out = [np.flatnonzero(~members[k]) for k in range(part.start, part.stop)]
        some = [k for k, rows in enumerate(left_out) if len(rows)]
        if some:
            groups = [left_out[k] for k in some]
            changes = explainer.group_influence(groups, X_val, y_val)
            costs[part.start + np.array(some)] = changes.mean(axis=0)
    return _reuse(members, costs)


def _reuse(members, costs):
    """Mean cost of the subsets without each row minus that of those with it."""
    B, n = members.shape
    value, variance = np.empty(n), np.empty(n)
    length = block_length(32 * B, share=1 / 8, smallest=8) // 8 * 8
    for part in blocks(n, length):
        value[part], variance[part] = _reused(members.columns(part), costs)
    return Bunch(value=value, standard_error=np.sqrt(variance))


def _reused(inside, costs):
    """Values and variances of some rows: ``inside`` (n_samples, b) is 1 where they are drawn."""
    value, variance = np.zeros(inside.shape[1]), np.zeros(inside.shape[1])
    for mask, sign in ((inside, -1), (1 - inside, 1)):
        count = mask.sum(axis=0)
        if count.min() < 2:
            raise ValueError(
                f"n_samples={len(costs)}: some row lies in, or outside of, fewer than two of the "
                "subsets; draw more"
            )
        mean = costs @ mask / count
        spread = (costs**2) @ mask / count - mean**2
        value += sign * mean
        variance += np.maximum(spread, 0.0) / (count - 1)
    return value, variance


def _subsets(explainer, y, n_samples, rng):
    """Random halves in which a model can be fitted: BitRows of shape (n_samples, n_train)."""
    smallest = getattr(explainer.objective_, "n_neighbors", 1)
    labels = explainer.objective_.head.classes is not None
    codes = np.unique(y, return_inverse=True)[1] if labels else np.zeros(len(y), dtype=np.intp)
    weights = getattr(explainer.objective_, "weights", np.ones(len(y)))
    present = np.asarray(weights).reshape(-1)[: len(y)] > 0
    n_classes = len(np.unique(codes[present]))
    out = BitRows(n_samples, len(y))
    for k in range(n_samples):
        for _ in range(1000):
            draw = rng.random_sample(len(y)) < 0.5
            used = draw & present
            if used.sum() >= smallest and len(np.unique(codes[used])) == n_classes:
                break
        else:
            raise ValueError(
                "1000 random halves of the rows lacked a class (or neighbours): classes of very "
                "few rows leave no subsets to fit; leave them out"
            )
        out[k] = draw
    return out


# -- nearest neighbours ------------------------------------------------------------------------
def _check_neighbors(final, explainer):
    if type(final) not in SHAPLEY or final.weights not in (None, "uniform"):
        raise TypeError(
            "method='knn_shapley' is of KNeighborsClassifier and KNeighborsRegressor with "
            f"weights='uniform', also behind a scaler in a pipeline; not of {final!r}"
        )
    if explainer.target not in ("auto", "loss"):
        raise ValueError(f"method='knn_shapley' is of the loss, not of target={explainer.target!r}")


def _closed_banzhaf(final, explainer):
    plain = isinstance(final, KNeighborsClassifier) and final.weights in (None, "uniform")
    return plain and explainer.target in ("auto", "loss") and explainer.method == "auto"


def _over_neighbors(explainer, final, X, y, X_val, y_val, formula):
    """Mean over validation rows of a formula of the labels in order of distance."""
    steps = unwrap(explainer.estimator_)[0]
    rows = transform(steps, X_val)
    codes = final.classes_ if isinstance(final, KNeighborsClassifier) else None
    y, y_val = np.asarray(y), np.asarray(y_val)
    if np.ndim(y) > 1:
        raise ValueError("values of nearest neighbours are of one target")
    if codes is not None and not np.isin(y_val, codes).all():
        raise ValueError("y_val has labels that the training rows do not have")
    total, n = np.zeros(len(y)), len(y)
    for part in blocks(len(y_val), block_length(64 * n, share=1 / 8)):
        order = final.kneighbors(rows[part], n, return_distance=False)
        near = y[order] == y_val[part, None] if codes is not None else y[order].astype(np.float64)
        values = formula(near, y_val[part], final.n_neighbors)
        np.add.at(total, order, values)
    return total / len(y_val)


def _shapley_matches(match, _, k):
    """Shapley values of rows by distance: (m, n) of whether their label is right."""
    match = match.astype(np.float64)
    n = match.shape[1]
    i = np.arange(1, n)
    out = np.empty(match.shape)
    out[:, -1] = match[:, -1] * min(k, n) / (n * k)
    steps = (match[:, :-1] - match[:, 1:]) * np.minimum(k, i) / (i * k)
    out[:, :-1] = np.cumsum(steps[:, ::-1], axis=1)[:, ::-1] + out[:, -1:]
    return out


def _shapley_squares(v, t, k):
    """Shapley values of rows by distance, for the squared error of ``Σ v / k`` from ``t``.

    Two neighbouring rows differ by what they do in the company of the same others: ``p`` is the
    chance that they are among the ``k`` nearest, ``near`` and ``far`` twice the chance that
    another row, before or behind them, is so as well.
    """
    n = v.shape[1]
    i = np.arange(1, n)
    m = np.minimum(k, i)
    p = m / i
    near = m * (m - 1) / (i * np.maximum(i - 1, 1))
    far = np.zeros(n)
    rank = np.arange(3, n + 1)
    m = np.minimum(k - 1, rank - 2)
    far[2:] = m * (m + 1) / ((rank - 1) * (rank - 2))
    before = np.cumsum(v, axis=1)[:, :-1] - v[:, :-1]  # of the rows nearer than row i
    behind = np.zeros((len(v), n + 1))
    behind[:, :-1] = np.cumsum((v * far)[:, ::-1], axis=1)[:, ::-1]
    company = p * (v[:, :-1] + v[:, 1:]) + near * before + behind[:, 2:]
    steps = (v[:, 1:] - v[:, :-1]) / k * (company / k - 2 * p * t[:, None])
    few = min(k, n)
    mean = v[:, :-1].mean(axis=1) if n > 1 else np.zeros(len(v))
    last = v[:, -1]
    out = np.empty(v.shape)
    out[:, -1] = -last / (n * k) * (few * (few - 1) * mean / k + few * (last / k - 2 * t))
    out[:, :-1] = np.cumsum(steps[:, ::-1], axis=1)[:, ::-1] + out[:, -1:]
    return out


def _banzhaf_matches(match, _, k):
    """Banzhaf values of rows by distance: a row enters, and the ``k``-th behind it drops out."""
    match = match.astype(np.float64)
    n = match.shape[1]
    place = np.arange(n)
    enters = binom.cdf(k - 1, place, 0.5)
    drops = np.zeros(n)
    drops[1:] = 0.5 * binom.pmf(k - 1, place[1:] - 1, 0.5)
    behind = np.cumsum((match * drops)[:, ::-1], axis=1)[:, ::-1] - match * drops
    return (match * enters - behind) / k


SHAPLEY = {KNeighborsClassifier: _shapley_matches, KNeighborsRegressor: _shapley_squares}
