"""Memory: peaks of public functions beyond input and output, at n and at 2 n rows."""

import gc
import tracemalloc
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    ElasticNet,
    HuberRegressor,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
)
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import skinfluence
from skinfluence import (
    EnsembleExplainer,
    GradientStore,
    InfluenceEmbedding,
    InfluenceExplainer,
    MultiStageInfluence,
    value_rows,
)
from skinfluence._blocks import calling_thread
from skinfluence.fine_tuning import PriorLogisticRegression
from skinfluence.inference import InfinitesimalJackknife, bagging_variance
from skinfluence.mislabel import MislabelDetector
from skinfluence.model_selection import cross_val_predict, cross_validate
from skinfluence.model_selection._model import FoldModel

# Rows at the first measurement, columns, queries: more rows than a cached block holds, and at both
# measurements too few to be shared out to threads.
N, D, M = 3600, 40, 3
WORKING_MEMORY = 1  # MiB
# Bytes a row that a peak may grow by: a few vectors, less than the rows in float32 once more.
VECTORS = 14 * 8
KINDS = {
    "binary": LogisticRegression(),
    "classes": LogisticRegression(),
    "number": Ridge(),
    "counts": PoissonRegressor(alpha=1e-2),
    "sparse": ElasticNet(alpha=0.05),
    "robust": HuberRegressor(),
}


class Data:
    """Rows of one kind in a float32 memmap, and a model fitted on them."""

    def __init__(self, kind, n, folder):
        rng = np.random.default_rng(0)
        self.X = np.memmap(folder / f"{kind}{n}", np.float32, "w+", shape=(n, D))
        self.X[:] = rng.standard_normal((n, D))
        z = self.X[:] @ rng.standard_normal((D, 4)) / np.sqrt(D)
        self.y = {
            "binary": lambda: (z[:, 0] + rng.logistic(size=n) > 0).astype(int),
            "classes": lambda: np.argmax(2 * z + rng.gumbel(size=z.shape), axis=1),
            "counts": lambda: rng.poisson(np.exp(z[:, 0])).astype(float),
        }.get(kind, lambda: z[:, 0] + rng.standard_normal(n))()
        self.n, self.folder, self._explainers = n, folder, {}
        with warnings.catch_warnings():  # the objective goes on to the optimum
            warnings.simplefilter("ignore")
            self.model = FrozenEstimator(clone(KINDS[kind]).fit(self.X, self.y))
        self.queries = np.array(self.X[:M]), self.y[:M]
        self.few = np.array(self.X[:200]), self.y[:200]

    def fit(self, method):
        return InfluenceExplainer(self.model, method=method).fit(self.X, self.y)

    def explainer(self, method):
        if method not in self._explainers:
            self._explainers[method] = self.fit(method)
        return self._explainers[method]

    def out(self, *shape):
        return np.memmap(self.folder / "out", np.float64, "w+", shape=shape)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    kept, folder = {}, tmp_path_factory.mktemp("rows")

    def make(kind, n):
        if (kind, n) not in kept:
            kept[kind, n] = Data(kind, n, folder)
        return kept[kind, n]

    return make


def beyond_output(call):
    """Bytes at the peak of a call besides those that it leaves behind."""
    gc.collect()
    tracemalloc.start()
    try:
        result = call()
        gc.collect()
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del result
    return peak - left


def growth(prepare, data, kind):
    """Bytes a row by which the peak of a prepared call grows from n to 2 n rows."""
    # on one thread: how far several run ahead of each other is not the same every time
    with skinfluence.config_context(working_memory=WORKING_MEMORY), calling_thread():
        calls = [prepare(data(kind, n)) for n in (N, 2 * N)]
        calls[0]()  # what is made once, is made
        peaks = [beyond_output(call) for call in calls]
    return (peaks[1] - peaks[0]) / N


