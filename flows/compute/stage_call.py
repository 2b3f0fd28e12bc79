"""A stage call: the work of one stage as plain data, which any executor can run.

A module in `flows/stages` describes a stage (`Stage`). The ledger adds the keys (`StageCall`). An executor runs the job
in some process, which also writes the parts.
"""

import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Protocol

import h5py

from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part import Part
from al_engine.campaign.part_reader import PartReader
from al_engine.config import CampaignConfig
from al_engine.files.part_file import MADE_BY, SUMMARY, write_part
from al_engine.protocols import Progress, silent
from labelers.pool.pool import LabelPool

Needs = Literal["compute", "labels", "nothing"]
"""What a job runs on: `compute`, a core or GPU of its own; `labels`, workers that label; `nothing`, any thread."""


@dataclass(frozen=True, slots=True)
class Output:
    """A part that a stage writes.

    Attributes:
        name: Name of the part.
        key: Key of its inputs.
    """

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Stage:
    """The description of a stage that writes one part.

    Attributes:
        name: Name of the part.
        job: The function that computes it, as `package.module:function`; it takes a `Work` and the arguments.
        inputs: JSON-able inputs that decide the part's content, besides its parents.
        parents: Names of the parts that the key hashes; the job may read them.
        also: Names of further parts that the job may read, because the key of a parent hashes them.
        arguments: JSON-able arguments of the job.
        needs: Resources of the job.
    """

    name: str
    job: str
    inputs: Mapping[str, Any]
    parents: tuple[str, ...]
    also: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    needs: Needs = "compute"


@dataclass(frozen=True, slots=True)
class StageCall:
    """A stage that is to be computed, as plain data.

    Attributes:
        outputs: The parts that the job writes: one, or one for each member that is trained in the same call.
        job: The function, as `package.module:function`.
        readable: Names of the parts that the job may read.
        arguments: JSON-able arguments of the job.
        needs: Resources of the job.
    """

    outputs: tuple[Output, ...]
    job: str
    readable: tuple[str, ...]
    arguments: Mapping[str, Any]
    needs: Needs

    def to_dict(self) -> dict[str, Any]:
        """The call as JSON-able values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "StageCall":
        """The inverse of `to_dict`."""
        outputs = tuple(Output(**output) for output in values["outputs"])
        return cls(**{**values, "outputs": outputs, "readable": tuple(values["readable"])})


def plan(ledger: Ledger, stages: Sequence[Stage]) -> StageCall | list[Part]:
    """Plan stages that differ only in their parts: a call for the missing parts, or all parts if none is missing.

    Raises:
        LedgerError: If a part is damaged, or was made from other inputs.
    """
    outputs: list[Output] = []
    parts: list[Part] = []
    readable: dict[str, None] = {}
    for stage in stages:
        parents = [ledger.sound_part(name) for name in stage.parents]
        key = ledger.key(stage.name, inputs=stage.inputs, parents=parents)
        part = ledger.find(stage.name, key)
        if part is None:
            outputs.append(Output(stage.name, key))
            readable |= dict.fromkeys((*stage.parents, *stage.also))
        else:
            parts.append(part)
    if not outputs:
        return parts
    first = stages[0]
    return StageCall(tuple(outputs), first.job, tuple(readable), dict(first.arguments), first.needs)


LabelPools = Callable[[], AbstractContextManager[LabelPool]]
"""Opens a pool of workers that label, for a `with` block."""


class Executor(Protocol):
    """Runs stage calls."""

    @property
    def workers(self) -> int:
        """Number of calls that are computed side by side."""

    def run(self, call: StageCall, progress: Progress) -> None:
        """Run a call and wait for it; may be called from several threads.

        Raises:
            AlEngineError: With a message for the user.
        """

    def stop(self) -> None:
        """Stop all calls at once; finished parts stay."""


def finish(ledger: Ledger, calls: Iterable[StageCall]) -> None:
    """Take the parts of executed calls into the ledger."""
    ledger.finish([output.name for call in calls for output in call.outputs])


def run_stages(ledger: Ledger, executor: Executor, stages: Sequence[Stage], progress: Progress = silent) -> list[Part]:
    """Have stages computed as one call in this thread, unless their parts are finished.

    Returns:
        The parts, in the order of the stages.

    Raises:
        AlEngineError: With a message for the user.
    """
    planned = plan(ledger, stages)
    if isinstance(planned, StageCall):
        executor.run(planned, progress)
        finish(ledger, [planned])
    return [ledger.sound_part(stage.name) for stage in stages]


class Work:
    """The interface of a job to its campaign: the config, the parts it may read, and the paths of its own parts.

    Args:
        directory: The campaign directory.
        call: The call.
        device: `cpu` or `cuda`.
        label_pool: Opens a pool of workers that label.
        label_workers: Number of workers that a job may start for labels of its own.
        progress: Receives the progress of the job.
    """

    def __init__(
        self,
        directory: Path,
        call: StageCall,
        *,
        device: str,
        label_pool: LabelPools,
        label_workers: int,
        progress: Progress,
    ) -> None:
        self.directory = directory
        self.outputs = call.outputs
        self.device = device
        self.label_workers = label_workers
        self.label_pool = label_pool
        self.progress = progress
        self.parts = PartReader(directory, call.readable)
        ledger = Ledger.open(directory)
        self.config: CampaignConfig = ledger.config
        self._parts_directory = ledger.parts_directory
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall-clock time since the job began, s; stored for information, outside the content hash."""
        return time.perf_counter() - self._start

    def path(self, output: Output | None = None) -> Path:
        """Path of a part that the call writes; by default of its first output."""
        return self._parts_directory / f"{(output or self.outputs[0]).name}.h5"

    def helper(self, ending: str, output: Output | None = None) -> Path:
        """Path of a file beside the part that keeps progress if the process is killed, such as `.checkpoint`."""
        return self.path(output).with_suffix(ending)

    @contextmanager
    def write(self, output: Output | None = None, *, streamed: bool = False) -> Iterator[h5py.File]:
        """Write a part, whole or not at all; the device, host, versions and time of the job are added.

        The job sets the attribute `summary`, one line for the terminal and the UI (`summarise`).

        Raises:
            ResumableError: If the disk is full or cannot be written to.
        """
        output = output or self.outputs[0]
        with write_part(self.path(output), kind=output.name, key=output.key, streamed=streamed) as root:
            yield root
            root.attrs.setdefault("seconds", self.seconds)
            root.attrs[MADE_BY] = json.dumps(made_by(self.device), sort_keys=True)


