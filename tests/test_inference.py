"""The infinitesimal jackknife against statsmodels, refits, and simulation."""

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import BaggingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from skinfluence.inference import InfinitesimalJackknife, bagging_variance

X, Y = (part[:90] for part in load_diabetes(return_X_y=True))
X = X[:, :5] * 20
LABELS = (Y > np.median(Y)).astype(int)
IRIS, THREE = load_iris(return_X_y=True)
IRIS, THREE = scale(IRIS)[::2], THREE[::2]
CLUSTERS = np.arange(90) // 6
FREE = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000, solver="newton-cholesky")
RIDGED = LogisticRegression(tol=1e-12, max_iter=1000, solver="newton-cholesky")


@parametrize_with_checks(
    [InfinitesimalJackknife(Ridge()), InfinitesimalJackknife(LogisticRegression())]
)
def test_scikit_learn_estimator(estimator, check):
    check(estimator)


def intercept_last(covariance):
    order = np.r_[1 : len(covariance), 0]
    return covariance[np.ix_(order, order)]


@pytest.mark.parametrize("kind", ["ols", "logit"])
@pytest.mark.parametrize("clusters", [None, CLUSTERS], ids=["HC0", "cluster"])
def test_covariance_is_the_sandwich_of_statsmodels(kind, clusters):
    """To 1e-8, for unpenalised fits; statsmodels' small-sample factor is switched off."""
    design = sm.add_constant(X)
    options = {"cov_type": "HC0"}
    if clusters is not None:
        groups = {"groups": clusters, "use_correction": False}
        options = {"cov_type": "cluster", "cov_kwds": groups}
    if kind == "ols":
        truth, model, y = sm.OLS(Y, design).fit(**options), LinearRegression(), Y
    else:
        truth = sm.Logit(LABELS, design).fit(disp=0, tol=1e-14, **options)
        model, y = FREE, LABELS
    ours = InfinitesimalJackknife(model, groups=clusters).fit(X, y)
    expected = intercept_last(truth.cov_params())
    assert_allclose(ours.covariance_, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())
    assert_allclose(ours.standard_errors_, np.sqrt(np.diag(expected)), rtol=1e-8)
    assert_allclose(ours.parameters_, np.r_[truth.params[1:], truth.params[0]], rtol=1e-8)


def perturbed(model, X, y, delta):
    """Parameters of a fit with weights ``1 + delta``."""
    fitted = clone(model).fit(X, y, sample_weight=1 + delta)
    return np.column_stack([np.atleast_2d(fitted.coef_), np.ravel(fitted.intercept_)]).ravel()


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("y", [LABELS, THREE], ids=["binary", "multinomial"])
def test_halving_the_perturbation_divides_the_error_by_four_or_eight(order, y):
    rows = X if len(y) == len(X) else IRIS
    delta = np.random.default_rng(0).uniform(-1, 1, len(y))
    jackknife = InfinitesimalJackknife(RIDGED, order=order).fit(rows, y)
    errors = [
        np.linalg.norm(jackknife.reweight(1 + h * delta) - perturbed(RIDGED, rows, y, h * delta))
        for h in (0.1, 0.05)
    ]
    assert errors[0] / errors[1] == pytest.approx(2 ** (order + 1), rel=0.12)


def test_reweight_takes_rows_of_weights_in_the_place_of_those_of_fit():
    weights = np.linspace(0.5, 1.5, 90)
    jackknife = InfinitesimalJackknife(RIDGED).fit(X, LABELS, sample_weight=weights)
    assert_allclose(jackknife.reweight(weights), jackknife.parameters_, rtol=1e-12)
    moved = weights + 1e-4 * np.cos(np.arange(90))
    truth = perturbed(RIDGED, X, LABELS, moved - 1)
    assert_allclose(jackknife.reweight([moved, weights])[0], truth, atol=1e-8)
    with pytest.raises(ValueError, match="shape"):
        jackknife.reweight(np.ones(3))
    with pytest.raises(ValueError, match="not negative"):
        jackknife.reweight(-weights)


@pytest.mark.parametrize("y", [LABELS, THREE], ids=["binary", "multinomial"])
def test_bias_is_half_the_sum_of_second_derivatives(y):
    """Second differences of refits in each row's weight."""
    rows = X if len(y) == len(X) else IRIS
    jackknife = InfinitesimalJackknife(RIDGED).fit(rows, y)
    total, h = 0.0, 0.02
    fitted = perturbed(RIDGED, rows, y, np.zeros(len(y)))
    for i in range(len(y)):
        step = h * np.eye(1, len(y), i)[0]
        total += perturbed(RIDGED, rows, y, step) + perturbed(RIDGED, rows, y, -step) - 2 * fitted
    bias = total / (2 * h**2)
    assert_allclose(jackknife.bias_, bias, atol=2e-3 * np.abs(bias).max())


