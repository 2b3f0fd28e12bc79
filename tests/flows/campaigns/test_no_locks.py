"""A file system without locks, as NFS, Lustre and others may be: said where it matters, read all the same."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flow_runs import SMALLER, CommandLine, own_server
from shared import once

from al_engine.campaign.audit.verify import verify
from al_engine.errors import ExitStatus
from flows.pages.status import campaign_status

ERRNOS = {"ENOLCK": 37, "ENOSYS": 38, "EOPNOTSUPP": 95}
COMPILER = shutil.which("cc") or shutil.which("gcc")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler to build a file system without locks")


@pytest.fixture(scope="module")
def without_locks():
    """What to add to a process's environment, by the error number with which its locks fail."""

    def build(folder):
        source, library = Path(__file__).parents[1] / "no_locks.c", folder / "no_locks.so"
        subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        return str(library)

    library = once("no_locks", build)
    return lambda number: {"LD_PRELOAD": library, "NO_LOCKS_ERRNO": str(number)}


@pytest.fixture
def campaign(finished, tmp_path):
    _, directory, _ = finished
    shutil.copytree(directory, tmp_path / "tiny")
    return tmp_path / "tiny"


def set_lock(config, kind):
    config.write_text(re.sub(r"^  lock: .*", f"  lock: {kind}", config.read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("name", ERRNOS)
def test_reading_works_and_running_says_what_to_set(name, finished, campaign, without_locks):
    commands, _, _ = finished
    commands = CommandLine({**commands.environment, **without_locks(ERRNOS[name])}, campaign.parent)
    if name == "ENOLCK":  # the other numbers fail at the same calls
        assert commands.status(campaign)["state"] == "finished"
    answer = commands("verify", campaign)
    assert answer.returncode == 0, answer.stderr
    verbs = (["resume"], ["run"], ["evaluate", "--what", "errors"])
    for verb, *options in verbs if name == "ENOLCK" else verbs[:1]:
        answer = commands(verb, campaign, *options)
        assert answer.returncode == 2, answer.stderr
        assert re.match(
            rf"error: {campaign}\S*: its file system has no locks \({os.strerror(ERRNOS[name])}\)", answer.stderr
        )
        assert "set `execution.lock: file` in the config" in answer.stderr
    set_lock(campaign / "campaign.yaml", "file")
    if name == "ENOLCK":
        answer = commands("resume", campaign)
        assert answer.returncode in (ExitStatus.DONE, ExitStatus.NOT_CONVERGED), answer.stderr
        (campaign / "campaign.yaml").write_text("{")  # the lock is known from campaign.h5
        answer = commands("verify", campaign, "--repair")
        assert answer.returncode == 0, answer.stderr
        assert not (campaign / ".lease").exists()


def test_a_campaign_locked_by_a_file_is_killed_and_goes_on_at_once(prefect_server, without_locks, tmp_path):
    (tmp_path / "tiny.yaml").write_text(
        SMALLER.replace("workers: 1", "workers: 1, lock: file").replace("max_iterations: 2", "max_iterations: 1")
    )
    commands, directory = CommandLine({**prefect_server, **without_locks(37)}, tmp_path), tmp_path / "tiny"
    process = commands.start("run", "tiny.yaml", "--dir", directory)
    deadline = time.monotonic() + 120
    while not (directory / "parts" / "initial-frames.h5").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert campaign_status(directory)["state"] == "running"
    second = commands("resume", directory)
    assert second.returncode == 2
    assert f"{directory}: is being run by process {process.pid} on " in second.stderr
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert campaign_status(directory)["state"] == "interrupted"
    answer = commands("resume", directory)
    assert answer.returncode in (ExitStatus.DONE, ExitStatus.NOT_CONVERGED), answer.stderr
    assert re.search(rf"the lock of process {process.pid} on \S+ is taken over: the process has ended", answer.stderr)
    assert verify(directory, repaired=False)[0]["sound"]


def test_what_hdf5_is_told_about_locks_goes_first_and_is_named(campaign, without_locks):
    code = "import sys, pathlib, al_engine.campaign.ledger as l; l.Ledger.open(pathlib.Path(sys.argv[1])).parts()"
    environment = {**os.environ, **without_locks(37), "HDF5_USE_FILE_LOCKING": "TRUE"}
    answer = subprocess.run(
        [sys.executable, "-c", code, campaign], env=environment, capture_output=True, text=True, check=False
    )
    assert "cannot be opened (No locks available); unset HDF5_USE_FILE_LOCKING" in answer.stderr


HALF_WRITTEN = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("PRAGMA cache_size = 1")
database.execute("CREATE TABLE notes (text)")
database.commit()
database.executemany("INSERT INTO notes VALUES (?)", [("x" * 1000,)] * 1000)
os.kill(os.getpid(), signal.SIGKILL)
"""
USE_CACHE = """
import pathlib, sys
from al_engine.config import LabelsConfig
from labelers.backends.registry import level_of_theory
from labelers.pool.cache import LabelCache
with LabelCache(pathlib.Path(sys.argv[1]), level_of_theory(LabelsConfig()), shared=False) as cache:
    cache.keep([])
"""


def test_a_label_cache_that_a_killed_process_left_half_written_is_used(without_locks, tmp_path):
    cache = tmp_path / "labels.sqlite"
    subprocess.run([sys.executable, "-c", HALF_WRITTEN, cache], check=False)
    assert Path(f"{cache}-journal").stat().st_size > 0
    command = [sys.executable, "-c", USE_CACHE, cache]
    environment = {**os.environ, **without_locks(37)}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert not Path(f"{cache}-journal").exists()


def test_a_prefect_server_that_cannot_have_its_database_there_says_so(without_locks, tmp_path):
    commands = CommandLine({**own_server(tmp_path / "prefect"), **without_locks(37)}, tmp_path)
    answer = commands("ui")
    assert answer.returncode == ExitStatus.INTERRUPTED
    assert f"the file system of {tmp_path / 'prefect'} has no locks, which its database needs" in answer.stderr
