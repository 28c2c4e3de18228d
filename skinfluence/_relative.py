"""Relative influence: what a row does to a query for what it does to the whole model."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._distributed import on_shards
from ._out import open_sink
from ._tensors import as_output, is_tensor
from .objectives.base import Objective
from .solvers import System
from .targets import resolve_target


def relative_to(sizes, use):
    """``use(rows, values)`` with the values divided by the rows' sizes, if there are any."""
    if sizes is None:
        return use
    return lambda rows, values: use(rows, divide(values, sizes[rows]))


def divide(values, sizes):
    """Values (m, b) divided in place by the sizes (b,); zero where a size is."""
    if is_tensor(values):
        return values.div_(as_output(sizes, values.device)).masked_fill_(
            as_output(sizes <= 0, values.device), 0.0
        )
    np.divide(values, sizes, out=values, where=sizes > 0, casting="same_kind")
    values[:, sizes <= 0] = 0.0
    return values


class RelativeInfluence:
    """Mixin of the explainer: influences divided by the size of a row's change of the model."""

    @on_shards
    def relative_influence(self, X, y=None, *, norm="loss", out=None):
        """Influence of each training row on each query, relative to what the row moves at all.

        Outliers and wrong labels move the whole model and so lead the ranking of every query.
        Divided by the size of that move, the rows that matter to *this* query come first
        (RelatIF, Barshan et al. 2020).

        Parameters
        ----------
        X : array-like, dataframe, sparse or dask collection of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional
        norm : {"loss", "parameters"}, default="loss"
            Size of the change ``Δθ_i`` of the parameters without the row: "loss" is
            ``sqrt(Δθ_i' H Δθ_i)``, to first order ``sqrt(g_i' H⁻¹ g_i)``, which no rescaling of
            columns changes; "parameters" is ``‖Δθ_i‖``.
        out : array of shape (n_queries, n_train) or path, optional
            Where to write the result, as for :meth:`transform`.

        Returns
        -------
        ndarray of shape (n_queries, n_train), or ``out``
            In units of the target a unit of the norm, signs as those of ``transform``; zero for
            a row that moves nothing.

        References
        ----------
        Barshan, E., Brunet, M.-E. and Dziugaite, G. K. (2020). RelatIF: identifying explanatory
        training examples via relative influence. AISTATS. https://arxiv.org/abs/2003.11630

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.linear_model import Ridge
        >>> from skinfluence import InfluenceExplainer
        >>> X, y = load_diabetes(return_X_y=True)
        >>> explainer = InfluenceExplainer(Ridge()).fit(X, y)
        >>> explainer.relative_influence(X[:3], y[:3]).shape
        (3, 442)
        """
        sizes = self.row_norms(norm=norm)
        query, y = self._check_queries(X, y)
        target = resolve_target(self.target, y is not None, X)
        shape = (1 if target.scalar else query.shape[0], self.n_rows_)
        dtype = np.float64 if target.scalar else query.dtype
        sink = open_sink(out, shape, dtype, lambda: self._fingerprint((target, norm), X, y))
        self._fill(sink, target, query, y, sizes)
        return sink.result()

    @on_shards
    def row_norms(self, rows=None, *, norm="loss"):
        """How far the model moves without each training row.

        Parameters
        ----------
        rows : array-like of int, optional
            Which training rows; default all.
        norm : {"loss", "parameters"}, default="loss"
            As for :meth:`relative_influence`.

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        if norm not in ("loss", "parameters"):
            raise ValueError(f"norm={norm!r} is not one of 'loss', 'parameters'")
        check_is_fitted(self)
        rows = self._check_rows(np.arange(self.n_rows_) if rows is None else rows)
        if norm == "loss":
            self._check_curvature()
        sizes = self._lengths_in_loss if norm == "loss" else self._lengths
        parts = [sizes(part) for part in self.effects_.row_blocks(rows)]
        return np.concatenate([np.empty(0), *parts])

    def _lengths(self, rows):
        moved = self.objective_.public_parameters(self.effects_.parameters(rows))
        return np.linalg.norm(moved, axis=1)

    def _lengths_in_loss(self, rows):
        moved = self.effects_.parameters(rows)
        if self.method_.first_order:  # what the solver inverted, its damping included
            pushed = self.effects_.gradients.block(rows)
        else:
            pushed = self.objective_.hessian_product(moved.T).T
        squares = (moved * pushed).sum(axis=1)
        if (squares < -1e-12 * np.abs(moved * pushed).sum(axis=1)).any():
            raise ValueError(
                "the curvature is indefinite, so a row's change has no length in it; use a solver "
                "with curvature='gauss_newton', or norm='parameters'"
            )
        return np.sqrt(np.maximum(squares, 0.0))

    def _check_curvature(self):
        if not self.method_.uses_solver:
            raise ValueError(
                f"norm='loss' needs the curvature, and method {type(self.method_).__name__} uses "
                "none; use norm='parameters', or method='influence'"
            )
        known = type(self.objective_).hessian_product is not Objective.hessian_product
        if isinstance(self.solver_, System) or not (known or self.method_.first_order):
            raise TypeError(
                f"norm='loss' needs a Hessian, and {type(self.objective_).__name__} has none; use "
                "norm='parameters'"
            )
        if self._stacked:
            raise ValueError(
                "norm='loss' is of the last step's parameters, and here the earlier steps move "
                "too; use norm='parameters', or preprocessing='frozen'"
            )
