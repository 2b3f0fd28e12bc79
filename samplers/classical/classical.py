"""Classical MD for the initial set: MMFF94 with OpenMM if it has parameters for the system, else UFF with RDKit."""

from typing import Protocol

import numpy as np

from al_engine.errors import InputError
from al_engine.structures.frames import FloatArray
from samplers.building.molecules import Molecule, minimise
from samplers.building.system import System
from samplers.classical.mmff import mmff_properties
from samplers.dynamics.walls import SphericalWall, extent

_WALL_MARGIN_ANG = 2.0
"""Distance of the wall from the outermost atom of a packed cluster, Å."""
_MOST_NEIGHBOURS = 4
"""Largest number of bonds of an atom for which RDKit's UFF is usable.

For more bonds RDKit's UFF lacks angle terms, so that two fluorine atoms of PF6- may coincide.
"""


class ClassicalMD(Protocol):
    """A trajectory of a system by Langevin dynamics with a classical force field."""

    @property
    def positions(self) -> FloatArray:
        """Positions in Å, shape (N, 3); molecules are whole."""

    @property
    def velocities(self) -> FloatArray:
        """Velocities in Å/fs, shape (N, 3)."""

    def minimise(self) -> None:
        """Move the atoms to a nearby energy minimum."""

    def thermalise(self, kelvin: float) -> None:
        """Draw Maxwell-Boltzmann velocities at a temperature (K)."""

    def restart(self, positions: FloatArray, velocities: FloatArray, *, seed: int) -> None:
        """Continue from positions (Å) and velocities (Å/fs), both of shape (N, 3), with random numbers from `seed`.

        From then on the trajectory depends only on these arguments, not on earlier steps.
        """

    def advance(self, steps: int, kelvin: float) -> None:
        """Run a number of steps with the thermostat at a temperature (K).

        Raises:
            FloatingPointError: If the trajectory is no longer finite.
        """


def force_field_of(system: System, *, boxed: bool = False) -> str:
    """Select the classical force field of a system.

    Args:
        system: The system.
        boxed: Whether the molecules of a cluster will be annealed in a periodic box, from which clusters are then cut.

    Returns:
        `MMFF94` or `UFF`.

    Raises:
        InputError: If no force field can be used: bond orders are unknown, parameters are missing, an atom has too many
            bonds for UFF, a periodic box has no MMFF94 parameters, or its cell is not orthorhombic.
    """
    from rdkit import rdBase
    from rdkit.Chem import rdForceFieldHelpers

    molecule, frame = system.molecule, system.frame
    if molecule.rdkit is None:
        raise InputError(
            f"no bond orders fit {molecule.source} at charge {molecule.charge:+d}, so it has no classical force field"
        )
    if mmff_properties(molecule) is not None:
        if frame.is_periodic and not np.allclose(frame.cell, np.diag(np.diag(frame.cell))):
            raise InputError(f"{molecule.source}: classical MD takes only orthorhombic boxes along x, y and z")
        return "MMFF94"
    with rdBase.BlockLogs():
        has_uff = rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule.rdkit)
    if not has_uff:
        raise InputError(f"neither MMFF94 nor UFF has parameters for {molecule.source}")
    if any(atom.GetDegree() > _MOST_NEIGHBOURS for atom in molecule.rdkit.GetAtoms()):
        raise InputError(
            f"{molecule.source} has an atom with more than {_MOST_NEIGHBOURS} neighbours, which UFF squeezes together"
        )
    if frame.is_periodic or boxed:
        raise InputError(f"MMFF94 has no parameters for {molecule.source}, and UFF supports no periodic box")
    return "UFF"


def minimised_positions(molecule: Molecule) -> FloatArray:
    """Relax a molecule to a nearby minimum of MMFF94, or of UFF if MMFF94 has no parameters.

    Args:
        molecule: A molecule with bond orders, of n atoms.

    Returns:
        Positions in Å, shape (n, 3).
    """
    from rdkit import Chem, rdBase

    mol = Chem.Mol(molecule.rdkit)
    with rdBase.BlockLogs():
        minimise(mol, mmff=mmff_properties(molecule) is not None)
    positions: FloatArray = mol.GetConformer().GetPositions()
    return positions


def open_classical_md(system: System, *, seed: int, timestep_fs: float, friction_per_ps: float = 5.0) -> ClassicalMD:
    """Set up classical MD that starts from a system's packed structure; a spherical wall keeps clusters together.

    Args:
        system: The system.
        seed: Seed of velocities and noise.
        timestep_fs: Time step, fs.
        friction_per_ps: Langevin friction, 1/ps.

    Returns:
        The trajectory at its start.

    Raises:
        InputError: If the system has no classical force field (`force_field_of`).
    """
    frame = system.frame
    wall = None if frame.is_periodic else SphericalWall(radius_ang=extent(frame) + _WALL_MARGIN_ANG)
    if force_field_of(system) == "UFF":
        from samplers.classical.uff import UffMD

        return UffMD(system, seed=seed, timestep_fs=timestep_fs, friction_per_ps=friction_per_ps, wall=wall)
    from samplers.classical.openmm_md import OpenmmMD

    return OpenmmMD(system, seed=seed, timestep_fs=timestep_fs, friction_per_ps=friction_per_ps, wall=wall)
