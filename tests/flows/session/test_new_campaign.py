"""What becomes of a user's files: copied under names of their own, held against what a campaign began with."""

import pytest
import yaml

from al_engine.campaign.ledger import Ledger
from al_engine.config.reader import load_config
from al_engine.errors import InputError
from al_engine.files.part_file import write_part
from flows.cli.init import init_campaign
from flows.session.prepare import prepare

WATER = "3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"
METHANOL = "6\n\nC -0.05 0.66 0\nO -0.05 -0.76 0\nH -1.09 0.98 0\nH 0.88 -1.06 0\nH 0.44 1.07 0.89\nH 0.44 1.07 -0.89\n"
TRAJECTORY = "".join(WATER.replace("0.96", f"{0.94 + 0.001 * k:.3f}") for k in range(48))
GRO = "water\n    3\n" + "".join(
    f"    1SOL{name:>7}{number:>5}{x:8.3f}{y:8.3f}{0.0:8.3f}\n"
    for number, (name, x, y) in enumerate([("OW", 0.0, 0.0), ("HW1", 0.096, 0.0), ("HW2", -0.024, 0.093)], start=1)
) + "   0.00000   0.00000   0.00000\n"  # fmt: skip


def config(tmp_path, **sections):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"name": "x", **sections}))
    return path


def begin(ledger):
    """A campaign with its first part."""
    ledger.begin()
    with write_part(ledger.part_path("initial-frames"), kind="initial-frames", key="a"):
        pass


def test_files_of_the_same_name_are_both_kept(tmp_path):
    for folder, text in (("one", WATER), ("two", TRAJECTORY)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mol.xyz").write_text(text)
    path = config(
        tmp_path,
        system={"structure": "one/mol.xyz"},
        initial={"source": "file", "file": "two/mol.xyz", "frames": 40, "test_frames": 8},
    )
    stored = prepare(path, tmp_path / "run").ledger.config
    assert (tmp_path / "run" / stored.system.structure).read_text() == WATER
    assert (tmp_path / "run" / stored.initial.file).read_text() == TRAJECTORY


def test_one_file_for_both_is_copied_once(tmp_path):
    (tmp_path / "mol.xyz").write_text(TRAJECTORY)
    path = config(
        tmp_path,
        system={"structure": "mol.xyz", "structure_frame": 0},
        initial={"source": "file", "file": "mol.xyz", "frames": 40, "test_frames": 8},
    )
    stored = prepare(path, tmp_path / "run").ledger.config
    assert stored.system.structure == stored.initial.file == "inputs/mol.xyz"


def test_files_of_species_are_kept(tmp_path):
    other = WATER.replace("0.93", "0.94")
    for folder, text in (("one", WATER), ("two", other)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mol.xyz").write_text(text)
    species = [{"structure": "one/mol.xyz", "count": 2}, {"smiles": "C"}, {"structure": "two/mol.xyz"}]
    begun = prepare(config(tmp_path, system={"species": species}), tmp_path / "run")
    stored = begun.ledger.config.system.species
    assert [(tmp_path / "run" / each.structure).read_text() for each in stored if each.structure] == [WATER, other]
    assert begun.checked.systems[0].system.frame.to_atoms().get_chemical_formula() == "CH10O3"
    (tmp_path / "two" / "mol.xyz").write_text(WATER.replace("0.93", "0.92"))
    begin(begun.ledger)
    with pytest.raises(InputError, match=r"system\.species\.2\.structure: .* has changed since the campaign began"):
        prepare(config(tmp_path, system={"species": species}, stop={"max_iterations": 20}), tmp_path / "run")


@pytest.mark.parametrize("changed", ["system.structure", "initial.file"])
def test_inputs_that_changed_since_a_campaign_began_are_refused(changed, tmp_path):
    files = {"system.structure": "mol.xyz", "initial.file": "frames.xyz"}
    (tmp_path / "mol.xyz").write_text(WATER)
    (tmp_path / "frames.xyz").write_text(TRAJECTORY)
    sections = {
        "system": {"structure": "mol.xyz"},
        "initial": {"source": "file", "file": "frames.xyz", "frames": 40, "test_frames": 8},
    }
    path = config(tmp_path, **sections)
    begin(prepare(path, tmp_path / "run").ledger)
    assert prepare(path, tmp_path / "run").checked is None
    file = tmp_path / files[changed]
    file.write_text(file.read_text().replace("0.93", "0.92"))
    raised = config(tmp_path, **sections, stop={"max_iterations": 20})
    with pytest.raises(InputError, match=rf"{changed}: .*{files[changed]} has changed since the campaign began"):
        prepare(raised, tmp_path / "run")
    file.unlink()
    assert prepare(raised, tmp_path / "run").ledger.config.stop.max_iterations == 20


def test_before_a_campaign_begins_config_and_inputs_may_change(tmp_path):
    (tmp_path / "mol.xyz").write_text(WATER)
    prepare(config(tmp_path, system={"structure": "mol.xyz"}), tmp_path / "run").ledger.begin()
    (tmp_path / "mol.xyz").write_text(METHANOL)
    prepared = prepare(config(tmp_path, system={"structure": "mol.xyz"}, seed=3), tmp_path / "run")
    assert len(prepared.checked.systems[0].system.frame) == 6
    prepared.ledger.begin()
    assert Ledger.open(tmp_path / "run").config.seed == 3
    assert (tmp_path / "run" / "inputs" / "mol.xyz").read_text() == METHANOL


def test_what_is_refused_leaves_nothing(tmp_path):
    (tmp_path / "mol.xyz").write_text(WATER.replace("H 0.96", "D 0.96"))
    with pytest.raises(InputError, match="isotope"):
        prepare(config(tmp_path, system={"structure": "mol.xyz"}), tmp_path / "run")
    with pytest.raises(InputError, match="isotope"):
        init_campaign(tmp_path / "run", system={}, structure=tmp_path / "mol.xyz", preset="quick")
    assert not (tmp_path / "run").exists()


REFUSED = {
    "no classical field": ({"smiles": "[Ar]", "molecules": 3}, {"source": "anneal"}),
    "a single atom": ({"smiles": "[Na+]"}, {}),
    "frames of another charge": (
        {"structure": "mol.xyz"},
        {"source": "file", "file": "frames.xyz", "frames": 40, "test_frames": 8},
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_check_and_run_refuse_the_same(what, refused, tmp_path):
    system, initial = REFUSED[what]
    folder = tmp_path / "work"
    (folder / "mol.xyz").write_text(WATER)
    (folder / "frames.xyz").write_text(TRAJECTORY.replace("\n\n", "\ncharge=2\n"))
    config(folder, system=system, initial=initial)
    assert refused("check", "config.yaml") == refused("run", "config.yaml")


def test_init_takes_what_a_file_does_not_say(command_line):
    (command_line.directory / "water.gro").write_text(GRO)
    asked = command_line("init", "new", "--structure", "water.gro")
    assert "--elements OW=?" in asked.stderr
    answer = command_line("init", "new", "--structure", "water.gro", "--elements", "OW=O,HW1=H,HW2=H")
    assert answer.returncode == 0, answer.stderr
    stored = load_config(command_line.directory / "new" / "campaign.yaml")
    assert stored.system.elements == {"OW": "O", "HW1": "H", "HW2": "H"}
    (command_line.directory / "frames.xyz").write_text(TRAJECTORY)
    asked = command_line("init", "other", "--structure", "frames.xyz")
    assert "--structure-frame" in asked.stderr
    assert command_line("init", "other", "--structure", "frames.xyz", "--structure-frame", "-1").returncode == 0
