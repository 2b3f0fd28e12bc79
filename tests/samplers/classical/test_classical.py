"""Classical force fields: MMFF94 in OpenMM is RDKit's, UFF's forces are the gradient of its energy."""

from functools import reduce
from pathlib import Path

import numpy as np
import pytest

from al_engine.config import SystemConfig
from al_engine.errors import InputError
from samplers.building.molecules import molecule_from_smiles
from samplers.building.packing import pack_box, pack_cluster
from samplers.building.system import boxed, build_system
from samplers.classical.classical import force_field_of, open_classical_md
from samplers.classical.mmff import mmff_system
from samplers.classical.uff import energy_and_gradient, uff_force_field

KCAL_PER_ANG_IN_KJ_PER_NM = 41.84

VARIED = [
    "CCO",
    "CC(N)=O",
    "NCC(=O)O",
    "c1ccccc1",
    "CC#N",  # linear
    "C=C=C",  # linear, cumulated
    "N(C(F)(F)F)(C(F)(F)F)C(F)(F)F",
    "C1=C[NH+]=CN1",
    "[NH4+]",
    "CC(=O)[O-]",
    "CS(C)(=O)=O",
    "C[N+](=O)[O-]",  # out of plane
    "CN=[N+]=[N-]",
    "C1CC1C",  # three- and four-membered rings have their own angle and torsion types
    "C1CCC1",
    "CP(=O)(O)O",
    "O",  # its hydrogens are all within 1-3
    "[CH3]",
]


def openmm_energy_and_forces(model, positions):
    """kcal/mol and kcal/mol/Å, on OpenMM's double-precision platform."""
    import openmm

    context = openmm.Context(model, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions * 0.1)
    state = context.getState(energy=True, forces=True)
    forces = state.getForces(asNumpy=True).value_in_unit(openmm.unit.kilojoule_per_mole / openmm.unit.nanometer)
    energy = state.getPotentialEnergy().value_in_unit(openmm.unit.kilocalorie_per_mole)
    return energy, np.array(forces) / KCAL_PER_ANG_IN_KJ_PER_NM


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("smiles", VARIED)
def test_mmff_is_rdkits(smiles, count, rng):
    from rdkit import Chem
    from rdkit.Chem import rdForceFieldHelpers

    molecule = molecule_from_smiles(smiles, seed=1)
    positions = pack_cluster(molecule, count, seed=2)
    positions = positions + 0.05 * rng.normal(size=positions.shape)
    both = reduce(Chem.CombineMols, [molecule.rdkit] * count)
    Chem.SanitizeMol(both)
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(
        both,
        rdForceFieldHelpers.MMFFGetMoleculeProperties(both),
        nonBondedThresh=1e6,
        ignoreInterfragInteractions=False,
    )
    expected, gradient = energy_and_gradient(field, positions.ravel())
    energy, forces = openmm_energy_and_forces(mmff_system(molecule, count), positions)
    assert energy == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(forces, -gradient.reshape(-1, 3), atol=1e-9)


def test_periodic_mmff_sees_images_and_tends_to_the_cluster():
    """Two molecules across a boundary have the energy of the same pair within a cell; a huge cell is like a cluster."""
    molecule = molecule_from_smiles("C", seed=1)  # methane: neutral, almost no charges to cut off
    pair = pack_cluster(molecule, 2, seed=2)
    side = 40.0
    model = mmff_system(molecule, 2, cell=np.eye(3) * side)
    across = pair.copy()
    across[5:, 0] += side
    periodic, split = (openmm_energy_and_forces(model, x)[0] for x in (pair, across))
    assert split == pytest.approx(periodic, abs=1e-9)
    alone = openmm_energy_and_forces(mmff_system(molecule, 2), pair)[0]
    assert periodic == pytest.approx(alone, abs=1e-3)


def test_charges_in_a_box_are_not_cut_off():
    """A box and eight copies of it as a single box, whose cut-off is twice as long, have the same energy per copy.

    Charges cut off at 0.49 of the side instead differ by electron volts.
    """
    molecule = molecule_from_smiles("FC(F)(F)F", seed=1)
    positions, cell = pack_box(molecule, 16, density_g_per_cm3=1.6, seed=3)
    side = cell[0, 0]
    copies = side * np.stack(np.meshgrid(*[[0, 1]] * 3), axis=-1).reshape(-1, 1, 3)
    energy = openmm_energy_and_forces(mmff_system(molecule, 16, cell=cell), positions)[0]
    eight = openmm_energy_and_forces(mmff_system(molecule, 128, cell=2 * cell), (positions + copies).reshape(-1, 3))[0]
    assert eight / 8 == pytest.approx(energy, abs=0.4 * 16)  # kcal/mol: van der Waals terms beyond 6 Å


