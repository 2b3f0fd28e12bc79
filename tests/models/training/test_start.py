"""Training that starts from the members of a file: accepted and refused members, and the hash of members."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
import yaml

from al_engine.config import ModelConfig, PathConfig, TrainingConfig
from al_engine.errors import InputError
from al_engine.structures.frames import LabelledFrame
from models.inference.committee import Committee
from models.ms_mace import MSMACE
from models.storage.member_files import copy_members, members_hash
from models.storage.weights import TrainedMember, write_member
from models.training.start import check_start, read_start, refuse_other_architecture
from models.training.training import train_member


@pytest.fixture
def write_members(tiny_config, tiny_model, tmp_path):
    """Write members of the given seeds; returns the file."""

    def write(*seeds, name="start.h5", elements=None):
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            for k, seed in enumerate(seeds):
                model = tiny_model(tiny_config("mace"), seed=seed)
                if elements and k:
                    model = MSMACE(model.config, replace(model.constants, elements=elements), seed=seed)
                write_member(file.create_group(f"member{k}"), TrainedMember(model))
        return path

    return write


def _weights(member):
    return torch.cat([weight.detach().flatten() for weight in member.model.parameters()])


def test_a_member_starts_from_its_number_and_from_the_first_after_the_last(write_members):
    path = write_members(1, 2)
    first, second, third = (_weights(read_start(path, member)) for member in range(3))
    assert torch.equal(first, third)
    assert not torch.equal(first, second)


def test_members_that_fit_are_accepted_also_where_they_know_more_elements(write_members, tiny_config):
    check_start(write_members(1, 2), tiny_config("mace"), elements=[1, 8])


def test_every_key_that_differs_is_named_with_what_to_write(write_members, tiny_config):
    other = tiny_config("message", short=PathConfig(cutoff_ang=3.5, channels=4, l_max=2, radial_mlp=[8]))
    with pytest.raises(InputError, match=r"start.h5:/member0 has another architecture") as refused:
        check_start(write_members(1), other, elements=[1])
    assert str(refused.value).splitlines()[1:3] == [
        '  model.kind: "mace"  # now "ms-mace"',
        "  model.short.cutoff_ang: 3.0  # now 3.5",
    ]
    assert str(refused.value).splitlines()[3].startswith("  model.long: null  # now {")


def test_what_to_write_is_enough(tiny_config):
    """The lines of the message are YAML, and with them the architectures agree."""
    theirs, ours = tiny_config("mace", hidden_l_max=0, dtype="float32"), ModelConfig()
    with pytest.raises(InputError) as refused:
        refuse_other_architecture(theirs, ours, where="it")
    values = ours.model_dump()
    for line in str(refused.value).splitlines()[1:]:
        key, text = line.strip().removeprefix("model.").split(": ", 1)
        *sections, name = key.split(".")
        section = values
        for inner in sections:
            section = section[inner]
        section[name] = yaml.safe_load(text)
    assert ModelConfig(**values) == theirs


def test_elements_that_are_not_known_are_named(write_members, tiny_config):
    with pytest.raises(InputError, match=r"knows H, C, O, but not N, Cl of the system"):
        check_start(write_members(1), tiny_config("mace"), elements=[1, 7, 17])


def test_members_that_know_different_elements_are_no_committee(write_members, tiny_config):
    with pytest.raises(InputError, match="must know the same elements"):
        check_start(write_members(1, 2, elements=(1, 6, 17)), tiny_config("mace"), elements=[1, 6])


@pytest.mark.parametrize("content", [None, b"no HDF5"])
def test_a_file_that_is_missing_or_something_else_is_refused(tmp_path, tiny_config, content):
    path = tmp_path / "start.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"start.h5 (does not exist|cannot be opened)"):
        check_start(path, tiny_config("mace"), elements=[1])


def test_members_are_known_by_their_content_not_by_their_file(write_members, tmp_path):
    source = write_members(1, 2)
    parts, campaign = tmp_path / "parts", tmp_path / "campaign.h5"
    parts.mkdir()
    with h5py.File(source) as file, h5py.File(campaign, "w") as root:
        for k in range(2):
            with h5py.File(parts / f"{k}.h5", "w") as part:
                file.copy(f"member{k}", part, "member")
            root[f"iterations/000/member{k}"] = h5py.ExternalLink(f"parts/{k}.h5", "/")
    copy_members(tmp_path, tmp_path / "copy.h5")  # of a campaign directory
    assert members_hash(tmp_path) == members_hash(source) == members_hash(tmp_path / "copy.h5")
    assert members_hash(write_members(2, 1, name="swapped.h5")) != members_hash(source)
    with h5py.File(tmp_path / "copy.h5", "a") as file:
        file["member1/weights/towers.0.embedding"][0, 0] += 1e-6
    assert members_hash(tmp_path / "copy.h5") != members_hash(source)


def test_a_start_from_another_level_of_theory_goes_on_where_it_was(tiny_config, tiny_model, random_cluster):
    """With other E0s and without an element of the start, energies and forces are right before the first update."""
    start = TrainedMember(tiny_model(tiny_config("mace")))
    model = tiny_model(tiny_config("mace"))
    clusters = [random_cluster(n, seed=n) for n in (4, 5, 6, 7, 8, 9)]
    frames = [replace(frame, numbers=np.where(frame.numbers == 8, 6, frame.numbers)) for frame in clusters]
    energies, forces = Committee([model]).predict(frames)
    other = {1: 3.0, 6: -1000.0}
    labelled = [
        LabelledFrame(frame, energies[0, k] + sum(other[z] for z in frame.numbers.tolist()), forces[k][0])
        for k, frame in enumerate(frames)
    ]
    trained = train_member(
        frames=labelled,
        model=start.model.config,
        training=TrainingConfig(batch_size=2, validation_interval=1, learning_rate=1e-9),
        seed=0,
        updates=1,
        kernels=False,
        start=start,
    )
    assert trained.history.validation_loss[0] < 1e-9
    assert trained.history.train_loss[0] < 1e-9
    predicted, _ = Committee([trained.model]).predict(frames)
    np.testing.assert_allclose(predicted[0], [item.energy for item in labelled], rtol=0, atol=1e-5)
    assert trained.model.constants.elements == (1, 6, 8)
    assert trained.model.constants.reference_energies[2] == start.model.constants.reference_energies[2]
