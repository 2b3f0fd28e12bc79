"""Config of several systems: what each has of its own, and what is refused."""

import pytest
import yaml

from al_engine.config import NamedSystemConfig
from al_engine.config.reader import parse_config
from al_engine.config.writer import config_text
from al_engine.errors import InputError

BASE = "name: a\nsystem: {smiles: C}\n"

TWO = """
name: two
systems:
- {name: pair, smiles: O, molecules: 2, temperatures_kelvin: [100, 200], initial: {frames: 30, stretch: {share: 0.5}}}
- {name: liquid, smiles: O, molecules: 32, shape: box, density_g_per_cm3: 1.0, cut_molecules: 4, pressure_bar: 1}
initial: {test_frames: 5, stretch: {bonds: 2}}
"""


def test_each_system_has_its_own_options_and_else_those_of_the_campaign():
    config = parse_config(TWO, source="c.yaml")
    pair, liquid = config.by_system.values()
    assert (pair.system_name, liquid.system_name) == ("pair", "liquid")
    assert (pair.initial.frames, pair.initial.test_frames) == (30, 5)
    assert (pair.initial.stretch.share, pair.initial.stretch.bonds) == (0.5, 2)
    assert (liquid.initial.frames, liquid.initial.stretch.share) == (100, 0.0)
    assert (pair.selection.cut_molecules, liquid.selection.cut_molecules) == (None, 4)
    assert (pair.sampling.pressure_bar, liquid.sampling.pressure_bar) == (None, 1)
    assert [str(point) for point in config.state_points[:3]] == ["pair, 100 K", "pair, 200 K", "liquid, 300 K"]
    assert len(config.state_points) == 6
    assert len({pair.seed, liquid.seed, config.seed}) == 3
    assert parse_config(config_text(config), source="c.yaml") == config


def test_a_written_config_states_every_option_of_every_system():
    written = yaml.safe_load(config_text(parse_config(TWO, source="c.yaml")))
    assert all(set(system) == set(NamedSystemConfig.model_fields) for system in written["systems"])


def test_energies_of_several_systems_weigh_more_unless_the_user_says_otherwise():
    assert parse_config(BASE, source="c.yaml").training.energy_weight == 1.0
    several = parse_config(TWO, source="c.yaml")
    assert several.training.energy_weight == 1000.0
    assert [own.training.energy_weight for own in several.by_system.values()] == [1000.0, 1000.0]
    assert parse_config(f"{TWO}training: {{energy_weight: 5}}\n", source="c.yaml").training.energy_weight == 5.0


def test_a_campaign_of_one_system_is_its_own_view():
    config = parse_config(f"{BASE}seed: 5\n", source="c.yaml")
    (only,) = config.by_system.values()
    assert (only.seed, only.system_name, only.system) == (5, "", config.system)
    assert only.state_points == config.state_points
    assert [str(point) for point in config.state_points] == ["300 K", "500 K", "700 K", "900 K"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("systems: []", "give exactly one of `system` and `systems`"),
        ("systems: [{smiles: C}]", "`systems.0.name` is missing"),
        ("systems: [{name: a b, smiles: C}]", "`systems.0.name`: got 'a b'"),
        ("systems: [{name: a, smiles: C}, {name: A, smiles: O}]", "two of the `systems` have the same `name`"),
        ("systems: [{name: a, smiles: C, initial: {framez: 3}}]", "`systems.0.initial.framez`"),
        ("systems: [{name: a, smiles: C, initial: {frames: 0}}]", "`systems.0.initial.frames`"),
        ("systems: [{name: a, smiles: C, cut_molecules: 3}]", "it needs `system.shape: box`"),
        ("systems: [{name: a, smiles: C, temperatures_kelvin: [300, 300]}]", "names a temperature twice"),
        ("systems: [{name: a, smiles: C}]\ninitial: {source: file, file: a.xyz}", "write `initial: {file: ...}` there"),
        ("systems: [{name: a, smiles: C}]\nsampling: {pressure_bar: 1}", "write `pressure_bar` there"),
        ("systems: [{name: a, smiles: C}]\nselection: {cut_molecules: 3}", "write `cut_molecules` there"),
    ],
)
def test_wrong_systems_are_refused_by_name(change, message):
    with pytest.raises(InputError) as caught:
        parse_config(f"name: a\n{change}\n", source="c.yaml")
    assert message in str(caught.value)


def test_a_name_of_atoms_that_systems_translate_differently_is_unknown_in_data():
    text = TWO.replace("molecules: 2,", "molecules: 2, elements: {OW: O, X: H},").replace(
        "shape: box,", "shape: box, elements: {X: O, OW: O},"
    )
    assert parse_config(f"{text}data: [{{file: mine.xyz}}]\n", source="c.yaml").file_elements == {"OW": "O"}
