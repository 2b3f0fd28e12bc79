"""The integrator's physics against closed forms and against ASE, and the stop of replicas that explode."""

import numpy as np
import pytest
import torch
from ase import units
from ase.calculators.calculator import Calculator, all_changes
from ase.data import atomic_masses as ase_masses
from ase.md.verlet import VelocityVerlet
from langevin_runs import flat_run
from scipy import stats

from al_engine.structures.bonds import Bonds
from al_engine.structures.elements import atomic_masses
from al_engine.structures.frames import Frame
from al_engine.units import BOLTZMANN_EV_PER_KELVIN, EV_IN_AMU_ANG2_PER_FS2
from samplers.dynamics.integrator import Batch
from samplers.dynamics.limits import StopReason
from samplers.dynamics.settings import StopRules, Surroundings
from samplers.dynamics.trajectory import Trajectory
from samplers.dynamics.walls import SphericalWall, centre_of_mass, wall_radius

DEFAULTS = {
    "steps": 40,
    "timestep_fs": 0.5,
    "friction_per_ps": 10.0,
    "stride_steps": 10,
    "stop_deviation": 1e9,
    "seed": 3,
}


def diatomic(length=1.2, numbers=(7, 7)):
    return Frame(numbers=np.array(numbers), positions=np.array([[0.0, 0, 0], [length, 0, 0]]))


def trajectory(frame, *, slot=0, target_kelvin=300.0, seed=0):
    return Trajectory.begin(
        frame,
        index=slot,
        slot=slot,
        attempt=0,
        step=0,
        target_kelvin=target_kelvin,
        stop=StopRules(stop_deviation=1e9),
        surroundings=Surroundings(),
        seed=seed,
    )


def trimer(rng):
    positions = np.array([[0.0, 0, 0], [1.2, 0, 0], [0.6, 1.04, 0]]) + 0.05 * rng.normal(size=(3, 3))
    return Frame(numbers=np.array([8, 6, 7]), positions=positions)


def test_masses_and_constants_are_ases():
    np.testing.assert_array_equal(atomic_masses(np.arange(1, 119)), ase_masses[1:])
    assert pytest.approx(units.kB, rel=1e-12) == BOLTZMANN_EV_PER_KELVIN
    assert pytest.approx(units.fs**2, rel=1e-12) == EV_IN_AMU_ANG2_PER_FS2


def test_harmonic_averages_are_baoabs_closed_forms(pair_potential):
    """Configurations are exactly canonical at any stable step; kinetic temperature is low by (omega h)²/4."""
    n, kelvin, stiffness, h = 3, 400.0, 4.0, 4.0
    apart = 5.0 * np.eye(n)  # far enough that no check for close atoms cuts the distribution
    frame = Frame(numbers=np.full(n, 6), positions=apart)
    sampled = flat_run(
        pair_potential(stiffness=stiffness, reference=apart),
        [frame] * 200,
        temperatures_kelvin=np.full(200, kelvin),
        steps=2000,
        timestep_fs=h,
        friction_per_ps=50.0,
        stride_steps=25,
        stop_deviation=1e9,
        seed=11,
    )
    settled = sampled.step > 200
    kt, dof = BOLTZMANN_EV_PER_KELVIN * kelvin, 3 * n - 3
    # 2U/kT of dof oscillators is chi²(dof); strides (100 fs at friction 0.05/fs) are decorrelated.
    energy = sampled.energy[settled] * 2 / kt
    error = np.sqrt(2 * dof / energy.size)
    assert energy.mean() == pytest.approx(dof, abs=5 * error)
    assert stats.kstest(energy[::4], stats.chi2(dof).cdf).pvalue > 1e-3
    omega_squared = n * stiffness * EV_IN_AMU_ANG2_PER_FS2 / 12.011
    expected = 1 - omega_squared * h**2 / 4
    assert expected < 0.98  # else this tests nothing
    kinetic = sampled.kinetic_kelvin[settled] / kelvin
    assert kinetic.mean() == pytest.approx(expected, abs=5 * error / dof)
    assert stats.kstest(kinetic[::4] * dof / expected, stats.chi2(dof).cdf).pvalue > 1e-3


def test_each_replica_has_its_own_temperature(pair_potential):
    targets = np.repeat([100.0, 900.0], 100)
    frame = diatomic(5.0)
    sampled = flat_run(
        pair_potential(reference=frame.positions.copy()),
        [frame] * 200,
        temperatures_kelvin=targets,
        **DEFAULTS | {"steps": 1000, "friction_per_ps": 50.0, "stride_steps": 100},
    )
    late = sampled.step > 300
    for kelvin in (100.0, 900.0):
        of_target = sampled.kinetic_kelvin[late & (sampled.temperature_kelvin == kelvin)]
        assert of_target.mean() == pytest.approx(kelvin, rel=5 * np.sqrt(2 / 3 / of_target.size) + 0.005)


