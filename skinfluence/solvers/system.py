"""Exact solves with the system that an objective itself factorises."""

import numpy as np

from .base import Solver


class System(Solver):
    """Solve with the objective's own linear system.

    Kernel machines are stationary in a bordered kernel system rather than a Hessian, and
    Gaussian classifiers are closed forms of moments: such an objective brings its own solve.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from sklearn.svm import SVC
    >>> from skinfluence import InfluenceExplainer
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> explainer = InfluenceExplainer(SVC(gamma="auto"), method="influence", solver="system")
    >>> explainer.fit(scale(X), y).solver_.report_
    {'form': ['FreeSystem']}
    """

    def fit(self, objective):
        """Factorise the system of ``objective``, or of each of its parts."""
        parts = getattr(objective, "parts", [objective])
        for part in parts:
            if not hasattr(part, "factorise_system"):
                raise TypeError(
                    f"solver 'system' needs an objective with a system of its own; "
                    f"{type(part).__name__} has none. Use solver='direct'"
                )
        self.sizes_ = [part.n_params for part in parts]
        self.systems_ = [part.factorise_system() for part in parts]
        names = ["none" if s is None else type(s).__name__ for s in self.systems_]
        self.report_ = {"form": names}
        return self

    def solve(self, V):
        """Part by part."""
        out, start = np.empty(V.shape), 0
        for size, system in zip(self.sizes_, self.systems_, strict=True):
            out[start : start + size] = system.solve(V[start : start + size])
            start += size
        return out
