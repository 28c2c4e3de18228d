"""Projected gradients of many training rows, on disk, and queries against them."""

import json
import numbers
from pathlib import Path

import joblib
import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._metadata_requests import UNUSED
from sklearn.utils.validation import check_is_fitted

from ._blocks import block_length, blocks
from ._distributed import check_whole
from ._out import empty, open_sink
from ._top import TopInfluences, TopValues, check_top
from .objectives.stacked import StackedObjective
from .solvers.damped import (
    GAUSS_NEWTON,
    check_unrestricted,
    curvature_operator,
    layer_grids,
    resolve_damping,
)
from .targets import resolve_target

FILES = ("gradients.npy", "kernel.npz", "store.json")


class GradientStore(BaseEstimator):
    """Influence in a random subspace: each row's gradient is projected once and kept.

    With ``P`` an orthonormal random basis, block diagonal over the layers, the influence
    ``q' (C + λI)⁻¹ g_i`` is replaced by ``(P'q)' (P'CP + λI)⁻¹ (P'g_i)``. The projected gradients
    ``P'g_i`` of all training rows lie in one array, on disk if a folder is given; a query costs
    one projection and one product with it. Layers with no more parameters than ``n_components``
    are not projected: the store is then exact. Influence is first order, the target linearised.

    Within a layer of shape (d_out, d_in) the basis is a Kronecker product, so that it needs no
    more memory than two small matrices.

    Parameters
    ----------
    n_components : int, default=512
        Dimensions a layer.
    damping : float, "auto" or "leverage", default="auto"
        Added to the curvature. "auto" adds nothing where the penalty holds every parameter, else
        a tenth of the mean curvature. "leverage" adds to a net's
        Gauss-Newton matrix at least what keeps the mean leverage of its rows at 0.2: see the user
        guide.
    curvature : {"gauss_newton", "hessian", "fisher", "empirical_fisher"}, default="gauss_newton"
        ``C``. An empirical Fisher matrix vanishes with the gradients of a converged net.
    folder : str or path, optional
        Where to keep the store; default in memory.
    random_state : int, RandomState or None, default=0
        Of the projections.

    Attributes
    ----------
    n_components_ : int
        Dimensions of all layers together, the columns of ``gradients_``.
    gradients_ : ndarray or memmap of shape (n_train, n_dimensions), float32
    damping_ : float

    References
    ----------
    Park, S. M., Georgiev, K., Ilyas, A., Leclerc, G. and Madry, A. (2023). TRAK: attributing
    model behavior at scale. ICML. https://arxiv.org/abs/2303.14186

    Choe, S. K. et al. (2024). What is your data worth to GPT? LLM-scale data valuation with
    influence functions. https://arxiv.org/abs/2405.13954

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skinfluence import GradientStore, InfluenceExplainer
    >>> X, y = load_digits(return_X_y=True)
    >>> explainer = InfluenceExplainer(LogisticRegression(), method="influence")
    >>> store = GradientStore(n_components=100).fit(explainer.fit(X[:200] / 16, y[:200]))
    >>> store.gradients_.shape
    (200, 100)
    >>> store.top_influences(X[500:510] / 16, y[500:510], k=3).indices.shape
    (10, 3)
    """

    __metadata_request__transform = {"out": UNUSED}

    def __init__(
        self,
        n_components=512,
        *,
        damping="auto",
        curvature="gauss_newton",
        folder=None,
        random_state=0,
    ):
        self.n_components = n_components
        self.damping = damping
        self.curvature = curvature
        self.folder = folder
        self.random_state = random_state

    def fit(self, explainer):
        """Project and keep the gradients of an explainer's training rows.

        Parameters
        ----------
        explainer : InfluenceExplainer
            Fitted. Its solver is not used.

        Returns
        -------
        self
        """
        check_is_fitted(explainer)
        if not isinstance(self.n_components, numbers.Integral) or self.n_components < 1:
            raise ValueError(f"n_components={self.n_components!r} must be a positive integer")
        if self.folder is not None and not isinstance(self.random_state, numbers.Integral):
            raise ValueError("a store on disk needs an integer random_state to be opened again")
        check_whole(explainer, "GradientStore")
        objective = explainer.objective_
        if isinstance(objective, StackedObjective):
            raise TypeError(
                "GradientStore projects the gradients of a last step, and this pipeline's earlier "
                "steps are followed too; fit the explainer with preprocessing='frozen'"
            )
        check_unrestricted(objective, "GradientStore")
        product = curvature_operator(objective, self.curvature)
        inverts = self.curvature in GAUSS_NEWTON
        self.damping_ = resolve_damping(self.damping, objective, product, False, inverts)
        self.explainer_ = explainer
        self._projection = Projection(objective, self.n_components, self.random_state)
        self.n_components_ = self._projection.n_components
        self._kernel = self._projected_curvature(product)
        self._factorise()
        self.gradients_ = self._project_rows(objective.removal_gradients())
        if self.folder is not None:
            self._write(objective)
        return self

    @classmethod
    def open(cls, folder, explainer):
        """A store that was kept in ``folder``, for an explainer fitted as then.

        Parameters
        ----------
        folder : str or path
        explainer : InfluenceExplainer
            Fitted on the same rows; its parameters are compared with those of the store.

        Returns
        -------
        GradientStore
        """
        folder = Path(folder)
        if not all((folder / name).is_file() for name in FILES):
            raise ValueError(f"{folder} holds no gradient store: {', '.join(FILES)} are needed")
        options = json.loads((folder / "store.json").read_text())
        damping = options.pop("damping_")
        store = cls(folder=str(folder), **options)
        objective = explainer.objective_
        with np.load(folder / "kernel.npz") as arrays:
            store._kernel, theta = arrays["kernel"], arrays["theta"]
        if theta.shape != objective.theta.shape or not np.allclose(
            theta, objective.theta, rtol=1e-6, atol=1e-8 * np.abs(theta).max(initial=0.0)
        ):
            raise ValueError(
                "the store was made with other parameters than the explainer's: fit it anew"
            )
        store.explainer_, store.damping_ = explainer, damping
        store._projection = Projection(objective, store.n_components, store.random_state)
        store.n_components_ = store._projection.n_components
        store.gradients_ = np.load(folder / "gradients.npy", mmap_mode="r")
        store._factorise()
        return store

    def with_damping(self, damping):
        """This store with another damping; projected gradients and curvature are shared.

        Parameters
        ----------
        damping : float or "auto"

        Returns
        -------
        GradientStore
        """
        other = GradientStore(**(self.get_params() | {"damping": damping, "folder": None}))
        vars(other).update({k: v for k, v in vars(self).items() if k not in other.get_params()})
        objective = self.explainer_.objective_
        product = curvature_operator(objective, self.curvature)
        inverts = self.curvature in GAUSS_NEWTON
        other.damping_ = resolve_damping(damping, objective, product, False, inverts)
        other._factorise()
        return other

    def transform(self, X, y=None, *, out=None):
        """Influence of each training row on each query.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional
        out : array of shape (n_queries, n_train) or path, optional
            Where to write the result, as for :meth:`InfluenceExplainer.transform`.

        Returns
        -------
        ndarray of shape (n_queries, n_train), float32, or ``out``

        Raises
        ------
        MemoryError
            If the result is larger than the memory that is free and there is no ``out``.
        """
        solved, n = self._solved_queries(X, y), len(self.gradients_)
        sink = open_sink(out, (len(solved), n), np.float32, lambda: self._fingerprint(X, y))
        for part in sink.parts(len(solved)):
            block = sink.block(part)
            for rows in self._row_blocks():
                np.matmul(solved[part], self.gradients_[rows].T, out=block[:, rows])
            sink.done(part, block)
        return sink.result()

    def top_influences(self, X, y=None, *, k=10, by="magnitude"):
        """The training rows that matter most for each query, in one pass over the store.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional
        k : int, default=10
        by : {"magnitude", "helpful", "harmful"}, default="magnitude"

        Returns
        -------
        Bunch
            ``indices`` and ``values`` of shape (n_queries, k), most influential first.
        """
        solved = self._solved_queries(X, y)
        check_top(k, by, len(self.gradients_))
        top = TopValues(len(solved), k, by)
        for rows in self._row_blocks(8 * len(solved)):
            top.update(rows, solved @ self.gradients_[rows].T)
        indices, values = top.result()
        return TopInfluences(indices=indices, values=values)

    # -- inside ----------------------------------------------------------------------------
    def _fingerprint(self, X, y):
        """A name of the numbers that ``transform`` gives."""
        options = self.get_params() | {"folder": None, "damping": self.damping_}
        return joblib.hash([options, self._kernel, self.explainer_._fingerprint("store", X, y)])

    def _projected_curvature(self, product):
        """``P'CP``, some columns at a time."""
        projection, k = self._projection, self.n_components_
        out = np.empty((k, k))
        for part in blocks(k, block_length(32 * projection.n_params, share=1 / 8)):
            columns = np.zeros((part.stop - part.start, k))
            columns[np.arange(len(columns)), np.arange(part.start, part.stop)] = 1
            out[:, part] = projection(product(projection.lift(columns).T).T).T
        return (out + out.T) / 2

    def _factorise(self):
        matrix = self._kernel.copy()
        matrix[np.diag_indices_from(matrix)] += self.damping_
        try:
            self._factor = cho_factor(matrix, lower=True)
        except LinAlgError as error:
            raise ValueError(
                f"the projected curvature is not positive definite at damping={self.damping_:.3g}, "
                "as where the classes' intercepts have no penalty; pass a damping such as "
                f"{1e-6 * np.diag(matrix).max():.1e}"
                + ("" if self.curvature in GAUSS_NEWTON else ", or use curvature='gauss_newton'")
            ) from error

    def _project_rows(self, gradients):
        shape = (gradients.shape[0], self.n_components_)
        if self.folder is None:
            instead = "Pass folder=, where they are kept on disk, or fewer n_components"
            out = empty(shape, np.float32, "training rows by dimensions", instead)
        else:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
            path = Path(self.folder) / "gradients.npy"
            (Path(self.folder) / "store.json").unlink(missing_ok=True)  # written last: whole again
            out = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for rows in blocks(shape[0], block_length(32 * gradients.shape[1], share=1 / 8)):
            out[rows] = self._projection(gradients.block(rows))
        return out

    def _write(self, objective):
        folder = Path(self.folder)
        self.gradients_.flush()
        np.savez(folder / "kernel.npz", kernel=self._kernel, theta=objective.theta)
        options = self.get_params() | {"damping_": self.damping_}
        options.pop("folder")
        (folder / "store.json").write_text(json.dumps(options))

    def _solved_queries(self, X, y):
        """``(P'CP + λI)⁻¹ P'q`` of each query: (m, k) in float32."""
        check_is_fitted(self, "gradients_")
        explainer = self.explainer_
        query, y = explainer._check_queries(X, y)
        target = resolve_target(explainer.target, y is not None, X)
        if target.scalar:
            parts = [slice(0, query.shape[0])]
        else:
            length = block_length(16 * self._projection.n_params, share=1 / 8)
            parts = blocks(query.shape[0], length)
        projected = []
        for part in parts:
            bound = target.bind(explainer.objective_, query[part], None if y is None else y[part])
            projected.append(self._projection(bound.pullback()))
        solved = cho_solve(self._factor, np.concatenate(projected).T).T
        return np.ascontiguousarray(solved, dtype=np.float32)

    def _row_blocks(self, bytes_per_row=0):
        length = block_length(4 * self.n_components_ + bytes_per_row, share=1 / 8)
        return blocks(len(self.gradients_), length)


