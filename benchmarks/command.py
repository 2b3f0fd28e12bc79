"""What the commands share: options, where results go, errors that read well."""

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
    result.add_argument("--json", action="store_true", help="print one JSON object on standard output, nothing else")
    result.add_argument("--model", type=Path, default=HERE / "model.yaml", help="the `model` section that is timed")
    result.add_argument("--device", choices=["cpu", "cuda"], default=defaults.device, help="where everything runs")
    result.add_argument("--threads", type=int, default=defaults.threads, help="threads of each contestant")
    result.add_argument("--malloc", choices=["tuned", "default"], default=defaults.malloc, help="the C library's heap")
    result.add_argument("--rounds", type=int, default=defaults.rounds, help="turns of each contestant")
    result.add_argument("--turn-seconds", type=float, default=defaults.turn_seconds, help="length of a turn")
    result.add_argument(
        "--peer-python",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help=f"a peer's interpreter, {' or '.join(PACKAGES)}; by default that in benchmarks/.peers",
    )
    return result


class Bench:
    """Options turned into what the commands work with.

    Attributes:
        options: The command line.
        conditions: What holds for every contestant.
        model: The model that is timed.
        missing: Why a contestant could not take part, by name.
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
        """The running workers of those that can be loaded; why the others can't is kept."""
        with ExitStack() as stack:
            running = {}
            for entry in entries:
                note(f"loading {entry.name}")
                try:
                    worker = stack.enter_context(Worker(entry, structures, self.conditions))
                except WorkerError as error:
                    self.lost(error)
                else:
                    running[entry.name] = worker
                    self.descriptions[entry.name] = worker.description
            yield running

    def lost(self, error: WorkerError) -> None:
        """Keep why a contestant is out, and say it."""
        self.missing[error.contestant] = error.reason
        note(str(error))

    def prepared(self, workers: Mapping[str, Worker], *, task: str, structures: Sequence[str]) -> dict[str, Worker]:
        """Those of the workers that are still there and can do a task; why the others can't is kept."""
        ready = {}
        for name, worker in workers.items():
            if name not in self.missing:
                try:
                    worker.ask("prepare", task=task, structures=list(structures))
                except WorkerError as error:
                    self.lost(error)
                else:
                    ready[name] = worker
        return ready

    def timed(self, workers: Mapping[str, Worker], *, needed: Sequence[str] = ()) -> dict[str, Timing]:
        """Time the prepared task of every worker, in turns.

        Raises:
            AlEngineError: If a contestant that ratios are taken with did not survive it.
        """
        timings = take_turns(workers, self.conditions, lost=self.lost)
        for name in needed:
            if name not in timings:
                raise AlEngineError(f"{name} is needed for the ratios: {self.missing.get(name, 'it is not there')}")
        return timings

    def about(self) -> dict[str, Any]:
        """What a result file says about how it came about."""
        return {
            **self._circumstances,
            "conditions": {**asdict(self.conditions), "clock": self.conditions.clock},
            "model": self.model.model_dump(),
            "contestants": self.descriptions,
            "missing": self.missing,
        }


@contextmanager
def structure_file(structures: Mapping[str, Structure]) -> Iterator[Path]:
    """A file with the structures, for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="al-engine-benchmark-") as folder:
        path = Path(folder) / "structures.npz"
        write_structures(path, structures)
        yield path


def run(options: argparse.Namespace, measure: Callable[[Bench], dict[str, Any]], show: Callable[[Any], str]) -> None:
    """Measure, then print JSON or a table; exit status 2 where the input is wrong."""
    try:
        result = measure(Bench(options))
    except AlEngineError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(json.dumps(result, indent=1) if options.json else show(result))


def note(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)