def nve(potential, frame, *, timestep_fs, total_fs):
    """Total energies (eV) along a trajectory without friction."""
    stride = 4
    sampled = flat_run(
        potential,
        [frame],
        temperatures_kelvin=[600.0],
        steps=round(total_fs / timestep_fs),
        timestep_fs=timestep_fs,
        friction_per_ps=0.0,
        stride_steps=stride,
        stop_deviation=1e9,
        seed=5,
    )
    dof = 3 * len(frame) - 3
    return sampled.energy + 0.5 * dof * BOLTZMANN_EV_PER_KELVIN * sampled.kinetic_kelvin


def test_nve_energy_error_is_of_second_order(pair_potential, rng):
    frame = trimer(rng)
    errors = [np.std(nve(pair_potential("morse"), frame, timestep_fs=h, total_fs=200.0)[1:]) for h in (0.4, 0.2, 0.1)]
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(4.0, rel=0.15)


class _AsCalculator(Calculator):
    implemented_properties = ("energy", "forces")

    def __init__(self, potential):
        super().__init__()
        self.potential = potential

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        bound = self.potential.bind([atoms])
        energies, forces = bound.energy_and_forces(torch.from_numpy(atoms.get_positions()), 0)
        self.results = {"energy": float(energies[0]), "forces": forces.numpy()}


def test_without_friction_the_integrator_is_ases_velocity_verlet(pair_potential, rng):
    frame, potential = trimer(rng), pair_potential("morse")
    velocities = trajectory(frame, target_kelvin=500.0, seed=8).thermal_velocities(1)[0]
    atoms = frame.to_atoms()
    atoms.calc = _AsCalculator(potential)
    atoms.set_velocities(velocities / units.fs)
    VelocityVerlet(atoms, timestep=0.5 * units.fs).run(2000)
    sampled = flat_run(
        potential,
        [frame],
        temperatures_kelvin=[500.0],
        **DEFAULTS | {"friction_per_ps": 0.0, "steps": 2000, "seed": 8},
    )
    np.testing.assert_allclose(sampled.frames[-1].positions, atoms.positions, rtol=0, atol=1e-12)


def test_equal_seeds_give_equal_trajectories_and_other_seeds_other_trajectories(pair_potential, rng):
    frame = trimer(rng)
    runs = [
        flat_run(pair_potential("morse"), [frame] * 2, temperatures_kelvin=[300, 600], **DEFAULTS | {"seed": seed})
        for seed in (1, 1, 2)
    ]
    positions = [np.array([f.positions for f in run.frames]) for run in runs]
    np.testing.assert_array_equal(positions[0], positions[1])
    assert np.abs(positions[0] - positions[2]).max() > 1e-3


def test_centre_of_mass_stays(pair_potential, rng):
    frame = trimer(rng)
    wall = SphericalWall(radius_ang=0.4, force_constant=5.0)  # cuts into the molecule: its reaction matters
    sampled = flat_run(pair_potential("morse"), [frame], temperatures_kelvin=[900.0], wall=wall, **DEFAULTS)
    np.testing.assert_allclose(centre_of_mass(sampled.frames[-1]), centre_of_mass(frame), rtol=0, atol=1e-12)


def test_wall_force_is_the_gradient_of_its_energy(pair_potential, rng):
    frame, wall = trimer(rng), SphericalWall(radius_ang=0.3, force_constant=2.0)

    def energy(positions):
        moved = frame.with_positions(positions)
        beyond = np.linalg.norm(positions - centre_of_mass(moved), axis=1) - wall.radius_ang
        return 0.5 * wall.force_constant * (np.clip(beyond, 0, None) ** 2).sum()

    batch = Batch(pair_potential(stiffness=0.0), [trajectory(frame)], member=0, wall=wall)
    forces = batch.acceleration.numpy() * atomic_masses(frame.numbers)[:, None] / EV_IN_AMU_ANG2_PER_FS2
    step = 1e-5
    numeric = np.zeros((3, 3))
    for index in np.ndindex(3, 3):
        shift = np.zeros((3, 3))
        shift[index] = step
        numeric[index] = -(energy(frame.positions + shift) - energy(frame.positions - shift)) / (2 * step)
    assert np.abs(numeric).max() > 0.1
    np.testing.assert_allclose(forces, numeric, atol=1e-8)


def test_the_wall_holds_a_cluster_that_would_fly_apart(pair_potential):
    frames = [diatomic(3.0)] * 4
    wall = SphericalWall(radius_ang=wall_radius(frames), force_constant=1.0)
    free = pair_potential(stiffness=0.0)
    options = DEFAULTS | {"steps": 2000, "stride_steps": 100, "friction_per_ps": 1.0}
    walled = flat_run(free, frames, temperatures_kelvin=[900.0] * 4, wall=wall, **options)
    assert set(walled.stop_reason) == {StopReason.COMPLETED}
    loose = flat_run(free, frames, temperatures_kelvin=[900.0] * 4, **options)
    assert StopReason.ESCAPED in loose.stop_reason


