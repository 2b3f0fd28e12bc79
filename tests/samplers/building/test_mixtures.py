"""Mixtures and salts: numbers, charges and spins of their molecules, and how they are packed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write
from rdkit import Chem

from al_engine.config.labels import LabelsConfig
from al_engine.config.reader import parse_config
from al_engine.config.selection import SelectionConfig
from al_engine.config.system import SystemConfig
from al_engine.config.writer import config_text
from al_engine.errors import InputError
from al_engine.structures.bonds import bond_lengths
from labelers.checks.reference import ReferenceMethod
from samplers.building.clusters import cluster_of
from samplers.building.electrons import electrons_by_fragment
from samplers.building.molecules import molecule_from_smiles
from samplers.building.packing import AMU_PER_ANG3_IN_G_PER_CM3, contact_radii
from samplers.building.system import build_system, repacked
from samplers.classical.classical import force_field_of
from samplers.classical.mmff import mmff_system
from samplers.initial.file_frames import in_system_order
from samplers.initial.reference_geometry import relaxed_system

SOLUTION = [{"smiles": "O", "count": 5}, {"smiles": "CO", "count": 2}]
BRINE = [{"smiles": "[Na+]"}, {"smiles": "[Cl-]"}, {"smiles": "O", "count": 6}]


def built(base_dir=Path(), seed=3, **options):
    return build_system(SystemConfig(**options), base_dir=base_dir, seed=seed)


@pytest.mark.parametrize(
    ("options", "formula", "charge", "unpaired", "molecules"),
    [
        ({"species": SOLUTION}, "C2H18O7", 0, 0, 7),
        ({"species": BRINE}, "H12ClNaO6", 0, 0, 8),
        ({"species": BRINE[::2]}, "H12NaO6", 1, 0, 7),
        ({"smiles": "[Na+].[Cl-]"}, "ClNa", 0, 0, 2),
        ({"smiles": "[Mg+2].[Cl-].[Cl-]", "molecules": 2}, "Cl4Mg2", 0, 0, 6),
        ({"smiles": "C[NH3+].O.O"}, "CH10NO2", 1, 0, 3),
        ({"smiles": "O.O"}, "H4O2", 0, 0, 2),
        ({"species": [{"smiles": "[Na+].[Na+]"}, {"smiles": "[O-2]"}]}, "Na2O", 0, 0, 3),
        ({"species": [{"smiles": "[CH3]"}, {"smiles": "O"}], "unpaired_electrons": 1}, "CH5O", 0, 1, 2),
        ({"species": [{"smiles": "O.[OH]"}, {"smiles": "O"}], "unpaired_electrons": 1}, "H5O3", 0, 1, 3),
        ({"species": [{"smiles": "O", "charge": 1, "unpaired_electrons": 1}, {"smiles": "O"}]}, "H4O2", 1, 1, 2),
        ({"smiles": "C1.C1"}, "C2H6", 0, 0, 1),  # a ring closure across a dot is a bond
        ({"species": [{"smiles": "[Na+].[Cl-]", "count": 2}]}, "Cl2Na2", 0, 0, 4),
        ({"species": [{"smiles": "[CH3]", "count": 2, "unpaired_electrons": 1}, {"smiles": "C"}]}, "C3H10", 0, 2, 3),
        ({"species": [{"smiles": "O=O", "unpaired_electrons": 2}, {"smiles": "O"}]}, "H2O3", 0, 2, 2),
    ],
)
def test_what_it_consists_of(options, formula, charge, unpaired, molecules):
    system = built(**options)
    found = system.frame.to_atoms().get_chemical_formula(), system.frame.charge, system.frame.unpaired_electrons
    assert found == (formula, charge, unpaired)
    assert system.molecules.fragment_of_atom.max() + 1 == molecules


@pytest.mark.parametrize("box", [False, True])
def test_molecules_are_whole_and_apart(box):
    """Each has the geometry that it has alone; atoms of different molecules are as far apart as their radii ask."""
    shape = {"shape": "box", "density_g_per_cm3": 0.9} if box else {}
    system = built(species=SOLUTION, molecules=2, **shape)
    atoms, owner = system.frame.to_atoms(), system.molecules.fragment_of_atom
    alone = {smiles: built(smiles=smiles).molecule for smiles in ("O", "CO")}
    for fragment in range(owner.max() + 1):
        own = atoms[owner == fragment]
        assert any(
            np.array_equal(own.numbers, kind.numbers)
            and np.allclose(own.get_all_distances(), kind_distances(kind), atol=0.03)
            for kind in alone.values()
        )
    distances = atoms.get_all_distances(mic=box)
    radii = contact_radii(atoms.numbers)
    between = owner[:, None] != owner[None, :]
    assert (distances / (radii[:, None] + radii[None, :]))[between].min() > (0.89 if box else 0.99)
    if box:
        density = atoms.get_masses().sum() * AMU_PER_ANG3_IN_G_PER_CM3 / atoms.get_volume()
        assert density == pytest.approx(0.9, rel=1e-3)


def kind_distances(kind):
    return np.linalg.norm(kind.positions[:, None] - kind.positions[None], axis=-1)


def test_copies_follow_each_other():
    """The atoms of a copy of the mixture stand together: those of each species in turn."""
    system = built(species=SOLUTION, molecules=2)
    numbers = system.frame.numbers
    assert np.array_equal(numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :])
    assert np.array_equal(numbers[: len(numbers) // 2], system.molecule.numbers)
    assert np.array_equal(system.molecules.copy_of_atom, np.repeat([0, 1], len(numbers) // 2))


def test_it_is_packed_anew_from_another_seed():
    system = built(species=SOLUTION)
    again, other = repacked(system, seed=1), repacked(system, seed=2)
    assert not np.allclose(again.frame.positions, other.frame.positions)
    assert np.array_equal(again.frame.positions, repacked(system, seed=1).frame.positions)


def test_mmff94_of_a_brine_is_rdkits():
    """Energy of ions and water by our OpenMM system and by RDKit."""
    import openmm
    from rdkit.Chem import rdForceFieldHelpers

    mixture = built(species=BRINE).molecule
    ours = mmff_system(mixture, 1)
    context = openmm.Context(ours, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(0.1 * mixture.positions)
    energy = context.getState(energy=True).getPotentialEnergy().value_in_unit(openmm.unit.kilocalorie_per_mole)
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mixture.rdkit)
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(
        mixture.rdkit, properties, nonBondedThresh=1e6, ignoreInterfragInteractions=False
    )
    assert energy == pytest.approx(field.CalcEnergy(), abs=1e-4)


def test_messages_name_the_species_whose_option_is_missing(tmp_path):
    write(tmp_path / "ammonium.xyz", Atoms("NH4", molecule("CH4").positions), plain=True)
    with pytest.raises(InputError, match=r"set system\.species\.1\.charge: 1"):
        built(tmp_path, species=[{"smiles": "O"}, {"structure": "ammonium.xyz"}])


@pytest.mark.parametrize("options", [{"species": SOLUTION}, {"smiles": "[Na+].[Cl-]", "molecules": 3}])
def test_frames_of_a_file_are_put_in_order(options, rng):
    """Molecules and their atoms shuffled, as another program may write them."""
    system = built(**options)
    shuffled = rng.permutation(len(system.frame))
    mixed = replace(system.frame, numbers=system.frame.numbers[shuffled], positions=system.frame.positions[shuffled])
    (ordered,) = in_system_order([mixed], system, "test")
    assert np.array_equal(ordered.numbers, system.frame.numbers)
    assert np.allclose(bond_lengths(ordered.positions, system.bonds.pairs), system.bonds.lengths, atol=1e-6)


def test_a_zwitterion_in_water_stays_one():
    """In vacuum GFN2-xTB moves its proton; the reference method relaxes each molecule alone."""
    config = SystemConfig(species=[{"smiles": "[NH3+]CC(=O)[O-]"}, {"smiles": "O", "count": 2}])
    system = build_system(config, base_dir=Path(), seed=1)
    with ReferenceMethod(LabelsConfig(backend="tblite"), SelectionConfig(), periodic=False) as reference:
        found = relaxed_system(reference, system, config, seed=1)
    assert found.bonds.lengths.max() < 1.7
    nitrogen = int(np.flatnonzero(found.frame.numbers == 7)[0])
    bonded = found.bonds.pairs[(found.bonds.pairs == nitrogen).any(axis=1)]
    assert bond_lengths(found.frame.positions, bonded).max() < 1.6


def test_a_species_from_a_file(tmp_path):
    write(tmp_path / "water.xyz", molecule("H2O"))
    write(tmp_path / "ion.xyz", molecule("OH"), plain=True)
    species = [{"structure": "water.xyz", "count": 3}, {"structure": "ion.xyz", "charge": -1}]
    system = built(tmp_path, species=species)
    assert (system.frame.to_atoms().get_chemical_formula(), system.frame.charge) == ("H7O4", -1)
    assert force_field_of(system) == "MMFF94"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"species": [{"smiles": "O"}, {"smiles": "[CH3]"}]}, r"set system\.species\.1\.charge"),
        ({"species": [{"smiles": "[Na+]", "charge": 2}]}, r"system\.species\.0\.charge: \+2 e contradicts"),
        ({"species": SOLUTION, "charge": 1}, "odd number; set system.charge"),
        ({"species": [{"smiles": "O"}, {"smiles": "CC("}]}, r"system\.species\.1\.smiles: 'CC\(' can't be read"),
        ({"species": [{"smiles": "O 10"}]}, r"system\.species\.0\.smiles: 'O 10' has a space"),
        ({"species": [{"smiles": "O.CO", "charge": 2}]}, "each of them as a species of its own"),
        ({"species": [{"smiles": "O.[OH]"}]}, "each of them as a species of its own"),
        ({"species": [{"smiles": "[Na+]", "charge": 1}], "charge": 0}, "contradicts the charges of the species"),
        ({"species": SOLUTION, "shape": "box", "density_g_per_cm3": 9.0}, "lower the density"),
    ],
)
def test_refused(options, says):
    with pytest.raises(InputError, match=says):
        built(**options)


@pytest.mark.parametrize("both", [{"smiles": "O"}, {"structure": "water.xyz"}])
def test_one_source_of_molecules(both):
    with pytest.raises(ValueError, match="exactly one of"):
        SystemConfig(species=SOLUTION, **both)


def test_the_config_reads_back():
    config = parse_config(f"name: x\nsystem: {{species: {SOLUTION}}}", source="test")
    assert parse_config(config_text(config), source="test") == config


def ion_file(folder, charge):
    """Methyl chlorozincate without bond orders, whose charge only its file says."""
    positions = 2.3 * np.array([[0.0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    atoms = Atoms("ZnCl4", positions, info={"charge": charge})
    write(folder / "zncl4.xyz", atoms)
    return "zncl4.xyz"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"species": [{"structure": "zncl4.xyz"}, {"smiles": "[Na+]", "count": 2}], "charge": 4},
            "contradicts the charges of the species",
        ),
        (
            {"species": [{"structure": "zncl4.xyz"}, {"smiles": "O", "count": 2}], "charge": 0},
            "contradicts the charges of the species",
        ),
        ({"structure": "zncl4.xyz", "molecules": 3, "charge": -4}, r"the charge that .*zncl4\.xyz states, -6 e in all"),
        ({"structure": "zncl4.xyz", "molecules": 2, "charge": -2}, r"states charge -2, but by system\.charge"),
    ],
)
def test_a_total_charge_does_not_override_a_file(options, says, tmp_path):
    ion_file(tmp_path, -2)
    with pytest.raises(InputError, match=says):
        built(tmp_path, **options)


def test_the_charges_of_a_file_and_of_smiles_add_up(tmp_path):
    species = [{"structure": ion_file(tmp_path, -2)}, {"smiles": "[Na+]", "count": 2}]
    assert built(tmp_path, species=species).frame.charge == 0
    assert built(tmp_path, structure="zncl4.xyz", molecules=3, charge=-6).frame.charge == -6


@pytest.mark.parametrize(
    ("options", "unpaired"),
    [
        ({"species": [{"smiles": "[CH3]", "unpaired_electrons": 1}, {"smiles": "O"}], "molecules": 2}, 2),
        ({"species": [{"smiles": "O=O", "unpaired_electrons": 2}, {"smiles": "O"}], "molecules": 3}, 6),
        ({"structure": "methyl.xyz", "molecules": 2, "charge": 0, "unpaired_electrons": 2}, 2),
        ({"structure": "methyl.xyz", "molecules": 2, "charge": 0, "unpaired_electrons": 0}, 0),
        ({"structure": "oxygen.xyz", "molecules": 2}, 4),
        ({"structure": "oxygen.xyz", "molecules": 2, "unpaired_electrons": 0}, 0),
    ],
)
def test_spins_of_copies_add_up_or_are_those_that_the_user_states(options, unpaired, tmp_path):
    write(tmp_path / "methyl.xyz", molecule("CH3"), plain=True)
    write(tmp_path / "oxygen.xyz", Atoms("O2", [[0, 0, 0], [0, 0, 1.21]], info={"multiplicity": 3}))
    assert built(tmp_path, **options).frame.unpaired_electrons == unpaired


def test_a_neutral_file_without_a_charge_may_be_ionised(tmp_path):
    Chem.SDWriter(str(tmp_path / "water.sdf")).write(molecule_from_smiles("O", seed=1).rdkit)
    frame = built(tmp_path, structure="water.sdf", molecules=2, charge=1, unpaired_electrons=1).frame
    assert (frame.charge, frame.unpaired_electrons) == (1, 1)


@pytest.mark.parametrize("ion", ["[Pb+2]", "[Sn+2]", "[Tl+]", "[Mg+2]"])
def test_bare_ions_of_the_main_groups_are_closed_shells(ion):
    charge = 1 if ion == "[Tl+]" else 2
    system = built(species=[{"smiles": ion}, {"smiles": "[Cl-]", "count": charge}, {"smiles": "O", "count": 6}])
    assert (system.frame.charge, system.frame.unpaired_electrons) == (0, 0)
    assert electrons_by_fragment(system.molecule)[0] == (charge, 0)


@pytest.mark.parametrize("ion", ["[Fe+2]", "[Ni+2]", "[Mn+2]", "[Fe+3]", "[Cu+2]", "[V+3]"])
def test_the_spin_of_ions_with_an_open_d_shell_is_never_guessed(ion):
    charge = int(ion[-2])
    chlorides = {"smiles": "[Cl-]", "count": charge}
    with pytest.raises(InputError, match=r"partly filled d shell, \w+\(\d\+\), .*unpaired_electrons"):
        built(species=[{"smiles": ion}, chlorides, {"smiles": "O", "count": 6}])
    with pytest.raises(InputError, match="partly filled d shell"):
        built(smiles=f"{ion}{charge * '.[Cl-]'}")
    spin = 5 if ion in ("[Mn+2]", "[Fe+3]") else 1 if ion == "[Cu+2]" else 2
    system = built(species=[{"smiles": ion, "unpaired_electrons": spin}, chlorides])
    assert (system.frame.charge, system.frame.unpaired_electrons) == (0, spin)


@pytest.mark.parametrize("smiles", ["O=O", "S=S", "O=S"])
def test_a_triplet_with_a_closed_shell_lewis_structure_is_never_taken_as_a_singlet(smiles, tmp_path):
    """The labels of singlet O2 would be too high in energy, and nothing in a campaign would tell."""
    with pytest.raises(InputError, match=r"ground state has 2 unpaired electrons .*unpaired_electrons"):
        built(smiles=smiles)
    with pytest.raises(InputError, match="ground state has 2 unpaired electrons"):
        built(species=[{"smiles": smiles}, {"smiles": "O", "count": 4}])
    triplet = built(species=[{"smiles": smiles, "unpaired_electrons": 2}, {"smiles": "O", "count": 4}])
    assert triplet.frame.unpaired_electrons == 2
    assert built(smiles=smiles, unpaired_electrons=0).frame.unpaired_electrons == 0
    write(tmp_path / "oxygen.xyz", Atoms("O2", [[0, 0, 0], [0, 0, 1.21]]))
    with pytest.raises(InputError, match="O2, whose ground state"):
        built(tmp_path, structure="oxygen.xyz")


@pytest.mark.parametrize("smiles", ["OO", "O=C=O", "[O-][O-].[Na+].[Na+]", "O=S=O", "N#N"])
def test_other_small_molecules_are_closed_shells(smiles):
    assert built(smiles=smiles).frame.unpaired_electrons == 0


@pytest.mark.parametrize("ion", ["[Zn+2]", "[Ag+]", "[Cu+]", "[Sc+3]", "[Ti+4]", "[Hg+2]"])
def test_ions_with_an_empty_or_full_d_shell_are_closed_shells(ion):
    charge = int(ion[-2]) if ion[-2].isdecimal() else 1
    system = built(species=[{"smiles": ion}, {"smiles": "[Cl-]", "count": charge}])
    assert (system.frame.charge, system.frame.unpaired_electrons) == (0, 0)


def test_a_neutral_system_may_have_ions_and_a_closed_shell_radicals(tmp_path):
    assert built(smiles="[Mg+2].[Cl-].[Cl-].O").has_ions
    assert not built(smiles="O", molecules=3).has_ions
    assert not built(smiles="[NH3+]CC(=O)[O-]").has_ions  # a zwitterion is neutral
    assert built(
        species=[{"smiles": "[CH3]", "unpaired_electrons": 1}, {"smiles": "[CH3]", "unpaired_electrons": 1}],
        unpaired_electrons=0,
    ).has_open_shells
    salt = Atoms("NaClOH2", [[0, 0, 0], [2.4, 0, 0], [0, 0, 4], [0.96, 0, 4], [-0.24, 0.93, 4]])
    write(tmp_path / "salt.xyz", salt)
    assert built(tmp_path, structure="salt.xyz", charge=0).has_ions


def test_a_redox_pair_cannot_be_cut():
    """Hydroxide and the hydroxyl radical: clusters of the same atoms would have different charges."""
    species = [
        {"smiles": "[OH-]"},
        {"smiles": "[OH]", "unpaired_electrons": 1},
        {"smiles": "[Na+]"},
        {"smiles": "O", "count": 9},
    ]
    box = built(species=species, shape="box", density_g_per_cm3=0.8)
    with pytest.raises(InputError, match="HO with charge -1 and 0 unpaired electrons, and with"):
        cluster_of(box, 3, largest_charge=1)