# -- explainers ----------------------------------------------------------------------------
EXPLAINED = {
    "transform": lambda d, e: e.transform(*d.queries, out=d.out(M, d.n)),
    "top_influences": lambda d, e: e.top_influences(*d.queries),
    "dataset_influence": lambda d, e: e.dataset_influence(*d.queries),
    "self_influence": lambda d, e: e.self_influence(),
    "relative_influence": lambda d, e: e.relative_influence(
        *d.queries, norm="parameters", out=d.out(M, d.n)
    ),
    "row_norms": lambda d, e: e.row_norms(norm="parameters"),
    "parameter_influence": lambda d, e: e.parameter_influence(
        out=d.out(d.n, e.objective_.n_params)
    ),
    "group_influence": lambda d, e: e.group_influence(np.arange(d.n) % 3, *d.queries),
    "group_influence, first order": lambda d, e: e.group_influence(
        [np.arange(d.n // 2), np.arange(d.n // 2, d.n - 9)], *d.queries, method="first"
    ),
}
SMOOTH = {
    "group_influence, second order": lambda d, e: e.group_influence(
        np.arange(d.n) % 3, *d.queries, method="second_order"
    ),
    "feature_influence": lambda d, e: e.feature_influence(np.arange(0, d.n, 40), *d.queries),
    "counterfactual_labels": lambda d, e: e.counterfactual_labels(
        np.arange(0, d.n, 5), d.y[::5][::-1], *d.queries
    ),
    "added_influence": lambda d, e: e.added_influence(np.array(d.X[:500]), d.y[:500], *d.queries),
    "transform_rows": lambda d, e: e.transform_rows(np.arange(0, d.n, 5), 2.0, *d.queries),
    "row_norms in the loss": lambda d, e: e.row_norms(np.arange(0, d.n, 5)),
    "error_bound": lambda d, e: e.error_bound([0]),
    "unlearn": lambda d, e: e.unlearn([0, 1]),
}


# With coupled outputs other code runs than with one.
COUPLED = ["transform", "self_influence", "group_influence, second order"]


@pytest.mark.parametrize(
    ("name", "method", "kind"),
    [(name, "newton", "binary") for name in EXPLAINED | SMOOTH]
    + [(name, "influence", "classes") for name in COUPLED],
)
def test_explainer(name, method, kind, data):
    call = (EXPLAINED | SMOOTH)[name]

    def prepare(d):
        explainer = d.explainer(method)
        return lambda: call(d, explainer)

    assert growth(prepare, data, kind) < allowed(kind)


def allowed(kind):
    """Bytes a row: with several classes a few arrays of theirs, less than the parameters."""
    return 4 * VECTORS if kind == "classes" else VECTORS


@pytest.mark.parametrize("kind", KINDS)
def test_fit(kind, data):
    assert growth(lambda d: partial(d.fit, "influence"), data, kind) < allowed(kind)


@pytest.mark.parametrize("kind", ["counts", "sparse", "robust"])
@pytest.mark.parametrize("name", ["self_influence"])
def test_explainer_of_regressor(name, kind, data):
    def prepare(d):
        explainer = d.explainer("influence")
        return lambda: EXPLAINED[name](d, explainer)

    assert growth(prepare, data, kind) < allowed(kind)


# -- what is built on them -----------------------------------------------------------------
def jackknife(d, **options):
    return InfinitesimalJackknife(d.model, **options).fit(d.X, d.y)


def embedded(d):
    explainer = InfluenceExplainer(d.model, method="influence")
    return InfluenceEmbedding(explainer, n_components=2).fit(d.X, d.y)


def stored(d):
    explainer = d.explainer("influence")
    store = GradientStore(n_components=10, folder=d.folder / "store")
    return lambda: store.fit(explainer).transform(*d.queries, out=d.out(M, d.n))


def averaged(d):
    explainer = InfluenceExplainer(d.model, method="influence")
    return EnsembleExplainer(explainer, estimators=[d.model, d.model]).fit(d.X, d.y)


def fine_tuned(d):
    stages = {"shared": "*", "coupling": "updated", "alpha": 1.0}
    explainer = MultiStageInfluence(d.model, PriorLogisticRegression(), **stages)
    return explainer.fit(d.X, d.y, *d.few)


def forest_variance(d):
    forest = RandomForestRegressor(3, max_depth=2, random_state=0).fit(d.X[:], d.y)
    return lambda: bagging_variance(forest, d.queries[0], d.n)


CASES = {
    "cross_val_predict, rows": (
        "binary",
        lambda d: lambda: cross_val_predict(d.model, d.X, d.y, approximation="newton"),
    ),
    "cross_val_predict, folds": (
        "binary",
        lambda d: lambda: cross_val_predict(d.model, d.X, d.y, cv=3, approximation="newton"),
    ),
    "cross_validate": (
        "classes",
        lambda d: (
            lambda: cross_validate(d.model, d.X, d.y, scoring="accuracy", approximation="newton")
        ),
    ),
    "MislabelDetector": (
        "binary",
        lambda d: lambda: MislabelDetector(LogisticRegression(), n_rounds=1).fit(d.X, d.y),
    ),
    "value_rows": (
        "binary",
        lambda d: lambda: value_rows(d.model, d.X, d.y, *d.queries),
    ),
    "covariance_": ("classes", lambda d: lambda: jackknife(d).covariance_),
    "clusters": ("binary", lambda d: lambda: jackknife(d, groups=np.arange(d.n) // 2).covariance_),
    "bootstrap": ("number", lambda d: lambda: jackknife(d).bootstrap(20)),
    "reweight": ("number", lambda d: lambda: jackknife(d, order=2).reweight(np.ones((1, d.n)))),
    "predict with errors": (
        "number",
        lambda d: lambda: jackknife(d).predict(d.X, return_std=True),
    ),
    "predict_interval": ("number", lambda d: lambda: jackknife(d).predict_interval(d.queries[0])),
    "predict_interval, replicates": (
        "number",
        lambda d: lambda: jackknife(d).predict_interval(d.queries[0], n_replicates=60),
    ),
    "InfluenceEmbedding": ("binary", lambda d: lambda: embedded(d)),
    "GradientStore": ("binary", stored),
    "MultiStageInfluence": (
        "binary",
        lambda d: lambda: fine_tuned(d).transform(*d.queries, out=d.out(M, d.n)),
    ),
    "bagging_variance": ("number", forest_variance),
    "EnsembleExplainer": (
        "binary",
        lambda d: partial(averaged(d).transform, *d.queries, out=d.out(M, d.n)),
    ),
}


# What else there is of each row: whether it is in the train and test part of each of three folds.
MORE = {"cross_val_predict, folds": 3 * 16}


@pytest.mark.parametrize("name", CASES)
def test_others(name, data):
    kind, prepare = CASES[name]
    assert growth(prepare, data, kind) < allowed(kind) + MORE.get(name, 0)


# -- nets ----------------------------------------------------------------------------------
class LargestTensor(TorchDispatchMode):
    """Bytes of the largest tensor that any operation makes."""

    size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for part in out if isinstance(out, tuple | list) else [out]:
            if isinstance(part, torch.Tensor):
                self.size = max(self.size, part.untyped_storage().nbytes())
        return out


def test_nets_hold_no_rows_by_parameters():
    sizes, arrays = [], []
    for n in (1100, 3300):
        rng = np.random.default_rng(0)
        X = rng.standard_normal((n, 30)).astype(np.float32)
        y = (X[:, 0] + rng.standard_normal(n) > 0).astype(np.int64)
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(30, 65), nn.Tanh(), nn.Linear(65, 2))
        net = NeuralNetClassifier(
            module, criterion=nn.CrossEntropyLoss, max_epochs=1, train_split=None, verbose=0
        )
        explainer = InfluenceExplainer(FrozenEstimator(net.fit(X, y)))
        with skinfluence.config_context(working_memory=24), LargestTensor() as largest:
            peak = beyond_output(lambda: explained(explainer, X, y))  # noqa: B023
        sizes.append(largest.size)
        arrays.append(peak)
    p = explainer.objective_.n_params
    assert p > 2000  # fewer are factorised densely
    # a few numbers a row and output, where rows by parameters would be n * p
    assert sizes[1] - sizes[0] < 100 * (3300 - 1100)
    assert arrays[1] - arrays[0] < 250 * (3300 - 1100)


def explained(explainer, X, y):
    return explainer.fit(X, y).transform(X[:1], y[:1])


# -- inputs --------------------------------------------------------------------------------
def held(name, d):
    """The rows that something fitted on a memmap holds."""
    return {
        "InfluenceExplainer": lambda: d.fit("newton").objective_.design.X,
        "InfinitesimalJackknife": lambda: jackknife(d).objective_.design.X,
        "MislabelDetector": lambda: MislabelDetector(d.model.estimator).fit(d.X, d.y)._X,
        "EnsembleExplainer": lambda: averaged(d).explainers_[1].objective_.design.X,
        "MultiStageInfluence": lambda: fine_tuned(d).objective_.design.X,
        "cross_val_predict": lambda: (
            FoldModel(d.model.estimator, d.X, d.y, "newton", "auto", {}).objective.design.X
        ),
    }[name]()


@pytest.mark.parametrize(
    "name",
    [
        "InfluenceExplainer",
        "InfinitesimalJackknife",
        "MislabelDetector",
        "EnsembleExplainer",
        "MultiStageInfluence",
        "cross_val_predict",
    ],
)
def test_rows_stay_where_they_are(name, data):
    d = data("binary", N)
    rows = held(name, d)
    assert np.shares_memory(rows, d.X)
    assert rows.dtype == np.float32
