"""MemorizationDisplay: which rows are predicted only because they were trained on."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._axes import axes


class MemorizationDisplay:
    """How much of each training row's own probability is owed to the row itself, as a histogram.

    Parameters
    ----------
    memorization : ndarray of shape (n_rows,)
        Own-label probability with the row minus without it.
    threshold : float
        Rows at or above it count as memorised.

    Attributes
    ----------
    memorized : ndarray of int
        Rows at or above the threshold, most memorised first.
    ax_, figure_
        Where it was drawn.
    bars_ : BarContainer

    References
    ----------
    Feldman, V. and Zhang, C. (2020). What neural networks memorize and why: discovering the long
    tail via influence estimation. NeurIPS. https://arxiv.org/abs/2008.03703

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.inspection import MemorizationDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> explainer = InfluenceExplainer(LogisticRegression(max_iter=1000)).fit(X, y)
    >>> display = MemorizationDisplay.from_explainer(explainer, threshold=0.1)
    >>> bool((display.memorization[display.memorized] >= 0.1).all())
    True
    """

    def __init__(self, memorization, threshold=0.25):
        self.memorization = np.asarray(memorization)
        self.threshold = threshold

    @property
    def memorized(self):
        """Rows at or above the threshold, most memorised first."""
        order = np.argsort(-self.memorization, kind="stable")
        return order[self.memorization[order] >= self.threshold]

    @classmethod
    def from_explainer(cls, explainer, *, threshold=0.25, ax=None, **bar_kwargs):
        """Draw what a fitted explainer says.

        Parameters
        ----------
        explainer : InfluenceExplainer or EnsembleExplainer
            Fitted, of a classifier with probabilities.
        threshold : float, default=0.25
        ax, **bar_kwargs
            As in :meth:`plot`.
        """
        check_is_fitted(explainer)
        return cls(explainer.memorization(), threshold).plot(ax=ax, **bar_kwargs)

    def plot(self, ax=None, *, bins=40, **bar_kwargs):
        """Draw the histogram, its count on a logarithmic axis.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        bins : int, default=40
        **bar_kwargs
            For ``Axes.hist``.

        Returns
        -------
        self
        """
        self.ax_ = axes(ax)
        self.figure_ = self.ax_.figure
        _, _, self.bars_ = self.ax_.hist(self.memorization, bins=bins, **bar_kwargs)
        n = len(self.memorized)
        label = f"{n} of {len(self.memorization)} rows at or above {self.threshold:g}"
        self.ax_.axvline(self.threshold, color="#5b6675", linestyle=":", label=label)
        self.ax_.set(
            xlabel="Own-label probability with the row minus without it",
            ylabel="Training rows",
            yscale="log",
        )
        self.ax_.legend(loc="upper right")
        return self
