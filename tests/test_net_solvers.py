"""Solvers of nets against dense damped inverses, which they share no code with."""

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNetRegressor
from torch import nn

from skinfluence.objectives import objective_for
from skinfluence.solvers import (
    EKFAC,
    KFAC,
    ConjugateGradient,
    Diagonal,
    Direct,
    Nystrom,
)

from .cases.nets import Oracle, fitted

NETS = ["dense", "regression", "image", "signal", "words", "tied"]
DAMPINGS = ["auto", 0.3]


@pytest.fixture(scope="module", params=NETS)
def case(request):
    """Objective, dense Gauss-Newton and right sides, one of them zero."""
    net, X, y = fitted(request.param)
    objective = objective_for(net, X, y)
    C = Oracle(net, X, y).gauss_newton() + np.diag(objective.penalty)
    V = np.random.default_rng(0).normal(size=(objective.n_params, 5))
    if request.param == "words":
        V[:4] = 0  # the padding row: no gradient ever has an entry there
    V[:, 2] = 0
    return objective, C, V


def expected(C, V, damping):
    damping = 0.0 if damping == "auto" else damping  # the nets' own weight decay
    return np.linalg.solve(C + damping * np.eye(len(C)), V)


@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("form", ["primal", "dual"])
def test_direct(case, form, damping):
    objective, C, V = case
    solver = Direct(damping, form=form).fit(objective)
    np.testing.assert_allclose(solver.solve(V), expected(C, V, damping), atol=1e-8)
    assert solver.report_["form"] == [form]
    again = solver.with_damping(0.7)
    np.testing.assert_allclose(again.solve(V), expected(C, V, 0.7), atol=1e-8)
    np.testing.assert_allclose(solver.solve(V), expected(C, V, damping), atol=1e-8)


@pytest.mark.parametrize("preconditioner", [None, "diagonal", "kfac", "ekfac", "nystrom"])
def test_conjugate_gradients(case, preconditioner):
    objective, C, V = case
    solver = ConjugateGradient(1e-9, preconditioner=preconditioner, damping=0.5, max_iter=1000)
    solver = solver.fit(objective)
    error = np.linalg.norm(solver.solve(V) - expected(C, V, 0.5))
    # the error is at most the residual over the smallest eigenvalue, that of the damping
    assert error <= 1e-9 * np.linalg.norm(V) / 0.5
    assert solver.report_["converged"] and solver.report_["residual"] <= 1e-9
    assert solver.report_["smallest_curvature"] >= 0.5
    damped = solver.with_damping(2.0)
    np.testing.assert_allclose(damped.solve(V), expected(C, V, 2.0), atol=1e-8)


def test_conjugate_gradients_on_weight_decay_alone():
    net, X, y = fitted("dense")
    objective = objective_for(net, X, y)
    V = np.random.default_rng(0).normal(size=(objective.n_params, 3))
    C = Oracle(net, X, y).gauss_newton() + np.diag(objective.penalty)
    solver = ConjugateGradient(1e-9, max_iter=1000).fit(objective)
    assert solver.damping_ == 0 and solver.report_["preconditioner"] == "EKFAC"
    np.testing.assert_allclose(solver.solve(V), expected(C, V, "auto"), atol=1e-7)


def test_more_right_sides_than_parameters(case):
    objective, C, _ = case
    V = np.random.default_rng(1).normal(size=(len(C), len(C) + 3))
    solver = Direct(0.1).fit(objective)
    np.testing.assert_allclose(solver.solve(V), expected(C, V, 0.1), atol=1e-7)


def test_hessian(case):
    objective, _, V = case
    H = objective.hessian()
    lowest = np.linalg.eigvalsh(H)[0]
    solver = Direct(curvature="hessian").fit(objective)
    np.testing.assert_allclose(H @ solver.solve(V), V, atol=1e-7)
    assert solver.report_["smallest_curvature"] == pytest.approx(lowest)
    assert (solver.report_["n_negative"] > 0) == (lowest < 0)
    damping = 2.0 - 3 * min(lowest, 0)  # enough to make it positive definite
    cg = ConjugateGradient(1e-9, curvature="hessian", damping=damping, max_iter=2000)
    np.testing.assert_allclose(
        cg.fit(objective).solve(V), np.linalg.solve(H + damping * np.eye(len(H)), V), atol=1e-6
    )


