"""Every last step behind stages, against differences of weighted refits and whole refits."""

import warnings

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    MultiTaskElasticNet,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR

from skinfluence import InfluenceExplainer
from skinfluence.objectives import objective_for
from skinfluence.targets import Decision

from . import weighted_steps as ws
from .common import assert_close
from .test_stages import BINARY, CODES, COUNTS, MANY, QUERIES, VALUES, X, explained, logistic

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.* is held at .*CV chose"),
]
POSITIVE = np.exp(VALUES / 10)
BOTH = np.column_stack([VALUES, X[:, 1] - np.cos(X[:, 0])])
ROWS = [1, 7, 23, 40]
CHAINS = {
    "scaler": (StandardScaler(), ws.Scaler()),
    "scaler-pca": (
        make_pipeline(StandardScaler(), PCA(3)),
        ws.Series(ws.Scaler(), ws.Components(3)),
    ),
}
CHOSEN = LogisticRegressionCV(
    Cs=[0.1, 1.0], cv=3, l1_ratios=(0.0,), scoring="neg_log_loss", use_legacy_attributes=False
)
LASTS = {
    "least squares": (LinearRegression(), VALUES),
    "ridge-cv": (RidgeCV([0.1, 1.0]), VALUES),
    "two targets": (Ridge([1.0, 1.0]), BOTH),
    "two penalties": (Ridge([1.0, 5.0]), BOTH),
    "gamma": (GammaRegressor(alpha=0.1), POSITIVE),
    "tweedie": (TweedieRegressor(power=1.5, alpha=0.1), POSITIVE),
    "balanced": (logistic(class_weight="balanced"), BINARY),
    "balanced softmax": (logistic(class_weight="balanced"), MANY),
    "logistic-cv": (CHOSEN, BINARY),
    "liblinear": (LogisticRegression(solver="liblinear", intercept_scaling=2.0), BINARY),
    "one-vs-rest": (OneVsRestClassifier(logistic()), MANY),
    "ridge classifier": (RidgeClassifier(), MANY),
    "squared hinge": (LinearSVC(C=0.1), MANY),
    "hinge": (LinearSVC(C=0.1, loss="hinge"), BINARY),
    "median": (LinearSVR(epsilon=0.0, C=0.3), VALUES),
    "tube": (LinearSVR(epsilon=0.5, C=0.3), VALUES),
    "squared tube": (LinearSVR(epsilon=0.5, loss="squared_epsilon_insensitive"), VALUES),
    "huber": (HuberRegressor(alpha=0.1), VALUES),
    "sgd": (SGDClassifier(loss="log_loss", alpha=0.01, random_state=0), BINARY),
    "sgd huber": (SGDRegressor(loss="huber", epsilon=1.0, alpha=0.05, random_state=0), VALUES),
    "lasso": (Lasso(0.3), VALUES),
    "elastic net": (ElasticNet(0.3), VALUES),
    "several": (MultiTaskElasticNet(0.2), BOTH),
    "l1": (LogisticRegression(solver="saga", l1_ratio=1.0, C=0.3), MANY),
}
TARGETED = {
    "standard": StandardScaler(),
    "minmax": MinMaxScaler((0.5, 2.0)),
    "maxabs": MaxAbsScaler(),
    "robust": RobustScaler(),
    "power": PowerTransformer(),
}


