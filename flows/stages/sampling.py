"""Stage `iterNNN-sample-TK`: MD of all replicas at one temperature, driven by the committee."""

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.judged import CONTINUES
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part_reader import PartReader
from al_engine.campaign.samples import COLUMNS, COMPLETED, stored_plan, trusted_mev_per_ang
from al_engine.campaign.starts import starting_frames
from al_engine.campaign.system import StoredSystem
from al_engine.config import CampaignConfig
from al_engine.files.frames_hdf5 import read_frames
from al_engine.seeds import derived_seed
from al_engine.structures.frames import Frame
from al_engine.units import FS_PER_PS, MEV_PER_EV
from al_engine.verdict.evidence import SamplingPlan, sampling_plan
from flows.compute.stage_call import Stage, Work, summarise
from flows.stages.judging import evidence_of
from flows.stages.sample_writer import SampleWriter
from flows.stages.training import load_committee
from samplers.dynamics.barostat import Barostat, volume
from samplers.dynamics.settings import Integration, StopRules, Surroundings
from samplers.dynamics.walls import SphericalWall, wall_radius

SMALLEST_VOLUME, LARGEST_VOLUME = 0.5, 2.0
"""Limits of the volume under a barostat, in units of the smallest and the largest volume among the packed box and the
initial frames. Above its boiling point a liquid would become a gas, which is slow to sample and adds little."""
WRITTEN = (*COLUMNS, "kinetic_kelvin", "energy")
"""Columns of a sample part."""


def surroundings_of(parts: PartReader, config: CampaignConfig) -> Surroundings:
    """Derive from the initial frames the wall, barostat and bonds that all trajectories of a campaign share.

    Clusters get a wall, boxes at constant pressure a barostat.
    """
    sampling = config.sampling
    with parts.open(names.INITIAL_FRAMES) as root:
        stored = StoredSystem.read(root)
        starts = read_frames(root["starts"])
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


def plan(ledger: Ledger, iteration: int, temperature_index: int, planned: SamplingPlan) -> Stage:
    """The stage of one temperature of the campaign, which is sampled as `planned_sampling` says."""
    config = ledger.config
    sampling = config.sampling
    kelvin = sampling.temperatures_kelvin[temperature_index]
    trusted = trusted_mev_per_ang(ledger.reader(), config, iteration)
    parents = [names.INITIAL_FRAMES, *names.members(iteration, config.training.members)]
    if iteration > 0:
        parents += _starts_from(config, iteration - 1, kelvin)
    return Stage(
        name=names.sample(iteration, kelvin),
        job=f"{__name__}:sample",
        inputs={
            "sampling": sampling.model_dump(mode="json"),
            "trusted": [config.selection.deviation, trusted],
            "steps": planned.steps,
            **({"fresh": planned.fresh} if planned.fresh else {}),
            "temperature_index": temperature_index,
            "seed": derived_seed(config.seed, "sample", iteration, temperature_index),
        },
        parents=tuple(parents),
        arguments={
            "iteration": iteration,
            "temperature_index": temperature_index,
            "steps": planned.steps,
            "fresh": planned.fresh,
            "trusted_mev_per_ang": trusted,
        },
    )


def planned_sampling(ledger: Ledger, iteration: int) -> dict[float, SamplingPlan]:
    """How an iteration samples each temperature.

    A temperature that has been sampled keeps its plan, even if the stop rules have changed since.
    """
    parts, config, history = ledger.reader(), ledger.config, ledger.history()[:iteration]
    evidence = evidence_of(ledger, history)
    return {
        kelvin: stored_plan(parts, name)
        if (name := names.sample(iteration, kelvin)) in parts.names
        else sampling_plan(history, evidence, config.sampling, config.stop, kelvin)
        for kelvin in config.sampling.temperatures_kelvin
    }


