"""Training rows that are moved, relabelled, added or weighed instead of removed."""

import numpy as np
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from ._blocks import block_length, blocks
from ._distributed import in_memory
from ._out import empty
from .methods.edits import Edits
from .methods.inputs import feature_derivatives, label_derivatives
from .targets import resolve_target

FEWER = "Ask for fewer queries or training rows at a time"


class InputInfluence:
    """Mixin of the explainer: what other edits of training rows than removal would do."""

    @in_memory
    def feature_influence(self, rows, X, y=None):
        """Derivative of the target at each query in the features of training rows.

        Moving row ``i`` by a small ``δ`` changes the target of query ``q`` by
        ``out[q, i] @ δ``. It is a derivative whatever the method: no row is removed.

        Parameters
        ----------
        rows : array-like of int
            Which training rows.
        X : array-like, dataframe or sparse of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional

        Returns
        -------
        ndarray of shape (n_queries, n_rows, n_features)
            In units of the target per unit of the feature, as the model's last step sees it. One
            first entry for a scalar target. A net's rows keep their shape.

        Raises
        ------
        TypeError
            If the model is neither a linear predictor with a smooth loss nor a net.

        References
        ----------
        Koh, P. W. and Liang, P. (2017). Understanding black-box predictions via influence
        functions. ICML. https://arxiv.org/abs/1703.04730

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.linear_model import Ridge
        >>> from skinfluence import InfluenceExplainer
        >>> X, y = load_diabetes(return_X_y=True)
        >>> explainer = InfluenceExplainer(Ridge()).fit(X, y)
        >>> explainer.feature_influence([0, 1], X[:3], y[:3]).shape
        (3, 2, 10)
        """
        return self._derivatives(feature_derivatives, rows, X, y)

    @in_memory
    def label_influence(self, rows, X, y=None):
        """Derivative of the target at each query in the label of training rows, of a regressor.

        Parameters
        ----------
        rows : array-like of int
        X : array-like, dataframe or sparse of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional

        Returns
        -------
        ndarray of shape (n_queries, n_rows)
            In units of the target per unit of ``y``; one row for a scalar target. For the
            decision of a least-squares fit, the entries of its hat matrix.

        See Also
        --------
        counterfactual_labels : Other labels, of classifiers too.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.linear_model import Ridge
        >>> from skinfluence import InfluenceExplainer
        >>> X, y = load_diabetes(return_X_y=True)
        >>> InfluenceExplainer(Ridge()).fit(X, y).label_influence([0, 1], X[:3]).shape
        (3, 2)
        """
        check_is_fitted(self)
        if self.objective_.head.classes is not None:
            raise ValueError(
                "the labels of a classifier do not move by small steps: use counterfactual_labels"
            )
        return self._derivatives(label_derivatives, rows, X, y)

    @in_memory
    def counterfactual_labels(self, rows, labels, X, y=None):
        """What each query's target would be had a training row another label, minus what it is.

        Parameters
        ----------
        rows : array-like of int
            Which training rows, each relabelled alone.
        labels : array-like of shape (n_rows,)
            The other labels, or targets of a regressor.
        X : array-like, dataframe or sparse of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional

        Returns
        -------
        ndarray of shape (n_queries, n_rows)
            One row for a scalar target.

        Notes
        -----
        "influence" and "infinitesimal_jackknife" take the first-order step, "newton" one Newton
        step on the relabelled rows, "exact" their optimum. Where class weights depend on the
        labels, "newton" also goes to the optimum and first-order methods are refused.

        Examples
        --------
        >>> from sklearn.datasets import load_breast_cancer
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.preprocessing import scale
        >>> from skinfluence import InfluenceExplainer
        >>> X, y = load_breast_cancer(return_X_y=True)
        >>> X = scale(X)
        >>> explainer = InfluenceExplainer(LogisticRegression()).fit(X, y)
        >>> explainer.counterfactual_labels([0, 1], 1 - y[:2], X[:5], y[:5]).shape
        (5, 2)
        """
        check_is_fitted(self)
        rows, labels = self._check_rows(rows), np.asarray(labels)
        check_consistent_length(rows, labels)
        edits = self._edits()
        return self._edited(len(rows), lambda k: edits.relabelled(rows[k], labels[k]), X, y)

    @in_memory
    def added_influence(self, X_new, y_new, X, y=None):
        """What each query's target would be with one more training row, minus what it is.

        Parameters
        ----------
        X_new : array-like, dataframe or sparse of shape (n_new, n_features)
            Rows to add, each alone and with weight 1.
        y_new : array-like of shape (n_new,)
            Their labels, of classes known from ``fit``.
        X : array-like, dataframe or sparse of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional

        Returns
        -------
        ndarray of shape (n_queries, n_new)
            One row for a scalar target. How far each method goes is as in
            :meth:`counterfactual_labels`.

        Examples
        --------
        >>> from sklearn.datasets import load_breast_cancer
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.preprocessing import scale
        >>> from skinfluence import InfluenceExplainer
        >>> X, y = load_breast_cancer(return_X_y=True)
        >>> X = scale(X)
        >>> explainer = InfluenceExplainer(LogisticRegression()).fit(X[:500], y[:500])
        >>> explainer.added_influence(X[500:510], y[500:510], X[510:], y[510:]).shape
        (59, 10)
        """
        new, y_new = self._check_queries(X_new, y_new)
        edits = self._edits()
        index = np.arange(len(y_new))
        return self._edited(len(y_new), lambda k: edits.added(new[index[k]], y_new[k]), X, y)

    @in_memory
    def transform_rows(self, rows, factor, X, y=None):
        """What each query's target would be had a training row another weight, minus what it is.

        Parameters
        ----------
        rows : array-like of int
            Which training rows, each alone.
        factor : float
            What the row's weight is multiplied by, zero or positive: 0 is its removal where no
            rule of the estimator counts rows, 2 is a second copy.
        X : array-like, dataframe or sparse of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional

        Returns
        -------
        ndarray of shape (n_queries, n_rows)
            One row for a scalar target. "influence" is linear in ``factor - 1``; the other
            methods go as far as in :meth:`counterfactual_labels`.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.linear_model import Ridge
        >>> from skinfluence import InfluenceExplainer
        >>> X, y = load_diabetes(return_X_y=True)
        >>> InfluenceExplainer(Ridge()).fit(X, y).transform_rows([0, 1], 2, X[:3]).shape
        (3, 2)
        """
        check_is_fitted(self)
        if not np.isfinite(factor) or factor < 0:
            raise ValueError(f"factor={factor!r} must be finite, zero or positive")
        rows, edits = self._check_rows(rows), self._edits()
        return self._edited(len(rows), lambda k: edits.weighted(rows[k], factor), X, y)

    # -- inside ----------------------------------------------------------------------------
    def _edits(self):
        if self._stacked:
            raise TypeError(
                "edits of rows are not followed through a pipeline's steps: use "
                "preprocessing='frozen'"
            )
        if not self.method_.uses_solver and self.method_.linear_target:
            raise TypeError(
                f"method={type(self.method_).__name__} says nothing of edited rows; use "
                "method='newton' or 'influence'"
            )
        return Edits(self)

    def _edited(self, n, moved, X, y):
        """Targets at parameters moved by ``moved(slice)``, less those at the fit: (m, n)."""
        query, y = self._check_queries(X, y)
        target = resolve_target(self.target, y is not None, X)
        m = query.shape[0]
        shape = (1 if target.scalar else m, n)
        out = empty(shape, np.float64, "queries by training rows", FEWER)
        width = 8 * (4 * self.objective_.n_params + 4 * m * self.objective_.n_outputs)
        for part in blocks(n, block_length(width, share=1 / 8)):
            delta = moved(part)
            for where, bound in self._bounds(target, query, y):
                if self.method_.linear_target:
                    out[where, part] = bound.pullback() @ delta.T
                else:
                    out[where, part] = bound.reevaluated(lambda q, delta=delta: q.changes(delta))
        return out

    def _derivatives(self, derivatives, rows, X, y):
        check_is_fitted(self)
        if self.solver_ is None or not hasattr(self.solver_, "solve"):
            raise TypeError(
                f"method={type(self.method_).__name__} uses no solver, which a derivative needs; "
                "use method='influence' or 'newton'"
            )
        rows = self._check_rows(rows)
        query, y = self._check_queries(X, y)
        target = resolve_target(self.target, y is not None, X)
        out = None
        for where, bound in self._bounds(target, query, y):
            solved = self.solver_.solve(bound.pullback().astype(np.float64).T).T
            for part in blocks(max(1, len(rows)), self._derivative_block(len(solved))):
                values = derivatives(self.objective_, solved, rows[part])
                if out is None:
                    shape = (1 if target.scalar else query.shape[0], len(rows), *values.shape[2:])
                    what = " by ".join(["queries by training rows", *["features"] * len(shape[2:])])
                    out = empty(shape, np.float64, what, FEWER)
                out[where, part] = values
        return out

    def _derivative_block(self, n_queries):
        """Training rows in a block of derivatives at so many queries."""
        objective = self.objective_
        width = objective.n_params + n_queries * (objective.n_params + 2 * objective.n_outputs)
        return block_length(8 * width, self.batch_size, share=1 / 8)

    def _bounds(self, target, query, y):
        """``(slice of the queries, bound target)``: one for a scalar target."""
        if target.scalar:
            yield slice(0, 1), target.bind(self.objective_, query, y)
            return
        for part in blocks(query.shape[0], self._query_block(query.shape[0])):
            own = None if y is None else y[part]
            yield part, target.bind(self.objective_, query[part], own)
