"""Training folds in which every step of a pipeline is fitted anew, and the last one moved to."""

import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils import _safe_indexing

from .._blocks import working_bytes
from .._follow import not_followed_into, tell_held
from .._unwrap import unwrap
from ..methods.joint import has_joint_minima, joint_minima
from ..methods.stacked import as_design_rows
from ..objectives.behind import behind
from ..objectives.composite import IndependentOutputs
from ..objectives.design import Design
from ..objectives.linear import LinearObjective
from ..objectives.piecewise import PiecewiseObjective
from ..stages import stage_for
from ..stages.base import routed_weight
from ._model import FOLD_ACCURACY, FoldModel

# Last steps whose optimum on other rows Newton steps reach.
LINEAR = (LinearObjective, PiecewiseObjective)

# Steps that shift each column and divide it by ``scale_``, or multiply.
SCALERS = (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)


def fold_model(
    estimator, X, y, approximation, preprocessing, fit_params, objective=None, like=None
):
    """The :class:`FoldModel` of a fit, whose steps move with the folds where that is asked for.

    "auto" and "exact" fit the steps to each training fold, the other approximations follow them
    to first order. Arguments are those of :class:`FoldModel`; ``like`` is the model of a pipeline
    with the same steps before the last, whose fits on the folds are used again.
    """
    steps, final = unwrap(estimator)
    accurate = approximation in ("auto", "exact")
    args = (estimator, X, y, approximation)
    if not steps or preprocessing == "frozen" or not accurate:
        return FoldModel(*args, preprocessing, fit_params, objective)
    if _only_scales(steps, X):
        model = ScaledModel(*args, "frozen", fit_params, objective)
        if model.exchangeable:
            return model
        objective = model.objective
    model = FollowedModel(*args, "frozen", fit_params, objective)
    if model.linear or preprocessing == "refit":
        if isinstance(like, FollowedModel):
            model.fold_steps = like.fold_steps
        return model
    tell_held(not_followed_into(steps, final), preprocessing)
    return FoldModel(*args, "frozen", fit_params, model.objective)


class FoldSteps:
    """Steps fitted to training folds, kept as far as memory allows."""

    def __init__(self, steps, X, y, weight):
        self.steps = Pipeline([(name, clone(step)) for name, step in steps])
        self.X, self.y = X, y
        self.weight = routed_weight(self.steps, weight)
        self._kept, self._free = {}, working_bytes() / 4

    def without(self, removed, keep):
        """``(steps, rows)``: fitted to the rows ``keep``, and what they hand on there."""
        key = removed.tobytes()
        if key in self._kept:
            return self._kept[key]
        steps = clone(self.steps)
        options = {} if self.weight is None else {"sample_weight": self.weight[keep]}
        rows = steps.fit_transform(_safe_indexing(self.X, keep), self.y[keep], **options)
        rows = as_design_rows(rows)
        size = rows.nnz * 12 if hasattr(rows, "nnz") else rows.nbytes
        if size <= self._free:
            self._free -= size
            self._kept[key] = steps, rows
        return steps, rows


def _only_scales(steps, X):
    """Whether all that happens before the last step is that complete columns are scaled."""
    if len(steps) != 1 or type(steps[0][1]) not in SCALERS or getattr(steps[0][1], "clip", False):
        return False
    if sparse.issparse(X):  # the statistics of columns are kept dense
        return False
    values = np.asarray(X)
    return values.dtype.kind in "fiub" and bool(np.isfinite(values).all())


