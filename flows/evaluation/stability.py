"""Long-time stability: trajectories at high temperature from initial frames, and the share without broken bonds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.starts import near_initial_frames
from al_engine.config import StatePoint
from al_engine.errors import InputError
from al_engine.files.part_file import is_finished, open_part, part_key, write_part
from al_engine.protocols import Progress
from al_engine.seeds import derived_rng, derived_seed
from al_engine.structures.frames import FloatArray, Frame, IntArray
from al_engine.units import FS_PER_PS, MEV_PER_EV
from flows.compute.devices import worker_counts
from flows.compute.worker_pool import ComputePool
from flows.evaluation import plots
from flows.evaluation.subject import Subject
from flows.pages.display import Display
from flows.stages.training import load_committee

if TYPE_CHECKING:
    from samplers.probes.stability import StabilityRun

WHAT = "stability"
RULES = 2
"""Version of the rules by which a trajectory ends; raise it whenever they change."""
STRIDE_STEPS = 50
"""MD steps between two inspections of the replicas."""
COLLAPSED, COMPLETED = "bond_broken", "completed"
"""Stop reasons that have a count of their own in the results."""


@dataclass(frozen=True, slots=True)
class StabilityOptions:
    """Options of the stability test.

    The defaults are those of the reference work (arXiv:2312.09490), which does not state its number of replicas.

    Attributes:
        steps: MD steps of each replica: fewer than `STRIDE_STEPS`, or a multiple of it.
        kelvin: Temperature of the thermostat, K.
        replicas: Number of trajectories.
        driver: `rotate`: member k modulo M drives replica k; `mean`: the mean of the M members drives all replicas.
    """

    steps: int = 50_000
    kelvin: float = 800.0
    replicas: int = 8
    driver: Literal["rotate", "mean"] = "rotate"

    def __post_init__(self) -> None:
        if self.steps > STRIDE_STEPS and self.steps % STRIDE_STEPS:
            below = self.steps // STRIDE_STEPS * STRIDE_STEPS
            raise InputError(
                f"--steps {self.steps} is no multiple of {STRIDE_STEPS}, the steps between two observations; give "
                f"{below} or {below + STRIDE_STEPS}"
            )


@dataclass(frozen=True, slots=True)
class _Group:
    """Replicas that are run as one batch, with one driver."""

    replicas: tuple[int, ...]
    member: int | None
    path: Path
    key: str


def stability_job(
    *,
    directory: str,
    iteration: int,
    system: str,
    device: str,
    replicas: Sequence[int],
    member: int | None,
    options: Mapping[str, Any],
    path: str,
    key: str,
    progress: Progress,
) -> None:
    """Run some replicas in a worker, and write their trajectories' observables; all arguments are JSON-able."""
    from flows.stages.search.sampling import surroundings_of
    from samplers.dynamics.settings import Integration, Surroundings
    from samplers.probes.stability import StabilityConditions, run_stability

    ledger, asked = Ledger.open(Path(directory)), StabilityOptions(**options)
    parts, config = ledger.reader(), ledger.config.by_system[system]
    sampling, around = config.sampling, surroundings_of(parts, config)
    committee = load_committee(parts, config, iteration, device, evaluations=asked.steps)
    starts = _starts(ledger, StatePoint(system, asked.kelvin), asked.replicas)
    run = run_stability(
        committee,
        [starts[replica] for replica in replicas],
        conditions=StabilityConditions(
            kelvin=asked.kelvin,
            integration=Integration(
                steps=asked.steps,
                stride_steps=min(STRIDE_STEPS, asked.steps),
                timestep_fs=sampling.timestep_fs,
                friction_per_ps=sampling.friction_per_ps,
            ),
        ),
        surroundings=Surroundings(wall=around.wall, bonds=around.bonds),  # no barostat: boxes keep their volume
        seed=derived_seed(config.seed, "stability", *replicas),
        driver=member,
        device=committee.device,
        progress=progress,
    )
    _write(Path(path), key, run, replicas)


def _starts(ledger: Ledger, point: StatePoint, replicas: int) -> list[Frame]:
    """One initial frame per replica, drawn from the half with the nearest anneal temperatures."""
    frames = near_initial_frames(ledger.reader(), point)
    seed = ledger.config.by_system[point.system].seed
    rng = derived_rng(seed, "stability starts", round(1000 * point.temperature_kelvin))
    drawn = rng.choice(len(frames), size=replicas, replace=len(frames) < replicas)
    return [frames[index] for index in drawn.tolist()]


