"""A cluster of worker processes: lost workers, interrupts, stores, refits."""

import os
import signal

import dask
import dask.array as da
import joblib
import numpy as np
import pytest
import zarr
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_breast_cancer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from sklearn.preprocessing import scale

from skinfluence import InfluenceExplainer, _out
from skinfluence.model_selection import cross_val_predict

X, y = load_breast_cancer(return_X_y=True)
X, y = scale(X)[:400, :8], y[:400]


@pytest.fixture(scope="module")
def client():
    """Three workers: two are lost by the last test."""
    from distributed import Client, LocalCluster

    options = {"n_workers": 3, "threads_per_worker": 1, "processes": True}
    with (
        dask.config.set(scheduler=None),
        LocalCluster(dashboard_address=":0", silence_logs=50, **options) as cluster,
        Client(cluster) as client,
    ):
        yield client


class Rows:
    """Rows on a disk, say: each reading is noted, and may end a process.

    While the file ``kill`` is there the first reader takes it away and kills itself; with
    ``interrupt`` it sends Ctrl-C to the process that made the rows.
    """

    shape, dtype, ndim = X.shape, X.dtype, 2

    def __init__(self, folder):
        self.folder, self.owner = str(folder), os.getpid()

    def __getitem__(self, key):
        if key[0].start >= 100:
            for name, target, number in (
                ("kill", os.getpid(), signal.SIGKILL),
                ("interrupt", self.owner, signal.SIGINT),
            ):
                if self._taken(name):
                    os.kill(target, number)
        with open(os.path.join(self.folder, "read"), "a") as file:
            file.write(f"{key[0].start}\n")
        return X[key]

    def _taken(self, name):
        try:
            os.unlink(os.path.join(self.folder, name))
        except FileNotFoundError:
            return False
        return True


def collections(folder):
    rows = da.from_array(Rows(folder), chunks=(50, -1), asarray=False)
    return rows, da.from_array(y, chunks=50)


def n_read(folder):
    path = folder / "read"
    lines = path.read_text().splitlines()
    path.unlink()
    return len(lines)


def test_same_numbers(client, tmp_path):
    counts = np.random.default_rng(0).poisson(2.0, 400)
    model = PoissonRegressor(alpha=0.1, tol=1e-8).fit(X, counts)
    local = InfluenceExplainer(FrozenEstimator(model)).fit(X, counts)
    rows = da.from_array(X, chunks=(150, -1)), da.from_array(counts, chunks=100)
    sharded = InfluenceExplainer(model).fit(*client.persist(list(rows)))
    groups, queries = np.arange(400) % 3, (X[:5], counts[:5])
    for name, args in {
        "transform": queries,
        "dataset_influence": queries,
        "relative_influence": queries,
        "group_influence": (groups, *queries),
        "self_influence": (),
        "row_norms": (),
    }.items():
        expected = getattr(local, name)(*args)
        actual = np.asarray(getattr(sharded, name)(*args))
        assert_allclose(actual, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())
    lazy = da.from_array(X[:5], chunks=(2, -1)), da.from_array(counts[:5], chunks=2)
    actual = local.top_influences(*lazy, k=3)
    assert_array_equal(actual.indices, local.top_influences(*queries, k=3).indices)


