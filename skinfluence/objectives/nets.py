"""Options of a net's objective, and what the explainer needs to know of nets before torch is in."""

from collections.abc import Mapping

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import check_consistent_length

from .._tensors import on_host
from .base import is_net, objective_for


class Net(BaseEstimator):
    """The objective of a net, with options: ``InfluenceExplainer(net, objective=Net(...))``.

    Parameters
    ----------
    parameters : str or list of str, optional
        Patterns of the parameters that a removal moves, as in ``module.named_parameters()``:
        ``"layers.2.weight"``, ``"*.bias"``, or the path of a layer, ``"layers.2"``. The others
        stay as fitted. Default: all that were trained.
    residual : bool, default=False
        Add to every removal the step from where training stopped to the optimum. By default
        what the fit lacks is the same with and without the row, and cancels (the proximal
        Bregman view of an early-stopped net).
    dtype : {"float32", "float64"}, optional
        Precision of the computation; default that of the module.

    References
    ----------
    Bae, J., Ng, N., Lo, A., Ghassemi, M. and Grosse, R. (2022). If influence functions are the
    answer, then what is the question? NeurIPS. https://arxiv.org/abs/2209.05364

    Examples
    --------
    >>> from skinfluence.objectives import Net
    >>> Net(parameters="*.bias")
    Net(parameters='*.bias')
    """

    def __init__(self, parameters=None, residual=False, dtype=None):
        self.parameters = parameters
        self.residual = residual
        self.dtype = dtype

    def build(self, estimator, X, y, sample_weight=None):
        """The ``NeuralObjective`` of a fitted estimator."""
        # registers method="newton", "second_order", and derivatives in the rows
        from . import (  # noqa: F401
            neural,
            neural_inputs,
            neural_newton,
            neural_second_order,
        )

        return neural.NeuralObjective(
            self.source(estimator, X, y, sample_weight), self.parameters, self.residual
        )

    def source(self, estimator, X, y, sample_weight=None):
        """The fitted net and its rows, read once."""
        try:
            import torch
        except ImportError as error:
            raise ImportError(
                "nets need torch and skorch: pip install skinfluence[torch]"
            ) from error

        if not (is_net(estimator) or isinstance(estimator, MLPClassifier | MLPRegressor)):
            raise TypeError(
                f"{type(estimator).__name__} is no net: pass a skorch net, an MLPClassifier or "
                "an MLPRegressor, or use objective='auto'"
            )
        if self.dtype not in (None, "float32", "float64"):
            raise ValueError(f"dtype={self.dtype!r} is not one of None, 'float32', 'float64'")
        dtype = None if self.dtype is None else getattr(torch, self.dtype)
        if not is_net(estimator):
            from .mlp_source import MlpSource

            return MlpSource(estimator, X, np.asarray(y), sample_weight, dtype)
        from .net_sources import SkorchSource

        if sample_weight is not None:
            raise ValueError(
                "a skorch net takes no sample_weight in fit; put the weights into X (a dict) and "
                "let get_loss use them"
            )
        return SkorchSource(estimator, net_rows(X), np.asarray(y), dtype)


class LastLayer(Net):
    """The last linear layer of a net as a convex model on the features before it.

    The rest of the net is held fixed. Cross-entropy, logistic and squared losses only; every
    method for linear predictors then applies, exact leave-one-out included. The name of
    ``InfluenceExplainer(net, objective="last_layer")``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skinfluence import InfluenceExplainer
    >>> X, y = load_iris(return_X_y=True)
    >>> net = MLPClassifier(5, solver="lbfgs", alpha=1.0, max_iter=1000, random_state=0)
    >>> explainer = InfluenceExplainer(net, objective="last_layer", method="exact")
    >>> explainer.fit(X, y).transform(X[:3], y[:3]).shape
    (3, 150)
    """

    def __init__(self, dtype=None):
        super().__init__(dtype=dtype)

    def build(self, estimator, X, y, sample_weight=None):
        """The ``LastLayerObjective``."""
        from .last_layer import LastLayerObjective

        return LastLayerObjective(self.source(estimator, X, y, sample_weight))


@objective_for.register(MLPClassifier)
@objective_for.register(MLPRegressor)
def mlp_objective(estimator, X, y, sample_weight=None):
    """Σ s_i ℓ_i + ½ α ‖W‖² of an lbfgs fit; what adam and sgd make of it, see ``MlpSource``."""
    return Net().build(estimator, X, y, sample_weight)


def resolve_objective(objective, estimator, X, y, sample_weight=None):
    """The objective of a fitted estimator: its own (``"auto"``), or as a name or object says."""
    if isinstance(objective, str):
        if objective == "auto":
            return objective_for(estimator, X, y, sample_weight)
        if objective not in OBJECTIVES:
            raise ValueError(f"objective={objective!r} is not one of 'auto', {sorted(OBJECTIVES)}")
        objective = OBJECTIVES[objective]()
    if not hasattr(objective, "build"):
        raise TypeError(f"objective={objective!r} has no build; see skinfluence.objectives.Net")
    return objective.build(estimator, X, y, sample_weight)


OBJECTIVES = {"net": Net, "last_layer": LastLayer}


class NetRows:
    """Rows of a net's input: an array of any rank, sparse rows, or a dict or list of arrays."""

    def __init__(self, data):
        self.data = data
        parts = _parts(data)
        check_consistent_length(*parts)
        self.shape = (parts[0].shape[0], *parts[0].shape[1:])
        self.dtype = np.dtype(np.float64)  # of influences on these rows

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return NetRows(_map(lambda part: part[rows], self.data))


def compared_rows(rows):
    """Up to 256 rows from among all, by whose outputs the net of an archive is known again."""
    return rows[:: -(-len(rows) // 256)]


def net_rows(X):
    """Check a net's input: rows first, finite; a dataframe becomes a dict of columns."""
    if isinstance(X, NetRows):
        return X
    if hasattr(X, "columns"):
        X = {name: np.asarray(X[name]).reshape(-1, 1) for name in X.columns}
    X = _map(_writable, X)
    for part in _parts(X):
        if part.dtype.kind not in "fiub":
            raise ValueError(f"X has dtype {part.dtype}; a net takes numbers")
        if part.ndim < 2 and not isinstance(X, Mapping):
            raise ValueError(
                "Expected 2D array or more, got 1D array instead. Reshape your data with "
                "X.reshape(-1, 1) if it has a single feature or X.reshape(1, -1) for one row"
            )
        values = part.data if sparse.issparse(part) else part
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError("Input X contains NaN or infinity; impute or drop those rows")
    rows = NetRows(X)
    if not len(rows):
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    return rows


def net_targets(y):
    """Check a net's targets, which keep their shape and dtype."""
    y = np.asarray(on_host(y))
    if y.dtype.kind not in "fiub":
        raise ValueError(
            f"y has dtype {y.dtype}: a net does not encode labels; pass class indices 0..K-1, "
            "for instance from sklearn.preprocessing.LabelEncoder"
        )
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError("Input y contains NaN or infinity; impute or drop those rows")
    return y


def _writable(part):
    return part if sparse.issparse(part) else np.require(on_host(part), requirements="W")


def _parts(data):
    if isinstance(data, Mapping):
        return list(data.values())
    return list(data) if isinstance(data, list | tuple) else [data]


def _map(function, data):
    if isinstance(data, Mapping):
        return {name: function(part) for name, part in data.items()}
    if isinstance(data, tuple) or (isinstance(data, list) and hasattr(data[0], "shape")):
        return [function(part) for part in data]
    return function(data)
