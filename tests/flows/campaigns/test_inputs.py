"""The inputs that users really have, from public reports and made up: taken as they are meant, or refused by name.

`data/inputs/*.yaml` are the table: what the input is, where the situation comes from, and what must come of it.
"""

from pathlib import Path

import pytest
import yaml
from generated_inputs import INPUTS
from rdkit import Chem

from al_engine.config.presets import PRESETS, merged
from al_engine.config.reader import validate_config
from al_engine.errors import InputError
from flows.session.preflight import preflight
from labelers.checks import reference
from labelers.pool.pool import LabelPool

TABLES = sorted((Path(__file__).parents[1] / "data" / "inputs").glob("*.yaml"))
CASES = {case["name"]: case for table in TABLES for case in yaml.safe_load(table.read_text())}


@pytest.fixture(scope="module", autouse=True)
def _kept_pools():
    """The same labelling processes for all inputs with the same settings: a label depends on its frame alone."""
    pools = {}

    def kept(config, **options):
        key = repr((config, options))
        if key not in pools:
            pools[key] = LabelPool(config, **options)
        return pools[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "LabelPool", kept)
        patch.setattr(LabelPool, "close", lambda _: None)
        yield
    for pool in pools.values():
        pool.close()


def config_of(case, folder):
    """The case's config; its files are written."""
    for name, text in case.get("files", {}).items():
        (folder / name).write_text(INPUTS[text]() if text in INPUTS else text)
    return validate_config(merged(PRESETS["quick"], {"name": "case", **case["config"]}), source="case")


def test_every_name_is_used_once():
    count = sum(len(yaml.safe_load(table.read_text())) for table in TABLES)
    assert len(CASES) == count


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "refused" in case])
def test_refused(name, tmp_path):
    with pytest.raises(InputError) as caught:
        preflight(config_of(CASES[name], tmp_path), base_dir=tmp_path)
    message = str(caught.value)
    assert [word for word in CASES[name]["refused"] if word not in message] == [], message


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "system" in case])
def test_taken(name, tmp_path):
    expected = CASES[name]["system"]
    checked = preflight(config_of(CASES[name], tmp_path), base_dir=tmp_path)
    frame = checked.systems[0].system.frame
    assert (frame.to_atoms().get_chemical_formula(), frame.charge, frame.unpaired_electrons) == (
        expected["formula"], expected["charge"], expected["unpaired"],
    )  # fmt: skip
    if "smiles" in expected:
        mol = Chem.RemoveHs(checked.systems[0].system.molecule.rdkit)
        Chem.RemoveStereochemistry(mol)
        assert Chem.MolToSmiles(mol) == Chem.CanonSmiles(expected["smiles"])
    wanted = CASES[name].get("notes", [])
    assert len(checked.notes) == len(wanted), checked.notes
    assert all(any(word in note for note in checked.notes) for word in wanted), checked.notes
