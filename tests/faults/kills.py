"""Campaigns that are killed at chosen points and resumed, and what has to be true of them afterwards.

A launch gets a plan through its environment: the points still to be tried, and how to strike. `inject/sitecustomize.py`
strikes in one of the campaign's own processes at the first of those points. Points have names, such as
("publish parts/iter000-member0.h5", "before"): an undisturbed run writes down which there are.
"""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from flow_runs import CommandLine

from al_engine.campaign.ledger import Ledger
from al_engine.files.lock import is_locked

HERE = Path(__file__).parent
WAYS = ("kill a worker", "SIGTERM", "Ctrl-C", "kill the group", "kill the main process")
"""A blow to a worker waits for the first target at which there is one; the campaign goes on after it."""
MOMENTS = ("before", "after", "later")
CLEAN_S = 60.0
"""Seconds in which an interrupted campaign has to end: three or four where nothing else runs, more under load."""
LATEST_S = 0.6
"""Seconds after an event, at most, of a blow `later`."""

CAMPAIGN = """
name: killed
seed: 7
system: {smiles: CO}
initial: {frames: 12, test_frames: 4, duration_ps: 0.5}
model:
  short: {cutoff_ang: 4.0, channels: 4, l_max: 1, radial_mlp: []}
  long: {cutoff_ang: 6.0, channels: 2, l_max: 0, radial_mlp: []}
training: {updates: 20, validation_interval: 10, members: 2}
sampling: {temperatures_kelvin: [300, 900], replicas: 2, steps: 60, stride_steps: 10, cost_share: 0.2}
selection: {max_labels: 6, lower_mev_per_ang: 500, upper_mev_per_ang: 5000}
labels:
  backend: ase
  ase_calculator: 'counting_calculator:CountingTBLite'
  ase_parameters: {method: GFN2-xTB, verbosity: 0}
  chunk_frames: 8
stop:
  {max_iterations: 2, iterations: 1, acceptance: 0.95, confidence: 0.6, max_rejected_share: 1, max_stopped_share: 1,
   audit_labels: 4}
"""
"""Small, and real: GFN2-xTB labels, MS-MACE, Prefect. A committee trained this little errs by more than the lower end
of the window where it agrees, so that the audit fails and its frames become training data."""

Point = tuple[str, str]


@dataclass(frozen=True)
class Blow:
    """A blow to a launch, and what was found afterwards."""

    point: Point
    way: str
    exit_status: int | None
    """None: the campaign went on without the worker it lost, until it was struck again."""
    seconds: float | None
    """From the blow to the end of the process, if that was its end."""
    wrong: tuple[str, ...]
    """What should not be; empty if all is well."""

    @property
    def outcome(self) -> str:
        """What became of the process, in a word."""
        return "went on" if self.exit_status is None else f"exit {self.exit_status}"


@dataclass
class Trial:
    """One campaign that is struck again and again, until it has ended or has been through all points.

    Attributes:
        workers: Workers of each kind; its data set does not depend on them, the time of a launch does.
        overlap: Whether candidates are labelled while others are sampled; its data set does not depend on that either.
        blows: What happened so far.
        ended: Whether the campaign has reached its verdict.
    """

    command_line: CommandLine
    directory: Path
    workers: int = 1
    overlap: bool = False
    blows: list[Blow] = field(default_factory=list)
    ended: bool = False
    launches: int = 0

    @property
    def labels(self) -> Counter[str]:
        """How often each label was computed in all launches, by a hash of the positions."""
        log = self.directory.with_suffix(".labels")
        return Counter(log.read_text().split()) if log.exists() else Counter()

    @property
    def events(self) -> list[str]:
        """File events of all launches."""
        return [line for log in sorted(self._logs()) for line in log.read_text().splitlines()]

    def _logs(self) -> Iterator[Path]:
        return self.directory.parent.glob(f"{self.directory.name}-*.events")

    @property
    def config(self) -> Path:
        """The campaign's config, written when it is first asked for."""
        path = self.directory.with_suffix(".yaml")
        if not path.exists():
            path.write_text(f"{CAMPAIGN}execution: {{workers: {self.workers}, overlap: {str(self.overlap).lower()}}}\n")
        return path

    @property
    def environment(self) -> dict[str, str]:
        """What every launch has in its environment."""
        before = os.environ.get("PYTHONPATH", "")
        return {
            "LABEL_LOG": str(self.directory.with_suffix(".labels")),
            "PYTHONPATH": os.pathsep.join([str(HERE / "inject"), str(HERE.parent / "flows"), before]),
        }

    def start(self, **environment: str) -> subprocess.Popen[str]:
        """Start or resume the campaign, without waiting."""
        arguments = ("run", self.config, "--dir", self.directory)
        return self.command_line.start(*arguments, **self.environment, **environment)

    def launch(
        self, targets: Sequence[Point] = (), ways: Sequence[str] = (), delay_s: float = 0.0, **environment: str
    ) -> list[Blow]:
        """Start or resume the campaign, and strike it once in each of the ways, at the first targets it meets.

        Returns:
            What became of it: fewer blows than ways if it ran to its verdict before, or lost more than a worker.
        """
        self.launches += 1
        stem = self.directory.with_name(f"{self.directory.name}-{self.launches:04d}")
        plan, log = stem.with_suffix(".plan"), stem.with_suffix(".events")
        orders = {"directory": str(self.directory), "log": str(log), "targets": targets, "ways": ways}
        plan.write_text(json.dumps({**orders, "delay_s": delay_s}))
        process = self.start(FAULT_PLAN=str(plan), **environment)
        try:
            _, errors = process.communicate(timeout=300)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        end = time.monotonic()
        self.ended = process.returncode in (0, 3)  # one lost worker need not end it
        struck = [log.with_name(f"{log.name}.struck{number}") for number in range(len(ways))]
        found = [json.loads(path.read_text()) for path in struck if path.exists()]
        if not found:
            assert self.ended, errors
            return []
        blows = []
        for way, (event, moment, _) in zip(ways, found, strict=False):
            blows.append(Blow((event, moment), way, None, None, ()))
        seconds, last = end - found[-1][-1], blows[-1]
        wrong = tuple(self._wrong(process.pid, process.returncode, seconds, last.way, errors))
        blows[-1] = replace(last, exit_status=process.returncode, seconds=seconds, wrong=wrong)
        self.blows += blows
        return blows

    def _wrong(self, group: int, status: int, seconds: float, way: str, errors: str) -> Iterator[str]:
        expected = {
            "kill the group": (-signal.SIGKILL,),
            "kill the main process": (-signal.SIGKILL,),
            "SIGTERM": (4,),
            "Ctrl-C": (4,),
            "kill a worker": (0, 3, 4),
        }
        if status not in expected[way]:
            yield f"exit status {status}: {errors[-500:]}"
        if "Traceback" in errors:
            yield f"a traceback: {errors[-500:]}"
        if status == 4 and "resume" not in errors:
            yield f"it does not say how to go on: {errors[-300:]}"
        if way in ("SIGTERM", "Ctrl-C") and seconds > CLEAN_S:
            yield f"took {seconds:.0f} s to end"
        left = left_of(group)
        if left:
            yield f"processes left: {left}"
        if is_locked(self.directory):
            yield "the campaign is still locked"
        if (self.directory / "campaign.yaml").exists():
            ledger = Ledger.open(self.directory)
            for part in ledger.parts():
                if ledger.find(part.name, part.key) is None:
                    yield f"{part.name} is not there"


