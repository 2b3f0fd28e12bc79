"""Finished campaigns that go on: more iterations in their own directory, more temperatures and systems in a new one."""

import json
import shutil

import pytest
from ase.build import molecule
from ase.io import write

from al_engine.campaign.ledger import Ledger
from al_engine.errors import InputError
from flows.session.extend import extend
from flows.session.fork import fork
from flows.session.preflight import preflight
from flows.session.resume import first_unfinished


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of a finished campaign of two iterations, with the verdict `max_iterations`."""
    shutil.copytree(finished[1], tmp_path / "copy")
    return tmp_path / "copy"


def test_more_iterations_go_on_in_the_same_campaign(copy):
    before = Ledger.open(copy)
    digest, finished = before.dataset_digest(), len(before.history())
    assert before.verdict() is not None
    made = extend(copy, iterations=3)
    after = Ledger.open(copy)
    assert made.directory == copy
    assert made.max_iterations == after.config.stop.max_iterations == finished + 3
    assert made.verdict is None
    assert after.verdict() is None
    assert after.dataset_digest() == digest
    assert first_unfinished(after) == finished
    after.begin()  # refuses changes of other options


def test_a_verdict_that_more_iterations_do_not_lift_is_told(copy):
    text = (copy / "campaign.yaml").read_text()
    (copy / "campaign.yaml").write_text(text.replace("max_labels: null", "max_labels: 1"))
    made = extend(copy, iterations=1)
    assert made.verdict is not None
    assert Ledger.open(copy).verdict() == made.verdict


def test_the_iterations_of_a_fork_are_its_own(copy, tmp_path):
    fork(copy, tmp_path / "new")
    assert extend(tmp_path / "new", iterations=2).max_iterations == 2


def test_more_temperatures_share_the_labels(copy, tmp_path):
    old = Ledger.open(copy)
    kelvins = old.config.sampling.temperatures_kelvin
    made = extend(copy, tmp_path / "hot", temperatures=[1200, kelvins[0]], iterations=7)
    new = Ledger.open(tmp_path / "hot")
    assert new.config.sampling.temperatures_kelvin == [*kelvins, 1200]
    assert new.config.stop.max_iterations == made.max_iterations == 7
    assert made.fork is not None
    assert made.fork.labels == old.dataset_size()
    assert new.config.training.start is not None


def test_a_second_system_joins_the_first(copy, tmp_path):
    old = Ledger.open(copy)
    assert old.config.system is not None
    made = extend(copy, tmp_path / "two", systems=["{name: water, smiles: O, molecules: 2}"])
    new = Ledger.open(tmp_path / "two").config
    first, water = new.systems
    assert (first.smiles, first.molecules) == (old.config.system.smiles, old.config.system.molecules)
    assert (first.name, water.name) == ("CH4O", "water")
    assert new.training.energy_weight == 1000.0  # the default of several systems
    assert made.fork is not None
    assert made.fork.labels == old.dataset_size()
    preflight(new, base_dir=tmp_path / "two")


def test_files_of_systems_are_found_from_where_the_command_is_typed(copy, tmp_path, monkeypatch):
    write(tmp_path / "ammonia.xyz", molecule("NH3"))
    monkeypatch.chdir(tmp_path)
    extend(copy, tmp_path / "new", systems=["{name: ammonia, structure: ammonia.xyz}"])
    new = Ledger.open(tmp_path / "new")
    assert (new.directory / str(new.config.systems[1].structure)).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to extend by"),
        ({"temperatures": [500]}, "need a directory of their own"),
        ({"iterations": 1, "systems": ["{name: a, smiles: O}"]}, "need a directory of their own"),
        ({"new": "new", "systems": ["{smiles: O}"]}, "with a name"),
        ({"new": "new", "systems": ["{name: a, smile: O}"]}, "smiles"),
        ({"new": "new", "systems": ["{name: a"]}, "not valid YAML"),
    ],
)
def test_what_cannot_be_extended_is_said_and_nothing_is_written(copy, tmp_path, options, message):
    before = (copy / "campaign.yaml").read_bytes()
    new = tmp_path / options.pop("new") if "new" in options else None
    with pytest.raises(InputError, match=message):
        extend(copy, new, **options)
    assert (copy / "campaign.yaml").read_bytes() == before
    assert not (tmp_path / "new").exists()


def test_the_command_says_what_comes_next(finished, copy):
    command_line = finished[0]
    answer = command_line("extend", copy, "--iterations", "1", "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == {
        "directory": str(copy),
        "max_iterations": len(Ledger.open(copy).history()) + 1,
        "labels_as_data": 0,
        "verdict": None,
    }
