"""Groups of rows in dask collections, each removed jointly: from sums over the groups' rows."""

import copy

import numpy as np

from ._blocks import block_length, blocks
from ._groups import ALIASES, joint
from ._partitions import cut, is_dask
from .methods import (
    InfinitesimalJackknife,
    Influence,
    Newton,
    Problem,
    RescaledInfluence,
    resolve_method,
)
from .methods.base import Effects
from .objectives.shard import parts_of, present_rows
from .objectives.sharded import without_shards
from .solvers.factor import QuadraticBlock, solve_repeated
from .targets import resolve_target


def group_moves(shards, groups, method):
    """The method, and ``θ`` without each group minus ``θ̂``: (n_groups, n_params)."""
    explainer = shards.explainer
    method = ALIASES.get(method, method) if isinstance(method, str) else method
    method = explainer.method_ if method is None else resolve_method(method, explainer.objective_)
    kinds = {
        Influence: _first_order,
        InfinitesimalJackknife: _first_order,
        Newton: _newton,
        RescaledInfluence: _rescaled,
    }
    if type(method) not in kinds:
        raise ValueError(
            f"method {type(method).__name__} needs all rows at once; for groups of rows in dask "
            "collections use 'first', 'infinitesimal_jackknife', 'newton' or 'rescaled'"
        )
    members = Members(shards, groups)
    if isinstance(method, Newton):
        shards.know_curvature()
    per_group = 8 * _entries(explainer.objective_, method)
    length = block_length(per_group, share=1 / 8)
    parts = [kinds[type(method)](shards, members, part) for part in blocks(len(members), length)]
    return method, np.concatenate(parts)


def of_groups(explainer, method, delta, X, y):
    """Influence of groups that move the parameters by ``delta`` on each query."""
    import dask
    import dask.array as da

    local = copy.copy(explainer)
    local._shards, local.method_ = None, method
    local.objective_ = without_shards(explainer.objective_)
    local.effects_ = KnownMoves(local.objective_, delta)
    if not is_dask(X):
        return _influences(local, (X, y, None))
    parts, lengths, _ = explainer._shards._queries(X, y)
    explainer._shards._check_scalar(parts, y)
    scalar = resolve_target(explainer.target, y is not None).scalar
    work, kept = dask.delayed(_influences), dask.delayed(local, traverse=False)
    return da.concatenate(
        [
            da.from_delayed(work(kept, part), (1 if scalar else length, len(delta)), np.float64)
            for part, length in zip(parts, lengths, strict=True)
        ]
    )


class KnownMoves(Effects):
    """Effects of groups whose moves of the parameters are known; a group is its number."""

    def __init__(self, objective, delta):
        super().__init__(Problem(objective, None))
        self.delta = delta

    def joint_parameters(self, groups):
        """As given."""
        return self.delta[groups]


def _influences(explainer, queries):
    X, y, _ = queries
    query, y = explainer._check_queries(X, None if y is None else np.asarray(y))
    target = resolve_target(explainer.target, y is not None, X)
    effects = explainer.effects_
    bound = effects.bind_target(target, query, y)
    numbers = np.arange(len(effects.delta))
    columns = [
        joint(explainer.method_, effects, bound, numbers[part])
        for part in blocks(len(numbers), explainer._group_block(query.shape[0]))
    ]
    return np.concatenate(columns, axis=1)


class Members:
    """The rows of each group, partition by partition.

    Parameters
    ----------
    shards : Shards
    groups : dask collection of n labels, array-like of n labels, or list of index arrays
    """

    def __init__(self, shards, groups):
        lengths = shards.rows.lengths
        if is_dask(groups):
            self.pieces, self.groups = cut(groups, lengths, "groups"), None
            self.labels = _labels(self.pieces)
            return
        self.pieces, self.labels = None, None
        # sorted, so that the rows of a partition lie side by side
        self.groups = [np.sort(group) for group in shards.explainer._check_groups(groups)]
        self.edges = np.cumsum([0, *lengths])

    def __len__(self):
        return len(self.groups if self.labels is None else self.labels)

    def of(self, part):
        """For each partition its rows of each of the groups ``part``, perhaps delayed."""
        import dask

        if self.labels is not None:
            labels = self.labels[part]
            return [dask.delayed(_rows_of)(piece, labels) for piece in self.pieces]
        cuts = [np.searchsorted(group, self.edges) for group in self.groups[part]]
        return [
            [
                group[cut[k] : cut[k + 1]] - self.edges[k]
                for group, cut in zip(self.groups[part], cuts, strict=True)
            ]
            for k in range(len(self.edges) - 1)
        ]


def _labels(pieces):
    """The labels of all partitions, sorted."""
    import dask

    found = dask.compute(*[dask.delayed(_present)(piece) for piece in pieces])
    return np.unique(np.concatenate(found))


def _present(labels):
    labels = np.asarray(labels)
    if (labels != labels).any():  # a missing label equals nothing, itself included
        raise ValueError("groups has missing labels: give every row a label")
    return np.unique(labels)


def _rows_of(piece, labels):
    piece = np.asarray(piece)
    order = np.argsort(piece, kind="stable")
    edges = [np.searchsorted(piece, labels, side, sorter=order) for side in ("left", "right")]
    return [order[low:high] for low, high in zip(*edges, strict=True)]


