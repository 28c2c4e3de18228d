"""Influence embeddings: a space whose inner products are influences."""

import numbers

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted

from ._blocks import block_length, blocks
from ._out import empty
from ._partitions import refuse_dask
from ._top import TopInfluences, check_top
from .methods.first_order import Influence
from .targets import resolve_target

FEWER = "Use fewer n_components, or a GradientStore, which keeps random projections on disk"


class InfluenceEmbedding(TransformerMixin, BaseEstimator):
    """Coordinates of rows and queries whose inner products are first-order influences.

    With ``R R' = H⁻¹``, a training row lies at ``R' p_i`` (``p_i`` the gradient that its removal
    releases) and a query at ``R' ∇t``: their product is the influence of the row on the target.
    Rows that lie close to one another are interchangeable for every query, which makes the
    coordinates a basis for clustering, for nearest neighbours, and for an index that answers many
    queries.

    Parameters
    ----------
    explainer : InfluenceExplainer
        With ``method="influence"`` and a solver that has a square root: "direct", "ekfac",
        "kfac", "diagonal", "lanczos", "nystrom", "arnoldi" or "identity". It is cloned.
    n_components : int, optional
        Keep the directions along which the training rows are longest, so many: the best such
        space for influences of the training rows on one another. Default: all, exact.
    index : {"auto", "sklearn", "faiss"}, default="auto"
        What searches: scikit-learn's NearestNeighbors, or faiss (in single precision; candidates
        are compared again in double). "auto" is faiss where it is installed.

    Attributes
    ----------
    embedding_ : ndarray of shape (n_train, n_dimensions)
        Of the training rows.
    components_ : ndarray of shape (n_components, n_dimensions) or None
        Orthonormal directions that were kept.
    explained_ratio_ : float
        Share of the training rows' squared length that was kept.
    explainer_ : InfluenceExplainer

    See Also
    --------
    GradientStore : Random projections on disk, for rows or parameters too many to hold.

    Notes
    -----
    The length of a row is its ``row_norms``: queries compared with rows of length one are ranked
    by relative influence.

    References
    ----------
    Guo, H., Rajani, N. F., Hase, P., Bansal, M. and Xiong, C. (2021). FastIF: scalable influence
    functions for efficient model interpretation and debugging. EMNLP.
    https://arxiv.org/abs/2012.15781

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from skinfluence import InfluenceEmbedding, InfluenceExplainer
    >>> X, y = load_diabetes(return_X_y=True)
    >>> explainer = InfluenceExplainer(Ridge(alpha=0.1), method="influence")
    >>> embedding = InfluenceEmbedding(explainer).fit(X[:400], y[:400])
    >>> influence = embedding.transform(X[400:], y[400:]) @ embedding.embedding_.T
    >>> bool(abs(influence - embedding.explainer_.transform(X[400:], y[400:])).max() < 1e-8)
    True
    """

    def __init__(self, explainer, n_components=None, *, index="auto"):
        self.explainer = explainer
        self.n_components = n_components
        self.index = index

    def fit(self, X, y, sample_weight=None):
        """Fit the explainer and place its training rows.

        Parameters
        ----------
        X : array-like of shape (n_train, n_features)
        y : array-like of shape (n_train,)
        sample_weight : array-like of shape (n_train,), optional

        Returns
        -------
        self
        """
        if self.index not in ("auto", "sklearn", "faiss"):
            raise ValueError(f"index={self.index!r} is not one of 'auto', 'sklearn', 'faiss'")
        refuse_dask(X, "an embedding")
        self.explainer_ = clone(self.explainer).fit(X, y, sample_weight)
        if not isinstance(self.explainer_.method_, Influence):
            raise ValueError(
                f"inner products are first-order influences, and the explainer's method is "
                f"{type(self.explainer_.method_).__name__}; use method='influence'"
            )
        if not hasattr(self.explainer_.solver_, "root"):
            raise TypeError(
                f"solver {type(self.explainer_.solver_).__name__} has no square root of the "
                "inverse curvature; use 'direct', 'ekfac', 'lanczos', 'diagonal' or 'identity'"
            )
        self._embed()
        self._index = None
        return self

    def transform(self, X, y=None):
        """Coordinates of queries.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
        y : array-like of shape (n_queries,), optional
            Labels or targets; the explainer's target decides whether they are needed.

        Returns
        -------
        ndarray of shape (n_queries, n_dimensions)
            One row for a scalar target.
        """
        check_is_fitted(self)
        refuse_dask(X, "an embedding")
        explainer = self.explainer_
        query, y = explainer._check_queries(X, y)
        target = resolve_target(explainer.target, y is not None, X)
        length = query.shape[0] if target.scalar else explainer._query_block(query.shape[0])
        m, width = query.shape[0], self.embedding_.shape[1]
        out = empty((1 if target.scalar else m, width), np.float64, "queries by dimensions", FEWER)
        for part in blocks(m, length):
            placed = self._place(explainer._bind(target, query, y, part).pullback())
            placed = placed if self.components_ is None else placed @ self.components_.T
            out[slice(0, 1) if target.scalar else part] = placed
        return out

    def top_influences(self, X, y=None, *, k=10, by="magnitude"):
        """The training rows that matter most for each query, by a nearest-neighbour search.

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
        Q = self.transform(X, y)
        check_top(k, by, len(self.embedding_))
        if self._index is None:
            self._index = LargestProducts(self.embedding_, self.index)
        sides = {"magnitude": (1, -1), "helpful": (1,), "harmful": (-1,)}[by]
        found = np.concatenate([self._index.search(side * Q, k) for side in sides], axis=1)
        return self._best(Q, found, k, by)

    def get_feature_names_out(self, input_features=None):
        """Names of the coordinates.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str objects
            ``influence0``, ``influence1``, ...
        """
        check_is_fitted(self)
        return np.array([f"influence{j}" for j in range(self.embedding_.shape[1])], dtype=object)

    # -- inside ----------------------------------------------------------------------------
    def _place(self, G):
        """``R' g`` of each row of ``G``."""
        return np.ascontiguousarray(self.explainer_.solver_.root(G.astype(np.float64).T).T)

    def _embed(self):
        """Place the training rows, projected onto their leading right singular vectors."""
        self.components_, self.explained_ratio_ = None, 1.0
        n, width = self.explainer_.n_rows_, self._place(self._gradients(np.arange(1))).shape[1]
        if self.n_components is None:
            self.embedding_ = self._filled((n, width), lambda placed: placed)
            return
        if not isinstance(self.n_components, numbers.Integral) or not (
            1 <= self.n_components <= min(n, width)
        ):
            raise ValueError(
                f"n_components={self.n_components!r} must be an integer between 1 and "
                f"{min(n, width)}, the smaller of rows and dimensions"
            )
        if width > n:
            E = self._filled((n, width), lambda placed: placed)
            # from the left singular vectors to the right ones, made orthonormal again
            directions = np.linalg.qr(E.T @ self._leading(E @ E.T))[0]
            total, self.embedding_ = np.vdot(E, E), E @ directions
        else:
            gram = empty((width, width), np.float64, "dimensions by dimensions", FEWER)
            gram[:] = 0.0
            for _, placed in self._placed():
                gram += placed.T @ placed
            total, directions = np.trace(gram), self._leading(gram)
            shape = n, self.n_components
            self.embedding_ = self._filled(shape, lambda placed: placed @ directions)
        self.components_ = np.ascontiguousarray(directions.T)
        self.explained_ratio_ = (
            float(np.vdot(self.embedding_, self.embedding_) / total) if total else 1.0
        )

    def _leading(self, matrix):
        """The leading eigenvectors of a symmetric matrix, as columns."""
        return np.linalg.eigh(matrix)[1][:, ::-1][:, : self.n_components]

    def _filled(self, shape, of):
        """``of(placed)`` of every block of training rows, one below the other."""
        out = empty(shape, np.float64, "training rows by dimensions", FEWER)
        for rows, placed in self._placed():
            out[rows] = of(placed)
        return out

    def _placed(self):
        """Blocks of training rows and their places."""
        for rows in self.explainer_.effects_.row_blocks(np.arange(self.explainer_.n_rows_)):
            yield rows, self._place(self._gradients(rows))

    def _gradients(self, rows):
        return self.explainer_.effects_.gradients.block(rows)

    def _best(self, Q, found, k, by):
        """The best ``k`` of the candidates, by products in double precision."""
        indices = np.empty((len(Q), k), dtype=np.intp)
        values = np.empty((len(Q), k))
        width = 16 * found.shape[1] * self.embedding_.shape[1]
        for part in blocks(len(Q), block_length(width, share=1 / 8)):
            products = np.einsum("mcd,md->mc", self.embedding_[found[part]], Q[part])
            scores = {"magnitude": np.abs(products), "helpful": products}.get(by, -products)
            repeated = _repeated(found[part])
            order = np.lexsort((found[part], -np.where(repeated, -np.inf, scores)), axis=1)[:, :k]
            indices[part] = np.take_along_axis(found[part], order, axis=1)
            values[part] = np.take_along_axis(products, order, axis=1)
        return TopInfluences(indices=indices, values=values)


