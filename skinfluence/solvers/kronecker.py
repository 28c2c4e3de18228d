"""Kronecker-factored curvature of a net, layer by layer: KFAC and EKFAC."""

import numbers

import numpy as np

from .._blocks import block_length, blocks, working_bytes
from .damped import DampedSolver, check_curvature, curvature_operator

KINDS = ("gauss_newton", "fisher", "empirical_fisher")


class KFAC(DampedSolver):
    """``(A ⊗ S / n + λ)⁻¹`` for each layer: ``A`` from what enters it, ``S`` from the slopes.

    Exact for one training row, and for a linear layer with squared loss. The expectation over
    the model's own labels is exact (no label is drawn) unless the outputs are many.

    Parameters
    ----------
    damping : float or "auto", default="auto"
        Added to the curvature, in the units of the objective (a sum over rows): a weight decay
        of ``wd`` on a mean loss corresponds to ``n_rows * wd``. "auto" adds nothing where the
        net's own weight decay holds every parameter, else a tenth of the mean curvature.
    curvature : {"gauss_newton", "fisher", "empirical_fisher"}, default="gauss_newton"
    n_samples : int or "auto", default="auto"
        Random directions a row instead of the exact expectation over outputs. "auto" is exact
        up to 32 outputs, and 16 directions beyond.
    fallback : {"diagonal", "refuse"}, default="diagonal"
        For parameters of layers without Kronecker structure (normalisation layers, parameters
        shared by modules or held by other kinds of modules): their diagonal curvature, or a
        ValueError that names them. ``report_["fallback"]`` says where it was used.
    random_state : int, default=0
        Seed of the random directions.

    Attributes
    ----------
    damping_ : float
    report_ : dict
        ``damping``, ``iterations`` (0), ``residual`` against the curvature itself,
        ``smallest_curvature`` (of the approximation), ``fallback``, ``n_samples``.

    References
    ----------
    Martens, J. and Grosse, R. (2015). Optimizing neural networks with Kronecker-factored
    approximate curvature. ICML. https://arxiv.org/abs/1503.05671

    Examples
    --------
    >>> from skinfluence.solvers import KFAC
    >>> KFAC(damping=0.1)
    KFAC(damping=0.1)
    """

    inverts_curvature = False
    keeps_single = True
    corrected = False

    def __init__(
        self,
        damping="auto",
        *,
        curvature="gauss_newton",
        n_samples="auto",
        fallback="diagonal",
        random_state=0,
    ):
        self.damping = damping
        self.curvature = curvature
        self.n_samples = n_samples
        self.fallback = fallback
        self.random_state = random_state

    def fit(self, objective):
        """Factors of every layer, in one pass (two for EKFAC) over the training rows."""
        self._check(objective)
        self._start(objective)
        self._product = curvature_operator(objective, self.curvature)
        self._blocks = layer_blocks(objective)
        self._rest = self._fallback_slices(objective)
        passes = self._passes(objective)
        size = np.count_nonzero(objective.weights) * objective.n_outputs * objective._width
        stored = self.corrected and size * objective.dtype.itemsize < working_bytes() / 32
        passes = list(passes) if stored else passes
        self._covariances(objective, passes)
        if self.corrected:
            self._second_moments(passes if stored else self._passes(objective))
        if self._rest:
            self._rest_diagonal(objective)
        for block in self._blocks:
            block.rotate_penalty(objective)
        names = [objective.names[k] for k in self._rest]
        self.report_ = {"iterations": 0, "n_samples": self._n_samples, "fallback": names}
        self._set_damping()
        return self

    def _check(self, objective):
        check_curvature(self.curvature, KINDS)
        name = type(self).__name__
        if not hasattr(objective, "layer_pass"):
            raise TypeError(
                f"solver {name} factors the layers of a net; {type(objective).__name__} has "
                "none. Use solver='direct' or 'cg'"
            )
        objective.check_kind(self.curvature)
        if self.fallback not in ("diagonal", "refuse"):
            raise ValueError(f"fallback={self.fallback!r} is not one of 'diagonal', 'refuse'")
        n = self.n_samples
        if n != "auto" and n is not None and (not isinstance(n, numbers.Integral) or n < 1):
            raise ValueError(f"n_samples={n!r} must be 'auto', None (exact) or a positive integer")
        self._n_samples = n
        if n == "auto":
            self._n_samples = None if objective.n_outputs <= 32 else 16
        if self.curvature == "empirical_fisher":
            self._n_samples = None

    def _fallback_slices(self, objective):
        """Positions, among the parameter arrays, of those outside of every block."""
        covered = {s.start for block in self._blocks for s in (block.weight, block.bias) if s}
        rest = [
            k
            for k, name in enumerate(objective.names)
            if objective.slices[name].start not in covered
        ]
        if rest and self.fallback == "refuse":
            names = [objective.names[k] for k in rest]
            raise ValueError(
                f"{type(self).__name__} does not cover the parameters {names}; pass "
                "fallback='diagonal', leave them out with objective=Net(parameters=...), or use "
                "solver='cg'"
            )
        return rest

    def _passes(self, objective):
        """``(weights, {block: (a, δ)})`` for blocks of training rows, repeated uses joined."""
        import torch

        K = objective.n_outputs
        per_row = 3 * K * objective._width * objective.dtype.itemsize
        by_layer = {id(block.layer): block for block in self._blocks}
        for rows in objective.row_blocks(per_row):
            x, columns = self._columns(objective, rows)
            seen = {}
            for layer, a, delta in objective.layer_pass(x, columns):
                block = by_layer.get(id(layer))
                if block is not None:
                    seen.setdefault(id(layer), (block, [], []))
                    seen[id(layer)][1].append(block.inputs(a))
                    seen[id(layer)][2].append(delta)
            weights = objective.to_torch(objective.weights[rows])
            yield weights, [(b, torch.cat(a, 1), torch.cat(d, 2)) for b, a, d in seen.values()]

    def _columns(self, objective, rows):
        if self.curvature == "empirical_fisher":
            x, _ = objective.source.batch(rows)
            scale = objective.to_torch(objective.weights[rows]).sqrt()[:, None]
            return x, (objective.slopes[rows] / scale)[None]
        x, _, columns = objective.curvature_columns(rows, self._n_samples, self.random_state)
        return x, columns

    def _covariances(self, objective, passes):
        for block in self._blocks:
            block.start(objective)
        for weights, seen in passes:
            for block, a, delta in seen:
                block.add_covariances(weights, a, delta)
        total = float(objective.weights.sum())
        for block in self._blocks:
            block.factorise(total)

    def _second_moments(self, passes):
        for block in self._blocks:
            block.values.zero_()
        for _, seen in passes:
            for block, a, delta in seen:
                block.add_second_moments(a, delta)

    def _rest_diagonal(self, objective):
        self._rest_index = np.concatenate(
            [
                np.arange(objective.n_params)[objective.slices[objective.names[k]]]
                for k in self._rest
            ]
        )
        diagonal = _diagonal(objective, self._columns, self._rest_index)
        self._rest_values = diagonal + objective.penalty[self._rest_index]

    def _set_damping(self):
        super()._set_damping()
        smallest = [float(block.eigenvalues(0.0).min()) for block in self._blocks]
        if self._rest:
            smallest.append(float(self._rest_values.min()))
        lowest = min(smallest) + self.damping_
        if lowest <= 0:
            raise ValueError(
                f"the approximate curvature has eigenvalue {lowest:.1e} at damping="
                f"{self.damping_:.3g}: pass a positive damping, or train with weight_decay"
            )
        self.report_ = self.report_ | {"smallest_curvature": lowest}
        self.report_.pop("residual", None)

    def _solve(self, V):
        objective = self._objective
        out = np.empty(V.shape, V.dtype, order="F")
        for part in blocks(V.shape[1], block_length(32 * len(V), share=1 / 32, smallest=8)):
            moved = self.apply(objective.to_torch(V[:, part].T))
            out[:, part] = moved.cpu().numpy().T
        if "residual" not in self.report_:  # of the first right sides: what it costs is a pass
            self._record_residual(V, out)
        return out

    def apply(self, V):
        """``(C + λ)⁻¹`` of right sides as rows, a Tensor (m, n_params)."""
        import torch

        out = torch.empty_like(V)
        for block in self._blocks:
            block.apply(V, out, self.damping_)
        if self._rest:
            scale = self._objective.to_torch(1 / (self._rest_values + self.damping_))
            out[:, self._rest_index] = V[:, self._rest_index] * scale
        return out

    def root(self, V):
        """``R' V`` with ``R R' = (C + λ)⁻¹``: the layers' eigenbases, scaled."""
        import torch

        V = self._objective.to_torch(self._checked(V).T)
        out = torch.empty_like(V)
        for block in self._blocks:
            block.apply_root(V, out, self.damping_)
        if self._rest:
            scale = self._objective.to_torch((self._rest_values + self.damping_) ** -0.5)
            out[:, self._rest_index] = V[:, self._rest_index] * scale
        return out.cpu().numpy().T


