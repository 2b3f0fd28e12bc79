"""Starting structures that the user brings: they are labelled, and trajectories start from each of them in turn."""

import ase.build
import ase.io
import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem
from stage_runs import StageRuns

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.starts import starting_frames
from al_engine.config import StatePoint
from al_engine.config.reader import parse_config
from al_engine.errors import InputError
from al_engine.files.frames_hdf5 import read_frames
from al_engine.files.part_file import open_part
from flows.session.new_campaign import new_campaign
from flows.session.preflight import preflight
from flows.stages.initial_set import initial
from labelers.backends.registry import level_of_theory

TEXT = """
name: conformers
seed: 2
system: {smiles: OCCO, structures: conformers.xyz}
initial: {frames: 6, test_frames: 4, duration_ps: 0.5, source: anneal, stretch: {share: 1.0}}
sampling: {temperatures_kelvin: [300, 600], replicas: 4}
labels: {backend: tblite}
"""
CONFORMERS = 3


@pytest.fixture
def folder(tmp_path):
    """A folder with conformers whose atoms are in another order than in the SMILES."""
    molecule = Chem.AddHs(Chem.MolFromSmiles("OCCO"))
    AllChem.EmbedMultipleConfs(molecule, CONFORMERS, randomSeed=1)
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    order = np.random.default_rng(0).permutation(len(numbers))
    images = [ase.Atoms(numbers[order], conformer.GetPositions()[order]) for conformer in molecule.GetConformers()]
    ase.io.write(tmp_path / "conformers.xyz", images)
    return tmp_path


@pytest.fixture
def ledger(folder):
    """A campaign whose initial frames are made."""
    ledger = new_campaign(parse_config(TEXT, source="test"), source=folder, directory=folder / "run")
    ledger.begin()
    level = level_of_theory(ledger.config.labels)
    StageRuns(ledger, level=level).run(initial.plan(ledger, level))
    return Ledger.open(folder / "run")


def distances(frame):
    return np.sort(np.linalg.norm(frame.positions[:, None] - frame.positions[None], axis=-1).ravel())


def test_they_are_copied_labelled_and_started_from_in_turn(ledger, folder):
    assert (folder / "run" / "inputs" / "conformers.xyz").is_file()
    given = [distances(atoms) for atoms in ase.io.read(folder / "conformers.xyz", ":")]

    def which(frame):
        """Number of the conformer that a frame is; None for another frame."""
        found = [k for k, own in enumerate(given) if np.allclose(distances(frame), own, atol=1e-4)]
        return found[0] if found else None

    with open_part(ledger.part_path(names.INITIAL_FRAMES)) as root:
        train, system = read_frames(root["train"]), read_frames(root["system"])[0]
    assert [which(frame) for frame in train] == [None] * 6 + [0, 1, 2]
    assert all(np.array_equal(frame.numbers, system.numbers) for frame in train)

    parts, started = ledger.reader(), []
    for kelvin in (300.0, 600.0):
        starts = starting_frames(parts, ledger.config, iteration=0, point=StatePoint("", kelvin))
        numbers = [which(frame) for frame in starts.frames]
        assert numbers[1::2] == [None, None]
        started += numbers[::2]
    assert started == [0, 1, 2, 0]


def test_a_structure_of_another_molecule_is_named(folder):
    images = ase.io.read(folder / "conformers.xyz", ":")
    other = ase.build.molecule("H2O")
    ase.io.write(folder / "conformers.xyz", [images[0], other, images[2]])
    with pytest.raises(InputError, match=r"frame 1, is no structure of the system, which has 10 atoms"):
        preflight(parse_config(TEXT, source="test"), base_dir=folder)


def test_the_note_says_how_many(folder):
    notes = preflight(parse_config(TEXT, source="test"), base_dir=folder).notes
    assert any("conformers.xyz: 3 starting structures" in note for note in notes)
