"""Display of intervals: of parameters, or of predictions."""

import numpy as np

from ._axes import axes


class IntervalDisplay:
    """Estimates with their intervals.

    Parameters
    ----------
    estimate : ndarray of shape (n,)
    interval : ndarray of shape (n, 2)
        Lower and upper ends.
    names : list of str, optional
        A name for each estimate: they are then drawn one below the other.
    truth : ndarray of shape (n,), optional
        What was estimated, where it is known: drawn as crosses.
    level : float, optional
        For the label.

    Attributes
    ----------
    ax_, figure_, bars_
        After ``plot``.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence.inference import InfinitesimalJackknife
    >>> from skinfluence.inspection import IntervalDisplay
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> jackknife = InfinitesimalJackknife(Ridge()).fit(X, y)
    >>> IntervalDisplay.from_estimator(jackknife).names[:2]
    ['age', 'sex']
    """

    def __init__(self, estimate, interval, *, names=None, truth=None, level=None):
        self.estimate, self.interval = np.asarray(estimate), np.asarray(interval)
        self.names, self.truth, self.level = names, truth, level

    @classmethod
    def from_estimator(cls, jackknife, *, level=0.95, ax=None, plot=True, **plot_options):
        """Confidence intervals of the parameters of an ``InfinitesimalJackknife``.

        Parameters
        ----------
        jackknife : fitted InfinitesimalJackknife
        level : float, default=0.95
        ax : matplotlib axes, optional
        plot : bool, default=True
        **plot_options : dict
            For :meth:`plot`.

        Returns
        -------
        IntervalDisplay
        """
        interval = jackknife.confidence_interval(level)
        names = jackknife.parameter_names_
        display = cls(jackknife.parameters_, interval, names=names, level=level)
        return display.plot(ax, **plot_options) if plot else display

    @classmethod
    def from_predictions(
        cls, jackknife, X, y=None, *, level=0.9, kind="plus", ax=None, plot=True, **plot_options
    ):
        """Prediction intervals at some rows.

        Parameters
        ----------
        jackknife : fitted InfinitesimalJackknife
            Over a regressor.
        X : array-like or sparse of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional
            What happened.
        level : float, default=0.9
        kind : {"plus", "minmax"}, default="plus"
        ax : matplotlib axes, optional
        plot : bool, default=True
        **plot_options : dict
            For :meth:`plot`.

        Returns
        -------
        IntervalDisplay
        """
        interval = jackknife.predict_interval(X, level, kind=kind)
        truth = None if y is None else np.asarray(y)
        display = cls(jackknife.predict(X), interval, truth=truth, level=level)
        return display.plot(ax, **plot_options) if plot else display

    def plot(self, ax=None, *, errorbar_kwargs=None, truth_kwargs=None):
        """Draw the intervals: named ones one below the other, others in order of the estimate.

        Parameters
        ----------
        ax : matplotlib axes, optional
        errorbar_kwargs, truth_kwargs : dict, optional

        Returns
        -------
        IntervalDisplay
        """
        self.ax_ = axes(ax)
        self.figure_ = self.ax_.figure
        # the estimate may lie outside a jackknife+ interval: ends are drawn from its middle
        middle = self.interval.mean(axis=1)
        half = np.abs(self.interval[:, 1] - middle)
        options = {"fmt": "none", "capsize": 2} | (errorbar_kwargs or {})
        crosses = {"marker": "x", "color": "C1", "zorder": 3} | (truth_kwargs or {})
        label = "interval" if self.level is None else f"{self.level:.0%} interval"
        if self.names is not None:
            at = np.arange(len(self.estimate))[::-1]
            self.bars_ = self.ax_.errorbar(middle, at, xerr=half, **options)
            self.ax_.scatter(self.estimate, at, s=14)
            if self.truth is not None:
                self.ax_.scatter(self.truth, at, **crosses)
            self.ax_.set_yticks(at, self.names)
            self.ax_.axvline(0, color="0.5", linewidth=1, zorder=0)
            self.ax_.set(xlabel=f"estimate and {label}")
            return self
        order = np.argsort(self.estimate, kind="stable")
        at = np.arange(len(order))
        self.bars_ = self.ax_.errorbar(at, middle[order], yerr=half[order], **options)
        self.ax_.scatter(at, self.estimate[order], s=6)
        if self.truth is not None:
            self.ax_.scatter(at, np.asarray(self.truth)[order], **crosses)
        self.ax_.set(xlabel="rows in order of the prediction", ylabel=f"prediction and {label}")
        return self
