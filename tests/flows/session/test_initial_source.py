"""Which initial frames `initial.source: auto` chooses where the classical force field describes the molecules."""

import pytest
from ase.build import molecule
from ase.io import write

from al_engine.config.presets import PRESETS, merged
from al_engine.config.reader import validate_config
from al_engine.config.system import REFERENCE_ATOMS
from al_engine.errors import InputError
from flows.session.preflight import preflight

WATERS = REFERENCE_ATOMS // 3
DENSE = {"density_g_per_cm3": 1.0}


def chosen(folder, system, **sections):
    config = validate_config(merged(PRESETS["quick"], {"name": "case", "system": system, **sections}), source="case")
    return preflight(config, base_dir=folder).config.initial.source


@pytest.mark.parametrize(
    ("system", "source"),
    [
        ({"smiles": "O"}, "anneal"),
        ({"smiles": "O", "molecules": 2}, "reference"),
        ({"smiles": "O", "molecules": WATERS}, "reference"),
        ({"smiles": "O", "molecules": WATERS + 1}, "anneal"),
        ({"species": [{"smiles": "O", "count": WATERS}, {"smiles": "[Na+].[Cl-]"}]}, "reference"),
        ({"species": [{"smiles": "O", "count": WATERS}, {"smiles": "CO"}]}, "anneal"),
        ({"smiles": "C[N+](C)(C)CCO.[Cl-]", "molecules": 3}, "anneal"),  # too large with ions too
        ({"smiles": "NCC(=O)O"}, "anneal"),
        ({"smiles": "[NH3+]CC(=O)[O-]"}, "reference"),  # a proton moves in vacuum
        ({"smiles": "[NH3+]CC(=O)[O-]", "molecules": 2}, "reference"),
        ({"smiles": "[NH3+]CC(=O)[O-]", "molecules": 4}, "anneal"),  # too large for MD by GFN2-xTB
    ],
)
def test_clusters_and_molecules_that_rearrange_begin_with_the_reference_method(system, source, tmp_path):
    assert chosen(tmp_path, system, labels={"backend": "tblite"}) == source


@pytest.mark.parametrize(("molecules", "says"), [(1, "come from MD by GFN2-xTB"), (4, "many candidates")])
def test_a_molecule_that_rearranges_is_named(molecules, says, tmp_path):
    system = {"smiles": "[NH3+]CC(=O)[O-]", "molecules": molecules}
    config = validate_config(merged(PRESETS["quick"], {"name": "case", "system": system}), source="case")
    (note,) = [text for text in preflight(config, base_dir=tmp_path).notes if "moves an atom of the molecule" in text]
    assert says in note


def test_a_file_of_two_molecules_is_a_cluster_too(tmp_path):
    other = molecule("H2O")
    other.translate((0.0, 0.0, 3.0))
    write(tmp_path / "pair.xyz", molecule("H2O") + other)
    assert chosen(tmp_path, {"structure": "pair.xyz"}, labels={"backend": "tblite"}) == "reference"


def test_boxes_from_which_clusters_are_cut_and_annealed_boxes_do_not(tmp_path):
    assert (
        chosen(tmp_path, {"smiles": "O", "molecules": 9, "shape": "box", **DENSE}, selection={"cut_molecules": 3})
        == "anneal"
    )
    assert chosen(tmp_path, {"smiles": "O", "molecules": 2, **DENSE}, initial={"box_molecules": 8}) == "anneal"


def test_a_choice_in_the_config_stands(tmp_path):
    assert chosen(tmp_path, {"smiles": "O", "molecules": 2}, initial={"source": "anneal"}) == "anneal"


def test_other_reference_methods_are_not_chosen_for_their_speed(tmp_path):
    parameters = {"method": "GFN2-xTB", "verbosity": 0}
    labels = {"backend": "ase", "ase_calculator": "tblite.ase:TBLite", "ase_parameters": parameters}
    assert chosen(tmp_path, {"smiles": "O", "molecules": 2}, labels=labels) == "anneal"


def test_a_crushed_frame_does_not_stop_a_campaign_whose_other_frames_are_sound(tmp_path):
    """It becomes a failed label; a file that has only such frames is refused."""
    sound, crushed = molecule("H2O"), molecule("H2O")
    crushed.positions[2] = crushed.positions[1] + [0.0, 0.0, 0.3]
    crushed.positions[0] += [0.0, 0.0, 0.1]
    options = {"source": "file", "file": "frames.xyz", "frames": 3, "test_frames": 1}
    write(tmp_path / "frames.xyz", [crushed, sound, sound, sound])
    assert chosen(tmp_path, {"smiles": "O"}, initial=options, labels={"backend": "tblite"}) == "file"
    write(tmp_path / "frames.xyz", [crushed] * 4)
    with pytest.raises(InputError, match=r"cannot be labelled: bad_input: atoms 1 and 2 are 0\.300 Å apart"):
        chosen(tmp_path, {"smiles": "O"}, initial=options, labels={"backend": "tblite"})
