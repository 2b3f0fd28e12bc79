"""The pages agree with the code and with each other: config reference, examples, presets, links, pictures."""

import functools
import importlib.util
import re
import xml.etree.ElementTree as ET

import pytest
from docs_pages import PAGES, ROOT

from al_engine.config import CampaignConfig
from al_engine.config.presets import PRESETS, merged
from al_engine.config.reader import differences, key_paths, load_config, validate_config
from flows.session.preflight import preflight

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_config_reference_is_what_the_code_says_now():
    assert generator().reference() == PAGES["docs/config.md"].text, "run `make docs`"


def test_the_config_reference_has_every_option_once_and_no_other():
    options = re.findall(r"^\| `([\w.]+)` \|", PAGES["docs/config.md"].text.split("## Presets")[0], re.MULTILINE)
    paths = set(key_paths(CampaignConfig))
    leaves = {path for path in paths if not any(other.startswith(path + ".") for other in paths)}
    leaves -= {path for path in leaves if path.startswith("systems.") and path.replace("systems", "system", 1) in paths}
    assert sorted(options) == sorted(leaves)


@functools.cache
def checked_systems(path):
    """The systems of an example, after all checks that precede a run."""
    return preflight(load_config(path), base_dir=path.parent).systems


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_could_be_run(path):
    assert load_config(path).name == path.stem
    for checked in checked_systems(path):
        assert checked.system.n_molecules == checked.config.system.molecules


def test_pftba_is_the_paper_preset_for_three_molecules_of_c12f27n():
    path = ROOT / "examples" / "pftba.yaml"
    config = load_config(path)
    preset = merged(PRESETS["paper"], {"name": "pftba", "system": {"smiles": config.system.smiles, "molecules": 3}})
    assert differences(config, validate_config(preset, source="preset")) == {}
    frame = checked_systems(path)[0].system.frame
    assert frame.to_atoms().get_chemical_formula() == "C36F81N3"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_mentioned_and_valid(preset):
    validate_config(merged(PRESETS[preset], {"name": "x", "system": {"smiles": "C"}}), source=preset)
    assert preset in PAGES["README.md"].inline
    assert preset in PAGES["docs/config.md"].inline


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(page):
    folder = PAGES[page].path.parent
    for target in LINK.findall(PAGES[page].text):
        assert "://" in target or (folder / target).exists(), target


def test_dotted_keys_on_the_pages_are_options():
    known = set(key_paths(CampaignConfig))
    sections = {path for path in known if "." not in path}
    for name in ("README.md", "docs/campaign.md"):
        for piece in PAGES[name].inline:
            key = piece.split(":")[0]
            if re.fullmatch(r"[a-z_]+(\.[a-z0-9_]+)+", key) and key.split(".")[0] in sections:
                assert key in known, f"{name}: {piece}"


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.svg")), ids=lambda path: path.name)
def test_a_picture_is_well_formed_has_a_description_and_fetches_nothing(path):
    text = path.read_text(encoding="utf-8")
    names = {element.tag.rsplit("}", 1)[-1] for element in ET.fromstring(text).iter()}  # noqa: S314 (our own file)
    assert {"title", "desc"} <= names
    assert not names & {"script", "image", "foreignObject"}
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]


def test_the_calculators_page_lists_what_is_known_of_charge_and_spin():
    from labelers.backends.ase.facts import FACTS

    def row(facts):
        if facts.charges and facts.moments:
            return "charge and spin, on ASE's atoms"
        by_parameters = any(not quantity.is_charge for quantity in facts.given.values())
        if facts.takes_charge and facts.takes_spin:
            return (
                "charge and spin, as parameters" if by_parameters else "charge as a parameter, spin by magnetic moments"
            )
        return "charge only" if facts.takes_charge else "spin only" if facts.takes_spin else None

    rows = re.findall(r"^\| ([^|]+?) \| (`.*`) \|$", PAGES["docs/calculators.md"].text, re.MULTILINE)
    listed = {name.split(":")[0]: what for what, names in rows for name in re.findall("`([^`]+)`", names)}
    assert listed == {name: row(facts) for name, facts in FACTS.items() if row(facts) is not None}
