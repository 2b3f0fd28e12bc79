"""The user's own labelled frames join a campaign: checked, compared with its method, or labelled by it."""

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule as build_molecule
from ase.calculators.emt import EMT
from stage_runs import begun
from tblite.ase import TBLite
from typer.testing import CliRunner

from al_engine.campaign import names
from al_engine.campaign.audit.verify import verify
from al_engine.campaign.export import export_labels
from al_engine.config.reader import parse_config
from al_engine.errors import InputError
from al_engine.files.frames_hdf5 import read_labelled
from al_engine.files.part_file import open_part
from al_engine.structures.frames import Frame, LabelledFrame
from al_engine.structures.identity import duplicates
from flows.cli.app import app
from flows.cli.data import LabelNames, faults_in, merge, read_source, summary
from flows.session import checks_together
from flows.session.new_campaign import new_campaign
from flows.session.preflight import preflight
from labelers.checks.reference import ReferenceMethod
from samplers.initial.user_data import compared

TEXT = """
name: mine
seed: 7
system: {smiles: CO}
initial: {frames: 20, test_frames: 8, duration_ps: 1.0}
model:
  short: {cutoff_ang: 4.0, channels: 8, l_max: 1, radial_mlp: [16]}
  long: {cutoff_ang: 6.0, channels: 4, l_max: 0, radial_mlp: []}
training: {updates: 20, validation_interval: 10, members: 2}
sampling: {temperatures_kelvin: [300, 900], replicas: 2, steps: 20, stride_steps: 10, cost_share: 0}
selection: {max_labels: 5}
labels: {backend: tblite, chunk_frames: 20}
data:
"""
INITIAL = "{source: file, file: all.xyz, frames: 6, test_frames: 4}"
WATER = Atoms("OHH", [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
FRAMES = 12


def in_hartree(path, calculator, *, frames=FRAMES, seed=0, weight=None):
    """Water frames labelled by a calculator, written as another program does: other names, hartree and bohr."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(frames):
        atoms = Atoms(WATER.numbers, WATER.positions + rng.normal(scale=0.03, size=(3, 3)))
        atoms.calc = calculator
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        image = Atoms(atoms.numbers, atoms.positions)
        image.info["REF_energy"] = energy / units.Hartree
        image.arrays["REF_forces"] = forces * units.Bohr / units.Hartree
        image.info |= {"config_weight": weight} if weight is not None else {}
        images.append(image)
    ase.io.write(path, images)
    return path


HARTREE = "energy_unit: hartree, forces_unit: hartree/bohr"


def gfn2():
    return TBLite(method="GFN2-xTB", verbosity=0)


def refusal(tmp_path, item):
    with pytest.raises(InputError) as caught:
        preflight(parse_config(f"{TEXT}- {item}\n", source="test"), base_dir=tmp_path)
    return str(caught.value)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """A campaign of methanol with water from two files: labels that are kept, and frames that are labelled."""
    folder = tmp_path_factory.mktemp("data")
    in_hartree(folder / "kept.xyz", gfn2(), weight=0.5)
    in_hartree(folder / "other.xyz", EMT(), frames=5, seed=1, weight=3.0)
    text = f"{TEXT}- {{file: kept.xyz, weight: 0.1, {HARTREE}}}\n- {{file: other.xyz, labels: relabel}}\n"
    new_campaign(parse_config(text, source="test"), source=folder, directory=folder / "mine")
    with begun(folder / "mine", (folder / "mine" / "campaign.yaml").read_text()) as campaign:
        campaign.iteration(0)
        yield campaign


def test_labels_join_the_data_set_and_are_those_of_the_campaigns_method(campaign):
    data = campaign.ledger.dataset(before=0)
    assert len(data) == 20 + FRAMES + 5
    water = [item for item in data if len(item) == 3]
    assert len(water) == FRAMES + 5
    for item in water:
        atoms = item.frame.to_atoms()
        atoms.calc = gfn2()
        assert item.energy == pytest.approx(atoms.get_potential_energy(), abs=2e-5)
        assert np.abs(item.forces - atoms.get_forces()).max() < 2e-3


def test_labels_have_the_weights_of_their_files_also_when_exported(campaign, tmp_path):
    weights = [item.weight for item in campaign.ledger.dataset(before=0)]
    assert weights == pytest.approx([*[1.0] * 20, *[0.05] * FRAMES, *[3.0] * 5])
    count = export_labels(campaign.ledger.directory, tmp_path / "all.xyz", file_format="extxyz")
    again = [label.weight for label in read_source(tmp_path / "all.xyz", LabelNames()).labels]
    assert again[: len(weights)] == pytest.approx(weights)
    assert again[len(weights) :] == [1.0] * (count - len(weights))


def test_the_models_know_the_elements_and_the_campaign_goes_on(campaign):
    record = campaign.ledger.history()[0]
    assert record.dataset_size == 20 + FRAMES + 5 + record.labelled
    with open_part(campaign.ledger.part_path(names.INITIAL_DATASET)) as root:
        assert {len(item) for item in read_labelled(root["test"])} == {6}  # the test set is the system's own
    assert (campaign.ledger.directory / "inputs" / "kept.xyz").is_file()


def test_a_lost_label_part_is_rebuilt_from_the_data_set(campaign):
    ledger = campaign.ledger
    assert verify(ledger.directory, repaired=False)[0]["sound"]
    path = ledger.part_path("initial-labels-00001-00020")
    before = path.read_bytes()
    path.unlink()
    verify(ledger.directory, repaired=True)
    assert verify(ledger.directory, repaired=False)[0]["sound"]
    path.write_bytes(before)


def test_labels_of_another_method_are_refused(tmp_path):
    in_hartree(tmp_path / "emt.xyz", EMT())
    message = refusal(tmp_path, f"{{file: emt.xyz, {HARTREE}}}")
    assert "its labels are not of the campaign's method: of 4 frames" in message
    assert "`labels: relabel`" in message


def test_labels_in_another_unit_are_refused(tmp_path):
    in_hartree(tmp_path / "md.xyz", gfn2())
    assert "as with energies in hartree and forces in hartree/bohr" in refusal(tmp_path, "{file: md.xyz}")
    half = refusal(tmp_path, "{file: md.xyz, energy_unit: hartree}")
    assert "as with energies in eV and forces in hartree/bohr" in half


def test_faults_are_named_or_left_out(tmp_path):
    path = in_hartree(tmp_path / "bad.xyz", gfn2())
    images = ase.io.read(path, ":")
    del images[2].info["REF_energy"]
    images[5].arrays["REF_forces"][:] = 0.0
    atom = Atoms("H")
    atom.info["REF_energy"], atom.arrays["REF_forces"] = -0.48, np.zeros((1, 3))
    ase.io.write(path, [*images, images[0], atom])
    message = refusal(tmp_path, f"{{file: bad.xyz, {HARTREE}}}")
    assert "2 of 14 frames cannot be used" in message
    assert "frame 2: has no energy" in message
    assert "frame 5: all its forces are zero" in message
    item = f"{{file: bad.xyz, leave_out_faults: true, {HARTREE}}}"
    notes = preflight(parse_config(f"{TEXT}- {item}\n", source="test"), base_dir=tmp_path).notes
    assert any("10 labelled frames join the data set (energies `REF_energy`, forces `REF_forces`)" in n for n in notes)
    assert any("frame 12: is a copy of" in note for note in notes)
    assert any("frame 13: is a single atom" in note for note in notes)


def test_another_campaigns_labels_are_taken_with_their_level(campaign, tmp_path):
    merged = merge([campaign.ledger.directory], tmp_path / "all.h5", LabelNames(), leave_out_faults=False)
    assert merged["frames"] == campaign.ledger.dataset_size()
    found = preflight(parse_config(f"{TEXT}- {{file: all.h5}}\n", source="test"), base_dir=tmp_path)
    assert any(f"{merged['frames']} labelled frames join the data set" in note for note in found.notes)
    other = TEXT.replace("backend: tblite,", "backend: tblite, accuracy: 0.1,")
    with pytest.raises(InputError, match="labels are never mixed"):
        preflight(parse_config(f"{other}- {{file: all.h5}}\n", source="test"), base_dir=tmp_path)


def test_names_and_units_of_an_hdf5_file_are_fixed(tmp_path):
    (tmp_path / "all.h5").touch()
    text = f"{TEXT}- {{file: all.h5, energy_key: REF_energy, energy_unit: hartree}}\n"
    with pytest.raises(InputError, match=r"without effect on an HDF5 file, .*: energy_key, energy_unit"):
        preflight(parse_config(text, source="test"), base_dir=tmp_path)


def test_sources_are_summarised_and_merged(campaign, tmp_path):
    names_of_file = LabelNames(energy_unit="hartree", forces_unit="hartree/bohr")
    path = in_hartree(tmp_path / "a.xyz", gfn2(), seed=5)
    values = summary(read_source(path, names_of_file))
    assert (values["frames"], values["energy_key"], values["compositions"]) == (FRAMES, "REF_energy", {"H2O": FRAMES})
    with pytest.raises(InputError, match="does not state one"):
        merge([path, campaign.ledger.directory], tmp_path / "b.h5", names_of_file, leave_out_faults=False)
    result = merge([path, path, campaign.ledger.directory], tmp_path / "b.xyz", names_of_file, leave_out_faults=False)
    assert result["frames"] + len(result["left_out"]) == 2 * FRAMES + campaign.ledger.dataset_size()
    assert len(result["left_out"]) >= FRAMES
    (own, _), (of_copy, _) = faults_in([read_source(path, names_of_file)] * 2)
    assert (own, [fault.frame for fault in of_copy]) == ([], list(range(FRAMES)))
    assert all(fault.drops for fault in of_copy)
    again = read_source(tmp_path / "b.xyz", LabelNames())
    assert len(again.labels) == result["frames"]
    methods = [label.method for label in again.labels]
    assert methods.count("") == FRAMES
    assert {method.partition(" by ")[0] for method in methods} == {"", "GFN2-xTB"}  # the campaign states its own
    assert again.labels[0].energy == pytest.approx(read_source(path, names_of_file).labels[0].energy, abs=1e-6)


def test_a_frame_without_a_number_does_not_spoil_the_summary(tmp_path):
    path = in_hartree(tmp_path / "a.xyz", gfn2())
    images = ase.io.read(path, ":")
    before = summary(read_source(path, LabelNames()))
    images[3].arrays["REF_forces"][1, 2], images[3].info["REF_energy"] = np.nan, np.nan
    ase.io.write(path, images)
    after = summary(read_source(path, LabelNames()))
    assert after["force_rms_mev_per_ang"] == pytest.approx(before["force_rms_mev_per_ang"], rel=0.1)
    assert np.isfinite(after["energy_ev_per_atom"]).all()


def test_a_check_says_whether_units_were_compared(tmp_path):
    """Frames that are far apart say nothing about units and signs."""
    path = in_hartree(tmp_path / "a.xyz", gfn2())
    command = ["data", "check", str(path), "--energy-unit", "hartree", "--forces-unit", "hartree/bohr"]
    near = CliRunner().invoke(app, command)
    assert (near.exit_code, "were not compared" in near.output) == (0, False)
    images = ase.io.read(path, ":")
    for image in images[::2]:
        image.rotate(180.0, "x")
        image.arrays["REF_forces"] *= [1, -1, -1]
    ase.io.write(path, images)
    far = CliRunner().invoke(app, command)
    assert (far.exit_code, "were not compared" in far.output) == (0, True)


def test_test_frames_are_not_trained_on_although_the_user_gives_them(tmp_path):
    """The same file is the source of the initial frames and of data; another file has a copy of a frame of it."""
    rng, methanol = np.random.default_rng(6), build_molecule("CH3OH")
    images = [Atoms(methanol.numbers, methanol.positions + rng.normal(scale=0.03, size=(6, 3))) for _ in range(12)]
    for atoms in images:
        atoms.calc = gfn2()
        atoms.get_forces()
    ase.io.write(tmp_path / "all.xyz", images)
    ase.io.write(tmp_path / "more.xyz", images[:2])
    text = TEXT.replace("{frames: 20, test_frames: 8, duration_ps: 1.0}", INITIAL)
    text += "- {file: all.xyz}\n- {file: more.xyz, labels: relabel}\n"
    new_campaign(parse_config(text, source="test"), source=tmp_path, directory=tmp_path / "run")
    with begun(tmp_path / "run", (tmp_path / "run" / "campaign.yaml").read_text()) as campaign:
        with open_part(campaign.ledger.part_path(names.DATA)) as root:
            assert (len(root["labelled/n_atoms"]), len(root["train/n_atoms"])) == (2, 0)  # the file has 2 frames more
            assert any(b"copies of frames of the campaign" in line for line in root["left_out"][()].tolist())
        with open_part(campaign.ledger.part_path(names.INITIAL_DATASET)) as root:
            trained, test = read_labelled(root["labelled"]), read_labelled(root["test"])
    assert not duplicates([item.frame for item in trained], [item.frame for item in test]).any()
    assert len(trained) == 8


def test_ions_and_molecules_of_the_same_atoms_are_refused(tmp_path):
    text = (
        "name: two\nlabels: {backend: tblite}\nsystems:\n- {name: neutral, smiles: O}\n"
        "- {name: cation, smiles: O, charge: 1, unpaired_electrons: 1}\n"
    )
    with pytest.raises(InputError, match=r"charge \+1 and 1 unpaired electrons.*do not see charge and spin"):
        preflight(parse_config(text, source="test"), base_dir=tmp_path)
    path = in_hartree(tmp_path / "ions.xyz", gfn2())
    images = ase.io.read(path, ":")
    for atoms in images:
        atoms.info |= {"charge": 2}
    ase.io.write(path, images)
    other = TEXT.replace("{smiles: CO}", "{smiles: O}")
    with pytest.raises(InputError, match="do not see charge and spin"):
        preflight(parse_config(f"{other}- {{file: ions.xyz, labels: relabel}}\n", source="test"), base_dir=tmp_path)


def test_relabelled_frames_are_checked_too(tmp_path):
    ase.io.write(tmp_path / "odd.xyz", [WATER, WATER[:2], WATER])
    message = refusal(tmp_path, "{file: odd.xyz, labels: relabel}")
    assert "1 of 3 frames cannot be used" in message
    assert "frame 1: of its 9 electrons 0 cannot be unpaired" in message


def test_a_comparison_that_could_not_be_made_is_not_agreement():
    frame = Frame(WATER.numbers, WATER.positions)
    differs = compared([LabelledFrame(frame, 0.0, np.zeros((3, 3)))] * 3, 2, lambda frames: [None] * len(frames))
    assert "could label none of the frames" in differs


def test_outliers_can_be_kept(tmp_path):
    path = in_hartree(tmp_path / "far.xyz", gfn2())
    images = ase.io.read(path, ":")
    stretched = Atoms(WATER.numbers, WATER.positions * [[1.0], [2.2], [1.0]], calculator=gfn2())
    far = Atoms(WATER.numbers, stretched.positions)
    far.info["REF_energy"] = stretched.get_potential_energy() / units.Hartree
    far.arrays["REF_forces"] = stretched.get_forces() * units.Bohr / units.Hartree
    ase.io.write(path, [*images, far])
    assert "eV per atom away" in refusal(tmp_path, f"{{file: far.xyz, {HARTREE}}}")
    item = f"{{file: far.xyz, keep_outliers: true, {HARTREE}}}"
    notes = preflight(parse_config(f"{TEXT}- {item}\n", source="test"), base_dir=tmp_path).notes
    assert any(f"{FRAMES + 1} labelled frames join" in note for note in notes)


def solvated_magnesium():
    """Mg(H2O)2, an ion of charge 2."""
    turned = WATER.copy()
    turned.rotate(180, "z")
    beside = np.array([2.1, 0.0, 0.0])
    waters = [WATER.positions - beside, turned.positions + beside]
    return Atoms("Mg" + 2 * "OHH", [[0.0, 0.0, 0.0], *waters[0], *waters[1]])


def test_ions_of_a_neutral_solution_state_their_charge(tmp_path):
    """The total charge of the system is 0, and so it says nothing of clusters of it."""
    text = TEXT.replace("{smiles: CO}", "{smiles: '[Mg+2].[Cl-].[Cl-].O'}")
    text = text.replace("{frames: 20, test_frames: 8", "{source: anneal, frames: 4, test_frames: 2")
    stated, unstated = solvated_magnesium(), solvated_magnesium()[:4]
    stated.info["charge"] = 2
    ase.io.write(tmp_path / "mine.xyz", [stated, unstated])
    item = "{file: mine.xyz, labels: relabel, leave_out_faults: LEFT}\n"
    with pytest.raises(InputError, match=r"frame 1.* which have ions, and states no charge"):
        preflight(parse_config(f"{text}- {item.replace('LEFT', 'false')}", source="test"), base_dir=tmp_path)
    with begun(tmp_path, f"{text}- {item.replace('LEFT', 'true')}") as campaign:
        brought = [each.frame for each in campaign.ledger.dataset() if len(each) == len(stated)]
    assert [frame.charge for frame in brought] == [2]


def test_of_several_boxes_the_flattest_is_checked(tmp_path):
    """The cube has the smaller volume; in the flat cell, molecules touch their own images."""
    boxes = [
        Atoms("HF", [[0.0, 0.0, 0.0], [0.0, 0.0, 0.92]], cell=cell, pbc=True)
        for cell in ([12.0, 12.0, 12.0], [3.0, 3.0, 200.0])
    ]
    config = parse_config(TEXT.replace("data:\n", ""), source="test")
    with ReferenceMethod(config.labels, config.selection, periodic=True, workers=1) as reference:
        checks_together.refuse_small_cell(Frame.from_atoms(boxes[0]), config.labels, reference)
    ase.io.write(tmp_path / "mine.xyz", boxes)
    assert "cell" in refusal(tmp_path, "{file: mine.xyz, labels: relabel}")
