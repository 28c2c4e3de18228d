"""InfluenceSearchCV: a grid search that fits each candidate once."""

import copy
import numbers
import time
import warnings

import numpy as np
from scipy.optimize import minimize
from sklearn import get_config
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import ParameterGrid
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import indexable
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_method_params

from .._unwrap import unwrap
from ..objectives import objective_for
from ..objectives.linear import LinearObjective
from ..solvers import Direct
from ._folds import make_folds, splitter
from ._model import APPROXIMATIONS, FoldModel, final_weight
from ._refine import check_refinable, leave_one_out_loss
from ._scores import scorer_parts
from ._validation import cross_validate, fit_model, fold_scores

# Penalties a fit can be followed along, and whether more of it means more regularisation.
PENALTIES = {"C": False, "alpha": True}


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
        See :func:`cross_val_predict`.
    preprocessing : {"auto", "frozen", "refit"}, default="auto"
        See :func:`cross_val_predict`. A Pipeline's earlier steps are kept as fitted on all rows.
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
    trees. Chapman & Hall: the one-standard-error rule.

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
        self._validate_params()
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        params = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        cv = splitter(self.cv, y, self.estimator)
        run = _Run(self, X, y, scorers, routed, make_folds(cv, X, y, routed.splitter.split))
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


class _Run:
    """The candidates of one search, each followed from the one before where it can be."""

    def __init__(self, search, X, y, scorer, routed, folds):
        self._check_weights(search, routed, folds)
        self.search, self.X, self.y, self.scorer = search, X, y, scorer
        self.routed, self.folds = routed, folds
        self.preprocessing = search.preprocessing
        self.model, self.candidate = None, None
        self.errors, self.n_candidates = [], 0

    @staticmethod
    def _check_weights(search, routed, folds):
        """Weights in scores: they make no difference to the score of a single row."""
        if not routed.scorer.score or get_config()["enable_metadata_routing"]:
            return
        if folds.splits is not None or search.approximation == "refit":
            raise ValueError(
                "sample_weight would weight the scores of the folds too, which is known under "
                "metadata routing only: sklearn.set_config(enable_metadata_routing=True)"
            )
        routed.scorer.score = {}

    def evaluate(self, candidate):
        """One record a split, as ``BaseSearchCV._format_results`` takes them."""
        search, start = self.search, time.perf_counter()
        self.n_candidates += 1
        estimator = clone(search.estimator).set_params(**clone(candidate, safe=False))
        options = {
            "scoring": search.scoring,
            "return_train_score": search.return_train_score,
            "error_score": search.error_score,
        }
        if search.approximation == "refit":
            out = cross_validate(
                estimator,
                self.X,
                self.y,
                cv=self.folds.cv,
                n_jobs=search.n_jobs,
                pre_dispatch=search.pre_dispatch,
                params=self.routed.estimator.fit | self.routed.scorer.score,
                approximation="refit",
                **options,
            )
            return self._records(out)
        try:
            model = self._follow(candidate) or fit_model(
                estimator,
                self.X,
                self.y,
                self.routed.estimator.fit,
                search.approximation,
                self.preprocessing,
            )
        except ValueError as error:
            return self._failed(error)
        self.model, self.candidate, self.preprocessing = model, candidate, "frozen"
        out = fold_scores(
            model,
            estimator,
            self.X,
            self.y,
            self.folds,
            self.scorer,
            self.routed,
            options,
            start,
        )
        return self._records(out)

    def _follow(self, candidate):
        """The candidate's fit from the one before, if only a penalty differs; else None."""
        if self.model is None or candidate.keys() != self.candidate.keys():
            return None
        changed = [name for name in candidate if candidate[name] is not self.candidate[name]]
        changed = [name for name in changed if not _same(candidate[name], self.candidate[name])]
        objective = self.model.objective
        if any(name.split("__")[-1] not in PENALTIES for name in changed):
            return None
        if not isinstance(objective, LinearObjective) or objective.rank_deficient:
            return None
        estimator = copy.deepcopy(self.model.estimator).set_params(**candidate)
        final = unwrap(estimator)[1]
        if any(not _same(getattr(final, n.split("__")[-1], None), candidate[n]) for n in changed):
            return None  # the penalty is that of another step
        final._validate_params()  # no fit does it
        fit_params = self.routed.estimator.fit
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is a start, not a fit
            objective = objective_for(
                final, objective.design.X, np.asarray(self.y), final_weight(estimator, fit_params)
            )
        _write_parameters(final, objective)
        return FoldModel(
            estimator,
            self.X,
            self.y,
            self.search.approximation,
            "frozen",
            fit_params,
            objective=objective,
        )

    def refine(self, candidates, best):
        """The best candidate with its penalty moved to the optimum of the leave-one-out score."""
        name = self.search.refine
        if self.folds.splits is not None or self.search.approximation == "refit":
            raise ValueError("refine needs leave-one-out (cv=None) and an approximation")
        function, _, options = scorer_parts(self.scorer)
        if function not in (log_loss, mean_squared_error) or set(options) - {"labels"}:
            raise ValueError(
                "refine needs a score with a derivative: scoring='neg_mean_squared_error', or "
                "a log-loss made with make_scorer(log_loss, labels=...)"
            )
        start = candidates[best]
        if name not in start or name.split("__")[-1] not in PENALTIES:
            raise ValueError(f"refine={name!r} is not a penalty of param_grid")
        same = [c[name] for c in candidates if {**c, name: 0} == {**start, name: 0}]
        values = np.sort(np.asarray(same, dtype=np.float64))
        at = int(np.searchsorted(values, start[name]))
        bounds = np.log([values[max(at - 1, 0)], values[min(at + 1, len(values) - 1)]])
        sign = 1 if PENALTIES[name.split("__")[-1]] else -1

        def loss(log_value):
            model = self._candidate_model({**start, name: float(np.exp(log_value[0]))})
            check_refinable(model.objective)
            value, slope = leave_one_out_loss(model.objective, Direct().fit(model.objective))
            return value, np.array([sign * slope])

        found = minimize(
            loss, np.log([start[name]]), jac=True, method="L-BFGS-B", bounds=[tuple(bounds)]
        )
        return {**start, name: float(np.exp(found.x[0]))}

    def _candidate_model(self, candidate):
        model = self._follow(candidate)
        if model is None:
            estimator = clone(self.search.estimator).set_params(**candidate)
            fit_params = self.routed.estimator.fit
            model = fit_model(
                estimator, self.X, self.y, fit_params, self.search.approximation, "frozen"
            )
        self.model, self.candidate = model, candidate
        return model

    def _records(self, out):
        names = [key[5:] for key in out if key.startswith("test_")]
        single = names == ["score"]
        records = []
        for i in range(len(self.folds)):
            record = {"fit_time": out["fit_time"][i], "score_time": out["score_time"][i]}
            for kind in ("test", "train") if self.search.return_train_score else ("test",):
                scores = {name: out[f"{kind}_{name}"][i] for name in names}
                record[f"{kind}_scores"] = scores["score"] if single else scores
            records.append(record)
        return records

    def _failed(self, error):
        """What scikit-learn records for a fit that fails: its error score in every split."""
        score = self.search.error_score
        if not isinstance(score, numbers.Number):
            raise error
        self.errors.append(error)
        names = getattr(self.scorer, "_scorers", None)
        scores = score if names is None else dict.fromkeys(names, score)
        record = {"fit_time": 0.0, "score_time": 0.0, "test_scores": scores}
        if self.search.return_train_score:
            record["train_scores"] = scores
        return [record] * len(self.folds)

    def check_failures(self):
        """Warn of candidates that failed; raise if all did."""
        if not self.errors:
            return
        if len(self.errors) == self.n_candidates:
            raise ValueError(
                f"every candidate failed to fit, the first with: {self.errors[0]}"
            ) from self.errors[0]
        warnings.warn(
            f"{len(self.errors)} of {self.n_candidates} candidates failed to fit; their scores are "
            f"{self.search.error_score}. The first: {self.errors[0]}",
            FitFailedWarning,
            stacklevel=4,
        )


def _same(a, b):
    return a is b or bool(np.all(np.equal(a, b))) if np.isscalar(a) and np.isscalar(b) else a is b


def _write_parameters(final, objective):
    """Put an objective's optimum into ``coef_`` and ``intercept_``."""
    coef = objective.coef
    if objective.design.intercept is not None:
        bias = coef[:, -1] * objective.design.intercept
        final.intercept_ = bias if np.ndim(final.intercept_) else float(bias[0])
        coef = coef[:, :-1]
    final.coef_ = coef.reshape(np.shape(final.coef_)).astype(final.coef_.dtype)
