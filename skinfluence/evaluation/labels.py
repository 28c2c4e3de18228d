"""How well influence finds labels that were flipped on purpose."""

import numpy as np
from sklearn.base import clone
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.utils import Bunch, check_random_state

from .._partitions import refuse_dask
from .intervals import bootstrap_interval
from .retraining import prediction_loss


def flipped_label_score(
    explainer,
    X,
    y,
    *,
    fraction=0.1,
    n_repeats=10,
    factory=None,
    score=None,
    confidence=0.95,
    random_state=None,
):
    """Average precision of a score at finding flipped labels, next to that of the loss alone.

    Labels of a random share of the rows are replaced by another class, the explainer is fitted
    on them, and the rows are ranked by self-influence (or ``score``), largest first. The plain
    training loss is ranked likewise: a score that does not beat it adds nothing.

    Parameters
    ----------
    explainer : InfluenceExplainer
        Cloned and fitted in each repeat; its estimator must not be frozen.
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,)
        Labels held to be right.
    fraction : float, default=0.1
        Share of flipped labels.
    n_repeats : int, default=10
    factory : callable, optional
        ``factory(seed)`` gives the estimator of each repeat in place of the explainer's own.
    score : callable, optional
        ``score(fitted_explainer)`` of shape (n_samples,); default ``self_influence``.
    confidence : float, default=0.95
        Of the interval of the mean over repeats, by resampling them.
    random_state : int, RandomState or None, default=None

    Returns
    -------
    Bunch
        ``average_precision`` and ``interval``; ``auc``; ``loss_average_precision``, that of the
        loss; ``difference_interval`` of the gain over the loss; ``per_repeat``
        (n_repeats, 2), of the score and of the loss.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.evaluation import flipped_label_score
    >>> from sklearn.preprocessing import scale
    >>> X, y = load_iris(return_X_y=True)
    >>> explainer = InfluenceExplainer(LogisticRegression())
    >>> result = flipped_label_score(explainer, scale(X), y, n_repeats=3, random_state=0)
    >>> bool(result.average_precision > 0.5)
    True
    """
    refuse_dask(X, "flipped_label_score")
    y = np.asarray(y)
    n_flipped = int(round(fraction * len(y)))
    if not 1 <= n_flipped < len(y):
        raise ValueError(f"fraction={fraction!r} flips {n_flipped} of {len(y)} labels")
    rng = check_random_state(random_state)
    pairs, areas = [], []
    for seed in range(n_repeats):
        noisy, flipped = flip_labels(y, n_flipped, rng)
        fresh = clone(explainer)
        if factory is not None:
            fresh.set_params(estimator=factory(seed))
        fresh.fit(X, noisy)
        values = fresh.self_influence() if score is None else np.asarray(score(fresh))
        losses = prediction_loss(fresh.estimator_, X, noisy)
        pairs.append([average_precision_score(flipped, each) for each in (values, losses)])
        areas.append(roc_auc_score(flipped, values))
    pairs = np.array(pairs)
    gains = pairs[:, 0] - pairs[:, 1]
    shape = (n_repeats,)
    return Bunch(
        average_precision=float(pairs[:, 0].mean()),
        interval=bootstrap_interval(lambda r: pairs[r, 0].mean(), shape, confidence, rng),
        auc=float(np.mean(areas)),
        loss_average_precision=float(pairs[:, 1].mean()),
        difference_interval=bootstrap_interval(lambda r: gains[r].mean(), shape, confidence, rng),
        per_repeat=pairs,
    )


def flip_labels(y, n_flipped, rng):
    """``(noisy, flipped)``: labels of which ``n_flipped`` are those of another class, and which."""
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError("y has one class only: there is no other label to flip to")
    rows = rng.choice(len(y), n_flipped, replace=False)
    codes[rows] = (codes[rows] + rng.randint(1, len(classes), n_flipped)) % len(classes)
    flipped = np.zeros(len(y), dtype=bool)
    flipped[rows] = True
    return classes[codes], flipped
