"""The infinitesimal jackknife of rows in dask collections: its covariance is a sum over rows."""

import numpy as np

from .. import _shard_tasks as tasks
from .._shard_groups import group_moves
from ..explainer import InfluenceExplainer


def fit_on_shards(jackknife, X, y, sample_weight):
    """Fit a jackknife of a fitted estimator, up to what needs rows one by one."""
    if jackknife.order != 1:
        raise ValueError("order=2 needs all rows at once: over a dask collection use order=1")
    options = {"method": "influence", "solver": "direct", "preprocessing": jackknife.preprocessing}
    explainer = InfluenceExplainer(jackknife.estimator, **options).fit(X, y, sample_weight)
    for name in ("n_features_in_", "feature_names_in_", "estimator_", "objective_", "_steps"):
        if hasattr(explainer, name):
            setattr(jackknife, name, getattr(explainer, name))
    if hasattr(jackknife.estimator_, "classes_"):
        jackknife.classes_ = jackknife.estimator_.classes_
    shards = jackknife._shards = explainer._shards
    jackknife._ensemble = jackknife._clusters = None
    if jackknife.groups is None:
        jackknife._covariance = shards.sum_explainers(tasks.outer_products)[0]
    else:
        moves = group_moves(shards, jackknife.groups, "influence")[1]
        jackknife._covariance = np.asarray(moves.T @ moves)
    return jackknife
