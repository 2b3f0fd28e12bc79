"""Input files that are too long to be written down: what `data/inputs/*.yaml` names in capital letters."""

from collections.abc import Callable, Sequence
from io import StringIO

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import write
from ase.units import Bohr
from rdkit import Chem
from rdkit.Chem import AllChem

HALF_EMPTY_SITE = """data_t
_cell_length_a 8.0
_cell_length_b 8.0
_cell_length_c 8.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
O1 O 0.5 0.5 0.5 0.5
H1 H 0.62 0.5 0.5 1.0
H2 H 0.47 0.61625 0.5 1.0
"""


def embedded(smiles: str) -> Chem.Mol:
    """A molecule in three dimensions, with its hydrogens."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    return mol


def atoms_of(smiles: str, *, away: Sequence[float] = (0.0, 0.0, 0.0)) -> Atoms:
    """The same as ASE's atoms, moved."""
    mol = embedded(smiles)
    symbols = [atom.GetSymbol() for atom in mol.GetAtoms()]
    return Atoms(symbols, mol.GetConformer().GetPositions() + np.asarray(away))


def extxyz(images: Atoms | list[Atoms]) -> str:
    """Images as extended XYZ."""
    text = StringIO()
    write(text, images, format="extxyz")
    return text.getvalue()


def jiggled(atoms: Atoms, count: int = 60) -> list[Atoms]:
    """Copies with atoms moved by some 0.04 Å."""
    random = np.random.default_rng(1)
    copies = [atoms.copy() for _ in range(count)]
    for copy in copies:
        copy.positions += random.normal(0.0, 0.04, copy.positions.shape)
    return copies


def water_frames(change: Callable[[int, Atoms], None]) -> str:
    """880 frames of a water molecule, each changed by its number."""
    frames = jiggled(molecule("H2O"), 880)
    for index, atoms in enumerate(frames):
        change(index, atoms)
    return extxyz(frames)


def every_other(**said: Sequence[float]) -> str:
    """Frames of which every other says another value of a key."""
    return water_frames(
        lambda index, atoms: atoms.info.update({key: values[index % 2] for key, values in said.items()})
    )


def labels(energy: str, forces: str) -> str:
    """Frames with labels under the given names."""

    def add(index: int, atoms: Atoms) -> None:
        atoms.info[energy] = -2000.0 + index
        atoms.arrays[forces] = np.full((3, 3), 0.1)

    return water_frames(add)


def in_bohr(_: int, atoms: Atoms) -> None:
    """Write Å as bohr."""
    atoms.positions /= Bohr


def in_a_chain(_: int, atoms: Atoms) -> None:
    """Repeat along one direction."""
    atoms.set_cell([10.0, 10.0, 10.0])
    atoms.pbc = (False, False, True)


def reversed_frames(atoms: Atoms) -> str:
    """Frames with the atoms in the opposite order."""
    return extxyz([copy[::-1] for copy in jiggled(atoms, 880)])


def waters(count: int) -> Atoms:
    """Water molecules on a cubic grid of 3.2 Å."""
    grid = np.stack(np.meshgrid(*[np.arange(5)] * 3), axis=-1).reshape(-1, 3)[:count] * 3.2
    atoms = Atoms()
    for place in grid:
        copy = molecule("H2O")
        copy.translate(place)
        atoms += copy
    return atoms


PAIR = atoms_of("[NH4+]") + Atoms("Cl", [[3.2, 0.0, 0.0]])
SALT_WATER = Atoms("NaCl", [[0.0, 0.0, 0.0], [2.5, 0.0, 0.0]]) + atoms_of("O", away=(0.0, 3.5, 0.0))
INPUTS: dict[str, Callable[[], str]] = {
    "DICATION": lambda: Chem.MolToMolBlock(embedded("[NH3+]CC[NH3+]")),
    "TWO_RECORDS": lambda: "".join(Chem.MolToMolBlock(embedded(smiles)) + "$$$$\n" for smiles in ("CCO", "[OH-]")),
    "HALF_EMPTY_SITE": lambda: HALF_EMPTY_SITE,
    "MIXED_CHARGES": lambda: every_other(charge=(0, 1), unpaired_electrons=(0, 1)),
    "MIXED_TOTAL_CHARGES": lambda: every_other(total_charge=(0, 2)),
    "MIXED_MULTIPLICITIES": lambda: every_other(multiplicity=(1, 3)),
    "REF_LABELS": lambda: labels("REF_energy", "REF_forces"),
    "DFT_LABELS": lambda: labels("dft_energy", "dft_forces"),
    "CHAIN_FRAMES": lambda: water_frames(in_a_chain),
    "BOHR_FRAMES": lambda: water_frames(in_bohr),
    "TETRAMETHYLAMMONIUM_CHLORIDE": lambda: extxyz(atoms_of("C[N+](C)(C)C") + Atoms("Cl", [[0.0, 0.0, 4.5]])),
    "TETRAMETHYLPHOSPHONIUM": lambda: extxyz(atoms_of("C[P+](C)(C)C")),
    "WATERS_101": lambda: extxyz(waters(101)),
    "AMMONIUM_CHLORIDE": lambda: extxyz(PAIR),
    "AMMONIUM_CHLORIDE_FRAMES": lambda: reversed_frames(PAIR),
    "SODIUM_CHLORIDE_WATER": lambda: extxyz(SALT_WATER),
    "SODIUM_CHLORIDE_WATER_FRAMES": lambda: reversed_frames(SALT_WATER),
}
