"""Dense factorisations of a net's curvature: primal (p × p), or dual over rows and outputs."""

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from .._blocks import block_length, blocks
from .._memory import check_memory
from .._out import empty
from .factor import PrimalFactor, inner_root
from .kronecker import layer_blocks

CG = "Use solver='cg', which forms no such matrix, or 'ekfac'"


class PrimalNet:
    """The dense curvature of a net; kept, and factorised anew for each damping."""

    form = "primal"

    def __init__(self, objective, kind):
        self.kind = kind
        if kind == "hessian":
            p = objective.n_params
            check_memory(24 * p**2, f"a Hessian of {p} by {p} and its eigenvectors", CG)
            self.matrix = objective.hessian()
            return
        self.matrix = empty(2 * (objective.n_params,), np.float64, "parameters by parameters", CG)
        self.matrix[:] = 0.0
        for rows in objective.gradient_blocks():
            x, columns = root_columns(objective, kind, rows)
            for column in columns:
                part = objective.to_numpy(objective.pull(x, column))
                self.matrix += part.T @ part
        self.matrix[np.diag_indices_from(self.matrix)] += objective.penalty

    def factorise(self, damping):
        """Prepare for right sides; returns what to report."""
        if self.kind == "hessian":  # it may be indefinite, and only its eigenvalues say so
            if not hasattr(self, "_eigen"):
                self._eigen = np.linalg.eigh(self.matrix)
            shifted = self._eigen[0] + damping
            if np.abs(shifted).min() <= 1e-14 * np.abs(shifted).max():
                raise ValueError(
                    f"the Hessian is singular at damping={damping:.3g}; pass another damping"
                )
            self._shifted = shifted
            return {
                "smallest_curvature": float(shifted[0]),
                "n_negative": int((shifted < 0).sum()),
            }
        matrix = self.matrix.copy()
        matrix[np.diag_indices_from(matrix)] += damping
        try:
            self._factor = PrimalFactor(matrix)
        except LinAlgError as error:
            raise ValueError(
                f"{error}, at damping={damping:.3g}; pass a positive damping, or train with "
                "weight_decay"
            ) from error
        return {"smallest_curvature": float(np.linalg.eigvalsh(matrix)[0])}

    def solve(self, V):
        """Solve for the columns of ``V``."""
        if self.kind == "hessian":
            vectors = self._eigen[1]
            return vectors @ ((vectors.T @ V) / self._shifted[:, None])
        return self._factor.solve(V)

    def root(self, V):
        """``R' V`` with ``R R'`` the inverse."""
        if self.kind != "hessian":
            return self._factor.root(V)
        if self._shifted[0] < 0:
            raise ValueError(
                f"the Hessian has eigenvalue {self._shifted[0]:.1e}, so its inverse has no square "
                "root; use curvature='gauss_newton', or a larger damping"
            )
        return (self._eigen[1].T @ V) / np.sqrt(self._shifted)[:, None]


class DualNet:
    """Woodbury over the curvature's own rows, ``K`` a training row, when these are few.

    ``C = D + B'B`` with ``D`` penalty and damping. Rows of ``B`` that do not matter (those of
    saturated predictions) are left out as long as the trace of their part of ``B D⁻¹ B'`` stays
    below ``drop``, which bounds the relative error of the inverse.
    """

    form = "dual"

    def __init__(self, objective, kind, drop):
        self.objective, self.drop = objective, drop
        self.all = outer_rows(objective, kind) or StoredRows(objective, kind)

    def factorise(self, damping):
        """Prepare for right sides; returns what to report."""
        objective = self.objective
        diagonal = objective.penalty + damping
        if diagonal.min() <= 0:
            raise ValueError(
                "the dual form divides by penalty + damping, which vanishes for some parameters; "
                "pass a positive damping, or train with weight_decay"
            )
        self._inverse = objective.to_torch(1 / diagonal)
        traces = self.all.traces(self._inverse)
        order = np.argsort(traces, kind="stable")
        kept = np.sort(order[np.cumsum(traces[order]) > self.drop])
        self._rows = self.all.select(kept)
        N = len(kept)
        check_memory(24 * N**2, f"a kernel of {N} by {N} curvature rows and its factor", CG)
        kernel = self._rows.kernel(self._inverse)
        kernel[np.diag_indices_from(kernel)] += 1
        self._cholesky = cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False)
        return {
            "rows": len(kept),
            "dropped_trace": float(traces.sum() - traces[kept].sum()),
            "smallest_curvature": float(diagonal.min()),
        }

    def solve(self, V):
        """Solve for the columns of ``V``."""
        objective = self.objective
        out = np.empty(V.shape, order="F")
        for part in blocks(V.shape[1], block_length(64 * len(V), share=1 / 32, smallest=8)):
            scaled = objective.to_torch(V[:, part].T) * self._inverse
            inner = objective.to_numpy(self._rows.dot(scaled))
            inner = cho_solve(self._cholesky, inner, check_finite=False)
            moved = self._rows.tdot(objective.to_torch(inner)) * self._inverse
            out[:, part] = objective.to_numpy(scaled - moved).T
        return out

    def root(self, V):
        """``R' V`` with ``R R'`` the inverse."""
        objective = self.objective
        within = inner_root(self._rows.kernel(self._inverse))
        out = np.empty(V.shape, order="F")
        for part in blocks(V.shape[1], block_length(64 * len(V), share=1 / 32, smallest=8)):
            right = objective.to_torch(V[:, part].T)
            inner = within @ objective.to_numpy(self._rows.dot(right * self._inverse))
            moved = right + self._rows.tdot(objective.to_torch(inner))
            out[:, part] = objective.to_numpy(moved * self._inverse.sqrt()).T
        return out