def test_balanced_weights_follow_in_the_first_order():
    model = clone(RIDGED).set_params(class_weight="balanced")
    jackknife = InfinitesimalJackknife(model).fit(X, LABELS)
    delta = 1e-4 * np.sin(np.arange(90))
    assert_allclose(jackknife.reweight(1 + delta), perturbed(model, X, LABELS, delta), atol=1e-7)
    with pytest.raises(ValueError, match="order=1"):
        InfinitesimalJackknife(model, order=2).fit(X, LABELS)


def test_bootstrap_has_the_covariance_and_the_bias():
    """4000 replicates: their covariance is that of the jackknife to sampling error, 1/√B each."""
    jackknife = InfinitesimalJackknife(Ridge(), random_state=0).fit(X, Y)
    replicates = jackknife.bootstrap(4000)
    assert replicates.shape == (4000, 6)
    spread = replicates.std(axis=0) / jackknife.standard_errors_
    assert_allclose(spread, 1, atol=4 / np.sqrt(2 * 4000))
    grouped = InfinitesimalJackknife(Ridge(), groups=CLUSTERS, random_state=0).fit(X, Y)
    spread = grouped.bootstrap(4000).std(axis=0) / grouped.standard_errors_
    assert_allclose(spread, 1, atol=0.06)


@pytest.mark.parametrize("kind", ["plus", "minmax"])
@pytest.mark.parametrize("level", [0.8, 0.9])
def test_jackknife_plus_equals_refits_on_ridge(kind, level):
    queries, n = X[:7] + 0.3, 60
    rows, y = X[20:80], Y[20:80]
    left_out, residuals = np.empty((7, n)), np.empty(n)
    for i in range(n):
        keep = np.arange(n) != i
        model = Ridge(2.0).fit(rows[keep], y[keep])
        left_out[:, i] = model.predict(queries)
        residuals[i] = abs(y[i] - model.predict(rows[[i]])[0])
    rank = int(np.ceil(level * (n + 1)))
    if kind == "plus":
        lower = np.sort(left_out - residuals)[:, n - rank]
        upper = np.sort(left_out + residuals)[:, rank - 1]
    else:
        quantile = np.sort(residuals)[rank - 1]
        lower, upper = left_out.min(axis=1) - quantile, left_out.max(axis=1) + quantile
    ours = InfinitesimalJackknife(Ridge(2.0)).fit(rows, y)
    ends = ours.predict_interval(queries, level, kind=kind)
    assert_allclose(ends, np.column_stack([lower, upper]), rtol=1e-10)


@pytest.mark.parametrize("kind", ["plus", "minmax"])
def test_jackknife_after_bootstrap_averages_the_replicates_without_each_row(kind):
    """Against refits of the same bootstrap samples: within 2 % of the intervals' width."""
    queries, n, n_replicates = X[:5] + 0.3, 90, 200
    ours = InfinitesimalJackknife(Ridge(2.0), order=2, random_state=3).fit(X, Y)
    ends = ours.predict_interval(queries, 0.9, kind=kind, n_replicates=n_replicates)
    counts = np.random.RandomState(3).multinomial(n, np.full(n, 1 / n), n_replicates)
    models = [Ridge(2.0).fit(X, Y, sample_weight=count) for count in counts]
    left_out, residuals = np.empty((5, n)), np.empty(n)
    for i in range(n):
        without = [model for model, count in zip(models, counts, strict=True) if count[i] == 0]
        left_out[:, i] = np.mean([model.predict(queries) for model in without], axis=0)
        residuals[i] = abs(Y[i] - np.mean([model.predict(X[[i]])[0] for model in without]))
    rank = int(np.ceil(0.9 * (n + 1)))
    if kind == "plus":
        lower = np.sort(left_out - residuals)[:, n - rank]
        upper = np.sort(left_out + residuals)[:, rank - 1]
    else:
        quantile = np.sort(residuals)[rank - 1]
        lower, upper = left_out.min(axis=1) - quantile, left_out.max(axis=1) + quantile
    width = (upper - lower).mean()
    assert_allclose(ends, np.column_stack([lower, upper]), atol=0.02 * width)


