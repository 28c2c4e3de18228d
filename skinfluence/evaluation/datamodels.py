"""The linear datamodeling score."""

import numpy as np
from scipy.stats import rankdata
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import _num_samples

from .._blocks import block_length, blocks
from .._checks import take_rows
from ..targets import resolve_target
from .intervals import bootstrap_interval
from .retraining import Retraining, ensure_fitted, random_subsets


def linear_datamodeling_score(
    explainer,
    X,
    y,
    X_test,
    y_test,
    *,
    factory=None,
    measure=None,
    n_subsets=50,
    fraction=0.5,
    n_repeats=1,
    confidence=0.95,
    n_jobs=None,
    cache=None,
    random_state=None,
    verbose=0,
):
    """Rank correlation of predicted and true losses of models trained on random subsets.

    For a subset ``S`` the influences predict, up to a constant, the sum over the rows left out.
    The score is Spearman's correlation over subsets, mean over queries.

    Parameters
    ----------
    explainer : explainer
        Anything with ``transform(X, y)`` of shape (n_queries, n_train), in the sign of this
        package. Taken as it is when fitted (on ``X``, ``y``), else a clone is fitted.
    X, y : training rows
    X_test, y_test : queries
    factory : callable, optional
        ``factory(seed)`` gives an unfitted estimator; default a clone of the explainer's own
        with its ``random_state`` set to the seed. With a net, torch is seeded as well.
    measure : callable, optional
        ``measure(estimator, X_test, y_test)`` of shape (n_queries,), what the explainer
        explains; default the prediction loss.
    n_subsets : int, default=50
    fraction : float, default=0.5
        Share of the rows in a subset.
    n_repeats : int, default=1
        Trainings a subset, with seeds 0, 1, ...; their mean is taken.
    confidence : float, default=0.95
        Of the interval, by resampling subsets and queries.
    n_jobs : int, optional
    cache : str or path, optional
        Folder in which trainings are kept between calls.
    random_state : int, RandomState or None, default=None
        Of the subsets and the resampling.
    verbose : int, default=0

    Returns
    -------
    Bunch
        ``score``; ``interval`` (low, high); ``per_query`` (n_queries,), NaN where the measure is
        constant; ``predicted`` and ``actual`` (n_subsets, n_queries); ``subsets``.

    References
    ----------
    Park, S. M., Georgiev, K., Ilyas, A., Leclerc, G. and Madry, A. (2023). TRAK: attributing
    model behavior at scale. ICML. https://arxiv.org/abs/2303.14186

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.evaluation import linear_datamodeling_score
    >>> X, y = load_diabetes(return_X_y=True)
    >>> result = linear_datamodeling_score(
    ...     InfluenceExplainer(Ridge()), X[:400], y[:400], X[400:], y[400:],
    ...     n_subsets=20, fraction=0.9, random_state=0,
    ... )
    >>> bool(result.score > 0.9)
    True
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction={fraction!r} must lie between 0 and 1")
    if n_subsets < 3:
        raise ValueError(f"n_subsets={n_subsets!r}: a rank correlation needs at least 3")
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
        n_jobs=n_jobs,
        cache=cache,
        verbose=verbose,
    )
    size = int(round(fraction * training.n_rows))
    subsets = random_subsets(training.n_rows, size, n_subsets, rng)
    predicted = _left_out_sums(explainer, X_test, y_test, subsets, training.n_rows)
    actual = training.measures(subsets, range(n_repeats))
    per_query = spearman(predicted, actual)
    if np.isnan(per_query).all():
        raise ValueError("the measure, or the influence, is the same for every subset")
    interval = bootstrap_interval(
        lambda rows, columns: mean_defined(
            spearman(predicted[np.ix_(rows, columns)], actual[np.ix_(rows, columns)])
        ),
        actual.shape,
        confidence,
        rng,
    )
    return Bunch(
        score=mean_defined(per_query),
        interval=interval,
        per_query=per_query,
        predicted=predicted,
        actual=actual,
        subsets=subsets,
    )


def _left_out_sums(explainer, X, y, subsets, n_rows):
    """Sums of the influences of the rows outside of each subset, (n_subsets, n_queries)."""
    left_out = np.ones((len(subsets), n_rows), dtype=bool)
    np.put_along_axis(left_out, subsets, False, axis=1)
    m, sums = _num_samples(X), []
    length = m if _is_scalar(explainer) else block_length(24 * n_rows, share=1 / 4)
    for part in blocks(m, length):
        rows = np.arange(part.start, part.stop)
        few = (X, y) if len(rows) == m else (take_rows(X, rows), take_rows(y, rows))
        influence, total = np.asarray(explainer.transform(*few)), 0.0
        for columns in blocks(n_rows, block_length(16 * len(subsets), share=1 / 8)):
            total += left_out[:, columns].astype(np.float64) @ influence[:, columns].T
        sums.append(total)
    return np.concatenate(sums, axis=1)


def _is_scalar(explainer):
    """Whether an explainer, or the one inside it, explains one number of all queries."""
    for name in ("explainer", "explainer_"):
        explainer = getattr(explainer, name, explainer)
    return resolve_target(getattr(explainer, "target", "auto"), True).scalar


def spearman(A, B):
    """Rank correlation of the columns of two (n, m) arrays; NaN for a constant column."""
    a, b = rankdata(A, axis=0), rankdata(B, axis=0)
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    sizes = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.divide((a * b).sum(axis=0), sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)


def mean_defined(values):
    """Mean of what is not NaN; NaN if nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
