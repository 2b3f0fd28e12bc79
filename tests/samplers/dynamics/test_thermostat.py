"""The ensemble at 300 to 900 K, against ASE's Langevin dynamics on the same forces and against theory."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.md.langevin import Langevin
from langevin_runs import flat_run
from scipy import stats

from al_engine.structures.elements import atomic_masses
from al_engine.structures.frames import Frame
from al_engine.units import BOLTZMANN_EV_PER_KELVIN, EV_IN_AMU_ANG2_PER_FS2

TEMPERATURES = (300.0, 500.0, 700.0, 900.0)
NUMBERS = np.array([8, 6, 7])
TRIANGLE = np.array([[0.0, 0, 0], [1.2, 0, 0], [0.6, 1.04, 0]])
DOF = 6  # without the centre of mass
TIMESTEP_FS, FRICTION_PER_FS = 0.5, 0.05
SETTLE_STEPS, STRIDE_STEPS, SAMPLES = 400, 150, 6  # a stride is 75 fs: 3.75 relaxation times of the velocities
COPIES = 150


@dataclass(frozen=True)
class Ensemble:
    """Samples of independent copies, each array (samples, copies)."""

    kinetic_kelvin: np.ndarray
    energy: np.ndarray
    gradient_squared: np.ndarray
    laplacian: np.ndarray


@dataclass(frozen=True)
class MorseTriangle:
    """D (1 - exp(-a (r - r0)))² between all three atoms, with its gradient and Laplacian by hand."""

    depth: float = 4.0
    width: float = 2.0
    length: float = 1.2
    n_members: int = 1

    def evaluate(self, positions):
        """Energies (B,), forces (B, 3, 3) and Laplacians (B,) at positions (B, 3, 3)."""
        i, j = [0, 0, 1], [1, 2, 2]
        vectors = positions[:, i] - positions[:, j]
        r = np.linalg.norm(vectors, axis=-1)
        decay = np.exp(-self.width * (r - self.length))
        first = 2 * self.depth * self.width * decay * (1 - decay)
        second = 2 * self.depth * self.width**2 * decay * (2 * decay - 1)
        pull = (first / r)[..., None] * vectors
        forces = np.zeros_like(positions)
        for pair in range(3):
            forces[:, i[pair]] -= pull[:, pair]
            forces[:, j[pair]] += pull[:, pair]
        laplacian = 2 * (second + 2 * first / r).sum(1)  # of both atoms of a pair
        return (self.depth * (1 - decay) ** 2).sum(1), forces, laplacian

    def bind(self, frames):
        del frames
        return self

    def energy_and_forces(self, positions, member):
        del member
        energies, forces, _ = self.evaluate(positions.numpy().reshape(-1, 3, 3))
        return torch.from_numpy(energies), torch.from_numpy(forces.reshape(-1, 3))

    def member_forces(self, positions):
        return self.energy_and_forces(positions, 0)[1][None]

    def ensemble(self, positions, kinetic_kelvin):
        """From positions (samples, copies, 3, 3) and kinetic temperatures (samples, copies)."""
        energy, forces, laplacian = self.evaluate(positions.reshape(-1, 3, 3))
        shape = kinetic_kelvin.shape
        squared = (forces**2).sum((1, 2)).reshape(shape)
        return Ensemble(kinetic_kelvin, energy.reshape(shape), squared, laplacian.reshape(shape))


def test_the_potential_is_its_formula():
    potential, step = MorseTriangle(), 1e-4
    positions = TRIANGLE + 0.1 * np.random.default_rng(0).normal(size=(3, 3))
    energy, forces, laplacian = potential.evaluate(positions[None])
    shifts = step * np.eye(9).reshape(9, 3, 3)
    up, down = (potential.evaluate(positions + sign * shifts)[0] for sign in (1, -1))
    np.testing.assert_allclose(forces.ravel(), -(up - down) / (2 * step), rtol=0, atol=1e-5)
    assert laplacian[0] == pytest.approx(((up + down - 2 * energy) / step**2).sum(), rel=1e-5)


@pytest.fixture(scope="module")
def ours():
    """One run of all temperatures: its ensembles by temperature."""
    frame = Frame(numbers=NUMBERS, positions=TRIANGLE)
    run = flat_run(
        MorseTriangle(),
        [frame] * (len(TEMPERATURES) * COPIES),
        temperatures_kelvin=np.repeat(TEMPERATURES, COPIES),
        steps=SETTLE_STEPS + SAMPLES * STRIDE_STEPS,
        timestep_fs=TIMESTEP_FS,
        friction_per_ps=1000 * FRICTION_PER_FS,
        stride_steps=50,
        stop_deviation=1.0,
        seed=1,
    )
    assert {reason.value for reason in run.stop_reason} == {"completed"}
    kept = (run.step > SETTLE_STEPS) & ((run.step - SETTLE_STEPS) % STRIDE_STEPS == 0)
    shape = (SAMPLES, len(TEMPERATURES), COPIES)
    positions = np.array([f.positions for f, k in zip(run.frames, kept, strict=True) if k]).reshape(*shape, 3, 3)
    kinetic = run.kinetic_kelvin[kept].reshape(shape)
    return {T: MorseTriangle().ensemble(positions[:, k], kinetic[:, k]) for k, T in enumerate(TEMPERATURES)}


class _Copies(Calculator):
    """The potential of many triangles in a single Atoms object, without interactions between triangles."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energies, forces, _ = MorseTriangle().evaluate(atoms.positions.reshape(-1, 3, 3))
        self.results = {"energy": energies.sum(), "forces": forces.reshape(-1, 3)}


