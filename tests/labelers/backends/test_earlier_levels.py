"""A level of theory that an earlier version stored equals the current level if the labels would be the same."""

from dataclasses import replace

import pytest

from al_engine.config import LabelsConfig
from labelers import LevelOfTheory, level_of_theory
from labelers.backends.earlier_levels import changes_since

SMEARED = "free_energy_calculators:Smeared"
NO_FREE_ENERGY = "free_energy_calculators:Unlisted"


def now(calculator, **parameters):
    return level_of_theory(LabelsConfig(backend="ase", ase_calculator=calculator, ase_parameters=parameters))


def as_written_before(level, **parameters):
    settings = {key: value for key, value in level.settings.items() if key not in {"energy", "charge_and_spin"}}
    return {**level.to_dict(), "settings": {**settings, "parameters": {**settings["parameters"], **parameters}}}


def changes(calculator, *, closed_shells=True):
    level = now(calculator)
    return changes_since(as_written_before(level), level, closed_shells=closed_shells)


@pytest.mark.parametrize("calculator", ["emt", "lj", "orca", "nwchem", "mopac", "tblite.ase:TBLite", NO_FREE_ENERGY])
def test_a_calculator_with_a_single_energy_and_no_charge_has_no_changes(calculator):
    assert changes(calculator) == []


@pytest.mark.parametrize("calculator", ["vasp", "siesta", "castep", "octopus", SMEARED])
def test_a_free_energy_that_may_differ_from_the_energy_is_a_change(calculator):
    (change,) = changes(calculator)
    assert "free_energy" in change


@pytest.mark.parametrize("calculator", ["gaussian", "mopac", "tblite.ase:TBLite", "xtb.ase.calculator:XTB"])
def test_charges_that_the_calculator_read_from_atoms_before_are_no_change(calculator):
    assert changes(calculator, closed_shells=False) == []


@pytest.mark.parametrize("calculator", ["orca", "nwchem", "qchem", NO_FREE_ENERGY])
def test_charges_that_did_not_reach_the_program_before_are_a_change(calculator):
    (change,) = changes(calculator, closed_shells=False)
    assert "charge and unpaired electrons now reach" in change


def test_a_version_that_was_not_known_is_that_of_the_installed_package():
    level = now("yaml:Calculator")
    stored = {**level.to_dict(), "settings": {**level.settings, "calculator_version": "unknown"}}
    assert changes_since(stored, level, closed_shells=False) == []
    assert changes_since(level.to_dict() | {"method": "lj"}, level, closed_shells=False) is None


def test_the_content_of_a_file_that_the_calculator_reads_is_part_of_the_level(tmp_path):
    weights = tmp_path / "my.model"
    weights.write_bytes(b"old")
    written = tmp_path / "out.txt"
    written.write_text("of another label")
    level = now("yaml:Calculator", model_paths=[str(weights)], device="cpu")
    assert "files" not in now("yaml:Calculator", txt=str(written)).settings
    assert list(level.settings["files"]) == [str(weights)]
    stored = level.to_dict()
    weights.write_bytes(b"new")
    assert now("yaml:Calculator", model_paths=[str(weights)], device="cpu") != level
    del stored["settings"]["files"]  # as an earlier version stored it
    assert changes_since(stored, level, closed_shells=True) == []


def test_the_folder_for_files_is_not_part_of_the_level():
    level = now("emt")
    assert level == now("emt", directory="files")
    assert changes_since(as_written_before(level, directory="files"), level, closed_shells=True) == []


@pytest.mark.parametrize(
    "other",
    [
        {"method": "lj"},
        {"backend_version": "0.0"},
        {"settings": {"calculator_version": "0.0", "parameters": {}}},
        {"settings": {**now("emt").settings, "charge_and_spin": "atoms"}},
    ],
    ids=["calculator", "ASE", "calculator's version", "not an earlier one"],
)
def test_any_other_difference_makes_another_level(other):
    level = now("emt")
    assert changes_since({**as_written_before(level), **other}, level, closed_shells=True) is None


def test_levels_of_gfn2_have_no_earlier_form():
    level = level_of_theory(LabelsConfig(backend="tblite"))
    stored = replace(level, backend_version="0.1").to_dict()
    assert changes_since(stored, level, closed_shells=True) is None
    assert isinstance(level, LevelOfTheory)
