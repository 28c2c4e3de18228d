"""MislabelDetector: rank the rows of a table by how unlikely their label is."""

import numbers

import numpy as np
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import (
    _check_sample_weight,
    _num_samples,
    check_consistent_length,
    validate_data,
)

from .._partitions import refuse_dask
from .._progress import progress
from . import residuals as regression
from .class_noise import fit_class_noise
from .combine import COMBINE, member_weights, robust_likelihoods
from .committee import default_committee
from .explain import Explains
from .fitting import take
from .held_out import HoldOut, in_columns, predict_with
from .noise import flag, learnable, leave_out, lowest, spare_classes
from .out_of_sample import out_of_sample
from .verdict import Member, as_labels, checked_proba, named_members, takes_nan

# Share of wrong labels that qualities allow for: were none found, all qualities would be one.
LEAST_SHARE = 0.05


class MislabelDetector(Explains, BaseEstimator):
    """Find rows whose label or regression target is probably wrong.

    Every row is judged by a committee of unlike models that were not trained on it, members that
    predict better counting more; then the committee is trained again without the worst suspects,
    and judges again. How often the labels of each class are wrong is estimated from the held-out
    probabilities, and labels are ranked by the probability that they are right. Closed forms stand
    in for refits: approximate leave-one-out for logistic, ridge and kernel models, out-of-bag
    votes for forests, a lookup for neighbours; the rest is refitted in folds (three in the first
    round, five in the last).

    Parameters
    ----------
    estimators : "auto", estimator, or list of estimators or (name, estimator), default="auto"
        Who judges. "auto" takes a logistic regression, a kernel logistic regression (Nystroem),
        a random forest, extra trees and gradient boosting (their regressors for a continuous
        target). Preprocessing that does not see the labels (scalers, imputers, encoders) is
        fitted on all rows.
    contamination : "auto" or float in (0, 0.5], default="auto"
        Share of rows to flag. "auto" flags as many of the least probable labels as make the
        expected F1 of the flags largest, besides those of which another class is three times as
        likely by the held-out probabilities, also relative to how frequent the classes are; and
        a target that is off by more than 3.5 robust standard deviations.
    n_rounds : int, default=2
        Rounds of judging; after the first, suspects are not trained on.
    combine : {"mean", "equal"}, default="mean"
        "mean" weighs the members so that their mean gives the held-out labels of the first round
        the largest likelihood (stacking); "equal" counts each the same.
    n_jobs : int, optional
        Jobs for folds and forests.
    random_state : int, RandomState or None, default=None
    verbose : int, default=0

    Attributes
    ----------
    label_quality_ : ndarray of shape (n,)
        In [0, 1], low is bad: the probability that the label is right at the estimated rates of
        wrong labels, or at rates of the same proportions where fewer than 5 % are found to be
        wrong; in regression the tail probability of the row's residual.
    is_mislabeled_ : ndarray of bool of shape (n,)
    ranking_ : ndarray of shape (n,)
        Row positions, most suspect first.
    suggested_labels_ : ndarray of shape (n,)
        For flagged rows the likeliest other class (the predicted value), for others their own.
    likeliest_other_ : ndarray of shape (n,)
        The same for every row.
    predict_proba_ : ndarray of shape (n, K)
        Held-out probabilities of labels as they are given, wrong ones included; columns as
        ``classes_``; absent in regression.
    predictions_, residuals_ : ndarrays of shape (n,)
        Regression: held-out predictions and studentised residuals.
    contamination_ : float
        Estimated share of wrong labels; in regression the share flagged.
    noise_matrix_ : ndarray of shape (K, K)
        Row i, column j: estimated share of the rows labelled ``classes_[i]`` that are of
        ``classes_[j]``; absent in regression.
    members_ : list of Member
        Name, fitted estimator, weight, how rows were held out.
    classes_ : ndarray or None
    sample_indices_ : ndarray
        Positions of the rows that are kept.
    n_features_in_ : int

    See Also
    --------
    CleanedClassifier : Trains without the suspects.

    Notes
    -----
    A model that judges a label must not have been trained on it, and no single model is best on
    every table. The influence of a row on itself ranks worse than plain training loss: influence
    says *why* a row is suspect (:meth:`explain`), not *that* it is.
    Labels of a class with a single row cannot be confirmed: their quality is 0.
    The rates of wrong labels are those of a model in which the labels of a class are wrong at
    random, whatever the features. Labels that are wrong near the boundary between classes look to
    it like classes that overlap: ``contamination_`` and ``noise_matrix_`` do not count them,
    though the ranking and the flags find them as far as probabilities do.

    References
    ----------
    Dawid, A. and Skene, A. (1979). Maximum likelihood estimation of observer error-rates using
    the EM algorithm. JRSS C 28(1). https://doi.org/10.2307/2346806

    Bootkrajang, J. and Kabán, A. (2012). Label-noise robust logistic regression and its
    applications. ECML PKDD. https://doi.org/10.1007/978-3-642-33460-3_15

    Northcutt, C., Jiang, L. and Chuang, I. (2021). Confident learning: estimating uncertainty in
    dataset labels. JAIR 70. https://arxiv.org/abs/1911.00068

    Wolpert, D. (1992). Stacked generalization. Neural Networks 5(2).
    https://doi.org/10.1016/S0893-6080(05)80023-1

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skinfluence.mislabel import MislabelDetector
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> y[:20] = 1 - y[:20]
    >>> judge = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    >>> detector = MislabelDetector(judge).fit(X, y)
    >>> int(detector.is_mislabeled_[:20].sum())
    16
    """

    def __init__(
        self,
        estimators="auto",
        *,
        contamination="auto",
        n_rounds=2,
        combine="mean",
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.estimators = estimators
        self.contamination = contamination
        self.n_rounds = n_rounds
        self.combine = combine
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    # -- fitting ---------------------------------------------------------------------------
    def fit(self, X, y, sample_weight=None, *, pred_proba=None):
        """Judge every row.

        Parameters
        ----------
        X : array-like, dataframe or sparse of shape (n, n_features)
            Dataframes with words in them need ``estimators`` that take them. May be None when
            ``pred_proba`` is given.
        y : array-like of shape (n,)
            Labels of any kind, or continuous targets.
        sample_weight : array-like of shape (n,), optional
            Rows of weight zero are judged but not learned from.
        pred_proba : array-like of shape (n, K), optional
            Out-of-sample probabilities from elsewhere, columns in the order of the sorted labels;
            no model is then fitted.

        Returns
        -------
        self
        """
        self._check_options()
        X, y, sample_weight = self._check_data(X, y, sample_weight, pred_proba is not None)
        self._X, self._y, self._sample_weight = X, y, sample_weight
        self._explainer = None
        classify = self._is_classification(y)
        if classify:
            self.classes_, codes = np.unique(y, return_inverse=True)
            self._judge_labels(X, y, codes, sample_weight, pred_proba)
        elif pred_proba is not None:
            raise ValueError("pred_proba speaks of classes, but y is continuous")
        else:
            self.classes_ = None
            self._judge_targets(X, y, sample_weight)
        self.ranking_ = np.argsort(self.label_quality_, kind="stable")
        self.sample_indices_ = np.flatnonzero(~self.is_mislabeled_)
        return self

    def fit_predict(self, X, y, sample_weight=None):
        """Judge every row: -1 for a suspect, +1 for a row to keep.

        Parameters
        ----------
        X : array-like, dataframe or sparse of shape (n, n_features)
        y : array-like of shape (n,)
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        ndarray of int of shape (n,)
        """
        self.fit(X, y, sample_weight)
        return np.where(self.is_mislabeled_, -1, 1)

    def fit_resample(self, X, y):
        """The rows that are kept; this is what imbalanced-learn's Pipeline calls.

        Parameters
        ----------
        X : array-like, dataframe or sparse of shape (n, n_features)
        y : array-like of shape (n,)

        Returns
        -------
        (X, y)
        """
        self.fit(X, y)
        return take(X, self.sample_indices_), take(y, self.sample_indices_)

    # -- checks ----------------------------------------------------------------------------
    def _check_options(self):
        if self.combine not in COMBINE:
            raise ValueError(f"combine={self.combine!r} is not one of {COMBINE}")
        if not isinstance(self.n_rounds, numbers.Integral) or self.n_rounds < 1:
            raise ValueError(f"n_rounds={self.n_rounds!r} must be a positive integer")
        share = self.contamination
        is_share = isinstance(share, numbers.Real) and 0 < share <= 0.5
        if not is_share and not (isinstance(share, str) and share == "auto"):
            raise ValueError(f"contamination={share!r} must be 'auto' or a share in (0, 0.5]")

    def _check_data(self, X, y, sample_weight, judged):
        refuse_dask(X, type(self).__name__)
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        y = as_labels(y)
        if X is None and judged:
            X = None
        elif hasattr(X, "columns") and not self._is_auto():
            validate_data(self, X, skip_check_array=True)
        else:
            X = validate_data(
                self,
                X,
                accept_sparse="csr",
                dtype=[np.float64, np.float32],
                ensure_all_finite="allow-nan",  # members that take no NaN refuse it themselves
                ensure_min_samples=2,
            )
        if X is not None:
            check_consistent_length(X, y)
        if sample_weight is not None:
            empty = np.empty((len(y), 1))
            sample_weight = _check_sample_weight(sample_weight, empty, ensure_non_negative=True)
            if not sample_weight.any():
                raise ValueError("every sample_weight is zero: there is nothing to learn from")
        return X, y, sample_weight

    def _is_auto(self):
        return isinstance(self.estimators, str) and self.estimators == "auto"

    def _takes_nan(self):
        if self._is_auto():
            return True
        return all(takes_nan(member) for member in named_members(self.estimators).values())

    def _is_classification(self, y):
        """Labels or targets: as the members say, else as ``y`` looks."""
        if self._is_auto():
            if y.dtype.kind not in "iuf":
                return True
            many = len(np.unique(y)) > max(20, len(y) / 10)
            return not (type_of_target(y) == "continuous" or many)
        members = named_members(self.estimators)
        kinds = {is_classifier(m) for m in members.values()}
        if len(kinds) > 1 or not all(is_classifier(m) or is_regressor(m) for m in members.values()):
            raise ValueError(f"estimators must be all classifiers or all regressors: {members}")
        if True in kinds and y.dtype.kind == "f":
            check_classification_targets(y)
        return kinds.pop()

    # -- judging ---------------------------------------------------------------------------
    def _judge_labels(self, X, y, codes, sample_weight, pred_proba):
        K = len(self.classes_)
        if K < 2:
            raise ValueError(
                f"y has one class, {self.classes_[0]!r}: MislabelDetector needs at least 2 classes"
            )
        present = learnable(codes, sample_weight)
        if pred_proba is not None:
            present |= True if sample_weight is None else sample_weight > 0
            self.members_, self._judges = [], {}
            proba, transition = checked_proba(pred_proba, len(y), K), None
        else:
            proba, transition = self._rounds_of_labels(X, y, codes, sample_weight, present)
        noise = fit_class_noise(proba[present], codes[present], transition)
        own = np.arange(len(codes)), codes
        posterior = noise.posterior(proba, codes)
        self.contamination_ = float(1 - posterior[own][present].mean())
        counts = np.zeros((K, K))
        np.add.at(counts, codes, posterior)
        self.noise_matrix_ = counts / counts.sum(axis=1, keepdims=True)
        estimated = posterior[own]
        posterior = noise.with_share(LEAST_SHARE, codes[present]).posterior(proba, codes)
        posterior[own] *= proba[own] > 0  # nothing can confirm the only row of a class
        self.predict_proba_, self.label_quality_ = proba, posterior[own].copy()
        if isinstance(self.contamination, str):
            self.is_mislabeled_ = flag(estimated, proba, codes)
        else:
            self.is_mislabeled_ = lowest(self.label_quality_, self.contamination)
        posterior[own] = -1
        self.likeliest_other_ = self.classes_[posterior.argmax(axis=1)]
        self.suggested_labels_ = np.where(self.is_mislabeled_, self.likeliest_other_, self._y)

    def _rounds_of_labels(self, X, y, codes, sample_weight, present):
        """Held-out probabilities over all rounds, and the rates of wrong labels in the first.

        Later rounds see fewer wrong labels, chosen by these very models: weights and rates are
        those of the first.
        """
        if len(np.unique(codes[present])) < 2:
            raise ValueError("fewer than two classes have two rows (of positive weight)")
        keep, total = present, 0.0
        for number in range(self.n_rounds):
            members = self._fit_members(X, y, sample_weight, keep, number)
            proba = np.stack([held for _, held in members])
            if number == 0:
                weights = member_weights(self.combine, proba[:, keep, codes[keep]])
                mean = np.tensordot(weights, proba, axes=1)
                transition = fit_class_noise(mean[keep], codes[keep]).transition
            # later rounds count more: they were trained on fewer wrong labels
            total = total + (number + 1) * np.tensordot(weights, proba, axes=1)
            mean = total / ((number + 1) * (number + 2) / 2)
            suspect = present & leave_out(mean, codes)
            keep = present & ~spare_classes(suspect, mean[np.arange(len(y)), codes], codes)
        self._note_weights(weights)
        return mean, transition

    def _judge_targets(self, X, y, sample_weight):
        y = self._y = y.astype(np.float64)
        present = np.ones(len(y), bool) if sample_weight is None else sample_weight > 0
        keep = present
        for number in range(self.n_rounds):
            members = self._fit_members(X, y, sample_weight, keep, number)
            predictions = np.stack([held for _, held in members])
            if number == 0:
                likelihoods = robust_likelihoods(predictions, y)
                weights = member_weights(self.combine, likelihoods[:, keep])
            residuals, mean = regression.studentised(predictions, weights, y, keep)
            quality = regression.quality(residuals)
            wrong = np.abs(residuals) > regression.LIMIT
            keep = present & ~(wrong & (quality <= np.median(quality)))
        self._note_weights(weights)
        self.residuals_, self.predictions_, self.label_quality_ = residuals, mean, quality
        if not isinstance(self.contamination, str):
            wrong = lowest(quality, self.contamination)
        self.is_mislabeled_ = wrong
        self.contamination_ = float(wrong.mean())
        self.likeliest_other_ = mean
        self.suggested_labels_ = np.where(wrong, mean, y)

    def _fit_members(self, X, y, sample_weight, keep, number):
        """``(Member, held-out values of every row)`` of each member, trained on rows ``keep``."""
        rng = check_random_state(self.random_state)
        seed = [int(s) for s in rng.randint(2**31 - 1, size=self.n_rounds)][number]
        K = None if self.classes_ is None else len(self.classes_)
        if self._is_auto():
            estimators = default_committee(X, K, seed, self.n_jobs)
        else:
            estimators = named_members(self.estimators)
        every = keep.all()
        rows, labels = (X, y) if every else (take(X, keep), y[keep])
        weight = sample_weight if every or sample_weight is None else sample_weight[keep]
        n_folds = 5 if number == self.n_rounds - 1 else 3  # fewer where only the last is prepared
        options = HoldOut(n_folds, self.n_jobs, seed)
        label = f"round {number + 1} of {self.n_rounds}"
        found = []
        for name, estimator in progress(list(estimators.items()), label, self.verbose):
            held = out_of_sample(estimator, rows, labels, weight, options)
            values = self._all_rows(held, X, keep)
            found.append((Member(name, held.estimator, held.how), values))
        self.members_ = [member for member, _ in found]
        self._judges = estimators
        return found

    def _note_weights(self, weights):
        for member, weight in zip(self.members_, weights, strict=True):
            member.weight = float(weight)

    def _all_rows(self, held, X, keep):
        """Held-out values of the rows trained on, predictions of the others."""
        if self.classes_ is None:
            out = np.empty(_num_samples(X))
            out[keep] = held.values
            if not keep.all():
                out[~keep] = predict_with(held.estimator, take(X, ~keep), None)[0]
            return out
        known = held.estimator.classes_
        out = np.zeros((_num_samples(X), len(self.classes_)))
        out[keep] = in_columns(held.values, known, self.classes_)
        if not keep.all():
            out[~keep] = in_columns(held.predict_proba(take(X, ~keep)), known, self.classes_)
        return out

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        members = [] if self._is_auto() else named_members(self.estimators).values()
        tags.input_tags.sparse = all(get_tags(m).input_tags.sparse for m in members)
        tags.input_tags.allow_nan = self._takes_nan()
        return tags
