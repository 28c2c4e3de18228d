"""Stacked models: base models whose predictions are the rows of a last one."""

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.ensemble import StackingClassifier, StackingRegressor
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing

from .base import Stage, Stateless, numeric, stage_for
from .base_models import BaseModel
from .numerical import input_slopes


@dataclass
class Bases:
    """The base models of one kind: a fit for each fold, and the one on all rows last."""

    name: str
    fits: list
    columns: slice
    params: list = field(default_factory=list)

    def each(self):
        """Fits with parameters, and where these stand."""
        return [(fit, p) for fit, p in zip(self.fits, self.params, strict=True) if fit.n_params]


class StackingStage(Stage):
    """Base models, each fitted on all rows for queries and on each fold's rest for training.

    ``η`` holds the parameters of every fit: kind by kind, fold by fold, the fit on all rows last.
    Which fold a row is in is held fixed.
    """

    flat = False

    @property
    def rough(self):
        """Whether a step before one of the base models is."""
        return any(fit.rough for base in self.bases for fit in base.fits)

    def _prepare(self):
        step, n = self.step, self.X.shape[0]
        self.targets = encoded_targets(step, self.y)
        self.fold = self._folds(n)
        self.bases, start = [], 0
        names = [name for name, base in step.estimators if base != "drop"]
        methods = zip(names, step.estimators_, step.stack_method_, strict=True)
        for name, full, method in methods:
            members = [np.flatnonzero(self.fold != f) for f in range(self.fold.max() + 1)]
            fits = [self._fit(full, method, _safe_indexing(self.X, m), m) for m in members]
            fits.append(BaseModel(full, method, self.X, self.targets, self.sample_weight))
            width = fits[-1].width
            self.bases.append(Bases(name, fits, slice(start, start + width)))
            start += width
        self.width = start
        self.opaque = False
        self._place_params()
        self.held = [(b.name, why) for b in self.bases for why in b.fits[-1].held]

    def _place_params(self):
        start = 0
        for base in self.bases:
            unknown = [fit for fit in base.fits if not (fit.known or fit.frozen)]
            if unknown:
                self.opaque = True
                for fit in base.fits:
                    fit.forget(unknown[0].held[0])
            for fit in base.fits:
                base.params.append(slice(start, start + fit.n_params))
                start += fit.n_params
        self.n_params = start

    def _folds(self, n):
        """Fold of each row, as the stack dealt them."""
        y = self.targets
        cv = check_cv(self.step.cv, y, classifier=is_classifier(self.step))
        shuffled = getattr(cv, "shuffle", hasattr(cv, "random_state"))
        if shuffled and not isinstance(cv.random_state, int | np.integer):
            raise ValueError(
                f"{type(self.step).__name__} drew its folds at random, so that the predictions its "
                "last model was fitted on cannot be recovered; pass cv=KFold(5, shuffle=True, "
                "random_state=0), or StratifiedKFold for a classifier"
            )
        fold = np.full(n, -1)
        for number, (_, test) in enumerate(cv.split(np.zeros((n, 1)), y)):
            fold[test] = number
        return fold

    def _fit(self, model, method, X, members):
        """A clone on some of the rows, ``X``."""
        y, weight, options = self.targets[members], None, {}
        if self.sample_weight is not None:
            weight = self.sample_weight[members]
            options["sample_weight"] = weight
        return BaseModel(clone(model).fit(X, y, **options), method, X, y, weight, members)

    # -- rows handed on --------------------------------------------------------------------
    def transform(self, X):
        """Predictions of the fits on all rows."""
        return self._with_inputs(X, [base.fits[-1].values(X) for base in self.bases])

    def _training_outputs(self):
        return self._cross_fitted(self.X, self.fold, [base.fits for base in self.bases])

    def _cross_fitted(self, X, fold, fits):
        """Predictions of each row by the fits without its fold."""
        parts = []
        for base, models in zip(self.bases, fits, strict=True):
            out = np.empty((len(fold), base.columns.stop - base.columns.start))
            for f in np.unique(fold):
                rows = np.flatnonzero(fold == f)
                out[rows] = models[f].values(_safe_indexing(X, rows))
            parts.append(out)
        return self._with_inputs(X, parts)

    def _with_inputs(self, X, parts):
        if not self.step.passthrough:
            return np.hstack(parts)
        if sparse.issparse(X):
            return sparse.hstack([*parts, X]).tocsr()
        return np.hstack([*parts, numeric(X)])

    # -- derivatives -----------------------------------------------------------------------
    def derivatives(self, rows):
        """First order in the weight of each row, fit by fit."""
        return self._moves(rows, "derivatives")

    def removals(self, rows):
        """One Newton step of each fit without each row."""
        return self._moves(rows, "removals")

    def _moves(self, rows, name):
        out = np.zeros((len(rows), self.n_params))
        for base in self.bases:
            for fit, place in base.each():
                out[:, place] = getattr(fit, name)(rows)
        return out

    def pull_params(self, X, C):
        """To the fits on all rows."""
        out = np.zeros((len(C), self.n_params))
        for base in self.bases:
            fit, place = base.fits[-1], base.params[-1]
            if fit.n_params:
                out[:, place] = fit.pull_params(X, C[:, base.columns])
        return out

    def pull_sum(self, C):
        """To the fits without each row's fold."""
        out = np.zeros(self.n_params)
        for base, fit, place, rows in self._folded():
            pulled = fit.pull_params(_safe_indexing(self.X, rows), C[rows, base.columns])
            out[place] = pulled.sum(axis=0)
        return out

    def pull_inputs(self, X, C):
        """Through the fits on all rows."""
        out = self._pull_passed(X, C)
        for base in self.bases:
            out += base.fits[-1].pull_rows(X, C[:, base.columns])
        return out

    def pull_training(self, C):
        """Through the fits without each row's fold."""
        out = self._pull_passed(self.X, C)
        for base in self.bases:
            for f in np.unique(self.fold):
                rows = np.flatnonzero(self.fold == f)
                fit = base.fits[f]
                out[rows] += fit.pull_rows(_safe_indexing(self.X, rows), C[rows, base.columns])
        return out

    def pull_fit(self, v):
        """Back to the rows that each fit saw."""
        out = np.zeros(self.X.shape)
        for base in self.bases:
            for fit, place in base.each():
                if v[place].any():
                    members = slice(None) if fit.members is None else fit.members
                    out[members] += fit.pull_fit(v[place])
        return out

    def _folded(self):
        for base in self.bases:
            for f, (fit, place) in enumerate(zip(base.fits[:-1], base.params[:-1], strict=True)):
                rows = np.flatnonzero(self.fold == f)
                if fit.n_params and len(rows):
                    yield base, fit, place, rows

    def _pull_passed(self, X, C):
        return np.array(C[:, self.width :]) if self.step.passthrough else np.zeros(X.shape)

    def without(self, X, keep):
        """Every fit without the rows that go, folds as they were."""
        fold = self.fold[keep]
        place = np.full(len(self.fold), -1)
        place[keep] = np.arange(len(keep))
        fits = [[self._again(fit, X, keep, place) for fit in base.fits] for base in self.bases]

        def transform(rows):
            return self._with_inputs(rows, [models[-1].values(rows) for models in fits])

        return transform, self._cross_fitted(X, fold, fits)

    def _again(self, fit, X, keep, place):
        """A fit on those of its rows that are kept; a base model not followed as it is."""
        if not fit.n_params:
            return fit
        members = keep if fit.members is None else np.intersect1d(fit.members, keep)
        return self._fit(fit.estimator, fit.method, _safe_indexing(X, place[members]), members)


class PrefitStacking(Stateless):
    """Base models fitted elsewhere: what they predict is a function of the row alone."""

    def pull_inputs(self, X, C):
        """By central differences."""
        return input_slopes(self.transform, numeric(X), C)


@stage_for.register(StackingClassifier)
@stage_for.register(StackingRegressor)
def stacking_stage(step, X, y=None, sample_weight=None):
    """The base models; the last model is the pipeline's last step."""
    if isinstance(step.cv, str):
        return PrefitStacking(step, X, y, sample_weight)
    return StackingStage(step, X, y, sample_weight)


def encoded_targets(step, y):
    """Targets as the base models are fitted on them."""
    encoder = getattr(step, "_label_encoder", None)
    if isinstance(encoder, list):
        raise ValueError("StackingClassifier on several labels a row is not supported")
    return np.asarray(y) if encoder is None else encoder.transform(y)
