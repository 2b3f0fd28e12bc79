"""Where a campaign on a large cluster saturates: the conducting process, the folder of parts, Prefect's server.

    python benchmarks/saturation.py
    python benchmarks/saturation.py --only cluster

Up to 1,000 workers are simulated on this machine: their jobs only wait. What the engine does for each job is real.
Times are CPU times where a busy machine would spoil others.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from al_engine.files.atomic import write_file
from jobs import log
from machine import circumstances, versions
from pages import origin, page, publish
from pages import parser as page_parser
from result_tables import table
from saturation_cluster import measured_cluster
from saturation_directory import measured_folder
from saturation_server import JOB_S, measured_server

HERE = Path(__file__).resolve().parent
NAME = "saturation"
PACKAGES = ("al-engine", "prefect", "distributed", "h5py")
WORKERS = (8, 64, 256, 1000)
PARTS = (1_000, 3_000, 10_000, 100_000)
AT_ONCE = 100
"""Parts that are published at a time."""
SERVERS = ((1, 10, 100), (1, 100, 200), (1, 1000, 1000), (4, 100, 200))
"""Conducting processes that share a Prefect server, jobs of each at a time, and task runs of each."""
MEASUREMENTS: Mapping[str, tuple[Callable[..., dict[str, float]], Sequence[tuple[int, ...]]]] = {
    "cluster": (measured_cluster, [(count,) for count in WORKERS]),
    "server": (measured_server, SERVERS),
    "folder": (measured_folder, [(count, AT_ONCE) for count in PARTS]),
}
"""What is measured, each with the arguments of its measurements."""


def shortest_job_s(workers: int, row: Mapping[str, float], client_ms: float) -> float:
    """Shortest duration of jobs that keep all workers busy, s; infinite if the conducting process cannot do it at all.

    The conducting process is one Python process: the work for jobs that end must fit beside that for jobs that run.

    Args:
        workers: Number of workers.
        row: What was measured with them (`measured_cluster`).
        client_ms: CPU of Prefect's task runs in the conducting process, ms each.
    """
    free = 1.0 - row["waiting"]
    return workers * 1e-3 * (row["job_ms"] + client_ms) / free if free > 0 else float("inf")


def markdown(result: Mapping[str, Any], *, reading: str) -> str:
    """The page; what was not measured has no rows."""
    server = [(tuple(row["arguments"]), row) for row in result["server"]]
    client_ms = max((row["client_ms"] for _, row in server), default=0.0)
    cluster = [
        [
            f"{row['arguments'][0]:,}",
            f"{100 * row['idle']:.0f}",
            f"{100 * row['waiting']:.0f}",
            f"{row['job_ms']:.1f}",
            f"{row['jobs_per_s']:.0f}",
            f"{shortest_job_s(row['arguments'][0], row, client_ms):.1f}",
        ]
        for row in result["cluster"]
    ]
    servers = [
        [
            str(processes),
            f"{in_flight:,}",
            f"{row['task_runs']:,}",
            f"{row['per_s']:.1f}",
            f"{row['client_ms']:.0f}",
            f"{row['server_ms']:.0f}",
            f"{row['behind_s']:.0f}",
            f"{row['lost']:,}",
        ]
        for (processes, in_flight, _), row in server
    ]
    folders = [
        [
            f"{row['arguments'][0]:,}",
            *(f"{1e3 * row[name]:,.1f}" for name in ("publish", "seen", "config", "reader", "finish")),
            f"{row['begin']:.1f}",
            f"{row['index_bytes'] / 1e6:.1f}",
        ]
        for row in result["folder"]
    ]
    return page(
        [
            "# Saturation",
            "",
            (
                "How far one conducting process, one Prefect server with SQLite and one folder of parts reach. The "
                "workers are simulated: their jobs wait, and compute nothing. CPU times, unless the clock is named."
            ),
            "",
            "## Jobs of Dask",
            "",
            (
                "CPU of the conducting process, which also runs Dask's scheduler (with TLS, as for batch jobs): while "
                "no worker has a job, while each has one, and for a job that returns at once. From these and from "
                f"Prefect's share in it ({client_ms:.0f} ms for each task run, below) follows the shortest job with "
                "which all workers are kept busy."
            ),
            "",
            table(
                [
                    "workers",
                    "idle, % of a core",
                    "each has a job, %",
                    "a job, ms",
                    "jobs per s, clock",
                    "shortest job, s",
                ],
                cluster,
            ),
            "",
            "## Prefect's server",
            "",
            (
                f"A new server with SQLite; jobs of {JOB_S:g} s times their number at a time. `behind`: how much later "
                "than the last task run had ended the server had recorded it. `lost`: not recorded as completed."
            ),
            "",
            table(
                [
                    "conducting processes",
                    "jobs at a time of each",
                    "task runs",
                    "per s, clock",
                    "a task run in its process, ms",
                    "in the server, ms",
                    "behind, s, clock",
                    "lost",
                ],
                servers,
            ),
            "",
            "## The folder of parts",
            "",
            (
                f"`publish`: a part is written, sealed and synced, {AT_ONCE} threads at a time (on the clock). `seen`: "
                "the conducting process looks for the part of a job that has ended. `config`: each job reads the "
                "config of the run. `reader`: the parts are listed, for each step. `finish`: `campaign.h5` is written "
                "anew, after each step. `begin`: all parts are read, at the start of a run."
            ),
            "",
            table(
                [
                    "parts",
                    "publish, ms",
                    "seen, ms",
                    "config, ms",
                    "reader, ms",
                    "finish, ms",
                    "begin, s",
                    "campaign.h5, MB",
                ],
                folders,
            ),
            "",
            *origin(result["about"]),
        ],
        reading=reading,
    )


def main() -> None:
    """Measure what was not measured before, and write the page."""
    parser = page_parser(__doc__ or "", name=NAME, data=HERE / ".cache" / NAME)
    parser.add_argument("--only", choices=MEASUREMENTS, action="append", help="measure only this")
    options = parser.parse_args()
    options.data.mkdir(parents=True, exist_ok=True)
    for name, (measure, arguments) in MEASUREMENTS.items():
        path = options.data / f"{name}.json"
        if options.report or (options.only and name not in options.only):
            continue
        rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        for each in arguments:
            if list(each) not in [row["arguments"] for row in rows]:
                rows.append({"arguments": list(each), **measure(*each)})
                log(f"{name} {rows[-1]}")
                write_file(path, json.dumps(rows).encode())
    about = {**circumstances(), "versions": versions(PACKAGES)}
    result: dict[str, Any] = {"about": about}
    for name in MEASUREMENTS:
        path = options.data / f"{name}.json"
        result[name] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    (options.output / "results").mkdir(parents=True, exist_ok=True)
    written = publish(result, markdown, output=options.output, name=NAME)
    log(f"written: {written}")


if __name__ == "__main__":
    main()
