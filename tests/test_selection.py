"""The selector: honest gains, against fits done by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from skinfluence import InfluenceExplainer, InfluenceSelector
from skinfluence.selection import _moves, _split
from skinfluence.targets.base import Target
from tests.cases.nets import fitted

X, Y = load_breast_cancer(return_X_y=True)
X = scale(X)
XV, YV = X[300:], Y[300:]
X, Y = X[:300], Y[:300].copy()
Y[:30] = 1 - Y[:30]
MODEL = LogisticRegression(C=0.1, tol=1e-10, max_iter=1000)


def row_losses(fit, X, y):
    return -np.log(fit.predict_proba(X)[np.arange(len(y)), y])


def drawn_by_position(selector):
    """Rows repeated in place of a weight are other rows to draw validation rows from.

    The classifier's checks pass: it takes no choice there.
    """
    if isinstance(selector.estimator, LogisticRegression):
        return {}
    names = [f"check_sample_weight_equivalence_on_{kind}_data" for kind in ("dense", "sparse")]
    return dict.fromkeys(names, "validation rows are drawn by their position")


@parametrize_with_checks(
    [InfluenceSelector(LogisticRegression()), InfluenceSelector(Ridge())],
    expected_failed_checks=drawn_by_position,
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def halves(selector):
    """The checking rows of a selector with validation rows, found again from its seed."""
    recorded = {}
    original = InfluenceSelector._parts

    class Watched(InfluenceSelector):
        def _parts(self, rng):
            train, choosing, checking = original(self, rng)
            recorded.update(choosing=choosing, checking=checking, train=train)
            return train, choosing, checking

    watched = Watched(**selector.get_params(deep=False)).fit(X, Y)
    return watched, recorded


@pytest.mark.parametrize("strategy", ["select", "weight"])
def test_gain_is_that_of_refits_on_rows_that_had_no_say(strategy):
    selector = InfluenceSelector(
        MODEL, budget=40, strategy=strategy, X_val=XV, y_val=YV, random_state=0
    )
    selector, parts = halves(selector)
    (Xa, ya), (Xb, yb) = parts["choosing"], parts["checking"]
    assert len(ya) + len(yb) == len(YV) and abs(np.mean(ya) - np.mean(yb)) < 0.02
    base = clone(MODEL).fit(X, Y)
    if strategy == "select":
        other = clone(MODEL).fit(X[selector.support_], Y[selector.support_])
        assert 0 < (~selector.support_).sum() <= 40
    else:
        other = clone(MODEL).fit(X, Y, selector.sample_weight_)
        assert np.abs(selector.sample_weight_ - 1).sum() <= 40 * (1 + 1e-9)
    gains = row_losses(base, Xb, yb) - row_losses(other, Xb, yb)
    np.testing.assert_allclose(selector.gain_, gains.mean(), rtol=1e-6)
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    np.testing.assert_allclose(selector.gain_error_, error, rtol=1e-6)
    chosen = (row_losses(base, Xa, ya) - row_losses(other, Xa, ya)).mean()
    np.testing.assert_allclose(selector.choosing_gain_, chosen, rtol=1e-6)
    assert selector.accepted_ and selector.gain_ > 3 * selector.gain_error_
    np.testing.assert_allclose(selector.predict_proba(XV), other.predict_proba(XV), atol=1e-7)
    expected = InfluenceExplainer(MODEL).fit(X, Y).dataset_influence(Xa, ya)
    np.testing.assert_allclose(selector.values_, expected, rtol=1e-9, atol=1e-12)


def test_each_half_of_the_choosing_rows_judges_the_other(monkeypatch):
    drawn = []

    def split(*args, **options):
        drawn.append(_split(*args, **options))
        return drawn[-1]

    monkeypatch.setattr("skinfluence.selection._split", split)
    selector = InfluenceSelector(MODEL, budget=80, X_val=XV, y_val=YV, random_state=1)
    selector.fit(X, Y)
    checking, half = drawn
    choosing = np.setdiff1d(np.arange(len(YV)), checking)
    Xa, ya = XV[choosing], YV[choosing]
    rest = np.setdiff1d(np.arange(len(ya)), half)
    explainer, totals = InfluenceExplainer(MODEL).fit(X, Y), {}
    for size in (20, 40, 80):
        totals[size] = 0.0
        for by, on in ((half, rest), (rest, half)):
            order = np.argsort(explainer.transform(Xa[by], ya[by]).mean(axis=0))
            fit = clone(MODEL).fit(X[order[size:]], Y[order[size:]])
            totals[size] += row_losses(fit, Xa[on], ya[on]).sum()
    assert (~selector.support_).sum() == min(totals, key=totals.get)


def test_rows_left_out_are_the_most_harmful():
    selector = InfluenceSelector(MODEL, budget=20, X_val=XV, y_val=YV, random_state=0).fit(X, Y)
    out = ~selector.support_
    assert selector.values_[out].max() <= selector.values_[~out].min()
    assert selector.values_[out].max() < 0
    keep = InfluenceSelector(MODEL, n_rows=100, X_val=XV, y_val=YV, accept="always", random_state=0)
    keep.fit(X, Y)
    assert keep.support_.sum() == 100
    assert keep.values_[keep.support_].min() >= keep.values_[~keep.support_].max()
    np.testing.assert_array_equal(keep.sample_indices_, np.flatnonzero(keep.support_))


def test_a_choice_that_does_not_help_is_not_taken():
    """Labels that say nothing: what helps the choosing part is chance."""
    rng = np.random.default_rng(3)
    A, b, Av = rng.normal(size=(80, 10)), np.arange(80) % 2, rng.normal(size=(60, 10))
    bv = np.arange(60) % 2
    options = {"n_rows": 40, "X_val": Av, "y_val": bv, "random_state": 0}
    honest = InfluenceSelector(LogisticRegression(), **options).fit(A, b)
    assert honest.choosing_gain_ > 0
    assert not honest.accepted_ and honest.gain_ <= honest.gain_error_ and honest.support_.all()
    plain = LogisticRegression().fit(A, b)
    np.testing.assert_array_equal(honest.predict(Av), plain.predict(Av))
    forced = InfluenceSelector(LogisticRegression(), accept="always", **options).fit(A, b)
    assert forced.accepted_ and forced.support_.sum() == 40
    assert forced.gain_ == honest.gain_


def test_validation_rows_taken_from_the_training_rows_join_again():
    selector = InfluenceSelector(MODEL, budget=0.1, accept="always", random_state=0).fit(X, Y)
    held = np.isnan(selector.values_)
    assert held.sum() == 90 and selector.support_[held].all()
    assert selector.accepted_
    direct = clone(MODEL).fit(X[selector.support_], Y[selector.support_])
    np.testing.assert_allclose(selector.decision_function(XV), direct.decision_function(XV))


def test_sample_weights_go_into_every_fit():
    weight = np.random.default_rng(0).random(300) + 0.1
    weight[5] = 0.0
    for strategy in ("select", "weight"):
        selector = InfluenceSelector(
            MODEL, budget=30, strategy=strategy, X_val=XV, y_val=YV, random_state=0
        ).fit(X, Y, sample_weight=weight)
        assert selector.accepted_ and selector.values_[5] == 0
        if strategy == "select":
            np.testing.assert_array_equal(selector.sample_weight_, weight * selector.support_)
        kept = selector.support_
        direct = clone(MODEL).fit(X[kept], Y[kept], selector.sample_weight_[kept])
        np.testing.assert_allclose(selector.decision_function(XV), direct.decision_function(XV))


def test_weights_are_the_best_first_order_moves():
    values = np.array([3.0, -1.0, 0.5, 0.0, -4.0])
    for budget in (0.5, 2.0, 3.9):
        factors = _moves(values, budget)
        np.testing.assert_allclose(np.abs(factors - 1).sum(), budget, rtol=1e-9)
        inside = (factors > 0) & (factors < 2) & (values != 0)
        slopes = (factors - 1)[inside] / values[inside]
        if inside.any():
            np.testing.assert_allclose(slopes, slopes[0], rtol=1e-9)
            edge = ~inside & (values != 0)
            assert (np.abs(values[edge]) * slopes[0] >= 1 - 1e-9).all()
    np.testing.assert_allclose(_moves(values, 9.0), [2, 0, 2, 1, 0], atol=1e-12)
    np.testing.assert_array_equal(_moves(np.zeros(3), 1), 1)


class MeanDecision(Target):
    """Mean decision value of all queries, as one number."""

    scalar = True

    def context(self, head, Z, y):
        return ()

    def value(self, head, Z):
        return Z[..., 0].mean(axis=0)

    def gradient(self, head, Z):
        out = np.zeros(Z.shape)
        out[..., 0] = 1 / len(Z)
        return out


def test_scalar_objectives_are_resampled():
    selector = InfluenceSelector(
        MODEL, budget=10, objective=MeanDecision(), X_val=XV, y_val=YV, random_state=0
    )
    selector, parts = halves(selector)
    Xb, _ = parts["checking"]
    base = clone(MODEL).fit(X, Y).decision_function(Xb)
    other = selector.estimator_.decision_function(Xb)
    np.testing.assert_allclose(selector.gain_, (base - other).mean(), rtol=1e-5)
    error = (base - other).std(ddof=1) / np.sqrt(len(Xb))
    np.testing.assert_allclose(selector.gain_error_, error, rtol=0.25)  # 200 resamples


def test_classes_are_kept():
    iris, species = load_iris(return_X_y=True)
    selector = InfluenceSelector(
        LogisticRegression(max_iter=1000),
        n_rows=3,
        X_val=iris[species != 0],
        y_val=species[species != 0],
        accept="always",
        random_state=0,
    ).fit(iris, species)
    assert set(species[selector.support_]) == {0, 1, 2}


def test_regressors_frames_pipelines_searches_and_samplers():
    table = load_diabetes(as_frame=True)
    frame, y = table.data, table.target
    y = y.copy()
    y.iloc[:20] += 500
    selector = InfluenceSelector(Ridge(0.1), random_state=0, n_rows=0.9)
    Xr, yr = selector.fit_resample(frame, y)
    assert isinstance(Xr, pd.DataFrame) and isinstance(yr, pd.Series)
    assert len(Xr) == len(yr) == selector.support_.sum()
    assert (Xr.index == frame.index[selector.support_]).all()
    assert selector.feature_names_in_.tolist() == list(frame.columns)
    assert selector.predict(frame[:3]).shape == (3,)
    plain = make_pipeline(StandardScaler(), Ridge())
    piped = InfluenceSelector(plain, n_rows=0.9, random_state=0).fit(frame, y)
    assert piped.accepted_
    direct = plain.fit(frame[piped.support_], y[piped.support_])
    np.testing.assert_allclose(piped.predict(frame), direct.predict(frame))
    assert piped.score(frame, y) == direct.score(frame, y)
    search = GridSearchCV(selector, {"estimator__alpha": [0.01, 1], "n_rows": [0.8, 0.95]}, cv=2)
    assert set(search.fit(frame, y).best_params_) == {"estimator__alpha", "n_rows"}


@pytest.mark.parametrize("model", [SVC(gamma="auto"), KNeighborsClassifier(3)])
def test_models_without_derivatives(model):
    selector = InfluenceSelector(model, X_val=XV, y_val=YV, random_state=0)
    selector.fit(X[:60], Y[:60])
    assert np.isfinite(selector.values_).all() and np.isfinite(selector.gain_)


def test_nets():
    net, rows, y = fitted("dense", n=60)
    selector = InfluenceSelector(net, X_val=rows[40:], y_val=y[40:], n_rows=30, random_state=0)
    selector.set_params(accept="always").fit(rows[:40], y[:40])
    assert selector.support_.sum() == 30 and np.isfinite(selector.gain_)


def test_refusals():
    def fit(match, kind=ValueError, y=Y, **options):
        with pytest.raises(kind, match=match):
            InfluenceSelector(options.pop("estimator", MODEL), **options).fit(X, y)

    fit("strategy='drop'", strategy="drop")
    fit("either n_rows", n_rows=3, budget=3)
    fit("pass budget", n_rows=3, strategy="weight")
    fit("go together", X_val=XV)
    fit("check_fraction=1.5", check_fraction=1.5)
    fit("validation_fraction=0", validation_fraction=0)
    fit("accept=-1", accept=-1)
    fit("budget=0", budget=0)
    fit("n_rows=1.5", n_rows=1.5)
    fit("too few", X_val=XV[:3], y_val=YV[:3])
    fit("frozen", estimator=FrozenEstimator(clone(MODEL).fit(X, Y)))
    fit("one class", y=np.zeros(300))
    with pytest.raises(ValueError, match="gives weights"):
        InfluenceSelector(MODEL, strategy="weight").fit_resample(X, Y)
    with pytest.warns(UserWarning, match="no row is left out"):
        few = InfluenceSelector(MODEL).fit(X[25:35], Y[25:35])
    assert few.support_.all() and not few.accepted_
