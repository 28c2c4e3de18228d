"""TopInfluenceDisplay: the rows that help and harm a prediction most."""

import numpy as np

from ._axes import axes


class TopInfluenceDisplay:
    """Most helpful and most harmful training rows of one query.

    Parameters
    ----------
    values : ndarray of shape (m,)
        Influences, in the units of the target.
    names : list of str
        Training rows.
    target_name : str, default="target"

    Attributes
    ----------
    ax_, figure_
        Where it was drawn.
    bars_ : BarContainer

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.inspection import TopInfluenceDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> explainer = InfluenceExplainer(Ridge()).fit(X, y)
    >>> display = TopInfluenceDisplay.from_estimator(explainer, X[:1], y[:1], k=3)
    """

    def __init__(self, values, names, target_name="target"):
        self.values = values
        self.names = names
        self.target_name = target_name

    @classmethod
    def from_estimator(cls, explainer, X, y=None, *, k=5, ax=None, **bar_kwargs):
        """Ask a fitted InfluenceExplainer about one query, and draw.

        Parameters
        ----------
        explainer : InfluenceExplainer
        X, y
            One row, and its label for an influence on the loss.
        k : int, default=5
            Rows on each side.
        ax : matplotlib Axes, optional
        **bar_kwargs
            For ``Axes.barh``.
        """
        parts = [explainer.top_influences(X, y, k=k, by=by) for by in ("helpful", "harmful")]
        if len(parts[0]["indices"]) != 1:
            raise ValueError(f"X has {len(parts[0]['indices'])} rows; one query is drawn at a time")
        found = {}
        for part, sign in zip(parts, (1, -1), strict=True):
            for row, value in zip(part["indices"][0], part["values"][0], strict=True):
                if sign * value > 0:
                    found[int(row)] = float(value)
        order = sorted(found, key=found.get, reverse=True)
        names = explainer.get_feature_names_out()[order]
        target = "loss" if y is not None else "decision"
        asked = explainer.target if isinstance(explainer.target, str) else None
        name = target if asked in (None, "auto") else asked
        display = cls(np.array([found[row] for row in order]), list(names), name)
        return display.plot(ax=ax, **bar_kwargs)

    def plot(self, ax=None, **bar_kwargs):
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **bar_kwargs
            For ``Axes.barh``.

        Returns
        -------
        self
        """
        self.ax_ = axes(ax)
        self.figure_ = self.ax_.figure
        values = np.asarray(self.values)
        place = np.arange(len(values))[::-1]
        color = np.where(values > 0, "#2a5d9f", "#b3261e")
        self.bars_ = self.ax_.barh(place, values, **({"color": color} | bar_kwargs))
        self.ax_.set_yticks(place, [str(name) for name in self.names])
        self.ax_.axvline(0, color="#1d2530", linewidth=0.8)
        self.ax_.set(xlabel=f"Influence on the {self.target_name} (without the row − with it)")
        return self
