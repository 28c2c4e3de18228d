"""Support vector machines: one dual problem, or one a pair of classes."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import SVC, SVR, NuSVC, NuSVR

from ..gradients import Rows
from .base import Objective, Queries, objective_for
from .box import BOUND, FREE, GONE, RESERVE, DualProblem, DualState
from .composite import IndependentOutputs, StackedQueries
from .heads import BinaryHead, RegressionHead
from .kernel_rows import KernelRows, as_double, svm_kernel
from .logistic import class_weighted
from .margins import EpsilonInsensitiveLoss, HingeLoss, OneVsOneHead
from .removable import check_classes_left
from .rules import RemovalRule


class KernelMachine(Objective):
    """``½‖f‖²_H + Σ_i c_i loss(f(x_i) + b)`` with a hinge or an ε-tube, through its dual.

    Parameters are the dual coefficients ``β`` of the member rows and the intercept: outputs
    are linear in them. A reserve row has no influence at all. A *free* row (on the margin,
    ``0 < α < c``) has influence exactly 0 to first order: its bound does not bind, so its weight
    changes nothing, though its removal does.

    Parameters
    ----------
    X : ndarray or CSR of shape (n, n_features)
        All training rows.
    members : ndarray of int
        Rows of this problem.
    kernel : KernelRows
        Of the member rows.
    sign, target : ndarray of shape (v,)
        Of the dual variables: one a member, or two (an ε-tube).
    cap : ndarray of shape (n,)
        Upper bounds ``C s_i cw_i`` of all training rows.
    beta : ndarray of shape (len(members),)
    b : float
        The estimator's own dual coefficients and intercept.
    head : Head
    targets : ndarray of shape (n,)
        Encoded for the head.
    rule : RemovalRule
        Over all training rows.
    """

    n_outputs = 1
    default_solver = "system"
    default_method = "exact"
    strictly_convex = True

    def __init__(self, X, members, kernel, sign, target, cap, beta, b, head, targets, rule):
        self.X, self.members, self.kernel = X, members, kernel
        self.head, self.targets, self.rule, self.cap = head, targets, rule, cap
        self.n_rows, self.n_params = X.shape[0], len(members) + 1
        self.copies = len(sign) // len(members)
        self.place = np.full(self.n_rows, -1, dtype=np.intp)
        self.place[members] = np.arange(len(members))
        row = np.tile(np.arange(len(members)), self.copies)
        self.dual = DualProblem(kernel, row, sign, target)
        self.state = self._polished(beta, b)
        self.theta = np.append(self.state.beta, self.state.b)
        self.coefficients = self.theta[:-1]
        free = self.state.free.members
        self.free = row[free]  # positions among the members, in the order of the inverse
        self.inverse = self.state.free.inverse

    def _polished(self, beta, b):
        sign = self.dual.sign
        cap = self.caps(self.cap)
        alpha = np.clip(sign * self.dual.on_variables(beta), 0.0, cap)
        status = np.full(len(sign), FREE)
        status[alpha <= 1e-12 * cap] = RESERVE
        status[alpha >= cap * (1 - 1e-9)] = BOUND
        status[cap == 0] = GONE
        alpha[status == BOUND] = cap[status == BOUND]
        alpha[(status == RESERVE) | (status == GONE)] = 0.0
        state = DualState(self.dual, alpha, cap, status, b)
        self.gradient_norm_fitted = state.violation()
        state.settle()
        state._refresh()
        self.gradient_norm = state.violation()
        moved = np.abs(state.f - self.dual.decisions(beta, float(b))).max()
        target = self.dual.target
        if moved > 2e-2 * max(np.ptp(target), 1e-8 * np.abs(target).max()):
            warnings.warn(
                f"the fit was not at its optimum: active-set steps moved its decision values by up "
                f"to {moved:.1e}. Influences are those of the optimum. Fit with a smaller tol or "
                "scaled columns; without a free support vector the intercept is not identified; "
                "with kernel='precomputed' or a callable leave rows of weight zero out yourself.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return state

    def caps(self, cap):
        """Bounds of the dual variables from those of all rows."""
        return np.tile(cap[self.members], self.copies)

    @property
    def n_free(self):
        """Number of free support vectors."""
        return len(self.free)

    @property
    def parameter_names(self):
        """``dual:row`` for each member row, and ``intercept``."""
        return [f"dual:{i}" for i in self.members] + ["intercept"]

    def check_free(self):
        """Refuse derivatives where the intercept is not identified."""
        if self.n_free == 0:
            raise ValueError(
                "no support vector is free (every one is at its bound), so the intercept is not "
                "identified and has no derivative: libsvm takes the middle of an interval. Use "
                "method='exact', or a larger C"
            )

    def factorise_system(self):
        """The bordered system of the free vectors, with the bound ones given."""
        return FreeSystem(self)

    def bound_changes(self, rows, factors):
        """Change of ``β`` of the bound members for factors of the caps, shape (b, n).

        ``factors`` of shape (b, n_groups) are class factors; the rows themselves lose all.
        """
        at_bound = self.state.status == BOUND
        bound = self.dual.on_rows(np.where(at_bound, self.dual.sign * self.state.alpha, 0.0))
        groups = self.rule.groups[self.members]
        out = (factors - 1)[:, groups] * bound
        place = self.place[rows]
        inside = np.flatnonzero(place >= 0)
        out[inside, place[inside]] = -bound[place[inside]]
        return out

    def removal_gradients(self):
        """What the caps release to first order: zero for free and reserve rows."""
        self.check_free()
        return CapRows(self)

    def check_removable(self, rows):
        """Refuse removals that leave a class without rows."""
        codes = None if self.head.classes is None else self.targets
        check_classes_left(rows, codes, self.present, self.head.classes)

    @property
    def present(self):
        """Rows of positive weight in this problem."""
        out = np.zeros(self.n_rows, dtype=bool)
        out[self.members] = self.cap[self.members] > 0
        return out

    def queries(self, X):
        """Rows by their kernel with the members."""
        return KernelQueries(self, X, self.kernel.between(as_double(X)))

    def training_queries(self, rows):
        """Training rows as queries."""
        return self.queries(self.X[rows])

    def training_targets(self, rows):
        """Encoded targets."""
        return self.targets[rows]

    def read_outputs(self, estimator, X):
        """Outputs of another fitted estimator of the same kind, shape (m, 1)."""
        values = (
            estimator.predict(X) if self.head.classes is None else estimator.decision_function(X)
        )
        return np.asarray(values, dtype=np.float64)[:, None]


class FreeSystem:
    """The symmetric form of the bordered system, parameters and right sides in row space.

    With ``B = [[K_MM, 1], [1', 0]]`` and ``Z = B⁻¹ [K_MF; 1']`` the solution for given changes
    ``d_F`` of the others is ``(-Z d_F, d_F)``.
    """

    def __init__(self, machine):
        self.free, self.inverse = machine.free, machine.inverse
        self.rows = machine.kernel.rows(machine.free)
        self.others = np.ones(machine.n_params - 1)
        self.others[self.free] = 0.0

    def solve(self, V):
        """``[[B⁻¹ + ZZ', -Z], [-Z', I]] V``, the intercept last."""
        inner = self.inverse @ np.concatenate([V[-1:], V[self.free]])
        moved = self.others[:, None] * (V[:-1] - self.rows.T @ inner[1:] - inner[0])
        inner -= self.inverse @ np.concatenate(
            [moved.sum(axis=0, keepdims=True), self.rows @ moved]
        )
        out = np.empty(V.shape)
        out[:-1] = moved
        out[self.free] = inner[1:]
        out[-1] = inner[0]
        return out


class CapRows(Rows):
    """Changes of bound coefficients, one row a removal."""

    def __init__(self, machine):
        self.machine = machine
        self.shape = (machine.n_rows, machine.n_params)

    def block(self, rows):
        """Dense rows."""
        machine = self.machine
        index = np.arange(machine.n_rows)[rows]
        factors = 1 + machine.rule.first_order(index)[0]
        out = np.zeros((len(index), machine.n_params))
        out[:, :-1] = machine.bound_changes(index, factors)
        if machine.rule.balanced:  # the rows' own caps fall by both
            place = machine.place[index]
            inside = np.flatnonzero(place >= 0)
            own = factors[inside, machine.rule.groups[index[inside]]] - 1
            out[inside, place[inside]] *= 1 - own
        return out


class KernelQueries(Queries):
    """Queries known by their kernel with the member rows."""

    def __init__(self, machine, X, kernel):
        self.machine, self.X, self.kernel = machine, X, kernel
        self.outputs = (kernel @ machine.theta[:-1] + machine.theta[-1])[:, None]

    def pullback(self, C):
        """``c [k, 1]``."""
        return C * np.column_stack([self.kernel, np.ones(len(self.kernel))])

    def changes(self, delta):
        """One product; coefficients that no removal of the block moves are left out."""
        moved = np.flatnonzero(delta[:, :-1].any(axis=0))
        return (self.kernel[:, moved] @ delta[:, moved].T + delta[:, -1])[:, :, None]

    def paired_changes(self, delta):
        """Row by row."""
        return (np.einsum("ij,ij->i", self.kernel, delta[:, :-1]) + delta[:, -1])[:, None]


class OneVsOneMachines(IndependentOutputs):
    """Kernel machines of all pairs of classes over one set of rows."""

    def __init__(self, X, function, parts, head, labels, y):
        super().__init__(parts, head, labels, y, None)
        self.X, self.function = X, function

    def queries(self, X):
        """Queries of the pairs, their kernel computed once."""
        kernel = np.asarray(self.function(as_double(X), self.X), dtype=np.float64)
        pieces = [KernelQueries(part, X, kernel[:, part.members]) for part in self.parts]
        return StackedQueries(self, pieces)

    def training_queries(self, rows):
        """Training rows as queries."""
        return self.queries(self.X[rows])

    def read_outputs(self, estimator, X):
        """Pair values of another fitted estimator, positive for the second class."""
        shape = estimator.decision_function_shape
        try:
            estimator.decision_function_shape = "ovo"
            values = estimator.decision_function(X)
        finally:
            estimator.decision_function_shape = shape
        return -np.asarray(values, dtype=np.float64)


@objective_for.register(SVC)
def svc_objective(estimator, X, y, sample_weight=None):
    """``½‖f‖² + C Σ s_i cw_i max(0, 1 - y_i f_i)`` for each pair of classes."""
    if estimator.probability not in (False, "deprecated"):
        raise ValueError(
            f"SVC(probability={estimator.probability!r}) fits a sigmoid on internal folds, which "
            "no removal is followed through; use probability=False, and CalibratedClassifierCV for "
            "probabilities"
        )
    X = as_double(X)
    classes = estimator.classes_
    binary = len(classes) == 2
    if binary:
        head = BinaryHead(classes, HingeLoss(), has_probability=False)
    else:
        shape, by_votes = estimator.decision_function_shape, not estimator.break_ties
        head = OneVsOneHead(classes, HingeLoss(), shape, sign=-1, by_votes=by_votes)
    codes = head.encode(y)
    base = _weights(sample_weight, len(codes))
    # scikit-learn counts rows, not their weights, for class_weight="balanced"
    weights, rule = class_weighted(
        estimator.class_weight, classes, codes, base, np.ones(len(codes))
    )
    cap = estimator.C * weights
    function = svm_kernel(estimator)
    make = _PairBuilder(estimator, X, codes, cap, rule, function)
    if binary:
        return make.part(0, 1, head, codes)
    parts, labels = [], []
    for a, b in head.pairs:
        pair_head = BinaryHead(classes[[a, b]], HingeLoss(), has_probability=False)
        parts.append(make.part(a, b, pair_head, np.where(codes == b, 1, 0)))
        labels.append(f"{classes[a]}-{classes[b]}")
    return OneVsOneMachines(X, function, parts, head, labels, codes)


class _PairBuilder:
    """Reads libsvm's layout of one-vs-one problems from a fitted SVC."""

    def __init__(self, estimator, X, codes, cap, rule, function):
        self.estimator, self.X, self.codes, self.cap = estimator, X, codes, cap
        self.rule, self.function = rule, function
        self.support = support_rows(estimator, cap)
        self.dual = estimator.dual_coef_
        self.dual = self.dual.toarray() if hasattr(self.dual, "toarray") else self.dual
        stops = np.cumsum(estimator.n_support_)
        self.slices = [
            slice(stop - n, stop) for n, stop in zip(estimator.n_support_, stops, strict=True)
        ]
        K = len(estimator.classes_)
        self.order = {
            pair: p for p, pair in enumerate((a, b) for a in range(K) for b in range(a + 1, K))
        }

    def part(self, a, b, head, targets):
        """The machine of classes ``a`` and ``b``, positive for ``b``."""
        estimator = self.estimator
        members = np.flatnonzero((self.codes == a) | (self.codes == b))
        beta = np.zeros(len(self.codes))
        # class a's coefficients against b stand in row b - 1, those of b against a in row a
        beta[self.support[self.slices[a]]] = self.dual[b - 1, self.slices[a]]
        beta[self.support[self.slices[b]]] = self.dual[a, self.slices[b]]
        intercept = estimator.intercept_[self.order[a, b]]
        if len(estimator.classes_) > 2:  # libsvm's pairs are positive for the first class
            beta, intercept = -beta, -intercept
        sign = np.where(self.codes[members] == b, 1.0, -1.0)
        kernel = KernelRows(_subset(self.X, members, estimator.kernel), self.function)
        return KernelMachine(
            self.X,
            members,
            kernel,
            sign,
            sign,
            self.cap,
            beta[members],
            intercept,
            head,
            targets,
            self.rule,
        )


@objective_for.register(SVR)
def svr_objective(estimator, X, y, sample_weight=None):
    """``½‖f‖² + C Σ s_i max(0, |y_i - f_i| - ε)``."""
    X = as_double(X)
    y = np.asarray(y, dtype=np.float64)
    n = len(y)
    dual = estimator.dual_coef_
    cap = estimator.C * _weights(sample_weight, n)
    beta = np.zeros(n)
    beta[support_rows(estimator, cap)] = (dual.toarray() if hasattr(dual, "toarray") else dual)[0]
    return KernelMachine(
        X,
        np.arange(n),
        KernelRows(_subset(X, np.arange(n), estimator.kernel), svm_kernel(estimator)),
        np.repeat([1.0, -1.0], n),
        np.concatenate([y - estimator.epsilon, y + estimator.epsilon]),
        cap,
        beta,
        estimator.intercept_[0],
        RegressionHead(EpsilonInsensitiveLoss(estimator.epsilon)),
        y,
        RemovalRule(n),
    )


@objective_for.register(NuSVC)
@objective_for.register(NuSVR)
def nu_objective(estimator, X, y, sample_weight=None):
    """Refused: ν ties the total of the coefficients to the number of rows."""
    name = type(estimator).__name__
    other = name.replace("Nu", "")
    raise ValueError(
        f"{name} is not supported: nu fixes the total of the dual coefficients as a share of the "
        f"number of rows, so that a removed row moves that constraint and not only its own bound. "
        f"Fit {other} with the C (and epsilon) that its solution corresponds to"
    )


def support_rows(estimator, cap):
    """Training row of each support vector of a fitted machine.

    libsvm drops rows of weight zero and numbers the others anew, and scikit-learn passes its
    numbers on. Of a kernel given as a matrix it then also predicts with the wrong columns: the
    numbers are taken as they are, and polishing finds that far from the optimum.
    """
    present = np.flatnonzero(cap > 0)
    given = callable(estimator.kernel) or estimator.kernel == "precomputed"
    return estimator.support_ if given else present[estimator.support_]


def _subset(X, members, kernel):
    """Member rows; of a precomputed kernel their columns too."""
    return (
        X[members][:, members]
        if isinstance(kernel, str) and kernel == "precomputed"
        else X[members]
    )


def _weights(sample_weight, n):
    return np.ones(n) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
