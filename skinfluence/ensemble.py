"""Influences averaged over several models of the same data."""

import numbers
import sys

import joblib
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils._metadata_requests import UNUSED
from sklearn.utils.validation import _num_samples, check_is_fitted

from ._archive import Archived
from ._blocks import block_length, blocks
from ._checks import take_rows
from ._memorization import Memorization
from ._out import check_plain, open_sink
from ._partitions import is_dask, refuse_dask
from ._top import TopInfluences, TopValues, check_top
from ._unwrap import check_new_start
from .perturbed import SCALES, Resampled, check_resampling, perturbed_copies
from .targets import resolve_target


class EnsembleExplainer(Memorization, Archived, TransformerMixin, BaseEstimator):
    """Mean of the influences of several fits, for any method and solver.

    What a row does to one net depends on where its training started; the mean over nets is what
    it does on average, and follows retrainings more closely than any one of them. Where trainings
    are dear, a few perturbed copies of each fit go some of the way (Yang et al. 2024, Deng et al.
    2024): they cost no training, and with ``solver="identity"`` no Hessian either.

    Parameters
    ----------
    explainer : InfluenceExplainer
        Cloned for each member.
    estimators : list of estimators, optional
        One a member, in place of the explainer's own. Fitted ones inside ``FrozenEstimator`` are
        taken as they are, others are cloned and fitted.
    seeds : int or list of int, optional
        Fit the explainer's estimator once for each seed (0, 1, ... for a number): its
        ``random_state`` parameters are set, and torch is seeded where it is in use.
    perturbation : {"noise", "dropout", "bootstrap"}, optional
        Copies of each fit of ``estimators`` or ``seeds`` (or of the explainer's own estimator)
        take its place. "noise" adds normal noise to the parameters, "dropout" leaves units of a
        net out; rows keep their weights and the sign is that of every influence. Both need a
        first-order method. "bootstrap" fits on rows drawn with replacement: a row's influence is
        that of all its copies, zero where it was not drawn.
    n_copies : int, default=10
        Copies of each fit.
    scale : float, optional
        Of "noise": its standard deviation relative to the root mean square of a layer's weights,
        or of a column's coefficients; default 0.1. Of "dropout": the share of units left out, by
        the same mask for all rows, where the net has dropout layers, else before each layer but
        the first; default 0.03. Nets whose fit is tight take little of it.
    random_state : int, RandomState or None, default=None
        Of the perturbations.

    Attributes
    ----------
    explainers_ : list of InfluenceExplainer
        The fitted members; of "bootstrap" each wraps one fitted on the drawn rows, ``explainer``.
    n_rows_ : int

    References
    ----------
    Yang, Z. et al. (2024). Revisit, extend, and enhance Hessian-free influence functions.
    https://arxiv.org/abs/2405.17490

    Deng, J., Li, T.-W., Zhang, S. and Ma, J. (2024). Efficient ensembles improve training data
    attribution. https://arxiv.org/abs/2405.17293

    Park, S. M., Georgiev, K., Ilyas, A., Leclerc, G. and Madry, A. (2023). TRAK: attributing
    model behavior at scale. ICML. https://arxiv.org/abs/2303.14186

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import EnsembleExplainer, InfluenceExplainer
    >>> X, y = load_diabetes(return_X_y=True)
    >>> ensemble = EnsembleExplainer(
    ...     InfluenceExplainer(Ridge()), estimators=[Ridge(alpha=0.1), Ridge(alpha=1)]
    ... )
    >>> ensemble.fit(X, y).transform(X[:3], y[:3]).shape
    (3, 442)

    Copies with noise, without any Hessian:

    >>> free = InfluenceExplainer(Ridge(), method="influence", solver="identity")
    >>> ensemble = EnsembleExplainer(free, perturbation="noise", n_copies=5, random_state=0)
    >>> ensemble.fit(X, y).self_influence().shape
    (442,)
    """

    __metadata_request__transform = {"out": UNUSED}

    def __init__(
        self,
        explainer,
        *,
        estimators=None,
        seeds=None,
        perturbation=None,
        n_copies=10,
        scale=None,
        random_state=None,
    ):
        self.explainer = explainer
        self.estimators = estimators
        self.seeds = seeds
        self.perturbation = perturbation
        self.n_copies = n_copies
        self.scale = scale
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None):
        """Fit every member.

        Parameters
        ----------
        X : array-like of shape (n_train, n_features)
        y : array-like of shape (n_train,)
        sample_weight : array-like of shape (n_train,), optional

        Returns
        -------
        self
        """
        self._check()
        if self.perturbation is not None:
            refuse_dask(X, "a perturbation")
        rng = check_random_state(self.random_state)
        members = self._resampled(rng) if self.perturbation == "bootstrap" else self._bases()
        if not members:
            raise ValueError("an ensemble needs at least one member")
        for member, seed in members:
            if seed is not None and "torch" in sys.modules:
                sys.modules["torch"].manual_seed(seed)
            member.fit(X, y, sample_weight)
        members = [member for member, _ in members]
        if self.perturbation in SCALES:
            options = self.perturbation, self.n_copies, self.scale, rng
            members = [copy for member in members for copy in perturbed_copies(member, *options)]
        self.explainers_ = members
        self.n_rows_ = members[0].n_rows_
        return self

    def _check(self):
        kinds = (None, "bootstrap", *SCALES)
        if self.perturbation not in kinds:
            raise ValueError(f"perturbation={self.perturbation!r} is not one of {kinds}")
        given = (self.estimators is not None) + (self.seeds is not None)
        if given > 1 or (not given and self.perturbation is None):
            raise ValueError("pass either estimators or seeds, or a perturbation")
        if given and self.perturbation == "bootstrap":
            raise ValueError(
                "perturbation='bootstrap' fits the explainer's own estimator n_copies times; pass "
                "neither estimators nor seeds"
            )
        if not isinstance(self.n_copies, numbers.Integral) or self.n_copies < 1:
            raise ValueError(f"n_copies={self.n_copies!r} must be a positive integer")
        scale = self.scale
        if scale is not None and (self.perturbation not in SCALES or not 0 < scale < np.inf):
            raise ValueError(
                f"scale={scale!r} must be a positive number, for perturbation='noise' or 'dropout'"
            )

    def _bases(self):
        """``(unfitted explainer, seed)`` of the fits that are averaged or perturbed."""
        if self.estimators is not None:
            return [(clone(self.explainer).set_params(estimator=e), None) for e in self.estimators]
        if self.seeds is None:
            return [(clone(self.explainer), None)]
        check_new_start(self.explainer.estimator)
        seeds = range(self.seeds) if np.ndim(self.seeds) == 0 else self.seeds
        return [(_seeded(self.explainer, seed), seed) for seed in seeds]

    def _resampled(self, rng):
        check_resampling(self.explainer)
        seeds = rng.randint(2**31 - 1, size=self.n_copies)
        return [
            (Resampled(_seeded(self.explainer, int(seed)), np.random.RandomState(seed)), int(seed))
            for seed in seeds
        ]

    def transform(self, X, y=None, *, out=None):
        """Mean influence of each training row on each query.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional
        out : array of shape (n_queries, n_train) or path, optional
            Where to write the result, as for :meth:`InfluenceExplainer.transform`.

        Returns
        -------
        ndarray of shape (n_queries, n_train), or ``out``

        Raises
        ------
        MemoryError
            If the result is larger than the memory that is free and there is no ``out``.
        """
        check_is_fitted(self)
        check_plain(self, out)
        n, length = self._query_block(X, y)
        shape = (n if length else 1, self.n_rows_)
        sink = open_sink(out, shape, np.float64, lambda: self._fingerprint(X, y))
        for part in sink.parts(length or 1):
            sink.done(part, self._mean_of_queries(X, y, part if length else None, sink.block(part)))
        return sink.result()

    def top_influences(self, X, y=None, *, k=10, by="magnitude"):
        """The training rows that matter most for each query, by their mean influence.

        Parameters
        ----------
        X : ndarray of shape (n_queries, n_features)
        y : ndarray of shape (n_queries,), optional
        k : int, default=10
        by : {"magnitude", "helpful", "harmful"}, default="magnitude"

        Returns
        -------
        Bunch
            ``indices`` and ``values`` of shape (n_queries, k), most influential first.
        """
        check_is_fitted(self)
        check_top(k, by, self.n_rows_)
        parts, (n, length) = [], self._query_block(X, y)
        for part in blocks(n, length) if length else [None]:
            values = np.empty((1 if part is None else part.stop - part.start, self.n_rows_))
            top = TopValues(len(values), k, by)
            top.update(slice(0, self.n_rows_), self._mean_of_queries(X, y, part, values))
            parts.append(top.result())
        indices, values = (np.concatenate(piece) for piece in zip(*parts, strict=True))
        return TopInfluences(indices=indices, values=values)

    def dataset_influence(self, X, y=None, *, sample_weight=None):
        """Mean influence of each training row on the mean target over a set of queries.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional
        sample_weight : array-like of shape (n_queries,), optional

        Returns
        -------
        ndarray of shape (n_train,)
        """
        return self._mean(lambda m: m.dataset_influence(X, y, sample_weight=sample_weight))

    def self_influence(self, target="loss"):
        """Mean influence of each training row on itself.

        Parameters
        ----------
        target : str or Target, default="loss"
            As in :meth:`InfluenceExplainer.self_influence`.

        Returns
        -------
        ndarray of shape (n_train,)
        """
        return self._mean(lambda member: member.self_influence(target))

    def group_influence(self, groups, X, y=None, *, method=None):
        """Mean influence of groups of training rows, each removed jointly, on each query.

        Parameters
        ----------
        groups : array-like of shape (n_train,) or list of index arrays
        X : array-like of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional
        method : str or Method, optional
            In the place of the members' own.

        Returns
        -------
        ndarray of shape (n_queries, n_groups)
        """
        return self._mean(lambda member: member.group_influence(groups, X, y, method=method))

    def get_feature_names_out(self, input_features=None):
        """Names of the columns of ``transform``: the training rows.

        Parameters
        ----------
        input_features : None
            Not used; part of scikit-learn's interface.

        Returns
        -------
        ndarray of str objects
        """
        check_is_fitted(self)
        return self.explainers_[0].get_feature_names_out(input_features)

    @property
    def estimator(self):
        """The estimator of the explainer, which retraining starts from."""
        return self.explainer.estimator

    def _query_block(self, X, y):
        """How many queries there are, and in a block; none where the target is one of all."""
        n = _num_samples(X)
        if n == 0:
            raise ValueError("X has no rows: there is no query")
        if resolve_target(self.explainer.target, y is not None, X).scalar:
            return n, None
        return n, n if is_dask(X) else block_length(16 * self.n_rows_, share=1 / 4)

    def _mean_of_queries(self, X, y, part, out):
        """Mean influences on some of the queries (None: all) into ``out`` (b, n_train)."""
        if part is not None and part.stop - part.start < _num_samples(X):
            rows = np.arange(part.start, part.stop)
            X, y = take_rows(X, rows), None if y is None else take_rows(y, rows)
        out[:] = 0.0
        for member in self.explainers_:
            out += np.asarray(member.transform(X, y))
        out /= len(self.explainers_)
        return out

    def _fingerprint(self, X, y):
        """A name of the numbers that ``transform`` gives."""
        target = resolve_target(self.explainer.target, y is not None, X)
        return joblib.hash([member._fingerprint(target, X, y) for member in self.explainers_])

    def _mean(self, values):
        check_is_fitted(self)
        total = 0.0
        for member in self.explainers_:
            total = total + values(member)
        return total / len(self.explainers_)


def _seeded(explainer, seed):
    member = clone(explainer)
    states = [
        name
        for name in member.get_params()
        if name.startswith("estimator__") and name.split("__")[-1] == "random_state"
    ]
    return member.set_params(**dict.fromkeys(states, seed))
