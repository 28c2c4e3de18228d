"""A fit on all rows, and what its predictions would be without some of them."""

import warnings

import numpy as np
from sklearn import get_config
from sklearn.base import ClassifierMixin, RegressorMixin, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import process_routing

from .._blocks import block_length, blocks, index_blocks
from .._checks import check_weighted_classes
from .._effects import as_rows, bind, most_accurate, query_rows
from .._follow import check_preprocessing, follow, problem_for
from .._held import warn_held
from .._unwrap import unwrap, weight_name
from ..methods.exact import Exact
from ..methods.joint import has_joint_minima, joint_minima
from ..objectives import objective_for
from ..objectives.stacked import StackedObjective

# Outputs of the rows after a fold is removed, relative to how far the removal moves them.
FOLD_ACCURACY = 1e-8

# The same of a row alone, under "auto": far below 1e-6 in a probability.
AUTO_ACCURACY = 1e-6

APPROXIMATIONS = ("auto", "infinitesimal_jackknife", "newton", "exact", "refit")


class FoldModel:
    """One fit, from which the predictions of every fold follow.

    Parameters
    ----------
    estimator : fitted estimator
    X, y
        All rows, on which it was fitted.
    approximation, preprocessing : str
    fit_params : dict
        What its ``fit`` was given besides.
    objective : Objective, optional
        That of the estimator's last step, where it is at hand.

    Attributes
    ----------
    last : Objective
        What the last step minimised; ``objective`` has the steps before it too, where they are
        followed.
    followed : bool
        Whether they are.
    accurate : bool
        Whether a fold that cannot be reached from the fit is fitted instead; a coarser
        approximation raises.
    """

    def __init__(self, estimator, X, y, approximation, preprocessing, fit_params, objective=None):
        self.estimator, self.X = estimator, X if hasattr(X, "shape") else np.asarray(X)
        self.steps, final = unwrap(estimator)
        _warn_chosen(estimator, final)
        self.y = np.asarray(y)
        self.weight = final_weight(estimator, fit_params)
        check_weighted_classes(estimator, self.y, self.weight, "use approximation='refit'")
        self.objective, rows = self._resolve(final, preprocessing, objective)
        self.followed = isinstance(self.objective, StackedObjective)
        self.last = self.objective.inner if self.followed else self.objective
        self.n_rows = self.last.n_rows
        self.rank_deficient = getattr(self.last, "rank_deficient", False)
        self.accurate = approximation in ("auto", "exact")
        self._kept = {}
        self._bind(approximation, rows)

    def _resolve(self, final, preprocessing, objective):
        """The objective, and the rows that the last step was fitted on."""

        def make(rows):
            rows = as_rows(rows)
            if objective is not None:
                return objective, rows
            return objective_for(final, rows, self.y, self.weight), rows

        if not self.steps:
            return make(self.X)
        return follow(self.steps, final, self.X, self.y, self.weight, preprocessing, make)

    def _bind(self, approximation, rows):
        """The method by which rows are removed."""
        if approximation == "auto":
            approximation = most_accurate(self.objective)
            if approximation == "exact":
                approximation = Exact(tol=AUTO_ACCURACY)
        self.exact = approximation == "exact" or isinstance(approximation, Exact)
        args = (self.objective, self.estimator, self.X, rows, self.y, self.weight)
        self.effects = bind(approximation, "auto", problem_for(*args))[2]

    # -- which folds -----------------------------------------------------------------------
    def movable(self, removed):
        """Whether a training fold still holds what the full fit knows: rows of every class.

        A fold that does not is fitted by the estimator itself: it has other outputs, or fails.
        """
        if len(removed) == 0:
            return True
        if self.rank_deficient or len(removed) == self.n_rows:
            return False
        if self.objective.head.classes is None:
            return True
        codes = self.last.training_targets(slice(None))
        if not hasattr(self, "_counts"):
            self._counts = np.bincount(codes, minlength=len(self.objective.head.classes))
        lost = np.bincount(codes[removed], minlength=len(self._counts))
        return bool((self._counts > lost).all())

    def movable_rows(self):
        """:meth:`movable` for each row alone: (n_rows,) of bool."""
        if self.rank_deficient:
            return np.zeros(self.n_rows, dtype=bool)
        if self.objective.head.classes is None:
            return np.ones(self.n_rows, dtype=bool)
        codes = self.last.training_targets(slice(None))
        return np.bincount(codes)[codes] > 1

    # -- outputs ---------------------------------------------------------------------------
    def left_out_outputs(self):
        """Outputs of each row without itself: (n_rows, n_outputs)."""
        return self.effects.left_out_outputs()

    def fold_outputs(self, folds):
        """Outputs of every row without its fold: (n_rows, n_outputs)."""
        out = np.empty((self.n_rows, self.objective.n_outputs))
        width = self.objective.n_params + self.objective.n_outputs
        for move, (_, test) in zip(self.moves(folds.removed), folds.splits, strict=True):
            for rows in index_blocks(test, block_length(24 * width, share=1 / 8)):
                out[rows] = self.outputs(self.training_queries(rows), move)
        return out

    def moves(self, groups):
        """What the joint removal of each group does, for :meth:`outputs`, one after the other."""
        per_group = 8 * self.objective.n_params
        for part in blocks(len(groups), block_length(per_group, share=1 / 4)):
            yield from self._moves(groups[part])

    def move(self, removed):
        """The move of one group: kept from before, or made with those likely to come next."""
        key = removed.tobytes()
        if key not in self._kept:
            groups = [removed]
            if len(removed) == 1:
                first = int(removed[0])
                length = block_length(16 * self.objective.n_params, share=1 / 8)
                movable = self.movable_rows()[first : first + length]
                groups = list(first + np.flatnonzero(movable)[:, None])
            self.prepare(groups)
        return self._kept[key]

    def prepare(self, groups):
        """Make the moves of groups at once, where they fit in the memory budget."""
        length = block_length(8 * self.objective.n_params, share=1 / 4)
        moves = list(self.moves(groups[:length]))
        keys = [group.tobytes() for group in groups[:length]]
        self._kept = dict(zip(keys, moves, strict=True))

    def _moves(self, groups):
        try:
            if all(len(group) == 1 for group in groups):
                return list(self.effects.parameters(np.concatenate(groups)))
            if self.exact and has_joint_minima(self.objective):
                return list(joint_minima(self.objective, groups, FOLD_ACCURACY))
            return list(self.effects.joint_parameters(groups))
        except NotImplementedError:  # a model without parameters
            return list(groups)

    def outputs(self, queries, move):
        """Outputs at queries after a move (None: the full fit)."""
        if move is None:
            return np.array(queries.outputs, dtype=np.float64)
        if np.issubdtype(move.dtype, np.integer):
            return queries.outputs + self.effects.joint_outputs(queries, [move])[:, 0]
        return queries.outputs + queries.changes(move[None])[:, 0]

    def queries(self, X):
        """Queries at raw rows."""
        return self.objective.queries(query_rows(self.objective, self.steps, X))

    def training_queries(self, rows):
        """Queries at some of the training rows."""
        return self.objective.training_queries(rows)

    # -- what the estimator would answer ---------------------------------------------------
    def responses(self, Z, method):
        """``estimator.method`` for outputs ``Z`` of shape (m, n_outputs), shape and dtype kept."""
        if not hasattr(self, "_templates"):
            self._templates = {}
        if method not in self._templates:
            self._templates[method] = template(self.estimator, _safe_indexing(self.X, [0]), method)
        return responses(self.objective.head, Z, method, self._templates[method])


