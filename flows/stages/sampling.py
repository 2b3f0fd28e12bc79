"""Sampling at one temperature: from the parts of a campaign into its sample part."""

from typing import TYPE_CHECKING

import h5py

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.samples import COLUMNS, trusted_mev_per_ang
from al_engine.campaign.starts import starting_frames
from al_engine.files.frames_hdf5 import read_frames
from al_engine.files.part_file import open_part
from al_engine.protocols import Progress
from al_engine.seeds import derived_seed
from al_engine.structures.bonds import Bonds
from al_engine.structures.frames import Frame
from al_engine.structures.molecules import MoleculeTable
from al_engine.units import MEV_PER_EV
from flows.stages.sample_writer import SampleWriter
from samplers.dynamics.barostat import Barostat, volume
from samplers.dynamics.settings import Integration, StopRules, Surroundings
from samplers.dynamics.walls import SphericalWall, wall_radius

if TYPE_CHECKING:
    from models.inference.committee import Committee

SMALLEST_VOLUME, LARGEST_VOLUME = 0.5, 2.0
"""Volumes that a barostat may reach, in units of the smallest and the largest one among packed and initial boxes: at
ladders that pass the boiling point a liquid would become a gas, which takes long and has little to teach."""
WRITTEN = (*COLUMNS, "kinetic_kelvin", "energy")
"""Columns of a sample part."""


def surroundings_of(ledger: Ledger) -> Surroundings:
    """Read from the initial frames what all trajectories of a campaign have in common.

    Clusters get a wall, boxes at constant pressure a barostat.
    """
    sampling = ledger.config.sampling
    with open_part(ledger.part_path(names.INITIAL_FRAMES)) as root:
        system = read_frames(root["system"])[0]
        bonds = Bonds(pairs=root["bonds"][()], lengths=root["bond_lengths"][()])
        molecules = MoleculeTable.of(root["molecule_of_atom"][()], bonds.pairs)
        starts = read_frames(root["starts"])
    wall = barostat = None
    if not system.is_periodic:
        radius = sampling.wall_radius_ang or wall_radius(starts)
        wall = SphericalWall(radius_ang=radius, force_constant=sampling.wall_ev_per_ang2)
    elif sampling.pressure_bar is not None:
        volumes = [volume(frame) for frame in (system, *starts)]
        barostat = Barostat(
            pressure_bar=sampling.pressure_bar,
            fragment_of_atom=molecules.fragment_of_atom,
            smallest_ang3=SMALLEST_VOLUME * min(volumes),
            largest_ang3=LARGEST_VOLUME * max(volumes),
        )
    return Surroundings(wall=wall, bonds=bonds, barostat=barostat, fragment_of_atom=molecules.fragment_of_atom)


def sample_temperature(
    root: h5py.File,
    ledger: Ledger,
    committee: "Committee",
    *,
    iteration: int,
    temperature_index: int,
    steps: int,
    progress: Progress,
) -> None:
    """Run the replicas of one temperature, and write their frames, deviations and ends into an empty part."""
    from samplers.dynamics.langevin import run_langevin
    from samplers.dynamics.rows import COLUMNS as SAMPLED

    config = ledger.config
    sampling, selection = config.sampling, config.selection
    temperature = sampling.temperatures_kelvin[temperature_index]
    around = surroundings_of(ledger)
    frames: list[Frame] = starting_frames(ledger, iteration=iteration, temperature_kelvin=temperature)
    driver = None if sampling.driver == "mean" else names.driver(iteration, temperature_index, committee.n_members)
    expected = len(frames) * (steps // sampling.stride_steps)
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
        driver=driver,
        integration=Integration(
            steps=steps,
            stride_steps=sampling.stride_steps,
            timestep_fs=sampling.timestep_fs,
            friction_per_ps=sampling.friction_per_ps,
        ),
        stop=StopRules(
            stop_deviation=sampling.stop_deviation_mev_per_ang / MEV_PER_EV,
            trusted_deviation=trusted_mev_per_ang(ledger, iteration) / MEV_PER_EV,
            stop_strides=sampling.stop_strides,
            deviation=selection.deviation,
        ),
        surroundings=around,
        refill=sampling.refill,
        seed=derived_seed(config.seed, "sample", iteration, temperature_index),
        device=committee.device,
        progress=progress,
        sink=writer.take,
    )
    writer.finish(sampled)
    root.attrs["temperature_kelvin"] = temperature
    root.attrs["steps"] = steps
    root.attrs["driver"] = "mean" if driver is None else str(driver)
    if around.wall is not None:
        root.attrs["wall_radius_ang"] = around.wall.radius_ang
