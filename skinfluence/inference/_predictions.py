"""Predictions of a jackknifed model, with standard errors and intervals."""

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from .._bits import BitRows
from .._blocks import block_length, blocks
from .._distributed import check_whole
from .._effects import bind, most_accurate, query_rows
from ._ensembles import bagging_variance
from ._intervals import LeftOutBags, LeftOutRows, check_rows_for, jackknife_interval


def _has(method):
    def check(self):
        getattr(getattr(self, "estimator_", self.estimator), method)
        return True

    return check


class Predictions:
    """What :class:`InfinitesimalJackknife` predicts."""

    def predict(self, X, return_std=False):
        """Predictions of the estimator, with standard errors if asked for.

        Parameters
        ----------
        X : array-like, dataframe or sparse of shape (n_queries, n_features)
        return_std : bool, default=False
            Also the standard error of a regressor's prediction, due to the training rows.

        Returns
        -------
        ndarray, or a tuple of two
        """
        check_is_fitted(self)
        X = self._check_rows_of(X)
        prediction = self.estimator_.predict(X)
        if not return_std:
            return prediction
        if is_classifier(self.estimator_):
            raise ValueError("a label has no standard error; use predict_proba(return_std=True)")
        rows = query_rows(self.objective_, self._steps, X)
        if self._ensemble is not None:
            return prediction, np.sqrt(bagging_variance(self._ensemble, rows, len(self._y)))
        n_outputs = 1 if prediction.ndim == 1 else prediction.shape[1]
        found = self._deviation(rows, self.objective_.head.decision_gradient, n_outputs)
        return prediction, found.reshape(prediction.shape)

    @available_if(_has("predict_proba"))
    def predict_proba(self, X, return_std=False):
        """Class probabilities, with standard errors if asked for.

        Parameters
        ----------
        X : array-like, dataframe or sparse of shape (n_queries, n_features)
        return_std : bool, default=False

        Returns
        -------
        ndarray of shape (n_queries, n_classes), or a tuple of two
        """
        check_is_fitted(self)
        X = self._check_rows_of(X)
        proba = self.estimator_.predict_proba(X)
        if not return_std:
            return proba
        rows = query_rows(self.objective_, self._steps, X)
        if self._ensemble is not None:
            return proba, np.sqrt(bagging_variance(self._ensemble, rows, len(self._y)))
        head = self.objective_.head
        return proba, self._deviation(rows, head.proba_gradient, len(self.classes_))

    @available_if(_has("predict_log_proba"))
    def predict_log_proba(self, X):
        """Logarithms of class probabilities of the estimator."""
        check_is_fitted(self)
        return self.estimator_.predict_log_proba(self._check_rows_of(X))

    @available_if(_has("decision_function"))
    def decision_function(self, X):
        """Decision values of the estimator."""
        check_is_fitted(self)
        return self.estimator_.decision_function(self._check_rows_of(X))

    def score(self, X, y, sample_weight=None):
        """Score of the estimator."""
        check_is_fitted(self)
        return self.estimator_.score(self._check_rows_of(X), y, sample_weight)

    def predict_interval(
        self, X, confidence_level=0.9, *, kind="plus", approximation="auto", n_replicates=None
    ):
        """Prediction intervals by the jackknife+ with leave-one-out fits that are not fitted.

        Parameters
        ----------
        X : array-like, dataframe or sparse of shape (n_queries, n_features)
        confidence_level : float, default=0.9
            Nominal coverage ``1 - α``. "plus" covers at least ``1 - 2α`` whatever the model, and
            about ``1 - α`` where it is stable; "minmax" covers at least ``1 - α``.
        kind : {"plus", "minmax"}, default="plus"
        approximation : {"auto", "infinitesimal_jackknife", "newton", "exact"}, default="auto"
            How the leave-one-out fits are made; "auto" takes the most accurate one known.
        n_replicates : int, optional
            Jackknife+-after-bootstrap: the prediction without a row is the mean over those of so
            many replicates, made as by ``bootstrap``, that the row is not in. Clusters go
            together. Each replicate has the error of the expansion of order ``order``, which is
            largest for rows of high leverage.

        Returns
        -------
        ndarray of shape (n_queries, 2)
            Lower and upper ends.

        References
        ----------
        Barber, R. F., Candès, E. J., Ramdas, A. and Tibshirani, R. J. (2021). Predictive inference
        with the jackknife+. Annals of Statistics 49. https://arxiv.org/abs/1905.02928

        Kim, B., Xu, C. and Barber, R. F. (2020). Predictive inference is free with the
        jackknife+-after-bootstrap. NeurIPS. https://arxiv.org/abs/2002.09025
        """
        objective = self._with_parameters()
        check_whole(self, "predict_interval")
        check_level(confidence_level)
        if kind not in ("plus", "minmax"):
            raise ValueError(f"kind={kind!r} is not one of 'plus', 'minmax'")
        if approximation not in ("auto", "infinitesimal_jackknife", "newton", "exact"):
            raise ValueError(f"approximation={approximation!r} is not known")
        if not is_regressor(self.estimator_) or self._y.ndim > 1:
            raise ValueError("prediction intervals are for a regressor with one output")
        check_rows_for(confidence_level, objective.n_rows)
        left_out = self._left_out(approximation, n_replicates)
        rows = query_rows(objective, self._steps, self._check_rows_of(X))
        y = np.ravel(self._y).astype(np.float64)
        return jackknife_interval(left_out, rows, y, confidence_level, kind)

    def _left_out(self, approximation, n_replicates):
        objective = self.objective_
        if n_replicates is not None:
            if approximation != "auto":
                raise ValueError("approximation is for leave-one-out fits: n_replicates has none")
            moves = np.empty((n_replicates, objective.n_params))
            absent = BitRows(n_replicates, objective.n_rows)
            for part, counts, moved in self._replicates(n_replicates):
                absent[part], moves[part] = counts == 0, moved
            return LeftOutBags(objective, absent, moves)
        method = most_accurate(objective) if approximation == "auto" else approximation
        return LeftOutRows(objective, bind(method, "auto", self._problem)[2])

    def _deviation(self, rows, gradient, n_quantities):
        """Standard errors of quantities with ``gradient(Z, index)`` in the outputs, (m, n)."""
        objective = self.objective_
        values, vectors = np.linalg.eigh(self._inner_covariance())
        root = (vectors * np.sqrt(np.maximum(values, 0))).T
        variance = np.empty((rows.shape[0], n_quantities))
        per_query = 8 * (3 * len(root) * objective.n_outputs + 2 * objective.n_params)
        for part in blocks(len(variance), block_length(per_query, share=1 / 8)):
            queries = objective.queries(rows[part])
            moved = queries.changes(root).astype(np.float64, copy=False)
            for k in range(n_quantities):
                slope = gradient(queries.outputs, np.full(len(queries), k))
                along = np.einsum("mbk,mk->mb", moved, slope)
                variance[part, k] = np.einsum("mb,mb->m", along, along)
        return np.sqrt(variance)


def check_level(level):
    """A confidence level, refused outside (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"level={level!r} must lie between 0 and 1")
    return level