def _write(path: Path, key: str, run: "StabilityRun", replicas: Sequence[int]) -> None:
    with write_part(path, kind=WHAT, key=key) as root:
        root["replica"] = np.array(replicas)
        for name in ("step", "stretch_ang", "kinetic_kelvin", "deviation", "stop_step"):
            root[name] = getattr(run, name)
        root["stop_reason"] = np.array([reason.value for reason in run.stop_reason], dtype="S")


@dataclass(frozen=True, slots=True, eq=False)
class Trajectories:
    """All B replicas of a stability test at S strides, with the fields of `samplers.probes.stability.StabilityRun`."""

    step: IntArray
    stretch_ang: FloatArray
    kinetic_kelvin: FloatArray
    deviation: FloatArray
    stop_reason: tuple[str, ...]
    stop_step: IntArray

    @classmethod
    def read(cls, groups: Sequence[_Group]) -> "Trajectories":
        """Read the files of the groups; the replicas are in ascending order."""
        order = np.argsort([replica for group in groups for replica in group.replicas])
        columns: dict[str, list[np.ndarray]] = {}
        for group in groups:
            with open_part(group.path) as root:
                for name in ("stretch_ang", "kinetic_kelvin", "deviation", "stop_step", "stop_reason"):
                    columns.setdefault(name, []).append(root[name][()])
                step = root["step"][()]
        joined = {name: np.concatenate(parts, axis=-1)[..., order] for name, parts in columns.items()}
        reasons = tuple(reason.decode() for reason in joined.pop("stop_reason"))
        return cls(step=step, stop_reason=reasons, **joined)


def evaluate_stability(subject: Subject, options: StabilityOptions, display: Display) -> dict[str, Any]:
    """Run the replicas that an earlier call has not finished, and count the replicas that survive.

    Raises:
        ResumableError: If a worker died.
    """
    groups = _groups(subject, options)
    todo = [group for group in groups if not is_finished(group.path, group.key)]
    workers, _ = worker_counts(subject.ledger.config, subject.device)
    workers = min(workers, max(len(todo), 1))
    with ComputePool(workers) as compute, ThreadPoolExecutor(workers) as threads:
        futures = [threads.submit(_run, compute, subject, options, group, display) for group in todo]
        try:
            for future in futures:
                future.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            compute.kill()  # otherwise the threads would wait for their jobs
            raise
    return _result(subject, options, Trajectories.read(groups))


def _run(compute: ComputePool, subject: Subject, options: StabilityOptions, group: _Group, display: Display) -> None:
    count, driver = len(group.replicas), "the mean" if group.member is None else f"member {group.member}"
    with display.step(f"{count} replica{'s' if count > 1 else ''} driven by {driver}") as progress:
        compute.run(
            stability_job,
            progress=progress,
            directory=str(subject.ledger.directory),
            iteration=subject.iteration,
            system=subject.system,
            device=subject.device,
            replicas=group.replicas,
            member=group.member,
            options=asdict(options),
            path=str(group.path),
            key=group.key,
        )


def _groups(subject: Subject, options: StabilityOptions) -> list[_Group]:
    """Groups of replicas by driver; trajectories thus depend only on the options, not on the number of workers.

    Replicas that the mean drives are divided into the same groups.
    """
    ledger, members = subject.ledger, subject.ledger.config.training.members
    inputs = {
        "rules": RULES,
        "options": asdict(options),
        "sampling": ledger.config.sampling.model_dump(mode="json", include={"timestep_fs", "friction_per_ps"}),
        "stride_steps": STRIDE_STEPS,
        "seed": subject.config.seed,
    }
    hashes = []
    for name in (
        names.initial_frames(subject.system),
        *(names.member(subject.iteration, member) for member in range(members)),
    ):
        with open_part(ledger.part_path(name)) as root:
            hashes.append(str(root.attrs["content_hash"]))
    groups = []
    for member in range(min(members, options.replicas)):
        replicas = tuple(range(member, options.replicas, members))
        groups.append(
            _Group(
                replicas=replicas,
                member=member if options.driver == "rotate" else None,
                path=subject.file(f"{WHAT}-{member}", ".h5"),
                key=part_key(WHAT, {**inputs, "replicas": list(replicas)}, hashes),
            )
        )
    return groups


