"""Estimate of a campaign's run time from a short trial on this machine. The trial leaves the campaign unchanged."""

import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from al_engine.config import CampaignConfig, OneSystemConfig
from al_engine.config.reader import validate_config
from al_engine.errors import InputError
from al_engine.files.frames_hdf5 import read_frames, read_labelled, write_frames, write_labelled
from al_engine.protocols import Progress, silent
from al_engine.structures.frames import Frame, LabelledFrame
from al_engine.units import FS_PER_PS
from al_engine.verdict.sampling_plan import Search, steps_to_prove
from flows.compute.devices import choose_device, worker_counts
from flows.compute.worker_pool import ComputePool
from flows.pages.display import duration_text
from flows.session.preflight import CheckedSystem, Preflight
from flows.stages import training
from flows.stages.search.planned_sampling import longest_search
from labelers.pool.chunk import label_chunk
from labelers.pool.pool import LabelPool
from samplers.initial.reference_plan import single_points

if TYPE_CHECKING:
    from models.ms_mace import MSMACE

TRIAL_FRAMES = "frames.h5"
"""Name of the temporary file with the frames of the trial."""
TRIAL_UPDATES = 12
"""Number of training updates of the trial."""
TRIAL_STEPS = 40
"""Number of MD steps of the trial."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimated wall-clock times on this machine, s.

    Attributes:
        atoms: Number of atoms of the largest system.
        labelled_atoms: Number of atoms of the largest labelled structure: a system, or a cluster cut from it.
        device: `cpu` or `cuda`.
        workers: Number of processes that train and sample.
        label_s: Time of one label.
        initial_frames_s: Time of the MD by the reference method that makes the initial frames; 0 if they come from a
            classical force field or a file.
        initial_labels_s: Time of all labels of the initial set and the test set.
        training_s: Time of training in iteration 0; an upper limit on a GPU, which trains all members together.
        sampling_s: Time of the MD of an iteration at all temperatures, `sampling.steps` steps of each replica. These
            steps suffice if they contain enough candidates.
        search_s: Longest time of the MD of an iteration, which goes on if `sampling.steps` steps contain too few
            candidates. `sampling.cost_share` limits it.
        labelling_s: Time of `selection.max_labels` labels, the largest number in an iteration.
        evidence_s: Time of the MD that proves the acceptance to be below its limit at every temperature. It is assumed
            that no frame is a candidate, and that one frame in `sampling_plan.EXPECTED_INEFFICIENCY` is decorrelated.
        evidence_ps: Length of this MD for each replica at each temperature, ps.
        audit_s: Time of all labels of an audit.
    """

    atoms: int
    labelled_atoms: int
    device: str
    workers: int
    label_s: float
    initial_frames_s: float
    initial_labels_s: float
    training_s: float
    sampling_s: float
    search_s: float
    labelling_s: float
    evidence_s: float
    evidence_ps: float
    audit_s: float

    @property
    def first_iteration_s(self) -> float:
        """Largest time of the initial set and iteration 0, s."""
        return self.initial_frames_s + self.initial_labels_s + self.iteration_s

    @property
    def iteration_s(self) -> float:
        """Largest time of an iteration, s, without evidence, and with the number of updates of iteration 0."""
        return self.training_s + self.search_s + self.labelling_s

    def to_dict(self) -> dict[str, object]:
        """The values for `--json`."""
        return {**asdict(self), "first_iteration_s": self.first_iteration_s, "iteration_s": self.iteration_s}


def measure_cost(checked: Preflight, progress: Progress = silent) -> Cost:
    """Estimate the cost of a campaign from a trial of each system: two labels, a short training and short MD.

    Args:
        checked: Result of the checks of the campaign.
        progress: Receives the progress of each trial.

    Raises:
        InputError: If a system cannot be labelled.
    """
    points = len(checked.config.state_points)
    costs = [_cost_of(system, points=points, progress=progress) for system in checked.systems]
    weights = [system.config.initial.frames for system in checked.systems]

    def mean(name: str) -> float:
        """Mean over the systems, weighted by their numbers of initial frames, from which batches are drawn."""
        weighted = sum(weight * getattr(cost, name) for weight, cost in zip(weights, costs, strict=True))
        return float(weighted / sum(weights))

    largest = ("atoms", "labelled_atoms", "labelling_s", "evidence_ps")
    added = ("initial_frames_s", "initial_labels_s", "sampling_s", "search_s", "evidence_s")
    combined: dict[str, Any] = {
        **{name: max(getattr(cost, name) for cost in costs) for name in largest},
        **{name: sum(getattr(cost, name) for cost in costs) for name in added},
        **{name: mean(name) for name in ("label_s", "training_s", "audit_s")},
    }
    _, label_workers = worker_counts(checked.config, costs[0].device)
    combined["initial_labels_s"] += combined["label_s"] / label_workers * checked.data.to_label
    return replace(costs[0], **combined)


