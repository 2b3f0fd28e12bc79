"""A store: jobs on machines that do not see the campaign directory, and what may go wrong with the store."""

import errno
import json
import os
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

import pytest
from stage_runs import SMALL

from al_engine.campaign.ledger import Ledger
from al_engine.config import ExecutionConfig
from al_engine.config.reader import parse_config
from al_engine.errors import InputError, ResumableError
from al_engine.files.part_file import open_part
from al_engine.protocols import silent
from flows.compute import store as store_module
from flows.compute.executors import opened_executor, refuse_contradictions
from flows.compute.remote import RemoteExecutor
from flows.compute.stage_call import Output, StageCall, run_stages
from flows.compute.store import Store, digest_of
from flows.compute.stored_call import PARTS_MADE
from flows.compute.worker import _answer
from flows.session.preflight import preflight
from flows.stages.order import initial_steps, iteration_steps
from labelers.backends.registry import level_of_theory

BUCKET = "labels"


@pytest.fixture(scope="module")
def server():
    """An S3 server of moto with a bucket; the environment of programs that use it."""
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.stop()


@pytest.fixture
def s3(server, monkeypatch):
    """File system of the server, for programs started here too."""
    import s3fs

    for name, value in server.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem(use_listings_cache=False)
    files.makedirs(BUCKET, exist_ok=True)
    yield files
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(store_module, "WAITS_S", (0.1,))


class Hidden:
    """A cluster during whose jobs the campaign directory is elsewhere, so that a job which opens it fails."""

    def __init__(self, cluster, directory):
        self._cluster, self._directory = cluster, directory
        self.answers = []

    def __getattr__(self, name):
        return getattr(self._cluster, name)

    def answer(self, *arguments):
        away = self._directory.with_name("away")
        self._directory.rename(away)
        try:
            self.answers.append(self._cluster.answer(*arguments))
            assert not self._directory.exists()
        finally:
            away.rename(self._directory)
        return self.answers[-1]