def quiet(model, rows, y, weight=None):
    """The polished objective of a fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {} if weight is None else {"sample_weight": weight}
        routed, model = isinstance(model, OneVsRestClassifier), clone(model)
        with sklearn.config_context(enable_metadata_routing=routed):
            if routed:
                model.estimator.set_fit_request(sample_weight=True)
            fitted = model.fit(rows, y, **options)
        return objective_for(fitted, rows, y, weight)


def linear_outputs(objective, rows, y):
    """What target "decision" explains, from the polished optimum."""
    queries = objective.queries(rows)
    index = np.zeros(len(rows), int)
    if objective.head.classes is not None:
        index = objective.head.encode(y)
    return objective.head.decision(queries.outputs, index)


def weighted_differences(oracle, model, y, h=1e-4):
    """Minus the derivative of the outputs at the queries in the weight of each row."""
    out, alpha = np.empty((len(QUERIES), len(ROWS))), getattr(model, "alpha", None)
    for column, i in enumerate(ROWS):
        sides = []
        for sign in (1, -1):
            w = np.ones(len(y))
            w[i] += sign * h
            oracle.fit(X, y, w)
            if "SGD" in str(model):  # a row is counted in the penalty, its weight is not
                model = clone(model).set_params(alpha=alpha * w.mean())
            objective = quiet(model, oracle.training(X), y, w)
            sides.append(linear_outputs(objective, oracle.transform(X[QUERIES]), y[QUERIES]))
        out[:, column] = -(sides[0] - sides[1]) / (2 * h)
    return out


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("name", LASTS)
def test_derivative(name, chain):
    (model, y), (step, oracle) = LASTS[name], CHAINS[chain]
    target = Decision(output=0) if y.ndim == 2 else "decision"
    explainer = explained(make_pipeline(step, model), X, y, target=target)
    ours = explainer.transform(X[QUERIES], y[QUERIES])[:, ROWS]
    held = clone(model)
    if name.endswith("-cv"):  # the chosen strength is held fixed
        fitted = explainer.estimator_[-1]
        if name == "ridge-cv":
            held = Ridge(fitted.alpha_)
        else:
            held = logistic(C=float(np.ravel(fitted.C_)[0]))
    assert np.abs(ours).max() > 0
    assert_close(ours, weighted_differences(oracle, held, y), 1e-5)


# of the fits whose optimum a refit reaches by itself or by polishing
@pytest.mark.parametrize("name", LASTS)
def test_exact_is_the_pipeline_without_the_row(name):
    model, y = LASTS[name]
    step, target = CHAINS["scaler"][0], Decision(output=0) if y.ndim == 2 else "decision"
    explainer = explained(make_pipeline(step, model), X, y, "exact", target=target)
    values = explainer.group_influence([[i] for i in ROWS], X[QUERIES], y[QUERIES])
    if name.endswith("-cv"):
        fitted = explainer.estimator_[-1]
        model = (
            Ridge(fitted.alpha_)
            if name == "ridge-cv"
            else logistic(C=float(np.ravel(fitted.C_)[0]))
        )
    truth = []
    for gone in [None, *ROWS]:
        keep = np.delete(np.arange(len(y)), [] if gone is None else gone)
        scaler = clone(step).fit(X[keep])
        objective = quiet(model, scaler.transform(X[keep]), y[keep])
        truth.append(linear_outputs(objective, scaler.transform(X[QUERIES]), y[QUERIES]))
    assert_close(values, np.column_stack([row - truth[0] for row in truth[1:]]), 1e-6)


@pytest.mark.parametrize("name", ["huber", "hinge", "lasso", "one-vs-rest", "tube"])
def test_sparse_rows_give_the_same(name):
    (model, y), values = LASTS[name], []
    table = np.column_stack([X, CODES])
    for sparse in (False, True):
        hot = OneHotEncoder(sparse_output=sparse, handle_unknown="ignore")
        columns = ColumnTransformer(
            [("n", StandardScaler(), [0, 1, 2, 3]), ("c", hot, [4, 5])],
            sparse_threshold=float(sparse),
        )
        pipeline = make_pipeline(columns, StandardScaler(with_mean=False), model)
        both = [explained(pipeline, table, y, method) for method in ("influence", "exact")]
        values.append([e.group_influence([[1], [5]], table[QUERIES], y[QUERIES]) for e in both])
    assert_close(np.array(values[1]), np.array(values[0]), 1e-9)


def power_outputs(oracle, Z):
    """Predictions of a power-transformed target."""
    back = PowerTransformer().fit(VALUES[:, None])
    back.lambdas_ = np.array(oracle.powers)
    back._scaler.mean_, back._scaler.scale_ = oracle.scaler.mean, oracle.scaler.scale
    return back.inverse_transform(Z)


LAMBDAS = PowerTransformer().fit(VALUES[:, None]).lambdas_
SMOOTH_TARGETS = {
    "standard": (StandardScaler(), ws.Scaler(), lambda o, Z: Z * o.scale + o.mean),
    "mean": (StandardScaler(with_std=False), ws.Scaler(std=False), lambda o, Z: Z + o.mean),
    "power": (PowerTransformer(), ws.Power(LAMBDAS), power_outputs),
}
REGRESSORS = {
    "ridge": Ridge(2.0),
    "lasso": Lasso(0.1),
    "tube": LinearSVR(epsilon=0.2, C=0.5),
    "squared tube": LinearSVR(epsilon=0.2, loss="squared_epsilon_insensitive"),
    "normal": TweedieRegressor(power=0, alpha=0.1),
}


@pytest.mark.parametrize("regressor", REGRESSORS)
@pytest.mark.parametrize("kind", SMOOTH_TARGETS)
def test_derivative_of_a_transformed_target(kind, regressor):
    """The target's transformer moves what is fitted, and the way back to predictions."""
    transformer, back, inverse = SMOOTH_TARGETS[kind]
    model, scaler = REGRESSORS[regressor], ws.Scaler()
    last = TransformedTargetRegressor(model, transformer=transformer)
    ours = explained(make_pipeline(StandardScaler(), last), X, VALUES).transform(X[QUERIES])
    h, truth = 1e-4, []
    for i in ROWS:
        sides = []
        for sign in (1, -1):
            w = np.ones(len(X))
            w[i] += sign * h
            rows = scaler.fit(X, None, w).transform(X)
            moved = back.fit(VALUES[:, None], None, w).transform(VALUES[:, None])[:, 0]
            objective = quiet(model, rows, moved, w)
            Z = objective.queries(scaler.transform(X[QUERIES])).outputs
            sides.append(inverse(back, Z)[:, 0])
        truth.append(-(sides[0] - sides[1]) / (2 * h))
    assert_close(ours[:, ROWS], np.column_stack(truth), 1e-5)