def test_molecules_keep_their_shape_in_a_box_of_strong_dipoles():
    """With charges cut off, minimising stretched C-F bonds to 1.9 Å and pulled molecules into each other."""
    molecule = molecule_from_smiles("FC(F)(F)C(F)(F)F", seed=1)
    config = SystemConfig(smiles="FC(F)(F)C(F)(F)F", molecules=1, density_g_per_cm3=1.5)
    box = boxed(build_system(config, base_dir=Path(), seed=1), 8, seed=2)
    md = open_classical_md(box, seed=1, timestep_fs=1.0)
    md.minimise()
    i, j = molecule.bonds.T
    relaxed = np.linalg.norm(molecule.positions[i] - molecule.positions[j], axis=1)
    boxes = md.positions.reshape(8, -1, 3)
    assert np.linalg.norm(boxes[:, i] - boxes[:, j], axis=2) == pytest.approx(np.tile(relaxed, (8, 1)), abs=0.05)


def test_periodic_mmff_forces_are_its_gradient(rng):
    """Through the switching region: box of 11 Å, cut-off 5.4 Å."""
    molecule = molecule_from_smiles("CO", seed=1)
    positions, cell = pack_box(molecule, 8, density_g_per_cm3=0.32, seed=3)
    model = mmff_system(molecule, 8, cell=cell)
    direction = rng.normal(size=positions.shape)
    step = 1e-5
    forward, backward = (openmm_energy_and_forces(model, positions + s * step * direction)[0] for s in (1, -1))
    slope = np.sum(openmm_energy_and_forces(model, positions)[1] * direction)
    assert -(forward - backward) / (2 * step) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(("smiles", "count"), [("B(F)(F)F", 2), ("[O][O]", 3)])
def test_uff_forces_are_the_gradient_of_its_energy(smiles, count, rng):
    molecule = molecule_from_smiles(smiles, seed=1)
    field = uff_force_field(molecule.rdkit, count)
    step = 1e-5
    for _ in range(3):  # at new places each time: RDKit caches distances
        x = (pack_cluster(molecule, count, seed=1) + 0.05 * rng.normal(size=(count * len(molecule), 3))).ravel()
        gradient = energy_and_gradient(field, x)[1]
        shifts = step * np.eye(x.size)
        numeric = [
            (energy_and_gradient(field, x + s)[0] - energy_and_gradient(field, x - s)[0]) / (2 * step) for s in shifts
        ]
        np.testing.assert_allclose(gradient, numeric, atol=1e-5 * np.abs(gradient).max())


def system_of(smiles, **more):
    return build_system(SystemConfig(smiles=smiles, **more), base_dir=Path(), seed=1)


def test_the_force_field_is_named():
    assert force_field_of(system_of("CCO")) == "MMFF94"
    assert force_field_of(system_of("[CH3]", molecules=2, unpaired_electrons=0)) == "MMFF94"
    assert force_field_of(system_of("B(F)(F)F")) == "UFF"


def test_no_force_field_says_why():
    with pytest.raises(InputError, match=r"neither MMFF94 nor UFF"):
        force_field_of(system_of("[He]"))
    with pytest.raises(InputError, match="more than 4 neighbours, which UFF squeezes"):
        force_field_of(system_of("F[P-](F)(F)(F)(F)F"))
    with pytest.raises(InputError, match="UFF supports no periodic box"):
        force_field_of(system_of("B(F)(F)F", molecules=4, shape="box", density_g_per_cm3=0.5))


def test_uff_md_keeps_its_temperature():
    system = system_of("B(F)(F)F", molecules=2)
    md = open_classical_md(system, seed=4, timestep_fs=0.5, friction_per_ps=50.0)
    md.minimise()
    md.thermalise(400.0)
    md.advance(1000, 400.0)
    kelvins = []
    for _ in range(200):
        md.advance(20, 400.0)
        twice_kinetic = (md._masses * md._velocities**2).sum() / 0.0096485333
        kelvins.append(twice_kinetic / (8.617333e-5 * (3 * 8 - 3)))
    assert np.mean(kelvins) == pytest.approx(400.0, rel=0.06)  # 4 sigma of 100 independent samples of 21 squares


@pytest.mark.parametrize(("smiles", "name"), [("CCO", "MMFF94"), ("B(F)(F)F", "UFF")])
def test_equal_seeds_equal_trajectories(smiles, name):
    system = system_of(smiles, molecules=2)
    assert force_field_of(system) == name
    ends = []
    for seed in (1, 1, 2):
        md = open_classical_md(system, seed=seed, timestep_fs=0.5)
        md.thermalise(500.0)
        md.advance(200, 500.0)
        ends.append(md.positions)
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.abs(ends[0] - ends[2]).max() > 1e-2
