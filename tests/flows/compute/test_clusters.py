"""Clusters of Dask and Ray: what they are given, whom they keep waiting, and what is left when they end."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
from worker_jobs import device_job, slow_job

from al_engine.config import ExecutionConfig
from al_engine.cores import usable_cores
from al_engine.errors import InputError, ResumableError
from flows.compute.remote import LOST
from flows.compute.worker_pool import request_of, result_of


def test_a_job_that_waited_behind_a_lost_one_is_not_lost(tmp_path):
    """Dask gives a worker jobs ahead. They go down with it, but have not begun."""
    pytest.importorskip("distributed")
    from flows.compute.dask_cluster import dask_cluster

    execution = ExecutionConfig(executor="dask", stages={"all": {"at_once": 1}})
    resources = execution.resources("train")
    with dask_cluster(execution, tmp_path) as cluster, ThreadPoolExecutor(2) as threads:
        begun = threading.Event()

        def run(seconds):
            request = request_of(slow_job, {"seconds": seconds})
            return cluster.answer(request, "job", resources, lambda *_: begun.set())

        first = threads.submit(run, 60.0)
        assert begun.wait(60.0)
        second = threads.submit(run, 0.0)
        time.sleep(2.0)  # it is with the worker now
        (worker,) = cluster._connection(resources).client.run(os.getpid).values()
        os.kill(worker, signal.SIGKILL)
        assert "is gone" in first.result(60.0)[LOST]
        assert result_of(second.result(60.0)) > 0


@pytest.fixture
def running_dask():
    """A Dask cluster that runs already, with a worker that offers no GPU."""
    pytest.importorskip("distributed")
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        yield cluster


@pytest.mark.timeout(120)
def test_a_job_says_that_no_worker_has_its_gpu(running_dask, tmp_path, monkeypatch):
    from flows.compute import dask_cluster

    monkeypatch.setattr(dask_cluster, "WAIT_S", 0.5)
    execution = ExecutionConfig(executor="dask", cluster={"address": running_dask.scheduler_address})
    with dask_cluster.dask_cluster(execution, tmp_path) as cluster:
        resources = execution.resources("train")
        assert cluster.slots(resources) == 1
        said = []

        def note(*message):
            said.append(message)
            cluster.stop()

        answer = cluster.answer(request_of(slow_job, {"seconds": 0.0}), "job", replace(resources, gpus=1), note)
    assert answer is None
    offer = "offers a GPU (`dask worker --resources GPU=1`)"
    assert said == [(0, 0, f"waits for a Dask worker that {offer}: {running_dask.scheduler_address} has none")]


@pytest.mark.timeout(120)
def test_a_scheduler_that_goes_away_ends_the_campaign_resumable(running_dask, tmp_path, monkeypatch):
    from flows.compute import dask_cluster

    monkeypatch.setattr(dask_cluster, "START_S", 3.0)
    execution = ExecutionConfig(executor="dask", cluster={"address": running_dask.scheduler_address})
    with dask_cluster.dask_cluster(execution, tmp_path) as cluster:
        resources = execution.resources("train")

        def run(seconds):
            request = request_of(slow_job, {"seconds": seconds})
            return cluster.answer(request, "job", resources, lambda *_: begun.set())

        begun = threading.Event()
        with ThreadPoolExecutor(1) as threads:
            lost = threads.submit(run, 60.0)
            assert begun.wait(60.0)
            running_dask.close()
            assert "interrupted" in lost.result(60.0)[LOST]  # the executor tries again
        attempts = (run(0.0) for _ in range(3))  # one that begins while the client tries to connect is lost too
        with pytest.raises(ResumableError, match=r"the connection to the Dask scheduler at tcp://.* was lost"):
            list(attempts)


def test_stages_share_workers_only_if_all_that_decides_about_workers_is_the_same():
    dask_cluster = pytest.importorskip("flows.compute.dask_cluster")
    stages = {
        "all": {"memory": "1GB"},
        "train": {"at_once": 2},
        "sample": {"directives": ["--gres=gpu:1"]},
        "label": {"retries": 7, "time_limit_s": 60.0},
    }
    kinds = {
        name: dask_cluster._kind(own)
        for name, own in ExecutionConfig(executor="dask", stages=stages).resources_of_stages().items()
    }
    assert len(set(kinds.values())) == 3
    assert kinds["label"] == kinds["initial"] == kinds["other"]  # the executor counts the retries of a job


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (ModuleNotFoundError("No module named 'al_engine'"), InputError, "needs the same packages as this one"),
        (RuntimeError("Error during deserialization of the task graph"), InputError, "needs the same packages"),
        (OSError(12, "Cannot allocate memory"), ResumableError, r"OSError: .*Cannot allocate memory\. Nothing"),
    ],
)
def test_a_worker_that_cannot_run_a_job_is_blamed_for_what_it_said(error, raised, message):
    dask_cluster = pytest.importorskip("flows.compute.dask_cluster")
    with pytest.raises(raised, match=message):
        dask_cluster._lost(error)


def test_a_cluster_that_does_not_close_keeps_no_other_open(tmp_path):
    """Nor does its error replace the verdict of the campaign."""
    pytest.importorskip("distributed")
    from flows.compute import dask_cluster

    closed = []

    class Slow:
        def close(self, **_):
            closed.append(self)
            raise TimeoutError

    cluster = dask_cluster.DaskCluster(ExecutionConfig(executor="dask"), tmp_path)
    cluster._connections = {kind: dask_cluster._Connection(Slow(), Slow()) for kind in ("a", "b")}
    cluster.close()
    assert len(closed) == 4


@pytest.fixture
def ray_cluster():
    """The module of Ray clusters."""
    pytest.importorskip("ray")
    from flows.compute import ray_cluster

    return ray_cluster


@pytest.mark.timeout(240)
def test_ray_starts_a_cluster_of_its_own_and_leaves_our_signals_alone(ray_cluster, monkeypatch):
    """Also where another Ray runs, which RAY_ADDRESS names here. A process that had a GPU is not used again."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(ray_cluster.ray, "init", partial(ray_cluster.ray.init, num_gpus=2))
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with ray_cluster.ray_cluster(ExecutionConfig(executor="ray")) as cluster:
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
            wanted = ExecutionConfig(executor="ray", stages={"all": {"gpus": 1}}).resources("train")

            def run(job, **arguments):
                return result_of(cluster.answer(request_of(job, arguments), "job", wanted, lambda *_: None))

            assert cluster.slots(wanted) == min(2, usable_cores())
            assert run(device_job, seconds=0.0) in ("0", "1")
            assert run(slow_job, seconds=0.0) != run(slow_job, seconds=0.0)
            with pytest.raises(InputError, match="3 GPUs and 4GB of memory; this machine"):
                cluster.slots(replace(wanted, gpus=3))
    finally:
        signal.signal(signal.SIGTERM, before)
