"""Choosing a backend, naming the level of theory, and ASE calculators by name."""

import importlib.metadata
import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk

from al_engine.config import LabelsConfig
from al_engine.errors import InputError
from al_engine.structures.frames import Frame
from labelers import LabelError, LabelReason, create_labeler, level_of_theory, resolve_backend
from labelers.backends import registry

COPPER = Frame.from_atoms(bulk("Cu", cubic=True))


def only(*modules):
    return lambda backend: backend in modules


@pytest.mark.parametrize("periodic", [False, True])
def test_auto_is_tblite(periodic):
    assert resolve_backend(LabelsConfig(), periodic=periodic) == "tblite"


def test_auto_is_xtb_for_molecules_where_tblite_is_missing(monkeypatch):
    monkeypatch.setattr(registry, "_installed", only("xtb"))
    assert resolve_backend(LabelsConfig()) == "xtb"
    with pytest.raises(InputError, match="pip install tblite"):
        resolve_backend(LabelsConfig(), periodic=True)


def test_a_missing_backend_is_bad_input_with_the_command_to_type(monkeypatch):
    monkeypatch.setattr(registry, "_installed", only())
    with pytest.raises(InputError, match="pip install tblite"):
        resolve_backend(LabelsConfig())
    with pytest.raises(InputError, match="pip install xtb"):
        resolve_backend(LabelsConfig(backend="xtb"))


def test_xtb_for_a_box_is_bad_input():
    with pytest.raises(InputError, match="tblite"):
        resolve_backend(LabelsConfig(backend="xtb"), periodic=True)


def test_fingerprint_changes_with_backend_and_every_setting_that_matters():
    configs = [
        LabelsConfig(backend="xtb"),
        LabelsConfig(backend="tblite"),
        LabelsConfig(backend="xtb", accuracy=0.1),
        LabelsConfig(backend="xtb", electronic_temperature_kelvin=1000.0),
        LabelsConfig(backend="xtb", max_scf_iterations=100),
        LabelsConfig(backend="ase", ase_calculator="emt"),
        LabelsConfig(backend="ase", ase_calculator="lj"),
        LabelsConfig(backend="ase", ase_calculator="lj", ase_parameters={"sigma": 2.0}),
    ]
    assert len({level_of_theory(config).fingerprint() for config in configs}) == len(configs)


def test_fingerprint_ignores_settings_that_change_no_label_and_the_spelling_auto():
    same = [
        LabelsConfig(backend="tblite"),
        LabelsConfig(backend="auto"),
        LabelsConfig(backend="tblite", chunk_frames=3, time_limit_s=1.0),
    ]
    assert len({level_of_theory(config).fingerprint() for config in same}) == 1
    assert level_of_theory(same[0]).method == "GFN2-xTB"


def test_level_records_the_installed_version():
    from importlib.metadata import version

    level = level_of_theory(LabelsConfig(backend="tblite"))
    assert (level.backend, level.backend_version) == ("tblite", version("tblite"))


def test_level_records_the_version_of_the_distribution_that_has_the_package():
    level = level_of_theory(LabelsConfig(backend="ase", ase_calculator="yaml.some:Calculator"))
    assert level.settings["calculator_version"] == importlib.metadata.version("PyYAML")


def test_emt_by_name_is_ase_s_emt():
    from ase.calculators.emt import EMT

    frame = COPPER.with_positions(COPPER.positions + np.random.default_rng(0).normal(0, 0.1, (4, 3)))
    energy, forces, _ = create_labeler(LabelsConfig(backend="ase", ase_calculator="emt")).label(frame)
    atoms = frame.to_atoms()
    atoms.calc = EMT()
    assert energy == atoms.get_potential_energy()
    assert np.array_equal(forces, atoms.get_forces())


def test_a_class_by_path_takes_its_parameters():
    argon = Frame(numbers=[18, 18], positions=[[0, 0, 0], [0, 0, 4.0]])
    config = LabelsConfig(
        backend="ase",
        ase_calculator="ase.calculators.lj:LennardJones",
        ase_parameters={"sigma": 3.4, "epsilon": 0.01, "rc": 1000.0},
    )
    energy, forces, _ = create_labeler(config).label(argon)
    sixth = (3.4 / 4.0) ** 6
    assert energy == pytest.approx(4 * 0.01 * (sixth**2 - sixth), abs=1e-9)
    assert forces[1, 2] == pytest.approx(4 * 0.01 * (12 * sixth**2 - 6 * sixth) / 4.0, abs=1e-9)


def test_charge_and_spin_reach_an_ase_calculator(molecules):
    config = LabelsConfig(backend="ase", ase_calculator="tblite.ase:TBLite", ase_parameters={"verbosity": 0})
    for name in ("acetate", "oxygen"):
        through_ase, _, _ = create_labeler(config).label(molecules[name])
        direct, _, _ = create_labeler(LabelsConfig(backend="tblite")).label(molecules[name])
        assert through_ase == pytest.approx(direct, abs=1e-8)


@pytest.mark.parametrize("name", ["no_such_code", "no.such.module:Class", "ase.calculators.lj:NoSuchClass", ":Class"])
def test_an_unknown_calculator_is_bad_input(name):
    with pytest.raises(InputError, match=r"package\.module:Class"):
        create_labeler(LabelsConfig(backend="ase", ase_calculator=name))


@pytest.mark.parametrize(("typed", "meant"), [("ORCA", "orca"), ("espreso", "espresso"), ("FHI-aims", "aims")])
def test_the_nearest_calculator_is_suggested(typed, meant):
    with pytest.raises(InputError, match=f"did you mean '{meant}'"):
        create_labeler(LabelsConfig(backend="ase", ase_calculator=typed))


def test_parameters_a_calculator_does_not_take_are_bad_input():
    mixing = "ase.calculators.mixing:SumCalculator"
    config = LabelsConfig(backend="ase", ase_calculator=mixing, ase_parameters={"no_such_option": 1})
    with pytest.raises(InputError, match="ase_parameters"):
        create_labeler(config)


def test_an_exception_of_an_ase_calculator_costs_only_the_frame():
    with pytest.raises(LabelError, match="emt: NotImplementedError") as caught:
        create_labeler(LabelsConfig(backend="ase", ase_calculator="emt")).label(
            Frame(numbers=[92], positions=[[0, 0, 0]])
        )
    assert caught.value.reason is LabelReason.BACKEND_ERROR


def test_importing_the_package_loads_no_backend():
    heavy = ("xtb", "tblite", "ase", "torch", "prefect", "rdkit", "vesin")
    code = f"import sys, labelers; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
