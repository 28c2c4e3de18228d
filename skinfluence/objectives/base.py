"""What an estimator minimised, as the rest of the package sees it."""

from functools import singledispatch

import numpy as np


class Objective:
    """``F(θ, w) = Σ_i w_i ℓ_i(θ) + R(θ)`` at its minimiser ``θ̂``, ``w = 1`` at the fit.

    This is all that solvers, methods and targets know of a model. ``w_i`` already holds ``C``,
    ``sample_weight`` and ``class_weight``; no ``1/n`` is hidden anywhere.

    Attributes
    ----------
    n_rows, n_params, n_outputs : int
    theta : ndarray of shape (n_params,)
        Polished parameters, float64.
    head : Head
        What the outputs mean (labels, loss, probabilities).
    parameter_names : list of str
        One name a column of ``public_parameters``.
    gradient_norm, gradient_norm_fitted : float
        Largest entry of ``∇F`` at ``theta``, and at the estimator's own parameters.
    strictly_convex : bool
        Whether the minimiser is unique (up to a gauge that no output sees).
    restricted : bool
        Whether only some parameters can move to first order (an L1 penalty holds others at zero,
        rows at a kink of their loss hold combinations): then the inverse is not that of the
        Hessian, and the direct solver alone knows it.
    """

    n_rows: int
    n_params: int
    n_outputs: int
    strictly_convex = False
    restricted = False
    n_blocks = 1  # diagonal blocks of the Hessian
    # ``read_outputs(estimator, X)``: outputs of another fitted estimator of the same kind, shape
    # (m, n_outputs); for a model whose parameters belong to its rows, in place of read_parameters
    read_outputs = None

    # -- training side ---------------------------------------------------------------------
    def removal_gradients(self):
        """``Rows`` of shape (n_rows, n_params).

        Row ``i`` is ``-∇F_{-i}(θ̂)`` to first order in the weight of row ``i``: ``w_i g_i`` plus
        what the removal does to the other weights and the penalty. ``H⁻¹`` times it is the
        first-order change of the parameters when row ``i`` goes.
        """
        raise NotImplementedError

    def hessian(self):
        """``H`` (dense, float64) of shape (n_params, n_params)."""
        raise NotImplementedError

    def hessian_product(self, V):
        """``H @ V`` for ``V`` of shape (n_params, m), without forming ``H``."""
        raise NotImplementedError

    # -- query side ------------------------------------------------------------------------
    def queries(self, X):
        """A :class:`Queries` for (already validated) rows ``X``."""
        raise NotImplementedError

    def training_queries(self, rows):
        """The training rows ``rows`` as :class:`Queries`."""
        raise NotImplementedError

    def training_targets(self, rows):
        """Encoded targets of the training rows ``rows``."""
        raise NotImplementedError

    def input_gradient(self, X, C):
        """Cotangents ``C`` (m, n_outputs) of the outputs at float rows ``X``, back to the rows.

        By central differences, column by column; shape of ``X``.
        """
        X = np.asarray(X, dtype=np.float64)
        out = np.empty(X.shape)
        for column in range(X.shape[1]):
            step = 1e-5 * max(1e-3, np.abs(X[:, column]).max(initial=0.0))
            moved = X.copy()
            moved[:, column] += step
            up = self.queries(moved).outputs
            moved[:, column] -= 2 * step
            out[:, column] = ((up - self.queries(moved).outputs) * C).sum(axis=1) / (2 * step)
        return out

    # -- parameters ------------------------------------------------------------------------
    def public_parameters(self, delta):
        """Changes of parameters (b, n_params) in the units of the estimator's attributes."""
        return delta

    def read_parameters(self, estimator):
        """``θ`` of another fitted estimator of the same kind, shape (n_params,)."""
        raise NotImplementedError

    def with_noise(self, scale, rng):
        """This objective at parameters with normal noise of a relative ``scale``."""
        raise self._unperturbed("noise")

    def with_dropout(self, p, rng):
        """This objective without a share ``p`` of a net's units."""
        raise self._unperturbed("dropout")

    def _unperturbed(self, kind):
        return TypeError(
            f"perturbation={kind!r} is not known for {type(self).__name__}; use 'bootstrap', or "
            "pass estimators"
        )


class Queries:
    """Rows at which outputs are asked for, bound to an objective.

    Attributes
    ----------
    outputs : ndarray of shape (m, n_outputs)
        Outputs at ``θ̂``, float64.
    """

    outputs: np.ndarray

    def __len__(self):
        return len(self.outputs)

    def pullback(self, C):
        """``J_q' c_q`` for each query: ``C`` of shape (m, n_outputs) to (m, n_params)."""
        raise NotImplementedError

    def pullback_sum(self, C):
        """:meth:`pullback` summed over the queries: (n_params,)."""
        return self.pullback(C).sum(axis=0)

    def moved(self, effects, rows):
        """Change of the outputs when each row goes, by a method's effects: (m, b, n_outputs)."""
        return effects.outputs(self, rows)

    def joint_moved(self, effects, groups):
        """As :meth:`moved`, each group going jointly."""
        return effects.joint_outputs(self, groups)

    def changes(self, delta):
        """``outputs(θ̂ + δ) - outputs`` for ``delta`` of shape (b, n_params): (m, b, n_outputs)."""
        raise NotImplementedError

    def linear_changes(self, delta):
        """As :meth:`changes`, to first order where the two are told apart."""
        return self.changes(delta)

    def paired_changes(self, delta):
        """As :meth:`changes`, query ``i`` with ``delta[i]`` only: (m, n_outputs)."""
        raise NotImplementedError


def relative_noise(theta, groups, scale, rng):
    """``theta`` plus normal noise of ``scale`` times the root mean square of its group."""
    sums = np.bincount(groups, theta**2)
    sizes = np.sqrt(sums / np.maximum(np.bincount(groups), 1))
    return theta + scale * sizes[groups] * rng.standard_normal(len(theta))


@singledispatch
def objective_for(estimator, X, y, sample_weight=None):
    """The objective that a fitted estimator minimised on ``(X, y, sample_weight)``.

    Register another estimator with ``@objective_for.register(MyEstimator)`` on a function of
    the same four arguments that returns an :class:`Objective`.

    Parameters
    ----------
    estimator : fitted estimator
    X : ndarray or sparse of shape (n_samples, n_features)
        The rows it was fitted on.
    y : ndarray of shape (n_samples,) or (n_samples, n_targets)
    sample_weight : ndarray of shape (n_samples,), optional

    Returns
    -------
    Objective

    Raises
    ------
    TypeError
        If no objective is known for the estimator.
    """
    if is_net(estimator):
        from .nets import Net  # torch is imported no earlier than this

        return Net().build(estimator, X, y, sample_weight)
    known = sorted(
        cls.__name__
        for cls, function in objective_for.registry.items()
        if cls is not object and not getattr(function, "refuses", False)
    )
    raise TypeError(
        f"no objective is known for {type(estimator).__name__}; supported estimators: "
        f"{', '.join(known)}, and skorch's nets. Register one with "
        "skinfluence.objectives.objective_for.register"
    )


def is_net(estimator):
    """Whether an estimator is a skorch net, without importing skorch."""
    names = {(cls.__module__, cls.__name__) for cls in type(estimator).__mro__}
    return ("skorch.net", "NeuralNet") in names
