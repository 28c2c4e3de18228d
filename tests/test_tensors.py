"""torch tensors as rows: the numbers of arrays, also of a model fitted by array API dispatch."""

import pytest
import sklearn
import torch
from numpy.testing import assert_allclose
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import scale

from skinfluence import InfluenceExplainer

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
on_devices = pytest.mark.parametrize("device", DEVICES)


def tables(model):
    load = load_diabetes if isinstance(model, Ridge) else load_breast_cancer
    X, y = load(return_X_y=True)
    return scale(X), y


@on_devices
@pytest.mark.parametrize("model", [Ridge(), LogisticRegression()], ids=str)
def test_tensors_are_arrays(model, device):
    X, y = tables(model)
    A, b = torch.as_tensor(X, device=device), torch.as_tensor(y, device=device)
    expected = InfluenceExplainer(model).fit(X, y).transform(X[:5], y[:5])
    explainer = InfluenceExplainer(model).fit(A, b)
    assert_allclose(explainer.transform(A[:5], b[:5]), expected, rtol=1e-12)
    assert_allclose(explainer.dataset_influence(A[:5], b[:5]), expected.mean(axis=0), rtol=1e-9)


@on_devices
@pytest.mark.parametrize(
    "model", [Ridge(solver="svd"), LinearDiscriminantAnalysis(solver="svd")], ids=str
)
def test_models_fitted_by_dispatch(model, device, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    X, y = tables(model)
    A, b = torch.as_tensor(X, device=device), torch.as_tensor(y, device=device)
    expected = InfluenceExplainer(model).fit(X, y).transform(X[:5], y[:5])
    with sklearn.config_context(array_api_dispatch=True):
        frozen = FrozenEstimator(model.fit(A, b))
        explainer = InfluenceExplainer(frozen).fit(A, b)
        assert_allclose(explainer.transform(A[:5], b[:5]), expected, rtol=1e-6, atol=1e-9)
