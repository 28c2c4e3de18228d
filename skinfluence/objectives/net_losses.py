"""Losses of a net's outputs in torch: value, slope and curvature with respect to the outputs.

Outputs ``Z`` have shape ``(b, K)``, targets ``y`` are what the net's own ``get_loss`` takes.
``columns`` gives ``L`` with ``L L' = ∇²ℓ``, one column at a time: with it the curvature of any
loss is a sum of outer products. ``residual_column`` is the one of them along the slope ``r``,
``r / √(r' (∇²ℓ)⁺ r)``, whatever its sign. Imported only when a net comes in.
"""

import torch

TINY = 1e-30  # keeps a quotient of zeros at zero, in single precision too


class SoftmaxLoss:
    """Cross-entropy of the softmax of the outputs."""

    canonical = True
    shift_invariant = True

    def value(self, Z, y):
        """Losses, (b,)."""
        return torch.nn.functional.cross_entropy(Z, y, reduction="none")

    def gradient(self, Z, y):
        """``p - onehot(y)``; the label's own entry as minus the sum of the others."""
        P = Z.softmax(-1).scatter(1, y[:, None], 0.0)
        return P.scatter(1, y[:, None], -P.sum(1, keepdim=True))

    def product(self, Z, y, U):
        """``∇²ℓ u`` for ``U`` of shape (..., b, K)."""
        P = Z.softmax(-1)
        U = P * U
        return U - P * U.sum(-1, keepdim=True)

    def columns(self, Z, y):
        """``√p_k (e_k - p)``: (K, b, K)."""
        P = Z.softmax(-1)
        root = P.sqrt()
        return torch.diag_embed(root).permute(1, 0, 2) - root.T[:, :, None] * P

    def residual_column(self, Z, y):
        """``r √(p_y / (1 - p_y))``."""
        slope = self.gradient(Z, y)
        missed = -slope.gather(1, y[:, None])
        return slope * ((1 - missed).clamp_min(0) / missed.clamp_min(TINY)).sqrt()


class LogisticLoss:
    """Log-loss of one output, ``y`` in {0, 1}."""

    canonical = True
    shift_invariant = False

    def value(self, Z, y):
        """Losses, (b,)."""
        sign = 1 - 2 * y.reshape(-1).to(Z.dtype)
        return torch.nn.functional.softplus(sign * Z[:, 0])

    def gradient(self, Z, y):
        """``p - y``, exact in the tails."""
        sign = 1 - 2 * y.reshape(-1).to(Z.dtype)
        return (sign * torch.sigmoid(sign * Z[:, 0]))[:, None]

    def product(self, Z, y, U):
        """``p (1 - p) u``."""
        return torch.sigmoid(Z) * torch.sigmoid(-Z) * U

    def columns(self, Z, y):
        """``√(p (1 - p))``."""
        return (torch.sigmoid(Z) * torch.sigmoid(-Z)).sqrt()[None]

    def residual_column(self, Z, y):
        """The only one."""
        return self.columns(Z, y)[0]


class SquaredLoss:
    """``scale · ‖z - y‖²``."""

    canonical = True
    shift_invariant = False

    def __init__(self, scale=1.0):
        self.scale = scale

    def value(self, Z, y):
        """Losses, (b,)."""
        return self.scale * ((Z - y.reshape(Z.shape)) ** 2).sum(-1)

    def gradient(self, Z, y):
        """``2 scale (z - y)``."""
        return 2 * self.scale * (Z - y.reshape(Z.shape))

    def product(self, Z, y, U):
        """``2 scale u``."""
        return 2 * self.scale * U

    def columns(self, Z, y):
        """``√(2 scale) e_k``."""
        K = Z.shape[1]
        eye = torch.eye(K, dtype=Z.dtype, device=Z.device) * (2 * self.scale) ** 0.5
        return eye[:, None, :].expand(K, len(Z), K)

    def residual_column(self, Z, y):
        """``√(2 scale) r / ‖r‖``; any of them where the residual is zero."""
        slope = self.gradient(Z, y)
        slope = torch.where(slope.abs().sum(1, keepdim=True) > 0, slope, 1.0)
        return (2 * self.scale) ** 0.5 * torch.nn.functional.normalize(slope, eps=TINY)


class CustomLoss:
    """Any loss, through the net's own ``get_loss``; negative curvature in the outputs is cut off.

    Parameters
    ----------
    rows : callable
        ``rows(Z, y)`` gives the losses (b,), differentiable in ``Z``.
    """

    canonical = False
    shift_invariant = False

    def __init__(self, rows):
        self.rows = rows

    def value(self, Z, y):
        """Losses, (b,)."""
        return self.rows(Z, y)

    def gradient(self, Z, y):
        """By autograd; rows do not share outputs, so the gradient of the sum has them all."""
        with torch.enable_grad():
            Z = Z.detach().requires_grad_()
            return torch.autograd.grad(self.rows(Z, y).sum(), Z)[0]

    def columns(self, Z, y):
        """Scaled eigenvectors of the positive part of ``∇²ℓ``."""
        values, vectors = torch.linalg.eigh(self._hessian(Z, y))
        return (vectors * values.clamp_min(0).sqrt()[:, None, :]).permute(2, 0, 1)

    def residual_column(self, Z, y):
        """Along the part of the slope that has curvature."""
        values, vectors = torch.linalg.eigh(self._hessian(Z, y))
        curved = values > 1e-6 * values[:, -1:].clamp_min(TINY)
        inner = torch.einsum("bik,bi->bk", vectors, self.gradient(Z, y)) * curved
        size = (inner**2 / torch.where(curved, values, 1.0)).sum(1, keepdim=True)
        return torch.einsum("bik,bk->bi", vectors, inner) / size.clamp_min(TINY).sqrt()

    def product(self, Z, y, U):
        """``(∇²ℓ)₊ u``."""
        L = self.columns(Z, y)
        return torch.einsum("kbi,...bk->...bi", L, torch.einsum("kbi,...bi->...bk", L, U))

    def _hessian(self, Z, y):
        out = []
        with torch.enable_grad():
            Z = Z.detach().requires_grad_()
            slope = torch.autograd.grad(self.rows(Z, y).sum(), Z, create_graph=True)[0]
            for k in range(Z.shape[1]):
                if not slope.requires_grad:
                    return Z.new_zeros(len(Z), Z.shape[1], Z.shape[1])
                row = torch.autograd.grad(
                    slope[:, k].sum(), Z, retain_graph=True, allow_unused=True
                )[0]
                out.append(torch.zeros_like(Z) if row is None else row)
        H = torch.stack(out, 1)
        return (H + H.transpose(1, 2)) / 2