def _entries(objective, method):
    """Numbers that are held of one group."""
    if not isinstance(method, Newton):
        return 2 * objective.n_params
    return sum(
        part.rule.n_groups * (part.n_params + part.whole.matrix.size)
        for part in parts_of(objective)
    )


# -- first order and rescaled: sums over rows ----------------------------------------------------
def _first_order(shards, members, part):
    sums = shards.sum_groups(_released, members.of(part))[0]
    return shards.explainer.solver_.solve(sums.T).T


def _released(explainer, groups):
    gradients = explainer.objective_.removal_gradients()
    sums = np.zeros((len(groups), gradients.shape[1]))
    for g, rows in enumerate(groups):
        if len(rows):
            sums[g] = gradients.tdot(np.ones((len(rows), 1)), rows)[:, 0]
    return (sums,)


def _rescaled(shards, members, part):
    return shards.sum_groups(_added_up, members.of(part))[0]


def _added_up(explainer, groups):
    problem = Problem(explainer.objective_, explainer.solver_, batch_size=explainer.batch_size)
    effects = RescaledInfluence().bind(problem)
    out = np.zeros((len(groups), explainer.objective_.n_params))
    for g, rows in enumerate(groups):
        if len(rows):
            out[g] = effects.joint_parameters([rows])[0]
    return (out,)


# -- one Newton step without each group ----------------------------------------------------------
def _newton(shards, members, part):
    explainer = shards.explainer
    sums = shards.sum_groups(_group_totals, members.of(part))
    damping = explainer.solver_.damping_
    first = part.start
    steps = [
        _joint_steps(objective, sums[5 * k : 5 * k + 5], damping, first)
        for k, objective in enumerate(parts_of(explainer.objective_))
    ]
    return np.concatenate(steps, axis=1)


def _group_totals(explainer, groups):
    """For each part of the objective: what :func:`_joint_steps` wants of each group, summed."""
    totals = []
    for shard in parts_of(explainer.objective_):
        lost = [_lost(shard, rows) for rows in groups]
        totals += [np.array(column) for column in zip(*lost, strict=True)]
    return totals


def _lost(shard, rows):
    """Class counts, measures of the rule, gradients and Hessians a group takes along."""
    rule = shard.rule
    own, counts = rule.groups[rows], present_rows(shard, rows)
    measure = 0.0 if rule.penalty_measure is None else rule.penalty_measure[rows].sum()
    gradients = np.zeros((rule.n_groups, shard.n_params))
    matrices = np.zeros((rule.n_groups, *shard.whole.matrix.shape))
    for group in np.unique(own):
        inside = rows[own == group]
        design = shard.design.subset(inside)
        gradients[group] = design.tdot(shard.residuals[inside]).T.ravel()
        matrices[group] = shard.curvature_rows(inside)[0].gram()
    sums = np.bincount(own, rule.measure[rows], minlength=rule.n_groups)
    return counts, sums, measure, gradients, matrices


def _joint_steps(objective, totals, damping, first):
    """Newton step without each group: (g, n_params)."""
    out = np.empty((len(totals[0]), objective.n_params))
    for g, (counts, gone, measure, gradients, matrices) in enumerate(zip(*totals, strict=True)):
        _check_left(objective, counts, first + g)
        whole, phi = objective.whole, objective.rule.factors_left(gone)
        rho = 1.0 if whole.penalty_total == 0 else 1 - measure / whole.penalty_total
        moved = (phi - 1) @ whole.group_gradients - phi @ gradients
        moved += (rho - 1) * objective.penalty_gradient(objective.theta)
        block = _block_left(objective, phi, rho, matrices, damping)
        try:
            with objective.identified_without([first + g]):
                factor = objective._factor(block)
        except ValueError as error:
            raise ValueError(
                f"without group {first + g} the columns of X are linearly dependent and nothing "
                "penalises them: the fit is not identified. Add a penalty"
            ) from error
        out[g] = solve_repeated(factor, -moved[:, None], block.repeats)[:, 0]
    return out


def _block_left(objective, phi, rho, matrices, damping):
    """The Hessian without a group, from the Hessians of its rows class by class."""
    full, whole = objective.quadratic_blocks()[0], objective.whole
    if objective.rule.trivial:
        losses = whole.matrix - np.diag(full.penalty) - matrices[0]
    else:
        losses = np.tensordot(phi, np.asarray(whole.group_matrices) - matrices, 1)
    penalty = rho * full.penalty + damping
    rows = objective.curvature_summary(losses, full.rows.n_rows)
    return QuadraticBlock(penalty, rows, full.gauge, full.repeats, losses + np.diag(penalty))


def _check_left(objective, gone, group):
    """Refuse a group that leaves a class, or the fit, without rows."""
    counts, classes = objective.whole.class_counts, objective.head.classes
    left = counts - gone
    if not left.any():
        raise ValueError(f"group {group} holds every row: nothing is left to fit")
    lost = (left == 0) & (counts > 0)
    if lost.any():
        raise ValueError(
            f"without group {group} no row of class {str(classes[lost][0])!r} is left: a refit "
            "would not know the class. Drop the class, or use method='first'"
        )
