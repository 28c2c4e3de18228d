"""The candidates of a search, each followed from the one before where it can be."""

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

from .._unwrap import unwrap
from ..methods.joint import is_smooth
from ..objectives import objective_for
from ..solvers import Direct
from ._followed import fold_model
from ._model import check_approximation, final_weight
from ._refine import check_refinable, leave_one_out_loss
from ._run import fold_scores
from ._scores import scorer_parts
from ._start import fit_model
from ._validation import cross_validate

# Penalties a fit can be followed along, and whether more of it means more regularisation.
PENALTIES = {"C": False, "alpha": True}


class Candidates:
    """The candidates of one search, each followed from the one before where it can be."""

    def __init__(self, search, X, y, scorer, routed, folds):
        check_approximation(search.approximation, search.preprocessing, search.estimator)
        self._check_weights(search, routed, folds)
        self.search, self.X, self.y, self.scorer = search, X, y, scorer
        self.routed, self.folds = routed, folds
        self.approximation = search.approximation
        if self.approximation == "auto" and folds.splits is None:
            self.approximation = "newton"
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
                self.approximation,
                self.preprocessing,
            )
        except ValueError as error:
            return self._failed(error)
        self.model, self.candidate = model, candidate
        if not model.followed:  # which was said once
            self.preprocessing = "frozen"
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
        objective = self.model.last
        if any(name.split("__")[-1] not in PENALTIES for name in changed):
            return None
        if not is_smooth(objective) or objective.rank_deficient:
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
        return fold_model(
            estimator,
            self.X,
            self.y,
            self.approximation,
            self.preprocessing,
            fit_params,
            objective,
            self.model,
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
        if self.model.followed:
            raise ValueError(
                "refine differentiates the score with a pipeline's earlier steps held: pass "
                "preprocessing='frozen'"
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
            model = fit_model(estimator, self.X, self.y, fit_params, self.approximation, "frozen")
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
            raise error.__cause__ or error
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