def left_of(group: int, patience_s: float = 5.0) -> list[int]:
    """Processes of a group that are still there after a while; the kernel takes a moment to end them."""
    deadline = time.monotonic() + patience_s
    while left := members_of(group):
        if time.monotonic() > deadline:
            os.killpg(group, signal.SIGKILL)
            return left
        time.sleep(0.05)
    return []


def members_of(group: int) -> list[int]:
    """Living processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found


@dataclass(frozen=True)
class Undisturbed:
    """What a campaign left alone comes to."""

    digest: str
    labels: Counter[str]
    events: Counter[str]
    points: tuple[Point, ...]
    directory: str

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        counts = {"labels": dict(self.labels), "events": dict(self.events)}
        return {"digest": self.digest, "points": self.points, "directory": self.directory, **counts}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self:
        """Back from JSON."""
        return cls(
            digest=found["digest"],
            labels=Counter(found["labels"]),
            events=Counter(found["events"]),
            points=tuple((event, moment) for event, moment in found["points"]),
            directory=found["directory"],
        )


def undisturbed(command_line: CommandLine, directory: Path) -> Undisturbed:
    """Run a campaign that nobody strikes."""
    trial = Trial(command_line, directory)
    trial.launch()
    events = trial.events
    points = tuple((event, moment) for event in dict.fromkeys(events) for moment in MOMENTS)
    digest = Ledger.open(directory).dataset_digest()
    return Undisturbed(digest, trial.labels, Counter(events), points, str(directory))


def strike_all(trial: Trial, points: Sequence[Point], ways: Iterator[str], rng: random.Random) -> Iterator[Blow]:
    """Strike a campaign at points, each in the next way, until it ends, then let it end; yields every blow.

    Points it does not come by, because a blow was late or two of them fell together, are left over.
    """
    left = list(points)
    while left and not trial.ended:
        orders = [next(ways)]
        if orders == ["kill a worker"]:  # the campaign goes on
            orders.append(next(ways))
        for blow in trial.launch(left, orders, rng.uniform(0.0, LATEST_S)):
            left.remove(blow.point)
            yield blow
    if not trial.ended:
        trial.launch()


def compare(trial: Trial, alone: Undisturbed, *, stops: int | None = None) -> list[str]:
    """What differs from the undisturbed campaign, in words; nothing, if all is well.

    Args:
        trial: The campaign.
        alone: The undisturbed one.
        stops: How often it was stopped; by default, as often as it was struck.
    """
    stops = len(trial.blows) if stops is None else stops
    wrong = []
    if Ledger.open(trial.directory).dataset_digest() != alone.digest:
        wrong.append("the data set is another one")
    labels = trial.labels
    ahead = set(labels) - set(alone.labels)  # candidates that were not chosen when all were known
    if not set(alone.labels) <= set(labels) or (ahead and not trial.overlap):
        wrong.append("other labels were computed")
    twice = sum(count for label, count in labels.items() if label not in ahead) - sum(alone.labels.values())
    # Each worker has one label in hand that is not kept yet.
    if not 0 <= twice <= trial.workers * stops:
        wrong.append(f"{twice} labels were computed twice after {stops} stops")
    wrong += [f"{event} {count} times" for event, count in repeated_checkpoints(trial, alone).items()]
    return wrong


def repeated_checkpoints(trial: Trial, alone: Undisturbed) -> dict[str, int]:
    """Checkpoints of training that were written more often than in the undisturbed campaign, by event."""
    events = Counter(event for event in trial.events if "-member" in event and event.endswith(".checkpoint"))
    struck = Counter(blow.point[0] for blow in trial.blows if blow.point[1] == "before")  # seen, but not done
    extra = {event: count - struck[event] - alone.events[event] for event, count in events.items()}
    return {event: count for event, count in extra.items() if count > 0 and event.startswith("publish")}
