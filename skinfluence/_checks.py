"""Checks of training and query rows that estimators over another estimator share."""

from collections.abc import Mapping

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    validate_data,
)

from ._partitions import refuse_dask
from ._tensors import on_host
from ._unwrap import unfrozen
from .objectives.base import is_net
from .objectives.design import contiguous
from .objectives.nets import net_rows, net_targets


def take_rows(X, rows):
    """Some rows of an array, sparse matrix, dataframe, or of a net's dict of arrays."""
    if isinstance(X, Mapping):
        return {name: take_rows(part, rows) for name, part in X.items()}
    if isinstance(X, np.ndarray) and isinstance(rows, np.ndarray) and rows.dtype.kind == "i":
        return X[contiguous(rows)]  # a view where they count up
    return _safe_indexing(X, rows)


def pandas_index(rows):
    """The index of a dataframe or Series as an array; None of anything else."""
    index = getattr(rows, "index", None)
    return None if index is None or callable(index) else np.asarray(index)  # a list's is a method


def check_order(index, other, name):
    """Refuse a Series whose index is ``index`` in another order: rows go by position."""
    own = pandas_index(other)
    if index is None or own is None or len(own) != len(index) or (own == index).all():
        return
    if set(own.tolist()) == set(index.tolist()):
        raise ValueError(
            f"{name} has the index of X in another order, and rows go by position: pass "
            f"{name}.loc[X.index], or {name}.to_numpy() if the order is meant"
        )


def check_weighted_classes(estimator, y, weight, instead=None):
    """Refuse weights that are zero for all rows of a class."""
    if weight is None or not is_classifier(estimator) or y.ndim > 1:
        return
    lost = np.setdiff1d(y, y[weight > 0])
    if len(lost):
        raise ValueError(
            f"sample_weight is zero for every row of class {lost.tolist()[0]!r}: drop those rows"
            + (f", or {instead}" if instead else "")
        )


class RowChecks:
    """Mixin of a meta-estimator with an ``estimator``: raw tables pass, arrays are checked."""

    def _check_training(self, X, y, sample_weight):
        refuse_dask(X, type(self).__name__)
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        check_order(pandas_index(X), y, "y")
        check_order(pandas_index(X), sample_weight, "sample_weight")
        if self._takes_tables():
            X, y = on_host(X), on_host(y)
            validate_data(self, X, skip_check_array=True)
            check_consistent_length(X, y)
        elif is_net(unfrozen(self.estimator)):
            if not isinstance(X, dict):
                validate_data(self, X, skip_check_array=True)
            X, y = net_rows(X).data, net_targets(y)
            check_consistent_length(*(X.values() if isinstance(X, dict) else [X]), y)
        else:
            X, y = validate_data(
                self,
                on_host(X),
                on_host(y),
                accept_sparse="csr",
                dtype=[np.float64, np.float32],
                multi_output=True,
                y_numeric=False,
            )
            y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if sample_weight is None:
            return X, y, None
        rows = np.empty((len(np.asarray(y)), 1))
        sample_weight = on_host(sample_weight)
        sample_weight = _check_sample_weight(sample_weight, rows, ensure_non_negative=True)
        if not sample_weight.any():
            raise ValueError("every sample_weight is zero: nothing was fitted")
        check_weighted_classes(self.estimator, np.asarray(y), sample_weight)
        return X, y, sample_weight

    def _takes_tables(self):
        """Whether the estimator's first step takes raw tables: then it checks its own input."""
        return takes_tables(self.estimator)

    def _check_rows_of(self, X):
        """Query rows, as those of ``fit``."""
        refuse_dask(X, type(self).__name__)
        if self._takes_tables():
            X = on_host(X)
            validate_data(self, X, reset=False, skip_check_array=True)
            return X
        if is_net(unfrozen(self.estimator)):
            if not isinstance(X, dict):
                validate_data(self, X, reset=False, skip_check_array=True)
            return X
        return validate_data(
            self, on_host(X), reset=False, accept_sparse="csr", dtype=[np.float64, np.float32]
        )

    def get_metadata_routing(self):
        """Metadata routing: ``fit`` takes ``sample_weight`` and passes it to the estimator's fit.

        Returns
        -------
        MetadataRouter
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=type(self).__name__).add_self_request(self)
        return router.add(estimator=self.estimator, method_mapping=mapping)

    def _name_features(self):
        """Tell the objective the names of its columns, as far as the steps know them."""
        names = getattr(self, "feature_names_in_", None)
        for _, step in self._steps:
            try:
                names = step.get_feature_names_out(names)
            except (AttributeError, ValueError):
                names = None
        if names is not None:
            self.objective_.feature_names = [str(name) for name in names]


def takes_tables(estimator):
    """Whether a pipeline comes first, inside searches and other wrappers."""
    while estimator is not None and not hasattr(estimator, "steps"):
        if hasattr(estimator, "final_estimator"):
            return any(takes_tables(base) for _, base in estimator.estimators)
        estimator = getattr(estimator, "estimator", getattr(estimator, "regressor", None))
    return estimator is not None