def test_ninety_percent_intervals_cover():
    """Of 250 simulated tables, whose errors have unequal variance: within 2 points."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, 3))
    truth, hits = np.array([1.0, -1.0, 0.5, 2.0]), []
    for _ in range(250):
        noise = rng.standard_normal(300) * (0.5 + np.abs(rows[:, 0]))
        jackknife = InfinitesimalJackknife(LinearRegression())
        jackknife.fit(rows, rows @ truth[:3] + truth[3] + noise)
        ends = jackknife.confidence_interval(0.9)
        hits.append((ends[:, 0] <= truth) & (truth <= ends[:, 1]))
    assert np.mean(hits) == pytest.approx(0.9, abs=0.02)


def test_standard_errors_of_predictions():
    """The delta method by hand, of a ridge and of class probabilities."""
    jackknife = InfinitesimalJackknife(Ridge()).fit(X, Y)
    A = np.column_stack([X, np.ones(90)])
    prediction, std = jackknife.predict(X, return_std=True)
    assert_allclose(prediction, Ridge().fit(X, Y).predict(X))
    assert_allclose(std, np.sqrt(np.einsum("ij,jk,ik->i", A, jackknife.covariance_, A)), rtol=1e-8)
    for rows, y in ((X, LABELS), (IRIS, THREE)):
        jackknife = InfinitesimalJackknife(RIDGED).fit(rows, y)
        proba, std = jackknife.predict_proba(rows, return_std=True)
        p = proba[5] if len(jackknife.classes_) == 3 else proba[5, 1:]
        S = np.diag(p) - np.outer(p, p) if len(p) > 1 else np.array([p * (1 - p)])
        J = np.kron(S, np.append(rows[5], 1.0))
        expected = np.sqrt(np.diag(J @ jackknife.covariance_ @ J.T))
        assert_allclose(std[5][-len(p) :], expected, rtol=1e-6)
        with pytest.raises(ValueError, match="predict_proba"):
            jackknife.predict(rows, return_std=True)


def test_summary_frame_names_parameters():
    frame, y = load_breast_cancer(return_X_y=True, as_frame=True)
    frame = frame.iloc[:, :3]
    pipeline = make_pipeline(StandardScaler(), RIDGED)
    jackknife = InfinitesimalJackknife(pipeline, preprocessing="frozen").fit(frame, y)
    summary = jackknife.summary_frame(0.9)
    assert list(summary.index) == [*frame.columns, "intercept"]
    assert list(summary.columns) == ["estimate", "std_error", "z", "p_value", "lower", "upper"]
    final = clone(pipeline).fit(frame, y)[-1]
    assert_allclose(summary["estimate"], np.r_[final.coef_[0], final.intercept_], rtol=1e-7)
    assert_allclose(summary[["lower", "upper"]], jackknife.confidence_interval(0.9))


def test_bagged_mean_has_the_variance_of_the_mean():
    """A bagging ensemble of constants: ``Σ (y - ȳ)² / n²``, to the noise of 2000 members."""
    y = Y[:25]
    ensemble = BaggingRegressor(DecisionTreeRegressor(max_depth=1, min_samples_leaf=25), 2000)
    ensemble.set_params(random_state=0).fit(np.zeros((25, 1)), y)
    variance = bagging_variance(ensemble, np.zeros((1, 1)), 25)
    assert_allclose(variance, ((y - y.mean()) ** 2).sum() / 25**2, rtol=0.1)


def test_forest_variance_is_the_formula_over_single_trees():
    forest = RandomForestRegressor(60, random_state=0).fit(X, Y)
    counts = np.array([np.bincount(s, minlength=90) for s in forest.estimators_samples_])
    trees = np.array([tree.predict(X[:4]) for tree in forest.estimators_])
    raw = [sum(np.cov(counts[:, i], t, bias=True)[0, 1] ** 2 for i in range(90)) for t in trees.T]
    assert_allclose(bagging_variance(forest, X[:4], 90, corrected=False), raw, rtol=1e-10)
    share = counts.var(axis=0).mean() * 90 / 60 * trees.var(axis=0)
    corrected = np.maximum(np.array(raw) - share, 0)
    assert_allclose(bagging_variance(forest, X[:4], 90), corrected, rtol=1e-9, atol=1e-9)
    jackknife = InfinitesimalJackknife(RandomForestRegressor(60, random_state=0)).fit(X, Y)
    assert_allclose(jackknife.predict(X[:4], return_std=True)[1] ** 2, corrected, atol=1e-9)
    with pytest.raises(AttributeError, match="no parameters"):
        jackknife.covariance_  # noqa: B018


def test_refusals():
    with pytest.raises(ValueError, match="bootstrap=True"):
        forest = RandomForestClassifier(5, bootstrap=False).fit(X, LABELS)
        bagging_variance(forest, X, 90)
    with pytest.raises(TypeError, match="DecisionTreeRegressor"):
        bagging_variance(DecisionTreeRegressor().fit(X, Y), X, 90)
    with pytest.raises(TypeError, match="DecisionTreeRegressor"):
        InfinitesimalJackknife(DecisionTreeRegressor()).fit(X, Y)
    with pytest.raises(ValueError, match="order=3"):
        InfinitesimalJackknife(Ridge(), order=3).fit(X, Y)
    with pytest.raises(ValueError, match="groups has shape"):
        InfinitesimalJackknife(Ridge(), groups=[1, 2]).fit(X, Y)
    fitted = InfinitesimalJackknife(Ridge()).fit(X[:15], Y[:15])
    with pytest.raises(ValueError, match="at least 19 training rows"):
        fitted.predict_interval(X, 0.95)
    with pytest.raises(ValueError, match="draw more"):
        fitted.predict_interval(X, 0.5, n_replicates=1)
    with pytest.raises(ValueError, match="n_replicates has none"):
        fitted.predict_interval(X, 0.5, approximation="newton", n_replicates=100)
    with pytest.raises(ValueError, match="kind='jab'"):
        fitted.predict_interval(X, 0.5, kind="jab")
    with pytest.raises(ValueError, match="regressor"):
        InfinitesimalJackknife(RIDGED).fit(X, LABELS).predict_interval(X)
