"""Dask and Ray: jobs go to other processes and come back as plain data; a campaign has the digest of a local run."""

import json
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from stage_runs import SMALL
from worker_jobs import diverging_job, fatal_job, faulty_job, noisy_job, slow_job

from al_engine.campaign.ledger import Ledger
from al_engine.config import ExecutionConfig
from al_engine.config.reader import parse_config
from al_engine.errors import InputError, ResumableError
from al_engine.protocols import silent
from flows.compute import devices, executors, remote
from flows.compute.executors import opened_executor
from flows.compute.remote import LOST, TIME_IS_OVER, RemoteExecutor
from flows.compute.stage_call import Output, StageCall, run_stages
from flows.compute.worker_pool import request_of, result_of
from flows.session.preflight import preflight
from flows.stages.labels.labelling import label_cache
from flows.stages.order import initial_steps, iteration_steps
from labelers.backends.registry import level_of_theory


@contextmanager
def cluster_of(executor, folder):
    """A cluster of two workers of this machine."""
    execution = ExecutionConfig(executor=executor, stages={"all": {"at_once": 2}})
    if executor == "dask":
        pytest.importorskip("distributed")
        from flows.compute.dask_cluster import dask_cluster

        with dask_cluster(execution, folder) as cluster:
            yield cluster, execution.resources("train")
    else:
        pytest.importorskip("ray")
        from flows.compute.ray_cluster import ray_cluster

        with ray_cluster(execution) as cluster:
            yield cluster, execution.resources("train")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("executor", ["dask", "ray"])
def test_jobs_come_back_whatever_happens_to_them(executor, tmp_path):
    with cluster_of(executor, tmp_path) as (cluster, resources):

        def run(job, progress=lambda *_: None, limit=None, **arguments):
            wanted = replace(resources, time_limit_s=limit)
            return cluster.answer(request_of(job, arguments), "job", wanted, progress)

        assert result_of(run(noisy_job, name="done")) == ["done", 0.1, None, float("inf")]
        seen = []
        result_of(run(slow_job, lambda *place: seen.append(place), seconds=1.0))
        with pytest.raises(InputError, match="learning_rate"):
            result_of(run(diverging_job))
        with pytest.raises(RuntimeError, match="a bug of the job"):
            result_of(run(faulty_job))
        with pytest.raises(InputError, match="this machine, on which"):
            cluster.slots(replace(resources, cores=1024))
        assert run(fatal_job, folder=str(tmp_path), deaths=1) is None  # its process died; the executor tries again
        assert result_of(run(fatal_job, folder=str(tmp_path), deaths=1)) > 0
        assert run(slow_job, limit=1.0, seconds=60.0) == {TIME_IS_OVER: 1.0}
        assert seen == ([(1, 2, "")] if executor == "dask" else [])
        begun = time.monotonic()
        threading.Timer(1.0, cluster.stop).start()
        assert run(slow_job, seconds=60.0) is None
        assert time.monotonic() - begun < 10.0
    assert not children_of(os.getpid(), "flows.compute.worker")


class Answering:
    """A cluster whose jobs end at once, and do something on the way."""

    logs, grows = "/somewhere/.dask", False

    def __init__(self, *answers):
        self.answers = list(answers)

    def slots(self, resources):
        return resources.cores

    def answer(self, *_):
        answer = self.answers.pop(0)
        return answer() if callable(answer) else answer

    def stop(self):
        pass


def executor_of(folder, cluster, **stage):
    (folder / "parts").mkdir()
    return RemoteExecutor(folder, execution=ExecutionConfig(executor="dask", stages={"all": stage}), cluster=cluster)


CALL = StageCall((Output("iter000-member0", "a"), Output("iter000-member1", "b")), "x:y", (), {}, "compute")


def test_parts_that_this_machine_sees_late_are_waited_for(tmp_path):
    parts = [tmp_path / "parts" / f"{output.name}.h5" for output in CALL.outputs]

    def written():
        for delay, path in enumerate(parts, start=1):
            threading.Timer(delay, path.touch).start()
        return {"result": None}

    executor_of(tmp_path, Answering(written)).run(CALL, silent)
    assert all(path.exists() for path in parts)


def test_parts_that_never_appear_end_the_campaign_resumable(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "APPEAR_S", 1.0)
    executor = executor_of(tmp_path, Answering({"result": None}))
    (tmp_path / "parts" / "iter000-member0.h5").touch()
    with pytest.raises(ResumableError, match=r"iter000-member1\.h5: was written on another machine"):
        executor.run(CALL, silent)


def test_a_lost_job_is_tried_as_often_as_told_and_the_message_says_why(tmp_path):
    cluster = Answering(None, {LOST: "its Dask worker at tcp://10.0.0.2:1 is gone"}, {"result": None})
    with pytest.raises(ResumableError) as caught:
        executor_of(tmp_path, cluster, retries=1).run(CALL, silent)
    assert len(cluster.answers) == 1
    for words in ("job of iter000-member0 was lost: its Dask worker at tcp://10.0.0.2:1 is gone", "/somewhere/.dask"):
        assert words in str(caught.value)


