"""Exact solves by a dense factorisation."""

import numpy as np

from .base import Solver
from .factor import solve_repeated


class Direct(Solver):
    """Exact ``H⁻¹ v``: Cholesky of the Hessian, or Woodbury when rows are fewer than parameters.

    Attributes
    ----------
    report_ : dict
        ``form`` ("primal", "dual", "pseudo-inverse", "active set" or "pinned rows") of each
        diagonal block of the Hessian.
    smallest_eigenvalue_, condition_number_ : float
        Of the Hessian, computed when asked for.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.solvers import Direct
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> InfluenceExplainer(Ridge(), solver=Direct()).fit(X, y).solver_.report_
    {'form': ['primal']}
    """

    def fit(self, objective):
        """Factorise the Hessian of ``objective`` at its minimum."""
        if not hasattr(objective, "quadratic_blocks"):
            raise TypeError(
                f"solver 'direct' needs an objective with explicit quadratic blocks; "
                f"{type(objective).__name__} has none. Use solver='cg'"
            )
        self.blocks_ = objective.quadratic_blocks()
        self.factors_ = objective.factorise_blocks(self.blocks_)
        self.report_ = {"form": [factor.form for factor in self.factors_]}
        return self

    def solve(self, V):
        """``H⁻¹ V``."""
        out, start = np.empty(V.shape), 0
        for block, factor in zip(self.blocks_, self.factors_, strict=True):
            stop = start + block.size * block.repeats
            out[start:stop] = solve_repeated(factor, V[start:stop], block.repeats)
            start = stop
        return out

    def inverses(self):
        """Explicit ``H⁻¹`` of each diagonal block, where the block was factorised as such."""
        if not hasattr(self, "_inverses"):
            self._inverses = [
                factor.inverse() if hasattr(factor, "inverse") else None for factor in self.factors_
            ]
        return self._inverses

    @property
    def smallest_eigenvalue_(self):
        """Smallest eigenvalue of the Hessian, known gauges left out."""
        return self._extremes()[0]

    @property
    def condition_number_(self):
        """Largest over smallest eigenvalue of the Hessian, known gauges left out."""
        low, high = self._extremes()
        return high / low if low > 0 else np.inf

    def _extremes(self):
        if not hasattr(self, "_range"):
            pairs = zip(self.blocks_, self.factors_, strict=True)
            # under an L1 penalty the active parameters alone count
            ranges = [_eigenvalue_range(block, getattr(f, "index", None)) for block, f in pairs]
            self._range = min(low for low, _ in ranges), max(high for _, high in ranges)
        return self._range


def _eigenvalue_range(block, index=None):
    """Smallest and largest eigenvalue of a block; in dual form from the small matrix.

    With fewer curvature rows than parameters and one penalty for all, the smallest eigenvalue is
    that penalty; otherwise the dense block decides.
    """
    if index is not None:
        values = np.linalg.eigvalsh(block.matrix()[np.ix_(index, index)])
        return float(values[0]), float(values[-1])
    even = (block.penalty == block.penalty[0]).all()
    if not block.primal and even:
        kernel = block.rows.kernel(np.ones(block.size))
        return float(block.penalty[0]), float(np.linalg.eigvalsh(kernel)[-1] + block.penalty[0])
    values = np.linalg.eigvalsh(block.matrix())
    gauges = 0 if block.gauge is None else block.gauge.shape[1]
    return float(values[gauges]), float(values[-1])
