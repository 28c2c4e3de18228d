"""Why a row is suspect: the rows that support its label and those that contradict it."""

import numbers

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from ..explainer import InfluenceExplainer
from .committee import default_committee
from .fitting import fit_quietly, take
from .out_of_sample import _has_objective, hold_out


class Explains:
    """Why rows are suspect, and what removing them would do: methods of the detector."""

    def explain(self, rows=None, *, k=5):
        """The rows that support and contradict each suspect's label.

        Parameters
        ----------
        rows : array-like of int, optional
            Row positions; default the flagged rows, most suspect first.
        k : int, default=5
            Supporting, and contradicting, rows to name for each.

        Returns
        -------
        pandas.DataFrame
            A line for each pair: ``row``, its ``label``, ``role`` ("supports" or "contradicts"),
            ``rank``, ``other`` (a row), ``other_label``, and ``influence`` on the row's loss: its
            loss had the other row not been there, minus its loss. Positive supports. The model is
            the first member with an objective, else a logistic regression (ridge), fitted on
            every row.
        """
        check_is_fitted(self)
        rows = self._check_rows(rows)
        if not isinstance(k, numbers.Integral) or k < 1:
            raise ValueError(f"k={k!r} must be a positive integer")
        columns = ("row", "label", "role", "rank", "other", "other_label", "influence")
        if len(rows) == 0:
            return as_dataframe({name: [] for name in columns})
        found = evidence(self.explainer_, self._X, self._y, rows, k)
        row, role, rank, other, influence = zip(*found, strict=True) if found else [[]] * 5
        labels = self._y[list(row)], self._y[list(other)]
        values = (row, labels[0], role, rank, other, labels[1], influence)
        return as_dataframe(dict(zip(columns, values, strict=True)))

    def removal_effect(self, X, y, *, rows=None):
        """What removing all suspects would do, before anyone deletes anything.

        Parameters
        ----------
        X, y
            Validation rows.
        rows : array-like of int, optional
            Rows to remove jointly; default those flagged.

        Returns
        -------
        Bunch
            ``loss`` on the validation rows, ``loss_without``, ``loss_change``; ``coefficients``,
            ``coefficients_change`` and ``parameter_names`` of the explaining model.
        """
        check_is_fitted(self)
        rows = np.sort(self._check_rows(rows))
        return removal_effect(self.explainer_, rows, X, np.asarray(y))

    @property
    def explainer_(self):
        """The fitted :class:`~skinfluence.InfluenceExplainer` behind :meth:`explain`."""
        check_is_fitted(self)
        if self._explainer is None:
            if self._X is None:
                raise ValueError("the detector was fitted without X: nothing explains its rows")
            found = explaining_member(self._judges)
            if found is None:
                K = None if self.classes_ is None else len(self.classes_)
                found = "linear", default_committee(self._X, K, 0)["linear"]
            self._explainer = explainer_of(found[1], self._X, self._y, self._sample_weight)
        return self._explainer

    def _check_rows(self, rows):
        if rows is None:
            return self.ranking_[self.is_mislabeled_[self.ranking_]]
        rows = np.atleast_1d(np.asarray(rows))
        n = len(self.label_quality_)
        if rows.dtype == bool and rows.shape == (n,):
            return np.flatnonzero(rows)
        if len(rows) == 0:
            return rows.astype(np.intp)
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= n:
            raise ValueError(f"rows must be integer positions between 0 and {n - 1}")
        return rows


def explaining_member(members):
    """``(name, estimator)`` of the first member with an objective of its own, or None.

    Neighbours and trees do not explain: their votes move in steps, mostly by nothing.
    """
    for name, member in members.items():
        final = member.steps[-1][1] if hasattr(member, "steps") else member
        votes = hold_out.dispatch(type(final)) is not hold_out.dispatch(object)
        if _has_objective(final) and not votes:
            return name, member
    return None


def explainer_of(estimator, X, y, sample_weight=None):
    """An explainer of a clone of ``estimator`` fitted on every row, suspects included."""
    fitted = fit_quietly(estimator, X, y, sample_weight)
    frozen = FrozenEstimator(fitted)
    # weights a model without sample_weight was not fitted with must not be told to it
    weights = sample_weight if _took_weights(estimator) else None
    return InfluenceExplainer(frozen, preprocessing="frozen").fit(X, y, weights)


def _took_weights(estimator):
    from .._unwrap import weight_name

    try:
        weight_name(estimator)
    except ValueError:
        return False
    return True


def evidence(explainer, X, y, rows, k):
    """For each row its ``k`` strongest supporters and opponents among the other rows.

    Returns
    -------
    list of (row, role, rank, other row, influence)
        The influence is on the row's loss: what it would gain without the other row.
    """
    found = []
    k_found = min(k + 1, explainer.n_rows_)  # one more, since the row itself drops out
    queries = take(X, rows), y[rows]
    for role, by in (("supports", "helpful"), ("contradicts", "harmful")):
        top = explainer.top_influences(*queries, k=k_found, by=by)
        for row, others, values in zip(rows, top["indices"], top["values"], strict=True):
            sign = 1 if by == "helpful" else -1
            keep = (others != row) & (sign * values > 0)
            pairs = zip(others[keep][:k], values[keep][:k], strict=True)
            found += [(row, role, rank + 1, j, v) for rank, (j, v) in enumerate(pairs)]
    order = {row: position for position, row in enumerate(rows)}
    return sorted(found, key=lambda item: (order[item[0]], item[1] != "supports", item[2]))


def removal_effect(explainer, rows, X, y):
    """What the joint removal of ``rows`` does to the loss on ``(X, y)`` and to the coefficients.

    Returns
    -------
    Bunch
        ``loss`` (mean, as fitted), ``loss_without``, ``loss_change``, ``coefficients`` and
        ``coefficients_change`` (1-D), ``parameter_names``.
    """
    objective = explainer.objective_
    query, encoded = explainer._check_queries(X, y)
    head, queries = objective.head, objective.queries(query)
    loss = head.loss(queries.outputs, head.encode(encoded))
    groups = [np.asarray(rows)]
    change = explainer.group_influence(groups, X, y)[:, 0] if len(rows) else np.zeros(len(loss))
    moved = explainer.effects_.joint_parameters(groups)[0] if len(rows) else 0 * objective.theta
    return Bunch(
        loss=float(loss.mean()),
        loss_without=float((loss + change).mean()),
        loss_change=float(change.mean()),
        coefficients=objective.public_parameters(objective.theta[None])[0],
        coefficients_change=objective.public_parameters(moved[None])[0],
        parameter_names=list(objective.parameter_names),
    )


def as_dataframe(columns):
    """A pandas dataframe of named columns."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("a dataframe needs pandas: pip install pandas") from error
    return pd.DataFrame(columns)