def _cost_of(checked: CheckedSystem, *, points: int, progress: Progress) -> Cost:
    """The cost of a campaign of this system alone.

    Args:
        checked: The system.
        points: Number of state points of the campaign, which share the cost of a search for candidates.
        progress: Receives the progress of the trial.

    Raises:
        InputError: If the system cannot be labelled.
    """
    config, frame = checked.config, checked.labelled.frame
    device = choose_device(config)
    workers, label_workers = worker_counts(config, device)
    # Without `directory`, the calculator writes no files to the user's folder.
    parameters = {key: value for key, value in config.labels.ase_parameters.items() if key != "directory"}
    labels_config = config.labels.model_copy(update={"ase_parameters": parameters})
    with LabelPool(labels_config, workers=1, periodic=frame.is_periodic) as pool:
        outcomes = label_chunk(pool, [frame, frame], config.labels, config.selection)
    progress(1, 2, "label")
    outcome = outcomes[-1]  # the time of the first label includes the loading of the method
    if outcome.labelled is None:
        raise InputError(f"the starting structure cannot be labelled: {outcome.failure}")
    with ComputePool(1) as compute, tempfile.TemporaryDirectory() as scratch:
        with h5py.File(Path(scratch) / TRIAL_FRAMES, "w") as root:
            write_labelled(root.create_group("labelled"), [outcome.labelled])
            write_frames(root.create_group("system"), [checked.system.frame])
        update_s, step_s = compute.run(
            trial_job, config=config.model_dump(mode="json"), device=device, scratch=str(scratch)
        )
    progress(2, 2, "model")
    sampling = config.sampling
    # Each worker trains one member at a time, and samples one temperature at a time.
    rounds_train = math.ceil(config.training.members / workers)
    rounds_sample = math.ceil(len(sampling.temperatures_kelvin) / workers)
    trained_share = len(frame) / len(checked.system.frame)
    search_steps = _search_steps(config, workers, points=points, trained_share=trained_share)
    per_label = outcome.seconds / label_workers
    by_reference = config.initial.source == "reference"
    proof_steps = steps_to_prove(config.stop, sampling)
    reference_labels = single_points(config.initial, sampling.temperatures_kelvin) if by_reference else 0
    return Cost(
        atoms=len(checked.system.frame),
        labelled_atoms=len(frame),
        device=device,
        workers=workers,
        label_s=outcome.seconds,
        initial_frames_s=per_label * reference_labels,
        initial_labels_s=per_label * (config.initial.frames + config.initial.test_frames + checked.structures),
        training_s=rounds_train * update_s * training.updates(config.training, 0, None),
        sampling_s=rounds_sample * step_s * sampling.steps,
        search_s=step_s * max(search_steps, rounds_sample * sampling.steps),
        labelling_s=per_label * config.selection.max_labels,
        evidence_s=rounds_sample * step_s * proof_steps,
        evidence_ps=proof_steps * sampling.timestep_fs / FS_PER_PS,
        audit_s=per_label * config.stop.audit_labels,
    )


def _search_steps(config: OneSystemConfig, workers: int, *, points: int, trained_share: float) -> int:
    """Largest number of MD steps of a system that one worker runs in an iteration that searches for candidates.

    The fewer temperatures search, the more steps each of them may run, and the fewer workers share the steps. The
    result is therefore the maximum over all numbers of searching temperatures.

    Args:
        config: The config of the system.
        workers: Number of workers.
        points: Number of state points of the campaign.
        trained_share: Number of atoms of a labelled structure divided by that of a frame of the MD.
    """
    updates = training.updates(config.training, 0, None)
    most_steps = longest_search(config, updates, points=points, trained_share=trained_share)
    search = Search(most_steps, max_labels=config.selection.max_labels, points=points)
    return max(
        math.ceil(searching / workers) * search.plan(config.sampling, searching).most_steps
        for searching in range(1, len(config.sampling.temperatures_kelvin) + 1)
    )


