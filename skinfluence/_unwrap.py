"""From what the user passed to the final estimator and the rows it saw."""

import copy
import inspect

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.feature_selection._univariate_selection import _BaseFilter
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import process_routing

from ._tensors import frozen_on_host
from .objectives.base import is_net


def fit_estimator(estimator, X, y, sample_weight=None):
    """Fit a clone; a FrozenEstimator is kept as it is."""
    if isinstance(estimator, FrozenEstimator):
        return frozen_on_host(estimator)
    options = {}
    if sample_weight is not None:
        routed = get_config()["enable_metadata_routing"]
        if routed and isinstance(estimator, Pipeline):
            check_last_weighted(estimator, sample_weight)
        options = {"sample_weight" if routed else weight_name(estimator): sample_weight}
    return careful_clone(estimator).fit(spare_rows(estimator, X), y, **options)


def inner_has(name):
    """Whether the inner estimator has a method, for ``available_if``."""

    def check(self):
        getattr(self.estimator_ if hasattr(self, "estimator_") else self.estimator, name)
        return True

    return check


def careful_clone(estimator):
    """A clone none of whose parts may write into the rows it is given (``copy_X=False``)."""
    return _reader(clone(estimator))


def _writers(part):
    """``(object, option)`` of all inside, fitted or not, that may write into their rows."""
    if isinstance(part, BaseEstimator):
        for name, value in vars(part).items():
            if name in ("copy", "copy_X") and value is False:
                yield part, name
        part = vars(part).values()
    elif not isinstance(part, list | tuple):
        return
    for inner in part:
        yield from _writers(inner)


def spare_rows(estimator, X):
    """Rows for one fit: a copy for LassoCV and its kin, which write into them without intercept."""
    parts = [estimator, *estimator.get_params().values()]
    writes = any(
        type(part).__name__.endswith("CV") and getattr(part, "fit_intercept", True) is False
        for part in parts
    )
    return X.copy() if writes and hasattr(X, "copy") else X


def check_last_weighted(pipeline, sample_weight):
    """Refuse weights that metadata routing gives to earlier steps of a pipeline only."""
    name, last = pipeline.steps[-1]
    params = process_routing(pipeline, "fit", sample_weight=sample_weight)[name]
    if params.fit.get("sample_weight") is None:
        raise ValueError(
            f"sample_weight does not reach {type(last).__name__}, the pipeline's last step: its "
            f"rows would be taken for weighted ones. Use set_fit_request(sample_weight=True) on "
            "it, or pass no weights"
        )


def weight_name(estimator):
    """Under which name ``fit`` takes sample weights; refuses an estimator that takes none."""
    if isinstance(estimator, Pipeline):
        step = estimator.steps[-1]
        return f"{step[0]}__{weight_name(step[1])}"
    if hasattr(estimator, "final_estimator"):
        return "sample_weight"
    inner = getattr(estimator, "estimator", getattr(estimator, "regressor", None))
    if hasattr(estimator, "best_estimator_") or hasattr(estimator, "cv_results_"):
        return weight_name(inner)
    parameters = inspect.signature(estimator.fit).parameters
    if "sample_weight" in parameters:
        return "sample_weight"
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if takes_any and inner is not None:
        return weight_name(inner)
    raise ValueError(f"{type(estimator).__name__}.fit takes no sample_weight; pass None")


def unwrap(estimator, stacks=False):
    """``(steps, final)``: fitted transformers in order, and the fitted final estimator.

    ``stacks`` opens stacked models too: their base models are a step, which hands on other rows at
    training time than to queries.
    """
    if isinstance(estimator, FrozenEstimator):
        return unwrap(estimator.estimator, stacks)
    if hasattr(estimator, "best_estimator_"):
        return unwrap(estimator.best_estimator_, stacks)
    if isinstance(estimator, Pipeline):
        before = [
            (name, _reader(step))
            for name, step in estimator.steps[:-1]
            if step is not None and step != "passthrough"
        ]
        steps, final = unwrap(estimator.steps[-1][1], stacks)
        return before + steps, final
    if isinstance(estimator, TransformedTargetRegressor) and hasattr(estimator, "regressor_"):
        return _unwrap_transformed(_reader(estimator))  # its transformer reads y
    if stacks and hasattr(estimator, "final_estimator_"):
        return _unwrap_stacking(estimator)
    return [], estimator


def _reader(step):
    """A step, or a copy of it that does not write into the rows it is given."""
    if next(_writers(step), None) is None:
        return step
    step = copy.deepcopy(step)
    for part, name in _writers(step):
        setattr(part, name, True)
    return step


def _unwrap_transformed(estimator):
    """Steps of a pipeline inside, and the last one with the target transformer around it."""
    steps, last = unwrap(estimator.regressor_)
    if not steps:
        return [], estimator
    for name, step in steps:
        if any(_uses_targets(part) for part in [step, *step.get_params().values()]):
            raise ValueError(
                f"step {name!r} inside TransformedTargetRegressor is fitted on the transformed "
                "targets, which is not followed; put it in a pipeline before the "
                "TransformedTargetRegressor"
            )
    view = copy.copy(estimator)
    view.regressor = view.regressor_ = last
    return steps, view


def _unwrap_stacking(estimator):
    """The base models as a step, and the last model with the labels that the user knows."""
    steps, last = unwrap(estimator.final_estimator_)
    labels = getattr(estimator, "classes_", None)
    if isinstance(labels, np.ndarray) and not np.array_equal(labels, last.classes_):
        last, codes = copy.copy(last), last.classes_
        last.classes_ = labels[codes]
        weights = getattr(last, "class_weight", None)
        if isinstance(weights, dict):  # it was given codes
            last.class_weight = {labels[code]: value for code, value in weights.items()}
    return [(type(estimator).__name__.lower(), estimator), *steps], last


def _uses_targets(step):
    if isinstance(step, _BaseFilter):
        return True
    return hasattr(step, "transform") and get_tags(step).target_tags.required


def unfrozen(estimator):
    """The estimator inside frozen ones, searches and other wrappers, fitted or not."""
    while hasattr(getattr(estimator, "estimator", None), "fit"):
        estimator = estimator.estimator
    return estimator


def check_new_start(estimator):
    """Refuse a net whose clones start from the weights of the module it was given."""
    estimator = unfrozen(estimator)
    if isinstance(estimator, Pipeline):
        estimator = unfrozen(estimator.steps[-1][1])
    made = is_net(estimator) and not isinstance(estimator.module, type)
    if made and hasattr(estimator.module, "parameters"):
        raise ValueError(
            f"{type(estimator).__name__} was given a module that is made already, so each of its "
            "clones starts from the same, perhaps trained, weights. Give it the module's class "
            "(and module__... arguments), or pass a factory that makes a new net"
        )


def transform(steps, X):
    """Rows as the final estimator sees them."""
    for _, step in steps:
        X = step.transform(X)
    return X
