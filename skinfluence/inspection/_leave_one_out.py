"""Displays of left-out predictions and of scores along a penalty."""

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import check_scoring

from .._partitions import refuse_dask
from ..model_selection import cross_val_predict, cross_val_score
from ._axes import axes


class LeaveOneOutDisplay:
    """Left-out predictions against fitted ones: the rows that bend the fit to themselves.

    Parameters
    ----------
    fitted, left_out : ndarray of shape (n_samples,)
        Predictions of each row by the fit with it and by the fit without it.
    name : str, default="prediction"
        What is predicted.

    Attributes
    ----------
    ax_, figure_, points_
        After ``plot``.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence.inspection import LeaveOneOutDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> display = LeaveOneOutDisplay.from_estimator(Ridge(), X, y)
    >>> display.left_out.shape
    (442,)
    """

    def __init__(self, fitted, left_out, *, name="prediction"):
        self.fitted, self.left_out, self.name = fitted, left_out, name

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        approximation="auto",
        preprocessing="auto",
        ax=None,
        plot=True,
        **plot_options,
    ):
        """Fit, leave each row out, and plot.

        Parameters
        ----------
        estimator : estimator
            A regressor with one output, or a classifier: then the margin of each row, the
            decision value of its own class less the largest of the others; the probability of
            its class where it has no decision values.
        X : array-like or sparse of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        approximation, preprocessing : str, default="auto"
            See :func:`skinfluence.model_selection.cross_val_predict`.
        ax : matplotlib axes, optional
        plot : bool, default=True
        **plot_options : dict
            For :meth:`plot`.

        Returns
        -------
        LeaveOneOutDisplay
        """
        refuse_dask(X, cls.__name__)
        model = clone(estimator)
        if not isinstance(estimator, FrozenEstimator):
            model = FrozenEstimator(model.fit(X, y))
        method = _method(model)
        left_out = cross_val_predict(
            model, X, y, method=method, approximation=approximation, preprocessing=preprocessing
        )
        values = [
            _of_own_class(part, model, y, method) for part in (getattr(model, method)(X), left_out)
        ]
        names = {"predict": "prediction", "decision_function": "margin"}
        name = names.get(method, "probability of the row's class")
        display = cls(*values, name=name)
        return display.plot(ax, **plot_options) if plot else display

    def plot(self, ax=None, *, scatter_kwargs=None, line_kwargs=None):
        """Draw the points and the diagonal.

        Parameters
        ----------
        ax : matplotlib axes, optional
        scatter_kwargs, line_kwargs : dict, optional

        Returns
        -------
        LeaveOneOutDisplay
        """
        self.ax_ = axes(ax)
        self.figure_ = self.ax_.figure
        line = {"color": "0.5", "linewidth": 1, "zorder": 0} | (line_kwargs or {})
        self.ax_.axline((0, 0), slope=1, **line)
        points = {"s": 12, "alpha": 0.6} | (scatter_kwargs or {})
        self.points_ = self.ax_.scatter(self.fitted, self.left_out, **points)
        self.ax_.set(xlabel=f"{self.name}, fitted", ylabel=f"{self.name}, left out")
        return self


class InfluencePathDisplay:
    """Score along a penalty: on the training rows, leave-one-out, and K folds as marks.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
    train, left_out : ndarray of shape (n_values,)
        Score on the training rows, and mean over leave-one-out folds.
    fold_mean, fold_error : ndarray of shape (n_values,)
        Mean over the K folds and its standard error.
    param_name, score_name : str

    Attributes
    ----------
    ax_, figure_, lines_, marks_
        After ``plot``.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence.inspection import InfluencePathDisplay
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> display = InfluencePathDisplay.from_estimator(
    ...     LogisticRegression(), scale(X), y, param_name="C", param_range=[0.01, 0.1, 1.0]
    ... )
    >>> display.left_out.shape
    (3,)
    """

    def __init__(self, values, train, left_out, fold_mean, fold_error, *, param_name, score_name):
        self.values, self.train, self.left_out = values, train, left_out
        self.fold_mean, self.fold_error = fold_mean, fold_error
        self.param_name, self.score_name = param_name, score_name

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        param_name="C",
        param_range,
        scoring=None,
        cv=5,
        approximation="auto",
        preprocessing="auto",
        ax=None,
        plot=True,
        **plot_options,
    ):
        """Fit each value once, score it three times, and plot.

        Parameters
        ----------
        estimator : estimator
        X : array-like or sparse of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        param_name : str, default="C"
        param_range : array-like of shape (n_values,)
        scoring : str, callable or None
            A score that one row can have: not R², whose leave-one-out folds have none.
        cv : int, splitter or iterable, default=5
            Folds of the marks, removed exactly.
        approximation, preprocessing : str, default="auto"
            Of the leave-one-out line.
        ax : matplotlib axes, optional
        plot : bool, default=True
        **plot_options : dict
            For :meth:`plot`.

        Returns
        -------
        InfluencePathDisplay
        """
        refuse_dask(X, cls.__name__)
        rows = []
        for value in param_range:
            model = FrozenEstimator(clone(estimator).set_params(**{param_name: value}).fit(X, y))
            scorer = check_scoring(model, scoring=scoring)
            options = {"scoring": scoring, "preprocessing": preprocessing}
            left_out = cross_val_score(model, X, y, approximation=approximation, **options)
            folds = cross_val_score(model, X, y, cv=cv, **options)
            error = folds.std(ddof=1) / np.sqrt(len(folds))
            rows.append([scorer(model, X, y), left_out.mean(), folds.mean(), error])
        name = scoring if isinstance(scoring, str) else "score"
        display = cls(
            np.asarray(param_range), *np.array(rows).T, param_name=param_name, score_name=name
        )
        return display.plot(ax, **plot_options) if plot else display

    def plot(self, ax=None, *, line_kwargs=None, errorbar_kwargs=None):
        """Draw the two lines and the marks.

        Parameters
        ----------
        ax : matplotlib axes, optional
        line_kwargs, errorbar_kwargs : dict, optional

        Returns
        -------
        InfluencePathDisplay
        """
        self.ax_ = axes(ax)
        self.figure_ = self.ax_.figure
        options = line_kwargs or {}
        self.lines_ = [
            self.ax_.plot(self.values, self.train, **({"label": "training rows"} | options))[0],
            self.ax_.plot(self.values, self.left_out, **({"label": "leave-one-out"} | options))[0],
        ]
        marks = {"fmt": "o", "capsize": 3, "label": "folds"} | (errorbar_kwargs or {})
        self.marks_ = self.ax_.errorbar(self.values, self.fold_mean, self.fold_error, **marks)
        self.ax_.set(xscale="log", xlabel=self.param_name, ylabel=self.score_name)
        self.ax_.legend()
        return self


def _method(model):
    if not is_classifier(model):
        return "predict"
    return "decision_function" if hasattr(model, "decision_function") else "predict_proba"


def _of_own_class(values, model, y, method):
    """One value a row: the prediction, or how far the decision favours the row's class."""
    values = np.asarray(values, dtype=np.float64)
    if method == "predict":
        if values.ndim > 1 and values.shape[1] > 1:
            raise ValueError("LeaveOneOutDisplay is for one output a row")
        return values.ravel()
    codes = np.searchsorted(model.classes_, np.asarray(y))
    if values.ndim == 1:
        return np.where(codes == 1, values, -values)
    own = values[np.arange(len(codes)), codes]
    if method == "predict_proba":
        return own
    values[np.arange(len(codes)), codes] = -np.inf
    return own - values.max(axis=1)