class Projection:
    """An orthonormal basis of part of the parameter space, a Kronecker product in each layer.

    Parameters
    ----------
    objective : Objective
    n_components : int
        Dimensions a layer.
    random_state : int, RandomState or None
    """

    def __init__(self, objective, n_components, random_state):
        rng = check_random_state(random_state)
        self.n_params = objective.n_params
        self.layers, start = [], 0
        for grid in layer_grids(objective):
            left, right = _bases(grid.shape, n_components, rng)
            stop = start + left.shape[1] * right.shape[1]
            self.layers.append((grid, left, right, slice(start, stop)))
            start = stop
        self.n_components = start

    def __call__(self, G):
        """``P'g`` of each row: (b, n_params) to (b, n_components), float64."""
        out = np.empty((len(G), self.n_components))
        for grid, left, right, part in self.layers:
            inner = G[:, grid].astype(np.float64, copy=False) @ right
            out[:, part] = np.einsum("bij,ik->bkj", inner, left, optimize=True).reshape(len(G), -1)
        return out

    def lift(self, Z):
        """``P z`` of each row: (b, n_components) to (b, n_params)."""
        out = np.zeros((len(Z), self.n_params))
        for grid, left, right, part in self.layers:
            inner = Z[:, part].reshape(len(Z), left.shape[1], right.shape[1]) @ right.T
            out[:, grid.ravel()] = np.einsum("bkj,ik->bij", inner, left, optimize=True).reshape(
                len(Z), -1
            )
        return out


def _bases(shape, n_components, rng):
    """Orthonormal columns for both sides of a layer, their product at most ``n_components``."""
    d_out, d_in = shape
    if d_out * d_in <= n_components:
        return np.eye(d_out), np.eye(d_in)
    k_out = max(1, min(d_out, int(np.sqrt(n_components))))
    k_in = min(d_in, n_components // k_out)
    k_out = min(d_out, n_components // k_in)
    return _orthonormal(d_out, k_out, rng), _orthonormal(d_in, k_in, rng)


def _orthonormal(size, k, rng):
    if k == size:
        return np.eye(size)
    return np.linalg.qr(rng.standard_normal((size, k)))[0]
