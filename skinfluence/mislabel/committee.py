"""The models that judge a label when none are named: five that fail in different ways."""

from scipy import sparse
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# A tree on more rows than this gains little and holds much.
ROWS_PER_TREE = 8_000
N_TREES = 300
N_LANDMARKS = 300


def default_committee(X, n_classes, seed, n_jobs=None):
    """Named members for data ``X``: ``n_classes`` is None for regression.

    The linear and the kernel model see standardised columns with missing values filled in;
    the trees take them as they come. Boosting is left out on sparse ``X``, which it does not take.
    """
    members = {"linear": None, "kernel": None, "forest": None, "extra trees": None}
    n, p = X.shape
    classify = n_classes is not None
    options = dict(
        n_estimators=N_TREES,
        bootstrap=True,
        max_samples=ROWS_PER_TREE if n > ROWS_PER_TREE else None,
        n_jobs=n_jobs,
        random_state=seed,
    )
    kernel_map = Nystroem(
        gamma=0.5 / p, n_components=min(N_LANDMARKS, max(1, n // 2)), random_state=seed
    )
    if classify:
        members["linear"] = LogisticRegression(C=0.1, max_iter=200)
        kernel = LogisticRegression(C=1.0, max_iter=200)
        members["kernel"] = OneVsRestClassifier(kernel) if n_classes > 2 else kernel
        members["forest"] = RandomForestClassifier(min_samples_leaf=5, **options)
        members["extra trees"] = ExtraTreesClassifier(
            min_samples_leaf=3, max_features=0.5, **options
        )
    else:
        members["linear"] = Ridge(alpha=10.0)
        members["kernel"] = Ridge(alpha=0.1)
        members["forest"] = RandomForestRegressor(min_samples_leaf=5, **options)
        members["extra trees"] = ExtraTreesRegressor(
            min_samples_leaf=3, max_features=0.5, **options
        )
    members["linear"] = make_pipeline(*_scaled(X), members["linear"])
    members["kernel"] = make_pipeline(*_scaled(X), kernel_map, members["kernel"])
    if not sparse.issparse(X):
        boosting = HistGradientBoostingClassifier if classify else HistGradientBoostingRegressor
        members["boosting"] = boosting(
            max_iter=80,
            max_leaf_nodes=8,
            max_features=0.5,
            early_stopping=False,
            random_state=seed,
        )
    return members


def _scaled(X):
    """Steps before a linear model; a sparse table keeps its zeros."""
    dense = not sparse.issparse(X)
    return SimpleImputer(keep_empty_features=True), StandardScaler(with_mean=dense)
