"""LabelQualityDisplay: how many labels are doubtful."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._axes import axes


class LabelQualityDisplay:
    """Distribution of label quality, flagged rows set apart.

    Parameters
    ----------
    label_quality : ndarray of shape (n,)
        In [0, 1], low is bad.
    is_mislabeled : ndarray of bool of shape (n,)

    Attributes
    ----------
    ax_, figure_
        Where it was drawn.
    patches_ : list of BarContainer
        Kept and flagged rows.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skinfluence.inspection import LabelQualityDisplay
    >>> from skinfluence.mislabel import MislabelDetector
    >>> X, y = load_iris(return_X_y=True)
    >>> detector = MislabelDetector(LogisticRegression(max_iter=1000)).fit(X, y)
    >>> display = LabelQualityDisplay.from_estimator(detector)
    """

    def __init__(self, label_quality, is_mislabeled):
        self.label_quality = label_quality
        self.is_mislabeled = is_mislabeled

    @classmethod
    def from_estimator(cls, detector, *, ax=None, **hist_kwargs):
        """Draw a fitted MislabelDetector; other arguments as in :meth:`plot`."""
        check_is_fitted(detector, "label_quality_")
        display = cls(detector.label_quality_, detector.is_mislabeled_)
        return display.plot(ax=ax, **hist_kwargs)

    def plot(self, ax=None, **hist_kwargs):
        """Draw the histogram.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **hist_kwargs
            For ``Axes.hist``.

        Returns
        -------
        self
        """
        self.ax_ = axes(ax)
        self.figure_ = self.ax_.figure
        quality, flagged = np.asarray(self.label_quality), np.asarray(self.is_mislabeled)
        options = {
            "bins": np.linspace(0, 1, 31),
            "stacked": True,
            "label": ["kept", "flagged"],
            "color": ["#9fb4cf", "#b3261e"],
        } | hist_kwargs
        self.patches_ = self.ax_.hist([quality[~flagged], quality[flagged]], **options)[2]
        self.ax_.set(xlabel="Label quality", ylabel="Rows", xlim=(0, 1))
        self.ax_.legend()
        return self
