"""What task runs cost in the conducting process and in Prefect's server with SQLite, and which of them it records.

Every conducting process runs the tasks of a campaign (`flows.cockpit.flow`) on an executor whose jobs only wait. The
server is new for each measurement.
"""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from al_engine.files.part_file import write_part
from flows.cockpit.server import QUIET_SETTINGS
from flows.compute.stage_call import Output, StageCall
from flows.pages.display import Display

JOB_S = 0.02
"""Duration of a job for each of the jobs that run at a time, s, so that they do run at a time."""
STILL_S, LONGEST_S = 60.0, 600.0
"""The server has recorded what it will when the number of task runs has not changed for so long, s; longest wait, s."""
START_S = 120.0
"""Longest time that a server may take to start, s."""


def measured_server(processes: int, in_flight: int, tasks: int) -> dict[str, float]:
    """Task runs of conducting processes that share a server.

    Args:
        processes: Number of conducting processes.
        in_flight: Number of jobs of each that run at a time.
        tasks: Number of task runs of each process.

    Returns:
        `task_runs`: their number; `per_s`: how many ended per second on the clock; `client_ms` and `server_ms`: CPU
        per task run in its conducting process and in the server, ms; `behind_s`: how much later the server had
        recorded the last one, s; `lost`: number that the server has not recorded as completed.
    """
    with tempfile.TemporaryDirectory(prefix="al-engine-saturation-") as folder, _server(Path(folder)) as server:
        environment, pid = server
        before = _cpu(pid)
        options = ["--in-flight", str(in_flight), "--tasks", str(tasks)]
        running = [
            subprocess.Popen(  # noqa: S603 (this file)
                [sys.executable, __file__, *options], env=environment, stdout=subprocess.PIPE, text=True
            )
            for _ in range(processes)
        ]
        answers = [json.loads(process.communicate()[0]) for process in running]
        recorded, behind = _recorded(Path(folder) / "prefect.db")
        server_cpu = _cpu(pid) - before
    count = processes * tasks
    return {
        "task_runs": count,
        "per_s": count / max(answer["seconds"] for answer in answers),
        "client_ms": 1e3 * sum(answer["cpu"] for answer in answers) / count,
        "server_ms": 1e3 * server_cpu / count,
        "behind_s": behind,
        "lost": count - recorded,
    }


@contextmanager
def _server(home: Path) -> Iterator[tuple[dict[str, str], int]]:
    """A server with its database in a folder, for as long as the block runs: environment of its clients, process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    api = f"http://127.0.0.1:{port}/api"
    environment = {**os.environ, **QUIET_SETTINGS, "PREFECT_HOME": str(home), "PREFECT_API_URL": api}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(  # noqa: S603 (Prefect)
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline = time.monotonic() + START_S
            while not _answers(api):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the Prefect server does not start")
                time.sleep(0.5)
            yield environment, process.pid
        finally:
            process.send_signal(signal.SIGTERM)


def _answers(api: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{api}/health", timeout=5):  # noqa: S310 (a server of ours)
        return True
    return False


def _recorded(database: Path) -> tuple[int, float]:
    """Number of completed task runs in a database once it no longer grows, and seconds until then."""
    begin = changed = time.monotonic()
    count = -1
    while time.monotonic() - changed < STILL_S and time.monotonic() - begin < LONGEST_S:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as opened:
            (now,) = opened.execute("SELECT COUNT(*) FROM task_run WHERE state_type = 'COMPLETED'").fetchone()
        if now != count:
            count, changed = now, time.monotonic()
        time.sleep(0.5)
    return count, changed - begin


def _cpu(pid: int) -> float:
    """CPU time of a process, s."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Waiting:
    """An executor whose jobs only wait.

    Args:
        workers: Number of jobs at a time.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, *_: object) -> None:
        """Wait."""
        time.sleep(JOB_S * self.workers)


def conduct(in_flight: int, tasks: int) -> dict[str, float]:
    """Run task runs as a campaign does; seconds on the clock and of CPU from the first submission on."""
    from prefect import flow
    from prefect.futures import wait
    from prefect.task_runners import ThreadPoolTaskRunner

    from flows.cockpit.flow import CampaignRun

    with tempfile.TemporaryDirectory(prefix="al-engine-saturation-") as folder:
        part = Path(folder) / "iter000-labels-1-60.h5"
        with write_part(part, kind="labels", key="") as root:
            root["labelled"] = np.zeros(1)
            root.attrs.update(summary="60 labels, 0 failed", seconds=0.0)
        session = SimpleNamespace(
            ledger=SimpleNamespace(
                config=SimpleNamespace(name="saturation"), directory=Path(folder), part_path=lambda _: part
            ),
            display=Display(quiet=True),
            executor=Waiting(in_flight),
            interrupts=SimpleNamespace(check=lambda: None),
        )
        campaign = CampaignRun(cast("Any", session), cast("Any", None))
        call = StageCall((Output(part.stem, ""),), "x:y", (), {}, "compute")
        found: dict[str, float] = {}

        runner: Any = ThreadPoolTaskRunner(max_workers=in_flight)

        @flow(name="iteration", task_runner=runner)
        def iteration() -> None:
            begin, used = time.perf_counter(), time.process_time()
            wait([campaign._submitted(f"label {number}", call) for number in range(tasks)])  # noqa: SLF001 (is measured)
            found.update(seconds=time.perf_counter() - begin, cpu=time.process_time() - used)

        iteration()
        return found


def main() -> None:
    """Conduct, and print what was measured."""
    options: Mapping[str, int] = {sys.argv[k]: int(sys.argv[k + 1]) for k in range(1, len(sys.argv), 2)}
    print(json.dumps(conduct(options["--in-flight"], options["--tasks"])))


if __name__ == "__main__":
    main()
