"""The mean leverage of a net's rows, and the damping that keeps it small.

The leverage of a row is the share of its own fit that is due to itself, along its residual:
``h_i = w_i r_i' J_i C⁻¹ J_i' r_i / (r_i' S_i⁺ r_i)`` with ``r_i`` and ``S_i`` slope and curvature
of the loss in the outputs and ``C`` the Gauss-Newton matrix, penalty included. It lies between 0
and 1, whatever the loss; for a linear regression it is the diagonal of the hat matrix.

A first-order effect of a removed group leaves out that the curvature goes with the rows, an error
of relative size ``q h`` for a share ``q`` of rows of leverage ``h``. A net that interpolates has
``h`` near 1, and its undamped influences then predict nothing, not even refits of its own
linearisation. Imported only when a net comes in.
"""

import numpy as np
import torch
from scipy.optimize import brentq

CEILING = 0.2
MAX_STEPS = 64
# The probes of rows that tell the mean leverage to a few per cent.
N_PROBED, MAX_PROBES = 1500, 16


def leverage_damping(objective):
    """The damping, added to ``C``, with which the mean leverage of the trained rows is 0.2.

    Zero where it is less without. Zero, too, for a net that is linear in its parameters: that is
    a convex model, whose influences are derivatives of its optimum.

    Random signs give ``E u' (C + λ)⁻¹ u = Σ_i h_i``, and Gauss and Gauss-Radau quadrature from a
    few Lanczos steps bracket the left side for all ``λ`` at once.
    """
    if is_linear(objective):
        return 0.0
    n = np.count_nonzero(objective.weights)
    U = residual_probes(objective, max(1, min(MAX_PROBES, N_PROBED // n)))
    sizes = np.linalg.norm(U, axis=0)
    U, sizes = U[:, sizes > 0], sizes[sizes > 0]
    if not len(sizes):
        return 0.0
    highest = float((sizes**2).mean()) / (n * CEILING)
    floor = float(objective.penalty.min())
    for tridiagonals in lanczos(objective.gauss_newton_product, U / sizes):
        low, high = (
            _damping_at_ceiling([rule(*T, floor) for T in tridiagonals], sizes, n, highest)
            for rule in (gauss, gauss_radau)
        )
        if high - low <= 0.05 * high:
            break
    return high


def is_linear(objective, n_rows=32):
    """Whether the outputs are linear in the parameters that move (up to a softmax's gauge)."""
    rows = np.flatnonzero(objective.weights)[:n_rows]
    x, _ = objective.source.batch(rows)
    step = np.random.default_rng(0).standard_normal(objective.n_params)
    step = objective.to_torch(step * max(1.0, np.linalg.norm(objective.theta)) / len(step) ** 0.5)
    with torch.no_grad():
        moved = objective.outputs_at(objective.flat + step, x)
        moved = moved - objective.outputs_at(objective.flat, x)
    line = objective.push(x, step[None])[0]
    if objective.loss.shift_invariant:
        moved, line = (part - part.mean(1, keepdim=True) for part in (moved, line))
    return bool((moved - line).abs().max() <= 1e-3 * line.abs().max())


def residual_probes(objective, n_probes):
    """``Σ_i ±c_i' J_i`` with ``c_i c_i'`` the part of ``w_i S_i`` along the residual: (p, m)."""
    C = torch.zeros_like(objective.slopes)
    for rows in objective.row_blocks():
        _, y = objective.source.batch(rows)
        Z = objective.to_torch(objective.outputs[rows])
        root = objective.to_torch(objective.weights[rows]).sqrt()[:, None]
        where = torch.as_tensor(rows, device=objective.device)
        C[where] = objective.loss.residual_column(Z, y) * root
    signs = np.random.default_rng(0).integers(0, 2, (n_probes, len(C))) * 2.0 - 1
    return objective.total_pull(objective.to_torch(signs)[:, :, None] * C)


def lanczos(product, Q):
    """Tridiagonal matrices of the columns of ``Q`` after every fourth step.

    A list of ``(diagonal, off-diagonal)``, one a column, the last off-diagonal being that of the
    step to come; shorter where the Krylov space of a column is exhausted.
    """
    old, beta = np.zeros_like(Q), np.zeros(Q.shape[1])
    alphas, betas = [], []
    for step in range(1, MAX_STEPS + 1):
        W = product(Q) - beta * old
        alpha = (W * Q).sum(0)
        W -= alpha * Q
        beta = np.linalg.norm(W, axis=0)
        alphas.append(alpha), betas.append(beta)
        old, Q = Q, np.divide(W, beta, out=np.zeros_like(W), where=beta > 0)
        if step % 4 == 0:
            yield [_cut(a, b) for a, b in zip(np.array(alphas).T, np.array(betas).T, strict=True)]


def _cut(alpha, beta):
    """Without what follows the first off-diagonal that vanishes."""
    ends = np.flatnonzero(beta <= 1e-10 * alpha.max())
    k = ends[0] + 1 if len(ends) else len(alpha)
    return alpha[:k], beta[:k] if k == len(alpha) and not len(ends) else np.append(beta[: k - 1], 0)


def gauss(alpha, beta, floor):
    """Nodes and weights that bound ``e' (C + λ)⁻¹ e`` from below."""
    T = np.diag(alpha) + np.diag(beta[:-1], 1) + np.diag(beta[:-1], -1)
    nodes, vectors = np.linalg.eigh(T)
    return np.maximum(nodes, floor), vectors[0] ** 2


def gauss_radau(alpha, beta, floor):
    """The same from above: one node lies at ``floor``, below all eigenvalues of ``C``."""
    if beta[-1] == 0:
        return gauss(alpha, beta, floor)
    shifted = np.diag(alpha - floor) + np.diag(beta[:-1], 1) + np.diag(beta[:-1], -1)
    last = np.linalg.lstsq(shifted, np.append(np.zeros(len(alpha) - 1), beta[-1] ** 2))[0][-1]
    return gauss(np.append(alpha, floor + last), np.append(beta, 0.0), floor)


def _damping_at_ceiling(rules, sizes, n, highest):
    nodes = np.array([rule[0] for rule in _even(rules)])
    weights = np.array([rule[1] for rule in _even(rules)]) * sizes[:, None] ** 2
    weights /= n * len(sizes)
    nodes, weights = nodes[weights > 0], weights[weights > 0]

    def excess(damping):
        return float((weights / (nodes + damping)).sum()) - CEILING

    if nodes.min() > 0 and excess(0.0) <= 0:
        return 0.0
    low = 1e-12 * highest
    if excess(low) <= 0:
        return low
    return brentq(excess, low, highest * (1 + 1e-9), rtol=1e-3)


def _even(rules):
    """Rules of different lengths padded with weights of zero."""
    longest = max(len(nodes) for nodes, _ in rules)
    return [tuple(np.pad(part, (0, longest - len(part))) for part in rule) for rule in rules]
