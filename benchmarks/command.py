"""Common parts of the commands: options, workers, output of results and errors."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from al_engine.config import ModelConfig
from al_engine.errors import AlEngineError
from contestants.structures import Structure, write_structures
from harness import Conditions, Entry, Timing, Worker, WorkerError, take_turns
from lineup import read_model
from machine import circumstances
from peers import PACKAGES, python_of

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options of every command; their defaults are those of the published figures."""
    defaults = Conditions()
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    result.add_argument("--json", action="store_true", help="print only a JSON object on standard output")
    result.add_argument(
        "--model",
        type=Path,
        default=HERE / "model.yaml",
        help="YAML file with the `model` section of the model that is timed",
    )
    result.add_argument("--device", choices=["cpu", "cuda"], default=defaults.device, help="device of all contestants")
    result.add_argument("--threads", type=int, default=defaults.threads, help="threads of each contestant")
    result.add_argument(
        "--malloc",
        choices=["tuned", "default"],
        default=defaults.malloc,
        help="settings of the C library's allocator: keep freed memory, or its defaults",
    )
    result.add_argument("--rounds", type=int, default=defaults.rounds, help="number of turns of each contestant")
    result.add_argument("--turn-seconds", type=float, default=defaults.turn_seconds, help="length of a turn in seconds")
    result.add_argument(
        "--peer-python",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help=f"Python interpreter of a peer, {' or '.join(PACKAGES)}; default: that in benchmarks/.peers",
    )
    return result


class Bench:
    """A run of a benchmark: its options, conditions and model, and the contestants that took part or failed.

    Attributes:
        options: The command line.
        conditions: Conditions of every contestant.
        model: The model that is timed.
        missing: Why a contestant could not take part, by name of the contestant.
        descriptions: Versions, size and setting of the contestants, by name.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.conditions = Conditions(
            device=options.device,
            threads=options.threads,
            malloc=options.malloc,
            rounds=options.rounds,
            turn_seconds=options.turn_seconds,
        )
        self.model: ModelConfig = read_model(options.model)
        self.missing: dict[str, str] = {}
        self.descriptions: dict[str, dict[str, Any]] = {}
        self._circumstances = circumstances()

    def peer(self, name: str) -> Path:
        """The interpreter of a peer's environment."""
        return python_of(name, self.options.peer_python)

    @contextmanager
    def workers(self, entries: Sequence[Entry], structures: Path) -> Iterator[dict[str, Worker]]:
        """The running workers of the entries that can be loaded; the reasons of the others are kept in `missing`."""
        with ExitStack() as stack:
            running = {}
            for entry in entries:
                note(f"loading {entry.name}")
                try:
                    worker = stack.enter_context(Worker(entry, structures, self.conditions))
                except WorkerError as error:
                    self.drop(error)
                else:
                    running[entry.name] = worker
                    self.descriptions[entry.name] = worker.description
            yield running

    def drop(self, error: WorkerError) -> None:
        """Record why a contestant no longer takes part, and print the reason."""
        self.missing[error.contestant] = error.reason
        note(str(error))

    def prepared(self, workers: Mapping[str, Worker], *, task: str, structures: Sequence[str]) -> dict[str, Worker]:
        """The workers that are still running and can do a task; the reasons of the others are kept in `missing`."""
        ready = {}
        for name, worker in workers.items():
            if name not in self.missing:
                try:
                    worker.ask("prepare", task=task, structures=list(structures))
                except WorkerError as error:
                    self.drop(error)
                else:
                    ready[name] = worker
        return ready

    def timed(self, workers: Mapping[str, Worker], *, needed: Sequence[str] = ()) -> dict[str, Timing]:
        """Time the prepared task of every worker, in turns.

        Raises:
            AlEngineError: If a contestant of `needed`, which ratios refer to, has failed.
        """
        timings = take_turns(workers, self.conditions, lost=self.drop)
        for name in needed:
            if name not in timings:
                raise AlEngineError(f"{name} is needed for the ratios: {self.missing.get(name, 'it was not timed')}")
        return timings

    def about(self) -> dict[str, Any]:
        """Origin of a result: machine, conditions, model and contestants."""
        return {
            **self._circumstances,
            "conditions": {**asdict(self.conditions), "clock": self.conditions.clock},
            "model": self.model.model_dump(),
            "contestants": self.descriptions,
            "missing": self.missing,
        }


@contextmanager
def structure_file(structures: Mapping[str, Structure]) -> Iterator[Path]:
    """A temporary file with the structures; it exists while the block runs."""
    with tempfile.TemporaryDirectory(prefix="al-engine-benchmark-") as folder:
        path = Path(folder) / "structures.npz"
        write_structures(path, structures)
        yield path


def run(options: argparse.Namespace, measure: Callable[[Bench], dict[str, Any]], show: Callable[[Any], str]) -> None:
    """Measure, then print JSON or a table; if the input is wrong, print the error and exit with status 2."""
    try:
        result = measure(Bench(options))
    except AlEngineError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(json.dumps(result, indent=1) if options.json else show(result))


def note(text: str) -> None:
    """Print a line of progress on standard error."""
    print(text, file=sys.stderr, flush=True)
