"""DetectionCurveDisplay: how soon wrong labels are found."""

import numpy as np
from sklearn.metrics import average_precision_score
from sklearn.utils.validation import check_is_fitted

from ._axes import axes


class DetectionCurveDisplay:
    """Share of the wrong labels found against the share of rows looked at.

    Parameters
    ----------
    looked_at, found : ndarrays of shape (n + 1,)
        Shares, from 0 to 1.
    average_precision : float
    share_wrong : float
        Share of wrong labels, where a perfect ranking reaches the top.
    name : str, optional
        For the legend.

    Attributes
    ----------
    ax_, figure_
        Where it was drawn.
    line_ : Line2D

    Examples
    --------
    >>> import numpy as np
    >>> from skinfluence.inspection import DetectionCurveDisplay
    >>> wrong = np.array([True, False, False, True])
    >>> quality = np.array([0.1, 0.8, 0.9, 0.3])
    >>> display = DetectionCurveDisplay.from_quality(quality, wrong)
    >>> display.average_precision
    1.0
    """

    def __init__(self, looked_at, found, average_precision, share_wrong, name=None):
        self.looked_at = looked_at
        self.found = found
        self.average_precision = average_precision
        self.share_wrong = share_wrong
        self.name = name

    @classmethod
    def from_estimator(cls, detector, is_wrong, *, ax=None, name=None, **line_kwargs):
        """Draw a fitted MislabelDetector against the truth."""
        check_is_fitted(detector, "label_quality_")
        quality = detector.label_quality_
        return cls.from_quality(quality, is_wrong, ax=ax, name=name, **line_kwargs)

    @classmethod
    def from_quality(cls, label_quality, is_wrong, *, ax=None, name=None, **line_kwargs):
        """Draw any score; low is bad.

        Parameters
        ----------
        label_quality : array-like of shape (n,)
        is_wrong : array-like of bool of shape (n,)
        ax, name, **line_kwargs
            As in :meth:`plot`.
        """
        quality, wrong = np.asarray(label_quality), np.asarray(is_wrong, dtype=bool)
        if quality.shape != wrong.shape:
            raise ValueError(f"is_wrong has shape {wrong.shape}, label quality {quality.shape}")
        if not wrong.any():
            raise ValueError("is_wrong marks no row: there is nothing to find")
        order = np.argsort(quality, kind="stable")
        found = np.concatenate([[0], np.cumsum(wrong[order])]) / wrong.sum()
        looked_at = np.arange(len(wrong) + 1) / len(wrong)
        precision = float(average_precision_score(wrong, -quality))
        display = cls(looked_at, found, precision, float(wrong.mean()), name)
        return display.plot(ax=ax, **line_kwargs)

    def plot(self, ax=None, *, name=None, **line_kwargs):
        """Draw the curve, and a dotted one for a perfect ranking.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        name : str, optional
            For the legend.
        **line_kwargs
            For ``Axes.plot``.

        Returns
        -------
        self
        """
        self.ax_ = axes(ax)
        self.figure_ = self.ax_.figure
        name = self.name if name is None else name
        score = f"average precision {self.average_precision:.3f}"
        label = score if name is None else f"{name} ({score})"
        options = {"label": label} | line_kwargs
        (self.line_,) = self.ax_.plot(self.looked_at, self.found, **options)
        best = [0, self.share_wrong, 1]
        self.ax_.plot(best, [0, 1, 1], color="#5b6675", linestyle=":", linewidth=1)
        self.ax_.set(xlabel="Share of rows looked at", ylabel="Share of wrong labels found")
        self.ax_.legend(loc="lower right")
        return self
