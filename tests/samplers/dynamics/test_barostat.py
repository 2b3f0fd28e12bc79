"""The barostat: exact distributions of the volume, OpenMM's own barostat, the virial, and invariants of a move."""

from dataclasses import dataclass

import numpy as np
import openmm
import pytest
import torch
from ase import units
from langevin_runs import flat_run
from scipy import stats

from al_engine.structures.bonds import Bonds
from al_engine.structures.elements import atomic_masses
from al_engine.structures.frames import Frame
from al_engine.units import BOLTZMANN_EV_PER_KELVIN
from samplers.dynamics.barostat import BAR_IN_EV_PER_ANG3, Barostat, VolumeMoves, scaled, volume
from samplers.dynamics.limits import StopReason

MOLECULES, KELVIN, BOND_ANG = 8, 300.0, 1.4
REPLICAS = 8
EPSILON_EV, SIGMA_ANG, STIFFNESS = 0.01, 3.0, 20.0  # eV, Å, eV/Å²
CUTOFF_ANG = 2 ** (1 / 6) * SIGMA_ANG  # WCA: purely repulsive, energy and force continuous


def owner(molecules):
    return np.repeat(np.arange(molecules), 2)


def diatomics(molecules, side, *, skew=0.0):
    """Dumbbells on a cubic grid, pointing along random directions."""
    rng = np.random.default_rng(3)
    edge = round(molecules ** (1 / 3) + 0.499)
    grid = np.stack(np.meshgrid(*[np.arange(edge)] * 3), axis=-1).reshape(-1, 3)[:molecules]
    along = rng.normal(size=(molecules, 3))
    along *= 0.5 * BOND_ANG / np.linalg.norm(along, axis=1, keepdims=True)
    centres = (grid + 0.5) * side / edge
    cell = np.diag([side] * 3) + skew * np.tril(np.ones((3, 3)), -1)
    return Frame(
        numbers=np.tile([7, 8], molecules),
        positions=np.stack([centres - along, centres + along], axis=1).reshape(-1, 3),
        cell=cell,
        pbc=np.ones(3, dtype=bool),
    )


def bonds_of(frame):
    return Bonds.at(frame, np.arange(len(frame)).reshape(-1, 2))


@dataclass(frozen=True)
class Dumbbells:
    """Periodic diatomics with harmonic bonds, and WCA between atoms of different molecules if `contacts`."""

    contacts: bool = True
    n_members: int = 1

    def bind(self, frames):
        return _Bound(self, torch.stack([torch.from_numpy(f.cell.copy()) for f in frames]), len(frames[0]))


class _Bound:
    def __init__(self, model, cells, atoms):
        self.model, self.cells, self.atoms = model, cells, atoms
        self.i, self.j = (torch.from_numpy(index) for index in np.triu_indices(atoms, 1))
        apart = self.i // 2 != self.j // 2
        self.i, self.j = self.i[apart], self.j[apart]

    def energies(self, x, cells):
        bonds = (x[:, 1::2] - x[:, ::2]).norm(dim=2)
        energies = 0.5 * STIFFNESS * ((bonds - BOND_ANG) ** 2).sum(1)
        if not self.model.contacts:
            return energies
        vectors = x[:, self.i] - x[:, self.j]
        vectors = vectors - (vectors @ torch.linalg.inv(cells)).round() @ cells
        squares = (vectors**2).sum(2).clamp(max=CUTOFF_ANG**2)
        sixth = (SIGMA_ANG**2 / squares) ** 3
        return energies + (4 * EPSILON_EV * (sixth**2 - sixth) + EPSILON_EV).sum(1)

    def energy_and_forces(self, positions, member):
        del member
        x = positions.detach().view(len(self.cells), -1, 3).clone().requires_grad_()
        energies = self.energies(x, self.cells)
        (gradient,) = torch.autograd.grad(energies.sum(), x)
        return energies.detach(), -gradient.view(-1, 3)

    def member_forces(self, positions):
        return self.energy_and_forces(positions, 0)[1][None]


