"""Rows in dask collections: every kind of linear model, the numbers of rows in memory."""

import dask
import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LogisticRegression,
    MultiTaskLasso,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.preprocessing import scale
from sklearn.svm import SVC, LinearSVC, LinearSVR

from skinfluence import InfluenceExplainer
from skinfluence.inference import InfinitesimalJackknife
from skinfluence.methods import Newton
from skinfluence.model_selection import cross_val_predict
from skinfluence.objectives.sharded import crossing
from skinfluence.solvers import Direct

Xb, yb = load_breast_cancer(return_X_y=True)
Xb, yb = scale(Xb)[:300, :5], np.array(["no", "yes"])[yb[:300]]
Xi, yi = load_iris(return_X_y=True)
Xi = scale(Xi)  # sorted by class: partitions without some of the classes
Xd, yd = load_diabetes(return_X_y=True)
Xd, yd = scale(Xd)[:300], yd[:300]
both_targets = np.column_stack([yd, np.sqrt(yd)])
liblinear = {"C": 0.01, "max_iter": 100_000, "random_state": 0}
sgd = {"tol": 1e-6, "max_iter": 5000, "random_state": 0, "alpha": 0.01}

MODELS = {
    # penalties of a mean
    "poisson": (PoissonRegressor(alpha=0.1, tol=1e-8, max_iter=1000), Xd, yd / 20),
    "gamma": (GammaRegressor(alpha=0.1, tol=1e-8, max_iter=1000), Xd, yd),
    "tweedie": (TweedieRegressor(power=1.5, alpha=0.1, tol=1e-8, max_iter=1000), Xd, yd),
    "elastic net": (ElasticNet(tol=1e-12, max_iter=10_000), Xd, yd),
    "lasso": (Lasso(alpha=2.0, tol=1e-12, max_iter=10_000), Xd, yd),
    "sgd huber": (SGDRegressor(loss="huber", epsilon=20.0, **sgd), Xd, yd),
    # balanced classes
    "balanced": (LogisticRegression(class_weight="balanced"), Xb, yb),
    "balanced softmax": (LogisticRegression(class_weight="balanced", max_iter=1000), Xi, yi),
    "balanced ridge": (RidgeClassifier(class_weight="balanced"), Xi, yi),
    "balanced rest": (LinearSVC(C=0.1, class_weight="balanced", tol=1e-8), Xi, yi),
    "balanced sgd": (SGDClassifier(loss="log_loss", class_weight="balanced", **sgd), Xb, yb),
    # kinks
    "squared hinge": (LinearSVC(C=0.1, tol=1e-8), Xb, yb),
    "squared tube": (
        LinearSVR(loss="squared_epsilon_insensitive", C=0.1, epsilon=10.0, tol=1e-8),
        Xd,
        yd,
    ),
    "l1 logistic": (
        LogisticRegression(l1_ratio=1.0, C=0.1, solver="saga", max_iter=5000, tol=1e-8),
        Xb,
        yb,
    ),
    # several objectives side by side
    "two penalties": (Ridge(alpha=[1.0, 5.0]), Xd, both_targets),
    "one against the rest": (
        OneVsRestClassifier(LogisticRegression(class_weight="balanced")),
        Xi,
        yi,
    ),
    "two targets": (MultiOutputRegressor(Ridge()), Xd, both_targets),
}
WEIGHTED = ("poisson", "elastic net", "balanced", "balanced ridge", "balanced rest")
pytestmark = pytest.mark.filterwarnings(
    "ignore:the fit was not at its optimum", "ignore:.*have leverage above"
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module", params=[*MODELS, *(f"{name}, weights" for name in WEIGHTED)])
def fitted(request):
    """A fitted model with its rows, in memory and in uneven partitions."""
    name, *weighted = request.param.split(", ")
    model, X, y = MODELS[name]
    weight = np.random.default_rng(0).uniform(0.5, 2.0, len(y)) if weighted else None
    model.fit(X, y) if weight is None else model.fit(X, y, sample_weight=weight)
    chunks = (37, 1, len(y) - 38 - 50, 50)
    shards = [da.from_array(X, chunks=(chunks, 3)), da.from_array(y, chunks=60), None]
    if weighted:
        shards[2] = da.from_array(weight, chunks=100)
    return model, (X, y, weight), shards


def explainers(fitted, method):
    model, rows, shards = fitted
    local = InfluenceExplainer(FrozenEstimator(model), method=method).fit(*rows)
    return local, InfluenceExplainer(model, method=method).fit(*shards)


def close(actual, expected):
    assert actual.shape == expected.shape
    actual = np.asarray(actual)
    assert_allclose(actual, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("method", ["influence", "infinitesimal_jackknife", "newton"])
def test_same_numbers(fitted, method):
    local, sharded = explainers(fitted, method)
    X, y = fitted[1][0][10:17], fitted[1][1][10:17]
    close(sharded.objective_.theta, local.objective_.theta)
    close(sharded.transform(X, y), local.transform(X, y))
    close(sharded.self_influence(), local.self_influence())
    close(sharded.row_norms(), local.row_norms())
    top = sharded.top_influences(X, y, k=3, relative="loss")
    close(top.values, local.top_influences(X, y, k=3, relative="loss").values)
    groups = np.arange(len(fitted[1][1])) % 4
    close(sharded.group_influence(groups, X, y), local.group_influence(groups, X, y))


def test_left_out_predictions(fitted):
    model, (X, y, weight), shards = fitted
    params = {} if weight is None else {"params": {"sample_weight": weight}}
    expected = cross_val_predict(FrozenEstimator(model), X, y, approximation="newton", **params)
    params = {} if weight is None else {"params": {"sample_weight": shards[2]}}
    actual = cross_val_predict(model, *shards[:2], **params).compute()
    if actual.dtype.kind == "f":
        close(actual, expected)
    else:
        assert (actual == expected).all()


@pytest.mark.parametrize("name", ["poisson", "balanced softmax", "squared hinge", "balanced rest"])
@pytest.mark.parametrize("method", ["first", "newton", "rescaled"])
def test_groups(name, method):
    model, X, y = MODELS[name]
    model.fit(X, y)
    local = InfluenceExplainer(FrozenEstimator(model)).fit(X, y)
    sharded = InfluenceExplainer(model).fit(da.from_array(X, chunks=(45, -1)), da.from_array(y))
    labels = np.array(["b", "a", "c"])[np.random.default_rng(0).integers(0, 3, len(y))]
    queries, options = (X[:5], y[:5]), {"method": method}
    expected = local.group_influence(labels, *queries, **options)
    close(sharded.group_influence(labels, *queries, **options), expected)
    in_pieces = da.from_array(labels, chunks=33)
    close(sharded.group_influence(in_pieces, *queries, **options), expected)
    lazy = sharded.group_influence(
        labels, da.from_array(X[:5], chunks=(2, -1)), da.from_array(y[:5]), **options
    )
    assert isinstance(lazy, da.Array)
    close(lazy, expected)
    some = [[44, 45, 3], list(range(0, 140, 2)), [len(y) - 1]]
    close(
        sharded.group_influence(some, *queries, **options),
        local.group_influence(some, *queries, **options),
    )


@pytest.mark.parametrize("name", ["balanced softmax", "balanced rest", "balanced ridge", "poisson"])
def test_a_partition_without_weight(name):
    model, X, y = MODELS[name]
    weight = np.where(np.arange(len(y)) < 45, 0.0, 1.5)
    weight[10:12] = 1.0, 0.0
    weight[:5] = np.where(name == "poisson", 0.0, 2.0)
    model.fit(X, y, sample_weight=weight)
    local = InfluenceExplainer(FrozenEstimator(model)).fit(X, y, weight)
    sharded = InfluenceExplainer(model).fit(
        da.from_array(X, chunks=(20, -1)), da.from_array(y), da.from_array(weight)
    )
    close(sharded.transform(X[:5], y[:5]), local.transform(X[:5], y[:5]))
    V = np.random.default_rng(0).normal(size=(local.objective_.n_params, 2))
    close(sharded.objective_.hessian_product(V), local.objective_.hessian_product(V))


def test_groups_with_damping_and_without_much_memory():
    model = LogisticRegression().fit(Xb, yb)
    options = {"solver": Direct(damping=3.0), "method": Newton()}
    local = InfluenceExplainer(FrozenEstimator(model), **options).fit(Xb, yb)
    sharded = InfluenceExplainer(model, **options).fit(
        da.from_array(Xb, chunks=(70, -1)), da.from_array(yb)
    )
    from skinfluence import config_context

    groups = np.arange(300) // 9
    with config_context(working_memory=0.01):
        close(
            sharded.group_influence(groups, Xb[:4], yb[:4]),
            local.group_influence(groups, Xb[:4], yb[:4]),
        )


def test_groups_are_checked():
    model = LogisticRegression(class_weight="balanced").fit(Xb, yb)
    sharded = InfluenceExplainer(model).fit(da.from_array(Xb, chunks=(70, -1)), da.from_array(yb))
    queries = Xb[:2], yb[:2]
    with pytest.raises(ValueError, match="without group 1 no row of class 'yes' is left"):
        sharded.group_influence([[0], np.flatnonzero(yb == "yes")], *queries)
    with pytest.raises(ValueError, match="group 0 holds every row"):
        sharded.group_influence([np.arange(300)], *queries)
    with pytest.raises(ValueError, match="method SecondOrder needs all rows at once"):
        sharded.group_influence(yb, *queries, method="second_order")
    with pytest.raises(ValueError, match="groups has 299 rows and X has 300"):
        sharded.group_influence(da.from_array(yb[1:]), *queries)
    missing = np.where(np.arange(300) == 7, np.nan, 1.0)
    with pytest.raises(ValueError, match="missing labels"):
        sharded.group_influence(da.from_array(missing), *queries)
    free = InfluenceExplainer(Ridge(alpha=0.0).fit(Xb[:, :2], Xb[:, 3])).fit(
        da.from_array(
            np.where(np.arange(300)[:, None] < 9, Xb[:, :2], [1.0, 0.0]), chunks=(70, -1)
        ),
        da.from_array(Xb[:, 3]),
    )
    with pytest.raises(ValueError, match="without group 0 the columns of X are linearly dependent"):
        free.group_influence([np.arange(9)], np.eye(2))


@pytest.mark.parametrize("name", ["balanced", "squared hinge", "squared tube", "elastic net"])
def test_a_fit_on_a_sample_is_polished_on_all_rows(name):
    model, X, y = MODELS[name]
    model.fit(X[::6], y[::6])
    with pytest.warns(ConvergenceWarning, match="Newton steps moved the parameters"):
        sharded = InfluenceExplainer(model).fit(
            da.from_array(X, chunks=(80, -1)), da.from_array(y, chunks=80)
        )
    local = InfluenceExplainer(model, method="newton").fit(X, y)
    close(sharded.transform(X[:5], y[:5]), local.transform(X[:5], y[:5]))


def test_the_crossing_of_a_piecewise_linear_slope():
    kinks = np.array([0.1, 0.34, 0.3401, 0.8])

    def slopes(t):
        return 1.0 - 2 * np.maximum(0, t[:, None] - kinks).sum(axis=1)

    # 1 - 2 ((t - .1) + (t - .34) + (t - .3401)) = 0
    assert_allclose(crossing(slopes), (0.5 + 0.7801) / 3, rtol=1e-12)
    assert crossing(lambda t: 1 - 0.5 * t) == 1.0


@pytest.mark.parametrize("groups", [None, np.arange(300) // 7])
@pytest.mark.parametrize("name", ["balanced", "poisson"])
def test_jackknife_covariance(name, groups):
    model, X, y = MODELS[name]
    model.fit(X, y)
    local = InfinitesimalJackknife(FrozenEstimator(model), groups=groups).fit(X, y)
    sharded = InfinitesimalJackknife(model, groups=groups).fit(
        da.from_array(X, chunks=(70, -1)), da.from_array(y)
    )
    close(sharded.covariance_, local.covariance_)
    close(sharded.confidence_interval(), local.confidence_interval())
    ask = "predict_proba" if name == "balanced" else "predict"
    close(
        getattr(sharded, ask)(X[:5], return_std=True)[1],
        getattr(local, ask)(X[:5], return_std=True)[1],
    )
    for call in (
        lambda: sharded.reweight(np.ones(300)),
        sharded.bootstrap,
        lambda: sharded.bias_,
        lambda: sharded.predict_interval(X[:5]),
    ):
        with pytest.raises(TypeError, match="needs all training rows at once"):
            call()
    with pytest.raises(ValueError, match="order=2 needs all rows"):
        InfinitesimalJackknife(model, order=2).fit(da.from_array(X), da.from_array(y))


@pytest.mark.parametrize(
    ("model", "options", "error", "match"),
    [
        (SVC(kernel="linear"), {}, TypeError, "linear predictors, which SVC is not"),
        (LinearDiscriminantAnalysis(), {}, TypeError, "linear predictors, which LinearDiscr"),
        (
            LinearSVC(loss="hinge", **liblinear),
            {},
            TypeError,
            "KinkedObjective.*fit the squared hinge",
        ),
        (LogisticRegression(), {"method": "exact"}, ValueError, "method Exact needs all rows"),
        (LogisticRegression(), {"method": "refit"}, ValueError, "method Refit needs all rows"),
        (LogisticRegression(), {"solver": "cg"}, ValueError, "ConjugateGradient needs all rows"),
    ],
)
def test_what_shards_cannot_follow_is_refused(model, options, error, match):
    rows = da.from_array(Xb, chunks=(90, -1)), da.from_array(yb, chunks=90)
    with pytest.raises(error, match=match):
        InfluenceExplainer(model.fit(Xb, yb), **options).fit(*rows)


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (HuberRegressor(), r"SGDRegressor\(loss='huber'\)"),
        (MultiTaskLasso(), "one ElasticNet a target"),
        (LinearSVR(epsilon=1.0, **liblinear), "squared tube"),
    ],
)
def test_other_regressors_are_refused(model, match):
    y = both_targets if isinstance(model, MultiTaskLasso) else yd
    rows = da.from_array(Xd, chunks=(90, -1)), da.from_array(y, chunks=(90, -1)[: y.ndim])
    with pytest.raises(TypeError, match=match):
        InfluenceExplainer(model.fit(Xd, y)).fit(*rows)
