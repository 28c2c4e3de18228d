"""MultiStageInfluence: from a fine-tuned model back to the rows of its pretraining."""

from numbers import Integral, Real

import joblib
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ._coupling import coupling_of
from ._groups import GroupInfluence
from ._partitions import is_dask
from ._queries import QueryInfluence
from ._unwrap import unwrap
from ._walk import BlockWalk
from .explainer import InfluenceExplainer
from .fine_tuning.nets import COUPLINGS
from .methods import Problem
from .methods.multi_stage import MultiStageEffects


class MultiStageInfluence(GroupInfluence, QueryInfluence, BlockWalk, BaseEstimator):
    """Influence of pretraining rows on the predictions of a fine-tuned model.

    The influence of pretraining row ``i`` on a quantity ``t`` of the fine-tuned model is
    ``t(pretrained without row i, then fine-tuned) - t(pretrained with all rows, then
    fine-tuned)``, to first order. On a loss, positive means helpful.

    Parameters
    ----------
    pretrained : skorch net or linear model
        Cloned and fitted on ``X, y``; as it is inside ``FrozenEstimator``.
    finetuned : skorch net with FineTunedMixin, PriorLogisticRegression or PriorRidge
        Cloned, given the pretrained model (and ``shared``, ``coupling``, ``alpha``), and fitted on
        ``X_fine, y_fine``. Inside ``FrozenEstimator`` any fitted net that started from the
        pretrained one.
    shared : str or list of str
        Patterns of the parameters carried over, by their names in both modules: ``"encoder.*"``,
        or the path of a layer. Of linear models all are: ``"*"``.
    coupling : {"fixed", "updated"}, default="fixed"
        "fixed": the shared parameters stay at the pretrained values in fine-tuning. "updated": they
        are trained too, held near the pretrained ones by ``½ α ‖θ_shared - θ_pretrained‖²``.
    alpha : float, optional
        ``α``. For nets in the units of a weight decay on the training loss, be that a mean or
        a sum; needed for "updated". For linear models that of the fine-tuned model, and by default
        the one it has.
    solver : str, Solver or pair of these, default="auto"
        What stands in for the inverse Hessian of both stages, or of pretraining and fine-tuning.
    target : str or Target, default="auto"
        What of the fine-tuned model is explained, as for :class:`InfluenceExplainer`.
    batch_size : int, optional
        Pretraining rows in a block; default from the option ``working_memory``, see
        :func:`skinfluence.set_config`.

    Attributes
    ----------
    pretrained_, finetuned_ : estimators
        The fitted models.
    pretraining_, fine_tuning_ : InfluenceExplainer
        Of either stage alone, fitted: ``fine_tuning_.transform`` is the influence of the
        fine-tuning rows.
    objective_, solver_, method_, effects_
        Of the pretraining stage.
    shared_ : list of str
        Names of the parameters through which pretraining rows act.
    n_rows_ : int
        Number of pretraining rows.
    n_features_in_ : int
    feature_names_in_ : ndarray

    Notes
    -----
    Dropout and running statistics are taken as at evaluation, and statistics do not move with a
    row. Under "fixed" both nets must agree on them.

    References
    ----------
    Chen, H., Si, S., Li, Y., Chelba, C., Kumar, S., Boning, D. and Hsieh, C.-J. (2020).
    Multi-stage influence function. NeurIPS. https://arxiv.org/abs/2007.09081

    Bao, Y. et al. (2025). Scalable multi-stage influence function for large language models via
    eigenvalue-corrected Kronecker-factored parameterization. https://arxiv.org/abs/2505.05017

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from skinfluence import MultiStageInfluence
    >>> from skinfluence.fine_tuning import PriorLogisticRegression
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X = scale(X)
    >>> explainer = MultiStageInfluence(
    ...     LogisticRegression(),
    ...     PriorLogisticRegression(),
    ...     shared="*",
    ...     coupling="updated",
    ...     alpha=10.0,
    ... )
    >>> explainer.fit(X[:400], y[:400], X[400:450], y[400:450]).transform(X[450:], y[450:]).shape
    (119, 400)
    """

    _parameter_constraints = {
        "pretrained": [HasMethods("fit")],
        "finetuned": [HasMethods("fit")],
        "shared": [str, list, tuple],
        "coupling": [StrOptions(set(COUPLINGS))],
        "alpha": [Interval(Real, 0, None, closed="neither"), None],
        "solver": [str, HasMethods(["fit", "solve"]), list, tuple],
        "target": [str, HasMethods("bind")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        pretrained,
        finetuned,
        *,
        shared,
        coupling="fixed",
        alpha=None,
        solver="auto",
        target="auto",
        batch_size=None,
    ):
        self.pretrained = pretrained
        self.finetuned = finetuned
        self.shared = shared
        self.coupling = coupling
        self.alpha = alpha
        self.solver = solver
        self.target = target
        self.batch_size = batch_size

    def fit(self, X, y, X_fine, y_fine, *, sample_weight=None, sample_weight_fine=None):
        """Fit both models (unless frozen), and prepare the solvers of both stages.

        Parameters
        ----------
        X : array-like, dataframe or sparse of shape (n_pretrain, n_features)
            Pretraining rows.
        y : array-like of shape (n_pretrain,) or (n_pretrain, n_targets)
        X_fine : array-like, dataframe or sparse of shape (n_fine, n_features)
            Fine-tuning rows.
        y_fine : array-like of shape (n_fine,) or (n_fine, n_targets)
        sample_weight : array-like of shape (n_pretrain,), optional
        sample_weight_fine : array-like of shape (n_fine,), optional

        Returns
        -------
        self
        """
        self._validate_params()
        if is_dask(X) or is_dask(X_fine):
            raise TypeError("rows in dask collections are for InfluenceExplainer: compute them")
        self._shards = None
        first, second = self._solvers()
        stages = coupling_of(self)
        self.pretraining_ = InfluenceExplainer(
            self.pretrained, method="influence", solver=first, batch_size=self.batch_size
        ).fit(X, y, sample_weight)
        self.pretrained_ = unwrap(self.pretraining_.estimator_)[1]
        fine_tuning = stages.fine_tuning(self.pretrained_)
        fine_tuning.set_params(solver=second, target=self.target)
        self.fine_tuning_ = fine_tuning.fit(X_fine, y_fine, sample_weight_fine)
        self.finetuned_ = unwrap(self.fine_tuning_.estimator_)[1]
        coupling, self.shared_ = stages.bind(self.pretraining_, self.fine_tuning_)
        for name in ("objective_", "solver_", "method_", "n_rows_"):
            setattr(self, name, getattr(self.pretraining_, name))
        problem = Problem(self.objective_, self.solver_, batch_size=self.batch_size)
        self.effects_ = MultiStageEffects(problem, coupling)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.pretraining_, name):
                setattr(self, name, getattr(self.pretraining_, name))
        return self

    def get_feature_names_out(self, input_features=None):
        """Names of the columns of ``transform``: the pretraining rows.

        Parameters
        ----------
        input_features : array-like of str, optional
            Checked against the names seen in ``fit``, as everywhere in scikit-learn.

        Returns
        -------
        ndarray of str objects
            ``row_0``, ``row_1``, ..., or the index values of the pretraining dataframe.
        """
        check_is_fitted(self)
        return self.pretraining_.get_feature_names_out(input_features)

    # -- inside ----------------------------------------------------------------------------
    def _solvers(self):
        pair = self.solver
        if not isinstance(pair, list | tuple):
            return pair, pair
        if len(pair) != 2:
            raise ValueError(
                f"solver has {len(pair)} entries; pass one for both stages, or a pair for "
                "pretraining and fine-tuning"
            )
        return pair

    def _check_queries(self, X, y):
        check_is_fitted(self)
        return self.fine_tuning_._check_queries(X, y)

    def _fingerprint(self, target, X, y):
        own = super()._fingerprint(target, X, y)
        return joblib.hash([own, self.effects_.coupling.objective.theta])

    def _training_name(self):
        return [stage._training_name() for stage in (self.pretraining_, self.fine_tuning_)]

    def _check_rows(self, rows):
        return self.pretraining_._check_rows(rows)
