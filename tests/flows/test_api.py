"""The face for Python scripts: `from al_engine import Campaign, load_committee`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import al_engine
from al_engine import Campaign, load_committee
from al_engine.campaign.ledger import Ledger
from al_engine.errors import InputError

ROOT = Path(al_engine.__file__).parents[1]


@pytest.fixture
def campaign(finished):
    return Campaign(finished[1])


def test_it_says_what_the_command_line_says(campaign, finished):
    command_line, directory, _ = finished
    assert campaign.status() == command_line.status(directory)
    assert [record.iteration for record in campaign.iterations] == [0, 1]
    assert campaign.verdict.kind.value == campaign.status()["verdict"]


def test_frames_are_counted_and_named_as_the_records_do(campaign):
    for record in campaign.iterations:
        frames = list(campaign.frames(iteration=record.iteration))
        assert len(frames) == record.counts.sampled
        by_kelvin = [atoms.info["temperature_kelvin"] for atoms in frames]
        assert {k: by_kelvin.count(k) for k in by_kelvin} == {
            t.temperature_kelvin: t.counts.sampled for t in record.temperatures
        }
        assert len(list(campaign.frames(fate="labelled", iteration=record.iteration))) == record.labelled
        rejected = list(campaign.frames(fate=["rejected", "unsound"], iteration=record.iteration))
        assert len(rejected) == record.counts.rejected
        for atoms in campaign.frames(fate="rejected", iteration=record.iteration):
            assert atoms.info["deviation_norm"] > 0.3
    assert len(list(campaign.frames())) == sum(record.counts.sampled for record in campaign.iterations)
    both = list(campaign.frames(fate=["labelled", "accurate"]))
    assert {atoms.info["fate"] for atoms in both} <= {"labelled", "accurate"}


def test_labelled_frames_are_in_the_data_set(campaign):
    dataset = {atoms.positions.tobytes(): atoms for atoms in campaign.dataset()}
    labelled = list(campaign.frames(fate="labelled"))
    assert labelled
    for atoms in labelled:
        assert atoms.positions.tobytes() in dataset
    items = Ledger.open(campaign.directory).dataset()
    for atoms, item in zip(campaign.dataset(), items, strict=True):
        assert atoms.get_potential_energy() == item.energy
        np.testing.assert_array_equal(atoms.get_forces(), item.forces)
    assert not {atoms.positions.tobytes() for atoms in campaign.test_set()} & dataset.keys()


def test_the_committee_of_any_iteration(campaign):
    atoms = campaign.dataset()[0]
    energies = []
    for calculator in (campaign.committee(), campaign.committee(0), load_committee(campaign.directory, iteration=0)):
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
    assert energies[1] == energies[2] != energies[0]


@pytest.mark.parametrize("options", [{"fate": "chosen"}, {"iteration": 2}, {"iteration": -1}])
def test_wrong_options_say_what_there_is(campaign, options):
    with pytest.raises(InputError, match=r"labelled|2 finished iterations"):
        campaign.frames(**options)


def test_what_is_no_campaign_is_refused(tmp_path):
    with pytest.raises(InputError, match="no campaign directory"):
        Campaign(tmp_path)


@pytest.mark.parametrize("shadow", ["models.py", "flows/__init__.py"])
def test_a_file_of_the_users_that_has_a_packages_name_is_named(shadow, tmp_path):
    (tmp_path / shadow).parent.mkdir(exist_ok=True)
    (tmp_path / shadow).write_text("")
    code = f"import sys; sys.path[1:1] = [{str(ROOT)!r}]\nfrom al_engine import load_committee"
    (tmp_path / "script.py").write_text(code)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    room = shadow.split("/")[0].removesuffix(".py")
    assert f"{tmp_path / shadow} has the name of al-engine's package `{room}`" in done.stderr.splitlines()[-1]
    assert "rename it" in done.stderr


def test_importing_it_loads_nothing_heavy():
    code = "import sys, al_engine; dir(al_engine); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"torch", "prefect", "h5py", "ase"} & {name.split(".")[0] for name in done.stdout.split()}