def _repeated(found):
    """Where an entry occurred in its row before."""
    order = np.argsort(found, axis=1, kind="stable")
    ranked = np.take_along_axis(found, order, axis=1)
    again = np.zeros(found.shape, dtype=bool)
    again[:, 1:] = ranked[:, 1:] == ranked[:, :-1]
    out = np.empty_like(again)
    np.put_along_axis(out, order, again, axis=1)
    return out


class LargestProducts:
    """Search for the rows of largest inner product with a query.

    Euclidean neighbours are those of largest product once every row has the same length: a
    further coordinate, zero for queries, makes up what a row lacks to the longest.
    """

    def __init__(self, rows, index):
        self.faiss = _faiss(index)
        if self.faiss is not None:
            self._flat = self.faiss.IndexFlatIP(rows.shape[1])
            self._flat.add(np.ascontiguousarray(rows, dtype=np.float32))
            return
        squares = np.einsum("ij,ij->i", rows, rows)
        self._longest = np.sqrt(squares.max())
        rest = np.sqrt(np.maximum(squares.max() - squares, 0.0))
        self._search = NearestNeighbors().fit(np.column_stack([rows, rest]))

    def search(self, Q, k):
        """Positions of the ``k`` best rows: (m, k)."""
        if self.faiss is not None:
            return self._flat.search(np.ascontiguousarray(Q, dtype=np.float32), int(k))[1]
        # products grow with the query, their order does not: one length for all loses no digits
        norms = np.linalg.norm(Q, axis=1, keepdims=True)
        Q = Q * (self._longest / np.where(norms > 0, norms, 1.0))
        Q = np.column_stack([Q, np.zeros(len(Q))])
        return self._search.kneighbors(Q, k, return_distance=False)


def _faiss(index):
    if index == "sklearn":
        return None
    try:
        import faiss
    except ImportError as error:
        if index == "auto":
            return None
        raise ImportError("index='faiss' needs faiss: pip install faiss-cpu") from error
    return faiss
