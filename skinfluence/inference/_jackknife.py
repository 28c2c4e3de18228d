"""InfinitesimalJackknife: standard errors, intervals and reweighting of a fitted model."""

import numpy as np
from scipy.stats import norm
from sklearn.base import BaseEstimator, MetaEstimatorMixin, is_classifier
from sklearn.utils import check_random_state, column_or_1d, get_tags
from sklearn.utils.validation import check_is_fitted

from .._blocks import block_length, blocks
from .._checks import RowChecks
from .._distributed import check_whole
from .._effects import as_rows, check_steps
from .._follow import check_preprocessing, follow, problem_for
from .._out import empty
from .._partitions import is_dask
from .._unwrap import fit_estimator, unwrap
from ..objectives import objective_for
from ..solvers import resolve_solver
from ..solvers.base import fitted_solver
from ._ensembles import ENSEMBLES
from ._expansion import Expansion
from ._predictions import Predictions, check_level


class InfinitesimalJackknife(Predictions, RowChecks, MetaEstimatorMixin, BaseEstimator):
    """A model with standard errors, intervals and reweighted parameters, from one fit.

    The derivative of the parameters with respect to the weight of each row gives their
    covariance (the sandwich estimator), their bias, and what they would be under any other
    weights: a bootstrap sample, a training fold, a dose.

    Parameters
    ----------
    estimator : estimator
        A supported model, or a Pipeline over one; a random forest or bagging ensemble has
        standard errors of its predictions only. Cloned and fitted unless frozen.
    order : {1, 2}, default=1
        Order of the expansion behind ``reweight`` and ``bootstrap``.
    groups : array-like of shape (n_samples,), optional
        Clusters of dependent rows: they are reweighted together.
    preprocessing : {"auto", "frozen", "refit"}, default="auto"
        What happens to the earlier steps of a Pipeline: "refit" lets the weights of the rows enter
        them too, as repeated rows would, and refuses steps without a derivative in them (order
        statistics, steps that are not known); "auto" does where it can, and keeps the steps as
        fitted with a warning where not; "frozen" keeps them. ``order=2`` and ``bias_`` need
        "frozen".
    random_state : int, RandomState or None, default=None
        Seed of ``bootstrap``.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.
    objective_ : Objective
        What its final step minimised, at the polished optimum.
    parameters_ : ndarray of shape (n_params,)
        Coefficients and intercepts, in the order of ``parameter_names_``.
    parameter_names_ : list of str
    covariance_ : ndarray of shape (n_params, n_params)
        ``Σ_g d_g d_g'``, with ``d_g`` the derivative of the parameters with respect to the weight
        of row (or cluster) ``g``: the sandwich estimator (HC0), without small-sample factor.
    standard_errors_ : ndarray of shape (n_params,)
    bias_ : ndarray of shape (n_params,)
        ``½ Σ_i d²θ̂/dw_i²``, the second-order bias; subtract it to correct.
    classes_ : ndarray
        For a classifier.

    References
    ----------
    Giordano, R., Stephenson, W., Liu, R., Jordan, M. and Broderick, T. (2019). A Swiss army
    infinitesimal jackknife. AISTATS. https://arxiv.org/abs/1806.00550

    Wager, S., Hastie, T. and Efron, B. (2014). Confidence intervals for random forests: the
    jackknife and the infinitesimal jackknife. JMLR 15. https://arxiv.org/abs/1311.4555

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import LinearRegression
    >>> from skinfluence.inference import InfinitesimalJackknife
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> jackknife = InfinitesimalJackknife(LinearRegression()).fit(X, y)
    >>> print(jackknife.summary_frame().loc["bmi", ["estimate", "std_error"]].round(1))
    estimate     519.8
    std_error     66.5
    Name: bmi, dtype: float64
    """

    def __init__(self, estimator, *, order=1, groups=None, preprocessing="auto", random_state=None):
        self.estimator = estimator
        self.order = order
        self.groups = groups
        self.preprocessing = preprocessing
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None):
        """Fit the estimator (unless frozen) and its derivatives.

        Parameters
        ----------
        X : array-like, dataframe, sparse or dask collection of shape (n_samples, n_features)
            Over a dask collection the estimator is a fitted linear predictor, ``order`` is 1, and
            covariance, intervals and standard errors are known, reweighted parameters are not.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self
        """
        if self.order not in (1, 2):
            raise ValueError(f"order={self.order!r} is not 1 or 2")
        if is_dask(X):
            from ._dask import fit_on_shards  # dask is imported where it comes in

            return fit_on_shards(self, X, y, sample_weight)
        if is_classifier(self.estimator) and getattr(y, "ndim", 1) == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self._shards = None
        X, y, sample_weight = self._check_training(X, y, sample_weight)
        self.estimator_ = fit_estimator(self.estimator, X, y, sample_weight)
        self._steps, final = unwrap(self.estimator_)
        check_preprocessing(self.preprocessing)
        if hasattr(self.estimator_, "classes_"):
            self.classes_ = self.estimator_.classes_
        self._y, self._weight = np.asarray(y), sample_weight
        self._clusters = self._check_groups(len(self._y))
        self._covariance = None
        if isinstance(final, ENSEMBLES):
            if self.groups is not None:
                raise ValueError(f"groups are not supported for {type(final).__name__}")
            check_steps(self._steps, self.preprocessing)
            self._ensemble, self.objective_ = final, None
            return self
        self._ensemble = None
        self.objective_, rows = self._resolve(final, X)
        self._name_features()
        solver = resolve_solver("auto", self.objective_)
        self._expansion = Expansion(self.objective_, fitted_solver(solver, self.objective_))
        if self.order == 2:
            self._expansion.check_second_order()
        args = (self.objective_, self.estimator_, X, rows, self._y, sample_weight)
        self._problem = problem_for(*args)
        return self

    def _resolve(self, final, X):
        """The objective, and the rows that its estimator was fitted on."""

        def make(rows):
            rows = as_rows(rows)
            return objective_for(final, rows, self._y, self._weight), rows

        if not self._steps:
            return make(X)
        X = X if hasattr(X, "shape") else np.asarray(X)
        args = (self._steps, final, X, self._y, self._weight, self.preprocessing, make)
        return follow(*args, smooth=True)

    # -- parameters ------------------------------------------------------------------------
    @property
    def parameters_(self):
        """Coefficients and intercepts in one vector."""
        objective = self._with_parameters()
        return objective.public_parameters(objective.theta[None])[0]

    @property
    def parameter_names_(self):
        """A name for each parameter."""
        return list(self._with_parameters().parameter_names)

    @property
    def covariance_(self):
        """Sandwich covariance of the parameters."""
        objective = self._with_parameters()
        half = objective.public_parameters(self._inner_covariance())
        return objective.public_parameters(half.T)

    @property
    def standard_errors_(self):
        """Square roots of the diagonal of ``covariance_``."""
        return np.sqrt(np.diag(self.covariance_))

    @property
    def bias_(self):
        """Second-order bias of the parameters."""
        objective = self._with_parameters()
        check_whole(self, "bias_")
        if self._clusters is not None:
            raise ValueError("bias_ is not known for clusters; use groups=None")
        bias = self._expansion.bias(self._inner_covariance())
        return objective.public_parameters(bias[None])[0]

    def confidence_interval(self, level=0.95):
        """Normal confidence intervals of the parameters.

        Parameters
        ----------
        level : float, default=0.95

        Returns
        -------
        ndarray of shape (n_params, 2)
        """
        half = norm.ppf(0.5 + check_level(level) / 2) * self.standard_errors_
        return np.column_stack([self.parameters_ - half, self.parameters_ + half])

    def summary_frame(self, level=0.95):
        """Estimates, standard errors, z values, p values and intervals as a dataframe.

        Parameters
        ----------
        level : float, default=0.95

        Returns
        -------
        pandas.DataFrame
            One row a parameter, indexed by its name.
        """
        import pandas as pd

        interval = self.confidence_interval(level)
        estimate, error = self.parameters_, self.standard_errors_
        with np.errstate(divide="ignore", invalid="ignore"):
            z = estimate / error
        columns = {
            "estimate": estimate,
            "std_error": error,
            "z": z,
            "p_value": 2 * norm.sf(np.abs(z)),
            "lower": interval[:, 0],
            "upper": interval[:, 1],
        }
        return pd.DataFrame(columns, index=self.parameter_names_)

    def reweight(self, sample_weight):
        """Parameters under other weights, by the expansion of order ``order``.

        Parameters
        ----------
        sample_weight : array-like of shape (n_samples,) or (b, n_samples)
            In the place of those of ``fit``: 0 drops a row, 2 doubles it. Where a pipeline's
            steps are followed, they too see the row dropped or doubled.

        Returns
        -------
        ndarray of shape (n_params,) or (b, n_params)
            The error is of order ``order + 1`` in the change of the weights.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.linear_model import Ridge
        >>> from skinfluence.inference import InfinitesimalJackknife
        >>> X, y = load_diabetes(return_X_y=True)
        >>> jackknife = InfinitesimalJackknife(Ridge(), order=2).fit(X, y)
        >>> jackknife.reweight(np.linspace(0.9, 1.1, len(y))).shape
        (11,)
        """
        objective = self._with_parameters()
        check_whole(self, "reweight")
        weights = np.asarray(sample_weight, dtype=np.float64)
        if weights.ndim not in (1, 2) or weights.shape[-1] != objective.n_rows:
            raise ValueError(
                f"sample_weight has shape {weights.shape}; pass one weight for each of the "
                f"{objective.n_rows} training rows, or rows of such weights"
            )
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError("sample_weight must be finite and not negative")
        out = objective.public_parameters(objective.theta + self._moves(np.atleast_2d(weights)))
        return out[0] if weights.ndim == 1 else out

    def bootstrap(self, n_replicates=1000):
        """Parameters of bootstrap samples, without fitting them.

        Rows (or clusters) are drawn with replacement, as many as there are.

        Parameters
        ----------
        n_replicates : int, default=1000

        Returns
        -------
        ndarray of shape (n_replicates, n_params)
        """
        objective = self._with_parameters()
        check_whole(self, "bootstrap")
        out = empty(
            (n_replicates, len(objective.parameter_names)),
            np.float64,
            "replicates by parameters",
            "Draw fewer replicates at a time",
        )
        for part, _, moves in self._replicates(n_replicates):
            out[part] = objective.public_parameters(objective.theta + moves)
        return out

    # -- inside ----------------------------------------------------------------------------
    def _with_parameters(self):
        check_is_fitted(self)
        if self.objective_ is None:
            raise AttributeError(
                f"{type(self._ensemble).__name__} has no parameters with derivatives: only "
                "predict(X, return_std=True) and predict_proba(X, return_std=True) are known"
            )
        return self.objective_

    def _unit_derivatives(self):
        """Derivatives with respect to the weight of each row or cluster, in blocks."""
        if self._clusters is None:
            for _, block in self._expansion.rows():
                yield block
            return
        p = self.objective_.n_params
        order = np.argsort(self._clusters, kind="stable")
        starts = np.append(0, np.cumsum(np.bincount(self._clusters)))
        for part in blocks(len(starts) - 1, block_length(8 * p, share=1 / 8)):
            sums = np.zeros((part.stop - part.start, p))
            for rows, block in self._expansion.rows(order[starts[part.start] : starts[part.stop]]):
                np.add.at(sums, self._clusters[rows] - part.start, block)
            yield sums

    def _inner_covariance(self):
        if self._covariance is None:
            p = self.objective_.n_params
            total = empty((p, p), np.float64, "parameters by parameters", "Use fewer columns")
            total[:] = 0.0
            for block in self._unit_derivatives():
                total += block.T @ block
            self._covariance = total
        return self._covariance

    def _moves(self, weights):
        """Change of the parameters under each row of weights: (b, n_params)."""
        delta = self._relative(weights) - 1
        out = np.empty((len(delta), self.objective_.n_params))
        for part in blocks(len(delta), block_length(32 * self.objective_.n_rows, share=1 / 8)):
            step = self._expansion.first(delta[part])
            out[part] = step
            if self.order == 2:
                out[part] += 0.5 * self._expansion.second(delta[part], step)
        return out

    def _replicates(self, n_replicates):
        """Bootstrap samples in blocks: which, how often they hold each row, :meth:`_moves`."""
        n_rows = self.objective_.n_rows
        random = check_random_state(self.random_state)
        n_units = n_rows if self._clusters is None else self._clusters.max() + 1
        fitted = np.ones(n_rows) if self._weight is None else self._weight
        for part in blocks(n_replicates, block_length(32 * n_rows, share=1 / 8)):
            size = part.stop - part.start
            counts = random.multinomial(n_units, np.full(n_units, 1 / n_units), size)
            counts = counts if self._clusters is None else counts[:, self._clusters]
            yield part, counts, self._moves(counts * fitted)

    def _relative(self, weights):
        if self._weight is None:
            return weights
        if (weights[:, self._weight == 0] != 0).any():
            raise ValueError(
                "a row that was fitted with weight zero has no derivative to take its new "
                "weight from; give it a positive weight in fit"
            )
        return weights / np.where(self._weight == 0, 1.0, self._weight)

    def _check_groups(self, n_rows):
        if self.groups is None:
            return None
        groups = np.asarray(self.groups)
        if groups.shape != (n_rows,):
            raise ValueError(
                f"groups has shape {groups.shape}; pass a label for each of the {n_rows} rows"
            )
        return np.unique(groups, return_inverse=True)[1]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags, tags.regressor_tags = inner.classifier_tags, inner.regressor_tags
        tags.target_tags = inner.target_tags
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        return tags