class ScaledModel(FoldModel):
    """A scaler before a linear predictor with a free intercept.

    Scaling a column by another number is the same as another penalty on its coefficient, and
    shifting it moves the intercept alone: the rows stay those of the fit on all rows.

    Attributes
    ----------
    exchangeable : bool
        Whether this holds for the last step.
    """

    def _bind(self, approximation, rows):
        last, (_, step) = self.last, self.steps[0]
        self.exact, self.effects, self.followed = True, None, True
        parts = getattr(last, "parts", [last])
        self.exchangeable = has_joint_minima(last) and all(
            part.design.intercept is not None and not part.penalty[:, -1].any() for part in parts
        )
        self.exchangeable &= not hasattr(unwrap(self.estimator)[1], "transformer_")
        self.step, self.step_weight = step, routed_weight(step, self.weight)
        # weighted quantiles are not known for a row alone
        self.exchangeable &= self.step_weight is None or type(step) is not RobustScaler

    def left_out_outputs(self):
        """By the same moves as folds."""
        rows = np.arange(self.n_rows)
        queries, moves = self.training_queries(rows), np.array(list(self.moves(rows[:, None])))
        return queries.outputs + queries.paired_changes(moves)

    def _moves(self, groups):
        return list(joint_minima(self.last, groups, FOLD_ACCURACY, self._factors(groups)))

    def _factors(self, groups):
        """What the scales without each group do to the penalty of each column."""
        width = self.X.shape[1]
        out, scale = np.ones((len(groups), width + 1)), _scale_of(self.step)
        if not getattr(self.step, "with_std", True):
            return out
        if all(len(group) == 1 for group in groups):
            stage = stage_for(self.step, self.X, self.y, self.step_weight)
            moved = stage.removals(np.concatenate(groups))[:, -width:]
            out[:, :-1] = (1 + moved / scale) ** 2
            return out
        for g, group in enumerate(groups):
            keep, options = np.delete(np.arange(self.n_rows), group), {}
            if self.step_weight is not None:
                options = {"sample_weight": self.step_weight[keep]}
            fold = clone(self.step).fit(_safe_indexing(self.X, keep), **options)
            out[g, :-1] = (_scale_of(fold) / scale) ** 2
        return out


def _scale_of(scaler):
    """By what a fitted scaler divides columns."""
    scale = 1.0 if scaler.scale_ is None else scaler.scale_
    return 1 / scale if type(scaler) is MinMaxScaler else scale


class FollowedModel(FoldModel):
    """Training folds with their own fits of the steps, and the optimum of the last step on them.

    A move is the fitted steps, and the parameters of each part of the last step. Parameters are
    as :class:`FoldModel`'s.

    Attributes
    ----------
    linear : bool
        Whether the last step is a linear predictor; each fold is fitted by the estimator if not.
    """

    def _bind(self, approximation, rows):
        self.followed, self.effects = True, None
        self.parts = [self.last]
        if type(self.last) is IndependentOutputs:
            self.parts = self.last.parts
        known = all(type(part) in LINEAR for part in self.parts)
        self.linear = known and not hasattr(unwrap(self.estimator)[1], "transformer_")
        self.fold_steps = FoldSteps(self.steps, self.X, self.y, self.weight)

    def movable(self, removed):
        """As ever, if the last step is known."""
        return len(removed) == 0 or (self.linear and super().movable(removed))

    def movable_rows(self):
        """As ever, if the last step is known."""
        return super().movable_rows() & self.linear

    def left_out_outputs(self):
        """Row by row."""
        out = np.empty((self.n_rows, self.last.n_outputs))
        for i, move in enumerate(self.moves(np.arange(self.n_rows)[:, None])):
            out[[i]] = self.outputs(self.training_queries([i]), move)
        return out

    def moves(self, groups):
        """One at a time: fitted steps can be large."""
        return (self.move(group) for group in groups)

    def move(self, removed):
        """Fits the steps without the rows, and finds the optimum of the last."""
        keep = np.delete(np.arange(self.n_rows), removed)
        for part in self.parts:
            part.check_removable(removed)
        steps, rows = self.fold_steps.without(removed, keep)
        return steps, [behind(part).minimum(rows, None, keep, removed) for part in self.parts]

    def prepare(self, groups):
        """Nothing: each move is made when its fold comes."""

    def outputs(self, queries, move):
        """At raw rows."""
        if move is None:
            return super().outputs(super().queries(queries), None)
        steps, thetas = move
        rows = as_design_rows(steps.transform(queries))
        parts = [
            Design(rows, part.design.intercept).predict(theta.reshape(part.n_outputs, -1))
            for part, theta in zip(self.parts, thetas, strict=True)
        ]
        return np.concatenate(parts, axis=1)

    def queries(self, X):
        """The rows themselves."""
        return X

    def training_queries(self, rows):
        """The rows themselves."""
        return _safe_indexing(self.X, rows)
