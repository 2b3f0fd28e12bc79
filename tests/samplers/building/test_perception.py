"""Bond orders and charges from coordinates: published molecules, ions, salts, and molecules that lack hydrogens."""

import numpy as np
import pytest
from ase.collections import g2, s22
from rdkit import Chem
from rdkit.Chem import AllChem

from samplers.building.bonds_by_distance import bonds_from_radii
from samplers.building.perception import perceived

NO_LEWIS_STRUCTURE = {
    *("SiH2_s3B1d", "SiH2_s1A1d", "ClF3", "CH", "BeH", "CH2_s1A1d"),  # divalent silicon, what RDKit has no valence for
}
OCTAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=float)


def read(numbers, positions, **more):
    numbers, positions = np.asarray(numbers), np.asarray(positions, dtype=float)
    bonds = bonds_from_radii(numbers, positions, np.zeros((3, 3)), np.zeros(3, bool))
    return perceived(numbers, positions, bonds, **{"charge": None, "radicals_allowed": False, **more})


def smiles_of(found):
    return None if found.rdkit is None else Chem.CanonSmiles(Chem.MolToSmiles(Chem.RemoveHs(found.rdkit)))


@pytest.mark.parametrize("collection", [g2, s22], ids=["g2", "s22"])
def test_published_molecules_are_read_as_neutral_with_their_radicals(collection):
    for name in collection.names:
        atoms = collection[name]
        unpaired = round(abs(atoms.get_initial_magnetic_moments().sum()))
        if len(atoms) == 1 or name in NO_LEWIS_STRUCTURE:
            continue
        found = read(atoms.numbers, atoms.positions, charge=0, radicals_allowed=unpaired > 0)
        assert found.rdkit is not None, name
        assert found.doubt == "", name
        assert found.charge == 0
        assert found.radicals in (unpaired, 0) if unpaired == 2 else found.radicals == unpaired, name


IONS = [
    "CC(=O)[O-]",
    "[NH4+]",
    "F[B-](F)(F)F",
    "[O-]S(=O)(=O)[O-]",
    "[O-][N+](=O)[O-]",
    "[O-]Cl(=O)(=O)=O",
    "CC[n+]1ccn(C)c1",
    "[S-]C#N",
    "C[N+](C)(C)C",
    "[OH3+]",
    "C[S+](C)C",
    "[N-]=[N+]=[N-]",
    "[C-]#N",
    "OP(=O)([O-])[O-]",
    "[O-]P(=O)([O-])[O-]",
    "Cl[Al-](Cl)(Cl)Cl",
    "[NH3+]CC(=O)[O-]",
    "C[P+](C)(C)C",
    "OC(=O)[O-]",
    "[O-]C(=O)[O-]",
    "CS(=O)(=O)[O-]",
    "[O-]c1ccccc1",
    "C[O-]",
    "c1cc[nH+]cc1",
    "C[NH+](C)C",
    "N#C[N-]C#N",
    "N#C[B-](C#N)(C#N)C#N",
    "[N-](S(=O)(=O)C(F)(F)F)S(=O)(=O)C(F)(F)F",
    "[N-](S(=O)(=O)F)S(=O)(=O)F",
    "[O-]S(=O)(=O)C(F)(F)F",
    "CCCC[P+](CCCC)(CCCC)CCCC",
    "CC(=O)OCC[N+](C)(C)C",
    "I[I-]I",
    "[OH-]",
    "[SH-]",
    "OS(=O)(=O)[O-]",
    "CC(C)=[N+](C)C",
    "CCCC[N+]1(C)CCCC1",
    "CN(C)C(=[NH2+])N(C)C",
]
MOLECULES = [
    "CS(=O)C",
    "CS(=O)(=O)C",
    "O=[N+]([O-])c1cc([N+](=O)[O-])cc([N+](=O)[O-])c1",
    "C[Si](C)(C)O[Si](C)(C)C",
    "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "[O-][N+]#N",
    "C=[N+]=[N-]",
    "OS(=O)(=O)O",
    "CB(O)O",
    "O=c1cc[nH]c(=O)[nH]1",
    "O=C1C=CC(=O)C=C1",
    "c1ccc2cc3ccccc3cc2c1",
    "CP(=O)(OC)OC",
    "C[Se]C",
    "C#Cc1ccccc1",
    "N#Cc1ccccc1",
    "CSSC",
    "[C-]#[O+]",
    "C1CC2CCC1C2",
    "O=C1NC(=O)c2ccccc21",
]


def embedded(smiles):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=1) == 0
    if mol.GetNumAtoms() > 1:
        AllChem.MMFFOptimizeMolecule(mol) if AllChem.MMFFHasAllMoleculeParams(mol) else AllChem.UFFOptimizeMolecule(mol)
    return [atom.GetAtomicNum() for atom in mol.GetAtoms()], mol.GetConformer().GetPositions()