def test_empirical_fisher(case):
    objective, _, V = case
    G = objective.loss_gradients().block(slice(None))
    F = G.T @ G + np.diag(objective.penalty)
    for solver in (
        Direct(curvature="empirical_fisher"),
        ConjugateGradient(1e-9, curvature="empirical_fisher", max_iter=1000),
    ):
        np.testing.assert_allclose(solver.fit(objective).solve(V), np.linalg.solve(F, V), atol=1e-6)


def test_diagonal(case):
    objective, C, V = case
    solver = Diagonal(0.2).fit(objective)
    np.testing.assert_allclose(
        solver.solve(V), V / (np.diag(C) + 0.2)[:, None], rtol=1e-9, atol=1e-12
    )
    assert np.isfinite(solver.report_["residual"])


# -- Kronecker factors -----------------------------------------------------------------------------
def layer_factors(net, X, y):
    """``A``, ``S`` and rows of the two layers of a Dense classifier, in numpy."""
    state = {name: p.detach().numpy() for name, p in net.module_.named_parameters()}
    a0 = np.column_stack([X, np.ones(len(X))])
    h = np.tanh(a0 @ np.column_stack([state["first.weight"], state["first.bias"]]).T)
    a1 = np.column_stack([h, np.ones(len(X))])
    Z = a1 @ np.column_stack([state["last.weight"], state["last.bias"]]).T
    P = np.exp(Z - Z.max(1, keepdims=True))
    P /= P.sum(1, keepdims=True)
    L = np.einsum("nk,kc->nkc", np.sqrt(P), np.eye(P.shape[1]))
    L = L - P[:, :, None] * np.sqrt(P)[:, None, :]
    d1 = L.transpose(2, 0, 1)  # one column a class
    d0 = np.einsum("cnk,kj->cnj", d1, state["last.weight"]) * (1 - h**2)
    return [(a0, d0), (a1, d1)]


def joined(vector, layers):
    """A parameter vector as (d_out, d_in + 1) matrices, the bias last."""
    out, start = [], 0
    for a, delta in layers:
        d_out, d_in = delta.shape[2], a.shape[1] - 1
        W = vector[start : start + d_out * d_in].reshape(d_out, d_in)
        start += d_out * d_in
        out.append(np.column_stack([W, vector[start : start + d_out]]))
        start += d_out
    return out


@pytest.mark.parametrize("kind", [KFAC, EKFAC])
def test_kronecker_factors_in_numpy(kind):
    net, X, y = fitted("dense")
    objective = objective_for(net, X, y)
    v = np.random.default_rng(0).normal(size=objective.n_params)
    solved = kind(0.1).fit(objective).solve(v[:, None])[:, 0]
    layers = layer_factors(net, X, y)
    damping = 0.1 + objective.penalty[0]
    pairs = zip(layers, joined(v, layers), joined(solved, layers), strict=True)
    for (a, delta), right, ours in pairs:
        A, S = a.T @ a, np.einsum("cni,cnj->ij", delta, delta) / len(X)
        (la, QA), (ls, QS) = np.linalg.eigh(A), np.linalg.eigh(S)
        values = ls[:, None] * la
        if kind is EKFAC:
            values = np.einsum("cno,ni->oi", (delta @ QS) ** 2, (a @ QA) ** 2)
        moved = QS @ ((QS.T @ right @ QA) / (values + damping)) @ QA.T
        np.testing.assert_allclose(ours, moved, atol=1e-9)


@pytest.mark.parametrize("kind", [KFAC, EKFAC])
def test_exact_for_a_linear_layer_with_squared_loss(kind):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 4)), rng.normal(size=(20, 3))
    net = NeuralNetRegressor(
        lambda: nn.Linear(4, 3).double(),
        train_split=None,
        verbose=0,
        batch_size=-1,
        optimizer__weight_decay=0.05,
    ).initialize()
    objective = objective_for(net, X, y)
    V = rng.normal(size=(15, 20))
    H = objective.hessian()
    for damping in (0.0, 0.4):
        solved = kind(damping).fit(objective).solve(V)
        np.testing.assert_allclose(solved, np.linalg.solve(H + damping * np.eye(15), V), atol=1e-10)