def test_a_cluster_that_grows_is_counted_when_its_workers_are_needed(tmp_path):
    cluster = Answering()
    cluster.grows, cluster.slots = True, lambda _: 1
    executor = executor_of(tmp_path, cluster)
    assert executor.concurrency.labels == 1
    cluster.slots = lambda _: 5
    assert executor.concurrency.labels == 5
    assert executor.workers == remote.MOST_CALLS


def test_a_place_that_is_added_is_taken():
    count, taken = [1], threading.Event()
    places = remote._Places(lambda: count[0])

    def take():
        with places.taken():
            taken.set()

    with places.taken():
        second = threading.Thread(target=take)
        second.start()
        assert not taken.wait(1.0)
        count[0] = 2
        assert taken.wait(60.0)
    second.join()


def children_of(pid, name):
    """Processes below a process whose command line contains a name; waits up to 10 s for their end."""
    for _ in range(100):
        below = {pid}
        found = []
        for stat in sorted(Path("/proc").glob("[0-9]*/stat"), key=lambda path: int(path.parent.name)):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                command = (stat.parent / "cmdline").read_text()
            except OSError:
                continue
            if parent in below:
                below.add(int(stat.parent.name))
                found += [stat.parent.name] if name in command else []
        if not found:
            return []
        time.sleep(0.1)
    return found


def campaign_digest(directory, execution):
    """The digest of a campaign of one iteration on an executor."""
    config = parse_config(SMALL + f"execution: {execution}\n", source="test")
    ledger = Ledger(directory, preflight(config, base_dir=directory).config)
    ledger.begin()
    ledger.write_config()
    level = level_of_theory(ledger.config.labels)
    with opened_executor(directory, ledger.config) as executor:
        concurrency = executor.concurrency
        for steps in (
            initial_steps(ledger, level, concurrency=concurrency),
            iteration_steps(ledger, level, 0, concurrency=concurrency),
        ):
            for step in steps:
                threads = [
                    threading.Thread(target=run_stages, args=(ledger, executor, stages))
                    for stages in step.calls.values()
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
    return ledger.dataset_digest(), {part.name: part.content_hash for part in ledger.parts()}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """Digest and content hashes of the campaign on the local executor."""
    return campaign_digest(tmp_path_factory.mktemp("local") / "campaign", "{workers: 1, device: cpu}")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("executor", ["dask", "ray"])
def test_a_campaign_on_a_cluster_has_the_digest_of_a_local_run(executor, local, tmp_path):
    pytest.importorskip({"dask": "distributed"}.get(executor, executor))
    execution = f"{{executor: {executor}, stages: {{all: {{at_once: 2}}}}, device: cpu}}"
    assert campaign_digest(tmp_path / "campaign", execution) == local


def test_an_executor_without_its_package_is_refused(monkeypatch):
    monkeypatch.setattr(executors, "find_spec", lambda name: None if name == "ray" else object())
    executors.refuse_missing_packages(ExecutionConfig(executor="dask"))
    with pytest.raises(InputError, match=r"needs the package ray: pip install 'al-engine\[ray\]'"):
        executors.refuse_missing_packages(ExecutionConfig(executor="ray"))


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        ({"executor": "dask", "device": "cuda"}, r"has a GPU only if its stage asks for one"),
        ({"executor": "ray", "device": "cuda"}, r"has a GPU only if its stage asks for one"),
        ({"cluster": {"scheduler": "slurm"}}, r"`execution\.cluster\.scheduler` needs `execution\.executor: dask`"),
        ({"cluster": {"address": "tcp://10.0.0.1:1"}}, r"`execution\.cluster\.address` needs"),
        ({"executor": "ray", "gpus": 0, "stages": {"train": {"gpus": 1}}}, r"`execution\.gpus: 0` means the CPU"),
    ],
)
def test_options_that_would_be_ignored_are_refused_when_a_campaign_runs(execution, message, tmp_path):
    """Not when its config is read: campaigns that were begun with them stay readable."""
    text = SMALL + f"execution: {json.dumps(execution)}\n"
    config = parse_config(text, source="test")
    with pytest.raises(InputError, match=message), opened_executor(tmp_path, config):
        pass


def test_no_gpus_means_the_cpu(monkeypatch, tmp_path):
    (tmp_path / "driver").touch()
    monkeypatch.setattr(devices, "DRIVERS", (tmp_path / "driver",))
    assert devices.choose_device(parse_config(SMALL + "execution: {gpus: 0}\n", source="test")) == "cpu"
    with pytest.raises(InputError, match=r"execution\.gpus is 0"):
        devices.choose_device(parse_config(SMALL + "execution: {gpus: 0, device: cuda}\n", source="test"))


@pytest.mark.parametrize(
    ("executor", "locks", "file"), [("local", False, True), ("dask", True, True), ("dask", False, False)]
)
def test_jobs_of_a_cluster_share_a_label_cache_only_where_there_are_locks(executor, locks, file, tmp_path, monkeypatch):
    for module in ("flows.stages.labels.labelling", "labelers.pool.cache"):
        monkeypatch.setattr(f"{module}.has_record_locks", lambda _: locks)
    config = parse_config(SMALL + f"execution: {{executor: {executor}}}\n", source="test")
    with label_cache(tmp_path, config, level_of_theory(config.labels)):
        assert (tmp_path / "labels.sqlite").exists() == file
