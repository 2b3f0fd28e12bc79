"""Classical MD for initial structures: MMFF94 through OpenMM where it has parameters, else UFF through RDKit."""

from typing import Protocol

import numpy as np

from al_engine.errors import InputError
from al_engine.structures.frames import FloatArray
from samplers.building.molecules import Molecule, minimise
from samplers.building.system import System
from samplers.classical.mmff import typed
from samplers.dynamics.walls import SphericalWall, extent

_WALL_MARGIN_ANG = 2.0
_MOST_NEIGHBOURS = 4
"""RDKit's UFF has no angles between more: two fluorine atoms of PF6- may lie on each other."""


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


def force_field_of(system: System, *, boxed: bool = False) -> str:
    """The force field the system can be annealed with: MMFF94 or UFF.

    Args:
        system: The system.
        boxed: Whether it is annealed in a periodic box, to be cut out of it.

    Raises:
        InputError: If there is none: bond orders unknown, elements without parameters, a box that only UFF could do, a
            cell that is not orthorhombic.
    """
    from rdkit import rdBase
    from rdkit.Chem import rdForceFieldHelpers

    molecule, frame = system.molecule, system.frame
    if molecule.rdkit is None:
        raise InputError(
            f"no bond orders fit {molecule.source} at charge {molecule.charge:+d}, so it has no classical force field"
        )
    if typed(molecule) is not None:
        if frame.is_periodic and not np.allclose(frame.cell, np.diag(np.diag(frame.cell))):
            raise InputError(f"{molecule.source}: classical MD takes orthorhombic boxes along x, y and z alone")
        return "MMFF94"
    with rdBase.BlockLogs():
        has_uff = rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule.rdkit)
    if not has_uff:
        raise InputError(f"neither MMFF94 nor UFF has parameters for {molecule.source}")
    if any(atom.GetDegree() > _MOST_NEIGHBOURS for atom in molecule.rdkit.GetAtoms()):
        raise InputError(
            f"UFF squeezes atoms with more than {_MOST_NEIGHBOURS} neighbours, as {molecule.source} has them"
        )
    if frame.is_periodic or boxed:
        raise InputError(f"MMFF94 has no parameters for {molecule.source}, and UFF knows no periodic box")
    return "UFF"


def at_rest(molecule: Molecule) -> FloatArray:
    """Positions in Å, shape (n, 3), of a molecule at a minimum of MMFF94, else of UFF, that is near its own."""
    from rdkit import Chem, rdBase

    mol = Chem.Mol(molecule.rdkit)
    with rdBase.BlockLogs():
        minimise(mol, mmff=typed(molecule) is not None)
    positions: FloatArray = mol.GetConformer().GetPositions()
    return positions


def open_classical_md(system: System, *, seed: int, timestep_fs: float, friction_per_ps: float = 5.0) -> ClassicalMD:
    """Classical MD of a system from its packed structure; clusters are kept together by a spherical wall.

    Args:
        system: The system.
        seed: Seed of velocities and noise.
        timestep_fs: Time step, fs.
        friction_per_ps: Langevin friction, 1/ps.

    Raises:
        InputError: As `force_field_of`.
    """
    frame = system.frame
    wall = None if frame.is_periodic else SphericalWall(radius_ang=extent(frame) + _WALL_MARGIN_ANG)
    if force_field_of(system) == "UFF":
        from samplers.classical.uff import UffMD

        return UffMD(system, seed=seed, timestep_fs=timestep_fs, friction_per_ps=friction_per_ps, wall=wall)
    from samplers.classical.openmm_md import OpenmmMD

    return OpenmmMD(system, seed=seed, timestep_fs=timestep_fs, friction_per_ps=friction_per_ps, wall=wall)
