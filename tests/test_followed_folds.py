"""Cross-validation of whole pipelines from one fit, against scikit-learn's own."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn.model_selection as reference
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris, make_classification
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC, LinearSVC

from skinfluence import InfluenceExplainer
from skinfluence.methods.joint import joint_minima
from skinfluence.model_selection import (
    InfluenceSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from skinfluence.objectives import objective_for

RNG = np.random.default_rng(0)
X, TWO = make_classification(70, 5, n_informative=4, n_redundant=0, random_state=0)
IRIS, THREE = load_iris(return_X_y=True)
IRIS, THREE = IRIS[::3], np.array(["c", "a", "b"])[THREE[::3]]
DIABETES, TARGET = (part[:60] for part in load_diabetes(return_X_y=True))
HOLES = np.where(RNG.random(X.shape) < 0.1, np.nan, X)
TABLE = pd.DataFrame(HOLES, columns=list("abcde")).assign(
    kind=RNG.choice(["x", "y", "z", "rare"], len(X), p=[0.4, 0.3, 0.25, 0.05])
)
WEIGHTS = np.linspace(0.5, 2, len(X))


def logistic(**options):
    return LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000, **options)


def tabular():
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    kinds = OneHotEncoder(handle_unknown="ignore")
    return make_column_transformer((numbers, list("abcde")), (kinds, ["kind"]))


PIPELINES = {
    "standard": (make_pipeline(StandardScaler(), logistic()), X, TWO),
    "balanced": (make_pipeline(StandardScaler(), logistic(class_weight="balanced")), X, TWO),
    "minmax": (make_pipeline(MinMaxScaler(), logistic(C=0.1)), X, TWO),
    "centred": (make_pipeline(StandardScaler(with_std=False), logistic()), X, TWO),
    "origin": (make_pipeline(StandardScaler(), logistic(fit_intercept=False)), X, TWO),
    "classes": (make_pipeline(RobustScaler(), logistic()), IRIS, THREE),
    "rest": (make_pipeline(StandardScaler(), OneVsRestClassifier(logistic())), IRIS, THREE),
    "table": (make_pipeline(tabular(), logistic()), TABLE, TWO),
    "components": (make_pipeline(StandardScaler(), PCA(3), logistic()), X, TWO),
    "selected": (make_pipeline(SelectKBest(k=2), MaxAbsScaler(), logistic()), X, TWO),
    "bins": (make_pipeline(KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf"),
                           logistic()), X, TWO),
    "codes": (make_pipeline(TargetEncoder(cv=reference.StratifiedKFold(3)), logistic()),
              np.round(X[:, :2]), TWO),
    "sparse": (make_pipeline(MaxAbsScaler(), TruncatedSVD(3, algorithm="arpack"), logistic()),
               sparse.csr_matrix(np.maximum(X, 0)), TWO),
    "ridge": (make_pipeline(StandardScaler(), PCA(4), Ridge()), DIABETES, TARGET),
    "outputs": (make_pipeline(MinMaxScaler(), Ridge([0.1, 2.0])), DIABETES,
                np.column_stack([TARGET, TARGET**2 / 100])),
    "ols": (make_pipeline(RobustScaler(), LinearRegression()), DIABETES, TARGET),
    "counts": (make_pipeline(StandardScaler(), PoissonRegressor(solver="newton-cholesky",
                                                               tol=1e-10)),
               DIABETES, np.round(TARGET / 50)),
}  # fmt: skip


def response(model):
    return "predict_proba" if hasattr(model, "predict_proba") else "predict"


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("approximation", ["auto", "exact"])
def test_folds_are_those_of_refitted_pipelines(name, approximation):
    """Every step is fitted to the fold: the same to the solver's accuracy."""
    model, rows, y = PIPELINES[name]
    options = {"cv": reference.KFold(4, shuffle=True, random_state=1), "method": response(model)}
    ours = cross_val_predict(model, rows, y, approximation=approximation, **options)
    theirs = reference.cross_val_predict(model, rows, y, **options)
    assert_allclose(ours, theirs, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    "name", ["standard", "balanced", "minmax", "centred", "classes", "components", "counts"]
)
def test_leave_one_out_is_that_of_refitted_pipelines(name):
    model, rows, y = PIPELINES[name]
    ours = cross_val_predict(model, rows, y, method=response(model), preprocessing="refit")
    theirs = reference.cross_val_predict(
        model, rows, y, cv=reference.LeaveOneOut(), method=response(model)
    )
    assert_allclose(ours, theirs, rtol=1e-7, atol=1e-7)


