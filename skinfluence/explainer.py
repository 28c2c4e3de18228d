"""InfluenceExplainer: influence of training rows as a scikit-learn transformer."""

import warnings
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import (
    _check_feature_names_in,
    check_consistent_length,
    check_is_fitted,
)

from ._archive import Archived
from ._checks import RowChecks, check_order, pandas_index
from ._distributed import fit_sharded, in_memory, on_shards
from ._effects import as_rows, bind
from ._follow import follow, innermost, is_transformed
from ._groups import GroupInfluence
from ._held import warn_held
from ._inputs import InputInfluence
from ._memorization import Memorization
from ._most_influential import MostInfluentialSet
from ._out import check_plain, open_sink
from ._partitions import is_dask
from ._queries import QueryInfluence
from ._relative import RelativeInfluence
from ._tensors import on_host, rows_as_tensor
from ._unlearn import Unlearning
from ._unwrap import fit_estimator, transform, unwrap
from ._walk import BlockWalk
from .methods import Problem, Refit
from .objectives import resolve_objective
from .objectives.base import is_net
from .objectives.composite import IndependentOutputs
from .objectives.nets import net_rows
from .objectives.stacked import RawRows, StackedObjective
from .solvers.base import fitted_solver
from .targets import resolve_target

HIGH_LEVERAGE = 0.9