def test_an_exploding_replica_leaves_the_others_bitwise_unchanged(pair_potential, rng):
    """The middle replica starts with an overstretched bond; sizes differ so that the flat layout shifts."""
    potential = pair_potential("morse", scales=(1.0, 1.1))
    sound = [diatomic(1.25), trimer(rng)]
    wild = Frame(numbers=np.array([1, 1]), positions=np.array([[0.0, 0, 0], [0.35, 0, 0]]))
    options = DEFAULTS | {"stop_deviation": 5.0}
    wall = SphericalWall(radius_ang=0.7)
    alone = flat_run(potential, [sound[0], sound[0], sound[1]], temperatures_kelvin=[300] * 3, wall=wall, **options)
    mixed = flat_run(potential, [sound[0], wild, sound[1]], temperatures_kelvin=[300] * 3, wall=wall, **options)
    assert mixed.stop_reason[1] in {StopReason.DEVIATION, StopReason.TOO_HOT, StopReason.TOO_CLOSE}
    assert mixed.stop_step[1] == 10
    assert mixed.stop_reason[0] == mixed.stop_reason[2] == StopReason.COMPLETED
    np.testing.assert_array_equal(mixed.final[1].positions, wild.positions)
    assert (mixed.replica == 1).sum() == 1
    assert not mixed.sound[mixed.replica == 1][0]
    assert mixed.sound.sum() == len(mixed.frames) - 1
    for place in (0, 2):
        np.testing.assert_array_equal(mixed.final[place].positions, alone.final[place].positions)
        for field in ("energy", "deviation_norm", "kinetic_kelvin", "worst_atom"):
            mine, theirs = (getattr(run, field)[run.replica == place] for run in (mixed, alone))
            np.testing.assert_array_equal(mine, theirs)


def test_forces_that_are_not_finite_stop_only_their_replica(pair_potential):
    on_top = Frame(numbers=np.array([6, 6]), positions=np.zeros((2, 3)))  # the Morse gradient at r = 0 is NaN
    run = flat_run(pair_potential("morse"), [on_top, diatomic()], temperatures_kelvin=[300] * 2, **DEFAULTS)
    assert run.stop_reason == (StopReason.NOT_FINITE, StopReason.COMPLETED)
    assert set(run.replica.tolist()) == {1}
    np.testing.assert_array_equal(run.final[0].positions, on_top.positions)


def test_deviation_of_a_scaled_committee_is_known(pair_potential):
    """Members F and 1.2 F: the population deviation of the vector is 0.1 |F|."""
    potential = pair_potential("morse", scales=(1.0, 1.2))
    run = flat_run(potential, [diatomic(1.4)], temperatures_kelvin=[300], **DEFAULTS)
    for frame, deviation, component in zip(run.frames, run.deviation_norm, run.deviation_component, strict=True):
        forces = potential.bind([frame]).energy_and_forces(torch.from_numpy(frame.positions.copy()), 0)[1].numpy()
        assert deviation == pytest.approx(0.1 * np.linalg.norm(forces, axis=1).max(), rel=1e-9)
        assert component == pytest.approx(0.1 * np.abs(forces).max(), rel=1e-9)


def test_a_broken_bond_stops_the_replica(pair_potential):
    frame = diatomic(1.2)
    bonds = Bonds(pairs=np.array([[0, 1]]), lengths=np.array([1.2]))
    apart = frame.with_positions([[0, 0, 0], [6.3, 0, 0]])
    free = pair_potential(stiffness=0.0)
    run = flat_run(free, [frame, apart], temperatures_kelvin=[1.0] * 2, bonds=bonds, **DEFAULTS)
    assert run.stop_reason == (StopReason.COMPLETED, StopReason.BOND_BROKEN)


def test_progress_reaches_the_end(pair_potential):
    seen = []
    flat_run(
        pair_potential("morse"),
        [diatomic()],
        temperatures_kelvin=[300],
        progress=lambda done, total, note="": seen.append((done, total, note)),
        **DEFAULTS,
    )
    assert seen == [(done, 40, "1 of 1 replicas") for done in (10, 20, 30, 40)]


def test_a_wall_around_a_periodic_frame_is_refused(pair_potential):
    frame = Frame(numbers=np.array([7]), positions=np.zeros((1, 3)), cell=np.eye(3) * 5, pbc=np.ones(3, bool))
    with pytest.raises(ValueError, match="periodic"):
        flat_run(pair_potential(), [frame], temperatures_kelvin=[300], wall=SphericalWall(3.0), **DEFAULTS)