@pytest.mark.parametrize("curvature", ["gauss_newton", "empirical_fisher"])
def test_ekfac_is_exact_within_layers_for_one_row(curvature):
    """One row and one output make a layer's block a single outer product."""
    net, X, y = fitted("binary", n=8)
    objective = objective_for(net, X[:1], y[:1])
    C = objective.curvature_product(np.eye(objective.n_params), curvature)
    blocks = np.zeros_like(C)
    for layer in objective.layers():
        part = np.r_[layer.weight, layer.bias]
        blocks[np.ix_(part, part)] = C[np.ix_(part, part)]
    V = np.random.default_rng(0).normal(size=(len(C), 3))
    for kind in (KFAC, EKFAC):
        solver = kind(0.2, curvature=curvature).fit(objective)
        np.testing.assert_allclose(solver.solve(V), expected(blocks, V, 0.2), atol=1e-9)


def dense_matrix(solver, p):
    """The curvature that a solver stands for, from its inverse."""
    return np.linalg.inv(solver.solve(np.eye(p)))


@pytest.mark.parametrize("name", ["dense", "image", "words"])
def test_ekfac_is_closer_than_kfac_and_keeps_the_trace(name):
    net, X, y = fitted(name)
    objective = objective_for(net, X, y)
    C = Oracle(net, X, y).gauss_newton() + np.diag(objective.penalty)
    blocks = np.zeros_like(C)
    for layer in objective.layers():
        part = np.concatenate([np.arange(len(C))[s] for s in (layer.weight, layer.bias) if s])
        blocks[np.ix_(part, part)] = C[np.ix_(part, part)]
    kfac, ekfac = (dense_matrix(kind(0.0).fit(objective), len(C)) for kind in (KFAC, EKFAC))
    dense = [layer for layer in objective.layers() if layer.kind == "dense"]
    part = np.concatenate(
        [np.arange(len(C))[s] for layer in dense for s in (layer.weight, layer.bias) if s]
    )
    at = np.ix_(part, part)
    assert np.linalg.norm((ekfac - blocks)[at]) < np.linalg.norm((kfac - blocks)[at])
    # the rotation keeps the trace, and so do the second moments in the rotated basis
    assert np.trace(ekfac) == pytest.approx(np.trace(C), rel=1e-6)


def test_fallback_is_named_or_refused():
    net, X, y = fitted("image")
    objective = objective_for(net, X, y)
    solver = EKFAC().fit(objective)
    named = {"scale", "norm.weight", "norm.bias", "spread.weight", "spread.bias"}
    assert set(solver.report_["fallback"]) == named
    V = np.eye(objective.n_params)[:, objective.slices["scale"]]
    diagonal = Diagonal().fit(objective).solve(V)
    np.testing.assert_allclose(solver.solve(V), diagonal, atol=1e-10)
    with pytest.raises(ValueError, match="does not cover the parameters.*spread"):
        EKFAC(fallback="refuse").fit(objective)


def test_random_directions_approach_the_exact_expectation():
    net, X, y = fitted("dense")
    objective = objective_for(net, X, y)
    V = np.random.default_rng(0).normal(size=(objective.n_params, 3))
    exact = EKFAC(0.5).fit(objective).solve(V)
    drawn = EKFAC(0.5, n_samples=3000).fit(objective)
    assert drawn.report_["n_samples"] == 3000
    # 3000 directions a row: entries vary by about 1 / sqrt(24 * 3000) of themselves
    assert np.linalg.norm(drawn.solve(V) - exact) < 0.03 * np.linalg.norm(exact)
    np.testing.assert_array_equal(
        drawn.solve(V), EKFAC(0.5, n_samples=3000).fit(objective).solve(V)
    )


