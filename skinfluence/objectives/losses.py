"""Losses of a linear predictor: value and derivatives with respect to the outputs.

A loss works on arrays ``Z`` of outputs of shape ``(..., K)`` and encoded targets ``y`` that
broadcast against the leading axes: ``(n,)`` of class index or value, ``(n, K)`` for several
regression outputs. ``scalar`` losses have the same second derivative for each output and none
across outputs, ``(...,)``; the others give a factor ``L`` with ``L L' = ∇²ℓ``.
"""

import numpy as np
from scipy.special import expit, logsumexp, softmax


class Loss:
    """Base class.

    Attributes
    ----------
    scalar : bool
        Whether the second derivative is one number for all outputs.
    smooth : bool
        Whether the second derivative is continuous.
    relative_bounds : tuple of three floats, or None
        Bounds on the third, fourth and fifth derivative in units of the second, where they
        exist. For coupled outputs the first says ``|∇³ℓ[v, v, u]| ≤ b range(u) ∇²ℓ[v, v]`` and
        the others are None. Certificates and Taylor expansions rest on them.
    """

    scalar = True
    smooth = True
    relative_bounds = None

    def value(self, Z, y):
        """Loss, shape ``Z.shape[:-1]``."""
        raise NotImplementedError

    def gradient(self, Z, y):
        """First derivative, shape of ``Z``."""
        raise NotImplementedError

    def curvature(self, Z, y):
        """Second derivative of a scalar loss, shape ``Z.shape[:-1]``."""
        raise NotImplementedError

    def third(self, Z, y):
        """Third derivative of a scalar loss, shape ``Z.shape[:-1]``."""
        raise NotImplementedError

    def fourth(self, Z, y):
        """Fourth derivative of a scalar loss, shape ``Z.shape[:-1]``."""
        raise NotImplementedError

    def target_slope(self, Z, y):
        """Derivative of :meth:`gradient` in the target, shape of ``Z``."""
        raise TypeError(f"{type(self).__name__} is not differentiated in its target")

    def third_product(self, Z, y, V):
        """``∇³ℓ`` contracted with ``V`` of shape (..., K, K): (..., K)."""
        return self.third(Z, y)[..., None] * np.einsum("...kk->...k", V)

    def change(self, Z, dZ, y):
        """``value(Z + dZ, y) - value(Z, y)``, without cancellation where a loss can avoid it."""
        return self.value(Z + dZ, y) - self.value(Z, y)

    def gradient_change(self, Z, dZ, y):
        """``gradient(Z + dZ, y) - gradient(Z, y)``, likewise."""
        return self.gradient(Z + dZ, y) - self.gradient(Z, y)


class SquaredLoss(Loss):
    """``(z - y)²`` summed over the outputs (scikit-learn's ridge has no ½)."""

    relative_bounds = (0.0, 0.0, 0.0)

    def value(self, Z, y):
        """Squared error."""
        return ((Z - _columns(y, Z)) ** 2).sum(axis=-1)

    def gradient(self, Z, y):
        """``2 (z - y)``."""
        return 2 * (Z - _columns(y, Z))

    def target_slope(self, Z, y):
        """Minus the curvature: a loss of residuals."""
        return np.broadcast_to(-self.curvature(Z, y)[..., None], Z.shape)

    def curvature(self, Z, y):
        """2."""
        return np.full(Z.shape[:-1], 2.0)

    def third(self, Z, y):
        """0."""
        return np.zeros(Z.shape[:-1])

    fourth = third

    def change(self, Z, dZ, y):
        """``dz (2 (z - y) + dz)``."""
        if Z.shape[-1] == 1:
            out = dZ + self.gradient(Z, y)
            out *= dZ
            return out[..., 0]
        return (dZ * (self.gradient(Z, y) + dZ)).sum(axis=-1)


class HalfSquaredLoss(SquaredLoss):
    """``½ (z - y)²`` summed over the outputs: lasso, elastic net, the normal deviance."""

    def value(self, Z, y):
        """Half the squared error."""
        return 0.5 * super().value(Z, y)

    def gradient(self, Z, y):
        """``z - y``."""
        return Z - _columns(y, Z)

    def curvature(self, Z, y):
        """1."""
        return np.ones(Z.shape[:-1])

    def change(self, Z, dZ, y):
        """``dz (z - y + dz / 2)``."""
        return (dZ * (self.gradient(Z, y) + 0.5 * dZ)).sum(axis=-1)

    def gradient_change(self, Z, dZ, y):
        """``dz``."""
        return dZ


