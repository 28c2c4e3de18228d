"""Why a row is suspect: the rows that support its label and those that contradict it."""

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch

from ..explainer import InfluenceExplainer
from .out_of_sample import _has_objective, fit_quietly, hold_out, take


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