def campaign(directory, execution, *, text=SMALL):
    """A campaign of one iteration, call after call: its digest, and the hashes of its parts."""
    config = parse_config(text + f"execution: {json.dumps(execution)}\n", source="test")
    ledger = Ledger(directory, preflight(config, base_dir=directory).config)
    ledger.begin()
    ledger.write_config()
    level = level_of_theory(ledger.config.labels)
    with opened_executor(directory, ledger.config) as executor:
        if isinstance(executor, RemoteExecutor):
            executor._cluster = Hidden(executor._cluster, directory)
        concurrency = executor.concurrency
        for steps in (
            initial_steps(ledger, level, concurrency=concurrency),
            iteration_steps(ledger, level, 0, concurrency=concurrency),
        ):
            for step in steps:
                for stages in step.calls.values():
                    run_stages(ledger, executor, stages)
    return ledger.dataset_digest(), {part.name: part.content_hash for part in ledger.parts()}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The campaign on this machine."""
    return campaign(tmp_path_factory.mktemp("local") / "campaign", {"workers": 1, "device": "cpu"})


def dask_with(store, scratch):
    pytest.importorskip("distributed")
    scratch.mkdir()
    stages = {"all": {"at_once": 1}}
    return {"executor": "dask", "stages": stages, "device": "cpu", "store": store, "scratch": str(scratch)}


def test_a_campaign_through_s3_has_the_digest_of_a_local_run(local, s3, tmp_path):
    execution = dask_with(f"s3://{BUCKET}/campaign", tmp_path / "scratch")
    assert campaign(tmp_path / "campaign", execution) == local
    objects = s3.find(f"{BUCKET}/campaign")
    assert len(objects) > len(local[1]) / 2
    for path in objects:
        s3.get_file(path, str(tmp_path / "object"))
        assert digest_of(tmp_path / "object") == path.rpartition("/")[2]


def test_a_campaign_through_a_folder_has_the_digest_of_a_local_run(local, tmp_path):
    (tmp_path / "store").mkdir()
    execution = dask_with(f"file://{tmp_path}/store", tmp_path / "scratch")
    assert campaign(tmp_path / "campaign", execution) == local


@pytest.fixture
def begun(tmp_path):
    """A begun campaign with an input, and a store in a folder."""
    (tmp_path / "store").mkdir()
    ledger = Ledger(tmp_path / "campaign", parse_config(SMALL, source="test"))
    ledger.begin()
    ledger.write_config()
    (ledger.directory / "inputs").mkdir()
    (ledger.directory / "inputs" / "water.xyz").write_text("3\n")
    return ledger


def calling(job, *, name="initial-frames", readable=(), **arguments):
    return StageCall((Output(name, "key"),), f"worker_jobs:{job}", readable, arguments, "compute")


class Here:
    """A cluster of this process; `after` is done to the store when a job has ended."""

    logs, grows = "", False

    def __init__(self, after=()):
        self.after, self.jobs = list(after), 0

    def slots(self, resources):
        return resources.cores

    def answer(self, request, *_):
        self.jobs += 1
        module, _, function = request["job"].partition(":")
        assert (module, function) == ("flows.compute.stored_call", "run_stored_call")
        request = json.loads(json.dumps(request))
        answer = answered(request)
        if self.after:
            self.after.pop(0)()
        return answer

    def stop(self):
        pass


def answered(request):
    """The answer of a worker to a request, in this process."""
    ours, theirs = Pipe()
    with ours, theirs:
        return json.loads(json.dumps(_answer(theirs, request)))


def executor_of(ledger, cluster, *, url=None, retries=1):
    folder = ledger.directory.parent
    execution = ExecutionConfig(
        executor="dask",
        stages={"all": {"retries": retries}},
        store=url or f"file://{folder}/store",
        scratch=str(folder),
    )
    return RemoteExecutor(ledger.directory, execution=execution, cluster=cluster, store=Store(execution.store))


def objects_of(ledger):
    return [path for path in (ledger.directory.parent / "store").rglob("*") if path.is_file()]


def runs_of(ledger):
    """Number of runs of `part_job`."""
    return sum(len(path.read_text()) for path in ledger.directory.parent.glob("al-engine-*/*/runs"))


def value_of(ledger, name):
    with open_part(ledger.part_path(name), verify=True) as root:
        return root["value"][()]


def test_a_job_reads_the_parts_of_other_jobs_and_the_inputs(begun):
    executor = executor_of(begun, Here())
    executor.run(calling("part_job", value=1), silent)
    executor.run(calling("part_job", name="initial-dataset", readable=("initial-frames",), value=2), silent)
    with open_part(begun.part_path("initial-dataset"), verify=True) as root:
        assert (root["value"][()], root["initial-frames"][()]) == (2, 1)
    assert sorted(path.name for path in objects_of(begun)) == sorted(
        digest_of(path) for path in [*begun.parts_directory.iterdir(), begun.directory / "inputs" / "water.xyz"]
    )


def test_a_part_that_is_made_again_is_not_the_one_that_the_machine_has(begun):
    executor = executor_of(begun, Here())
    parent, child = calling("part_job", value=1), calling("part_job", name="initial-dataset", value=0)
    child = replace(child, readable=("initial-frames",))
    executor.run(parent, silent)
    executor.run(child, silent)
    for path in begun.parts_directory.iterdir():
        path.unlink()
    executor.run(calling("part_job", value=7), silent)
    executor.run(child, silent)
    with open_part(begun.part_path("initial-dataset"), verify=True) as root:
        assert root["initial-frames"][()] == 7


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_of_many_writers_of_an_object_one_creates_it(kind, tmp_path, request, monkeypatch):
    if kind == "s3":
        request.getfixturevalue("s3")
    url = f"s3://{BUCKET}/writers" if kind == "s3" else f"file://{tmp_path}"
    store, digest = Store(url), "ab" * 32
    monkeypatch.setattr(type(store._files), "exists", lambda *_: False)  # the store alone decides
    monkeypatch.setattr(Path, "exists", lambda _: False)
    sources = [tmp_path / f"source{number}" for number in range(8)]
    for number, source in enumerate(sources):
        source.write_text(str(number))
    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(lambda source: store.put(source, digest), sources))
    assert sum(created) == 1
    store._files.get_file(store.path(digest), str(tmp_path / "got"))
    assert (tmp_path / "got").read_text() == str(created.index(True))


def test_of_two_jobs_of_the_same_part_the_first_stays(begun):
    """The second was taken for lost, and ends after the campaign has gone on."""
    call = calling("part_job", value=1)
    executor = executor_of(begun, Here())
    stored = executor._stored
    requests = [executor._request(call, executor._resources["other"]) for _ in range(2)]
    requests[1]["arguments"] |= {"campaign": "another-machine", "call": calling("part_job", value=2).to_dict()}
    first, second = (answered(request)["result"] for request in requests)
    assert first[PARTS_MADE] != second[PARTS_MADE]
    stored.publish(call, first)
    before = begun.part_path("initial-frames").read_bytes()
    stored.publish(call, second)
    assert begun.part_path("initial-frames").read_bytes() == before
    assert [path.name for path in begun.parts_directory.iterdir()] == ["initial-frames.h5"]
    executor.run(calling("part_job", name="initial-dataset", readable=("initial-frames",), value=0), silent)
    with open_part(begun.part_path("initial-dataset")) as root:
        assert root["initial-frames"][()] == 1


def damage(ledger, holding=b""):
    """Change a byte of the newest object, or of the one with certain bytes."""
    path = max(
        (each for each in objects_of(ledger) if holding in each.read_bytes()), key=lambda each: each.stat().st_ctime_ns
    )
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_damaged_object_is_found_and_its_part_made_again(begun):
    cluster = Here([lambda: damage(begun)])
    executor_of(begun, cluster).run(calling("part_job", value=1), silent)
    assert (cluster.jobs, runs_of(begun), value_of(begun, "initial-frames")) == (2, 2, 1)


def test_a_part_that_is_damaged_each_time_is_not_taken(begun):
    cluster = Here([lambda: damage(begun)] * 2)
    with pytest.raises(
        ResumableError, match=r"initial-frames failed at the store: .*an object is damaged.*in the last"
    ):
        executor_of(begun, cluster).run(calling("part_job", value=1), silent)
    assert list(begun.parts_directory.iterdir()) == []


def test_damaged_and_missing_inputs_in_the_store_are_put_there_again(begun):
    cluster = Here()
    executor = executor_of(begun, cluster)
    executor._request(calling("part_job", value=1), executor._resources["other"])
    damage(begun)
    executor.run(calling("part_job", value=1), silent)
    assert cluster.jobs == 2
    shutil.rmtree(begun.directory.parent / f"al-engine-{os.getuid()}")
    for path in objects_of(begun):
        path.unlink()
    cluster.jobs = 0
    executor.run(calling("part_job", name="initial-dataset", value=1), silent)
    assert cluster.jobs == 2
    assert value_of(begun, "initial-dataset") == 1


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("rubbish", "not its part: initial-frames: damaged"),
        ("key", "initial-frames: is not the part initial-frames with"),
    ],
)
def test_an_object_whose_part_has_no_seal_or_another_key_is_not_taken(kind, message, begun):
    with pytest.raises(ResumableError, match=message):
        executor_of(begun, Here(), retries=0).run(calling("faulty_part_job", kind=kind), silent)
    assert list(begun.parts_directory.iterdir()) == []


def test_messages_name_the_campaign_directory_of_the_user(begun):
    with pytest.raises(InputError, match=f"^{begun.directory}/inputs: are no good$"):
        executor_of(begun, Here()).run(calling("faulty_part_job", kind="words"), silent)


def test_a_store_that_is_lost_during_a_job_costs_no_finished_work(begun):
    store = begun.directory.parent / "store"
    call = calling("store_losing_job", store=str(store))
    with pytest.raises(ResumableError) as caught:
        executor_of(begun, Here()).run(call, silent)
    words = f"the job of initial-frames failed at the store: file://{store}: the bucket or folder does not exist"
    assert str(caught.value).startswith(words)
    Path(f"{store}-gone").rename(store)
    executor_of(begun, Here()).run(call, silent)  # a second run of the job would lose the store again
    assert value_of(begun, "initial-frames") == 1


@pytest.mark.usefixtures("s3")
def test_a_worker_that_is_killed_in_the_middle_of_a_job_costs_an_attempt(begun, tmp_path):
    execution = dask_with(f"s3://{BUCKET}/killed", tmp_path / "scratch")
    config = parse_config(SMALL + f"execution: {json.dumps(execution)}\n", source="test")
    with opened_executor(begun.directory, config) as executor:
        executor._cluster = Hidden(executor._cluster, begun.directory)
        executor.run(calling("worker_killing_job", folder=str(tmp_path)), silent)
        assert "is gone" in executor._cluster.answers[0]["lost"]
    assert (tmp_path / "killed").exists()
    assert value_of(begun, "initial-frames") == b"half"


def opening(url, directory, **environment):
    config = parse_config(SMALL + f"execution: {{executor: dask, store: '{url}'}}\n", source="test")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with opened_executor(directory, config):
            pytest.fail("the store cannot be used")


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_does_not_exist_is_named_before_the_first_job(tmp_path):
    with pytest.raises(InputError, match=r"execution\.store: s3://nowhere/x: the bucket or folder does not exist"):
        opening("s3://nowhere/x", tmp_path)


def test_missing_credentials_are_named(s3, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    type(s3).clear_instance_cache()
    with pytest.raises(InputError, match=r"execution\.store: s3://labels: no credentials are found on"):
        opening(f"s3://{BUCKET}", tmp_path, HOME=str(tmp_path), AWS_EC2_METADATA_DISABLED="true")


def test_a_server_that_is_gone_ends_the_campaign_resumable(s3, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    type(s3).clear_instance_cache()
    with pytest.raises(ResumableError, match=f"s3://labels/x: the store cannot be reached from .*{address}"):
        opening(f"s3://{BUCKET}/x", tmp_path, AWS_ENDPOINT_URL=address)


def test_what_the_errors_of_a_store_mean():
    full, refused = OSError(errno.ENOSPC, "No space left"), PermissionError("Access Denied")
    assert store_module._words(full)[0].startswith("the disk of the store or of")
    assert store_module._words(refused)[0].startswith("access is denied to")
    assert [store_module._words(error)[1] for error in (full, refused, TimeoutError())] == [True, True, False]


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        ({"store": "s3://a/b"}, r"`execution\.store` is for machines .*it is `local`"),
        ({"executor": "dask", "scratch": "/scratch"}, r"`execution\.scratch` .*which is null"),
        ({"executor": "dask", "store": "s3://a/b", "overlap": True}, r"set `overlap: false`"),
    ],
)
def test_options_that_a_store_contradicts_are_refused(execution, message):
    with pytest.raises(InputError, match=message):
        refuse_contradictions(ExecutionConfig(**execution))


@pytest.mark.parametrize("url", ["memory://a", "bucket/prefix", "/folder", "file://folder"])
def test_a_url_that_is_none_or_that_no_other_machine_reads_is_refused(url):
    with pytest.raises(InputError, match="store"):
        parse_config(SMALL + f"execution: {{executor: dask, store: '{url}'}}\n", source="test")


def test_a_missing_package_is_named(monkeypatch):
    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(store_module.fsspec, "url_to_fs", missing)
    with pytest.raises(InputError, match=r"s3://a: Install s3fs .*, on .*: pip install 'al-engine\[s3\]'"):
        Store("s3://a")
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"execution\.store: nonsense://a"):
        Store("nonsense://a")
