"""Killed and resumed: the same data set as one left alone, no label computed twice, nobody left behind."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from flow_runs import TINY, CommandLine

COUNTED = TINY.replace(
    "labels: {backend: tblite, chunk_frames: 20}",
    "labels: {backend: ase, ase_calculator: 'counting_calculator:CountingTBLite', "
    "ase_parameters: {method: GFN2-xTB, verbosity: 0}, chunk_frames: 20}",
)
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def counted(prefect_server, tmp_path_factory):
    """A command line whose campaigns count their labels, and an undisturbed campaign's state."""
    directory = tmp_path_factory.mktemp("counted")
    (directory / "counted.yaml").write_text(COUNTED)
    command_line = CommandLine({**prefect_server, "PYTHONPATH": str(HERE)}, directory)
    process = command_line.start("run", "counted.yaml", "--dir", "alone", LABEL_LOG=str(directory / "alone.log"))
    _, errors = process.communicate(timeout=240)
    assert process.returncode in (0, 3), errors
    return command_line, command_line.status(directory / "alone"), read_log(directory / "alone.log")


def read_log(path):
    return Counter(path.read_text().split()) if path.exists() else Counter()


def wait_until(condition, process, limit=120):
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if condition():
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    pytest.fail("never got there")


def checkpointed(parts):
    return lambda: any(parts.glob("iter000-*.checkpoint"))


def members_of(group):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def test_kill_9_at_many_points_then_resume(counted):
    command_line, alone, alone_log = counted
    log = command_line.directory / "killed.log"
    parts = command_line.directory / "killed" / "parts"

    def reached(count):
        return lambda: len(list(parts.glob("*.h5"))) >= count

    points = [
        lambda: sum(read_log(log).values()) >= 7,  # in the first chunk of labels
        reached(5),  # training begins
        checkpointed(parts),
        reached(11),  # sampling
        reached(14),
    ]
    arguments = ("run", "counted.yaml", "--dir", "killed")
    for point in points:
        process = command_line.start(*arguments, LABEL_LOG=str(log))
        group = os.getpgid(process.pid)
        wait_until(point, process)
        os.killpg(group, signal.SIGKILL)
        process.wait()
        assert_all_gone(group)
        assert command_line.status(command_line.directory / "killed")["state"] == "interrupted"
    process = command_line.start("resume", "killed", LABEL_LOG=str(log))
    _, errors = process.communicate(timeout=240)
    assert process.returncode in (0, 3), errors
    state = command_line.status(command_line.directory / "killed")
    assert state["dataset_digest"] == alone["dataset_digest"]
    assert state["dataset_size"] == alone["dataset_size"]
    assert state["verdict"] == alone["verdict"]
    # A worker writes its line just before its answer is kept: at a kill, one label per worker can be in between.
    twice = sum(read_log(log).values()) - sum(alone_log.values())
    assert set(read_log(log)) == set(alone_log)
    assert 0 <= twice <= len(os.sched_getaffinity(0))


def assert_all_gone(group):
    deadline = time.monotonic() + 5  # the kernel takes a moment, and multiprocessing's tracker sees our end later
    while members_of(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert members_of(group) == []


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_ends_cleanly_within_seconds(counted, name):
    command_line, _, _ = counted
    directory = command_line.directory / f"interrupted-{name}"
    process = command_line.start("run", "counted.yaml", "--dir", directory, LABEL_LOG=os.devnull)
    group = os.getpgid(process.pid)
    wait_until(checkpointed(directory / "parts"), process)
    sent = time.monotonic()
    if name == "SIGINT":
        os.killpg(group, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - sent < 20
    assert process.returncode == 4, errors
    assert "al-engine resume" in errors
    assert "Traceback" not in errors
    assert_all_gone(group)


def test_a_second_run_is_refused_while_the_first_goes_on(counted):
    command_line, _, _ = counted
    directory = command_line.directory / "locked"
    process = command_line.start("run", "counted.yaml", "--dir", directory, LABEL_LOG=os.devnull)
    group = os.getpgid(process.pid)
    wait_until((directory / "campaign.h5").exists, process)
    second = command_line("resume", directory)
    assert second.returncode == 2
    assert str(process.pid) in second.stderr
    assert command_line.status(directory)["state"] == "running"
    os.killpg(group, signal.SIGKILL)
    process.wait()
