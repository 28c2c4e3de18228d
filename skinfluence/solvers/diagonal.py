"""The inverse of the curvature's diagonal."""

import numpy as np

from .damped import DampedSolver, check_curvature, curvature_operator, penalty_diagonal

KINDS = ("gauss_newton", "fisher", "empirical_fisher")


class Diagonal(DampedSolver):
    """``v_j / (C_jj + λ)``: parameters taken one at a time.

    Parameters
    ----------
    damping : float or "auto", default="auto"
        "auto" adds nothing where the penalty holds every parameter, else a tenth of the mean
        curvature.
    curvature : {"gauss_newton", "fisher", "empirical_fisher"}, default="gauss_newton"

    Attributes
    ----------
    diagonal_ : ndarray of shape (n_params,)
        Of the curvature, penalty included.
    report_ : dict
        ``damping``, ``iterations`` (0), ``residual``, ``smallest_curvature``.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceExplainer
    >>> from skinfluence.solvers import Diagonal
    >>> X, y = load_diabetes(return_X_y=True)
    >>> explainer = InfluenceExplainer(Ridge(), method="influence", solver=Diagonal())
    >>> explainer.fit(X, y).transform(X[:2], y[:2]).shape
    (2, 442)
    """

    needs_positive_diagonal = True

    inverts_curvature = False

    rough = True

    def __init__(self, damping="auto", *, curvature="gauss_newton"):
        self.damping = damping
        self.curvature = curvature

    def fit(self, objective):
        """The diagonal."""
        check_curvature(self.curvature, KINDS)
        self._start(objective)
        self._product = curvature_operator(objective, self.curvature)
        loss = curvature_diagonal(objective, self.curvature)
        self.diagonal_ = loss + penalty_diagonal(objective)
        self.report_ = {"iterations": 0}
        self._set_damping()
        return self

    def _set_damping(self):
        super()._set_damping()
        self._shifted = self.diagonal_ + self.damping_
        lowest = float(self._shifted.min())
        if lowest <= 0:
            raise ValueError(
                f"the curvature's diagonal has entry {lowest:.1e}: pass a positive damping"
            )
        self.report_ = self.report_ | {"smallest_curvature": lowest}

    def _solve(self, V):
        X = V / self._shifted[:, None]
        self._record_residual(V, X)
        return X

    def root(self, V):
        """``V`` over the square roots of the diagonal."""
        return self._checked(V) / np.sqrt(self._shifted)[:, None]

    def apply(self, V):
        """As ``solve``, of right sides as rows, a Tensor (m, n_params)."""
        return V / self._objective.to_torch(self._shifted)


def curvature_diagonal(objective, kind):
    """Diagonal of the loss's curvature, float64 (n_params,)."""
    if hasattr(objective, "parts"):
        return np.concatenate([curvature_diagonal(part, kind) for part in objective.parts])
    if hasattr(objective, "curvature_diagonal"):
        return objective.curvature_diagonal(kind)
    if kind != "gauss_newton":
        raise ValueError(
            f"curvature={kind!r} has no diagonal for {type(objective).__name__}; use 'gauss_newton'"
        )
    if hasattr(objective, "quadratic_blocks"):
        parts = [
            np.tile(_gram_diagonal(block.rows), block.repeats)
            for block in objective.quadratic_blocks()
        ]
        return np.concatenate(parts)
    return np.diag(objective.hessian()) - penalty_diagonal(objective)


def _gram_diagonal(rows):
    """Diagonal of ``B'B``, a few columns of ``B`` at a time."""
    from .._blocks import block_length, blocks

    probe = rows.tdot(np.zeros((rows.n_rows, 1)))
    out = np.empty(len(probe))
    for part in blocks(len(out), block_length(16 * rows.n_rows, share=1 / 8)):
        unit = np.zeros((len(out), part.stop - part.start))
        unit[np.arange(part.start, part.stop), np.arange(part.stop - part.start)] = 1.0
        out[part] = (rows.dot(unit) ** 2).sum(axis=0)
    return out
