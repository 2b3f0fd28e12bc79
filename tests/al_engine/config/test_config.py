"""Config: presets, the commented file, what is refused and how, what a campaign may change."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from al_engine.config import MUTABLE, CampaignConfig, DataConfig, NamedSystemConfig, Section, SpeciesConfig, is_mutable
from al_engine.config.execution import StageResources
from al_engine.config.presets import PRESETS, merged
from al_engine.config.reader import (
    differences,
    how_to_have,
    key_paths,
    load_config,
    parse_config,
    refuse_changes,
    validate_config,
)
from al_engine.config.writer import WIDTH, config_text
from al_engine.errors import ExitStatus, InputError

EMPTY = ("system.species.", "systems.", "data.", "execution.stages.")
KEYS = [key for key in key_paths(CampaignConfig) if not key.startswith(EMPTY)]
"""The options of a config whose lists and mappings of sections are empty."""
BASE = "name: a\nsystem: {smiles: C}\n"
LONG = "{cutoff_ang: 9.0, channels: 4, l_max: 1, radial_mlp: []}"


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_config(text, source="campaign.yaml")
    assert caught.value.exit_status == ExitStatus.BAD_INPUT
    return str(caught.value)


def sections(model: type[BaseModel] = CampaignConfig) -> set[type[BaseModel]]:
    found = {model}
    for info in model.model_fields.values():
        for inner in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                found |= sections(inner)
    return found


# -- presets and the file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_needs_only_a_molecule(preset, make_config):
    config = make_config(preset)
    for key, value in _leaves(PRESETS[preset]):
        assert _at(config, key) == value, key


@pytest.mark.parametrize("preset", PRESETS)
def test_commented_text_reads_back_equal(preset, make_config):
    config = make_config(preset)
    assert parse_config(config_text(config), source="test") == config


def test_commented_text_carries_every_key_and_description(make_config):
    text = config_text(make_config("standard"))
    assert set(_keys(yaml.safe_load(text))) == set(KEYS)
    comments = " ".join(line.strip().removeprefix("# ") for line in text.splitlines() if line.strip().startswith("#"))
    for section in sections() - {
        SpeciesConfig,
        NamedSystemConfig,
        DataConfig,
        StageResources,
    }:  # of which there is none
        for name, info in section.model_fields.items():
            assert " ".join(info.description.split()) in comments, (section, name)
    assert all(len(line) <= WIDTH for line in text.splitlines())


def test_file_round_trip(tmp_path, make_config):
    path = tmp_path / "campaign.yaml"
    path.write_text(config_text(make_config()), encoding="utf-8")
    assert load_config(path) == make_config()


@pytest.mark.parametrize(
    "value",
    [
        "NO",
        "1",
        "~",
        "[NH4+]",
        "C#N",
        " x ",
        "a: b # c",
        "...",
        "---",
        "a\nb",
        "é\u2028\x7f",
        "😀",
        "- a",
        "C " * 6000,
        "'\"",
    ],
)
def test_awkward_strings_survive_text_and_json(value, make_config):
    config = make_config(system={"smiles": value})
    assert parse_config(config_text(config), source="test") == config
    stored = json.dumps(config.model_dump(mode="json"))
    assert validate_config(json.loads(stored), source="test") == config


def test_names_of_any_language_stay_readable_in_the_text(make_config):
    assert "structure: Äthanol.xyz\n" in config_text(make_config(system={"smiles": None, "structure": "Äthanol.xyz"}))


def test_nested_calculator_parameters_survive_the_text(make_config):
    parameters = {"a": [1, 2.5, None, {"b": "NO"}], "c": {}, "d": True, "e": 1e-9, "f": 1e22}
    config = make_config(labels={"backend": "ase", "ase_calculator": "emt", "ase_parameters": parameters})
    assert parse_config(config_text(config), source="test").labels.ase_parameters == parameters


def test_every_field_is_described_and_every_section_is_strict():
    for section in sections():
        assert issubclass(section, Section)
        for name, info in section.model_fields.items():
            assert info.description, f"{section.__name__}.{name}"


def test_config_cannot_be_changed_after_reading(make_config):
    with pytest.raises(ValueError, match="frozen"):
        make_config().stop.max_iterations = 3


# -- what YAML gets wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("1E-3", 1e-3), ("5e-3", 5e-3), ("1.e-3", 1e-3), ("0.001", 1e-3), (".5", 0.5)]
)
def test_exponents_are_numbers(text, value):
    assert parse_config(f"{BASE}stop: {{acceptance: {text}}}\n", source="test").stop.acceptance == value


def test_an_exponent_in_a_name_stays_text():
    assert parse_config("name: run1e-3\nsystem: {smiles: C}\n", source="test").name == "run1e-3"


def test_integers_are_accepted_for_floats_but_not_the_reverse():
    config = parse_config(f"{BASE}sampling: {{temperatures_kelvin: [300], timestep_fs: 1}}\n", source="test")
    assert config.sampling.temperatures_kelvin == [300.0]
    assert isinstance(config.sampling.temperatures_kelvin[0], float)
    assert "`sampling.steps`: got 100.0" in refusal(f"{BASE}sampling: {{steps: 100.0}}\n")


@pytest.mark.parametrize("text", ["seed: 1\nseed: 2\n", "sampling:\n  steps: 100\n  steps: 200\n"])
def test_duplicate_keys_are_named_with_their_line(text):
    key = text.split(":")[-2].split()[-1]
    assert f"key `{key}` is given twice (line {(BASE + text).count(chr(10))})" in refusal(BASE + text)


@pytest.mark.parametrize("text", ["", "a", "- 1", "3"])
def test_a_file_that_is_no_mapping(text):
    assert "expected keys and values" in refusal(text)


@pytest.mark.parametrize(
    "text", ["{", "a: [", "\x00", "a: !!python/object:os.system {}", "a: b: c", "? [a]\n: 1\n", "*x"]
)
def test_a_file_that_is_no_yaml(text):
    message = refusal(text)
    assert message.startswith("campaign.yaml: not valid YAML: ")
    assert "\n" not in message


@pytest.mark.parametrize("smiles", ["NO", "[NH4+]", "1"])
def test_a_smiles_that_yaml_misreads_asks_for_quotes(smiles):
    assert "`system.smiles`: got" in (message := refusal(f"name: a\nsystem: {{smiles: {smiles}}}\n"))
    assert "put it in quotes" in message


# -- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [
        ("smapling: {}", "`smapling`; did you mean `sampling`"),
        ("sampling: {timestep: 1}", "`sampling.timestep`; did you mean `sampling.timestep_fs`"),
        ("selection: {lower_mev: 1}", "`selection.lower_mev`; did you mean `selection.lower_mev_per_ang`"),
        ("initial: {stretch: {shares: 0.5}}", "`initial.stretch.shares`; did you mean `initial.stretch.share`"),
        ("timestep_fs: 1", "`timestep_fs`; did you mean `initial.timestep_fs`"),
        ("training: {replicas: 2}", "`training.replicas`; did you mean `sampling.replicas`"),
        ("model: {short: {cutof_ang: 4.0}}", "`model.short.cutof_ang`; did you mean `model.short.cutoff_ang`"),
        ("xylophone: 1", "`xylophone`; `al-engine init` writes a file with all keys"),
    ],
)
def test_unknown_keys_are_named_with_the_nearest_right_one(unknown, meant):
    assert f"campaign.yaml: unknown key {meant}" in refusal(f"{BASE}{unknown}\n")


BAD_VALUES = [
    # override, key as the message names it, what else it says
    ({"name": "a/b"}, "`name`: got 'a/b'", "letters, digits"),
    ({"name": "a[b]"}, "`name`: got 'a[b]'", "letters, digits"),
    ({"name": "a "}, "`name`: got 'a '", "not ending with a space"),
    ({"name": "a\nb"}, "`name`:", "letters, digits"),
    ({"name": "../up"}, "`name`: got '../up'", "starting with a letter"),
    ({"name": "x" * 65}, "`name`: got", "1-64"),
    ({"name": 3}, "`name`: got 3", "valid string"),
    ({"seed": -1}, "`seed`: got -1", "greater than or equal to 0"),
    ({"seed": 2**32}, "`seed`: got 4294967296", "less than 4294967296"),
    ({"seed": True}, "`seed`: got True", "valid integer"),
    ({"seed": "7"}, "`seed`: got '7'", "valid integer"),
    ({"system": {"smiles": None}}, "`system`:", "exactly one of `smiles`, `structure` and `species`"),
    (
        {"system": {"smiles": "C", "structure": "a.xyz"}},
        "`system`:",
        "exactly one of `smiles`, `structure` and `species`",
    ),
    (
        {"system": {"smiles": None, "species": [{"smiles": smiles, "count": 6000} for smiles in ("O", "CO")]}},
        "`system`:",
        "12000 molecules in all",
    ),
    ({"system": {"smiles": ""}}, "`system.smiles`: got ''", "at least 1 character"),
    ({"system": {"shape": "box"}}, "`system`:", "needs `density_g_per_cm3`"),
    ({"system": {"shape": "sphere"}}, "`system.shape`: got 'sphere'", "'cluster' or 'box'"),
    ({"system": {"molecules": 0}}, "`system.molecules`: got 0", "greater than 0"),
    ({"system": {"density_g_per_cm3": -1.0}}, "`system.density_g_per_cm3`: got -1.0", "greater than 0"),
    ({"system": {"charge": 0.5}}, "`system.charge`: got 0.5", "valid integer"),
    ({"system": {"unpaired_electrons": -1}}, "`system.unpaired_electrons`: got -1", "greater than or equal to 0"),
    ({"initial": {"source": "file"}}, "`initial`:", "needs `file`"),
    ({"initial": {"file": "a.xyz"}}, "`initial`:", "only with `source: file`"),
    (
        {"initial": {"cold_kelvin": 900.0, "hot_kelvin": 300.0}},
        "`initial`:",
        "cold_kelvin (900) is above hot_kelvin (300)",
    ),
    ({"initial": {"cold_kelvin": 0.0}}, "`initial.cold_kelvin`: got 0.0", "greater than 0"),
    ({"initial": {"box_molecules": 32}}, "", "`initial.box_molecules` needs `system.density_g_per_cm3`"),
    (
        {"initial": {"box_molecules": 2}, "system": {"molecules": 3, "density_g_per_cm3": 1.0}},
        "initial.box_molecules (2)",
        "at least system.molecules (3)",
    ),
    (
        {"initial": {"box_molecules": 8}, "system": {"shape": "box", "density_g_per_cm3": 1.0}},
        "`initial.box_molecules`",
        "needs `system.shape: cluster`",
    ),
    ({"initial": {"stretch": {"share": 1.5}}}, "`initial.stretch.share`: got 1.5", "less than or equal to 1"),
    ({"initial": {"stretch": {"shortest_factor": 1.1}}}, "`initial.stretch.shortest_factor`: got 1.1", "less than or"),
    ({"labels": {"backend": "ase"}}, "`labels`:", "needs `ase_calculator`"),
    ({"labels": {"ase_calculator": "emt"}}, "`labels`:", "needs `ase_calculator`"),
    ({"labels": {"backend": "dft"}}, "`labels.backend`: got 'dft'", "'auto', 'xtb', 'tblite' or 'ase'"),
    ({"labels": {"ase_parameters": {"a": math.nan}}}, "`labels.ase_parameters.a", "finite number"),
    ({"labels": {"ase_parameters": {"a": {1, 2}}}}, "`labels.ase_parameters.a`: got {1, 2}", "not a valid JSON value"),
    ({"labels": {"max_failed_share": 1.01}}, "`labels.max_failed_share`: got 1.01", "less than or equal to 1"),
    ({"model": {"long": {"cutoff_ang": 3.0}}}, "`model`:", "long.cutoff_ang (3) must be above short.cutoff_ang (4)"),
    ({"model": {"short": {"l_max": 9}}}, "`model.short.l_max`: got 9", "less than or equal to 4"),
    ({"model": {"short": {"radial_mlp": [8, 0]}}}, "`model.short.radial_mlp.1`: got 0", "greater than 0"),
    ({"model": {"dtype": "float16"}}, "`model.dtype`: got 'float16'", "'float32' or 'float64'"),
    ({"training": {"members": 1}}, "`training.members`: got 1", "greater than or equal to 2"),
    ({"training": {"learning_rate": 0.0}}, "`training.learning_rate`: got 0.0", "greater than 0"),
    ({"training": {"ema_decay": 1.0}}, "`training.ema_decay`: got 1.0", "less than 1"),
    ({"training": {"warm_start": "yes"}}, "`training.warm_start`: got 'yes'", "valid boolean"),
    (
        {"sampling": {"temperatures_kelvin": [300.0, 0.0]}},
        "`sampling.temperatures_kelvin.1`: got 0.0",
        "greater than 0",
    ),
    ({"sampling": {"temperatures_kelvin": [-5.0]}}, "`sampling.temperatures_kelvin.0`: got -5.0", "greater than 0"),
    ({"sampling": {"temperatures_kelvin": [math.nan]}}, "`sampling.temperatures_kelvin.0`: got nan", "finite number"),
    ({"sampling": {"temperatures_kelvin": []}}, "`sampling.temperatures_kelvin`: got []", "at least 1 item"),
    ({"sampling": {"temperatures_kelvin": 300.0}}, "`sampling.temperatures_kelvin`: got 300.0", "valid list"),
    ({"sampling": {"temperatures_kelvin": [300, 300.0]}}, "`sampling`:", "names a temperature twice"),
    ({"sampling": {"steps": 10, "stride_steps": 20}}, "`sampling`:", "stride_steps (20) is above steps (10)"),
    ({"sampling": {"timestep_fs": math.inf}}, "`sampling.timestep_fs`: got inf", "finite number"),
    ({"sampling": None}, "`sampling`: got None", "a section"),
    ({"sampling": [1]}, "`sampling`: got [1]", "a section"),
    (
        {"selection": {"lower_mev_per_ang": 300.0, "upper_mev_per_ang": 100.0}},
        "`selection`:",
        "lower_mev_per_ang (300) must be below upper_mev_per_ang (100)",
    ),
    ({"selection": {"upper_mev_per_ang": 100.0}}, "`selection`:", "lower_mev_per_ang (100) must be below"),
    ({"selection": {"deviation": "variance"}}, "`selection.deviation`: got 'variance'", "'norm' or 'component'"),
    ({"selection": {"max_labels": 0}}, "`selection.max_labels`: got 0", "greater than 0"),
    ({"stop": {"acceptance": 0.0}}, "`stop.acceptance`: got 0.0", "greater than 0"),
    ({"stop": {"acceptance": 1.0}}, "`stop.acceptance`: got 1.0", "less than 1"),
    ({"stop": {"acceptance": math.nan}}, "`stop.acceptance`: got nan", "finite number"),
    ({"stop": {"acceptance": "0.5 %"}}, "`stop.acceptance`: got '0.5 %'", "valid number"),
    ({"stop": {"confidence": 0.5}}, "`stop.confidence`: got 0.5", "greater than 0.5"),
    ({"stop": {"max_iterations": 1001}}, "`stop.max_iterations`: got 1001", "less than or equal to 1000"),
    ({"execution": {"device": "gpu"}}, "`execution.device`: got 'gpu'", "'auto', 'cpu' or 'cuda'"),
    ({"execution": {"workers": 0}}, "`execution.workers`: got 0", "greater than 0"),
]


@pytest.mark.parametrize(("override", "key", "reason"), BAD_VALUES, ids=[str(row[0])[:70] for row in BAD_VALUES])
def test_bad_values_name_the_key_what_it_got_and_what_it_takes(override, key, reason, make_config):
    with pytest.raises(InputError) as caught:
        make_config(**override)
    message = str(caught.value)
    assert message.startswith(f"test: {key}")
    assert reason in message
    assert "\n" not in message


def test_missing_keys_are_named():
    assert refusal("seed: 1\n") == "campaign.yaml: `name` is missing"
    assert refusal("name: a\n") == "campaign.yaml: give exactly one of `system` and `systems`"


def test_all_wrong_keys_are_named_up_to_a_screenful():
    assert refusal(f"{BASE}seed: -1\nstop: {{confidence: 2}}\n").count("\n") == 1
    many = "".join(f"unknown{index}: 1\n" for index in range(20))
    lines = refusal(BASE + many).splitlines()
    assert len(lines) == 9
    assert lines[-1] == "campaign.yaml: ... and 12 more"


def test_a_long_value_is_shortened_in_the_message():
    assert len(refusal(f"name: '{'x' * 5000}'\nsystem: {{smiles: C}}\n")) < 250


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_config(tmp_path / "campaign.yaml")
    with pytest.raises(InputError, match="cannot be read as text"):
        load_config(tmp_path)
    binary, huge = tmp_path / "binary.yaml", tmp_path / "huge.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    huge.write_text("# " + "x" * 1_000_000)
    with pytest.raises(InputError, match="cannot be read as text"):
        load_config(binary)
    with pytest.raises(InputError, match="1000000 bytes"):
        load_config(huge)


# -- the model family -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ms-mace", "ms-nequip", "mace", "nequip"])
def test_the_kind_alone_says_whether_there_is_a_long_path(kind):
    config = parse_config(f"{BASE}model: {{kind: {kind}}}\n", source="test")
    assert (config.model.long is not None) == kind.startswith("ms-")
    assert parse_config(config_text(config), source="test") == config


@pytest.mark.parametrize("kind", ["mace", "nequip"])
def test_a_long_path_that_the_kind_has_not_is_refused(kind):
    message = refusal(f"{BASE}model: {{kind: {kind}, long: {LONG}}}\n")
    assert f"`kind: {kind}` has no long path; remove `long`, or use `kind: ms-{kind}`" in message
    message = refusal(f"{BASE}model: {{kind: ms-{kind}, long: null}}\n")
    assert f"`kind: ms-{kind}` needs `long`; without it use `kind: {kind}`" in message


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("mace", "fusion: energy"),
        ("nequip", "fusion: energy"),
        ("nequip", "first_layer: species"),
        ("ms-nequip", "correlation: 2"),
        ("nequip", "readout_hidden: 8"),
    ],
)
def test_a_model_option_without_effect_is_refused(kind, option):
    message = refusal(f"{BASE}model: {{kind: {kind}, {option}}}\n")
    assert f"`model`: `{option}` has no effect with `kind: {kind}`; remove it" in message


def test_the_removed_product_basis_is_refused_and_the_other_may_still_be_named():
    message = refusal(f"{BASE}model: {{product: recursive}}\n")
    assert "`model`: `product: recursive` was removed" in message
    assert "write `product: symmetric` or remove the line" in message
    named = parse_config(f"{BASE}model: {{product: symmetric}}\n", source="c.yaml")
    assert named == parse_config(BASE, source="c.yaml")


def test_the_json_of_a_model_is_what_keys_of_earlier_campaigns_hash():
    """With the option that is gone; nothing else reads it."""
    model = parse_config(BASE, source="c.yaml").model
    assert model.model_dump(mode="json")["product"] == "symmetric"
    assert "product" not in model.model_dump()
    assert type(model).model_validate_json(model.model_dump_json()) == model


# -- what a campaign may change ---------------------------------------------------------------------------------


def test_changed_keys_are_named_with_both_values(make_config):
    new = make_config(seed=3, sampling={"temperatures_kelvin": [300.0]}, model={"kind": "mace", "long": None})
    with pytest.raises(InputError) as caught:
        refuse_changes(make_config(), new, source="campaign.yaml", directory=Path("runs/mine"))
    message = str(caught.value)
    assert "campaign.yaml: `seed` was 0 when the campaign began, now 3" in message
    assert (
        "`sampling.temperatures_kelvin` was [300.0, 500.0, 700.0, 900.0] when the campaign began, now [300.0]"
        in message
    )
    assert "`model.long.cutoff_ang` was 8.0" in message
    assert all(free in message.splitlines()[-1] for free in MUTABLE)


def test_the_advice_to_fork_has_the_new_values():
    changed = {"model.kind": ("ms-mace", "mace"), "model.long": ("", None), "model.long.l_max": (1, None)}
    advice = how_to_have(changed, Path("my run"))
    assert advice.endswith("`al-engine fork 'my run' NEW --set model.kind=mace --set model.long=null`")


def test_stop_and_execution_may_change(make_config):
    new = make_config(stop={"max_iterations": 99, "acceptance": 0.01}, execution={"workers": 7})
    assert set(differences(make_config(), new)) == {"stop.max_iterations", "stop.acceptance", "execution.workers"}
    refuse_changes(make_config(), new, source="campaign.yaml", directory=Path("runs/mine"))


LEAVES = [key for key in KEYS if not any(k.startswith(f"{key}.") for k in KEYS)]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("key", LEAVES)
def test_a_change_to_any_one_key_is_seen(key, make_config):
    old = make_config()
    new = _with_value(old, key.split("."), "changed")
    assert set(differences(old, new)) == {key}
    if is_mutable(key):
        refuse_changes(old, new, source="x", directory=Path("runs/mine"))
    else:
        with pytest.raises(InputError, match=rf"^x: `{key}` was .* now 'changed'\n"):
            refuse_changes(old, new, source="x", directory=Path("runs/mine"))


def test_equal_configs_have_no_differences(make_config):
    assert differences(make_config(), make_config()) == {}


def test_merged_lays_later_layers_on_top_and_changes_none():
    below, above = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}, "d": {"e": 5}}
    assert merged(below, above) == {"a": {"b": 1, "c": 4}, "d": {"e": 5}}
    assert below == {"a": {"b": 1, "c": 2}, "d": 3}
    assert above == {"a": {"c": 4}, "d": {"e": 5}}


def _leaves(tree: Mapping, prefix: str = ""):
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _keys(tree: Mapping, prefix: str = ""):
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")


def _with_value(section: BaseModel, path: list[str], value: object) -> BaseModel:
    name, *rest = path
    return section.model_copy(update={name: _with_value(getattr(section, name), rest, value) if rest else value})


def _at(config: BaseModel, key: str):
    for name in key.split("."):
        config = getattr(config, name)
    return config


def test_an_option_newer_than_a_campaign_has_the_value_that_the_campaign_was_run_with():
    given = {"name": "old", "system": {"smiles": "O"}, "training": {"updates": 5}}
    old, new = (validate_config(given, source="", begun=begun) for begun in (True, False))
    assert (old.training.optimizer, old.training.updates, new.training.optimizer) == ("adam", 5, "muon")
    assert "optimizer" not in old.training.key_values()
    assert new.training.key_values()["optimizer"] == "muon"
    assert (old.training.least_updates_share, new.training.least_updates_share) == (1.0, 0.5)
    assert (old.stop.verdicts, new.stop.verdicts) == (5, 10)
    assert old.initial == new.initial
    continued = [validate_config(given, source="", begun=campaign) for campaign in (old, new)]
    assert continued == [old, new]
    given["training"] |= {"optimizer": "muon", "least_updates_share": 0.5, "stress_weight": 10.0}
    given["labels"] = {"stress": True}
    given["stop"] = {"judge_first": False, "verdicts": 10}
    assert validate_config(given, source="", begun=True) == validate_config(given, source="")