class StoredRows:
    """``B`` as an array (N, p)."""

    def __init__(self, objective, kind=None, array=None):
        self.objective, self.array = objective, array
        if array is not None:
            return
        import torch

        N, p = np.count_nonzero(objective.weights) * objective.n_outputs, objective.n_params
        n_bytes = 2 * N * p * objective.dtype.itemsize
        check_memory(n_bytes, f"{N} curvature rows of {p} parameters, twice,", CG)
        parts = []
        for rows in objective.gradient_blocks():
            x, columns = root_columns(objective, kind, rows)
            parts += [objective.pull(x, column) for column in columns]
        self.array = torch.cat(parts)

    def traces(self, inverse):
        """Diagonal of ``B D⁻¹ B'``."""
        return self.objective.to_numpy(self.array**2 @ inverse)

    def select(self, index):
        """Some of the rows."""
        return StoredRows(self.objective, array=self.array[index])

    def kernel(self, inverse):
        """``B D⁻¹ B'``, float64."""
        return self.objective.to_numpy((self.array * inverse) @ self.array.T)

    def dot(self, V):
        """``B V'`` for ``V`` (m, p)."""
        return self.array @ V.T

    def tdot(self, U):
        """``U' B``."""
        return U.T @ self.array


class OuterRows:
    """``B`` of a net of plain dense layers: a row is ``δ ⊗ a`` in each layer, and stays so.

    The kernel is a sum over layers of products of two small Gram matrices.
    """

    def __init__(self, objective, layers, row):
        self.objective, self.layers, self.row = objective, layers, row

    def traces(self, inverse):
        """Diagonal of ``B D⁻¹ B'``."""
        total = 0
        for block, a, delta in self.layers:
            scale = block.join(inverse[None])[0]
            total = total + (((delta**2) @ scale) * (a**2)[self.row]).sum(1)
        return self.objective.to_numpy(total)

    def select(self, index):
        """Some of the rows."""
        layers = [(block, a, delta[index]) for block, a, delta in self.layers]
        return OuterRows(self.objective, layers, self.row[index])

    def kernel(self, inverse):
        """``B D⁻¹ B'``, float64: within a layer ``D`` depends on the input only."""
        N = len(self.row)
        out = np.zeros((N, N))
        length = block_length(24 * N, share=1 / 32)
        for block, a, delta in self.layers:
            scaled = a * block.join(inverse[None])[0, 0]
            for part in blocks(N, length):
                inputs = (scaled[self.row[part]] @ a.T)[:, self.row]
                out[part] += self.objective.to_numpy(inputs * (delta[part] @ delta.T))
        return out

    def dot(self, V):
        """``B V'`` for ``V`` (m, p)."""
        import torch

        total = torch.zeros(len(self.row), len(V), dtype=V.dtype, device=V.device)
        for part in self._pieces(len(V)):
            row = self.row[part]
            for block, a, delta in self.layers:
                W = block.join(V)
                for k in range(len(V)):
                    total[part, k] += ((delta[part] @ W[k]) * a[row]).sum(1)
        return total

    def tdot(self, U):
        """``U' B``."""
        import torch

        p = self.objective.n_params
        out = torch.zeros(U.shape[1], p, dtype=U.dtype, device=U.device)
        for block, a, delta in self.layers:
            a = a[self.row]
            parts = [delta.T @ (a * U[:, [k]]) for k in range(U.shape[1])]
            block.split(torch.stack(parts), out)
        return out

    def _pieces(self, m):
        width = max(block.d_in for block, _, _ in self.layers)
        return blocks(len(self.row), block_length(32 * width, share=1 / 64))


def outer_rows(objective, kind):
    """:class:`OuterRows`, or None where the net has other than plain dense layers used once."""
    import torch

    layers = layer_blocks(objective)
    if objective.uncovered or len(layers) < len(objective.layers()):
        return None
    kept = [([], []) for _ in layers]
    first, indices = 0, []
    for rows in objective.row_blocks(8 * objective.n_outputs * objective._width):
        x, columns = root_columns(objective, kind, rows)
        passes = list(objective.layer_pass(x, columns))
        if [id(p[0]) for p in passes] != [id(block.layer) for block in layers]:
            return None
        if any(a.shape[1] > 1 for _, a, _ in passes):
            return None
        for (_, a, delta), block, (inputs, deltas) in zip(passes, layers, kept, strict=True):
            inputs.append(block.inputs(a)[:, 0])
            deltas.append(delta[:, :, 0].reshape(-1, block.d_out))
        position = torch.arange(first, first + len(rows), device=objective.device)
        indices.append(position.repeat(len(columns)))
        first += len(rows)
    layers = [
        (block, torch.cat(inputs), torch.cat(deltas))
        for block, (inputs, deltas) in zip(layers, kept, strict=True)
    ]
    return OuterRows(objective, layers, torch.cat(indices))


def root_columns(objective, kind, rows):
    """``(x, columns)`` with ``Σ_k (J'c_k)(J'c_k)'`` the curvature ``kind`` of these rows.

    Columns are orthogonal at each row, largest first: of a saturated prediction all but one
    are next to nothing.
    """
    import torch

    if kind == "empirical_fisher":
        x, _ = objective.source.batch(rows)
        scale = objective.to_torch(objective.weights[rows]).sqrt()[:, None]
        return x, (objective.slopes[rows] / scale)[None]
    x, _, columns = objective.curvature_columns(rows)
    if columns.shape[0] == 1:
        return x, columns
    left, singular, _ = torch.linalg.svd(columns.permute(1, 2, 0))
    return x, (left * singular[:, None, : left.shape[2]]).permute(2, 0, 1)
