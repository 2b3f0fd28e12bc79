"""Stage `iterNNN-sample-TK`: MD of all replicas of a system at one temperature, driven by the committee."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import h5py
import numpy as np

from al_engine.campaign import names
from al_engine.campaign.judged import CONTINUES
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part_reader import PartReader
from al_engine.campaign.samples import (
    COLUMNS,
    COMPLETED,
    SATURATED,
    expected_window,
    trusted_mev_per_ang,
)
from al_engine.campaign.starts import starting_frames
from al_engine.campaign.system import StoredSystem
from al_engine.config import CampaignConfig, OneSystemConfig, StatePoint
from al_engine.files.frames_hdf5 import read_frames
from al_engine.seeds import derived_seed
from al_engine.selection.search import SEPARATION_STRIDES, DifferentCandidates
from al_engine.selection.window import Window
from al_engine.structures.frames import Frame
from al_engine.units import MEV_PER_EV
from al_engine.verdict.sampling_plan import SamplingPlan
from flows.compute.stage_call import Stage, Work, summarise
from flows.stages.search.sample_writer import SampleWriter
from flows.stages.training import load_committee
from samplers.dynamics.barostat import Barostat, volume
from samplers.dynamics.settings import Integration, StopRules, Surroundings
from samplers.dynamics.walls import SphericalWall, wall_radius

SMALLEST_VOLUME, LARGEST_VOLUME = 0.5, 2.0
"""Limits of the volume under a barostat, as factors on the smallest and on the largest volume of the packed box and the
initial frames. Above its boiling point a liquid would become a gas, which is slow to sample and adds little."""
WRITTEN = (*COLUMNS, "kinetic_kelvin", "energy")
"""Columns of a sample part."""
SATURATED_STRIDES = 10
"""Number of successive candidates at which a trajectory is ended while the iteration searches for candidates. Its
further frames would be similar to these candidates, and the selection would leave most of them out."""


def surroundings_of(parts: PartReader, config: OneSystemConfig) -> Surroundings:
    """The wall, barostat and bonds that all trajectories of a system share, derived from the part of initial frames.

    Clusters get a wall; boxes at constant pressure get a barostat.
    """
    sampling = config.sampling
    with parts.open(names.initial_frames(config.system_name)) as root:
        stored = StoredSystem.read(root)
        starts = read_frames(root["starts"])
        starts += read_frames(root["structures"]) if "structures" in root else []
    wall = barostat = None
    if not stored.frame.is_periodic:
        radius = sampling.wall_radius_ang or wall_radius(starts)
        wall = SphericalWall(radius_ang=radius, force_constant=sampling.wall_ev_per_ang2)
    elif sampling.pressure_bar is not None:
        volumes = [volume(frame) for frame in (stored.frame, *starts)]
        barostat = Barostat(
            pressure_bar=sampling.pressure_bar,
            fragment_of_atom=stored.molecules.fragment_of_atom,
            smallest_ang3=SMALLEST_VOLUME * min(volumes),
            largest_ang3=LARGEST_VOLUME * max(volumes),
        )
    return Surroundings(
        wall=wall, bonds=stored.bonds, barostat=barostat, fragment_of_atom=stored.molecules.fragment_of_atom
    )


def plan(ledger: Ledger, iteration: int, index: int, plans: Sequence[SamplingPlan]) -> Stage:
    """The stage of one state point.

    Args:
        ledger: The campaign.
        iteration: The iteration.
        index: The state point's place in `CampaignConfig.state_points`.
        plans: The plan of each state point (`planned_sampling`).
    """
    config, planned = ledger.config, plans[index]
    point = config.state_points[index]
    own = config.by_system[point.system]
    separation = own.selection.min_separation_strides or 0
    trusted = trusted_mev_per_ang(ledger.reader(), config, iteration)
    window = expected_window(ledger.reader(), config, iteration) if planned.most_steps else None
    window_values = None if window is None else window.to_attributes()
    parents = [names.initial_frames(point.system), *names.members(iteration, config.training.members)]
    if iteration > 0:
        parents += _starts_from(config, iteration - 1, point)
    return Stage(
        name=names.sample(iteration, point.temperature_kelvin, point.system),
        job=f"{__name__}:sample",
        inputs={
            "sampling": own.sampling.model_dump(mode="json", exclude={"cost_share"}),  # `most_steps` follows from it
            "trusted": [config.selection.deviation, trusted],
            **{name: value for name, value in asdict(planned).items() if value},
            **({} if window_values is None else {"window": window_values}),
            # Left out if it has no effect on the search, because the keys of earlier versions lack it.
            **({"separation_strides": separation} if window_values and separation > SEPARATION_STRIDES else {}),
            "temperature_index": index,
            "seed": derived_seed(config.seed, "sample", iteration, index),
        },
        parents=tuple(parents),
        arguments={
            "iteration": iteration,
            "index": index,
            "plans": [asdict(each) for each in plans],
            "trusted_mev_per_ang": trusted,
            "window": window_values,
        },
    )


def _starts_from(config: CampaignConfig, iteration: int, point: StatePoint) -> list[str]:
    """Names of the parts of an iteration from which the next iteration takes its starting frames at a state point."""
    if config.sampling.start == "continue":
        return [names.sample(iteration, point.temperature_kelvin, point.system)]
    samples = names.samples(iteration, config.by_system[point.system].state_points)
    return [*samples, names.selection(iteration), names.append(iteration)]


def driver(iteration: int, index: int, n_members: int) -> int:
    """Index of the member that drives a state point. It rotates, so that the errors of every member become visible."""
    return (iteration + index) % n_members


def sample(
    work: Work,
    *,
    iteration: int,
    index: int,
    plans: Sequence[Mapping[str, int]],
    trusted_mev_per_ang: float,
    window: Mapping[str, float] | None,
) -> None:
    """Run the replicas of one state point, and write their frames, deviations and final frames.

    Args:
        work: The stage call.
        iteration: The iteration.
        index: The state point's place in `CampaignConfig.state_points`.
        plans: Fields of the `SamplingPlan` of each state point; all are stored.
        trusted_mev_per_ang: Force deviation up to which a trajectory is trusted, meV/Å.
        window: Attributes of the window by which candidates are found; None: the MD ends after the planned steps.
    """
    from samplers.dynamics.langevin import run_langevin
    from samplers.dynamics.rows import COLUMNS as SAMPLED
    from samplers.dynamics.rows import Rows

    config = work.config
    point = config.state_points[index]
    own = config.by_system[point.system]
    sampling, selection = own.sampling, own.selection
    planned = SamplingPlan(**plans[index])
    committee = load_committee(work.parts, config, iteration, work.device, evaluations=planned.longest)
    surroundings = surroundings_of(work.parts, own)
    starts = starting_frames(work.parts, config, iteration=iteration, point=point, fresh=planned.fresh)
    frames: list[Frame] = starts.frames
    member = None if sampling.driver == "mean" else driver(iteration, index, committee.n_members)
    most_frames = len(frames) * (planned.longest // sampling.stride_steps)
    search = None
    if window is not None:
        search = DifferentCandidates(
            Window.from_attributes(window),
            deviation=selection.deviation,
            separation_strides=selection.min_separation_strides,
            stride_steps=sampling.stride_steps,
        )
    with work.write(streamed=True) as root:
        writer = SampleWriter(
            root,
            {name: SAMPLED[name] for name in WRITTEN},
            expected_frames=most_frames,
            expected_atoms=most_frames * len(frames[0]),
        )

        def take(rows: Rows) -> None:
            """Write the sampled frames of a stride, and count the candidates among them."""
            writer.take(rows)
            if search is not None:
                search.add(rows.arrays())

        def finished(done: int) -> bool:
            """Whether enough candidates are found after the planned steps; `done` is the number of MD steps."""
            return search is not None and done >= planned.steps and search.number >= planned.enough

        sampled = run_langevin(
            committee,
            frames,
            temperatures_kelvin=[point.temperature_kelvin] * len(frames),
            driver=member,
            integration=Integration(
                steps=planned.longest,
                stride_steps=sampling.stride_steps,
                timestep_fs=sampling.timestep_fs,
                friction_per_ps=sampling.friction_per_ps,
            ),
            stop=_stop_rules(config, trusted_mev_per_ang, search),
            surroundings=surroundings,
            refill=sampling.refill,
            seed=derived_seed(config.seed, "sample", iteration, index),
            device=committee.device,
            progress=work.progress,
            sink=take,
            finished=finished,
        )
        writer.finish(sampled)
        root.attrs["temperature_kelvin"] = point.temperature_kelvin
        root.attrs["steps"], root.attrs["fresh"], root.attrs["plans"] = planned.steps, planned.fresh, json.dumps(plans)
        is_first = root["start_step"][()] == 0  # of its replica slot; the others started as replacements
        root[CONTINUES] = is_first & starts.continues[root["slot"][()]]
        root.attrs["driver"] = "mean" if member is None else str(member)
        if surroundings.wall is not None:
            root.attrs["wall_radius_ang"] = surroundings.wall.radius_ang
        summarise(root, _summary(root))


def _stop_rules(config: CampaignConfig, trusted_mev_per_ang: float, search: DifferentCandidates | None) -> StopRules:
    """When a trajectory is ended. In a search for candidates, this includes many successive candidates."""
    sampling = config.sampling
    return StopRules(
        stop_deviation=sampling.stop_deviation_mev_per_ang / MEV_PER_EV,
        trusted_deviation=trusted_mev_per_ang / MEV_PER_EV,
        stop_strides=sampling.stop_strides,
        known_deviation=np.inf if search is None else search.lower_ev_per_ang,
        saturated_strides=0 if search is None else SATURATED_STRIDES,
        deviation=config.selection.deviation,
    )


def _summary(root: h5py.File) -> str:
    """The frames and the trajectories of a sample part in one line, for the terminal."""
    deviations, reasons = root["deviation_norm"][()], root["stop_reason"][()]
    saturated = int(np.sum(reasons == SATURATED))
    stopped = int(np.sum(reasons != COMPLETED)) - saturated
    typical = MEV_PER_EV * float(np.median(deviations)) if len(deviations) else float("nan")
    return f"{len(deviations)} frames, median deviation {typical:.0f} meV/Å, trajectories stopped: {stopped}" + (
        f", ended among candidates: {saturated}" if saturated else ""
    )