def ase_ensemble(kelvin):
    """The same by ASE: as many independent copies, temperature without each copy's centre of mass."""
    rng, masses = np.random.default_rng(round(kelvin)), atomic_masses(NUMBERS)
    atoms = Atoms(numbers=np.tile(NUMBERS, COPIES), positions=np.tile(TRIANGLE, (COPIES, 1)))
    atoms.calc = _Copies()
    atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * np.sqrt(units.kB * kelvin * atoms.get_masses())[:, None])
    dynamics = Langevin(
        atoms,
        timestep=TIMESTEP_FS * units.fs,
        temperature_K=kelvin,
        friction=FRICTION_PER_FS / units.fs,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(SETTLE_STEPS)
    positions, kinetic = [], []
    for _ in range(SAMPLES):
        dynamics.run(STRIDE_STEPS)
        positions.append(atoms.positions.reshape(-1, 3, 3).copy())
        velocities = atoms.get_velocities().reshape(-1, 3, 3) * units.fs  # Å/fs
        velocities -= np.einsum("i,rij->rj", masses / masses.sum(), velocities)[:, None]
        twice = np.einsum("i,rij->r", masses, velocities**2) / EV_IN_AMU_ANG2_PER_FS2
        kinetic.append(twice / (DOF * BOLTZMANN_EV_PER_KELVIN))
    return MorseTriangle().ensemble(np.array(positions), np.array(kinetic))


@pytest.mark.parametrize("kelvin", TEMPERATURES)
def test_distributions_are_those_of_ases_langevin(kelvin, ours):
    """Kinetic temperature, potential energy and squared force: two-sample Kolmogorov-Smirnov tests."""
    mine, ases = ours[kelvin], ase_ensemble(kelvin)
    for name in ("kinetic_kelvin", "energy", "gradient_squared"):
        p = stats.ks_2samp(getattr(mine, name).ravel(), getattr(ases, name).ravel()).pvalue
        assert p > 1e-3, name
    for other in set(TEMPERATURES) - {kelvin}:  # the test tells neighbouring temperatures apart
        assert stats.ks_2samp(ours[other].energy.ravel(), ases.energy.ravel()).pvalue < 1e-6


@pytest.mark.parametrize("kelvin", TEMPERATURES)
def test_kinetic_temperature_is_chi_squared(kelvin, ours):
    kinetic = ours[kelvin].kinetic_kelvin.ravel() * DOF / kelvin
    assert stats.kstest(kinetic, stats.chi2(DOF).cdf).pvalue > 1e-3
    assert kinetic.mean() == pytest.approx(DOF, abs=4 * np.sqrt(2 * DOF / kinetic.size))


@pytest.mark.parametrize("kelvin", TEMPERATURES)
def test_configurational_temperature_is_the_thermostats(kelvin, ours):
    """kT = <|grad U|²> / <lap U> (Rugh, Phys. Rev. Lett. 78, 772 (1997)); its error from independent copies."""
    ensemble, kt = ours[kelvin], BOLTZMANN_EV_PER_KELVIN * kelvin
    residual = (ensemble.gradient_squared - kt * ensemble.laplacian).mean(0)  # one per copy; zero on average
    error = residual.std(ddof=1) / np.sqrt(COPIES)
    assert abs(residual.mean()) < 4 * error
    assert error / ensemble.laplacian.mean() / kt < 0.06  # else this tests nothing
