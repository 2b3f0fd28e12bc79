"""A campaign that an earlier version labelled through ASE goes on if its labels are the same now, else says why not."""

import json
import sys
from pathlib import Path

import pytest
import stage_runs
from ase.build import molecule
from ase.io import write
from flow_runs import SMALLER

from al_engine.campaign import names
from al_engine.errors import InputError
from al_engine.files.part_file import open_part
from flows.stages.labels.levels import level_to_go_on_with
from labelers import LevelOfTheory

sys.path.insert(0, str(Path(__file__).parents[2] / "labelers"))  # worker processes import a calculator of its tests
CONFIG = SMALLER.replace(
    "labels: {backend: tblite, chunk_frames: 20}", "labels: {backend: ase, ase_calculator: CALC, chunk_frames: 20}"
).replace("duration_ps: 1.0", "source: file, file: FRAMES")  # these potentials know no methanol


def earlier(level):
    settings = {key: value for key, value in level.settings.items() if key not in {"energy", "charge_and_spin"}}
    return LevelOfTheory(level.method, level.backend, level.backend_version, settings)


@pytest.fixture
def begun_before(tmp_path, monkeypatch):
    """Begins a campaign as an earlier version would have; the campaign, and the level that this version has for it."""
    present = {}

    def level_of_theory(*arguments, **options):
        present["level"] = stage_runs_level(*arguments, **options)
        return earlier(present["level"])

    images = [molecule("CH3OH") for _ in range(32)]
    for index, atoms in enumerate(images):
        atoms.rattle(0.05, seed=index)
    write(tmp_path / "frames.xyz", images, format="extxyz")
    config = CONFIG.replace("FRAMES", str(tmp_path / "frames.xyz"))
    stage_runs_level = stage_runs.level_of_theory
    monkeypatch.setattr(stage_runs, "level_of_theory", level_of_theory)
    return lambda calculator: (
        stage_runs.begun(tmp_path / "campaign", config.replace("CALC", f"'{calculator}'")),
        present,
    )


def test_it_goes_on_at_the_level_it_has(begun_before):
    context, present = begun_before("emt")
    with context as campaign:
        before = campaign.level
        campaign.level = level_to_go_on_with(campaign.ledger, present["level"])
        assert campaign.level == before
        there, lost = campaign.ledger.label_parts(names.INITIAL_FRAMES)
        written = there.stat().st_mtime_ns
        lost.unlink()
        campaign.initial_set()
        assert there.stat().st_mtime_ns == written  # its key is the same: nothing is computed again
        with open_part(lost) as root:
            assert json.loads(root.attrs["level_of_theory"]) == before.to_dict()


def test_it_is_refused_with_what_changed_and_what_to_type(begun_before, tmp_path):
    context, present = begun_before("free_energy_calculators:Smeared")
    with context as campaign, pytest.raises(InputError, match="`free_energy`") as caught:
        level_to_go_on_with(campaign.ledger, present["level"])
    assert f"`al-engine run {tmp_path}/campaign/campaign.yaml --dir NEW`" in str(caught.value)
