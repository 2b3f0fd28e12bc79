"""Classical Langevin MD with MMFF94 in OpenMM."""

from typing import Any

import numpy as np

from al_engine.structures.frames import FloatArray
from samplers.building.system import System
from samplers.classical.mmff import KCAL_IN_KJ, mmff_system
from samplers.dynamics.walls import SphericalWall, centre_of_mass

_ANG_IN_NM = 0.1
_ANG_PER_FS_IN_NM_PER_PS = 100.0
_EV_IN_KJ_PER_MOL = 23.060548 * KCAL_IN_KJ
_RELAX_TOLERANCE = 10.0  # kJ/mol/nm
_RELAX_ITERATIONS = 2000
_REFERENCE_UP_TO_ATOMS = 200
"""Number of atoms up to which OpenMM's Reference platform is at least as fast on one core as its CPU platform."""


class OpenmmMD:
    """Langevin MD with MMFF94 (`samplers.classical.classical.ClassicalMD`).

    OpenMM runs in a single thread, so that equal seeds give equal trajectories.

    Args:
        system: The system.
        seed: Seed of velocities and noise.
        timestep_fs: Time step, fs.
        friction_per_ps: Langevin friction, 1/ps.
        wall: Wall that keeps a cluster together, or None.
    """

    def __init__(
        self, system: System, *, seed: int, timestep_fs: float, friction_per_ps: float, wall: SphericalWall | None
    ) -> None:
        import openmm

        frame = system.frame
        cell = frame.cell if frame.is_periodic else None
        model = mmff_system(system.molecule, system.n_molecules, cell=cell)
        if wall is not None:
            model.addForce(_wall_force(wall, len(frame)))
        model.addForce(openmm.CMMotionRemover(10))
        self._seed = _openmm_seed(seed)
        self._integrator = openmm.LangevinMiddleIntegrator(300.0, friction_per_ps, timestep_fs * 1e-3)
        self._integrator.setRandomNumberSeed(self._seed)
        if len(frame) <= _REFERENCE_UP_TO_ATOMS:
            platform, options = openmm.Platform.getPlatformByName("Reference"), {}
        else:
            platform = openmm.Platform.getPlatformByName("CPU")
            options = {"Threads": "1", "DeterministicForces": "true"}
        self._context = openmm.Context(model, self._integrator, platform, options)
        origin = np.zeros(3) if wall is None else centre_of_mass(frame)  # centre of the wall
        self._context.setPositions((frame.positions - origin) * _ANG_IN_NM)

    @property
    def positions(self) -> FloatArray:
        """Positions in Å, shape (N, 3); molecules are whole."""
        import openmm

        state = self._context.getState(positions=True)  # enforcePeriodicBox defaults to False: molecules stay whole
        nanometres = state.getPositions(asNumpy=True).value_in_unit(openmm.unit.nanometer)
        return np.array(nanometres, dtype=np.float64) / _ANG_IN_NM

    @property
    def velocities(self) -> FloatArray:
        """Velocities in Å/fs, shape (N, 3)."""
        import openmm

        unit = openmm.unit.nanometer / openmm.unit.picosecond
        nanometres = self._context.getState(velocities=True).getVelocities(asNumpy=True).value_in_unit(unit)
        return np.array(nanometres, dtype=np.float64) / _ANG_PER_FS_IN_NM_PER_PS

    def minimise(self) -> None:
        """Move the atoms to a nearby energy minimum (L-BFGS)."""
        import openmm

        openmm.LocalEnergyMinimizer.minimize(self._context, _RELAX_TOLERANCE, _RELAX_ITERATIONS)

    def thermalise(self, kelvin: float) -> None:
        """Draw Maxwell-Boltzmann velocities at a temperature (K)."""
        self._context.setVelocitiesToTemperature(kelvin, self._seed)

    def restart(self, positions: FloatArray, velocities: FloatArray, *, seed: int) -> None:
        """Continue from positions (Å) and velocities (Å/fs), both of shape (N, 3), with new random numbers.

        The trajectory then depends only on these arguments, not on earlier steps.
        """
        self._integrator.setRandomNumberSeed(_openmm_seed(seed))
        self._context.reinitialize()  # otherwise the seed has no effect and old neighbour lists are used
        self._context.setPositions(positions * _ANG_IN_NM)
        self._context.setVelocities(velocities * _ANG_PER_FS_IN_NM_PER_PS)

    def advance(self, steps: int, kelvin: float) -> None:
        """Integrate a number of steps with the thermostat at a temperature (K).

        Raises:
            FloatingPointError: If the trajectory is no longer finite.
        """
        import openmm

        self._integrator.setTemperature(kelvin)
        try:
            self._integrator.step(steps)
        except openmm.OpenMMException as error:
            raise FloatingPointError(str(error)) from error
        if not np.isfinite(self.positions).all():
            raise FloatingPointError("positions are not finite")


def _openmm_seed(seed: int) -> int:
    """Convert a seed to the range that OpenMM accepts, without 0, for which OpenMM chooses a random seed."""
    return seed % (2**31 - 2) + 1


def _wall_force(wall: SphericalWall, n_atoms: int) -> Any:
    """A spherical wall about the origin as an OpenMM force, harmonic outside of its radius."""
    import openmm

    force = openmm.CustomExternalForce(
        "k/2*max(0, r-radius)^2; r=sqrt(x^2+y^2+z^2+1e-12)"  # the offset keeps the gradient finite at the origin
    )
    force.addGlobalParameter("k", wall.force_constant * _EV_IN_KJ_PER_MOL / _ANG_IN_NM**2)
    force.addGlobalParameter("radius", wall.radius_ang * _ANG_IN_NM)
    for atom in range(n_atoms):
        force.addParticle(atom, [])
    return force