def template(estimator, row, method):
    """``estimator.method`` at one row: what :func:`responses` is to look like."""
    values = getattr(estimator, method)(row)
    if isinstance(values, list) and len({np.shape(part) for part in values}) > 1:
        raise ValueError(
            f"method={method!r} of {type(estimator).__name__} gives an array a target, and these "
            "have different numbers of classes: predict one target at a time"
        )
    return np.asarray(values)


def responses(head, Z, method, like):
    """What an estimator's ``method`` gives for outputs ``Z`` of shape (m, n_outputs).

    Shape and dtype are those of ``like``, its answer at one row.
    """
    if method == "predict" and (labels := head.labels(Z)) is not None:
        return labels
    if method == "decision_function":
        values = head.decision_values(Z)
    elif method == "predict_proba":
        values = head.proba(Z)
    elif method == "predict_log_proba":
        values = np.log(head.proba(Z))
    else:
        index = range(1 if like.ndim == 1 else like.shape[1])
        values = np.column_stack([head.decision(Z, np.full(len(Z), k)) for k in index])
    return values.reshape(len(Z), *like.shape[1:]).astype(like.dtype, copy=False)


def check_approximation(approximation, preprocessing, estimator):
    """Refuse a name that is not one of the approximations, and held steps in refits."""
    if approximation not in APPROXIMATIONS:
        raise ValueError(f"approximation={approximation!r} is not one of {list(APPROXIMATIONS)}")
    check_preprocessing(preprocessing)
    if approximation == "refit" and preprocessing == "frozen" and isinstance(estimator, Pipeline):
        raise ValueError(
            "approximation='refit' fits whole pipelines: it cannot keep steps with "
            "preprocessing='frozen'"
        )


def final_weight(estimator, fit_params):
    """The sample weights that reach a pipeline's last step; refuses other fit parameters."""
    given = {key: value for key, value in fit_params.items() if value is not None}
    if not given:
        return None
    if get_config()["enable_metadata_routing"] and isinstance(estimator, Pipeline):
        step = estimator.steps[-1][0]
        return process_routing(estimator, "fit", **given)[step].fit.get("sample_weight")
    unknown = sorted(set(given) - {"sample_weight", weight_name(estimator)})
    if unknown:
        raise ValueError(
            f"the fit parameters {unknown} are not understood: only sample weights are. Use "
            "approximation='refit'"
        )
    return np.asarray(next(iter(given.values())), dtype=np.float64)


def _warn_chosen(estimator, final):
    inner = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if isinstance(inner, FrozenEstimator):
        return
    if hasattr(inner, "best_estimator_") or type(final).__name__.endswith("CV"):
        warnings.warn(
            f"the parameters that {type(inner).__name__} chose on all rows are held: folds do not "
            "choose again. Use approximation='refit' for nested cross-validation.",
            UserWarning,
            stacklevel=6,
        )
    else:
        warn_held(final, "approximation='refit'", stacklevel=6)


def default_score(estimator):
    """Name of the scorer that an estimator's own ``score`` is, or None."""
    final = estimator
    while isinstance(final, Pipeline | FrozenEstimator):
        final = final.steps[-1][1] if isinstance(final, Pipeline) else final.estimator
    own = getattr(type(final), "score", None)
    if is_classifier(final):
        return "accuracy" if own is ClassifierMixin.score else None
    return "r2" if own is RegressorMixin.score else None
