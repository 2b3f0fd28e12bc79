"""Classical Langevin MD with RDKit's UFF, for clusters of molecules for which MMFF94 has no parameters."""

from functools import reduce
from typing import Any

import numpy as np

from al_engine.structures.elements import atomic_masses
from al_engine.structures.frames import FloatArray
from al_engine.units import BOLTZMANN_EV_PER_KELVIN, EV_IN_AMU_ANG2_PER_FS2
from samplers.building.system import System
from samplers.dynamics.walls import SphericalWall, centre_of_mass

KCAL_IN_EV = 1.0 / 23.060548
_RELAX_ITERATIONS = 2000


class UffMD:
    """Langevin MD with UFF (`samplers.classical.classical.ClassicalMD`).

    The integrator is BAOAB, as in `samplers.dynamics.langevin`.

    Args:
        system: The system, a cluster.
        seed: Seed of velocities and noise.
        timestep_fs: Time step, fs.
        friction_per_ps: Langevin friction, 1/ps.
        wall: Wall that keeps the cluster together, or None.
    """

    def __init__(
        self, system: System, *, seed: int, timestep_fs: float, friction_per_ps: float, wall: SphericalWall | None
    ) -> None:
        self._field = uff_force_field(system.molecule.rdkit, system.n_molecules)
        self._positions = np.array(system.frame.positions - centre_of_mass(system.frame))
        self._velocities = np.zeros_like(self._positions)
        self._masses = atomic_masses(system.frame.numbers)[:, None]
        self._rng = np.random.default_rng(seed)
        self._timestep, self._friction = timestep_fs, 1e-3 * friction_per_ps
        self._wall = wall

    @property
    def positions(self) -> FloatArray:
        """Positions in Å, shape (N, 3)."""
        return self._positions.copy()

    @property
    def velocities(self) -> FloatArray:
        """Velocities in Å/fs, shape (N, 3)."""
        return self._velocities.copy()

    def minimise(self) -> None:
        """Move the atoms to a nearby energy minimum (L-BFGS); the wall is ignored."""
        from scipy.optimize import minimize

        shape = self._positions.shape
        found = minimize(
            lambda x: energy_and_gradient(self._field, x),
            self._positions.ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _RELAX_ITERATIONS},
        )
        self._positions = found.x.reshape(shape)

    def thermalise(self, kelvin: float) -> None:
        """Draw Maxwell-Boltzmann velocities at a temperature (K)."""
        self._velocities = self._thermal(kelvin)

    def restart(self, positions: FloatArray, velocities: FloatArray, *, seed: int) -> None:
        """Continue from positions (Å) and velocities (Å/fs), both of shape (N, 3), with new random numbers.

        The trajectory then depends only on these arguments, not on earlier steps.
        """
        self._positions, self._velocities = positions.copy(), velocities.copy()
        self._rng = np.random.default_rng(seed)

    def _thermal(self, kelvin: float) -> FloatArray:
        """Random Maxwell-Boltzmann velocities without net momentum, Å/fs, shape (N, 3)."""
        spread = np.sqrt(BOLTZMANN_EV_PER_KELVIN * kelvin * EV_IN_AMU_ANG2_PER_FS2 / self._masses)
        velocities = spread * self._rng.standard_normal(self._positions.shape)
        drift = (self._masses * velocities).sum(axis=0) / self._masses.sum()
        thermal: FloatArray = velocities - drift
        return thermal

    def _acceleration(self) -> FloatArray:
        """Accelerations by UFF and the wall, Å/fs², shape (N, 3); the wall's net force is removed."""
        x = self._positions
        forces = -KCAL_IN_EV * energy_and_gradient(self._field, x.ravel())[1].reshape(x.shape)
        if self._wall is not None:
            distance = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
            push = -self._wall.force_constant * np.maximum(distance - self._wall.radius_ang, 0.0) / distance * x
            forces += push - self._masses / self._masses.sum() * push.sum(axis=0)
        acceleration: FloatArray = forces * EV_IN_AMU_ANG2_PER_FS2 / self._masses
        return acceleration

    def advance(self, steps: int, kelvin: float) -> None:
        """Integrate a number of steps with the thermostat at a temperature (K).

        Raises:
            FloatingPointError: If the trajectory is no longer finite.
        """
        half = 0.5 * self._timestep
        decay = float(np.exp(-self._friction * self._timestep))
        scale = float(np.sqrt(1.0 - decay**2))
        acceleration = self._acceleration()
        for _ in range(steps):
            self._velocities += half * acceleration
            self._positions += half * self._velocities
            self._velocities = decay * self._velocities + scale * self._thermal(kelvin)
            self._positions += half * self._velocities
            acceleration = self._acceleration()
            self._velocities += half * acceleration
        if not np.isfinite(self._positions).all():
            raise FloatingPointError("positions are not finite")


def uff_force_field(mol: Any, count: int) -> Any:
    """Set up RDKit's UFF for `count` copies of a molecule, without a cut-off."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdForceFieldHelpers

    with rdBase.BlockLogs():
        combined = reduce(Chem.CombineMols, [mol] * count)
        Chem.SanitizeMol(combined)
        field = rdForceFieldHelpers.UFFGetMoleculeForceField(combined, vdwThresh=1e6, ignoreInterfragInteractions=False)
    field.Initialize()
    return field


def energy_and_gradient(field: Any, coordinates: FloatArray) -> tuple[float, FloatArray]:
    """Compute energy (kcal/mol) and gradient (kcal/mol/Å, shape (3N,)) at coordinates in Å, shape (3N,).

    The energy is computed first, because RDKit caches distances and only the energy call renews them.
    """
    flat = coordinates.tolist()
    energy = field.CalcEnergy(flat)
    return energy, np.array(field.CalcGrad(flat))
