"""Row gradients and queries of a net, in blocks. Imported only when a net comes in."""

import numpy as np
import torch

from .._blocks import block_length, blocks
from ..gradients import Rows
from .base import Queries

# Share of scikit-learn's working memory (1 GiB by default) that one chunk of a pass may take.
CHUNK_SHARE = 1 / 24


class NeuralRows(Rows):
    """``w_i ∇ℓ_i + (share of the penalty) ∇R`` (and ``-∇F`` with ``residual``)."""

    def __init__(self, objective, plain=False):
        self.objective = objective
        self.shape = (objective.n_rows, objective.n_params)
        rho = objective.rule.first_order(np.arange(objective.n_rows))[1]
        self._share = np.where(objective.weights > 0, 0.0 if plain else -rho, 0.0)
        self._pulled = objective.to_torch(objective.penalty_gradient)
        self._common = None
        if objective.common_gradient is not None and not plain:
            self._common = objective.to_torch(objective.common_gradient)

    def tensor(self, rows):
        """Dense rows on the device."""
        objective = self.objective
        rows = np.arange(self.shape[0])[rows]
        if objective.weights[rows].all():
            return self._blocks(rows)
        used = np.flatnonzero(objective.weights[rows])
        out = torch.zeros(
            len(rows), self.shape[1], dtype=objective.torch_dtype, device=objective.device
        )
        if len(used):
            out[torch.as_tensor(used, device=objective.device)] = self._blocks(rows[used])
        return out

    def _blocks(self, rows):
        objective = self.objective
        per_row = objective.dtype.itemsize * self.shape[1]
        parts = []
        for index in objective.row_blocks(per_row, rows):
            part = objective.gradients(index)
            if self._share.any():
                share = objective.to_torch(self._share[index])
                part.addr_(share, self._pulled)
            if self._common is not None:
                part += self._common
            parts.append(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def block(self, rows):
        """Dense rows in the objective's dtype."""
        return self.tensor(rows).cpu().numpy()


class NeuralQueries(Queries):
    """Queries of a net."""

    def __init__(self, objective, X, outputs=None):
        self.objective, self.X = objective, X
        if outputs is None:
            outputs = np.empty((X.shape[0], objective.n_outputs))
            for rows in objective.row_blocks(rows=np.arange(X.shape[0])):
                with torch.no_grad():
                    Z = objective.outputs_at(objective.flat, self._inputs(rows))
                outputs[rows] = objective.to_numpy(Z)
        self.outputs = outputs

    def _inputs(self, rows):
        return self.objective.source.inputs(self.X[rows])

    def pullback(self, C):
        """``J_q' c_q`` in the objective's dtype."""
        objective = self.objective
        C = objective.to_torch(C)
        out = np.empty((len(self), objective.n_params), objective.dtype)
        for rows in objective.gradient_blocks(np.arange(len(self))):
            where = torch.as_tensor(rows, device=objective.device)
            out[rows] = objective.pull(self._inputs(rows), C[where]).cpu().numpy()
        return out

    def changes(self, delta):
        """Outputs at the moved parameters less those at the fit, in float64."""
        objective = self.objective
        out = np.empty((len(self), len(delta), objective.n_outputs))
        moved = self._moved(delta)
        per_row = 4 * 8 * objective._width
        length = block_length(16 * objective.n_params + per_row, share=CHUNK_SHARE)
        for part in blocks(len(delta), length):
            inner = per_row * (part.stop - part.start)
            for rows in objective.row_blocks(inner, np.arange(len(self))):
                x = _double(self._inputs(rows))
                with torch.no_grad():
                    fitted = self._outputs64(self._flat64, x)
                    Z = torch.func.vmap(lambda flat, x=x: self._outputs64(flat, x))(moved[part])
                out[rows, part] = objective.to_numpy((Z - fitted).transpose(0, 1))
        return out

    def paired_changes(self, delta):
        """Query ``i`` at its own moved parameters only."""
        objective = self.objective
        out = np.empty((len(self), objective.n_outputs))
        moved = self._moved(delta)
        for rows in objective.row_blocks(32 * objective.n_params, np.arange(len(self))):
            x = _double(self._inputs(rows))
            where = torch.as_tensor(rows, device=objective.device)
            with torch.no_grad():
                fitted = self._outputs64(self._flat64, x)
                Z = torch.func.vmap(lambda flat, row: self._outputs64(flat, lift(row))[0])(
                    moved[where], x
                )
            out[rows] = objective.to_numpy(Z - fitted)
        return out

    def _moved(self, delta):
        delta = torch.as_tensor(delta, dtype=torch.float64, device=self.objective.device)
        return self._flat64 + delta

    @property
    def _flat64(self):
        return self.objective.flat.double()

    def _outputs64(self, flat, x):
        """Outputs in float64 whatever the module's dtype: differences of outputs are small."""
        objective = self.objective
        return objective.source.outputs(_double(objective.state(flat)), x)


def _double(x):
    if isinstance(x, dict):
        return {name: _double(part) for name, part in x.items()}
    if isinstance(x, list | tuple):
        return [_double(part) for part in x]
    return x.double() if x.dtype.is_floating_point else x


def lift(x):
    """A row as a batch of one."""
    if isinstance(x, dict):
        return {name: part[None] for name, part in x.items()}
    return [part[None] for part in x] if isinstance(x, list | tuple) else x[None]
