"""Frames of several charges in one campaign, labelled through ASE."""

import sys
from pathlib import Path

import pytest
import stage_runs
from ase.build import molecule
from ase.io import write
from flow_runs import SMALLER

from al_engine.campaign import names
from al_engine.errors import InputError
from flows.stages.labels.labelling import frames_to_label

sys.path.insert(0, str(Path(__file__).parents[2] / "labelers"))  # worker processes import a calculator of its tests
CONFIG = SMALLER.replace(
    "initial: {frames: 24, test_frames: 8, duration_ps: 1.0}",
    "initial: {frames: 9, test_frames: 3, source: file, file: frames.xyz, stretch: {share: 0.0}}",
)


@pytest.fixture
def mixed(tmp_path):
    """A file in which every fourth frame is a hydroxide anion, the others the system's methanol."""
    methanol, hydroxide = molecule("CH3OH"), molecule("OH")
    hydroxide.info["charge"] = -1
    hydroxide.set_initial_magnetic_moments(None)  # those of the radical
    images = [(hydroxide if index % 4 == 2 else methanol).copy() for index in range(12)]
    for index, atoms in enumerate(images):
        atoms.rattle(0.05, seed=index)
    (tmp_path / "campaign").mkdir()
    write(tmp_path / "campaign" / "frames.xyz", images, format="extxyz")
    return tmp_path / "campaign"


def labels(**settings):
    text = ", ".join(f"{key}: {value}" for key, value in {"backend": "ase", **settings}.items())
    return CONFIG.replace("labels: {backend: tblite, chunk_frames: 20}", f"labels: {{{text}}}")


def begin(directory, text):
    with stage_runs.begun(directory, text):
        pass


def test_each_frame_is_labelled_with_its_own(mixed):
    with (
        stage_runs.begun(mixed, CONFIG) as direct,
        stage_runs.begun(
            mixed.parent / "through-ase",
            labels(ase_calculator="'tblite.ase:TBLite'", ase_parameters="{verbosity: 0}").replace(
                "file: frames.xyz", f"file: {mixed}/frames.xyz"
            ),
        ) as through_ase,
    ):
        assert {frame.charge for frame in frames_to_label(direct.ledger.reader(), names.INITIAL_FRAMES)} == {0, -1}
        expected, found = (one.ledger.dataset() for one in (direct, through_ase))
    assert [item.frame.charge for item in found] == [item.frame.charge for item in expected]
    assert [item.energy for item in found] == pytest.approx([item.energy for item in expected], abs=1e-6)


def test_one_set_of_parameters_for_several_charges_is_refused(mixed):
    text = labels(ase_calculator="lj", ase_charge_and_spin="parameters")
    with pytest.raises(InputError, match=r"charge -1 with 0 unpaired electrons, charge \+0 with 0") as caught:
        begin(mixed, text)
    assert "labels.ase_charge_and_spin: `parameters`" in str(caught.value)


def test_frames_that_a_calculator_can_t_be_told_of_are_failures_with_the_key_to_set(mixed):
    with pytest.raises(InputError, match=r"no way .* 'lj'.*labels\.ase_charge_and_spin"):
        begin(mixed, labels(ase_calculator="lj"))
