"""Worker processes of contestants, and their timing in turns.

Each contestant has its own worker process, in the environment of its package, and computes only on request. In a run
all contestants take turns, round after round, so that other load on the machine affects all of them alike. Ratios are
taken within each round; the median over rounds is reported, with the smallest and the largest value.
"""

import json
import os
import signal
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self, TextIO

from al_engine.errors import AlEngineError

HERE = Path(__file__).resolve().parent
TUNED_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "8000000000", "MALLOC_TRIM_THRESHOLD_": "16000000000"}
"""Settings of glibc's allocator with which freed memory stays with the process. With the defaults large tensors are
returned to the kernel and zeroed again at every evaluation."""
LOG_LINES = 15


class WorkerError(AlEngineError):
    """A worker process ended before it answered.

    Attributes:
        contestant: Name of the contestant.
        reason: Why it ended, in a line.
    """

    def __init__(self, contestant: str, reason: str, log: str = "") -> None:
        super().__init__(f"contestant {contestant}: {reason}" + (f"; it logged:\n{log}" if log else ""))
        self.contestant, self.reason = contestant, reason


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions of every contestant of a run.

    Attributes:
        device: `cpu` or `cuda`.
        threads: Threads of each worker.
        malloc: `tuned`, or `default`: the C library's allocator as it is.
        rounds: Number of turns of each contestant.
        turn_seconds: Approximate length of a turn in s; a turn has at least one evaluation.
        warm_up: Number of evaluations before the first measurement.
    """

    device: str = "cpu"
    threads: int = 1
    malloc: str = "tuned"
    rounds: int = 5
    turn_seconds: float = 1.0
    warm_up: int = 3

    @property
    def clock(self) -> str:
        """The reported time: `device_ms` on a GPU; on a CPU `cpu_ms` with a single thread, otherwise `wall_ms`."""
        if self.device == "cuda":
            return "device_ms"
        return "cpu_ms" if self.threads == 1 else "wall_ms"


@dataclass(frozen=True, slots=True)
class Entry:
    """A contestant: a worker module, the interpreter of its environment, and its setting."""

    name: str
    module: str
    python: Path
    setting: Mapping[str, Any]


@dataclass(slots=True)
class Worker:
    """A running worker process; it ends with the block.

    Attributes:
        entry: The contestant.
        structures: File of structures, by `write_structures`.
        conditions: Conditions of the run.
        description: Versions, size and setting that the contestant reports.
    """

    entry: Entry
    structures: Path
    conditions: Conditions
    description: dict[str, Any] = field(init=False)
    _process: "subprocess.Popen[str]" = field(init=False)
    _answers: TextIO = field(init=False)
    _log: TextIO = field(init=False)

    def __enter__(self) -> Self:
        entry, conditions = self.entry, self.conditions
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # closed with the process
        reading, writing = os.pipe()
        self._answers = os.fdopen(reading, encoding="utf-8")
        self._process = subprocess.Popen(  # noqa: S603  # the environments' own interpreters
            [
                *(str(entry.python), "-P", "-m", f"contestants.{entry.module}"),
                *("--setting", json.dumps(entry.setting), "--structures", str(self.structures)),
                *("--device", conditions.device, "--threads", str(conditions.threads)),
                *("--answers", str(writing)),
            ],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            pass_fds=[writing],
            text=True,
            env=environment(conditions),
        )
        os.close(writing)
        try:
            self.description = self._answer()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()  # it has nothing to save
        self._process.communicate()
        self._answers.close()
        self._log.close()

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait for the answer.

        Raises:
            WorkerError: If the worker ends without an answer; the message has the last lines of its log.
        """
        if self._process.stdin is None:
            raise WorkerError(self.entry.name, "its standard input is closed")
        try:
            print(json.dumps({"request": request, **arguments}), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            self._fail()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            self._fail()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _fail(self) -> NoReturn:
        status = self._process.wait()
        self._log.seek(0)
        log = self._log.read().splitlines()[-LOG_LINES:]
        if status == -signal.SIGKILL:
            raise WorkerError(self.entry.name, "it was killed (SIGKILL), probably because memory ran out")
        reason = log[-1] if log else f"it ended with status {status}"
        raise WorkerError(self.entry.name, reason, "\n".join(log))


def environment(conditions: Conditions) -> dict[str, str]:
    """Environment variables of a worker."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    threads = str(conditions.threads)
    return {
        **inherited,
        **(TUNED_MALLOC if conditions.malloc == "tuned" else {}),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "PYTHONWARNINGS": "ignore",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",  # for e3nn 0.4.4, which mace-torch pins
    }


@dataclass(frozen=True, slots=True)
class Spread:
    """Median over rounds, with the smallest and the largest value."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of values, at least one."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds per run of a task: the median of each round, by clock (`cpu_ms`, `wall_ms`, `device_ms`)."""

    rounds: Mapping[str, Sequence[float]]

    def spread(self, clock: str) -> Spread:
        """Median over rounds by a clock."""
        return Spread.of(self.rounds[clock])


def take_turns(
    workers: Mapping[str, Worker], conditions: Conditions, *, lost: Callable[[WorkerError], None]
) -> dict[str, Timing]:
    """Time the prepared task of every worker, in turns; each round begins with another worker.

    Args:
        workers: The workers by name.
        conditions: Number of rounds, and length of a turn.
        lost: Called with the error of every worker that ends early.

    Returns:
        Timings by name, without the workers that ended early.
    """
    found: dict[str, dict[str, list[float]]] = {}
    runs: dict[str, int] = {}
    for name, worker in workers.items():
        try:
            seconds = worker.ask("warm", n=conditions.warm_up)["last_s"]
        except WorkerError as error:
            lost(error)
        else:
            found[name] = {}
            runs[name] = max(1, round(conditions.turn_seconds / seconds))
    order = list(found)
    for _ in range(conditions.rounds):
        for name in order:
            try:
                times = workers[name].ask("measure", n=runs[name])
            except WorkerError as error:
                lost(error)
                del found[name]
                continue
            for clock, values in times.items():
                found[name].setdefault(clock, []).append(statistics.median(values))
        order = [name for name in order[1:] + order[:1] if name in found]
    return {name: Timing(rounds) for name, rounds in found.items()}


def ratio(slow: Timing, fast: Timing, clock: str) -> Spread:
    """Time of `slow` divided by the time of `fast`, round by round."""
    return Spread.of([a / b for a, b in zip(slow.rounds[clock], fast.rounds[clock], strict=True)])


def peak_memory(entry: Entry, structures: Path, conditions: Conditions, *, task: str, names: Sequence[str]) -> float:
    """Peak memory in MiB of the first evaluations of a new process, in addition to the loaded model.

    Raises:
        WorkerError: If the process ends early, for example because memory runs out.
    """
    with Worker(entry, structures, conditions) as worker:
        worker.ask("prepare", task=task, structures=list(names))
        return float(worker.ask("memory", n=conditions.warm_up)["peak_mib"])
