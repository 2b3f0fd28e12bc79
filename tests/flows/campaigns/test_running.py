"""Beside a campaign that runs: a second process is refused, and readers neither wait for it nor hold it up."""

import time
from contextlib import ExitStack

import h5py
from flow_runs import SMALLER, CommandLine

from al_engine.errors import ExitStatus


def test_a_second_run_is_refused_and_readers_are_not(prefect_server, tmp_path):
    command_line, directory = CommandLine(prefect_server, tmp_path), tmp_path / "locked"
    (tmp_path / "tiny.yaml").write_text(SMALLER.replace("max_iterations: 2", "max_iterations: 1"))
    process = command_line.start("run", "tiny.yaml", "--dir", directory)
    deadline = time.monotonic() + 120
    while not (directory / "campaign.h5").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    second = command_line("resume", directory)
    assert second.returncode == 2
    assert str(process.pid) in second.stderr
    assert command_line.status(directory)["state"] == "running"

    with ExitStack() as readers:  # of every file, from the moment it is there to the end
        opened = {}
        while process.poll() is None:
            for path in directory.rglob("*.h5"):
                if path not in opened or path.name == "campaign.h5":
                    opened[path] = readers.enter_context(h5py.File(path))
                    assert "schema_version" in opened[path].attrs
            time.sleep(0.2)
        assert process.returncode in (ExitStatus.DONE, ExitStatus.NOT_CONVERGED), process.stderr.read()
        assert len(opened) > 10
    assert command_line("verify", directory).returncode == ExitStatus.DONE