@pytest.mark.parametrize(
    "solver",
    [
        Direct(form="primal"),
        Direct(form="dual"),
        EKFAC(),
        KFAC(),
        Diagonal(),
        ConjugateGradient(1e-8, damping=50.0),
        Nystrom(20),
    ],
    ids=lambda solver: type(solver).__name__,
)
@pytest.mark.parametrize("name", ["dense", "image"])
def test_independent_of_batches(solver, name):
    """A sum of inverses of batches, as some do, would fail this at once."""
    net, X, y = fitted(name)
    results = []
    V = None
    for memory in (64, 0.2):
        with config_context(working_memory=memory):
            objective = objective_for(net, X, y)
            n_blocks = len(list(objective.gradient_blocks()))
            V = np.random.default_rng(0).normal(size=(objective.n_params, 4)) if V is None else V
            results.append((n_blocks, solver.fit(objective).solve(V)))
    (few, one), (many, other) = results
    assert few < many
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", [KFAC, EKFAC, Diagonal])
def test_with_damping_is_a_fresh_fit(kind):
    net, X, y = fitted("image")
    objective = objective_for(net, X, y)
    V = np.random.default_rng(0).normal(size=(objective.n_params, 4))
    np.testing.assert_array_equal(
        kind().fit(objective).with_damping(0.3).solve(V), kind(0.3).fit(objective).solve(V)
    )


# -- what is said when it cannot work --------------------------------------------------------------
def test_negative_curvature_is_reported():
    net, X, y = fitted("dense")
    objective = objective_for(net, X, y)
    lowest, V = np.linalg.eigh(objective.hessian())
    assert lowest[0] < 0
    solver = ConjugateGradient(1e-6, curvature="hessian", preconditioner=None).fit(objective)
    with pytest.warns(UserWarning, match="met negative curvature"):
        X = solver.solve(V[:, :2])
    assert np.isfinite(X).all()
    assert solver.report_["n_negative"] > 0
    assert solver.report_["smallest_curvature"] < 0


def test_unconverged_is_reported():
    net, X, y = fitted("image")
    objective = objective_for(net, X, y)
    V = np.random.default_rng(0).normal(size=(objective.n_params, 4))
    solver = ConjugateGradient(1e-12, max_iter=2).fit(objective)
    with pytest.warns(ConvergenceWarning, match="stopped at max_iter=2 .* on 4 of 4"):
        solver.solve(V)
    assert not solver.report_["converged"]


def test_damping_without_weight_decay():
    net, X, y = fitted("dense", optimizer__weight_decay=0.0)
    objective = objective_for(net, X, y)
    mean = objective.curvature_trace() / objective.n_params
    for solver in (Direct(), ConjugateGradient(), EKFAC(), Diagonal()):
        # the mean curvature by random signs: within a few of its standard errors
        assert solver.fit(objective).damping_ == pytest.approx(0.1 * mean, rel=0.3)
    for solver in (Direct("leverage"), ConjugateGradient(damping="leverage")):  # asks for more
        assert solver.fit(objective).damping_ == objective.leverage_damping > 0.2 * mean
    with pytest.raises(ValueError, match="damping"):
        Direct(0.0, form="dual").fit(objective)


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (ConjugateGradient(tol=0), "tol=0 must be 'auto' or lie between"),
        (ConjugateGradient(max_iter=0), "max_iter=0 must be a positive integer"),
        (ConjugateGradient(preconditioner="ilu"), "preconditioner='ilu' is not one of"),
        (ConjugateGradient(curvature="fish"), "curvature='fish' is not one of"),
        (EKFAC(curvature="hessian"), "curvature='hessian' is not one of"),
        (EKFAC(fallback="skip"), "fallback='skip' is not one of"),
        (EKFAC(n_samples=0), "n_samples=0 must be"),
        (EKFAC(damping=-1), "damping=-1 must be"),
        (Direct(form="wide"), "form='wide' is not one of"),
        (Direct(curvature="hessian", form="dual"), "has no dual form"),
    ],
)
def test_refused_options(solver, message):
    net, X, y = fitted("dense")
    with pytest.raises(ValueError, match=message):
        solver.fit(objective_for(net, X, y))
