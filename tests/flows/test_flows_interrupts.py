"""One process runs a campaign at a time. Kills and interrupts: tests/faults."""

import os
import signal
import time

from flow_runs import TINY, CommandLine


def test_a_second_run_is_refused_while_the_first_goes_on(prefect_server, tmp_path):
    command_line, directory = CommandLine(prefect_server, tmp_path), tmp_path / "locked"
    (tmp_path / "tiny.yaml").write_text(TINY)
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
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
