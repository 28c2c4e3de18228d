"""Products with a net's curvature, its diagonal, and the columns that it is a sum of.

Imported only when a net comes in.
"""

import numpy as np
import torch

from .._blocks import block_length, blocks
from .net_queries import CHUNK_SHARE

KINDS = ("gauss_newton", "hessian", "fisher", "empirical_fisher")


class NetCurvature:
    """The curvature part of :class:`~skinfluence.objectives.neural.NeuralObjective`."""

    def hessian(self):
        """Dense Hessian, float64, by products with the identity."""
        H = self.curvature_product(np.eye(self.n_params), "hessian")
        return (H + H.T) / 2

    def hessian_product(self, V):
        """``∇²F V``."""
        return self.curvature_product(V, "hessian")

    def gauss_newton_product(self, V):
        """``(Σ w_i J_i' ∇²ℓ_i J_i + Λ) V``."""
        return self.curvature_product(V, "gauss_newton")

    def fisher_product(self, V):
        """Fisher information times ``V``; that of the penalty added."""
        return self.curvature_product(V, "fisher")

    def curvature_product(self, V, kind="gauss_newton", penalty=True, rows=None):
        """``C @ V``; see the module's docstring."""
        self.check_kind(kind)
        product = {"hessian": self._hessian_rows, "empirical_fisher": self._empirical_rows}
        product = product.get(kind, self._gauss_newton_rows)
        given = V
        V = self.to_torch(V).T  # (m, p): one right side a row
        out = torch.zeros_like(V)
        whole = V
        if self._moving is not None:  # reverse mode knows of padding, forward mode does not
            V = V * self._moving
        length = block_length(8 * (4 * self.n_params + self._width), share=CHUNK_SHARE, smallest=8)
        for part in blocks(len(V), length):
            for index in self.row_blocks(
                3 * self.dtype.itemsize * self._width * (part.stop - part.start), rows
            ):
                out[part] += product(index, V[part])
        if penalty:
            out += self.to_torch(self.penalty) * whole
        return out.T if isinstance(given, torch.Tensor) else self.to_numpy(out.T)

    def check_kind(self, kind):
        """Refuse a curvature this objective does not have."""
        if kind not in KINDS:
            raise ValueError(f"curvature={kind!r} is not one of {KINDS}")
        if kind == "fisher" and not self.loss.canonical:
            raise ValueError(
                "the Fisher information needs a loss that is a known likelihood of the outputs "
                "(cross-entropy, logistic, squared); use curvature='gauss_newton'"
            )

    def _weighted(self, rows):
        x, y = self.source.batch(rows)
        return x, y, self.to_torch(self.weights[rows])

    def _gauss_newton_rows(self, rows, V):
        x, y, weights = self._weighted(rows)

        def outputs(flat):
            return self.outputs_at(flat, x)

        with torch.no_grad():
            Z, pull = torch.func.vjp(outputs, self.flat)
            moved = self.push(x, V)
            moved = self.loss.product(Z, y, moved) * weights[:, None]
            return torch.func.vmap(lambda c: pull(c)[0])(moved)

    def _hessian_rows(self, rows, V):
        x, y, weights = self._weighted(rows)

        def total(flat):
            return weights @ self.loss.value(self.outputs_at(flat, x), y)

        gradient = torch.func.grad(total)
        with torch.no_grad():
            return torch.func.vmap(lambda v: torch.func.jvp(gradient, (self.flat,), (v,))[1])(V)

    def _empirical_rows(self, rows, V):
        out = torch.zeros_like(V)
        for index in self.gradient_blocks(rows):
            G = self.gradients(index) / self.to_torch(np.sqrt(self.weights[index]))[:, None]
            out += (V @ G.T) @ G
        return out

    def gradient_blocks(self, rows=None):
        """As :meth:`row_blocks`, for dense row gradients."""
        return self.row_blocks(2 * self.dtype.itemsize * self.n_params, rows)

    def curvature_diagonal(self, kind="gauss_newton"):
        """Diagonal of the curvature without the penalty, float64; of no Hessian."""
        self.check_kind(kind)
        if kind == "hessian":
            raise ValueError("the diagonal of a net's Hessian is not known; use 'gauss_newton'")
        total = np.zeros(self.n_params)
        for rows in self.gradient_blocks():
            if kind == "empirical_fisher":
                weight = self.to_torch(self.weights[rows])[:, None]
                total += self.to_numpy((self.gradients(rows) ** 2 / weight).sum(0))
                continue
            x, _, columns = self.curvature_columns(rows)
            for column in columns:
                total += self.to_numpy((self.pull(x, column) ** 2).sum(0))
        return total

    def curvature_trace(self, kind="gauss_newton"):
        """Sum of :meth:`curvature_diagonal`."""
        return float(self.curvature_diagonal(kind).sum())

    def curvature_columns(self, rows, n_samples=None, seed=0):
        """``(x, Z, columns)`` with ``Σ_k c_k c_k' = w_i ∇²ℓ_i``; random ones are unbiased."""
        x, y, weights = self._weighted(rows)
        with torch.no_grad():
            Z = self.outputs_at(self.flat, x)
        columns = self.loss.columns(Z, y) * weights.sqrt()[:, None]
        if n_samples is not None:
            draw = np.random.default_rng([seed, int(rows[0])]).standard_normal
            signs = self.to_torch(draw((n_samples, len(columns), len(rows))))
            columns = torch.einsum("skb,kbi->sbi", signs, columns) / n_samples**0.5
        return x, Z, columns
