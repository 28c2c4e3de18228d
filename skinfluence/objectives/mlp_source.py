"""scikit-learn's multi-layer perceptrons as nets. Imported only when one comes in."""

import copy

import numpy as np
import torch
from scipy import sparse
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from .heads import BinaryHead, RegressionHead, SoftmaxHead
from .net_heads import ScaledSquaredLoss
from .net_losses import LogisticLoss, SoftmaxLoss, SquaredLoss
from .nets import NetRows, compared_rows
from .rules import RemovalRule

ACTIVATIONS = {
    "identity": torch.nn.Identity,
    "logistic": torch.nn.Sigmoid,
    "tanh": torch.nn.Tanh,
    "relu": torch.nn.ReLU,
}


class MlpSource:
    """A fitted MLPClassifier or MLPRegressor and its rows, in double precision.

    With lbfgs the fit minimises ``Σ s ℓ / Σ s + α / (2 Σ s) ‖W‖²``, in total form a fixed
    ``½ α ‖W‖²``. With adam and sgd each step divides the penalty by the rows of its batch: over an
    epoch it is ``½ α steps ‖W‖²``, which grows with the number of rows. Biases are free.
    """

    def __init__(self, estimator, X, y, sample_weight=None, dtype=None):
        self.estimator, self.X, self.y = estimator, NetRows(X), y
        self.device = torch.device("cpu")
        self.dtype = torch.float64 if dtype is None else dtype
        self.module = self._module(estimator).to(self.dtype).eval()
        self.state = {name: p.detach() for name, p in self.module.named_parameters()}
        self._recognise(estimator, y)
        self.trained = _trained_rows(estimator, y)
        self._weigh(estimator, sample_weight)

    def _module(self, estimator):
        parts = []
        for W, b in zip(estimator.coefs_, estimator.intercepts_, strict=True):
            layer = torch.nn.Linear(*W.shape)
            layer.weight = torch.nn.Parameter(torch.as_tensor(W.T.copy()), requires_grad=False)
            layer.bias = torch.nn.Parameter(torch.as_tensor(b.copy()), requires_grad=False)
            parts += [layer, ACTIVATIONS[estimator.activation]()]
        return torch.nn.Sequential(*parts[:-1])

    def _recognise(self, estimator, y):
        if hasattr(estimator, "classes_"):
            if np.ndim(y) > 1:
                raise ValueError("a multi-label MLPClassifier is not supported; fit one a label")
            binary = len(estimator.classes_) == 2
            self.loss = LogisticLoss() if binary else SoftmaxLoss()
            self.head = (BinaryHead if binary else SoftmaxHead)(estimator.classes_)
            return
        loss = getattr(estimator, "loss", "squared_error")
        if loss != "squared_error":
            raise ValueError(f"MLPRegressor(loss={loss!r}) is not supported; use 'squared_error'")
        self.loss = SquaredLoss(0.5)
        self.head = RegressionHead(ScaledSquaredLoss(0.5), estimator.n_outputs_)

    def _weigh(self, estimator, sample_weight):
        n = len(self.y)
        given = np.ones(n) if sample_weight is None else np.asarray(sample_weight, float)
        self.weights = np.zeros(n)
        self.weights[self.trained] = given[self.trained]
        penalty, rule, m = float(estimator.alpha), None, len(self.trained)
        if estimator.solver != "lbfgs":
            size = estimator.batch_size
            size = min(200, m) if size == "auto" else min(int(size), m)
            steps = -(-m // size)
            if steps > 1:
                last = m - (steps - 1) * size  # rows of the last batch, which divides by them
                penalty *= m / steps * ((steps - 1) / size + 1 / last)
                rule = self.weights
        self.rule = RemovalRule(n, penalty_measure=rule)
        self.penalties = {name: penalty if name.endswith("weight") else 0.0 for name in self.state}

    def without_code(self):
        """What an archive holds: all but the module."""
        return {name: value for name, value in vars(self).items() if name != "module"}

    def with_code(self, state):
        """Make the module anew, with the parameters of ``state``."""
        vars(self).update(state)
        self.module = self._module(self.estimator).to(self.dtype).eval()
        self.module.load_state_dict(self.state)
        self.state = {name: p.detach() for name, p in self.module.named_parameters()}

    def probe(self):
        """Outputs of some rows from among all."""
        x, _ = self.batch(compared_rows(self.trained))
        return [self.outputs(self.state, x).double().numpy()]

    def at(self, state):
        """The same rows and loss with other parameters (a dict of all of them)."""
        other = copy.copy(self)
        other.module = copy.deepcopy(self.module)
        other.module.load_state_dict(state)
        other.state = {name: p.detach() for name, p in other.module.named_parameters()}
        return other

    def batch(self, rows):
        """Inputs and targets of training rows."""
        y = self.head.encode(self.y[rows])
        y = torch.as_tensor(y)
        return self.inputs(self.X[rows]), y.to(self.dtype) if y.dtype.is_floating_point else y

    def inputs(self, X):
        """Input rows as a Tensor."""
        X = getattr(X, "data", X) if isinstance(X, NetRows) else X
        X = X.toarray() if sparse.issparse(X) else X
        return torch.as_tensor(np.asarray(X), dtype=self.dtype)

    def outputs(self, state, x):
        """Outputs before the last activation."""
        return torch.func.functional_call(self.module, state, (x,))

    def read(self, names, estimator):
        """``θ`` of another fitted estimator."""
        state = dict(self._module(estimator).double().named_parameters())
        return np.concatenate([state[name].detach().numpy().ravel() for name in names])


def _trained_rows(estimator, y):
    """Rows that early stopping did not hold back."""
    n = len(y)
    if not estimator.early_stopping or estimator.solver == "lbfgs":
        return np.arange(n)
    if not isinstance(estimator.random_state, int | np.integer):
        raise ValueError(
            "early_stopping=True holds rows back at random; which ones is known only with an "
            "integer random_state"
        )
    rng = check_random_state(estimator.random_state)
    for W in estimator.coefs_:  # the split is drawn after the initial weights
        rng.uniform(size=W.shape)
        rng.uniform(size=W.shape[1])
    binary = hasattr(estimator, "classes_") and estimator.n_outputs_ == 1
    options = {"test_size": estimator.validation_fraction, "stratify": y if binary else None}
    return np.sort(train_test_split(np.arange(n), random_state=rng, **options)[0])