def summarise(root: h5py.File, text: str) -> None:
    """Store the one line that the terminal and the UI show for a finished stage."""
    root.attrs[SUMMARY] = text


@cache
def made_by(device: str) -> dict[str, str]:
    """Provenance of parts made in this process: device, host, versions of Python, al-engine, torch and the labelers."""
    found = {"device": device, "host": platform.node(), "python": platform.python_version()}
    for name in ("al-engine", "torch", "tblite", "xtb", "ase"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a node that labels needs no torch, a node that trains no labeler
            found[name] = ""
    return found


class InlineExecutor:
    """Runs stage calls in the caller's thread.

    Args:
        directory: The campaign directory.
        device: `cpu` or `cuda`.
        label_pool: Opens a pool of workers that label.
        label_workers: Number of workers that a job may start for labels of its own.
    """

    workers = 1

    def __init__(self, directory: Path, *, label_pool: LabelPools, device: str = "cpu", label_workers: int = 1) -> None:
        self._directory, self._device = directory, device
        self._label_pool, self._label_workers = label_pool, label_workers

    def run(self, call: StageCall, progress: Progress = silent) -> None:
        """Run a call.

        Raises:
            AlEngineError: As the job raises.
        """
        work = Work(
            self._directory,
            call,
            device=self._device,
            label_pool=self._label_pool,
            label_workers=self._label_workers,
            progress=progress,
        )
        module, _, function = call.job.partition(":")
        job = getattr(import_module(module), function)
        job(work, **call.arguments)

    def stop(self) -> None:
        """Do nothing: calls run in the caller's thread."""
