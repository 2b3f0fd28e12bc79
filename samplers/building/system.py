"""The system of a campaign: from the config's `system` section to a packed frame."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from al_engine.config import SystemConfig
from al_engine.errors import InputError
from al_engine.seeds import derived_seed
from al_engine.structures.bonds import Bonds, fragment_of_atom
from al_engine.structures.clusters import ClusterCut, gathered
from al_engine.structures.elements import atomic_masses
from al_engine.structures.frames import Frame, IntArray
from al_engine.structures.molecules import MoleculeTable
from samplers.building.electrons import electrons_by_fragment, open_shell, unpaired_of
from samplers.building.file_molecules import molecule_from_file
from samplers.building.mixtures import built_from_smiles, mixture
from samplers.building.molecules import Molecule, other_conformer
from samplers.building.packing import AMU_PER_ANG3_IN_G_PER_CM3, pack_box, pack_cluster
from samplers.reading.charge_spin import resolve_charge_and_spin

_SAME_DENSITY = 0.02
"""Largest relative difference of two densities that count as equal."""


@dataclass(frozen=True, slots=True, eq=False)
class System:
    """Packed copies of a molecule; the atoms are ordered copy after copy.

    Attributes:
        frame: The packed structure, with total charge and unpaired electrons.
        molecule: A single copy.
        n_molecules: Number of copies.
        bonds: All bonds, with the packed structure's lengths as equilibrium lengths.
        molecules: Copy and bonded fragment of each atom.
        density_g_per_cm3: Density that the config names, or None.
        cut: For a cluster that stands for all clusters cut from a box: how they are cut. Otherwise None.
    """

    frame: Frame
    molecule: Molecule
    n_molecules: int
    bonds: Bonds
    molecules: MoleculeTable
    density_g_per_cm3: float | None = None
    cut: ClusterCut | None = None

    @classmethod
    def of_copies(
        cls,
        frame: Frame,
        molecule: Molecule,
        count: int,
        *,
        density_g_per_cm3: float | None = None,
        cut: ClusterCut | None = None,
    ) -> "System":
        """The system of a packed frame of `count` copies of a molecule; other arguments are attributes."""
        bonds = tiled_bonds(molecule, count)
        return cls(
            frame=frame,
            molecule=molecule,
            n_molecules=count,
            bonds=Bonds.at(frame, bonds),
            molecules=MoleculeTable.of(np.repeat(np.arange(count), len(molecule)), bonds),
            density_g_per_cm3=density_g_per_cm3,
            cut=cut,
        )

    @property
    def has_ions(self) -> bool:
        """Whether a molecule of the system is charged, as far as bond orders tell."""
        return bool(self.frame.charge) or any(charge for charge, _ in electrons_by_fragment(self.molecule) or ())

    @property
    def has_open_shells(self) -> bool:
        """Whether a molecule of the system has unpaired electrons, as far as bond orders tell."""
        unpaired = any(spin for _, spin in electrons_by_fragment(self.molecule) or ())
        return bool(self.frame.unpaired_electrons) or unpaired

    @property
    def several_fragments(self) -> bool:
        """Whether a copy consists of several molecules."""
        return bool(fragment_of_atom(len(self.molecule), self.molecule.bonds).max())


def tiled_bonds(molecule: Molecule, count: int) -> IntArray:
    """Bonds of `count` copies, shape (count * n_bonds, 2)."""
    shifts = len(molecule) * np.arange(count)
    pairs: IntArray = (molecule.bonds[None, :, :] + shifts[:, None, None]).reshape(-1, 2)
    return pairs


def load_molecule(config: SystemConfig, *, base_dir: Path, seed: int) -> Molecule:
    """Load the molecule that a config names; a relative `structure` path counts from `base_dir`.

    Raises:
        InputError: If the molecule can't be read or built.
    """
    if config.smiles is not None:
        return built_from_smiles(config.smiles, seed=seed)
    if config.species:
        found = [
            (_species(config, index, base_dir=base_dir, seed=derived_seed(seed, "species", index)), each.count)
            for index, each in enumerate(config.species)
        ]
        molecule = mixture(found, seed=seed)
        if any(part.charge_stated for part, _ in found):
            _refuse_other_charge(config, molecule, "the charges of the species")
        return molecule
    if config.structure is None:
        raise InputError("give exactly one of system.smiles, system.structure and system.species")
    per_molecule, remainder = divmod(config.charge or 0, config.molecules)
    divides = config.charge is not None and not remainder  # otherwise the charge of a copy is read from the file
    molecule = molecule_from_file(
        base_dir / config.structure,
        charge=per_molecule if divides else None,
        unpaired_electrons=config.unpaired_electrons if config.molecules == 1 else None,
        elements=config.elements,
        index=config.structure_frame,
        spin_stated=config.unpaired_electrons is not None,
    )
    if molecule.charge_stated:
        _refuse_other_charge(config, molecule, f"the charge that {molecule.source} states")
    return molecule


def _refuse_other_charge(config: SystemConfig, molecule: Molecule, of_what: str) -> None:
    """Refuse a total charge that is not the sum of stated charges.

    Raises:
        InputError: If `system.charge` is another.
    """
    total = config.molecules * molecule.charge
    if config.charge not in (None, total):
        raise InputError(
            f"system.charge: {config.charge:+d} e contradicts {of_what}, {total:+d} e in all; remove system.charge, or "
            "correct those charges"
        )


def _species(system: SystemConfig, index: int, *, base_dir: Path, seed: int) -> Molecule:
    """Load a molecule of a mixture, with its charge and unpaired electrons.

    Raises:
        InputError: If the molecule can't be read or built, or has an impossible charge or spin.
    """
    config, section = system.species[index], f"system.species.{index}"
    if config.structure is not None:
        molecule = molecule_from_file(
            base_dir / config.structure,
            charge=config.charge,
            unpaired_electrons=config.unpaired_electrons,
            elements=system.elements,
            index=config.structure_frame,
            section=section,
        )
    else:
        molecule = built_from_smiles(config.smiles or "", seed=seed, section=section)
    open_spin = config.unpaired_electrons is None and system.unpaired_electrons is not None
    if molecule.components:
        stated = config.charge is not None or config.unpaired_electrons is not None
        if stated or (molecule.radical_electrons and not open_spin):
            raise InputError(
                f"{section}: {molecule.source} are several molecules, so it is not known which of them has the charge "
                "or the unpaired electrons; list each of them as a species of its own"
            )
        return molecule
    charge = molecule.charge if config.charge is None else config.charge
    fewest = (int(molecule.numbers.sum()) - charge) % 2
    charge, unpaired = resolve_charge_and_spin(
        numbers=molecule.numbers,
        molecules=1,
        charge=config.charge,
        unpaired_electrons=fewest if open_spin else config.unpaired_electrons,
        molecule_charge=molecule.charge,
        molecule_formal_charge=molecule.formal_charge,
        molecule_radical_electrons=molecule.radical_electrons,
        molecule_unpaired_electrons=molecule.unpaired_electrons,
        molecule_open_shell=open_shell(molecule),
        source=molecule.source,
        section=section,
    )
    stated = molecule.charge_stated or config.charge is not None
    if open_spin:  # `system.unpaired_electrons` decides
        return replace(molecule, charge=charge, charge_stated=stated)
    return replace(
        molecule,
        charge=charge,
        charge_stated=stated,
        radical_electrons=unpaired,
        unpaired_electrons=unpaired or None,
    )


def build_system(config: SystemConfig, *, base_dir: Path, seed: int) -> System:
    """Build the molecule, resolve charge and spin, and pack the copies.

    A periodic structure file with `shape: box` and a single copy keeps its own cell; other boxes are cubic at the given
    density. With `shape: cluster`, which must then be given explicitly, a periodic structure is made whole and loses
    its cell.

    Args:
        config: The `system` section.
        base_dir: The folder that relative paths count from.
        seed: Seed of conformer and packing.

    Raises:
        InputError: If the molecule can't be read, has atoms without an element, has an impossible charge or spin, or
            can't be packed.
    """
    molecule = load_molecule(config, base_dir=base_dir, seed=seed)
    return packed_system(molecule, config, count=config.molecules, seed=seed)


def packed_system(molecule: Molecule, config: SystemConfig, *, count: int, seed: int) -> System:
    """Pack `count` copies of a finished molecule into the shape that the config names.

    Raises:
        InputError: As `build_system`.
    """
    numbers = np.tile(molecule.numbers, count)
    charge, unpaired = resolve_charge_and_spin(
        numbers=numbers,
        molecules=count,
        charge=config.charge,
        unpaired_electrons=config.unpaired_electrons,
        molecule_charge=molecule.charge,
        molecule_formal_charge=molecule.formal_charge,
        molecule_radical_electrons=molecule.radical_electrons,
        molecule_unpaired_electrons=molecule.unpaired_electrons,
        molecule_open_shell=open_shell(molecule),
        source=molecule.source,
    )
    if charge % count == 0:
        molecule = replace(molecule, charge=charge // count)
    _refuse_lost_cell(molecule, config, count)
    pack_seed = derived_seed(seed, "packing")
    cell, pbc = np.zeros((3, 3)), np.zeros(3, dtype=bool)
    if molecule.pbc.any() and not (config.shape == "box" and count == 1):
        # It leaves its cell, which may have wrapped a molecule of several fragments, and has no images from now on.
        fragments = fragment_of_atom(len(molecule), molecule.bonds)
        placed = gathered(molecule.positions, fragments, molecule.cell, molecule.pbc)
        molecule = replace(molecule, positions=placed, cell=np.zeros((3, 3)), pbc=np.zeros(3, dtype=bool))
    if config.shape != "box":
        positions = pack_cluster(molecule, count, seed=pack_seed)
    elif molecule.pbc.all() and count == 1:
        positions, cell, pbc = molecule.positions, molecule.cell, molecule.pbc
    elif config.density_g_per_cm3 is None:
        raise InputError(
            f"system.density_g_per_cm3: needed for a box of {count} x {molecule.source}, which "
            f"{'is not periodic itself' if count == 1 else 'are packed into a new cell'}"
        )
    else:
        positions, cell = pack_box(molecule, count, density_g_per_cm3=config.density_g_per_cm3, seed=pack_seed)
        pbc = np.ones(3, dtype=bool)
    frame = Frame(numbers=numbers, positions=positions, cell=cell, pbc=pbc, charge=charge, unpaired_electrons=unpaired)
    return System.of_copies(frame, molecule, count, density_g_per_cm3=config.density_g_per_cm3)


def _refuse_lost_cell(molecule: Molecule, config: SystemConfig, count: int) -> None:
    """Refuse a config that would drop the cell of a structure file.

    Raises:
        InputError: If the cell would be dropped or contradicted; the message names the option that decides.
    """
    if not molecule.pbc.any():
        return
    where = molecule.source
    if config.shape is None:
        raise InputError(
            f"{where} has a periodic cell; set system.shape: box to simulate that cell (`--shape box`), or cluster to "
            "simulate its molecules without the cell"
        )
    if molecule.endless and (config.shape == "cluster" or count > 1):
        raise InputError(
            f"{where} is bonded to its own periodic images, so it has no molecules that could be taken out of its cell "
            "or copied; set system.shape: box and system.molecules: 1"
        )
    if config.shape == "box" and count == 1 and config.density_g_per_cm3 is not None:
        own = _density(molecule)
        if abs(own / config.density_g_per_cm3 - 1.0) > _SAME_DENSITY:
            raise InputError(
                f"system.density_g_per_cm3: {config.density_g_per_cm3:g} contradicts the cell of {where}, which is "
                f"kept and has {own:.4g}; remove system.density_g_per_cm3"
            )


def _density(molecule: Molecule) -> float:
    """Density of a periodic structure, g/cm³."""
    mass = float(atomic_masses(molecule.numbers).sum())
    return mass * AMU_PER_ANG3_IN_G_PER_CM3 / abs(float(np.linalg.det(molecule.cell)))


def unpaired_of_copy(system: System) -> int:
    """Unpaired electrons of a single copy of a system's molecule; the fewest possible if they are not stated."""
    if system.n_molecules == 1:
        return system.frame.unpaired_electrons
    return unpaired_of(system.molecule)


