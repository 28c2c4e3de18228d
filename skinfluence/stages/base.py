"""Stages: fitted transformers as estimating equations, so that a removal reaches through them."""

import copy
from functools import singledispatch

import numpy as np
from scipy import sparse
from sklearn import get_config
from sklearn.base import clone
from sklearn.utils.metadata_routing import get_routing_for_object


class Stage:
    """A fitted step with its parameters ``η`` and the training rows it saw.

    A removal moves ``η``, and ``η`` moves the rows that the step hands on, at training and at
    query time. The pulls below are the transposes of those derivatives: from a cotangent of the
    output rows back to ``η``, to the input rows, and from ``η`` to the training rows that
    determine it.

    Parameters
    ----------
    step : fitted transformer
    X : array, dataframe or sparse
        The rows it was fitted on.
    y : ndarray, optional
    sample_weight : ndarray, optional
        Weights that the step itself was fitted with.

    Attributes
    ----------
    n_params : int
        Length of ``η``; 0 for a step without data-dependent numbers.
    flat : bool
        Whether :meth:`pull_params` on the training rows costs no more than one product.
    jumps : bool
        Whether a refit without a row can change the outputs by a jump that ``η`` does not hold.
    takes_products : bool
        Whether :meth:`pull_sum` and :meth:`pull_training` take ``Products`` in place of an array.
    rough : bool
        Whether :meth:`derivatives` are removals, as ``η`` has no derivative in a row's weight.
    outputs : array
        What the step handed on at training time.
    held : list of (str, str)
        Name (relative to the step) and reason of what is kept as fitted.
    """

    n_params = 0
    flat = True
    jumps = False
    takes_products = False
    rough = False

    def __init__(self, step, X, y=None, sample_weight=None):
        if getattr(step, "copy", True) is False:  # it would overwrite the rows kept here
            step = copy.copy(step).set_params(copy=True)
        self.step, self.X, self.y, self.sample_weight = step, X, y, sample_weight
        self.held = []
        self._prepare()
        self.outputs = self._training_outputs()

    def _prepare(self):
        """Compute what the derivatives need; called once."""

    def _training_outputs(self):
        return self.transform(self.X)

    def transform(self, X):
        """Rows that the step hands on for query rows ``X``."""
        return self.step.transform(X)

    def derivatives(self, rows):
        """First-order change of ``η`` when each of ``rows`` goes: (b, n_params)."""
        return np.zeros((len(rows), 0))

    def removals(self, rows):
        """Change of ``η`` when each of ``rows`` goes, in closed form where there is one."""
        return self.derivatives(rows)

    def pull_params(self, X, C):
        """Cotangents ``C`` of the rows handed on for ``X`` (m, d_out), back to ``η``: (m, M)."""
        return np.zeros((len(C), self.n_params))

    def pull_inputs(self, X, C):
        """Cotangents ``C`` of the rows handed on for ``X``, back to ``X``: (m, d_in)."""
        raise NotImplementedError

    def pull_training(self, C):
        """:meth:`pull_inputs` of the training rows, where these are handed on in another way."""
        return self.pull_inputs(self.X, C)

    def pull_sum(self, C):
        """:meth:`pull_params` of all training rows, summed: (M,)."""
        return self.pull_params(self.X, C).sum(axis=0)

    def pull_columns(self, r):
        """:meth:`pull_sum` of ``r`` (n,) put in each output column in turn: (d_out, M)."""
        width = self.outputs.shape[1]
        out, C = np.empty((width, self.n_params)), np.zeros((len(r), width))
        for column in range(width):
            C[:, column] = r
            out[column] = self.pull_sum(C)
            C[:, column] = 0.0
        return out

    def pull_fit(self, v):
        """A cotangent of ``η`` back to the training rows that determine it: (n, d_in)."""
        raise NotImplementedError

    def without(self, X, keep):
        """The step refitted on the rows ``keep``, whose inputs are ``X``.

        Returns
        -------
        (transform, outputs)
            A function of query rows, and the rows handed on at training time.
        """
        fitted = refitted(self, X, keep)
        return fitted.transform, fitted.transform(X)

    def flipped_rows(self):
        """Training rows whose removal would change a choice that is held fixed."""
        return np.empty(0, dtype=np.intp)


class Stateless(Stage):
    """A step whose transform does not depend on what it was fitted on."""

    def pull_fit(self, v):
        """Nothing is fitted."""
        return 0.0

    def without(self, X, keep):
        """The step itself."""
        return self.step.transform, self.transform(X)


class Opaque(Stateless):
    """A step kept as fitted: neither its parameters nor the rows behind it are followed."""

    opaque = True

    def __init__(self, step, X, y=None, sample_weight=None, reason="no stage is registered for it"):
        super().__init__(step, X, y, sample_weight)
        self.held = [("", f"{type(step).__name__}: {reason}")]


@singledispatch
def stage_for(step, X, y=None, sample_weight=None):
    """The :class:`Stage` of a fitted transformer on the rows it was fitted on.

    Register a transformer with ``@stage_for.register(MyTransformer)`` on a function of these
    four arguments (or on a :class:`Stage` subclass). What is not registered is
    :class:`Opaque`: kept as fitted.

    Parameters
    ----------
    step : fitted transformer
    X : array, dataframe or sparse of shape (n_samples, n_features)
    y : ndarray, optional
    sample_weight : ndarray of shape (n_samples,), optional
        Weights passed to the step's own ``fit``.

    Returns
    -------
    Stage
    """
    return Opaque(step, X, y, sample_weight)


def numeric(X):
    """Rows as a dense float array."""
    if sparse.issparse(X):
        X = X.toarray()
    return np.asarray(X, dtype=np.float64)


def columns(y):
    """Targets (or predictions) as a float array with an axis of columns."""
    y = np.asarray(y, dtype=np.float64)
    return y.reshape(len(y), -1)


def routed_weight(step, sample_weight):
    """The weights that a step's ``fit`` received: only under metadata routing, and if asked."""
    routed = get_config()["enable_metadata_routing"]
    if sample_weight is not None and hasattr(step, "final_estimator_"):
        if routed:
            raise ValueError(
                f"sample weights that metadata routing deals to the models of "
                f"{type(step).__name__} are not followed; disable routing, or pass no weights"
            )
        return sample_weight
    if sample_weight is None or not routed:
        return None
    asked = get_routing_for_object(step).consumes("fit", ["sample_weight"])
    return sample_weight if asked else None


def refitted(stage, X, keep):
    """A clone of a stage's step, fitted on some of the rows."""
    y = None if stage.y is None else stage.y[keep]
    weight = stage.sample_weight
    options = {} if weight is None else {"sample_weight": weight[keep]}
    return clone(stage.step).fit(X, y, **options)
