"""Overhead of the executors: start, an empty job, and labels against what the cores could do without any engine.

    python benchmarks/executors.py

Every executor gets the same frames of N(CF3)3 x 2 to label, in chunks as a campaign has them. The ideal is that of
plain processes, one for each core, that call the labeler in a loop.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from al_engine.campaign.labels import LevelOfTheory
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.names import INITIAL_FRAMES
from al_engine.config.reader import parse_config
from al_engine.cores import usable_cores
from al_engine.protocols import silent
from al_engine.structures.frames import Frame
from flows.compute.executors import opened_executor
from flows.compute.stage_call import Executor, Output, StageCall, plan
from flows.session.preflight import preflight
from flows.stages.initial_set import initial
from flows.stages.labels import labelling
from jobs import log, workers
from labelers import create_labeler
from labelers.backends.openblas import preload_openblas
from labelers.backends.registry import level_of_theory
from machine import circumstances, versions
from pages import origin, page, publish
from pages import parser as page_parser
from result_tables import table

HERE = Path(__file__).resolve().parent
NAME = "executors"
PACKAGES = ("al-engine", "numpy", "tblite", "prefect", "distributed", "ray")
EXECUTORS = ("local", "dask", "ray")
EMPTY_JOBS = 20
CONFIG = """
name: executors
system: {smiles: 'FC(F)(F)N(C(F)(F)F)C(F)(F)F', molecules: 2}
initial: {source: anneal, frames: FRAMES, test_frames: 8, duration_ps: 2.0}
labels: {backend: tblite, chunk_frames: 60, force_check: {frames: 0}}
"""


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = page_parser(__doc__ or "", name=NAME, data=HERE / ".cache" / NAME)
    parser.add_argument("--frames", type=int, default=952, help="frames to label")
    return parser.parse_args()


def begun(directory: Path, frames: int, executor: str) -> tuple[Ledger, LevelOfTheory]:
    """A campaign on an executor, whose initial frames exist."""
    stages = "" if executor == "local" else f", stages: {{all: {{at_once: {usable_cores()}}}}}"
    text = CONFIG.replace("FRAMES", str(frames)) + f"execution: {{executor: {executor}, device: cpu{stages}}}\n"
    ledger = Ledger(directory, preflight(parse_config(text, source=NAME), base_dir=directory).config)
    ledger.begin()
    ledger.write_config()
    return ledger, level_of_theory(ledger.config.labels)


def measure(executor: str, frames: int) -> dict[str, Any]:
    """Seconds of an executor to start and to end, of an empty job, and of all labels."""
    with tempfile.TemporaryDirectory() as folder:
        ledger, level = begun(Path(folder), frames, executor)
        opening = time.perf_counter()
        with opened_executor(ledger.directory, ledger.config) as running:
            _run(running, _planned(ledger, level))  # the first job starts the workers
            started = time.perf_counter() - opening
            empty = [_timed(running, _empty()) for _ in range(EMPTY_JOBS)]
            chunks = labelling.chunks(ledger.reader(), ledger.config, INITIAL_FRAMES)
            calls = [plan(ledger, [labelling.plan(ledger, level, INITIAL_FRAMES, *chunk)]) for chunk in chunks]
            begin = time.perf_counter()
            with ThreadPoolExecutor(running.concurrency.labels) as threads:
                list(threads.map(lambda call: _run(running, call), calls))
            labels = time.perf_counter() - begin
            closing = time.perf_counter()
        return {
            "start_s": started,
            "end_s": time.perf_counter() - closing,
            "empty_job_ms": 1e3 * statistics.median(empty),
            "labels_s": labels,
        }


def empty_job(work: object) -> None:
    """Do nothing."""
    del work


def ideal(frames: int) -> dict[str, float]:
    """Seconds of all labels in plain processes, one for each core, and of one label in such a process."""
    with tempfile.TemporaryDirectory() as folder:
        ledger, level = begun(Path(folder), frames, "local")
        with opened_executor(ledger.directory, ledger.config) as running:
            _run(running, _planned(ledger, level))
        to_label = labelling.frames_to_label(ledger.reader(), INITIAL_FRAMES)
        cores = usable_cores()
        with workers(cores) as pool:
            seconds = list(pool.map(label_all, [to_label[k::cores] for k in range(cores)]))
    return {"labels_s": max(seconds), "label_ms": 1e3 * sum(seconds) / len(to_label)}


def label_all(frames: list[Frame]) -> float:
    """Label frames in a loop; returns the seconds, without the start of the process and the first label."""
    preload_openblas()  # as the workers of a campaign do
    labeler = create_labeler(parse_config(CONFIG.replace("FRAMES", "10"), source=NAME).labels)
    labeler.label(frames[0])
    begin = time.perf_counter()
    for frame in frames:
        labeler.label(frame)
    return time.perf_counter() - begin


def _planned(ledger: Ledger, level: LevelOfTheory) -> StageCall:
    return cast("StageCall", plan(ledger, [initial.plan(ledger, level, "")]))  # the part does not exist yet


def _empty() -> StageCall:
    return StageCall((Output("empty", ""),), f"{NAME}:{empty_job.__name__}", (), {}, "compute")


def _run(executor: Executor, call: Any) -> None:
    executor.run(call, silent)


def _timed(executor: Executor, call: StageCall) -> float:
    begin = time.perf_counter()
    executor.run(call, silent)
    return time.perf_counter() - begin


def markdown(result: Mapping[str, Any], *, reading: str) -> str:
    """The page."""
    best = result["ideal"]
    rows = [
        [
            name,
            f"{found['start_s']:.1f}",
            f"{found['end_s']:.1f}",
            f"{found['empty_job_ms']:.1f}",
            f"{found['labels_s']:.1f}",
            f"{100 * best['labels_s'] / found['labels_s']:.0f}",
        ]
        for name, found in result["executors"].items()
    ]
    return page(
        [
            "# Executors",
            "",
            (
                f"{result['frames']} labels of N(CF3)3 x 2 (26 atoms) by GFN2-xTB in chunks of 60, on "
                f"{result['cores']} cores. Plain processes that do nothing else take {best['labels_s']:.1f} s, "
                f"{best['label_ms']:.1f} ms a label. Start: until the first job, which builds the initial frames, has "
                f"ended. An empty job: the median of {EMPTY_JOBS}, one after another."
            ),
            "",
            table(["", "start, s", "end, s", "empty job, ms", "labels, s", "share of the ideal, %"], rows),
            "",
            *origin(result["about"]),
        ],
        reading=reading,
    )


def main() -> None:
    """Measure the executors one after another, and write the page."""
    options = parse_arguments()
    (options.output / "results").mkdir(parents=True, exist_ok=True)
    about = {**circumstances(), "versions": versions(PACKAGES)}
    frames = options.frames
    result: dict[str, Any] = {"about": about, "frames": frames + 8, "cores": usable_cores(), "executors": {}}
    result["ideal"] = ideal(frames)
    for executor in EXECUTORS:
        result["executors"][executor] = measure(executor, frames)
        log(f"{executor}: {result['executors'][executor]}")
    log(f"written: {publish(result, markdown, output=options.output, name=NAME)}")


if __name__ == "__main__":
    main()