def run(model, frames, *, pressure_bar, steps, stride_steps=50, seed=5, **limits):
    return flat_run(
        model,
        frames,
        temperatures_kelvin=[KELVIN] * len(frames),
        steps=steps,
        timestep_fs=2.0,
        friction_per_ps=5.0,
        stride_steps=stride_steps,
        stop_deviation=1e9,
        seed=seed,
        bonds=bonds_of(frames[0]),
        barostat=Barostat(pressure_bar, owner(len(frames[0]) // 2), **limits),
    )


def test_the_unit_bar_is_right():
    assert pytest.approx(units.bar, rel=1e-8) == BAR_IN_EV_PER_ANG3  # ASE's eV/Å³


def gas_volumes(pressure_bar, start, **limits):
    """Decorrelated volumes in Å³ of 60 boxes of an ideal gas of dumbbells, by the barostat alone."""
    chains, moves, settled, apart = 60, 400, 150, 50
    volumes = []
    for chain in range(chains):
        frame = start
        own = VolumeMoves(
            Barostat(pressure_bar, owner(len(start) // 2), **limits),
            start,
            target_kelvin=KELVIN,
            masses=atomic_masses(start.numbers),
            seed=[17, chain],
        )
        for move in range(moves):
            trial = own.propose(frame)
            if trial is not None and own.accept(frame, trial, energy_change=0.0):
                frame = trial
            if move >= settled and move % apart == 0:
                volumes.append(volume(frame))
    return volumes


@pytest.mark.parametrize("pressure_bar", [200.0, 5000.0])
def test_an_ideal_gas_of_molecules_has_the_exact_distribution_of_volumes(pressure_bar):
    """N molecules of any size without mutual forces have V ~ Gamma(N + 1, kT/P): molecules count, not atoms."""
    molecules = 6
    scale = BOLTZMANN_EV_PER_KELVIN * KELVIN / (pressure_bar * BAR_IN_EV_PER_ANG3)
    volumes = gas_volumes(pressure_bar, diatomics(molecules, (3.0 * molecules * scale) ** (1 / 3)))  # far too large
    assert stats.kstest(volumes, stats.gamma(molecules + 1, scale=scale).cdf).pvalue > 1e-3
    for wrong in (molecules, molecules + 2, 2 * molecules + 1):  # the test can tell
        assert stats.kstest(volumes, stats.gamma(wrong, scale=scale).cdf).pvalue < 1e-3


def test_between_limits_the_distribution_is_cut_off():
    molecules, pressure_bar = 6, 1000.0
    scale = BOLTZMANN_EV_PER_KELVIN * KELVIN / (pressure_bar * BAR_IN_EV_PER_ANG3)
    smallest, largest = 5.0 * scale, 9.0 * scale
    start = diatomics(molecules, (7.0 * scale) ** (1 / 3))
    volumes = gas_volumes(pressure_bar, start, smallest_ang3=smallest, largest_ang3=largest)
    assert smallest <= min(volumes) < max(volumes) <= largest
    free = stats.gamma(molecules + 1, scale=scale)
    share = free.cdf(largest) - free.cdf(smallest)
    assert share < 0.6  # else the limits hardly matter
    assert stats.kstest(volumes, lambda v: (free.cdf(v) - free.cdf(smallest)) / share).pvalue > 1e-3


@pytest.fixture(scope="module")
def fluid():
    """A dense fluid at 3000 bar after it has settled: volumes, shape (samples, replicas), and the frames."""
    start = diatomics(MOLECULES, 8.2)
    sampled = run(Dumbbells(), [start] * REPLICAS, pressure_bar=3000.0, steps=6000)
    assert set(sampled.stop_reason) == {StopReason.COMPLETED}
    settled = [frame for frame, step in zip(sampled.frames, sampled.step, strict=True) if step > 1000]
    return np.array([volume(frame) for frame in settled]).reshape(-1, REPLICAS), settled


def mean_and_error(values):
    """Mean of independent replicas (samples, replicas), and its standard error."""
    of_replicas = values.mean(axis=0)
    return of_replicas.mean(), of_replicas.std(ddof=1) / np.sqrt(len(of_replicas))


def openmm_volumes(start, *, pressure_bar, seed):
    """Å³, from OpenMM's MonteCarloBarostat on the same potential, bonded atoms its molecules."""
    system = openmm.System()
    bond = openmm.HarmonicBondForce()
    kj = 1 / (units.kJ / units.mol)
    contacts = openmm.CustomNonbondedForce(
        f"step({0.1 * CUTOFF_ANG}-r)*(4*{EPSILON_EV * kj}*(({0.1 * SIGMA_ANG}/r)^12-({0.1 * SIGMA_ANG}/r)^6)"
        f"+{EPSILON_EV * kj})"
    )
    contacts.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    contacts.setCutoffDistance(0.1 * CUTOFF_ANG)
    for mass in atomic_masses(start.numbers):
        system.addParticle(mass)
        contacts.addParticle([])
    for atom in range(0, len(start), 2):
        bond.addBond(atom, atom + 1, 0.1 * BOND_ANG, 100 * STIFFNESS * kj)
        contacts.addExclusion(atom, atom + 1)
    system.setDefaultPeriodicBoxVectors(*(openmm.Vec3(*row) for row in 0.1 * start.cell))
    barostat = openmm.MonteCarloBarostat(pressure_bar, KELVIN, 10)
    barostat.setRandomNumberSeed(seed)
    for force in (bond, contacts, barostat):
        system.addForce(force)
    integrator = openmm.LangevinMiddleIntegrator(KELVIN, 5.0, 0.002)
    integrator.setRandomNumberSeed(seed)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(0.1 * start.positions)
    context.setVelocitiesToTemperature(KELVIN, seed)
    integrator.step(2000)
    volumes = []
    for _ in range(80):
        integrator.step(50)
        volumes.append(1000 * context.getState().getPeriodicBoxVolume()._value)
    return volumes


def test_mean_volume_of_a_fluid_is_openmms(fluid):
    start = diatomics(MOLECULES, 8.2)
    theirs = np.array([openmm_volumes(start, pressure_bar=3000.0, seed=seed) for seed in range(1, 1 + REPLICAS)]).T
    (ours, error), (expected, their_error) = mean_and_error(fluid[0]), mean_and_error(theirs)
    assert their_error / expected < 0.015  # else this tests nothing
    assert ours == pytest.approx(expected, abs=4 * np.hypot(error, their_error))
    assert np.std(fluid[0]) == pytest.approx(np.std(theirs), rel=0.3)


def test_mean_pressure_is_the_barostats(fluid):
    """<N kT / V - dU/dV> = P exactly, with dU/dV at rigid molecules."""
    pressures = []
    for frame in fluid[1]:
        masses, molecules = atomic_masses(frame.numbers), owner(MOLECULES)
        ends = [scaled(frame, 1 + h, masses=masses, fragment_of_atom=molecules) for h in (-1e-4, 1e-4)]
        energies = [
            float(Dumbbells().bind([end]).energy_and_forces(torch.from_numpy(end.positions.copy()), 0)[0])
            for end in ends
        ]
        slope = (energies[1] - energies[0]) / (volume(ends[1]) - volume(ends[0]))
        pressures.append(MOLECULES * BOLTZMANN_EV_PER_KELVIN * KELVIN / volume(frame) - slope)
    mean, error = mean_and_error(np.array(pressures).reshape(-1, REPLICAS) / BAR_IN_EV_PER_ANG3)
    assert error < 150.0
    assert mean == pytest.approx(3000.0, abs=4 * error)


def test_a_move_neither_rotates_nor_stretches_molecules():
    frame = diatomics(8, 9.0, skew=1.5)
    moved = scaled(frame, 1.07, masses=atomic_masses(frame.numbers), fragment_of_atom=owner(8))
    np.testing.assert_allclose(
        moved.positions[1::2] - moved.positions[::2], frame.positions[1::2] - frame.positions[::2], atol=1e-13
    )
    np.testing.assert_allclose(moved.cell, 1.07 * frame.cell, rtol=1e-15)
    masses = atomic_masses(frame.numbers)
    centres = [np.average(f.positions.reshape(-1, 2, 3), axis=1, weights=masses[:2]) for f in (frame, moved)]
    fractional = [np.diff(c, axis=0) @ np.linalg.inv(f.cell) for c, f in zip(centres, (frame, moved), strict=True)]
    np.testing.assert_allclose(fractional[1], fractional[0], atol=1e-13)
    middles = [np.average(f.positions, axis=0, weights=masses) for f in (frame, moved)]
    np.testing.assert_allclose(middles[1], middles[0], atol=1e-13)


def test_frames_carry_their_own_cells_and_molecules_stay_whole():
    """From a start whose atoms are scattered over periodic images."""
    start = diatomics(8, 9.0)
    images = np.random.default_rng(1).integers(-1, 2, size=(16, 3))
    images[::2] = 0  # first atoms stay, so that the bonds of the limits are those of the whole molecules
    scattered = start.with_positions(start.positions + images @ start.cell)
    sampled = flat_run(
        Dumbbells(),
        [scattered],
        temperatures_kelvin=[KELVIN],
        steps=500,
        timestep_fs=1.0,
        friction_per_ps=5.0,
        stride_steps=50,
        stop_deviation=1e9,
        seed=2,
        bonds=bonds_of(start),
        barostat=Barostat(500.0, owner(8)),
    )
    assert sampled.stop_reason == (StopReason.COMPLETED,)
    assert len({volume(frame) for frame in sampled.frames}) > 5
    for frame in sampled.frames:
        lengths = np.linalg.norm(frame.positions[1::2] - frame.positions[::2], axis=1)
        assert np.abs(lengths - BOND_ANG).max() < 0.5
    final = sampled.final[0]
    np.testing.assert_array_equal(final.cell, sampled.frames[-1].cell)


def test_replicas_do_not_see_each_other():
    """Bit for bit: volumes and positions next to a replica that accepts other moves."""
    frames = [diatomics(8, side) for side in (9.0, 12.0)]
    together = run(Dumbbells(), [frames[0], frames[0]], pressure_bar=2000.0, steps=300)
    beside_other = run(Dumbbells(), [frames[0], frames[1]], pressure_bar=2000.0, steps=300)
    mine, theirs = ([f for f, r in zip(s.frames, s.replica, strict=True) if r == 0] for s in (together, beside_other))
    for a, b in zip(mine, theirs, strict=True):
        assert a.content_hash() == b.content_hash()
    cells = {r: f.cell[0, 0] for f, r in zip(together.frames, together.replica, strict=True)}
    assert cells[0] != cells[1]


def test_equal_seeds_give_equal_volumes_and_other_seeds_other_volumes():
    frame = diatomics(8, 9.0)
    volumes = [
        [volume(f) for f in run(Dumbbells(), [frame], pressure_bar=2000.0, steps=300, seed=seed).frames]
        for seed in (1, 1, 2)
    ]
    assert volumes[0] == volumes[1] != volumes[2]


def test_energies_are_those_of_the_cells_the_frames_carry():
    sampled = run(Dumbbells(), [diatomics(8, 9.0)], pressure_bar=2000.0, steps=400)
    for frame, energy in zip(sampled.frames, sampled.energy, strict=True):
        expected = Dumbbells().bind([frame]).energy_and_forces(torch.from_numpy(frame.positions.copy()), 0)[0]
        assert energy == pytest.approx(float(expected), abs=1e-12)


def test_a_move_to_an_energy_that_is_not_a_number_is_not_accepted():
    start = diatomics(8, 9.0)
    own = VolumeMoves(Barostat(1.0, owner(8)), start, target_kelvin=KELVIN, masses=atomic_masses(start.numbers), seed=1)
    trial = own.propose(start)
    assert trial is not None
    assert not own.accept(start, trial, energy_change=np.nan)
    assert own.step_ang3 < 0.01 * volume(start)  # and the step is shorter next time


def test_a_barostat_for_clusters_is_refused(pair_potential):
    frame = Frame(numbers=np.array([7, 7]), positions=np.array([[0.0, 0, 0], [1.2, 0, 0]]))
    with pytest.raises(ValueError, match="periodic in all directions"):
        run(pair_potential(), [frame], pressure_bar=1.0, steps=50)