class EKFAC(KFAC):
    """KFAC's eigenbasis with the exact second moments of the gradients along it.

    Closer to the curvature than KFAC in Frobenius norm, always; exact where KFAC is. Costs a
    second pass over the training rows.

    Parameters
    ----------
    damping, curvature, n_samples, fallback, random_state
        As for :class:`KFAC`.

    References
    ----------
    George, T., Laurent, C., Bouthillier, X., Ballas, N. and Vincent, P. (2018). Fast approximate
    natural gradient descent in a Kronecker-factored eigenbasis. NeurIPS.
    https://arxiv.org/abs/1806.03884

    Grosse, R. et al. (2023). Studying large language model generalization with influence
    functions. https://arxiv.org/abs/2308.03296

    Examples
    --------
    >>> from skinfluence.solvers import EKFAC
    >>> EKFAC(fallback="refuse")
    EKFAC(fallback='refuse')
    """

    corrected = True


class LayerBlock:
    """The Kronecker factors of one dense layer; the bias is a last column of the inputs."""

    def __init__(self, layer, transposed):
        self.layer, self.transposed = layer, transposed
        self.weight, self.bias = layer.weight, layer.bias
        self.d_out = layer.d_out
        self.d_in = layer.d_in * (layer.weight is not None) + (layer.bias is not None)

    def inputs(self, a):
        """``a`` with a column of ones for the bias, or that column alone."""
        import torch

        ones = a.new_ones(*a.shape[:2], 1)
        if self.weight is None:
            return ones
        return a if self.bias is None else torch.cat([a, ones], 2)

    def start(self, objective):
        """Zero sums."""
        import torch

        options = {"dtype": torch.float64, "device": objective.device}
        self.dtype, self.positions = objective.torch_dtype, 1
        self.A = torch.zeros(self.d_in, self.d_in, **options)
        self.S = torch.zeros(self.d_out, self.d_out, **options)

    def add_covariances(self, weights, a, delta):
        """``Σ w a a'`` and ``Σ δ δ'`` (the columns hold the weights)."""
        self.positions = a.shape[1]
        scaled = (a * weights.sqrt()[:, None, None]).reshape(-1, self.d_in)
        delta = delta.reshape(-1, self.d_out)
        self.A += (scaled.T @ scaled).double()
        self.S += (delta.T @ delta).double()

    def factorise(self, total):
        """Eigenbases, and KFAC's eigenvalues (d_out, d_in)."""
        import torch

        a_values, QA = torch.linalg.eigh(self.A)
        s_values, QS = torch.linalg.eigh(self.S)
        scale = total * self.positions
        values = s_values.clamp_min(0)[:, None] * a_values.clamp_min(0) / scale
        self.values, self.A, self.S = values, None, None
        self.QA64, self.QS64 = QA, QS
        self.QA, self.QS = QA.to(self.dtype), QS.to(self.dtype)

    def add_second_moments(self, a, delta):
        """``Σ (q_S' ∇ q_A)²`` over rows and columns."""
        import torch

        a, delta = a @ self.QA, delta @ self.QS
        if a.shape[1] == 1:
            squares = (delta[:, :, 0] ** 2).sum(0)
            self.values += (squares.T @ a[:, 0] ** 2).double()
            return
        per_row = 8 * len(delta) * self.d_in * self.d_out
        for rows in blocks(len(a), block_length(per_row, share=1 / 16)):
            grads = torch.einsum("kbto,bti->kboi", delta[:, rows], a[rows])
            self.values += (grads**2).sum((0, 1)).double()

    def rotate_penalty(self, objective):
        """The penalty's diagonal in the eigenbasis (the penalty itself when it is uniform)."""
        import torch

        penalty = self.join(torch.as_tensor(objective.penalty, device=objective.device)[None])[0]
        if float(penalty.max()) == float(penalty.min()):
            self.penalty = penalty
        else:
            self.penalty = (self.QS64.T**2) @ penalty @ (self.QA64**2)

    def eigenvalues(self, damping):
        """Of the whole block, penalty and damping in: (d_out, d_in)."""
        return self.values + self.penalty + damping

    def apply(self, V, out, damping):
        """Solve for this layer's part of ``V`` (m, n_params), into ``out``."""
        inverse = (1 / self.eigenvalues(damping)).to(self.dtype)
        self.split(self.QS @ ((self.QS.T @ self.join(V) @ self.QA) * inverse) @ self.QA.T, out)

    def apply_root(self, V, out, damping):
        """This layer's part of ``V`` in its eigenbasis, over the roots of the eigenvalues."""
        inverse = (self.eigenvalues(damping) ** -0.5).to(self.dtype)
        self.split((self.QS.T @ self.join(V) @ self.QA) * inverse, out)

    def join(self, V):
        """This layer's parameters as (m, d_out, d_in), the bias last."""
        import torch

        parts = []
        if self.weight is not None:
            W = V[:, self.weight]
            W = W.reshape(len(V), -1, self.d_out).transpose(1, 2) if self.transposed else W
            parts.append(W.reshape(len(V), self.d_out, -1))
        if self.bias is not None:
            parts.append(V[:, self.bias, None])
        return torch.cat(parts, 2)

    def split(self, X, out):
        """Inverse of :meth:`join`."""
        if self.bias is not None:
            out[:, self.bias] = X[:, :, -1]
            X = X[:, :, :-1]
        if self.weight is not None:
            X = X.transpose(1, 2) if self.transposed else X
            out[:, self.weight] = X.reshape(len(X), -1)


def layer_blocks(objective):
    """A :class:`LayerBlock` for each dense layer."""
    from torch.nn import Embedding

    return [
        LayerBlock(layer, isinstance(layer.module, Embedding))
        for layer in objective.layers()
        if layer.kind == "dense"
    ]


def _diagonal(objective, columns_of, index):
    """``Σ_i Σ_k (J_i' c_ik)²`` at the parameters ``index``, float64."""
    total = np.zeros(len(index))
    for rows in objective.gradient_blocks():
        x, columns = columns_of(objective, rows)
        for column in columns:
            squares = (objective.pull(x, column)[:, index] ** 2).sum(0)
            total += objective.to_numpy(squares)
    return total