def test_an_interrupt_leaves_a_store_to_go_on_with(client, tmp_path, monkeypatch):
    monkeypatch.setattr(_out, "CHUNK", 4 * 400)  # four queries a block
    monkeypatch.setattr("skinfluence._shard_queries.block_length", lambda *args, **share: 4)
    model = LogisticRegression().fit(X, y)
    sharded = InfluenceExplainer(model).fit(*collections(tmp_path))
    done, path = _out.StoreSink.done, tmp_path / "s.zarr"

    def noted(self, part, values):
        done(self, part, values)
        if part.stop == 8:  # the next block is interrupted while workers are at it
            (tmp_path / "interrupt").touch()

    monkeypatch.setattr(_out.StoreSink, "done", noted)
    with pytest.raises(KeyboardInterrupt):
        sharded.transform(X[:12], y[:12], out=path)
    assert not path.exists()
    partial = zarr.open_array(tmp_path / "s.zarr.part")
    assert partial.attrs["queries_done"] == 8
    assert not partial[8:].any()
    n_read(tmp_path)
    again = InfluenceExplainer(model).fit(*collections(tmp_path))
    n_read(tmp_path)
    store = again.transform(X[:12], y[:12], out=path)
    assert n_read(tmp_path) <= 2 * 8  # a pass for the fingerprint, and one block of queries
    local = InfluenceExplainer(FrozenEstimator(model)).fit(X, y)
    assert_allclose(store[:], local.transform(X[:12], y[:12]), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="another fit, method or set of queries"):
        again.transform(X[1:13], y[:12], out=path)


def test_stores_written_by_dask(client, tmp_path):
    model = LogisticRegression().fit(X, y)
    sharded = InfluenceExplainer(model).fit(*collections(tmp_path))
    queries = da.from_array(X[:20], chunks=(10, -1)), da.from_array(y[:20], chunks=10)
    expected = InfluenceExplainer(FrozenEstimator(model)).fit(X, y).transform(X[:20], y[:20])
    sharded.transform(*queries).to_zarr(str(tmp_path / "a.zarr"))
    sharded.self_influence().to_zarr(str(tmp_path / "b.zarr"))
    cross_val_predict(model, *collections(tmp_path), method="predict_proba").to_zarr(
        str(tmp_path / "c.zarr")
    )
    store = zarr.open_array(tmp_path / "a.zarr")
    assert store.chunks == (10, 50)
    assert_allclose(store[:], expected, rtol=1e-9, atol=1e-12)
    assert zarr.open_array(tmp_path / "b.zarr").shape == (400,)
    assert zarr.open_array(tmp_path / "c.zarr").shape == (400, 2)


def test_refits_on_the_workers(client):
    model = LogisticRegression()
    local = InfluenceExplainer(model, method="refit").fit(X[:40], y[:40]).transform(X[:2], y[:2])
    folds = cross_val_predict(model, X[:60], y[:60], cv=5, approximation="refit")
    before = _n_tasks(client)
    with joblib.parallel_config("dask"):
        remote = InfluenceExplainer(model, method="refit").fit(X[:40], y[:40])
        assert_allclose(remote.transform(X[:2], y[:2]), local, rtol=1e-12)
        refits = _n_tasks(client)
        actual = cross_val_predict(model, X[:60], y[:60], cv=5, approximation="refit", n_jobs=2)
    assert_array_equal(actual, folds)
    assert before < refits < _n_tasks(client)  # both were done by the workers


def _n_tasks(client):
    return client.cluster.scheduler.transition_counter


def test_a_killed_worker_costs_its_tasks_only(client, tmp_path):
    model = LogisticRegression(class_weight="balanced").fit(X, y)
    local = InfluenceExplainer(FrozenEstimator(model)).fit(X, y)
    workers = set(client.scheduler_info()["workers"])

    def killed(work):
        (tmp_path / "kill").touch()
        out = work()
        assert not (tmp_path / "kill").exists()
        return out

    sharded = killed(lambda: InfluenceExplainer(model).fit(*collections(tmp_path)))
    n_read(tmp_path)
    values = killed(lambda: sharded.transform(X[:5], y[:5]).compute())
    assert 8 <= n_read(tmp_path) < 16  # of eight partitions not all were read again
    # the second time it may have been the replacement of the first
    assert workers - set(client.scheduler_info()["workers"])
    top = sharded.top_influences(X[:5], y[:5], k=4)
    assert_allclose(values, local.transform(X[:5], y[:5]), rtol=1e-9, atol=1e-12)
    assert_array_equal(top.indices, local.top_influences(X[:5], y[:5], k=4).indices)
