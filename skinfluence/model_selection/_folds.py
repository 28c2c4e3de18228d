"""Folds: which rows a split removes and tests, and what scikit-learn routes where."""

from dataclasses import dataclass

import numpy as np
from sklearn import get_config
from sklearn.base import is_classifier
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.model_selection import LeaveOneOut, check_cv
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import _num_samples


@dataclass
class Folds:
    """Splits as rows removed and rows tested; ``removed`` is None for leave-one-out.

    ``unusual`` is True where a training fold repeats rows: its fit is not a removal.
    """

    n_rows: int
    splits: list | None
    removed: list | None
    unusual: bool = False

    def __len__(self):
        return self.n_rows if self.removed is None else len(self.removed)

    @property
    def cv(self):
        """What scikit-learn's own functions take for the same splits."""
        return LeaveOneOut() if self.splits is None else self.splits


def splitter(cv, y, estimator):
    """scikit-learn's ``check_cv``, with leave-one-out for None."""
    cv = LeaveOneOut() if cv is None else cv
    return check_cv(cv, y, classifier=is_classifier(estimator))


def make_folds(cv, X, y, split_params):
    """The :class:`Folds` of a splitter. Splits are drawn once: a shuffling one differs twice."""
    n = _num_samples(X)
    if isinstance(cv, LeaveOneOut):
        if n < 2:
            raise ValueError(f"Cannot perform LeaveOneOut with n_samples={n}.")
        return Folds(n, None, None)
    splits, removed, unusual = [], [], False
    for train, test in cv.split(X, y, **split_params):
        train, test = _positions(train), _positions(test)
        keep = np.zeros(n, dtype=bool)
        keep[train] = True
        unusual |= int(keep.sum()) < len(train)
        splits.append((train, test))
        removed.append(np.flatnonzero(~keep))
    return Folds(n, splits, removed, bool(unusual))


def _positions(index):
    index = np.asarray(index)
    return np.flatnonzero(index) if index.dtype == bool else index


def route(owner, estimator, cv, scorer, groups, params):
    """Parameters for ``fit``, ``split`` and ``score``, as scikit-learn's functions route them."""
    params = {} if params is None else params
    if not get_config()["enable_metadata_routing"]:
        return Bunch(
            splitter=Bunch(split={"groups": groups}),
            estimator=Bunch(fit=params),
            scorer=Bunch(score={}),
        )
    if groups is not None:
        raise ValueError(
            "`groups` can only be passed if metadata routing is not enabled via "
            "`sklearn.set_config(enable_metadata_routing=True)`. When routing is enabled, pass "
            "`groups` alongside other metadata via the `params` argument instead."
        )
    fit = MethodMapping().add(caller="fit", callee="fit")
    split = MethodMapping().add(caller="fit", callee="split")
    score = MethodMapping().add(caller="fit", callee="score")
    router = MetadataRouter(owner=owner).add(splitter=cv, method_mapping=split)
    router.add(estimator=estimator, method_mapping=fit)
    if scorer is not None:
        router.add(scorer=scorer, method_mapping=score)
    try:
        routed = process_routing(router, "fit", **params)
    except UnsetMetadataPassedError as error:
        raise UnsetMetadataPassedError(
            message=str(error).replace(f"{owner}.fit", owner),
            unrequested_params=error.unrequested_params,
            routed_params=error.routed_params,
        ) from error
    return Bunch(
        splitter=routed.splitter,
        estimator=routed.estimator,
        scorer=routed.get("scorer", Bunch(score={})),
    )