TARGETS = {
    "standard": (StandardScaler(), VALUES),
    "minmax": (MinMaxScaler((0.5, 2.0)), VALUES),
    "maxabs": (MaxAbsScaler(), VALUES),
    "robust": (RobustScaler(), VALUES),
    "series": (make_pipeline(PowerTransformer(), MinMaxScaler()), VALUES),
    "two": (StandardScaler(), BOTH),
    "penalties": (StandardScaler(), BOTH),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_transformed_target_without_the_row(name):
    transformer, y = TARGETS[name]
    regressor = Ridge([2.0, 9.0] if name == "penalties" else 2.0)
    target = "decision" if y.ndim == 1 else Decision(output=1)
    last = TransformedTargetRegressor(regressor, transformer=transformer)
    inside = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), regressor), transformer=transformer
    )
    truth = {}
    for i in [None, *ROWS]:
        keep = np.delete(np.arange(len(y)), [] if i is None else i)
        fitted = clone(inside).fit(X[keep], y[keep])
        truth[i] = fitted.predict(X[QUERIES]).reshape(len(QUERIES), -1)[:, -1]
    truth = np.column_stack([truth[i] - truth[None] for i in ROWS])
    for model in (inside, make_pipeline(StandardScaler(), last)):
        for method, tolerance in (("exact", 1e-8), ("refit", 1e-10), ("newton", 0.2)):
            explainer = explained(model, X, y, method, target=target)
            if method == "newton":
                values = explainer.transform(X[QUERIES])[:, ROWS]
            else:
                values = explainer.group_influence([[i] for i in ROWS], X[QUERIES])
            assert_close(values, truth, tolerance)
    alone = explained(last, X, y, "newton", target=target)
    exact = explained(last, X, y, "exact", target=target).transform(X[QUERIES])
    assert np.corrcoef(alone.transform(X[QUERIES]).ravel(), exact.ravel())[0, 1] > 0.999


def test_the_loss_of_a_transformed_target_is_in_units_of_the_fitted_transformer():
    last = TransformedTargetRegressor(Ridge(2.0), transformer=StandardScaler())
    explainer = explained(last, X, VALUES, "exact", target="loss")
    full = clone(last).fit(X, VALUES)
    without = clone(last).fit(X[1:], VALUES[1:])
    unit = full.transformer_.scale_[0]
    errors = [((f.predict(X) - VALUES) / unit) ** 2 for f in (without, full)]
    assert_close(explainer.transform(X, VALUES)[:, 0], errors[0] - errors[1], 1e-9)


@pytest.mark.parametrize(
    ("model", "y", "reason"),
    [
        (SVC(gamma="auto"), BINARY, "not followed into SVC"),
        (SVR(gamma="auto"), VALUES, "not followed into SVR"),
        (MLPClassifier(max_iter=5, random_state=0), BINARY, "not followed into MLPClassifier"),
    ],
)
def test_last_steps_that_are_not_followed(model, y, reason):
    pipeline = make_pipeline(StandardScaler(), model)
    with pytest.raises(ValueError, match=f"standardscaler.*{reason}"):
        explained(pipeline, X, y)
    with pytest.warns(UserWarning, match=f"standardscaler.*{reason}"):
        InfluenceExplainer(pipeline).fit(X, y)


@pytest.mark.parametrize(
    ("regressor", "transformer", "reason"),
    [
        (Ridge(), QuantileTransformer(n_quantiles=20), "QuantileTransformer is not followed"),
        (HuberRegressor(), StandardScaler(), "not followed with HuberRegressor"),
        (PoissonRegressor(), MaxAbsScaler(), "not followed with PoissonRegressor"),
    ],
)
def test_target_transformers_that_are_not_followed(regressor, transformer, reason):
    y = COUNTS + 1.0
    last = TransformedTargetRegressor(regressor, transformer=transformer)
    with pytest.raises(ValueError, match=f"'transformer' .*{reason}"):
        explained(last, X, y)
    with pytest.warns(UserWarning, match=f"'transformer' .*{reason}"):
        InfluenceExplainer(last).fit(X, y)


def test_refits_would_not_keep_a_transformer_as_fitted():
    last = TransformedTargetRegressor(Ridge(), transformer=StandardScaler())
    poisson = TransformedTargetRegressor(PoissonRegressor(), transformer=MaxAbsScaler())
    for model, mode in ((last, "frozen"), (make_pipeline(StandardScaler(), poisson), "auto")):
        with (
            pytest.warns(UserWarning, match="transformer"),
            pytest.raises(ValueError, match="method='refit' fits the target transformer"),
        ):
            InfluenceExplainer(model, method="refit", preprocessing=mode).fit(X, COUNTS + 1.0)


def test_steps_fitted_on_transformed_targets_are_refused():
    inner = make_pipeline(SelectKBest(f_regression, k=2), Ridge())
    model = TransformedTargetRegressor(inner, transformer=StandardScaler())
    with pytest.raises(ValueError, match="'selectkbest' inside TransformedTargetRegressor"):
        InfluenceExplainer(model).fit(X, VALUES)
