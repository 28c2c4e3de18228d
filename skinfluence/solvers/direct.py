"""Exact solves by a dense factorisation."""

import numpy as np

from .base import Solver
from .factor import PrimalFactor, solve_repeated


class Direct(Solver):
    """Exact ``H⁻¹ v``: Cholesky of the Hessian, or Woodbury when rows are fewer than parameters.

    Attributes
    ----------
    report_ : dict
        ``form`` ("primal", "dual" or "pseudo-inverse") of each diagonal block of the Hessian.

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
        names = {"PrimalFactor": "primal", "DualFactor": "dual", "PseudoFactor": "pseudo-inverse"}
        self.report_ = {"form": [names[type(factor).__name__] for factor in self.factors_]}
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

    def smallest_eigenvalue(self):
        """Smallest eigenvalue and condition number of the Hessian, known gauges left out."""
        low, high = np.inf, 0.0
        for block, factor in zip(self.blocks_, self.factors_, strict=True):
            if not isinstance(factor, PrimalFactor):
                low = min(low, float(block.penalty.min()))  # a lower bound: B'B only adds
            values = np.linalg.eigvalsh(block.matrix()) if isinstance(factor, PrimalFactor) else []
            skip = 0 if block.gauge is None else block.gauge.shape[1]
            if len(values):
                low, high = min(low, float(values[skip])), max(high, float(values[-1]))
        return low, high / low if low > 0 else np.inf