def repacked(system: System, *, seed: int) -> System:
    """Pack a cluster again, from another seed; periodic systems and molecules on their own are returned unchanged.

    Raises:
        InputError: If the cluster can't be packed.
    """
    if system.frame.is_periodic or (system.n_molecules == 1 and not system.molecule.components):
        return system
    positions = pack_cluster(system.molecule, system.n_molecules, seed=derived_seed(seed, "packing"))
    return replace(system, frame=system.frame.with_positions(positions))


def independent_start(system: System, *, seed: int) -> System:
    """The system in another start structure, for a run that is independent of runs from the packed structure.

    A cluster is packed again (`repacked`). A molecule on its own starts from another conformer, if its conformer was
    embedded from a SMILES and RDKit finds another. Periodic systems and molecules from files are returned unchanged.

    Raises:
        InputError: If the cluster can't be packed.
    """
    molecule = system.molecule
    if system.frame.is_periodic or system.n_molecules > 1 or not molecule.embedded:
        return repacked(system, seed=seed)
    positions = other_conformer(molecule, seed=derived_seed(seed, "conformer"))
    if positions is None:
        return system
    centred = positions - positions.mean(axis=0)
    return replace(system, frame=system.frame.with_positions(centred))


def boxed(system: System, count: int, *, seed: int) -> System:
    """Pack a periodic box of `count` molecules at the system's density, to cut clusters from; for classical MD only.

    Raises:
        InputError: If the config names no density, or the molecules do not fit.
    """
    if system.density_g_per_cm3 is None:
        raise InputError("initial.box_molecules needs a density; set system.density_g_per_cm3")
    positions, cell = pack_box(
        system.molecule, count, density_g_per_cm3=system.density_g_per_cm3, seed=derived_seed(seed, "packing")
    )
    frame = Frame(
        numbers=np.tile(system.molecule.numbers, count),
        positions=positions,
        cell=cell,
        pbc=np.ones(3, dtype=bool),
        charge=count * system.molecule.charge,
        unpaired_electrons=0,  # a classical force field has no electrons
    )
    return System.of_copies(frame, system.molecule, count, density_g_per_cm3=system.density_g_per_cm3)