def check_text(checked: Preflight, cost: Cost) -> str:
    """The results of the checks and the estimated cost, as text for the terminal."""
    level = checked.level
    initial = f"initial labels about {duration_text(cost.initial_labels_s)}"
    if cost.initial_frames_s:
        initial = f"initial MD by the reference method about {duration_text(cost.initial_frames_s)}; {initial}"
    sampling = duration_text(cost.sampling_s)
    if cost.search_s > cost.sampling_s:
        sampling += f" to {duration_text(cost.search_s)}"
    iteration = (
        f"an iteration without evidence at most about {duration_text(cost.iteration_s)} (training "
        f"{duration_text(cost.training_s)}, sampling {sampling}, labels at most "
        f"{duration_text(cost.labelling_s)}), at most {checked.config.stop.max_iterations} iterations"
    )
    evidence = (
        f"evidence for `converged`: about {cost.evidence_ps:.3g} ps of MD for each replica at every temperature, "
        f"{duration_text(cost.evidence_s)}, if no frame is a candidate; candidates and slow processes need more"
        + (f"; audit labels {duration_text(cost.audit_s)}" if cost.audit_s else "")
    )
    executor = checked.config.execution.executor
    lines = [
        *(f"note: {note}" for note in checked.notes),
        *(_system_text(system) for system in checked.systems),
        f"labels: {level.method} by {level.backend} {level.backend_version}, {cost.label_s:.3g} s each",
        f"machine: {cost.device}, {cost.workers} worker process{'es' if cost.workers > 1 else ''}"
        + ("" if executor == "local" else f"; the times are for this machine, not for `executor: {executor}`"),
        f"{initial}; {iteration}",
        evidence,
    ]
    return "\n".join(lines)


def _system_text(checked: CheckedSystem) -> str:
    """A system in a line: composition, charge and spin, and the clusters that are labelled."""
    frame, name = checked.system.frame, checked.config.system_name
    cut = ""
    if checked.config.selection.cut_molecules is not None:
        cut = f"; labelled as clusters of {len(checked.labelled.frame)} atoms cut from it"
    return (
        f"system{f' {name}' if name else ''}: {frame.to_atoms().get_chemical_formula()}, {len(frame)} atoms, charge "
        f"{frame.charge:+d}, {frame.unpaired_electrons} unpaired electrons{cut}"
    )


def trial_job(*, config: Mapping[str, Any], device: str, scratch: str, progress: Progress) -> tuple[float, float]:
    """Train a model briefly and run short MD with it, in a worker process.

    Args:
        config: The config as JSON-able values.
        device: `cpu` or `cuda`.
        scratch: Folder with the file of the trial's frames; the training writes its checkpoints there.
        progress: Ignored.

    Returns:
        Time of a training update of one member, and time of an MD step of all replicas at one temperature, s.
    """
    del progress
    checked = validate_config(dict(config), source="the config of the trial")
    with h5py.File(Path(scratch) / TRIAL_FRAMES) as root:
        labelled, system = read_labelled(root["labelled"])[0], read_frames(root["system"])[0]
    update_s, model = _update_time(checked, labelled, device, Path(scratch))
    return update_s, _step_time(checked, system, device, model)


def _update_time(config: CampaignConfig, labelled: LabelledFrame, device: str, scratch: Path) -> tuple[float, "MSMACE"]:
    """Time of a training update of one member, s, and the trained model."""
    from models.training.training import train_member

    data = [labelled] * (config.training.batch_size + 2)  # a batch, and frames to hold out for validation
    times = {}
    # The first run starts torch. The difference of the other two runs excludes the set-up and the validation.
    for updates in (1, 2, TRIAL_UPDATES):
        start = time.perf_counter()
        trained = train_member(
            frames=data,
            model=config.model,
            training=config.training.model_copy(update={"validation_interval": 10 * TRIAL_UPDATES}),
            seed=0,
            updates=updates,
            device=device,
            kernels=config.execution.acceleration != "off",
            checkpoint=scratch / f"{updates}.checkpoint",
            key="trial",
        )
        times[updates] = time.perf_counter() - start
    return max(times[TRIAL_UPDATES] - times[2], 0.0) / (TRIAL_UPDATES - 2), trained.model


def _step_time(config: CampaignConfig, system: Frame, device: str, model: "MSMACE") -> float:
    """Time of an MD step of all replicas at one temperature with a committee of copies of a model, s.

    The deviations, which are computed once per stride, are included in proportion.
    """
    from models.inference.committee import Committee
    from samplers.dynamics.langevin import run_langevin
    from samplers.dynamics.settings import Integration, StopRules

    frames: list[Frame] = [system] * config.sampling.replicas
    committee = Committee([model] * config.training.members, device=device, acceleration=config.execution.acceleration)
    times = {}
    for steps in (1, 2, TRIAL_STEPS):  # as in `_update_time`
        start = time.perf_counter()
        run_langevin(
            committee,
            frames,
            temperatures_kelvin=[300.0] * len(frames),
            integration=Integration(
                steps=steps,
                stride_steps=min(config.sampling.stride_steps, steps),
                timestep_fs=0.1,
                friction_per_ps=config.sampling.friction_per_ps,
            ),
            stop=StopRules(stop_deviation=1e9),
            seed=0,
            device=committee.device,
        )
        times[steps] = time.perf_counter() - start
    return max(times[TRIAL_STEPS] - times[2], 0.0) / (TRIAL_STEPS - 2)
