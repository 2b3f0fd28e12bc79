"""A campaign that starts from models of the user's own: mace-torch's, converted."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from stage_runs import StageRuns

from al_engine.campaign import names
from al_engine.campaign.inputs import START
from al_engine.campaign.ledger import Ledger
from al_engine.config.reader import load_config
from al_engine.errors import InputError, LedgerError
from al_engine.files.frames_hdf5 import write_labelled
from al_engine.files.part_file import open_part, write_part
from al_engine.structures.frames import Frame, LabelledFrame
from flows.cli.init import init_campaign
from flows.session.prepare import prepare
from flows.stages import training
from models.interop.convert_mace import convert_mace
from models.interop.mace_file import read_mace_group
from models.storage.member_files import members_hash
from models.storage.weights import read_member, write_member

REFERENCE = Path(__file__).parents[2] / "models" / "data" / "mace_one_layer.h5"
OPTIONS = {"system": {"smiles": "CO"}, "structure": None}


@pytest.fixture
def committee(tmp_path):
    """A file of two members: a MACE model, and the same with another embedding."""
    path = tmp_path / "mine" / "committee.h5"
    path.parent.mkdir()
    with h5py.File(REFERENCE) as file:
        member = convert_mace(read_mace_group(file["model"]))
    with h5py.File(path, "w") as file:
        write_member(file.create_group("member0"), member)
        with torch.no_grad():
            member.model.towers[0].embedding.mul_(1.1)
        write_member(file.create_group("member1"), member)
    return path


def begun(ledger):
    """A campaign with its first part."""
    ledger.begin()
    with write_part(ledger.part_path("initial-frames"), kind="initial-frames", key="a"):
        pass


@pytest.fixture
def campaign(committee, tmp_path):
    """A campaign that starts from the committee, up to its first training."""
    directory = tmp_path / "campaign"
    init_campaign(directory, **OPTIONS, preset="quick", start=committee)
    ledger = Ledger.open(directory)
    training = ledger.config.training.model_copy(
        update={"updates": 1, "validation_interval": 1, "learning_rate": 1e-9, "members": 3}
    )
    execution = ledger.config.execution.model_copy(update={"acceleration": "off"})
    labels = ledger.config.labels.model_copy(update={"backend": "tblite"})
    ledger.config = ledger.config.model_copy(update={"training": training, "execution": execution, "labels": labels})
    ledger.write_config()
    ledger.begin()
    rng = np.random.default_rng(0)
    frames = [Frame(numbers=[6, 8, 1], positions=2.0 * np.eye(3) + rng.normal(0, 0.1, (3, 3))) for _ in range(6)]
    labelled = [LabelledFrame(frame, -100.0 + rng.normal(), rng.normal(size=(3, 3))) for frame in frames]
    with write_part(ledger.part_path(names.INITIAL_DATASET), kind=names.INITIAL_DATASET, key="a") as root:
        write_labelled(root.create_group("labelled"), labelled)
    return StageRuns(ledger)


def test_init_copies_the_models_and_takes_their_architecture(committee, tmp_path):
    config = init_campaign(tmp_path / "new", **OPTIONS, preset="quick", start=committee).config
    assert config.training.start == START
    assert (config.model.kind, config.model.long, config.model.layers) == ("mace", None, 1)
    assert members_hash(tmp_path / "new" / START) == members_hash(committee)
    assert load_config(tmp_path / "new" / "campaign.yaml") == config


def test_members_start_from_the_models_and_a_changed_file_is_noticed(campaign):
    ledger = campaign.ledger
    start = ledger.directory / START
    for member in range(3):
        campaign.run(training.plan(ledger, 0, member))
        with h5py.File(start) as file, open_part(ledger.part_path(names.member(0, member))) as root:
            given, trained = read_member(file[f"member{member % 2}"]), read_member(root["member"])
        for ours, theirs in zip(trained.model.parameters(), given.model.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7)  # one update at a rate of 1e-9
        assert trained.model.constants.reference_energies != given.model.constants.reference_energies
    campaign.run(training.plan(ledger, 0, 0))  # finished: taken as it is
    with h5py.File(start, "a") as file:
        file["member1/weights/towers.0.embedding"][0, 0] += 0.1
    with pytest.raises(LedgerError, match="iter000-member0"):
        campaign.run(training.plan(ledger, 0, 0))


def test_a_config_file_names_models_relative_to_itself(committee, tmp_path):
    architecture = init_campaign(tmp_path / "scratch", **OPTIONS, preset="quick", start=committee).config.model
    file = tmp_path / "mine" / "config.yaml"
    file.write_text(
        "name: x\nsystem: {smiles: CO}\nlabels: {backend: tblite}\ntraining: {start: committee.h5}\n"
        f"model: {architecture.model_dump_json()}\n"
    )
    directory = tmp_path / "runs"
    ledger = prepare(file, directory).ledger
    assert ledger.config.training.start == START
    assert members_hash(directory / START) == members_hash(committee)
    begun(ledger)
    assert prepare(file, directory).ledger.config.training.start == START
    with h5py.File(committee, "a") as other:
        other["member1/weights/towers.0.embedding"][0, 0] += 0.1
    with pytest.raises(InputError, match=r"training.start: .*committee.h5 holds other models"):
        prepare(file, directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model: {kind: mace}\n", r"training.start: .*committee.h5:/member0 has another architecture"),
        ("system: {smiles: CS}\n", r"knows H, C, N, O, F, Na, Cl, but not S of the system"),
        ("training: {start: nowhere.h5}\n", "nowhere.h5 does not exist"),
    ],
)
def test_models_that_do_not_fit_are_refused_before_anything_is_written(committee, tmp_path, change, message):
    with h5py.File(committee) as root:
        model = read_member(root["member0"]).model.config.model_dump_json()
    lines = {
        "system": "system: {smiles: CO}\n",
        "labels": "labels: {backend: tblite}\n",
        "training": "training: {start: committee.h5}\n",
        "model": f"model: {model}\n",
    }
    lines[change.split(":")[0]] = change
    file = tmp_path / "mine" / "config.yaml"
    file.write_text("name: x\n" + "".join(lines.values()))
    with pytest.raises(InputError, match=message):
        prepare(file, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
