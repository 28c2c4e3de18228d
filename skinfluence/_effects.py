"""From a fitted estimator and its rows to what a method says about removals."""

import warnings

import numpy as np
from sklearn.utils import check_array

from ._follow import check_preprocessing
from ._unwrap import transform
from .methods import resolve_method
from .methods.exact import exact_effects
from .methods.newton import newton_effects
from .objectives.stacked import RawRows, StackedObjective
from .solvers import resolve_solver
from .solvers.base import fitted_solver


def as_rows(X):
    """Rows as an objective takes them: float, C-ordered or CSR."""
    return check_array(X, accept_sparse="csr", dtype=[np.float64, np.float32])


def query_rows(objective, steps, X):
    """Raw rows as the objective's queries take them."""
    return RawRows(X) if isinstance(objective, StackedObjective) else as_rows(transform(steps, X))


def check_steps(steps, preprocessing, stacklevel=4):
    """Say what happens to a pipeline's earlier steps: kept, kept with a warning, or refused."""
    check_preprocessing(preprocessing)
    frozen = [name for name, _ in steps]
    if not frozen or preprocessing == "frozen":
        return
    if preprocessing == "refit":
        raise ValueError(
            f"preprocessing='refit' does not know the pipeline steps {frozen}; use "
            "preprocessing='frozen' to keep them as fitted"
        )
    warnings.warn(
        f"the pipeline steps {frozen} are kept as fitted: a removed row moves only the last "
        "step. Pass preprocessing='frozen' to say that this is meant.",
        UserWarning,
        stacklevel=stacklevel,
    )


def bind(method, solver, problem):
    """``(method, solver, effects)`` resolved for a problem, whose solver is set where needed."""
    chosen = resolve_method(method, problem.objective)
    if chosen.uses_solver:
        problem.solver = fitted_solver(resolve_solver(solver, problem.objective), problem.objective)
        if isinstance(method, str) and method == "auto" and getattr(problem.solver, "rough", False):
            chosen = resolve_method("influence", problem.objective)  # Newton steps need leverages
    return chosen, problem.solver, chosen.bind(problem)


def most_accurate(objective):
    """Name of the most accurate method known for a kind of objective."""
    for name, dispatch in (("exact", exact_effects), ("newton", newton_effects)):
        if dispatch.dispatch(type(objective)) is not dispatch.dispatch(object):
            return name
    raise TypeError(
        f"neither 'exact' nor 'newton' is known for {type(objective).__name__}; use "
        "approximation='infinitesimal_jackknife' or 'refit'"
    )
