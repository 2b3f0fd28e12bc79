"""A campaign on a box of brine whose labels are of clusters: which ions come along, and what charge the label has."""

from collections import Counter

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write
from ase.units import Bohr, Hartree
from stage_runs import begun

from al_engine.campaign import names
from al_engine.campaign.scores import read_test
from al_engine.campaign.system import StoredSystem
from al_engine.config.reader import parse_config
from al_engine.errors import InputError
from al_engine.files.frames_hdf5 import read_frames, read_labelled
from al_engine.files.part_file import open_part
from al_engine.structures.clusters import ClusterCut, MoleculeElectrons
from al_engine.structures.elements import atomic_masses
from al_engine.structures.frames import Frame
from flows.session.preflight import preflight

torch.set_num_threads(1)

CUT = 3
BRINE = """
name: brine
seed: 5
system: {species: [{smiles: '[Na+].[Cl-]', count: 2}, {smiles: O, count: 8}], shape: box, density_g_per_cm3: 1.0}
initial: {frames: 12, test_frames: 6, duration_ps: 0.2, hot_kelvin: 500}
model:
  short: {cutoff_ang: 3.5, channels: 4, l_max: 1, radial_mlp: [8]}
  long: {cutoff_ang: 5.0, channels: 2, l_max: 0, radial_mlp: []}
training: {optimizer: adam, updates: 20, validation_interval: 10, members: 2}
sampling: {temperatures_kelvin: [300, 500], replicas: 2, steps: 100, stride_steps: 20, timestep_fs: 0.1, cost_share: 0,
  pressure_bar: 2000, stop_deviation_mev_per_ang: 1.0e+6}
selection: {lower_mev_per_ang: 0.001, upper_mev_per_ang: 1.0e+6, max_labels: 8, cut_molecules: 3, cut_centre: random}
labels: {backend: tblite, chunk_frames: 20}
stop: {max_iterations: 1}
"""
SODIUM, CHLORINE, OXYGEN, HYDROGEN = 11, 17, 8, 1


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """One iteration of the campaign."""
    with begun(tmp_path_factory.mktemp("brine"), BRINE) as campaign:
        assert campaign.iteration(0) is not None
    return campaign.ledger


@pytest.fixture(scope="module")
def labelled(ledger):
    with open_part(ledger.part_path(names.INITIAL_DATASET)) as root:
        test = read_labelled(root["test"])
    return [*ledger.dataset(), *test]


def test_clusters_are_neutral_and_whole(labelled):
    """Three molecules, and an ion of opposite charge for each ion too many; ions and waters as they are."""
    kinds = set()
    for item in labelled:
        count = Counter(item.frame.numbers.tolist())
        assert count[SODIUM] == count[CHLORINE]
        assert count[HYDROGEN] == 2 * count[OXYGEN]
        assert (item.frame.charge, item.frame.unpaired_electrons) == (0, 0)
        assert CUT <= count[SODIUM] + count[CHLORINE] + count[OXYGEN] <= 2 * CUT
        kinds.add((count[SODIUM], count[OXYGEN]))
    assert len(kinds) > 2
    assert {ions > 0 for ions, _ in kinds} == {True, False}


def test_labels_are_those_of_another_program_at_this_charge(labelled):
    """tblite called as its documentation says: formal charges of the ions, Na +1 and Cl -1."""
    from tblite.interface import Calculator

    for item in labelled[::5]:
        numbers = item.frame.numbers
        charge = np.sum(numbers == SODIUM) - np.sum(numbers == CHLORINE)
        calculator = Calculator("GFN2-xTB", numbers, item.frame.positions / Bohr, charge=float(charge))
        calculator.set("verbosity", 0)
        result = calculator.singlepoint()
        assert item.energy == pytest.approx(result.get("energy") * Hartree, abs=1e-5)
        forces = -result.get("gradient") * Hartree / Bohr
        np.testing.assert_allclose(item.forces, forces, atol=1e-4)


def test_the_central_molecule_of_a_test_cluster_is_its_interior(ledger):
    """Ion or water: a whole molecule, whose centre of mass is the origin."""
    test, kinds = read_test(ledger.reader(), ledger.config), set()
    for item, interior in zip(test.frames, test.interior, strict=True):
        central = item.frame.numbers[interior]
        assert central.tolist() in ([SODIUM], [CHLORINE], [OXYGEN, HYDROGEN, HYDROGEN])
        middle = np.average(item.frame.positions[interior], axis=0, weights=atomic_masses(central))
        np.testing.assert_allclose(middle, 0.0, atol=1e-9)
        kinds.add(int(central[0]))
    assert len(kinds) > 1


def test_the_central_molecule_of_a_new_cluster_is_interior(ledger):
    with open_part(ledger.part_path(names.INITIAL_FRAMES)) as root:
        owner = StoredSystem.read(root).molecules.fragment_of_atom
    with open_part(ledger.part_path(names.selection(0))) as root:
        clusters, centres = read_frames(root["selected"]), root["selected/centre_molecule"][()]
        atoms, interior = (np.split(root[f"selected/{name}"][()], ends(clusters)) for name in ("atom", "interior"))
    assert len(set(centres.tolist())) > 3
    for cluster, centre, own, inside in zip(clusters, centres.tolist(), atoms, interior, strict=True):
        central = owner[own] == centre
        assert inside[central].all()
        middle = np.average(cluster.positions[central], axis=0, weights=atomic_masses(cluster.numbers[central]))
        np.testing.assert_allclose(middle, 0.0, atol=1e-9)


