"""Blocks of training rows and queries, sized to the working memory."""

import numpy as np

from ._blocks import block_length, blocks, map_threads
from ._tensors import as_output, is_tensor, on_host


class BlockWalk:
    """Mixin of a fitted explainer: influences in blocks, never more than the memory allows."""

    def _bind(self, target, query, y, part):
        return self.effects_.bind_target(target, query[part], None if y is None else y[part])

    def _all_rows(self, bound, out):
        """Influences of all training rows on a bound target, into an array or tensor ``out``."""

        def keep(rows, values):
            if is_tensor(out):
                out[:, rows] = as_output(values, out.device)
            else:
                out[:, rows] = on_host(values)

        self._each_block(bound, keep, out)
        return out

    def _each_block(self, bound, use, out=None):
        """Call ``use(rows, values)`` with the influences of every block of training rows.

        ``values`` are a tensor where they were computed on a device.
        """
        if hasattr(getattr(self.objective_, "design", None), "tensor"):
            from ._device import walk  # torch is imported no earlier than this

            if walk(self.effects_, bound, self.method_.linear_target, use, self.batch_size, out):
                return
        n_queries = len(bound.queries)
        if self.method_.linear_target:
            adjoint = self.effects_.adjoint(bound.pullback())
            n_values = 1 if bound.target.scalar else n_queries
            if isinstance(out, np.ndarray) and out.dtype == self._dtype:
                for rows in self._row_slices(n_values, stored=True):
                    self.effects_.linearised(adjoint, rows, out=out[:, rows])
                return
            # each core looks through its own product while it is in its cache
            self._map_rows(
                lambda rows: use(rows, self.effects_.linearised(adjoint, rows)),
                self._row_slices(n_values, in_cache=True),
            )
            return

        def work(rows):
            index = np.arange(rows.start, rows.stop)
            use(rows, bound.reevaluated(lambda queries: queries.moved(self.effects_, index)))

        # a scalar of all queries holds several arrays of their size at once
        held = 3 * n_queries if bound.target.scalar else n_queries
        self._map_rows(work, self._row_slices(held, in_cache=True))

    def _map_rows(self, work, pieces):
        """Do the pieces on every core where the method allows it, else one after the other."""
        if self.effects_.threaded:
            map_threads(work, pieces)
        else:
            for rows in pieces:
                work(rows)

    @property
    def _dtype(self):
        return getattr(self.objective_, "dtype", np.dtype(np.float64))

    def _row_slices(self, n_queries, in_cache=False, stored=False):
        objective = self.objective_
        held = 0 if stored else 2 * n_queries * objective.n_outputs
        per_row = 8 * (2 * objective.n_params + held)
        length = block_length(per_row, self.batch_size, share=1 / 8)
        if in_cache and self.batch_size is None:
            width = n_queries * objective.n_outputs + objective.n_params
            length = min(length, max(64, 2**22 // (8 * width)))
        return blocks(self.n_rows_, length)

    def _query_block(self, n_queries):
        per_query = 4 * self._dtype.itemsize * self.effects_.adjoint_size
        return block_length(per_query, share=1 / 8)
