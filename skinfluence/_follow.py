"""Which of a pipeline's steps a removal is followed through."""

import warnings

from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from ._unwrap import unwrap
from .methods.base import Problem
from .objectives.behind import behind
from .objectives.heads import RegressionHead
from .objectives.stacked import StackedObjective
from .stages import Chain, stage_for
from .stages.base import columns

# Products (parameters, rows, columns) up to which the dense pass through the steps takes minutes.
LARGEST = 2e11
# What a target transformer is called in messages.
TARGET = "transformer"


def follow(steps, final, X, y, sample_weight, preprocessing, make, *, smooth=False):
    """The objective of a pipeline's last step, stacked on the stages that are followed.

    Parameters
    ----------
    steps : list of (name, fitted transformer)
    final : fitted estimator
    X, y, sample_weight
        What the pipeline was fitted on.
    preprocessing : {"auto", "frozen", "refit"}
    make : callable
        From the rows handed on to ``(objective, rows)`` of the last step.
    smooth : bool, default=False
        Whether derivatives in the rows' weights are wanted: order statistics have none.

    Returns
    -------
    (objective, rows)
        And the rows that the last step was fitted on.
    """
    if preprocessing == "frozen":
        return make(training_rows(steps, X, y, sample_weight))
    objective, rows, held = stacked(steps, final, X, y, sample_weight, make, smooth)
    if held:
        tell_held(held, preprocessing)
    if isinstance(objective, StackedObjective):
        _tell_flips(objective.chain)
    return objective, rows


def stacked(steps, final, X, y, sample_weight, make, smooth=False):
    """As :func:`follow`, with the names and reasons of what is kept as fitted: a third value."""
    chain = Chain(steps, X, y, sample_weight)
    target, kept = target_stage(final, y)
    with warnings.catch_warnings():  # said here, where it is known
        warnings.filterwarnings("ignore", "the target transformer", UserWarning)
        inner, rows = make(chain.outputs)
    if target is not None and type(inner.head.head) is not RegressionHead:
        name = type(final.regressor_).__name__
        target, kept = None, [(TARGET, f"not followed with {name}")]
    rough = smooth and (chain.rough or (target is not None and target.rough))
    if behind(inner) is None:
        reason = f"not followed into {type(final).__name__}"
    elif rough:
        held = [(name, _why_rough(stage)) for name, stage in chain.named()]
        return inner, rows, held + (kept if target is None else [(TARGET, _why_rough(target))])
    elif chain.n_params and inner.n_params * inner.n_rows * rows.shape[1] > LARGEST:
        reason = f"{rows.shape[1]} columns are too many to follow rows through"
    else:
        moving = chain.n_params > 0 or chain.jumps or target is not None
        objective = StackedObjective(inner, chain, target) if moving else inner
        return objective, rows, [*chain.held, *kept]
    held = [(name, reason) for name, _ in steps]
    return inner, rows, held + (kept if target is None else [(TARGET, reason)])


def target_stage(final, y):
    """The stage of a target transformer, or None; and what is kept as fitted."""
    if not is_transformed(final):
        return None, []
    transformer = final.transformer_
    parts = transformer.steps if hasattr(transformer, "steps") else [(None, transformer)]
    parts = [part for _, part in parts if part is not None and part != "passthrough"]
    unknown = [part for part in parts if not _by_columns(part)]
    if unknown:
        reason = f"{type(unknown[0]).__name__} is not followed as a transformer of targets"
        return None, [(TARGET, reason)]
    stage = stage_for(transformer, columns(y))
    return (stage if stage.n_params else None), []


def is_transformed(final):
    """Whether a fitted regressor is one of transformed targets."""
    return isinstance(final, TransformedTargetRegressor) and hasattr(final, "transformer_")


def _by_columns(transformer):
    """Whether a transformer takes targets column by column and back, without loss."""
    known = FunctionTransformer, MaxAbsScaler, PowerTransformer, RobustScaler, StandardScaler
    unclipped = isinstance(transformer, MinMaxScaler) and not transformer.clip
    return unclipped or isinstance(transformer, known)


def check_preprocessing(preprocessing):
    """Refuse what is not one of the choices."""
    if preprocessing not in ("auto", "frozen", "refit"):
        raise ValueError(f"preprocessing={preprocessing!r} is not one of 'auto', 'frozen', 'refit'")


def training_rows(steps, X, y, sample_weight):
    """What the last step was fitted on: cross-fitted where a step cross-fits."""
    if any(_cross_fits(step) for _, step in steps):
        return Chain(steps, X, y, sample_weight).outputs
    for _, step in steps:
        X = step.transform(X)
    return X


def innermost(estimator):
    """The fitted pipeline inside a search or a FrozenEstimator."""
    while True:
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return estimator


def not_followed_into(steps, final):
    """All steps as held, and why."""
    return [(name, f"not followed into {type(final).__name__}") for name, _ in steps]


def problem_for(objective, estimator, X, rows, y, sample_weight):
    """What methods need to know of a fit: the whole pipeline where its steps are followed."""
    if isinstance(objective, StackedObjective):
        return Problem(objective, None, innermost(estimator), X, y, sample_weight)
    return Problem(objective, None, unwrap(estimator)[1], rows, y, sample_weight)


def _why_rough(stage):
    if stage.rough:
        return "it looks numbers up, which have no derivative in a row's weight"
    return "another step has no derivative in a row's weight"


def _cross_fits(step):
    if hasattr(step, "final_estimator_"):
        return True
    if not hasattr(step, "get_params"):
        return False
    return any(isinstance(part, TargetEncoder) for part in [step, *step.get_params().values()])


def tell_held(held, preprocessing):
    """Warn of steps kept as fitted, ``(name, reason)``, or refuse them."""
    names = "; ".join(f"{name!r} ({why})" for name, why in held)
    if preprocessing == "refit":
        raise ValueError(
            f"preprocessing='refit' cannot follow a removal through the steps {names}. Register a "
            "transformer with skinfluence.stages.stage_for.register(MyTransformer), or use "
            "preprocessing='auto' to keep these as fitted, or 'frozen' to keep all"
        )
    warnings.warn(
        f"the steps {names} are kept as fitted: a removed row does not move them. Pass "
        "preprocessing='frozen' to keep all steps and say that this is meant.",
        UserWarning,
        stacklevel=4,
    )


def _tell_flips(chain):
    rows = chain.flipped_rows()
    if len(rows):
        warnings.warn(
            f"without any of {len(rows)} rows ({rows[:10].tolist()}) a step would choose other "
            "columns or categories; its choice is held fixed. Use method='refit' for these rows",
            UserWarning,
            stacklevel=4,
        )