def ends(frames):
    """Where the atoms of each frame but the last end in arrays over all atoms."""
    return np.cumsum([len(frame) for frame in frames])[:-1]


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("seed", range(6))
def test_the_nearest_ions_of_opposite_charge_come_along(seed, largest):
    """Boxes of single atoms with charges of up to two: the nearest images are found here by rounding."""
    rng = np.random.default_rng(seed)
    charges = rng.permutation([2, -1, -1, 1, -1, *[0] * 9])
    count, wanted = len(charges), 4
    cell = np.diag(rng.uniform(8, 12, 3))
    frame = Frame(
        numbers=np.full(count, 18), positions=rng.uniform(size=(count, 3)) @ cell, cell=cell, pbc=np.ones(3, bool)
    )
    electrons = MoleculeElectrons(charges, np.zeros(count, dtype=int), largest)
    cut = ClusterCut(wanted, 0, 0, np.arange(count), np.empty((0, 2), dtype=int), electrons)
    for centre in range(count):
        cluster, atoms = cut.around(frame, centre)
        apart = frame.positions - frame.positions[centre]
        distances = np.linalg.norm(apart - np.diag(cell) * np.round(apart / np.diag(cell)), axis=1)
        order = np.argsort(distances)
        assert set(order[:wanted].tolist()) <= set(atoms.tolist())
        assert cluster.charge == charges[atoms].sum()
        assert abs(cluster.charge) <= largest
        added = set(atoms.tolist()) - set(order[:wanted].tolist())
        for ion in added:
            nearer = [k for k in order[wanted:].tolist() if distances[k] < distances[ion] and k not in added]
            assert all(charges[k] * charges[ion] <= 0 for k in nearer)
        if abs(charges[order[:wanted]].sum()) <= largest:
            assert not added


def test_a_box_from_a_file_is_cut_by_the_charges_that_its_bonds_show(tmp_path):
    """Ammonium and chloride among waters, as a file has them."""
    from samplers.building.system import build_system

    box = (
        "{species: [{smiles: '[NH4+]'}, {smiles: '[Cl-]'}, {smiles: O, count: 6}], shape: box, density_g_per_cm3: 0.8}"
    )
    made = build_system(parse_config(f"name: x\nsystem: {box}", source="x").system, base_dir=tmp_path, seed=2)
    write(tmp_path / "box.xyz", made.frame.to_atoms(), format="extxyz")
    for cut in (1, 4):
        text = f"name: x\nsystem: {{structure: box.xyz, shape: box, charge: 0}}\nselection: {{cut_molecules: {cut}}}\n"
        labelled = preflight(parse_config(text, source="test"), base_dir=tmp_path).systems[0].labelled
        numbers = labelled.frame.numbers.tolist()
        assert numbers.count(CHLORINE) == numbers.count(7) == 1  # the first molecule of the box is the ammonium
        assert labelled.frame.charge == 0
        assert len(labelled.cut.electrons.charge) == 8


@pytest.mark.parametrize(
    ("system", "selection", "message"),
    [
        ("species: [{smiles: '[Na+]'}, {smiles: O, count: 6}]", "cut_molecules: 2", "selection.cut_charge to 1"),
        ("species: [{smiles: O, count: 6}]", "cut_molecules: 7", "the box has 6 molecules"),
        ("species: [{smiles: O, count: 6}], charge: 2", "cut_molecules: 2", "set system.charge to 0"),
        ("species: [{smiles: O}], molecules: 3", "cut_molecules: 4", "the box has 3 molecules"),
        (
            "species: [{smiles: '[Na+].[Cl-]'}, {smiles: O, count: 6}]",
            (
                "cut_molecules: 2, cut_charge: 1}\nlabels: {backend: ase, ase_calculator: 'ase.calculators.emt:EMT', "
                "ase_charge_and_spin: parameters"
            ),
            "ase_charge_and_spin",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused_at_once(system, selection, message, tmp_path):
    text = f"name: x\nsystem: {{{system}, shape: box, density_g_per_cm3: 0.8}}\nselection: {{{selection}}}\n"
    with pytest.raises(InputError, match=message):
        preflight(parse_config(text, source="test"), base_dir=tmp_path)


def test_bonds_of_clusters_of_mixtures_are_not_stretched(tmp_path):
    with pytest.raises(InputError, match=r"initial\.stretch"):
        preflight(
            parse_config(BRINE.replace("hot_kelvin: 500", "hot_kelvin: 500, stretch: {share: 0.2}"), source="x"),
            base_dir=tmp_path,
        )


def test_users_clusters_of_ions_state_their_charge_and_it_is_that_of_the_campaign(tmp_path, rng):
    """The checks before the campaign know one composition of its clusters; the others are known to its first stage."""
    text = BRINE.replace("cut_molecules: 3,", "cut_molecules: 3, cut_charge: 1,")
    text = text.replace("frames: 12, test_frames: 6,", "frames: 6, test_frames: 2,")
    with begun(tmp_path / "first", text) as campaign:
        with open_part(campaign.ledger.part_path(names.INITIAL_FRAMES)) as root:
            typical = StoredSystem.read(root).cluster
        frames = [item.frame for item in campaign.ledger.dataset()]
    assert typical is not None
    other = next(frame for frame in frames if sorted(frame.numbers) != sorted(typical.numbers))

    def brought(frame, *, folder, **stated):
        moved = frame.positions + rng.normal(scale=0.02, size=frame.positions.shape)
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "mine.xyz", Atoms(frame.numbers, moved, info=stated))
        with begun(tmp_path / folder, f"{text}data:\n- {{file: mine.xyz, labels: relabel}}\n") as campaign:
            return campaign.ledger.dataset()[-1].frame

    with pytest.raises(InputError, match="other atoms than the systems, which have ions, and states no charge"):
        brought(other, folder="unstated")
    with pytest.raises(InputError, match=r"mine\.xyz has charge .* a frame of the campaign has"):
        brought(other, folder="wrong", charge=other.charge + 2)
