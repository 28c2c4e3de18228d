"""Work that is broken off, by Ctrl-C or for good: nothing is left that reads as whole."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.linear_model import Ridge

from skinfluence import GradientStore, InfluenceExplainer, _out, config_context
from skinfluence._objects import Encoder
from skinfluence._out import StoreSink
from skinfluence.methods.refit import RefitEffects
from skinfluence.store import Projection

rng = np.random.default_rng(0)
X = rng.standard_normal((400, 5))
Y = X[:, 0] + rng.standard_normal(400)


@pytest.fixture
def fitted():
    return InfluenceExplainer(Ridge(), method="influence").fit(X, Y)


def interrupting(function, after):
    """``function``, which Ctrl-C breaks off at the given call."""
    calls = []

    def wrapped(*args, **options):
        calls.append(None)
        if len(calls) == after:
            raise KeyboardInterrupt
        return function(*args, **options)

    return wrapped


def test_zarr_store(fitted, tmp_path, monkeypatch):
    """What is there is named .part and is gone on with."""
    zarr = pytest.importorskip("zarr", reason="zarr is an extra")
    path, whole = tmp_path / "a.zarr", fitted.transform(X)
    monkeypatch.setattr(_out, "CHUNK", 16 * len(X))
    small = config_context(working_memory=0.1)
    with monkeypatch.context() as patch, small, pytest.raises(KeyboardInterrupt):
        patch.setattr(StoreSink, "done", interrupting(StoreSink.done, 3))
        fitted.transform(X, out=path)
    assert not path.exists()
    part = zarr.open_array(tmp_path / "a.zarr.part", mode="r")
    assert 0 < part.attrs["queries_done"] < len(X)
    other = InfluenceExplainer(Ridge(alpha=5.0), method="influence").fit(X, Y)
    with pytest.raises(ValueError, match="of another fit"):
        other.transform(X, out=path)
    assert_array_equal(np.asarray(fitted.transform(X, out=path)), whole)


def test_archive(fitted, tmp_path, monkeypatch):
    """An older archive of the name stays as it was."""
    path = tmp_path / "a.influence"
    fitted.save(path)
    other = InfluenceExplainer(Ridge(alpha=5.0), method="influence").fit(X, Y)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Encoder, "encode", interrupting(Encoder.encode, 20))
        other.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.influence"]
    loaded = InfluenceExplainer.load(path)
    assert_array_equal(loaded.transform(X[:3]), fitted.transform(X[:3]))


@pytest.mark.parametrize("where", ["rows", "curvature"])
def test_gradient_store(fitted, tmp_path, monkeypatch, where):
    after = {"rows": 3, "curvature": 1}[where]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Projection, "__call__", interrupting(Projection.__call__, after))
        with config_context(working_memory=0.01):
            GradientStore(folder=tmp_path / "store").fit(fitted)
    with pytest.raises(ValueError, match="holds no gradient store"):
        GradientStore.open(tmp_path / "store", fitted)


def test_half_solved_optima_are_solved_again(monkeypatch):
    """Rows that a method keeps are those it has finished."""
    explainer = InfluenceExplainer(Ridge(), method="refit", target="decision").fit(X[:30], Y[:30])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RefitEffects, "_refit", interrupting(RefitEffects._refit, 1))
        explainer.transform(X[:2])
    fresh = InfluenceExplainer(Ridge(), method="refit", target="decision").fit(X[:30], Y[:30])
    assert_array_equal(explainer.transform(X[:2]), fresh.transform(X[:2]))


WORKER = """
import numpy as np
from sklearn.linear_model import Ridge
from skinfluence import InfluenceExplainer, set_config

rng = np.random.default_rng(0)
X = rng.standard_normal((400, 5))
y = X[:, 0] + rng.standard_normal(400)
explainer = InfluenceExplainer(Ridge(), method="influence").fit(X, y)
set_config(working_memory=0.1)
print("ready", flush=True)
for k in range(10_000):
    explainer.save("ridge.influence")
    explainer.transform(X, out=f"{k}.zarr")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that kills")
def test_killed(fitted, tmp_path):
    """Killed in the middle of writing: each file under its own name is whole."""
    pytest.importorskip("zarr", reason="zarr is an extra")
    options = {"cwd": tmp_path, "stdout": subprocess.PIPE, "env": os.environ}
    worker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(WORKER)], **options)
    try:
        assert worker.stdout.readline().strip() == b"ready"
        while not list(tmp_path.glob("2.zarr*")):
            assert worker.poll() is None
            time.sleep(0.01)
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()
    whole = fitted.transform(X)
    loaded = InfluenceExplainer.load(tmp_path / "ridge.influence")
    assert_array_equal(loaded.transform(X), whole)
    stores = sorted(tmp_path.glob("*.zarr"))
    assert stores
    for path in [*stores, tmp_path / "new.zarr"]:  # read, or made
        assert_array_equal(np.asarray(fitted.transform(X, out=path)), whole)