def plan_text(ledger: Ledger, iteration: int) -> str:
    """What an iteration samples beyond the usual as evidence for the verdict, for the terminal; empty if nothing."""
    sampling, plans = ledger.config.sampling, planned_sampling(ledger, iteration)
    longer = {kelvin: plan for kelvin, plan in plans.items() if plan.steps > sampling.steps}
    fresh = max(plan.fresh for plan in plans.values())
    if not longer and not fresh:
        return ""
    times = ", ".join(
        f"{plan.steps * sampling.timestep_fs / FS_PER_PS:.3g} ps at {kelvin:g} K" for kelvin, plan in longer.items()
    )
    more = f"longer MD as evidence, per replica: {times}" if longer else "MD as evidence"
    return f"{more}; {fresh} of {sampling.replicas} trajectories at each temperature start afresh"


def _starts_from(config: CampaignConfig, iteration: int, kelvin: float) -> list[str]:
    """The parts of an iteration from which the next iteration takes its starting frames."""
    if config.sampling.start == "continue":
        return [names.sample(iteration, kelvin)]
    samples = names.samples(iteration, config.sampling.temperatures_kelvin)
    return [*samples, names.selection(iteration), names.append(iteration)]


def driver(iteration: int, temperature_index: int, n_members: int) -> int:
    """The member that drives a temperature; it rotates, so that the errors of every member become visible."""
    return (iteration + temperature_index) % n_members


def sample(
    work: Work, *, iteration: int, temperature_index: int, steps: int, trusted_mev_per_ang: float, fresh: int = 0
) -> None:
    """Run the replicas of one temperature, and write their frames, deviations and final frames."""
    from samplers.dynamics.langevin import run_langevin
    from samplers.dynamics.rows import COLUMNS as SAMPLED

    config = work.config
    sampling, selection = config.sampling, config.selection
    temperature = sampling.temperatures_kelvin[temperature_index]
    committee = load_committee(work.parts, config, iteration, work.device, evaluations=steps)
    around = surroundings_of(work.parts, config)
    starts = starting_frames(work.parts, config, iteration=iteration, temperature_kelvin=temperature, fresh=fresh)
    frames: list[Frame] = starts.frames
    member = None if sampling.driver == "mean" else driver(iteration, temperature_index, committee.n_members)
    expected = len(frames) * (steps // sampling.stride_steps)
    with work.write(streamed=True) as root:
        writer = SampleWriter(
            root,
            {name: SAMPLED[name] for name in WRITTEN},
            expected_frames=expected,
            expected_atoms=expected * len(frames[0]),
        )
        sampled = run_langevin(
            committee,
            frames,
            temperatures_kelvin=[temperature] * len(frames),
            driver=member,
            integration=Integration(
                steps=steps,
                stride_steps=sampling.stride_steps,
                timestep_fs=sampling.timestep_fs,
                friction_per_ps=sampling.friction_per_ps,
            ),
            stop=StopRules(
                stop_deviation=sampling.stop_deviation_mev_per_ang / MEV_PER_EV,
                trusted_deviation=trusted_mev_per_ang / MEV_PER_EV,
                stop_strides=sampling.stop_strides,
                deviation=selection.deviation,
            ),
            surroundings=around,
            refill=sampling.refill,
            seed=derived_seed(config.seed, "sample", iteration, temperature_index),
            device=committee.device,
            progress=work.progress,
            sink=writer.take,
        )
        writer.finish(sampled)
        root.attrs["temperature_kelvin"] = temperature
        root.attrs["steps"] = steps
        root.attrs["fresh"] = fresh
        first = root["start_step"][()] == 0
        root[CONTINUES] = first & starts.continues[root["slot"][()]]
        root.attrs["driver"] = "mean" if member is None else str(member)
        if around.wall is not None:
            root.attrs["wall_radius_ang"] = around.wall.radius_ang
        deviations = root["deviation_norm"][()]
        stopped = int(np.sum(root["stop_reason"][()] != COMPLETED))
        typical = MEV_PER_EV * float(np.median(deviations)) if len(deviations) else float("nan")
        summarise(
            root,
            f"{len(deviations)} frames, median deviation {typical:.0f} meV/Å, trajectories stopped: {stopped}",
        )
