"""RemovalCurveDisplay: the score as suspects go."""

import numpy as np
from sklearn.base import clone
from sklearn.metrics import check_scoring

from ..mislabel.fitting import take
from ._axes import axes


class RemovalCurveDisplay:
    """Score on held-out rows as training rows are removed in a given order.

    Every mark is a true refit.

    Parameters
    ----------
    removed : ndarray of shape (m,)
        How many rows are gone.
    scores : ndarray of shape (m,)
    random_scores : ndarray of shape (m,) or None
        The same number of rows removed at random.
    score_name : str, default="score"

    Attributes
    ----------
    ax_, figure_
        Where it was drawn.
    line_, random_line_ : Line2D

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skinfluence.inspection import RemovalCurveDisplay
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    >>> display = RemovalCurveDisplay.from_ranking(
    ...     DecisionTreeClassifier(random_state=0), X, y, range(len(y)), X_test, y_test, n_marks=3
    ... )
    >>> display.removed
    array([ 0, 42, 85])
    """

    def __init__(self, removed, scores, random_scores=None, score_name="score"):
        self.removed = removed
        self.scores = scores
        self.random_scores = random_scores
        self.score_name = score_name

    @classmethod
    def from_estimator(cls, detector, estimator, X_test, y_test, **options):
        """Remove rows in the order of a fitted MislabelDetector, from what it was fitted on.

        Parameters
        ----------
        detector : MislabelDetector
        estimator : estimator
            Refitted at every mark.
        X_test, y_test
            Rows to score on.
        **options
            As in :meth:`from_ranking`.
        """
        X, y, ranking = detector._X, detector._y, detector.ranking_
        if X is None:
            raise ValueError("the detector was fitted without X; use from_ranking")
        return cls.from_ranking(estimator, X, y, ranking, X_test, y_test, **options)

    @classmethod
    def from_ranking(
        cls,
        estimator,
        X,
        y,
        ranking,
        X_test,
        y_test,
        *,
        n_marks=6,
        max_share=0.2,
        scoring=None,
        random_state=0,
        ax=None,
        **line_kwargs,
    ):
        """Remove the first rows of ``ranking`` and refit, at ``n_marks`` sizes.

        Parameters
        ----------
        estimator : estimator
        X, y
            Training rows.
        ranking : array-like of int
            First to go first.
        X_test, y_test
            Rows to score on.
        n_marks : int, default=6
        max_share : float, default=0.2
            Share of the rows gone at the last mark.
        scoring : str or callable, optional
            Default the estimator's ``score``.
        random_state : int
            Seed of the random removals for comparison.
        ax, **line_kwargs
            As in :meth:`plot`.
        """
        y, ranking = np.asarray(y), np.asarray(ranking)
        scorer = check_scoring(estimator, scoring)
        removed = np.linspace(0, max_share * len(y), n_marks).astype(int)
        chance = np.random.default_rng(random_state).permutation(len(y))

        def score(order, count):
            keep = np.ones(len(y), dtype=bool)
            keep[order[:count]] = False
            return scorer(clone(estimator).fit(take(X, keep), y[keep]), X_test, y_test)

        scores = np.array([score(ranking, count) for count in removed])
        random = np.array([score(chance, count) for count in removed])
        name = scoring if isinstance(scoring, str) else "score"
        return cls(removed, scores, random, name).plot(ax=ax, **line_kwargs)

    def plot(self, ax=None, **line_kwargs):
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **line_kwargs
            For ``Axes.plot`` of the ranked removals.

        Returns
        -------
        self
        """
        self.ax_ = axes(ax)
        self.figure_ = self.ax_.figure
        options = {"marker": "o", "color": "#b3261e", "label": "most suspect first"} | line_kwargs
        (self.line_,) = self.ax_.plot(self.removed, self.scores, **options)
        self.random_line_ = None
        if self.random_scores is not None:
            style = {"marker": "o", "color": "#5b6675", "linestyle": ":", "label": "at random"}
            (self.random_line_,) = self.ax_.plot(self.removed, self.random_scores, **style)
        self.ax_.set(xlabel="Training rows removed", ylabel=f"Held-out {self.score_name}")
        self.ax_.legend()
        return self