def test_a_column_that_is_constant_without_a_row():
    """Scalers leave such a column as it is; so does what stands in for them."""
    rows = np.column_stack([X, np.zeros(len(X))])
    rows[7, -1] = 3.0
    for scaler in (StandardScaler(), MinMaxScaler(), RobustScaler()):
        model = make_pipeline(scaler, logistic())
        ours = cross_val_predict(model, rows, TWO, method="predict_proba")
        theirs = reference.cross_val_predict(
            model, rows, TWO, cv=reference.LeaveOneOut(), method="predict_proba"
        )
        assert_allclose(ours, theirs, atol=1e-7)


def test_newton_follows_the_steps_to_first_order():
    """Closer than with the steps held; the numbers are the explainer's."""
    model, rows, y = PIPELINES["minmax"]
    options = {"method": "predict_proba"}
    truth = reference.cross_val_predict(model, rows, y, cv=reference.LeaveOneOut(), **options)
    followed, held = (
        np.abs(
            cross_val_predict(
                model, rows, y, approximation="newton", preprocessing=preprocessing, **options
            )
            - truth
        ).max()
        for preprocessing in ("refit", "frozen")
    )
    assert 3 * followed < held
    explainer = InfluenceExplainer(
        model, method="newton", preprocessing="refit", target="decision"
    ).fit(rows, y)
    groups = np.arange(len(y)) % 5
    moved = explainer.group_influence(groups, rows)
    ours = cross_val_predict(
        model, rows, y, cv=reference.PredefinedSplit(groups), method="decision_function",
        approximation="newton", preprocessing="refit",
    )  # fmt: skip
    fitted = model.fit(rows, y).decision_function(rows)
    assert_allclose(ours, fitted + moved[np.arange(len(y)), groups], atol=1e-9)


def test_tables_of_other_libraries():
    model, rows, y = PIPELINES["table"]
    pandas = cross_val_predict(model, rows, y, cv=3, method="predict_proba")
    other = cross_val_predict(model, pl.DataFrame(rows), y, cv=3, method="predict_proba")
    assert_allclose(pandas, other, atol=1e-12)


def test_weights_reach_the_steps_that_ask_for_them():
    scaler = StandardScaler().set_fit_request
    with config_context(enable_metadata_routing=True):
        final = logistic().set_fit_request(sample_weight=True)
        plain = make_pipeline(scaler(sample_weight=True), final)
        columns = make_column_transformer((scaler(sample_weight=True), [0, 1, 2, 3, 4]))
        cases = (plain, 3), (plain, reference.LeaveOneOut()), (make_pipeline(columns, final), 3)
        for model, cv in cases:
            options = {"params": {"sample_weight": WEIGHTS}, "method": "predict_proba", "cv": cv}
            ours = cross_val_predict(model, X, TWO, **options)
            assert_allclose(ours, reference.cross_val_predict(model, X, TWO, **options), atol=1e-7)


def test_weights_of_the_last_step():
    model = make_pipeline(StandardScaler(), logistic())
    options = {"params": {"logisticregression__sample_weight": WEIGHTS}, "method": "predict_proba"}
    ours = cross_val_predict(model, X, TWO, cv=3, **options)
    assert_allclose(ours, reference.cross_val_predict(model, X, TWO, cv=3, **options), atol=1e-7)


def test_scores_of_whole_pipelines():
    model, rows, y = PIPELINES["table"]
    options = {"cv": 3, "scoring": ["neg_log_loss", "accuracy"], "return_train_score": True}
    ours = cross_validate(model, rows, y, return_estimator=True, **options)
    theirs = reference.cross_validate(model, rows, y, **options)
    for key in theirs:
        if not key.endswith("_time"):
            assert_allclose(ours[key], theirs[key], rtol=1e-7)
    for estimator, (train, _) in zip(
        ours["estimator"], reference.StratifiedKFold(3).split(rows, y), strict=True
    ):
        alone = model.fit(rows.iloc[train], y[train]).predict_proba(rows)
        assert_allclose(estimator.predict_proba(rows), alone, atol=1e-7)


def test_last_steps_that_are_not_linear():
    model = make_pipeline(StandardScaler(), SVC(gamma="auto", tol=1e-10))
    options = {"cv": 4, "method": "decision_function"}
    theirs = reference.cross_val_predict(model, X, TWO, **options)
    ours = cross_val_predict(model, X, TWO, preprocessing="refit", **options)
    assert_array_equal(ours, theirs)  # each fold is fitted
    with pytest.warns(UserWarning, match="not followed into SVC"):
        cross_val_score(model, X, TWO, cv=4)
    with pytest.raises(ValueError, match="not followed into SVC"):
        cross_val_score(model, X, TWO, cv=4, preprocessing="refit", approximation="newton")