class LogisticLoss(Loss):
    """``log(1 + exp(-(2y - 1) z))`` for ``y`` in {0, 1}, one output."""

    relative_bounds = (1.0, 1.0, 1.0)

    def value(self, Z, y):
        """Log-loss."""
        u = (1.0 - 2.0 * y) * Z[..., 0]
        return np.maximum(u, 0) + np.log1p(np.exp(-np.abs(u)))

    def gradient(self, Z, y):
        """``p - y``, exact in the tails."""
        sign = 1.0 - 2.0 * y
        with np.errstate(over="ignore"):  # then zero it is
            return (sign / (1 + np.exp(-sign * Z[..., 0])))[..., None]

    def curvature(self, Z, y):
        """``p (1 - p)``."""
        smaller = np.exp(-np.abs(Z[..., 0]))
        return smaller / (1 + smaller) ** 2

    def third(self, Z, y):
        """``p (1 - p) (1 - 2p)``."""
        return -self.curvature(Z, y) * np.tanh(Z[..., 0] / 2)

    def fourth(self, Z, y):
        """``p (1 - p) (1 - 6 p (1 - p))``."""
        h = self.curvature(Z, y)
        return h * (1 - 6 * h)

    def change(self, Z, dZ, y):
        """``log(1 + q (exp(u) - 1))`` with ``u`` the move against the label."""
        sign = np.where(y == 1, -1.0, 1.0)
        q = expit(sign * Z[..., 0]).astype(dZ.dtype, copy=False)
        u = dZ[..., 0] * sign.astype(dZ.dtype, copy=False)
        if u.max(initial=0.0) > 30:  # exp would overflow: q e^u dominates
            large = np.logaddexp(np.log1p(-q), u + np.log(q))
        else:
            large = None
        np.expm1(u, out=u)
        u *= q
        np.log1p(u, out=u)
        return u if large is None else np.where(np.isfinite(u), u, large)

    def gradient_change(self, Z, dZ, y):
        """``h E / (1 + p E)`` with ``E = exp(dz) - 1``."""
        if _largest(dZ) > 5:  # p E could cancel against 1
            return super().gradient_change(Z, dZ, y)
        out = np.expm1(dZ)
        lower = out * expit(Z)
        lower += 1
        out *= self.curvature(Z, y)[..., None]
        out /= lower
        return out


class OnSigns(Loss):
    """A loss of targets in {-1, 1}, given class indices in {0, 1}."""

    def __init__(self, loss):
        self.loss = loss
        self.smooth = loss.smooth
        self.relative_bounds = loss.relative_bounds

    def value(self, Z, y):
        """Value."""
        return self.loss.value(Z, _signs(y))

    def gradient(self, Z, y):
        """First derivative."""
        return self.loss.gradient(Z, _signs(y))

    def curvature(self, Z, y):
        """Second derivative."""
        return self.loss.curvature(Z, _signs(y))

    def third(self, Z, y):
        """Third derivative."""
        return self.loss.third(Z, _signs(y))

    def fourth(self, Z, y):
        """Fourth derivative."""
        return self.loss.fourth(Z, _signs(y))

    def kinks(self, y):
        """Kinks of a piecewise linear loss."""
        return self.loss.kinks(_signs(y))

    def change(self, Z, dZ, y):
        """Change of the value."""
        return self.loss.change(Z, dZ, _signs(y))

    def gradient_change(self, Z, dZ, y):
        """Change of the first derivative."""
        return self.loss.gradient_change(Z, dZ, _signs(y))


class MultinomialLoss(Loss):
    """Cross-entropy of the softmax over ``K`` outputs, ``y`` a class index."""

    scalar = False
    shift_free = True  # a common shift of the outputs changes nothing
    relative_bounds = (1.0, None, None)

    def value(self, Z, y):
        """Log-loss."""
        return logsumexp(Z, axis=-1) - _take(Z, y)

    def gradient(self, Z, y):
        """``p - onehot(y)``; the label's own entry as minus the sum of the others."""
        P = softmax(Z, axis=-1)
        index = np.broadcast_to(np.asarray(y), Z.shape[:-1])[..., None]
        np.put_along_axis(P, index, 0.0, axis=-1)
        np.put_along_axis(P, index, -P.sum(axis=-1, keepdims=True), axis=-1)
        return P

    def gradient_change(self, Z, dZ, y):
        """``p (E - m) / (1 + m)`` with ``E = exp(dz) - 1`` and ``m = p'E``."""
        if _largest(dZ) > 5:  # m could cancel against 1
            return super().gradient_change(Z, dZ, y)
        P = softmax(Z, axis=-1)
        out = np.expm1(dZ)
        mean = np.einsum("...k,...k->...", out, np.broadcast_to(P, out.shape))[..., None]
        out -= mean
        mean += 1
        out /= mean
        out *= P
        return out

    def curvature_matrix(self, Z, y):
        """``diag(p) - p p'``, shape (..., K, K)."""
        P = softmax(Z, axis=-1)
        out = -P[..., :, None] * P[..., None, :]
        k = np.arange(P.shape[-1])
        out[..., k, k] += P
        return out

    def curvature_column(self, Z, y, k):
        """Column ``k`` of :meth:`curvature_matrix`, shape (n, K)."""
        P = softmax(Z, axis=-1)
        own = P[:, k] * (1 - P[:, k])
        out = -P * P[:, [k]]
        out[:, k] = own
        return out

    def curvature_factor(self, Z, y):
        """``diag(√p) - p √p'``: times its transpose it is the curvature matrix."""
        P = softmax(Z, axis=-1)
        root = np.sqrt(P)
        out = -P[..., :, None] * root[..., None, :]
        k = np.arange(P.shape[-1])
        out[..., k, k] += root
        return out

    def third_product(self, Z, y, V):
        """Third central moment of the one-hot label, contracted: ``p_a (q_a - Σ_b p_b q_b)``."""
        P = softmax(Z, axis=-1)
        VP = (V @ P[..., None])[..., 0]
        q = np.einsum("...kk->...k", V) - 2 * VP + (P * VP).sum(axis=-1, keepdims=True)
        return P * (q - (P * q).sum(axis=-1, keepdims=True))


def _largest(values):
    return max(values.max(initial=0.0), -values.min(initial=0.0))


def _signs(y):
    return 2.0 * np.asarray(y) - 1.0


def _columns(y, Z):
    """Targets in the shape of the outputs: a single output has no axis of its own in ``y``."""
    y = np.asarray(y)
    return y[..., None] if Z.shape[-1] == 1 else y


def _take(Z, y):
    index = np.broadcast_to(np.asarray(y), Z.shape[:-1])[..., None]
    return np.take_along_axis(Z, index, axis=-1)[..., 0]
