"""Campaigns as a user runs them: the command line in a process of its own, a real Prefect server, real labels."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

START_LIMIT_S = 90

TINY = """
name: tiny
seed: 7
system: {smiles: CO}
initial: {frames: 24, test_frames: 8, duration_ps: 1.0}
model:
  short: {cutoff_ang: 4.0, channels: 8, l_max: 1, radial_mlp: [16]}
  long: {cutoff_ang: 6.0, channels: 4, l_max: 0, radial_mlp: []}
training: {updates: 60, validation_interval: 20}
sampling: {temperatures_kelvin: [300, 900], replicas: 3, steps: 100, stride_steps: 10, cost_share: 0}
selection: {max_labels: 10}
labels: {backend: tblite, chunk_frames: 20}
stop: {max_iterations: 2}
"""
SMALLER = (
    TINY.replace("name: tiny", "name: smaller")
    .replace("updates: 60, validation_interval: 20", "updates: 20, validation_interval: 10, members: 2")
    .replace("replicas: 3, steps: 100", "replicas: 2, steps: 60")
)
SMALLER += "execution: {workers: 1}\n"
"""For tests that are not about how a campaign is trained, or by how many workers."""


def heed_interrupts():
    """A shell's background jobs ignore SIGINT, and so would every process that is started from one."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def with_one_worker(directory):
    """Let a campaign go on with one worker: each takes four seconds to start."""
    config = directory / "campaign.yaml"
    config.write_text(re.sub("^  workers: .*", "  workers: 1", config.read_text(), flags=re.MULTILINE))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def own_server(home):
    """The environment of a command line that starts a server of its own, with its database in `home`."""
    port = free_port()
    unlimited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}  # as users have it
    return {
        **unlimited,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
    }


def start_server(home):
    """Start a real Prefect server with its database in `home`; the environment that points to it."""
    environment = own_server(home)
    port = environment["PREFECT_SERVER_API_PORT"]
    server = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    (home / "server.pid").write_text(str(server.pid))
    deadline = time.monotonic() + START_LIMIT_S
    while not _answers(environment["PREFECT_API_URL"]):
        assert server.poll() is None, "the Prefect server ended"
        assert time.monotonic() < deadline, "the Prefect server does not answer"
        time.sleep(0.2)
    return environment


def end_server(home):
    """End the server that was started there, if one was, and wait until it is gone."""
    if not (home / "server.pid").exists():
        return
    pid = int((home / "server.pid").read_text())
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)  # if it was this process that started it
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.1)


@contextmanager
def prefect_server_at(home):
    """A real Prefect server with its database in `home`; yields the environment that points to it."""
    home.mkdir(exist_ok=True)
    try:
        yield start_server(home)
    finally:
        end_server(home)


def copy_database(environment, home):
    """Give the server that will have `home` a copy of another's database: to make one takes it ten seconds."""
    home.mkdir(exist_ok=True)
    with (
        closing(sqlite3.connect(Path(environment["PREFECT_HOME"]) / "prefect.db")) as original,
        closing(sqlite3.connect(home / "prefect.db")) as copy,
    ):
        original.backup(copy)


def _answers(api_url):
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=2):
            return True
    except OSError:
        return False


@dataclass(frozen=True)
class CommandLine:
    """Runs `al-engine` with one environment."""

    environment: dict[str, str]
    directory: Path

    def command(self, *arguments):
        return [sys.executable, "-m", "flows.cli.app", *map(str, arguments)]

    def __call__(self, *arguments, timeout=240):
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *arguments, **environment):
        """Start without waiting, in a process group of its own."""
        return subprocess.Popen(
            self.command(*arguments),
            env={**self.environment, **environment},
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def status(self, directory):
        answer = self("status", directory, "--json")
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)


def api(environment, path, body=None):
    """Ask the Prefect server; again if its database is busy, as Prefect's own client does."""
    request = urllib.request.Request(
        environment["PREFECT_API_URL"] + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                raise
        time.sleep(1.0)
