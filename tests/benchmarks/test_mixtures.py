"""Campaigns on mixtures: the charge that a composition demands, labels of another charge, and the page."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from tblite.ase import TBLite
from typer.testing import CliRunner

from al_engine.config.reader import validate_config
from al_engine.structures.frames import Frame, LabelledFrame
from flows.cli.app import app
from flows.session.preflight import preflight
from mixtures import CAMPAIGNS, SPECIES, charge_of, markdown, recomputed

ABOUT = {"command": "python benchmarks/mixtures.py", "date": "2026-12-01", "machine": "one", "versions": {}}


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_every_campaign_can_be_built_and_labelled(name, tmp_path):
    begun = CAMPAIGNS[name]
    config = begun if isinstance(begun, Path) else tmp_path / "case" / "campaign.yaml"
    if not isinstance(begun, Path):
        made = CliRunner().invoke(app, ["init", str(config.parent), "--preset=quick", *begun])
        assert made.exit_code == 0, made.output
    preflight(validate_config(yaml.safe_load(config.read_text()), source="case"), base_dir=tmp_path)


@pytest.mark.parametrize(
    ("symbols", "species", "charge"),
    [
        ("OH2" * 3, ("H2O", "CH4O"), 0),
        ("C6H11N2", ("C6H11N2", "BF4"), 1),
        ("C6H11N2" * 2 + "BF4", ("C6H11N2", "BF4"), 1),
        ("BF4", ("C6H11N2", "BF4"), -1),
        ("C5H14NO" + "CH4N2O" * 2, ("C5H14NO", "Cl", "CH4N2O"), 1),
        ("C5H14NO" + "Cl" + "CH4N2O" * 2, ("C5H14NO", "Cl", "CH4N2O"), 0),
    ],
)
def test_the_charge_follows_from_the_composition(symbols, species, charge):
    assert charge_of(Atoms(symbols).numbers, species) == charge


def test_part_of_a_molecule_has_no_charge():
    with pytest.raises(ValueError, match="whole molecules"):
        charge_of(np.array([8, 1]), ("H2O",))


@pytest.mark.parametrize(("stored", "others"), [(-1, 0), (1, 1)])
def test_labels_of_another_charge_are_found(stored, others):
    atoms = Atoms("Cl")
    atoms.calc = TBLite(method="GFN2-xTB", charge=stored, verbosity=0)
    frame = Frame(numbers=atoms.numbers, positions=atoms.positions, charge=stored)
    found = recomputed([LabelledFrame(frame, atoms.get_potential_energy(), np.zeros((1, 3)))], ("Cl",))
    assert found["charges"] == {"-1": 1}
    assert found["other_charge"] == others
    assert (found["energy_mev_per_atom"] > 100) == bool(others)


def test_the_page_has_a_row_for_each_system():
    systems = {
        "monomer": {"acceptance": [0.1, 0.004], "force": 12.3, "energy": 0.5},
        "liquid": {"acceptance": [0.2, 0.03], "force": None, "energy": None},
    }
    labels = {
        "labels": 40, "charges": {"-1": 3, "0": 37}, "other_charge": 0, "not_converged": 2,
        "energy_mev_per_atom": 1e-4, "force_mev_per_ang": 0.02,
    }  # fmt: skip
    done = {"verdict": "converged", "minutes": 12.0, "labels": 300, "systems": systems, "recomputed": labels}
    failed = {"verdict": "exit 2", "minutes": 1.0}
    lines = markdown(
        {"about": ABOUT, "campaigns": {"amide": {**done, "limit": 3}, "salt": {**failed, "limit": 1}}}, reading=""
    ).splitlines()
    assert "| amide: monomer | converged | 12 | 300 | 10.00, 0.40 | 12.3 | 0.5 |" in lines
    assert "| amide: liquid |  |  |  | 20.00, 3.00 |  |  |" in lines
    assert "| salt | exit 2 | 1 |  |  |  |  |" in lines
    assert "| amide | 3 of -1, 37 of +0 | 0 | 2 | 0.0001 | 0.02 |" in lines
    assert set(SPECIES) == set(CAMPAIGNS)
