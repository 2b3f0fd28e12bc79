"""The Prefect server killed in the middle of a run: it is started again, and the campaign goes on to its verdict."""

import os
import signal
import subprocess
import time

from flow_runs import TINY, CommandLine, free_port


def servers(port):
    found = subprocess.run(["pgrep", "-f", f"server start.*{port}"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def test_a_killed_server_is_started_again_and_the_campaign_goes_on(tmp_path):
    port = free_port()
    environment = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_API_PORT": str(port),
        "NO_COLOR": "1",
    }
    (tmp_path / "tiny.yaml").write_text(TINY.replace("updates: 100", "updates: 400"))
    process = CommandLine(environment, tmp_path).start("run", "tiny.yaml", "--dir", "tiny")
    try:
        deadline = time.monotonic() + 180
        while not any((tmp_path / "tiny" / "parts").glob("iter000-*.checkpoint")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for pid in servers(port):
            os.kill(pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=240)
        assert process.returncode in (0, 3), errors
        assert "the Prefect server was gone and has been started again" in errors
        assert "Traceback" not in errors
    finally:
        for pid in servers(port):
            os.kill(pid, signal.SIGTERM)
