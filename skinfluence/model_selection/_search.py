"""InfluenceSearchCV: a grid search that fits each candidate once."""

import time

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import indexable
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_method_params

from .._partitions import refuse_dask
from ._candidates import PENALTIES, Candidates
from ._folds import make_folds, splitter
from ._model import APPROXIMATIONS


class InfluenceSearchCV(BaseSearchCV):
    """Grid search by cross-validation without refits: each candidate is fitted once.

    As :class:`sklearn.model_selection.GridSearchCV`, with leave-one-out when ``cv=None``.
    Candidates that differ in a penalty only (``C``, ``alpha``) are not even fitted once: the
    optimum of the one before is followed to the next.

    Parameters
    ----------
    estimator : estimator
        A supported model, or a Pipeline over one.
    param_grid : dict or list of dict
    scoring : str, callable, list, tuple, dict or None
    cv : int, splitter, iterable or None, default=None
        Leave-one-out when None.
    approximation : {"auto", "infinitesimal_jackknife", "newton", "exact", "refit"}
        See :func:`cross_val_predict`. Here "auto" is "newton" for leave-one-out: scores are
        compared, and one step errs the same way for all.
    preprocessing : {"auto", "frozen", "refit"}, default="auto"
        See :func:`cross_val_predict`. Steps are fitted to a fold once for all candidates that
        differ in a penalty of the last step only. ``refine`` needs "frozen".
    refit : bool, str or callable, default=True
    refine : str, optional
        A penalty of the grid ("C", "alpha", "model__C"). From the best candidate on, the
        leave-one-out score is maximised between its neighbours by its analytic derivative, and
        what is found joins ``cv_results_`` as one more candidate. Needs leave-one-out, and
        ``neg_mean_squared_error`` or a log-loss with ``labels`` as the score.
    one_standard_error : bool, default=False
        Take the most regularised candidate whose mean score is within one standard error of the
        best. The grid must hold one penalty.
    n_jobs, pre_dispatch
        For ``approximation="refit"``.
    verbose : int, default=0
    error_score : "raise" or numeric, default=nan
    return_train_score : bool, default=False

    Attributes
    ----------
    cv_results_ : dict of ndarrays
    best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_, \
multimetric_
        As those of ``GridSearchCV``.

    References
    ----------
    Breiman, L., Friedman, J., Olshen, R. and Stone, C. (1984). Classification and regression
    trees. Chapman & Hall: the one-standard-error rule. https://doi.org/10.1201/9781315139470

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence.model_selection import InfluenceSearchCV
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> grid = {"C": [0.01, 0.1, 1.0, 10.0]}
    >>> InfluenceSearchCV(LogisticRegression(), grid).fit(scale(X), y).best_params_
    {'C': 1.0}
    """

    _parameter_constraints = {
        **BaseSearchCV._parameter_constraints,
        "param_grid": [dict, list],
        "approximation": [StrOptions(set(APPROXIMATIONS))],
        "preprocessing": [StrOptions({"auto", "frozen", "refit"})],
        "refine": [str, None],
        "one_standard_error": ["boolean"],
    }

    def __init__(
        self,
        estimator,
        param_grid,
        *,
        scoring=None,
        cv=None,
        approximation="auto",
        preprocessing="auto",
        refit=True,
        refine=None,
        one_standard_error=False,
        n_jobs=None,
        verbose=0,
        pre_dispatch="2*n_jobs",
        error_score=np.nan,
        return_train_score=False,
    ):
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.param_grid = param_grid
        self.approximation = approximation
        self.preprocessing = preprocessing
        self.refine = refine
        self.one_standard_error = one_standard_error

    def fit(self, X, y=None, **params):
        """Evaluate every candidate, and fit the best on all rows.

        Parameters
        ----------
        X : array-like, dataframe or sparse of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        **params : dict
            ``sample_weight`` or ``groups``, or what metadata routing needs.

        Returns
        -------
        self
        """
        refuse_dask(X, type(self).__name__)
        self._validate_params()
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        params = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        cv = splitter(self.cv, y, self.estimator)
        run = Candidates(self, X, y, scorers, routed, make_folds(cv, X, y, routed.splitter.split))
        self.n_splits_ = len(run.folds)
        candidates = list(ParameterGrid(self.param_grid))
        penalty = self._penalty_name() if self.one_standard_error else None
        out = [record for candidate in candidates for record in run.evaluate(candidate)]
        run.check_failures()
        self.multimetric_ = isinstance(out[0]["test_scores"], dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(out[0]["test_scores"])
            refit_metric = self.refit
        results = self._format_results(candidates, self.n_splits_, out)
        if self.refine is not None:
            best = self._select_best_index(self.refit, refit_metric, results)
            candidates.append(run.refine(candidates, best))
            out.extend(run.evaluate(candidates[-1]))
            results = self._format_results(candidates, self.n_splits_, out)
        self._choose(results, refit_metric, penalty)
        if self.refit:
            self._fit_best(X, y, routed)
        self.scorer_ = getattr(scorers, "_scorers", scorers)
        self.cv_results_ = results
        return self

    def _choose(self, results, metric, penalty):
        if not (self.refit or not self.multimetric_):
            return
        self.best_index_ = self._select_best_index(self.refit, metric, results)
        if penalty is not None:
            self.best_index_ = self._most_regularised(results, metric, penalty)
        if not callable(self.refit):
            self.best_score_ = results[f"mean_test_{metric}"][self.best_index_]
        self.best_params_ = results["params"][self.best_index_]

    def _most_regularised(self, results, metric, penalty):
        """The one-standard-error rule, among candidates equal in everything else."""
        mean = results[f"mean_test_{metric}"]
        error = results[f"std_test_{metric}"][self.best_index_] / np.sqrt(self.n_splits_)
        best = results["params"][self.best_index_]
        rest = {name: value for name, value in best.items() if name != penalty}
        close = [
            i
            for i, params in enumerate(results["params"])
            if {name: value for name, value in params.items() if name != penalty} == rest
            and mean[i] >= mean[self.best_index_] - error
        ]
        more = PENALTIES[penalty.split("__")[-1]]
        return (max if more else min)(close, key=lambda i: results["params"][i][penalty])

    def _penalty_name(self):
        grids = [self.param_grid] if isinstance(self.param_grid, dict) else self.param_grid
        names = {name for grid in grids for name in grid if name.split("__")[-1] in PENALTIES}
        if len(names) != 1:
            raise ValueError(
                f"one_standard_error needs one penalty ({' or '.join(PENALTIES)}) in param_grid; "
                f"it has {sorted(names)}"
            )
        return names.pop()

    def _fit_best(self, X, y, routed):
        self.best_estimator_ = clone(self.estimator).set_params(
            **clone(self.best_params_, safe=False)
        )
        start = time.perf_counter()
        self.best_estimator_.fit(X, y, **routed.estimator.fit)
        self.refit_time_ = time.perf_counter() - start
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_
