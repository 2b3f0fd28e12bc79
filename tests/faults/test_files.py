"""A file system that fails under a campaign, a disk that fills up, a clock that jumps: named, and nothing is lost.

The calls of the C library fail as they do on a broken disk, in every process of the campaign and below HDF5 too.
"""

import errno
import os
import shutil
import subprocess
import sys

import pytest
from flow_runs import CommandLine
from kills import HERE, Trial, compare, left_of

from al_engine.campaign.audit.verify import verify
from al_engine.errors import ExitStatus

DAY_S = 86400
FAULTS = [
    ("write", errno.EIO, 20),
    ("fsync", errno.EIO, 10),
    ("read", errno.EIO, 600),
]
"""Call that fails, how, and after how many that don't."""
ON_A_SMALL_DISK = """
mkdir disk && mount -t tmpfs -o size="$1" tmpfs disk && shift
"$@"; echo "full: $?"
cp -r disk/campaign full
mount -o remount,size=64m disk
"$@"; echo "resumed: $?"
cp -r disk/campaign .
"""
"""Runs a campaign on a disk that is too small, copies its directory, then resumes it after the disk has grown."""

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


@pytest.fixture(scope="module")
def faulty_libc(tmp_path_factory):
    """The library that makes calls fail."""
    library = tmp_path_factory.mktemp("inject") / "faulty_libc.so"
    source = HERE / "inject" / "faulty_libc.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def trial(prefect_server, tmp_path):
    return Trial(CommandLine(prefect_server, tmp_path), tmp_path / "campaign")


@needs_compiler
@pytest.mark.timeout(600)
def test_a_failing_disk_stops_the_campaign_and_loses_nothing_whatever_the_clock_says(
    trial, alone, faulty_libc, tmp_path
):
    """Every launch, the last one too, has a clock that jumps by a day, which changes nothing."""
    clock = {"LD_PRELOAD": str(faulty_libc), "FAULT_CLOCK": str(DAY_S)}
    for number, (call, error, after) in enumerate(FAULTS):
        process = trial.start(
            FAULT_IO=f"{call} {error} {after} {trial.directory}",
            FAULT_IO_COUNT=str(tmp_path / f"count{number}"),
            **clock,
        )
        _, errors = process.communicate(timeout=200)
        what = call, error, after, errors
        assert process.returncode == ExitStatus.INTERRUPTED, what
        assert "Traceback" not in errors, what
        last = errors.strip().splitlines()[-1]
        assert last.startswith(f"error: {trial.directory}/"), what
        assert os.strerror(error) in last, what
        assert "resume" in last, what
        assert left_of(process.pid) == []
    before = trial.labels
    trial.launch(**clock)
    assert compare(trial, alone, stops=len(FAULTS)) == []
    assert trial.labels - before <= alone.labels


def in_a_namespace(*command):
    """Whether a file system may be mounted that this process alone sees."""
    return shutil.which("unshare") and subprocess.run([*NAMESPACE, *command], check=False).returncode == 0


@pytest.mark.skipif(not in_a_namespace("true"), reason="needs user namespaces")
def test_a_disk_that_fills_up_and_then_grows(trial, alone, tmp_path):
    script = tmp_path / "run.sh"
    script.write_text(ON_A_SMALL_DISK)
    command = trial.command_line.command("run", trial.config, "--dir", tmp_path / "disk" / "campaign")
    environment = trial.command_line.environment | trial.environment
    answer = subprocess.run(
        [*NAMESPACE, "sh", script, "400k", *command],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert "full: 4" in answer.stdout, answer.stderr
    assert "the disk is full" in answer.stderr
    found, _ = verify(tmp_path / "full", repaired=False)
    assert "damaged" not in [finding["problem"] for finding in found["findings"]]  # the index may lack the last part
    assert "Traceback" not in answer.stderr
    assert compare(Trial(trial.command_line, tmp_path / "campaign"), alone, stops=1) == []


READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"
for verb in status verify resume; do "$PYTHON" -m flows.cli.app $verb "$1"; echo "$verb: $?"; done
"""


@pytest.mark.skipif(not in_a_namespace("true"), reason="needs user namespaces")
def test_a_read_only_directory_is_read_and_not_resumed(alone, trial):
    environment = trial.command_line.environment | trial.environment | {"PYTHON": sys.executable}
    command = [*NAMESPACE, "sh", "-c", READ_ONLY, "sh", alone.directory]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
    for end in ("status: 0", "verify: 0", "resume: 2"):
        assert end in answer.stdout, answer.stderr
    assert answer.stderr.strip() == f"error: {alone.directory}: cannot be written to: Read-only file system"
