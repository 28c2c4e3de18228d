"""Selection of columns, held fixed."""

import numpy as np
from sklearn.feature_selection import SelectorMixin, VarianceThreshold
from sklearn.feature_selection._univariate_selection import _BaseFilter
from sklearn.utils import _safe_indexing

from .base import Stateless, refitted, stage_for

# Refits to find rows that would change the selection are made below this many entries in all.
AFFORDABLE = 2e8


@stage_for.register(SelectorMixin)
class SelectorStage(Stateless):
    """Some of the columns; which ones does not move."""

    def pull_inputs(self, X, C):
        """To the columns selected."""
        out = np.zeros((len(C), X.shape[1]))
        out[:, self.step.get_support(indices=True)] = C
        return out

    def flipped_rows(self):
        """Rows without which a univariate filter would select other columns, by refitting it."""
        n, d = self.X.shape
        known = isinstance(self.step, _BaseFilter | VarianceThreshold)
        if not known or n * n * d > AFFORDABLE:
            return np.empty(0, dtype=np.intp)
        support, out = self.step.get_support(), []
        for i in range(n):
            keep = np.delete(np.arange(n), i)
            moved = refitted(self, _safe_indexing(self.X, keep), keep)
            if (moved.get_support() != support).any():
                out.append(i)
        return np.array(out, dtype=np.intp)
