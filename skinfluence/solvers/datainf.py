"""DataInf: the mean of the rows' inverses in place of the inverse of their mean."""

import warnings

import numpy as np

from .damped import (
    DampedSolver,
    curvature_operator,
    divide,
    gradient_blocks,
    layer_grids,
    parts_of,
    penalty_diagonal,
    resolve_damping,
    weighted_gradients,
)


class DataInf(DampedSolver):
    """Closed form of Kwon et al.: inverse and mean over rows are swapped, layer by layer.

    With ``W = Σ w_i`` and ``D`` the penalty plus damping of a layer, the empirical Fisher matrix
    ``Σ w_i g_i g_i' + D`` is the weighted mean of ``W g_i g_i' + D``; each of these has a closed
    inverse, and ``x`` is the weighted mean of ``(W g_i g_i' + D)⁻¹ v``. Exact for one row and
    for a damping that tends to infinity; else too large along the leading directions, the more so
    the larger the layer.

    All it does to ``D⁻¹ v`` is bounded by ``report_["departure"]``, at most 1: where the rows'
    gradients have vanished against ``D`` the solver is a plain dot product of gradients, and a
    warning says so.

    Parameters
    ----------
    damping : float or "auto", default="auto"
        Added to the penalty. "auto" adds nothing where the penalty holds every parameter, else a
        tenth of each layer's mean squared gradient, ``0.1 Σ w_i |g_i|² / p_layer``.

    Attributes
    ----------
    damping_ : float or list of float
        Of each layer where they differ.
    report_ : dict
        ``damping``, ``iterations`` (0), ``departure``, ``smallest_curvature`` (a lower bound: of
        ``D``), ``residual`` against the empirical Fisher matrix.

    References
    ----------
    Kwon, Y., Wu, E., Wu, K. and Zou, J. (2024). DataInf: efficiently estimating data influence
    in LoRA-tuned LLMs and diffusion models. ICLR. https://arxiv.org/abs/2310.00902

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.solvers import DataInf
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> explainer = InfluenceExplainer(LogisticRegression(), method="influence", solver=DataInf())
    >>> explainer.fit(scale(X), y).transform(scale(X)[:3], y[:3]).shape
    (3, 569)
    """

    inverts_curvature = False
    needs_positive_diagonal = True
    # Below this departure from D⁻¹v the result is a dot product of gradients for any purpose.
    collapsed = 0.01

    rough = True

    def __init__(self, damping="auto"):
        self.damping = damping

    def fit(self, objective):
        """Norms of the rows' gradients, layer by layer."""
        self._start(objective)
        self._product = curvature_operator(objective, "empirical_fisher")
        self._penalty = penalty_diagonal(objective)
        self._pieces = [
            (piece, layer_slices(part), *weighted_gradients(part))
            for piece, part in parts_of(objective)
        ]
        self._set_damping()
        return self

    def _set_damping(self):
        self.damping_ = self._resolve()
        lambdas = iter(np.broadcast_to(self.damping_, self._n_layers()))
        self._inverse, self._coefficients = [], []
        departure = 0.0
        for piece, layers, gradients, weights in self._pieces:
            D = self._penalty[piece].copy()
            for layer in layers:
                D[layer] += next(lambdas)
            sizes = self._row_sums(gradients, layers, 1 / D)  # g' D⁻¹ g, times w²
            left = weights[:, None] ** 2 + weights.sum() * sizes
            coefficients = divide(weights[:, None], left)
            departure = max(departure, float((coefficients * sizes).sum(axis=0).max(initial=0)))
            self._inverse.append(1 / D)
            self._coefficients.append(coefficients)
        self.report_ = self.report_ | {
            "damping": self.damping_,
            "iterations": 0,
            "departure": departure,
            "smallest_curvature": min(float(1 / part.max()) for part in self._inverse),
        }
        if departure < self.collapsed:
            warnings.warn(
                f"DataInf has collapsed to a dot product of gradients: the rows' own gradients "
                f"change its result by at most {departure:.1%}, because they have vanished at "
                "this fit. Use solver='cg' or 'ekfac', or a smaller damping.",
                UserWarning,
                stacklevel=4,
            )

    def _resolve(self):
        """One damping, or one a layer when it follows the layer's gradients."""
        if self.damping != "auto" or self._penalty.min() > 0:
            return resolve_damping(self.damping, self._objective, self._product, True, False)
        means = []
        for _, layers, gradients, weights in self._pieces:
            sizes = self._row_sums(gradients, layers, np.ones(gradients.shape[1]))
            totals = divide(1.0, weights) @ sizes
            means.extend(0.1 * totals / [len(layer) for layer in layers])
        if min(means) <= 0:
            raise ValueError(
                "the gradients of a layer are zero on every row: damping='auto' cannot be "
                "derived from them; pass a positive damping"
            )
        return float(means[0]) if len(means) == 1 else [float(mean) for mean in means]

    def _n_layers(self):
        return sum(len(layers) for _, layers, _, _ in self._pieces)

    def _row_sums(self, gradients, layers, scale):
        """``Σ_j scale_j G_ij²`` over each layer: (n, n_layers)."""
        out = np.empty((gradients.shape[0], len(layers)))
        for rows in gradient_blocks(gradients, 1):
            squares = gradients.block(rows).astype(np.float64) ** 2 * scale
            for k, layer in enumerate(layers):
                out[rows, k] = squares[:, layer].sum(axis=1)
        return out

    def _solve(self, V):
        X = np.empty_like(V)
        parts = zip(self._pieces, self._inverse, self._coefficients, strict=True)
        for (piece, layers, gradients, _), inverse, coefficients in parts:
            scaled = inverse[:, None] * V[piece]
            correction = np.zeros_like(scaled)
            for rows in gradient_blocks(gradients, V.shape[1]):
                G = gradients.block(rows).astype(np.float64, copy=False)
                for k, layer in enumerate(layers):
                    inner = coefficients[rows, k, None] * (G[:, layer] @ scaled[layer])
                    correction[layer] += G[:, layer].T @ inner
            X[piece] = scaled - inverse[:, None] * correction
        self._record_residual(V, X)
        return X

    def _record_residual(self, V, X):
        few = slice(0, 4)
        left = V[:, few] - self._product(X[:, few])
        lambdas = iter(np.broadcast_to(self.damping_, self._n_layers()))
        for piece, layers, _, _ in self._pieces:
            for layer in layers:
                left[piece][layer] -= next(lambdas) * X[piece][layer, few]
        norms = np.linalg.norm(V[:, few], axis=0)
        ratios = np.linalg.norm(left, axis=0) / np.where(norms > 0, norms, 1.0)
        self._record(residual=float(ratios.max(initial=0.0)))


def layer_slices(objective):
    """The parameters of each layer, as index arrays or slices; one for a model without layers."""
    return [grid.ravel() for grid in layer_grids(objective)]
