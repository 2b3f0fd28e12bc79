"""More than a hundred wrong inputs: each gets exit status 2 and one message that names it, and nothing is written."""

import shutil

import h5py
import pytest
import yaml

from al_engine.config import CampaignConfig
from al_engine.config.reader import key_paths

BASE = {"name": "x", "system": {"smiles": "CO"}}
KEYS = sorted(key_paths(CampaignConfig))
LISTS = ("species", "systems", "data")
"""Lists of sections."""
XYZ = "3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"


def nested(key, value):
    """BASE with one value at a dotted key."""
    config = yaml.safe_load(yaml.safe_dump(BASE))
    *sections, last = key.split(".")
    place = config
    for section in sections:
        place = place.setdefault(section, [{}])[0] if section in LISTS else place.setdefault(section, {})
    place[last] = value
    return config


def shown(key):
    """A dotted key as messages name it: with its number in a list of sections."""
    *sections, last = key.split(".")
    return ".".join([*(f"{section}.0" if section in LISTS else section for section in sections), last])


def write(path, config):
    path.write_text(yaml.safe_dump(config))
    return path.name


# -- every option of the config ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [["x"]]], ids=["nan", "inf", "lists"])
@pytest.mark.parametrize("key", KEYS)
def test_no_option_takes_what_is_no_value(key, value, refused, tmp_path):
    message = refused("run", write(tmp_path / "work" / "bad.yaml", nested(key, value)))
    assert message.startswith("error: bad.yaml")
    assert shown(key) in message


@pytest.mark.parametrize("key", [key for key in KEYS if f"{key}s" not in KEYS])
def test_a_letter_too_many_is_found_and_the_right_key_suggested(key, refused, tmp_path):
    message = refused("run", write(tmp_path / "work" / "bad.yaml", nested(f"{key}s", 1)))
    assert f"{shown(key)}s" in message
    assert f"{key}`" in message or f"{key.rsplit('.', maxsplit=1)[-1]}`" in message or key in message


# -- config files as a whole ------------------------------------------------------------------------------------

CONFIGS = {
    "empty": (b"", "keys and values"),
    "a list": (b"- 1\n- 2\n", "keys and values"),
    "a number": (b"42", "keys and values"),
    "text": (b"hello", "keys and values"),
    "tabs": (b"name:\tx\n\tsystem: 1\n", "bad.yaml"),
    "an open bracket": (b"name: [x\n", "bad.yaml"),
    "not UTF-8": (b"name: \xff\xfe\n", "text"),
    "zeros": (b"\0" * 100, "bad.yaml"),
    "a Python object": (b"name: !!python/object/apply:os.system ['touch hacked']\n", "bad.yaml"),
    "a key twice": (b"name: x\nname: y\nsystem: {smiles: C}\n", "twice (line 2)"),
    "an unknown anchor": (b"name: *nobody\n", "bad.yaml"),
    "anchors in each other": (b"a: &a [1]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", "write the value itself"),
    "brackets in brackets": (b"name: " + b"[" * 50_000, "bad.yaml"),
    "too large": (b"# " + b"x" * 2_000_000, "larger than"),
    "no molecule": (b"name: x\n", "system"),
    "two molecules": (b"name: x\nsystem: {smiles: C, structure: a.xyz}\n", "smiles"),
    "a smiles that YAML reads as a list": (b"name: x\nsystem: {smiles: [NH4+]}\n", "quotes"),
    "a window upside down": (
        b"name: x\nsystem: {smiles: C}\nselection: {lower_mev_per_ang: 300, upper_mev_per_ang: 100}\n",
        "lower_mev_per_ang",
    ),
    "a window in eV": (
        b"name: x\nsystem: {smiles: C}\nselection: {lower_mev_per_ang: -0.1, upper_mev_per_ang: 0.3}\n",
        "lower_mev_per_ang",
    ),
    "no temperatures": (b"name: x\nsystem: {smiles: C}\nsampling: {temperatures_kelvin: []}\n", "temperatures_kelvin"),
    "a temperature twice": (
        b"name: x\nsystem: {smiles: C}\nsampling: {temperatures_kelvin: [300, 300]}\n",
        "temperatures_kelvin",
    ),
    "a temperature of zero": (
        b"name: x\nsystem: {smiles: C}\nsampling: {temperatures_kelvin: [0]}\n",
        "temperatures_kelvin",
    ),
    "two letters exchanged": (b"name: x\nsystem: {smiles: C}\nselection: {max_lables: 3}\n", "selection.max_labels"),
    "a temperature below zero": (
        b"name: x\nsystem: {smiles: C}\nsampling: {temperatures_kelvin: [-300]}\n",
        "temperatures_kelvin",
    ),
    "a name that is a path": (b"name: ../x\nsystem: {smiles: C}\n", "name"),
    "no name": (b"name: ''\nsystem: {smiles: C}\n", "name"),
}  # fmt: skip