def test_support_vector_classifiers_behind_steps():
    """Only as exact as liblinear's own fits."""
    model = make_pipeline(StandardScaler(), LinearSVC(tol=1e-11, max_iter=100_000))
    options = {"cv": 4, "method": "decision_function"}
    ours = cross_val_predict(model, IRIS, THREE, **options)
    theirs = reference.cross_val_predict(model, IRIS, THREE, **options)
    assert_allclose(ours, theirs, atol=1e-5)


def test_a_fitted_pipeline_is_not_fitted_again():
    model = make_pipeline(StandardScaler(), logistic())
    ours = cross_val_predict(FrozenEstimator(model.fit(X, TWO)), X, TWO, cv=4)
    assert_array_equal(ours, reference.cross_val_predict(model, X, TWO, cv=4))


class Counted(TransformerMixin, BaseEstimator):
    """Columns less their means, and how often these were taken."""

    fits = 0

    def fit(self, X, y=None):
        Counted.fits += 1
        self.mean_ = X.mean(axis=0)
        return self

    def transform(self, X):
        return (X - self.mean_) / (1 + np.abs(self.mean_))


def test_search_fits_the_steps_once_a_fold():
    """Scores and choices are those of a grid search; no stage is known for the step."""
    model = make_pipeline(Counted(), logistic())
    grid = {"logisticregression__C": [0.01, 0.1, 1.0, 10.0]}
    theirs = reference.GridSearchCV(model, grid, cv=4, scoring="neg_log_loss").fit(X, TWO)
    Counted.fits = 0
    ours = InfluenceSearchCV(model, grid, cv=4, scoring="neg_log_loss", preprocessing="refit")
    ours.fit(X, TWO)
    assert ours.best_params_ == theirs.best_params_
    for split in range(4):
        name = f"split{split}_test_score"
        assert_allclose(ours.cv_results_[name], theirs.cv_results_[name], rtol=1e-7)
    assert Counted.fits == 1 + 4 + 1  # all rows, the folds, the best


def test_search_by_leave_one_out_follows_the_steps():
    grid = {"logisticregression__C": [0.01, 0.1, 1.0]}
    model = make_pipeline(StandardScaler(), logistic())
    theirs = reference.GridSearchCV(model, grid, cv=reference.LeaveOneOut()).fit(X, TWO)
    for approximation in ("auto", "exact"):
        ours = InfluenceSearchCV(model, grid, approximation=approximation).fit(X, TWO)
        assert_allclose(
            ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-12
        )


def test_what_needs_the_steps_held():
    model = make_pipeline(StandardScaler(), logistic())
    for approximation in ("auto", "newton"):
        with pytest.raises(ValueError, match="return_error_bound is not known where"):
            cross_validate(
                model, X, TWO, cv=3, return_error_bound=True, approximation=approximation
            )
    with pytest.raises(ValueError, match="approximation='refit' fits whole pipelines"):
        cross_val_score(model, X, TWO, approximation="refit", preprocessing="frozen")
    search = InfluenceSearchCV(
        make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": [0.1, 1.0]},
        refine="ridge__alpha", scoring="neg_mean_squared_error",
    )  # fmt: skip
    with pytest.raises(ValueError, match="pass preprocessing='frozen'"):
        search.fit(DIABETES, TARGET)


@pytest.mark.parametrize("model, y", [(logistic(), TWO), (logistic(), IRIS), (Ridge(), TARGET)])
def test_joint_minima_under_other_penalties(model, y):
    """A factor of the penalty on a column is the column divided by its root."""
    rows = {70: X, 60: DIABETES}.get(len(y), IRIS)
    y = THREE if y is IRIS else y
    objective = objective_for(model.fit(rows, y), rows, y)
    factors = np.linspace(0.7, 1.4, rows.shape[1] + 1)
    group = np.arange(0, len(y), 4)
    moved = joint_minima(objective, [group], 1e-10, factors[None])[0]
    theta = (objective.theta + moved).reshape(objective.n_outputs, -1)
    keep = np.setdiff1d(np.arange(len(y)), group)
    scaled = rows / np.sqrt(factors[:-1])
    alone = objective_for(model.fit(scaled[keep], y[keep]), scaled[keep], y[keep])
    assert_allclose(theta[:, :-1] * np.sqrt(factors[:-1]), alone.coef[:, :-1], rtol=1e-7, atol=1e-8)