class InfluenceExplainer(
    RelativeInfluence,
    GroupInfluence,
    InputInfluence,
    QueryInfluence,
    MostInfluentialSet,
    Unlearning,
    Memorization,
    Archived,
    BlockWalk,
    RowChecks,
    BaseEstimator,
):
    """Influence of each training row on a fitted model's predictions, without refitting.

    The influence of row ``i`` on a quantity ``t`` is ``t(fit without row i) - t(fit with all
    rows)``, in the units of ``t``. On a loss, positive means helpful: the loss would be higher
    without the row.

    Parameters
    ----------
    estimator : estimator
        A supported scikit-learn model, a Pipeline or search over one, or a fitted model inside
        ``sklearn.frozen.FrozenEstimator``. It is cloned and fitted unless frozen; a frozen model
        must have been fitted on the rows given to ``fit``.
    method : str or Method, default="auto"
        How "row removed" is approximated: "influence" (first order, target linearised),
        "infinitesimal_jackknife" (first order, target re-evaluated), "newton" (one Newton step
        without the row), "exact" (the optimum without the row), "refit" (the estimator refitted);
        for groups also "second_order" and "rescaled" (see ``skinfluence.methods``).
        "auto" takes "newton" for convex models ("exact" for support vector machines, other losses
        with a kink and nearest neighbours), "influence" for nets and with rough solvers.
    solver : str or Solver, default="auto"
        What stands in for the inverse Hessian; "auto" takes "direct" for convex models
        and small nets, "cg" (Gauss-Newton, preconditioned by EKFAC) for nets, "ekfac" for large
        ones.
    target : str or Target, default="auto"
        What is explained: "loss" (needs ``y``), "decision" (a regressor's prediction, a binary
        classifier's decision value, with more classes that of class ``y``, or of the predicted
        class without ``y``), "proba" likewise. "auto" is the loss when ``y`` is given, else the
        decision.
    preprocessing : {"auto", "frozen", "refit"}, default="auto"
        Whether a removal reaches a pipeline's earlier steps, a target transformer and the base
        models of a stack. "frozen" keeps them as fitted;
        "auto" follows the steps it knows (see ``skinfluence.stages``) and names in a warning
        those it froze; "refit" refuses steps it does not know.
    objective : str or object, default="auto"
        What the fitted model is taken to have minimised. "auto" is what it did minimise. For nets
        also "last_layer" (the head as a convex model on the features before it), or
        ``skinfluence.objectives.Net(...)`` with options, such as which parameters move.
    batch_size : int, optional
        Training rows in a block; default from the option ``working_memory``, see
        :func:`skinfluence.set_config`.
    n_jobs : int, optional
        Processes for refits.
    random_state : int, RandomState or None, default=None
        Seed of methods and solvers that draw random numbers.
    verbose : int, default=0
        Show progress of what takes seconds.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.
    objective_ : Objective
        What its final step minimised, at the polished optimum.
    solver_, method_, target_
        Resolved solver (fitted), method and target; ``target_`` is None until known from ``y``.
    n_rows_ : int
        Number of training rows.
    gradient_norm_ : float
        Largest entry of the objective's gradient after polishing;
        ``objective_.gradient_norm_fitted`` is that of the estimator's own parameters.
    n_features_in_ : int
    feature_names_in_ : ndarray

    See Also
    --------
    skinfluence.methods : How a removal is approximated.
    skinfluence.targets : What can be explained.

    References
    ----------
    Koh, P. W. and Liang, P. (2017). Understanding black-box predictions via influence functions.
    ICML. https://arxiv.org/abs/1703.04730

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence import InfluenceExplainer
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X = scale(X)
    >>> explainer = InfluenceExplainer(LogisticRegression()).fit(X[:500], y[:500])
    >>> explainer.transform(X[500:], y[500:]).shape
    (69, 500)
    """

    _parameter_constraints = {
        "estimator": [HasMethods("fit")],
        "method": [str, HasMethods("bind")],
        "solver": [str, HasMethods(["fit", "solve"])],
        "target": [str, HasMethods("bind")],
        "preprocessing": [StrOptions({"auto", "frozen", "refit"})],
        "objective": [str, HasMethods("build")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator,
        *,
        method="auto",
        solver="auto",
        target="auto",
        preprocessing="auto",
        objective="auto",
        batch_size=None,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.method = method
        self.solver = solver
        self.target = target
        self.preprocessing = preprocessing
        self.objective = objective
        self.batch_size = batch_size
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    # -- fitting ---------------------------------------------------------------------------
    def fit(self, X, y, sample_weight=None):
        """Fit the estimator (unless frozen), and prepare its objective and solver.

        Parameters
        ----------
        X : array-like, dataframe, sparse, tensor or dask collection of shape (n_train, n_features)
            From a torch tensor, logistic, least-squares and generalised linear models compute
            sums and products over the rows on its device; other models copy it to the host.
            Over a dask collection the estimator is a fitted linear predictor, on a sample perhaps:
            Newton steps over all partitions bring it to its optimum. Results, one column a
            training row, are then dask arrays.
        y : array-like of shape (n_train,) or (n_train, n_targets)
        sample_weight : array-like of shape (n_train,), optional
            Weights the estimator is fitted with; for a frozen estimator those it was fitted with.

        Returns
        -------
        self
        """
        self._validate_params()
        if is_dask(X):
            return fit_sharded(self, X, y, sample_weight)
        self._shards = None
        self._index, given = pandas_index(X), X
        X, y, sample_weight = self._check_training(X, y, sample_weight)
        self.estimator_ = fit_estimator(self.estimator, X, y, sample_weight)
        self._steps, final = unwrap(self.estimator_, stacks=True)
        y = np.asarray(y)
        with rows_as_tensor(X, given):
            self.objective_, rows = self._resolve(final, X, y, sample_weight)
        self._stacked = isinstance(self.objective_, StackedObjective)
        self._name_features()
        self.n_rows_ = self.objective_.n_rows
        self.gradient_norm_ = self.objective_.gradient_norm
        self.target_ = None if self.target == "auto" else resolve_target(self.target, True)
        problem = Problem(
            self.objective_,
            None,
            innermost(self.estimator_) if self._stacked else final,
            X if self._stacked else rows,
            y,
            sample_weight,
            self.n_jobs,
            self.verbose,
            self.batch_size,
        )
        self.method_, self.solver_, self.effects_ = bind(self.method, self.solver, problem)
        self._leverage = None
        self._warn_leverage()
        if not isinstance(self.method_, Refit):
            warn_held(final, "method='refit'")
        return self

    def _resolve(self, final, X, y, sample_weight):
        """The objective, and the rows that its estimator was fitted on."""

        def make(rows):
            rows = net_rows(rows) if is_net(final) else as_rows(rows)
            return resolve_objective(self.objective, final, rows, y, sample_weight), rows

        self._stacked = False
        if self._steps or is_transformed(final):
            X = X if hasattr(X, "shape") else np.asarray(X)
            return follow(self._steps, final, X, y, sample_weight, self.preprocessing, make)
        rows = self._final_rows(X)
        return resolve_objective(self.objective, final, rows, y, sample_weight), rows

    def _warn_leverage(self):
        if not self.method_.first_order or not hasattr(self.objective_, "output_leverages"):
            return
        if not hasattr(self.solver_, "inverses"):
            return  # a solve a row would cost more than what was asked for
        if self.objective_.leverage_bound(self.solver_) <= HIGH_LEVERAGE:
            return
        high = np.flatnonzero(self._leverages() > HIGH_LEVERAGE)
        if len(high):
            warnings.warn(
                f"{len(high)} rows have leverage above {HIGH_LEVERAGE}: {high[:10].tolist()}. "
                f"First-order influence is far too small there; use method='newton' or 'exact'.",
                UserWarning,
                stacklevel=3,
            )

    # -- explaining ------------------------------------------------------------------------
    @on_shards
    def self_influence(self, target="loss"):
        """Influence of each training row on itself: leave-one-out loss minus fitted loss.

        Parameters
        ----------
        target : str or Target, default="loss"
            What to evaluate at the row. Probabilities and log-odds are those of the row's own
            label: ``self_influence("proba")`` is its probability without the row minus with it,
            and so mostly negative; :meth:`memorization` has the opposite sign.

        Returns
        -------
        ndarray of shape (n_train,)
        """
        check_is_fitted(self)
        target = resolve_target(target, True)
        if target.scalar:
            raise ValueError("self_influence needs a target of one row, not a scalar of all")
        target = target.own() if hasattr(target, "own") else target
        out = np.empty(self.n_rows_)

        def work(rows):
            rows = np.arange(rows.start, rows.stop)
            if self.method_.linear_target:
                out[rows] = self.effects_.own_linearised(target, rows)
                return
            queries = self.objective_.training_queries(rows)
            targets = self.objective_.training_targets(rows)
            bound = target.bind_queries(self.objective_, queries, targets)
            out[rows] = bound.paired_changes(self.effects_.own_outputs(rows))

        self._map_rows(work, self._row_slices(1, in_cache=True))
        return out

    @on_shards
    def parameter_influence(self, rows=None, *, out=None):
        """Parameters without each row minus fitted parameters.

        Parameters
        ----------
        rows : array-like of int, optional
            Which training rows; default all.
        out : array of shape (n_rows, n_params) or path, optional
            Where to write the result, as for :meth:`transform`.

        Returns
        -------
        ndarray of shape (n_rows, n_params), or ``out``
            In the units of the estimator's attributes; a dataframe with columns named by
            parameter under ``set_output``. ``objective_.parameter_names`` has the names.

        Raises
        ------
        MemoryError
            If the result is larger than the memory that is free and there is no ``out``.
        """
        check_is_fitted(self)
        rows = self._check_rows(np.arange(self.n_rows_) if rows is None else rows)
        plain = check_plain(self, out)
        sink = open_sink(
            out,
            (len(rows), len(self.objective_.parameter_names)),
            np.float64,
            lambda: self._fingerprint("parameters", rows, None),
            "rows by parameters",
            "Ask for fewer rows at a time, or use out= with a memmap or the path of a zarr store",
        )
        for part in sink.parts(self.effects_.block_length()):
            block = sink.block(part)
            block[:] = self.objective_.public_parameters(self.effects_.parameters(rows[part]))
            sink.done(part, block)
        if plain:
            return sink.result()
        return self._as_output(
            sink.result(), self.objective_.parameter_names, self.get_feature_names_out()[rows]
        )

    @in_memory
    def error_bound(self, rows=None):
        """How far the parameters without each row can be from the truth, proved.

        Parameters
        ----------
        rows : array-like of int, optional
            Which training rows; default all.

        Returns
        -------
        ndarray of shape (n_rows,)
            Upper bound on the Euclidean norm of ``parameter_influence`` minus its true value, from
            the gradient of the objective without the row, float64 rounding included. Infinite
            where nothing can be proved, as when a row carries the fit nearly alone.

        Raises
        ------
        TypeError, ValueError
            If the objective is no linear predictor, is not strictly convex, or its loss has no
            known bound on the third derivative and the penalty leaves a parameter out.

        References
        ----------
        Sun, T. and Tran-Dinh, Q. (2019). Generalized self-concordant functions: a recipe for
        Newton-type methods. Mathematical Programming 178. https://arxiv.org/abs/1703.04599

        Examples
        --------
        >>> from sklearn.datasets import load_breast_cancer
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.preprocessing import scale
        >>> from skinfluence import InfluenceExplainer
        >>> X, y = load_breast_cancer(return_X_y=True)
        >>> explainer = InfluenceExplainer(LogisticRegression()).fit(scale(X), y)
        >>> bool((explainer.error_bound() < 1).all())
        True
        """
        check_is_fitted(self)
        rows = self._check_rows(np.arange(self.n_rows_) if rows is None else rows)
        return np.concatenate(
            [self.effects_.error_bound(part) for part in self.effects_.row_blocks(rows)]
        )

    def get_feature_names_out(self, input_features=None):
        """Names of the columns of ``transform``: the training rows.

        Parameters
        ----------
        input_features : array-like of str, optional
            Checked against the names seen in ``fit``, as everywhere in scikit-learn.

        Returns
        -------
        ndarray of str objects
            ``row_0``, ``row_1``, ..., or the index values of the training dataframe.
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        return row_names(self._index, self.n_rows_)

    # -- diagnostics -----------------------------------------------------------------------
    @property
    def leverage_(self):
        """Leverage of each training row, in [0, 1]: how far a row determines its own fit.

        The largest eigenvalue of ``S_i A_i`` with several outputs. For linear predictors.
        """
        check_is_fitted(self)
        return self._leverages() if self._shards is None else self._shards.leverages()

    # -- inside ----------------------------------------------------------------------------
    def _leverages(self):
        if self._leverage is None:
            fits = [(self.objective_, self.solver_)]
            if isinstance(self.objective_, IndependentOutputs):
                fits = [(part, fitted_solver(self.solver_, part)) for part in self.objective_.parts]
            self._leverage = np.max([self._leverages_of(*fit) for fit in fits], axis=0)
        return self._leverage

    def _leverages_of(self, objective, solver):
        if not hasattr(objective, "output_leverages"):
            raise TypeError(
                f"{type(objective).__name__} has no leverages, which linear predictors have; "
                "self_influence says how far a row determines its own fit"
            )
        row_blocks = self.effects_.row_blocks(np.arange(self.n_rows_))
        return np.concatenate([objective.output_leverages(solver, rows) for rows in row_blocks])

    def _check_queries(self, X, y):
        check_is_fitted(self)
        rows = self._final_rows(self._check_rows_of(X))
        if rows.shape[0] == 0:
            raise ValueError("X holds no row: pass at least one query")
        if y is not None:
            check_order(pandas_index(X), y, "y")
            y = on_host(y)
            check_consistent_length(rows, y)
            y = np.asarray(y)
        return rows, y

    def _final_rows(self, X):
        """Rows as the final estimator sees them, checked unless that was done already."""
        if self._stacked:
            return RawRows(X if hasattr(X, "shape") else np.asarray(X))
        if is_net(unwrap(self.estimator_, stacks=True)[1]):
            return net_rows(transform(self._steps, X))
        if not self._steps and not self._takes_tables():
            return X
        return as_rows(transform(self._steps, X))

    def _check_rows(self, rows):
        rows = np.atleast_1d(np.asarray(rows))
        if rows.dtype == bool and rows.shape == (self.n_rows_,):
            return np.flatnonzero(rows)
        if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
            raise ValueError("rows must be integer positions of training rows")
        if len(rows) and (rows.min() < 0 or rows.max() >= self.n_rows_):
            raise ValueError(f"rows must lie between 0 and {self.n_rows_ - 1}")
        return rows

    def _as_output(self, values, columns, index):
        dense = getattr(self, "_sklearn_output_config", {}).get("transform", "default")
        if dense == "default":
            return values
        if dense == "pandas":
            import pandas as pd

            return pd.DataFrame(values, columns=columns, index=index)
        import polars as pl

        return pl.DataFrame(values, schema=list(columns), orient="row")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        frozen = isinstance(self.estimator, FrozenEstimator)  # whose tags are a deep copy
        inner = get_tags(self.estimator.estimator if frozen else self.estimator)
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        tags.target_tags.required = True
        tags.classifier_tags = inner.classifier_tags
        return tags


def row_names(index, n):
    """Index values of a training dataframe, else ``row_0``, ``row_1``, ..."""
    labels = [f"row_{i}" for i in range(n)] if index is None else index
    return np.array([str(label) for label in labels], dtype=object)
