"""Ensembles: the mean of their members, whatever the view."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import scale
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import EnsembleExplainer, InfluenceExplainer

X, Y = load_iris(return_X_y=True)
X = scale(X)
STRENGTHS = [0.1, 1.0, 10.0]


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3))

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("method", ["influence", "newton"])
def test_every_view_is_the_mean_of_the_members(method):
    explainer = InfluenceExplainer(LogisticRegression(), method=method)
    models = [LogisticRegression(C=C) for C in STRENGTHS]
    ensemble = EnsembleExplainer(explainer, estimators=models).fit(X, Y)
    alone = [clone(explainer).set_params(estimator=model).fit(X, Y) for model in models]

    def mean(view):
        return np.mean([view(each) for each in alone], axis=0)

    views = [
        lambda e: e.transform(X[::9], Y[::9]),
        lambda e: e.dataset_influence(X[::9], Y[::9]),
        lambda e: e.self_influence(),
        lambda e: e.group_influence([[1, 2], [70]], X[::9], Y[::9]),
    ]
    for view in views:
        np.testing.assert_allclose(view(ensemble), mean(view), rtol=1e-12)
    full = mean(views[0])
    top = ensemble.top_influences(X[::9], Y[::9], k=4, by="harmful")
    np.testing.assert_allclose(top["values"], np.sort(full, axis=1)[:, :4], rtol=1e-12)
    np.testing.assert_array_equal(top["indices"], np.argsort(full, axis=1)[:, :4])
    assert ensemble.get_feature_names_out()[3] == "row_3"


def test_frozen_members_are_taken_as_they_are():
    models = [LogisticRegression(C=C).fit(X, Y) for C in STRENGTHS]
    explainer = InfluenceExplainer(LogisticRegression())
    ensemble = EnsembleExplainer(explainer, estimators=[FrozenEstimator(m) for m in models])
    members = ensemble.fit(X, Y).explainers_
    assert [member.estimator_.estimator for member in members] == models


def test_seeds_give_other_nets():
    net = NeuralNetClassifier(
        Small,
        criterion=nn.CrossEntropyLoss,
        optimizer__weight_decay=0.01,
        max_epochs=3,
        train_split=None,
        verbose=0,
    )
    rows = X.astype(np.float32)
    explainer = InfluenceExplainer(net, method="influence", solver="identity")
    ensemble = EnsembleExplainer(explainer, seeds=2).fit(rows, Y)
    weights = [e.estimator_.module_.layers[0].weight for e in ensemble.explainers_]
    assert not torch.equal(*weights)
    again = EnsembleExplainer(explainer, seeds=[1]).fit(rows, Y)
    assert torch.equal(again.explainers_[0].estimator_.module_.layers[0].weight, weights[1])


def test_seeds_set_random_states():
    model = LogisticRegression(solver="saga", random_state=5, max_iter=1000)
    ensemble = EnsembleExplainer(InfluenceExplainer(model), seeds=[3, 4]).fit(X, Y)
    assert [e.estimator_.random_state for e in ensemble.explainers_] == [3, 4]


def test_a_module_that_is_made_already_gives_no_other_nets():
    net = NeuralNetClassifier(Small(), criterion=nn.CrossEntropyLoss, train_split=None, verbose=0)
    with pytest.raises(ValueError, match="module that is made already"):
        EnsembleExplainer(InfluenceExplainer(net), seeds=2).fit(X, Y)


def test_refusals():
    explainer = InfluenceExplainer(LogisticRegression())
    with pytest.raises(ValueError, match="either estimators or seeds"):
        EnsembleExplainer(explainer).fit(X, Y)
    with pytest.raises(ValueError, match="at least one member"):
        EnsembleExplainer(explainer, estimators=[]).fit(X, Y)
    ensemble = EnsembleExplainer(explainer, seeds=1).fit(X, Y)
    with pytest.raises(ValueError, match="k=0"):
        ensemble.top_influences(X[:2], k=0)
