"""A stage call: the work of one stage as plain data, which any executor can run.

A module in `flows/stages` describes a stage (`Stage`). `plan` adds the keys of its parts from the ledger (`StageCall`).
An executor (`Executor`) runs the job of the call in a process that it chooses, and the job writes the parts.
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

from al_engine.campaign.ledger import Ledger, config_of, indexed_config
from al_engine.campaign.part import PARTS, Part
from al_engine.campaign.part_reader import PartReader
from al_engine.config import CampaignConfig, StageKind
from al_engine.files.part_file import MADE_BY, SUMMARY, write_part
from al_engine.protocols import Progress, silent
from labelers.pool.pool import LabelPool

Needs = Literal["compute", "labels", "nothing"]
"""Resources of a job: `compute`, a core or GPU of its own; `labels`, the workers that label; `nothing`, any thread."""

KINDS: Mapping[str, StageKind] = {
    "flows.stages.initial_set.initial": "initial",
    "flows.stages.training": "train",
    "flows.stages.search.sampling": "sample",
    "flows.stages.labels.labelling": "label",
    "flows.stages.labels.labelling_ahead": "label",
}
"""Kind of the stages in a module; all others are `other`."""


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
        job: The function that computes the part, as `package.module:function`; it takes a `Work` and the arguments.
        inputs: JSON-able inputs that, together with the parents, decide the part's content; the key hashes them.
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
        outputs: The parts that the job writes: one; one for each member that is trained in the same call; or none, if
            the job only fills the cache of labels.
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

    @property
    def kind(self) -> StageKind:
        """The kind of the stage, for which `execution.stages` sets resources."""
        return KINDS.get(self.job.partition(":")[0], "other")

    @property
    def title(self) -> str:
        """What the job makes, for messages and for the pages of a cluster."""
        return self.outputs[0].name if self.outputs else self.job.rpartition(":")[2].replace("_", " ")

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
    """Plan stages that have the same job, arguments and resources, and differ only in their parts.

    Returns:
        One call that computes all missing parts; if no part is missing, the parts in the order of the stages.

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


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How the work of a step is divided into calls, as an executor can run them side by side.

    Attributes:
        trainings: Number of calls among which the members of the committee are shared out, because a GPU trains several
            members at once; None: each member has a call of its own.
        labels: Number of chunks of labels at a time.
    """

    trainings: int | None = None
    labels: int = 1


class Executor(Protocol):
    """Runs stage calls."""

    @property
    def workers(self) -> int:
        """Number of calls that run at the same time."""

    @property
    def concurrency(self) -> Concurrency:
        """How the work of a step is divided into calls."""

    def run(self, call: StageCall, progress: Progress) -> None:
        """Run a call and wait for it; may be called from several threads.

        Raises:
            AlEngineError: With a message for the user.
        """

    def stop(self) -> None:
        """Stop all calls at once; finished parts stay."""


def finish(ledger: Ledger, calls: Iterable[StageCall]) -> None:
    """Record the parts of executed calls in the ledger."""
    ledger.finish([output.name for call in calls for output in call.outputs])


def run_stages(ledger: Ledger, executor: Executor, stages: Sequence[Stage], progress: Progress = silent) -> list[Part]:
    """Let an executor compute the missing parts of stages as one call (`plan`), and wait for it.

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
    """The interface of a job to its campaign: the config, the parts that it may read, and the parts that it writes.

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
        self.config: CampaignConfig = config_of_run(directory)
        self._parts_directory = directory / PARTS
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall-clock time since the job began, s; stored for information, outside the content hash."""
        return time.perf_counter() - self._start

    def path(self, output: Output | None = None) -> Path:
        """Path of a part that the call writes; by default of its first output."""
        return self._parts_directory / f"{(output or self.outputs[0]).name}.h5"

    def helper(self, ending: str, output: Output | None = None) -> Path:
        """Path of a file beside the part in which a job keeps its progress, so that it can continue after a kill.

        Args:
            ending: Ending of the file name, such as `.checkpoint`.
            output: The part; None: the first output.
        """
        return self.path(output).with_suffix(ending)

    @contextmanager
    def write(self, output: Output | None = None, *, streamed: bool = False) -> Iterator[h5py.File]:
        """Write a part, whole or not at all; the device, host, versions and time of the job are added.

        The job stores a summary of one line in the file (`summarise`). If another process has written the part
        meanwhile, because this job was taken for lost, the part stays as it is.

        Args:
            output: The part; None: the first output.
            streamed: Whether the file grows on disk while it is written, instead of in memory.

        Yields:
            The open file.

        Raises:
            ResumableError: If the disk is full or cannot be written to.
        """
        output = output or self.outputs[0]
        with write_part(self.path(output), kind=output.name, key=output.key, streamed=streamed, once=True) as root:
            yield root
            root.attrs.setdefault("seconds", self.seconds)
            root.attrs[MADE_BY] = json.dumps(made_by(self.device), sort_keys=True)


def config_of_run(directory: Path) -> CampaignConfig:
    """The config that the run of a campaign began with.

    The user may edit `campaign.yaml` while the campaign runs, but the keys of the calls are of the config of the run.

    Raises:
        LedgerError: If `campaign.h5` is damaged.
        InputError: If the run has no `campaign.h5` yet, and `campaign.yaml` is missing or wrong.
    """
    return indexed_config(directory) or config_of(directory)


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
        except PackageNotFoundError:  # a machine that only labels needs no torch, one that only trains no labeler
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
    concurrency = Concurrency()

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
