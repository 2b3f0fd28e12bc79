"""Classical MD for initial structures: MMFF94 through OpenMM where it has parameters, else UFF through RDKit."""

from typing import Protocol

import numpy as np

from al_engine.errors import InputError
from al_engine.frames import FloatArray
from samplers.mmff import typed
from samplers.system import System
from samplers.walls import SphericalWall, extent

_WALL_MARGIN_ANG = 2.0


class ClassicalMD(Protocol):
    """A classical Langevin trajectory of one system. Positions are in Å, velocities in Å/fs, both of shape (N, 3)."""

    @property
    def positions(self) -> FloatArray:
        """Where the atoms are; molecules are whole."""

    @property
    def velocities(self) -> FloatArray:
        """How they move."""

    def minimise(self) -> None:
        """Move to a nearby energy minimum."""

    def thermalise(self, kelvin: float) -> None:
        """Draw Maxwell-Boltzmann velocities."""

    def restart(self, positions: FloatArray, velocities: FloatArray, *, seed: int) -> None:
        """Go on from a state with new random numbers; what comes depends on nothing that was before."""

    def advance(self, steps: int, kelvin: float) -> None:
        """Integrate some steps with the thermostat at a temperature.

        Raises:
            FloatingPointError: If the trajectory is no longer finite.
        """


def force_field_of(system: System) -> str:
    """The force field the system can be annealed with: MMFF94 or UFF.

    Raises:
        InputError: If there is none: bond orders unknown, elements without parameters, a box that only UFF could do.
    """
    from rdkit import rdBase
    from rdkit.Chem import rdForceFieldHelpers

    molecule = system.molecule
    advice = "bring your own frames (initial.source: file)"
    if molecule.rdkit is None:
        raise InputError(
            f"no bond orders fit {molecule.source} at charge {molecule.charge:+d}, so it has no classical force field: "
            f"{advice}, or say it as system.smiles"
        )
    if typed(molecule) is not None:
        return "MMFF94"
    with rdBase.BlockLogs():
        has_uff = rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule.rdkit)
    if not has_uff:
        raise InputError(f"neither MMFF94 nor UFF has parameters for {molecule.source}: {advice}")
    if system.frame.is_periodic:
        raise InputError(f"MMFF94 has no parameters for {molecule.source}, and UFF knows no periodic box: {advice}")
    return "UFF"


def open_classical_md(system: System, *, seed: int, timestep_fs: float, friction_per_ps: float = 5.0) -> ClassicalMD:
    """Classical MD of a system from its packed structure; clusters are kept together by a spherical wall.

    Args:
        system: The system.
        seed: Seed of velocities and noise.
        timestep_fs: Time step, fs.
        friction_per_ps: Langevin friction, 1/ps.

    Raises:
        InputError: As `force_field_of`, or if a periodic cell is not orthorhombic.
    """
    frame = system.frame
    wall = None if frame.is_periodic else SphericalWall(radius_ang=extent(frame) + _WALL_MARGIN_ANG)
    if force_field_of(system) == "UFF":
        from samplers.uff import UffMD

        return UffMD(system, seed=seed, timestep_fs=timestep_fs, friction_per_ps=friction_per_ps, wall=wall)
    from samplers.openmm_md import OpenmmMD

    if frame.is_periodic and not (frame.pbc.all() and np.allclose(frame.cell, np.diag(np.diag(frame.cell)))):
        raise InputError(
            f"{system.molecule.source}: the classical anneal takes orthorhombic boxes that are periodic in x, y and z; "
            "bring your own frames (initial.source: file)"
        )
    return OpenmmMD(system, seed=seed, timestep_fs=timestep_fs, friction_per_ps=friction_per_ps, wall=wall)