@pytest.mark.parametrize("what", CONFIGS)
def test_config_files(what, refused, tmp_path):
    content, named = CONFIGS[what]
    (tmp_path / "work" / "bad.yaml").write_bytes(content)
    assert named in refused("run", "bad.yaml")
    assert not (tmp_path / "work" / "hacked").exists()


# -- structures -------------------------------------------------------------------------------------------------

STRUCTURES = {
    "nothing.xyz": b"",
    "text.xyz": b"this is no structure\n",
    "count.xyz": b"five\n\nO 0 0 0\n",
    "short.xyz": b"5\n\nO 0 0 0\nH 1 0 0\n",
    "none.xyz": b"0\n\n",
    "claims.xyz": b"99999999999999999999\n\nO 0 0 0\n",
    "late.xyz": b"1\n\nO 0 0 0\n999999999\n",
    "negative.xyz": b"-3\n\nO 0 0 0\n",
    "element.xyz": b"1\n\nXy 0 0 0\n",
    "words.xyz": b"1\n\nO zero zero zero\n",
    "nan.xyz": b"1\n\nO nan 0 0\n",
    "infinite.xyz": b"2\n\nO 0 0 0\nO inf 0 0\n",
    "far.xyz": b"3\n\nO 0 0 0\nH 0.96 0 0\nH 1e300 0 0\n",
    "uranium.xyz": b"2\n\nU 0 0 0\nO 2 0 0\n",
    "clash.xyz": b"2\n\nO 0 0 0\nO 0.1 0 0\n",
    "same.xyz": b"2\n\nO 0 0 0\nO 0 0 0\n",
    "odd.xyz": b"4\n\nC 0 0 0\nH 1.08 0 0\nH -0.54 0.93 0\nH -0.54 -0.93 0\n",
    "flat.xyz": b'3\nLattice="10 0 0 0 10 0 0 0 0" pbc="T T T"\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n',
    "binary.xyz": bytes(range(256)) * 4,
    "broken.pdb": b"ATOM  garbage\n",
    "broken.sdf": b"\n\n\n  9  9  0\n",
    "broken.cif": b"data_x\n_cell_length_a\n",
    "broken.traj": b"- of Ulm" + b"\xff" * 64,
    "broken.json": b'{"1": {',
    "unknown.abc": XYZ.encode(),
    "image.png": b"\x89PNG\r\n\x1a\n" + bytes(64),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structure_files(name, refused, tmp_path):
    work = tmp_path / "work"
    (work / name).write_bytes(STRUCTURES[name])
    write(work / "bad.yaml", {"name": "x", "system": {"structure": name}})
    message = refused("run", "bad.yaml")
    assert name in message or "charge" in message or "atoms" in message
    assert name in refused("init", "new", "--structure", name) or name == "odd.xyz" or "atoms" in message


def test_a_structure_that_is_not_there_or_a_folder(refused, tmp_path):
    (tmp_path / "work" / "folder.xyz").mkdir()
    assert "nowhere.xyz: no such file" in refused("init", "new", "--structure", "nowhere.xyz")
    assert "folder.xyz is not a file" in refused("init", "new", "--structure", "folder.xyz")


# -- flags ------------------------------------------------------------------------------------------------------

FLAGS = {
    "no command": (["nonsense"], "nonsense"),
    "no target": (["run"], "TARGET"),
    "both smiles and structure": (["init", "new", "--smiles", "C", "--structure", "ok.xyz"], "smiles"),
    "neither": (["init", "new"], "smiles"),
    "no molecule": (["init", "new", "--smiles", ""], "smiles"),
    "an element beyond GFN2": (["init", "new", "--smiles", "[U]"], "86"),
    "odd electrons": (["init", "new", "--smiles", "[CH3]"], "unpaired_electrons"),
    "an even number unpaired of odd electrons": (
        ["init", "new", "--smiles", "[CH3]", "--unpaired-electrons", "2"],
        "unpaired_electrons",
    ),
    "no molecules": (["init", "new", "--smiles", "C", "--molecules", "0"], "molecules"),
    "an open ring": (["init", "new", "--smiles", "C1CC"], "C1CC"),
    "an unknown preset": (["init", "new", "--smiles", "C", "--preset", "fast"], "fast"),
    "a fraction of a molecule": (["init", "new", "--smiles", "C", "--molecules", "1.5"], "--molecules"),
    "fewer than no molecules": (["init", "new", "--smiles", "C", "--molecules", "-1"], "molecules"),
    "a charge in words": (["init", "new", "--smiles", "C", "--charge", "one"], "--charge"),
    "a charge that leaves odd electrons": (["init", "new", "--smiles", "C", "--charge", "1"], "unpaired"),
    "too many unpaired electrons": (["init", "new", "--smiles", "C", "--unpaired-electrons", "200"], "unpaired"),
    "a directory that holds a campaign": (["init", "campaign", "--smiles", "C"], "campaign"),
    "another directory for a campaign": (["run", "campaign", "--dir", "elsewhere"], "elsewhere"),
    "a limit that is no duration": (["run", "campaign", "--time-limit", "soon"], "7h50m"),
    "nothing to evaluate": (["evaluate", "campaign", "--what", "errors"], "campaign"),
    "an unknown evaluation": (["evaluate", "campaign", "--what", "beauty"], "beauty"),
    "steps of another evaluation": (["evaluate", "campaign", "--what", "errors", "--steps", "5"], "steps"),
    "an iteration that is not there": (["evaluate", "campaign", "--what", "errors", "--iteration", "7"], "campaign"),
    "an unknown format": (["export", "campaign", "--to", "cif", "--output", "x"], "cif"),
    "nothing to export": (["export", "campaign", "--to", "extxyz", "--output", "x.xyz"], "campaign"),
    "run of nothing": (["run", "nowhere.yaml"], "nowhere.yaml"),
    "check of nothing": (["check", "nowhere.yaml"], "nowhere.yaml"),
    "status of nothing": (["status", "nowhere"], "nowhere"),
    "resume of an ordinary folder": (["resume", "."], "campaign.yaml"),
    "status of a file": (["status", "ok.xyz"], "ok.xyz"),
    "verify of nothing": (["verify", "nowhere"], "nowhere"),
    "verify of an ordinary folder": (["verify", "."], "campaign"),
    "resume of a file": (["resume", "ok.xyz"], "ok.xyz"),
    "check of a structure": (["check", "ok.xyz"], "ok.xyz"),
}


@pytest.mark.parametrize("what", FLAGS)
def test_flags(what, refused, tmp_path):
    arguments, named = FLAGS[what]
    work = tmp_path / "work"
    (work / "ok.xyz").write_text(XYZ)
    (work / "campaign").mkdir()
    write(work / "campaign" / "campaign.yaml", BASE)
    assert named in refused(*arguments)


# -- damaged campaigns ------------------------------------------------------------------------------------------


def old_schema(parts):
    with h5py.File(parts / "initial-frames.h5", "r+") as root:
        root.attrs["schema_version"] = 0


def new_schema(parts):
    with h5py.File(parts / "initial-frames.h5", "r+") as root:
        root.attrs["schema_version"] = 1000


def folder_instead(path):
    path.unlink()
    path.mkdir()


DAMAGE = {
    "a part cut off": lambda parts: (parts / "initial-dataset.h5").write_bytes(b"\x89HDF\r\n\x1a\n"),
    "an empty part": lambda parts: (parts / "initial-dataset.h5").write_bytes(b""),
    "an old schema": old_schema,
    "a schema of the future": new_schema,
    "campaign.h5 is text": lambda parts: (parts.parent / "campaign.h5").write_text("x"),
    "campaign.h5 is a folder": lambda parts: folder_instead(parts.parent / "campaign.h5"),
    "campaign.yaml is a folder": lambda parts: folder_instead(parts.parent / "campaign.yaml"),
    "a part of a name that is none": lambda parts: shutil.copy(parts / "initial-dataset.h5", parts / "mine.h5"),
}


@pytest.mark.parametrize("verb", ["status", "resume"])
@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_campaigns(what, verb, refused, finished, tmp_path):
    _, directory, _ = finished
    campaign = tmp_path / "work" / "campaign"
    shutil.copytree(directory, campaign)
    DAMAGE[what](campaign / "parts")
    message = refused(verb, campaign)
    assert str(campaign) in message