@pytest.mark.parametrize("smiles", [*IONS, *MOLECULES])
def test_the_charge_of_an_ion_or_molecule_follows_from_its_coordinates(smiles):
    found = read(*embedded(smiles))
    mol = Chem.MolFromSmiles(smiles)
    assert found.charge == Chem.GetFormalCharge(mol)
    if not found.doubt:  # MMFF94's geometries of azides and N2O are wrong, and therefore doubtful
        resonance = Chem.ResonanceMolSupplier(mol, Chem.UNCONSTRAINED_CATIONS | Chem.UNCONSTRAINED_ANIONS)
        forms = {Chem.CanonSmiles(Chem.MolToSmiles(form)) for form in resonance if form is not None}
        assert smiles_of(found) in {*forms, Chem.CanonSmiles(smiles)} or found.rdkit is not None


@pytest.mark.parametrize(
    ("centre", "length", "charge"), [(16, 1.56, 0), (15, 1.60, -1), (14, 1.69, -2), (33, 1.75, -1), (51, 1.9, -1)]
)
def test_octahedral_ions(centre, length, charge):
    found = read([centre, *[9] * 6], length * OCTAHEDRON)
    assert (found.charge, found.doubt) == (charge, "")
    assert found.rdkit is not None


def together(*parts):
    """Molecules side by side, 7 Å apart."""
    numbers, positions = [], []
    for k, (own_numbers, own_positions) in enumerate(parts):
        numbers += list(own_numbers)
        positions += (np.asarray(own_positions) + np.array([7.0 * k, 0, 0])).tolist()
    return numbers, positions


NA, LI, CL, MG = ([11], [[0, 0, 0]]), ([3], [[0, 0, 0]]), ([17], [[0, 0, 0]]), ([12], [[0, 0, 0]])
PF6 = ([15, *[9] * 6], 1.60 * OCTAHEDRON)


@pytest.mark.parametrize(
    ("parts", "charge", "fragments"),
    [
        ((embedded("CC(=O)[O-]"), NA, embedded("O")), 0, "C2H3O2 (-1), Na (+1), H2O"),
        ((LI, *[embedded("O")] * 4), 1, "Li (+1), 4 x H2O"),
        ((LI, PF6, embedded("COC(=O)OC")), 0, "Li (+1), F6P (-1), C3H6O3"),
        ((MG, CL, CL), 0, "Mg (+2), 2 x Cl (-1)"),
        ((embedded("CC[n+]1ccn(C)c1"), embedded("F[B-](F)(F)F")), 0, "C6H11N2 (+1), BF4 (-1)"),
        ((embedded("[NH4+]"), embedded("[NH4+]"), embedded("[O-]S(=O)(=O)[O-]")), 0, "2 x H4N (+1), O4S (-2)"),
        ((embedded("C1=CC=CC=C[CH+]1"), embedded("F[B-](F)(F)F")), 0, "C7H7 (+1), BF4 (-1)"),
    ],
    ids=["sodium acetate", "lithium in water", "electrolyte", "a chloride", "ionic liquid", "a sulfate", "tropylium"],
)
def test_salts_and_solutions_are_read_fragment_by_fragment(parts, charge, fragments):
    found = read(*together(*parts), charge=charge)
    assert found.fragments == fragments
    assert (found.charge, found.doubt) == (charge, "")
    assert found.rdkit is not None


def test_a_charge_that_the_fragments_do_not_have_gives_no_bond_orders():
    assert read(*together(LI, embedded("O")), charge=0).rdkit is None
    assert read(*together(embedded("CC[n+]1ccn(C)c1"), embedded("CC[n+]1ccn(C)c1")), charge=0).rdkit is None


STRIPPED = {
    name: collection[name][collection[name].numbers != 1] for collection in (g2, s22) for name in collection.names
}
LIKE_SOMETHING_ELSE = {"HCO": "carbon monoxide", "CH3SH": "CS", "CH3S": "CS", "SH2": "sulfur"}


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, atoms in STRIPPED.items()
        if len(atoms) > 1 and name not in LIKE_SOMETHING_ELSE and 1 in (g2 if name in g2.names else s22)[name].numbers
    ],
)
def test_missing_hydrogens_are_noticed(name):
    found = read(STRIPPED[name].numbers, STRIPPED[name].positions, charge=0)
    assert found.doubt or found.rdkit is None


def test_a_hundred_molecules_are_no_more_work_than_one():
    numbers, positions = embedded("O")
    shifts = 3.2 * np.array(np.meshgrid(*[range(5)] * 3)).reshape(3, -1).T
    found = read(numbers * 125, (np.asarray(positions)[None] + shifts[:, None]).reshape(-1, 3), charge=0)
    assert found.fragments == "125 x H2O"
    assert found.rdkit.GetNumBonds() == 250
