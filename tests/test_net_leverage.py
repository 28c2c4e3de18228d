"""The mean leverage that damping="leverage" keeps, against dense inverses."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from skinfluence.objectives import Net, objective_for
from skinfluence.objectives.net_leverage import (
    CEILING,
    gauss,
    gauss_radau,
    is_linear,
    lanczos,
    residual_probes,
)
from skinfluence.objectives.net_losses import CustomLoss, LogisticLoss, SoftmaxLoss, SquaredLoss
from skinfluence.solvers import EKFAC, ConjugateGradient, Direct, LiSSA

from .cases.nets import Oracle, fitted


def targets(loss, rng, n=8):
    if isinstance(loss, SquaredLoss):
        return torch.as_tensor(rng.normal(size=(n, 3)))
    if isinstance(loss, SoftmaxLoss):
        return torch.as_tensor(np.arange(n) % 3)
    return torch.as_tensor((np.arange(n) % 2).astype(float))


@pytest.mark.parametrize("loss", [SoftmaxLoss(), LogisticLoss(), SquaredLoss(0.3)])
def test_residual_column_is_the_slope_in_units_of_its_curvature(loss):
    rng = np.random.default_rng(0)
    K = 1 if isinstance(loss, LogisticLoss) else 3
    Z, y = torch.as_tensor(rng.normal(size=(8, K))), targets(loss, rng)
    columns, slope = loss.columns(Z, y).numpy(), loss.gradient(Z, y).numpy()
    custom = CustomLoss(loss.value).residual_column(Z, y).numpy()
    for i, found in enumerate(loss.residual_column(Z, y).numpy()):
        S = columns[:, i].T @ columns[:, i]
        expected = slope[i] / np.sqrt(slope[i] @ np.linalg.pinv(S, rcond=1e-10) @ slope[i])
        np.testing.assert_allclose(np.outer(found, found), np.outer(expected, expected), atol=1e-12)
        np.testing.assert_allclose(
            np.outer(custom[i], custom[i]), np.outer(expected, expected), atol=1e-10
        )


def test_residual_column_where_nothing_is_left():
    """Saturated predictions and exact fits: finite, in single precision."""
    Z = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]])
    assert SoftmaxLoss().residual_column(Z, torch.tensor([0, 0])).abs().max() < 1e-6
    found = SquaredLoss().residual_column(Z, Z)
    np.testing.assert_allclose((found**2).sum(1), 2.0, rtol=1e-6)
    flat = CustomLoss(lambda Z, y: Z.sum(1)).residual_column(Z, Z)
    assert flat.abs().max() == 0


def leverages(objective, C):
    """``h_i`` of all rows, by a dense inverse and the loss's own columns."""
    out = []
    for i in range(objective.n_rows):
        x, y = objective.source.batch(np.array([i]))
        Z = objective.to_torch(objective.outputs[[i]])
        columns = objective.loss.columns(Z, y)
        J = np.concatenate([objective.to_numpy(objective.pull(x, c)) for c in columns]).T
        c = objective.loss.gradient(Z, y).numpy()[0] @ np.linalg.pinv(columns[:, 0].numpy())
        along = J @ (c / np.linalg.norm(c))
        out.append(along @ np.linalg.solve(C, along))
    return np.array(out)


@pytest.mark.parametrize("name", ["dense", "regression", "binary", "image", "words"])
def test_damping_keeps_the_mean_leverage(name):
    net, X, y = fitted(name, n=60)
    objective = objective_for(net, X, y)
    C = Oracle(net, X, y).gauss_newton() + np.diag(objective.penalty)
    eye = np.eye(len(C))
    assert leverages(objective, C).max() <= 1
    damping = objective.leverage_damping
    # 16 probes know the mean to some per cent, the quadrature to five
    if damping:
        assert leverages(objective, C + damping * eye).mean() == pytest.approx(CEILING, rel=0.2)
    else:
        assert leverages(objective, C).mean() < 1.2 * CEILING
    for solver in (Direct(), ConjugateGradient(), LiSSA()):
        assert solver.fit(objective).damping_ == 0
        assert solver.set_params(damping="leverage").fit(objective).damping_ == damping
    for solver in (EKFAC("leverage"), Direct("leverage", curvature="hessian")):
        with pytest.raises(ValueError, match="invert a net's Gauss-Newton matrix"):
            solver.fit(objective)


def test_probes_have_the_sum_of_leverages_as_their_mean():
    net, X, y = fitted("dense")
    objective = objective_for(net, X, y)
    C = Oracle(net, X, y).gauss_newton() + np.diag(objective.penalty)
    U = residual_probes(objective, 4000)
    values = (U * np.linalg.solve(C, U)).sum(0)
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - leverages(objective, C).sum()) < 4 * error


def test_quadrature_brackets_the_resolvent():
    rng = np.random.default_rng(0)
    B = rng.normal(size=(80, 60))
    C = B.T @ B + 0.5 * np.eye(60)
    q = rng.normal(size=(60, 1))
    q /= np.linalg.norm(q)
    for T in lanczos(lambda V: C @ V, q):
        for damping in (0.0, 1.0):
            exact = float((q * np.linalg.solve(C + damping * np.eye(60), q)).sum())
            below, above = (
                sum(w / (t + damping) for t, w in zip(*rule(*T[0], 0.5), strict=True))
                for rule in (gauss, gauss_radau)
            )
            assert below <= exact * (1 + 1e-9) and exact <= above * (1 + 1e-9)
    assert above == pytest.approx(below, rel=1e-6)  # at the end


def test_exhausted_krylov_space():
    C = np.diag([1.0, 2.0, 4.0])
    T = next(lanczos(lambda V: C @ V, np.full((3, 1), 3**-0.5)))[0]
    for rule in (gauss, gauss_radau):
        nodes, weights = rule(*T, 1.0)
        assert weights @ (1 / (nodes + 0.3)) == pytest.approx(np.mean(1 / (np.diag(C) + 0.3)))


def test_linear_models_are_not_damped():
    net, X, y = fitted("dense")
    assert not is_linear(objective_for(net, X, y))
    head = Net(parameters="last").build(net, X, y)
    assert is_linear(head) and head.leverage_damping == 0
    assert Direct("leverage").fit(head).damping_ == 0


def test_another_state_has_its_own_leverage():
    net, X, y = fitted("dense")
    objective = objective_for(net, X, y)
    first = objective.leverage_damping
    state = copy.deepcopy(net.module_.state_dict())
    nn.init.normal_(state["last.weight"], std=5.0)
    other = objective.at(state)
    assert other.leverage_damping != first
    assert objective.leverage_damping == first