def _result(subject: Subject, options: StabilityOptions, seen: Trajectories) -> dict[str, Any]:
    from samplers.dynamics.limits import LONGEST_STRETCH_ANG
    from samplers.probes.stability import surviving

    timestep_fs = subject.ledger.config.sampling.timestep_fs
    members = subject.ledger.config.training.members
    reasons = Counter(seen.stop_reason)
    collapses = [int(s) for s, r in zip(seen.stop_step, seen.stop_reason, strict=True) if r == COLLAPSED]
    values = {
        **asdict(options),
        "timestep_fs": timestep_fs,
        "picoseconds": options.steps * timestep_fs / FS_PER_PS,
        "survived": reasons[COMPLETED],
        "surviving_share": reasons[COMPLETED] / options.replicas,
        "collapsed": reasons[COLLAPSED],
        "first_collapse_step": min(collapses, default=None),
        "stopped_otherwise": {name: reasons[name] for name in sorted(reasons) if name not in (COMPLETED, COLLAPSED)},
        "trajectories": [
            {
                "replica": replica,
                "driver": "mean" if options.driver == "mean" else replica % members,
                "stop_reason": seen.stop_reason[replica],
                "stop_step": int(seen.stop_step[replica]),
                "largest_stretch_ang": _largest(seen.stretch_ang[:, replica]),
                "hottest_kelvin": _largest(seen.kinetic_kelvin[:, replica]),
                "mean_kelvin": _mean(seen.kinetic_kelvin[:, replica]),
                "largest_deviation_mev_per_ang": _largest(MEV_PER_EV * seen.deviation[:, replica]),
            }
            for replica in range(options.replicas)
        ],
        "data": [str(subject.file(f"{WHAT}-{k}", ".h5")) for k in range(min(members, options.replicas))],
    }
    plot = plots.stability_plot(
        time_ps=(timestep_fs / FS_PER_PS) * seen.step.astype(np.float64),
        surviving=surviving(seen.stop_reason, seen.stop_step, seen.step),
        stretch_ang=seen.stretch_ang,
        kinetic_kelvin=seen.kinetic_kelvin,
        kelvin=options.kelvin,
        collapse_ang=LONGEST_STRETCH_ANG,
    )
    return subject.result(WHAT, values, plot)


def _largest(values: FloatArray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if len(finite) else None


def _mean(values: FloatArray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def stability_text(answer: dict[str, Any]) -> str:
    """The result as text for the terminal."""
    lines = [
        (
            f"iteration {answer['iteration']}, {answer['replicas']} replicas, {answer['steps']} steps "
            f"({answer['picoseconds']:g} ps) at {answer['kelvin']:g} K"
        ),
        f"survived: {answer['survived']} of {answer['replicas']} ({answer['surviving_share']:.0%})",
    ]
    first = answer["first_collapse_step"]
    lines.append(
        f"collapsed (a bond more than 5 Å from its equilibrium length): {answer['collapsed']}"
        + ("" if first is None else f", the first at step {first}")
    )
    if answer["stopped_otherwise"]:
        others = ", ".join(f"{count} {reason}" for reason, count in answer["stopped_otherwise"].items())
        lines.append(f"stopped for another reason: {others}")
    lines += [
        "",
        f"{'replica':>7}  {'driver':>6}  {'ended':>12}  {'step':>7}  {'stretch/Å':>11}  {'mean/K':>8}  {'max/K':>7}",
    ]
    for row in answer["trajectories"]:
        numbers = [
            "-" if row[key] is None else format(row[key], style)
            for key, style in (("largest_stretch_ang", ".2f"), ("mean_kelvin", ".0f"), ("hottest_kelvin", ".0f"))
        ]
        lines.append(
            f"{row['replica']:>7}  {row['driver']:>6}  {row['stop_reason']:>12}  {row['stop_step']:>7}  "
            f"{numbers[0]:>11}  {numbers[1]:>8}  {numbers[2]:>7}"
        )
    return "\n".join([*lines, "", answer["plot"]])
