"""The dual problem of a support vector machine, and its path as the boxes move.

Every support vector machine here is ``min ½ β'Kβ - Σ_j t_j β_j`` under ``Σ_j β_j = 0`` and
``0 ≤ s_j β_j ≤ c_j``, with ``α_j = s_j β_j``. A row of an SVC is one variable with
``s_j = t_j = y_j``; a row of an SVR two, ``s_j = ±1`` and ``t_j = y_j ∓ ε``. With
``f = Kβ + b`` the slack ``s_j (f_j - t_j)`` is positive on the reserve (``α_j = 0``), zero on free
vectors and negative on bound ones (``α_j = c_j``).
"""

import numpy as np

from .free_set import FreeSet

RESERVE, FREE, BOUND, GONE = range(4)


class DualProblem:
    """What stays fixed: kernel, signs and targets of the variables.

    Parameters
    ----------
    kernel : KernelRows
    row : ndarray of shape (v,) of int
        Row of each variable.
    sign, target : ndarray of shape (v,)
    """

    def __init__(self, kernel, row, sign, target):
        self.kernel, self.row, self.sign, self.target = kernel, row, sign, target
        self.single = len(row) == kernel.n  # a variable is a row

        self._diagonal = None

    def diagonal(self):
        """The kernel of each row with itself, in absolute value."""
        if self._diagonal is None:
            parts = np.array_split(np.arange(self.kernel.n), 1 + self.kernel.n // 512)
            blocks = [self.kernel.rows(part)[np.arange(len(part)), part] for part in parts]
            self._diagonal = np.abs(np.concatenate(blocks))
        return self._diagonal

    def on_variables(self, values):
        """Values of rows, for each variable."""
        return values if self.single else values[self.row]

    def on_rows(self, values):
        """Sums of the variables' values, for each row."""
        return values if self.single else np.bincount(self.row, values, minlength=self.kernel.n)

    def decisions(self, beta, b):
        """Decision values ``Kβ + b`` of the rows."""
        used = np.flatnonzero(beta)
        out = np.full(self.kernel.n, b)
        for start in range(0, len(used), 1024):
            part = used[start : start + 1024]
            out += beta[part] @ self.kernel.rows(part)
        return out


class DualState:
    """A point of a :class:`DualProblem` with its active set; copied, then moved.

    Attributes
    ----------
    alpha, cap : ndarray of shape (v,)
    status : ndarray of shape (v,)
        RESERVE, FREE, BOUND, or GONE: no longer part of the problem.
    f : ndarray of shape (n,)
        Decision values of the rows.
    b : float
    """

    def __init__(self, problem, alpha, cap, status, b):
        self.problem = problem
        self.alpha, self.cap = np.array(alpha, dtype=float), np.array(cap, dtype=float)
        self.b = float(b)
        self.status = np.array(status, dtype=np.int8)
        self._refresh()
        self.free = FreeSet(problem.kernel, problem.row)
        self.tolerance = self._rounding()
        for j in self.free.build(np.flatnonzero(self.status == FREE)):
            self._exchange(j, prefer_down=True)

    def copy(self):
        """A copy to move."""
        out = object.__new__(DualState)
        out.__dict__.update(self.__dict__)
        out.alpha, out.cap, out.status = self.alpha.copy(), self.cap.copy(), self.status.copy()
        out.f, out._orient = self.f.copy(), self._orient.copy()
        out.free = self.free.copy()
        return out

    @property
    def beta(self):
        """Signed dual coefficients of the rows, shape (n,)."""
        return self.problem.on_rows(self.problem.sign * self.alpha)

    def _refresh(self):
        """Decision values from the coefficients; orientation of the slacks from the status."""
        self.f = self.problem.decisions(self.beta, self.b)
        self._orient = self.problem.sign * _ORIENT[self.status]

    def slack(self):
        """Nonnegative at an optimum: how far reserve and bound vectors are from the margin."""
        return self._orient * (self.problem.on_variables(self.f) - self.problem.target)

    def _rounding(self):
        """What rounding leaves of a slack."""
        largest = max(1.0, np.abs(self.problem.target).max(), np.abs(self.f).max())
        mass = np.abs(self.beta) @ self.problem.diagonal()
        return 1e-10 * largest + 1e-15 * mass

    def violation(self):
        """Largest violation of the optimality conditions, in units of decision values."""
        return max(self._residual(), -float(self.slack().min(initial=0.0)))

    # -- changing the active set -----------------------------------------------------------
    def set_status(self, j, status):
        """Move variable ``j`` to another set (not into the free one: see :meth:`enter`)."""
        self.status[j] = status
        self._orient[j] = self.problem.sign[j] * _ORIENT[status]

    def leave(self, position):
        """The free vector at ``position`` goes to the bound that it is at; returns it."""
        j = self.free.leave(position)
        high = self.alpha[j] > 0.5 * self.cap[j]
        self.alpha[j] = self.cap[j] if high else 0.0
        self.set_status(j, BOUND if high else RESERVE)
        return j

    def enter(self, j):
        """Variable ``j`` becomes free, in place of another where it depends on the free ones."""
        if not self.problem.single:  # of a row's two variables, first empty the one in use
            twin = (j + self.problem.kernel.n) % len(self.status)
            j = twin if self.status[twin] == BOUND else j
        down = self.status[j] == BOUND
        if len(self.free) == 0:
            shift = self.problem.target[j] - self.f[self.problem.row[j]]
            self.b += shift
            self.f += shift
        self._exchange(j, down)

    def _exchange(self, j, prefer_down):
        """Move a dependent ``j`` along the null direction until it is free or at a bound.

        Along that direction no decision value changes; the free vectors that meet a bound leave.
        """
        sign = self.problem.sign
        way = -1.0 if prefer_down else 1.0
        while not self.free.enter(j):
            u = self.free.direction(j)[0]
            members = self.free.members
            slopes = -way * sign[j] * sign[members] * u[1:]
            slopes[np.abs(slopes) < 1e-8 * np.abs(slopes).max()] = 0.0  # rounding of a zero
            room = _room(self.alpha[members], self.cap[members], slopes)
            position = int(np.argmin(room))
            own_room = self.alpha[j] if prefer_down else self.cap[j] - self.alpha[j]
            step = min(own_room, room[position])
            self._shift(members, step * slopes, -step * way * sign[j] * u[0], (j, step * way))
            if step == own_room:
                self.alpha[j] = 0.0 if prefer_down else self.cap[j]
                self.set_status(j, RESERVE if prefer_down else BOUND)
                return
            self.leave(position)
        self.set_status(j, FREE)

    def _shift(self, members, alpha_step, b_step, other=None):
        """Move free coefficients and the intercept, and one other variable with them."""
        beta = self.problem.sign[members] * alpha_step
        self.alpha[members] += alpha_step
        self.b += b_step
        self.f += b_step + self.free.spread(beta)
        if other is not None:
            j, step = other
            self.alpha[j] += step
            row = self.problem.kernel.row(self.problem.row[j])
            self.f += self.problem.sign[j] * step * row

    # -- the optimum -----------------------------------------------------------------------
    def settle(self):
        """Active-set steps to the optimum from a point within the boxes.

        Raises
        ------
        ValueError
            When the kernel is not positive semi-definite where it is needed, or the steps do not
            come to an end.
        """
        steps = 20 * len(self.alpha) + 100
        fresh = True  # whether decision values and inverse are as good as computed anew
        for _ in range(steps):
            if self._towards_target():
                fresh = False
                continue
            slack = self.slack()
            worst = int(np.argmin(slack))
            if slack[worst] < -self.tolerance:
                self.enter(worst)
                fresh = False
            elif not fresh or self._residual() > self.tolerance:
                self._rebuild()
                fresh = True
            else:
                self._drop_degenerate()
                if len(self.free) == 0:
                    self._centre()
                return self
        raise ValueError(
            f"no optimum of the dual problem was found in {steps} active-set steps: is the kernel "
            "positive semi-definite? Scale the columns of X or lower C"
        )

    def _residual(self):
        """Largest distance of a free vector from its margin."""
        members = self.free.members
        gap = (self.problem.on_variables(self.f) - self.problem.target)[members]
        return float(np.abs(gap).max(initial=0.0))

    def _rebuild(self):
        """Decision values and inverse from scratch: rounding adds up over many updates."""
        self._refresh()
        for j in self.free.build(self.free.members):
            self._exchange(j, prefer_down=True)

    def _towards_target(self):
        """Solve for the free vectors; whether one met a bound and left."""
        for _ in range(4):
            members = self.free.members
            if len(members) == 0:
                return False
            right = np.empty(len(members) + 1)
            right[0] = -(self.problem.sign @ self.alpha)
            right[1:] = (self.problem.target - self.problem.on_variables(self.f))[members]
            x = self.free.inverse @ right
            slopes = self.problem.sign[members] * x[1:]
            room = _room(self.alpha[members], self.cap[members], slopes)
            position = int(np.argmin(room))
            size = min(1.0, room[position])
            self._shift(members, size * slopes, size * x[0])
            if size < 1.0:
                self.leave(position)
                return True
            if np.abs(right[1:]).max() <= 1e-3 * self.tolerance:
                return False
        return False

    def _drop_degenerate(self):
        """Free vectors at a bound are bound: only those inside count as free."""
        members = self.free.members
        alpha, cap = self.alpha[members], self.cap[members]
        for j in members[np.minimum(alpha, cap - alpha) <= 1e-12 * cap]:
            self.leave(self.free.position(j))

    def _centre(self):
        """The middle of the intercepts allowed, as libsvm takes without a free vector."""
        gap = self.problem.target - self.problem.on_variables(self.f)
        up, down = gap[self._orient > 0], gap[self._orient < 0]
        if len(up) and len(down):
            shift = 0.5 * (up.max() + down.min())
            self.b += shift
            self.f += shift

    # -- the path --------------------------------------------------------------------------
    def move_caps(self, cap, gone):
        """Follow the optimum as the boxes move in a straight line to ``cap``.

        Parameters
        ----------
        cap : ndarray of shape (v,)
            New upper bounds.
        gone : ndarray of int
            Variables that leave the problem: their coefficients go to zero in proportion.

        References
        ----------
        Cauwenberghs, G. and Poggio, T. (2000). Incremental and decremental support vector
        machine learning. NeurIPS 13.
        """
        origin = self.b, self.beta, self.f
        self.f = self.f.copy()
        for j in gone:
            if self.status[j] == FREE:
                self.free.leave(self.free.position(j))
            self.set_status(j, GONE)
        goal = np.array(cap, dtype=float)
        goal[gone] = 0.0
        start = self.cap.copy()
        start[gone] = self.alpha[gone]
        self.cap = start
        ended = _Path(self, goal - start).run()
        self.cap = goal
        if not ended:
            return self._from_feasible(origin[1], gone)
        self.alpha[gone] = 0.0
        at_bound = self.status == BOUND
        self.alpha[at_bound] = goal[at_bound]
        self._resync(*origin)
        return self.settle()

    def _from_feasible(self, beta, gone):
        """The optimum by active-set steps, from old coefficients squeezed into the new boxes."""
        sign, row = self.problem.sign, self.problem.row
        alpha = np.clip(sign * beta[row], 0.0, self.cap)
        alpha[gone] = 0.0
        order = np.argsort(np.abs(self.slack()), kind="stable")
        excess = float(sign @ alpha)
        for j in order[~np.isin(order, gone)]:
            if excess == 0:
                break
            falls = sign[j] * excess > 0
            step = min(abs(excess), alpha[j] if falls else self.cap[j] - alpha[j])
            alpha[j] += -step if falls else step
            excess -= np.sign(excess) * step
        status = np.full(len(alpha), FREE)
        status[alpha >= self.cap] = BOUND
        status[alpha <= 0] = RESERVE
        status[self.cap <= 0] = GONE
        again = DualState(self.problem, alpha, self.cap, status, self.b)
        self.__dict__.update(again.settle().__dict__)
        return self

    def _resync(self, b, beta, f):
        """Decision values afresh, from where the path started."""
        change = self.beta - beta
        rows = self.problem.row[self.free.members]
        self.f = f + (self.b - b) + self.free.spread(change[rows])
        change[rows] = 0.0
        others = np.flatnonzero(change)
        if len(others):
            self.f += change[others] @ self.problem.kernel.rows(others)


class _Path:
    """Piecewise-linear motion of a :class:`DualState` while caps move by ``slope``."""

    def __init__(self, state, slope):
        self.state, self.slope = state, slope
        self.problem = state.problem
        self.moving = slope != 0
        self.idle = np.zeros(len(slope), dtype=bool)
        followed = np.flatnonzero(((state.status == BOUND) | (state.status == GONE)) & self.moving)
        self.push = np.zeros(self.problem.kernel.n)  # K dβ of the vectors tied to their caps
        self.total = 0.0
        for j in followed:
            self._tie(j, 1.0)

    def _tie(self, j, direction):
        """Count (or no longer count) variable ``j`` among those that follow their cap."""
        if self.slope[j]:
            amount = direction * self.problem.sign[j] * self.slope[j]
            self.push += amount * self.problem.kernel.row(self.problem.row[j])
            self.total += amount

    def run(self):
        """To the end of the line; False when it turns in place, kept there by rounding."""
        left, still = 1.0, 0
        while still < 100 + 2 * len(self.state.free):
            if len(self.state.free) == 0:
                if not self._free_one():
                    return True
                continue
            step, event = self._segment(left)
            left -= step
            if event is None:
                return True
            still = 0 if step > 1e-13 else still + 1
            self._turn(*event)
        return False

    def _segment(self, left):
        """Move to the next event; ``(step, (kind, which))`` or ``(step, None)`` at the end."""
        state, problem = self.state, self.problem
        members = state.free.members
        right = np.empty(len(members) + 1)
        right[0], right[1:] = self.total, self.push[problem.row[members]]
        x = -(state.free.inverse @ right)
        df = self.push + x[0] + state.free.spread(x[1:])
        df[problem.row[members]] = 0.0  # but for rounding, which would stir copies of a row
        slopes = problem.sign[members] * x[1:]
        room = _room(state.alpha[members], state.cap[members], slopes, self.slope[members])
        position = int(np.argmin(room))
        d_slack = state._orient * problem.on_variables(df)
        falling = (d_slack < -1e-13 * max(1e-300, np.abs(df).max())) & ~self.idle
        slack = np.maximum(state.slack(), 0.0)
        times = np.full(len(slack), np.inf)
        np.divide(slack, -d_slack, out=times, where=falling)
        entering = int(np.argmin(times))
        step = min(left, room[position], times[entering])
        state.alpha[members] += step * slopes
        state.cap += step * self.slope
        tied = self.moving & ((state.status == BOUND) | (state.status == GONE))
        state.alpha[tied] += step * self.slope[tied]
        state.b += step * x[0]
        state.f += step * df
        if step == left:
            return step, None
        if room[position] <= times[entering]:
            return step, ("leave", position)
        return step, ("enter", entering)

    def _turn(self, kind, which):
        """Change the active set at an event."""
        state = self.state
        if kind == "leave":
            j = state.leave(which)
            if state.status[j] == BOUND:
                self._tie(j, 1.0)
        elif state.free.enter(which):
            if state.status[which] == BOUND:
                self._tie(which, -1.0)
            state.set_status(which, FREE)
        else:  # a combination of free vectors (a copy of one) stays on its margin by itself
            self.idle[which] = True
            return
        self.idle[:] = False

    def _free_one(self):
        """Without a free vector, shift the intercept until one can take up the change."""
        state, problem = self.state, self.problem
        rise = self.total <= 0  # what the free vectors must add has the sign of -total
        gap = problem.on_variables(state.f) - problem.target
        # raising β: a reserve vector of sign +, or a bound one of sign -; both have gap ≥ 0
        able = (state._orient > 0) if rise else (state._orient < 0)
        if not able.any():
            if self.total == 0:
                return False
            raise ValueError(
                "no row is left that could balance the ones removed: every row of a class is gone"
            )
        candidates = np.flatnonzero(able)
        j = candidates[np.argmin(np.abs(gap[candidates]))]
        tied = state.status == BOUND
        state.enter(j)
        for k in np.flatnonzero(tied & (state.status != BOUND)):  # j, or its twin
            self._tie(k, -1.0)
        self.idle[:] = False
        return True


_ORIENT = np.array([1.0, 0.0, -1.0, 0.0])


def _room(alpha, cap, slopes, cap_slopes=0.0):
    """How far each coefficient can go along ``slopes`` before it meets a bound."""
    room = np.full(len(alpha), np.inf)
    scale = 1e-15 * np.abs(slopes).max(initial=0.0)
    down, up = slopes < -scale, (slopes - cap_slopes) > scale
    np.divide(alpha, -slopes, out=room, where=down)
    upward = np.full(len(alpha), np.inf)
    np.divide(cap - alpha, slopes - cap_slopes, out=upward, where=up)
    return np.maximum(np.minimum(room, upward), 0.0)
