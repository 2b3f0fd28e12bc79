"""Many campaigns: a table of molecules becomes campaigns, which run side by side and go on after an interruption."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
import yaml

from al_engine.campaign.ledger import Ledger
from al_engine.errors import InputError, ResumableError
from flows.pages.many import many_table
from flows.session.many import LOG, Runs, make_campaigns, outcome, read_table, shares, verdict_status
from samplers.building.system import build_system

TABLE = """name,smiles,count,charge,unpaired_electrons
water,O,2,,
acetate,CC(=O)[O-],,-1,
methyl radical,[CH3],,,1
"""


def table(folder, text):
    path = folder / "molecules.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_table_of_the_examples_has_twenty_molecules_that_can_be_built(tmp_path):
    rows = read_table(Path(__file__).parents[3] / "examples" / "molecules.csv")
    assert len(rows) == 20
    for directory in make_campaigns(rows, tmp_path / "many", preset="quick", workers=1):
        config = Ledger.open(directory).config
        system = build_system(config.system, base_dir=directory, seed=config.seed)
        assert system.frame.n_electrons % 2 == system.frame.unpaired_electrons


def test_a_campaign_for_each_row(tmp_path):
    rows = read_table(table(tmp_path, TABLE))
    directories = make_campaigns(rows, tmp_path / "many", preset="quick", workers=3)
    assert [directory.name for directory in directories] == ["water", "acetate", "methyl radical"]
    configs = [Ledger.open(directory).config for directory in directories]
    assert [config.system.smiles for config in configs] == ["O", "CC(=O)[O-]", "[CH3]"]
    assert [config.system.molecules for config in configs] == [2, 1, 1]
    assert [config.system.charge for config in configs] == [None, -1, None]
    assert configs[2].system.unpaired_electrons == 1
    assert {config.execution.workers for config in configs} == {3}
    assert {config.training.updates for config in configs} == {800}
    edited = directories[0] / "campaign.yaml"
    edited.write_text(edited.read_text().replace("max_iterations: 12", "max_iterations: 5"))
    make_campaigns(rows, tmp_path / "many", preset="quick", workers=1)  # what exists stays
    assert Ledger.open(directories[0]).config.stop.max_iterations == 5
    assert {Ledger.open(directory).config.execution.workers for directory in directories} == {1}  # --at-once is obeyed
    edited.write_text("name: [")
    assert (
        make_campaigns(rows, tmp_path / "many", preset="quick", workers=1) == directories
    )  # its run says what is wrong


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first line must name the columns"),
        ("name,formula\na,H2O\n", "the first line must name the columns"),
        ("name,smiles\n", "has no molecules"),
        ("name,smiles\nwater,\n", "line 2: name or smiles is missing"),
        ("name,smiles,count\nwater,O,two\n", "line 2: count, charge and unpaired_electrons must be whole numbers"),
        ("name,smiles,count\nwater,O,0\n", "line 2: .*molecules"),
        ("name,smiles\nwater,O\nwater,CO\n", "line 3: name 'water' is given twice"),
        ("name,smiles\n../water,O\n", "line 2: .*name"),
        ("name,smiles\nwater,O,5\n", "line 2: has more values than columns"),
        ("name,smiles\na,\nb,\n", r"(?s)line 2: .*line 3: "),
        ("name,smiles\n\n\nwater,\n", "line 4: name or smiles is missing"),
        ("name,smiles,smiles\nwater,O,O\n", "names the column 'smiles' twice"),
    ],
)
def test_wrong_rows_are_named(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_table(table(tmp_path, text))


def test_a_table_that_is_no_text(tmp_path):
    path = tmp_path / "molecules.csv"
    path.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(InputError, match="cannot be read as CSV"):
        read_table(path)
    with pytest.raises(InputError, match="cannot be read as CSV"):
        read_table(tmp_path / "missing.csv")


def test_a_directory_of_another_molecule_is_refused(tmp_path):
    make_campaigns(read_table(table(tmp_path, "name,smiles\na,O\n")), tmp_path, preset="quick", workers=1)
    with pytest.raises(InputError, match="is the campaign of another system"):
        make_campaigns(read_table(table(tmp_path, "name,smiles\na,CO\n")), tmp_path, preset="quick", workers=1)


@pytest.fixture
def many(finished, tmp_path):
    """A folder with a finished campaign and one whose config is wrong."""
    shutil.copytree(finished[1], tmp_path / "done")
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "campaign.yaml").write_text("name: wrong\nsystem: {smiles: 'C1CC'}\n")
    return tmp_path


def test_a_failed_campaign_ends_no_other(many, prefect_server, monkeypatch):
    for name, value in prefect_server.items():
        monkeypatch.setenv(name, value)
    seen = []
    directories = [many / "wrong", many / "done"]
    ended = Runs(1).run(directories, lambda directory, status: seen.append((directory.name, status)))
    assert seen == [("wrong", 2), ("done", 3)]
    rows = [outcome(directory, ended[directory]) for directory in directories]
    assert "C1CC" in rows[0]["verdict"]
    assert (rows[1]["verdict"], rows[1]["iterations"]) == (Ledger.open(many / "done").verdict().kind.value, 2)
    assert rows[1]["frames"] == Ledger.open(many / "done").dataset_size()
    assert "| done | " in many_table(rows)
    assert json.dumps(rows)


def test_a_damaged_campaign_has_a_line_of_its_own(many):
    (many / "done" / "parts" / "iter000-append.h5").write_bytes(b"")
    row = outcome(many / "done", 5)
    assert row["verdict"].startswith("cannot be read: ")
    assert "iter000-append" in row["verdict"]
    assert "| done | " in many_table([row])


def test_the_table_is_to_be_read():
    row = {"name": "a", "verdict": "max_iterations", "iterations": 2, "frames": 9, "minutes": 3.2433333333333}
    row |= {"acceptance": 0.0123, "test_force_mae_mev_per_ang": 1.8355028}
    assert many_table([row]).endswith("| a | max iterations | 2 | 9 | 1.23 | 1.8 | 3.2 |")
    wrong = row | {"name": "b", "verdict": "exit 2: a long | error"}
    assert many_table([row, wrong]).splitlines()[-3:] == [
        "| b | exit 2 | 2 | 9 | 1.23 | 1.8 | 3.2 |",
        "",
        "- b: exit 2: a long | error",
    ]


def test_a_campaign_with_its_verdict_is_finished_until_its_options_change(many):
    assert verdict_status(many / "done") == 3
    assert verdict_status(many / "wrong") is None
    config = yaml.safe_load((many / "done" / "campaign.yaml").read_text())
    config["execution"]["workers"] = 7
    (many / "done" / "campaign.yaml").write_text(yaml.safe_dump(config))
    assert verdict_status(many / "done") == 3
    config["stop"]["max_iterations"] = 50
    (many / "done" / "campaign.yaml").write_text(yaml.safe_dump(config))
    assert verdict_status(many / "done") is None


@pytest.mark.parametrize(
    ("gpus", "at_once", "expected"),
    [
        ((), 4, []),
        (("0",), 4, []),
        (("0", "1"), 1, []),
        (("0", "1"), 2, ["0", "1"]),
        (("0", "1", "2", "3"), 2, ["0,2", "1,3"]),
        (("0", "GPU-5"), 3, ["0", "GPU-5", "0"]),
    ],
)
def test_gpus_are_shared_out_among_campaigns(gpus, at_once, expected):
    assert shares(gpus, at_once) == expected


def test_a_failed_publication_is_an_error_that_the_user_sees(monkeypatch):
    """`run-many` shows it and goes on."""
    publish_many = pytest.importorskip("flows.cockpit.publish_many")

    def refuse(*_, **__):
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(publish_many, "create_markdown_artifact", refuse)
    with pytest.raises(ResumableError, match="the table of campaigns is not on Prefect's pages: connection refused"):
        publish_many.publish_table(Path("folder"), [])


def unfinished(many, name):
    """A copy of the finished campaign that has many iterations to go."""
    shutil.copytree(many / "done", many / name)
    config = yaml.safe_load((many / name / "campaign.yaml").read_text())
    config["stop"]["max_iterations"] = 50
    config["training"]["updates"] = 60
    (many / name / "campaign.yaml").write_text(yaml.safe_dump(config))
    return many / name


def wait_until(what):
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_campaigns_end_with_their_parent(many, prefect_server):
    campaign = unfinished(many, "first")
    program = (
        "import sys\nfrom pathlib import Path\nfrom flows.session.many import Runs\n"
        "Runs(1).run([Path(sys.argv[1])], print)\n"
    )
    environment = {**prefect_server, "PYTHONPATH": os.pathsep.join(sys.path)}

    def processes():
        found = subprocess.run(["pgrep", "-f", f"run {campaign}$"], capture_output=True, text=True, check=False)
        return found.stdout.split()

    with subprocess.Popen([sys.executable, "-c", program, str(campaign)], env=environment) as parent:
        wait_until(lambda: (campaign / LOG).exists() and "iteration 2" in (campaign / LOG).read_text())
        assert processes()
        parent.kill()
    wait_until(lambda: not processes())


def test_an_interruption_stops_all_and_each_can_be_resumed(many, prefect_server, monkeypatch):
    """Also if Ctrl-C is ignored, as by programs that a script has started in the background."""
    for name, value in prefect_server.items():
        monkeypatch.setenv(name, value)
    for name in ("first", "second"):
        unfinished(many, name)
    runs = Runs(2)

    def stop_when_both_train():
        logs = [many / name / LOG for name in ("first", "second")]
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not all(
            log.exists() and "iteration 2" in log.read_text() for log in logs
        ):
            time.sleep(0.1)
        runs.stop()

    watch = threading.Thread(target=stop_when_both_train)
    watch.start()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        ended = runs.run([many / "first", many / "second", many / "done"], lambda *_: None)
    finally:
        signal.signal(signal.SIGINT, before)
    watch.join()
    assert [ended[many / name] for name in ("first", "second", "done")] == [4, 4, 4]
    for name in ("first", "second"):
        assert "nothing finished is lost" in (many / name / LOG).read_text()
    assert not (many / "done" / LOG).exists()  # it had not begun


def test_the_command_skips_what_is_finished_and_goes_on_past_a_damaged_campaign(many, finished):
    command_line, directory, _ = finished
    smiles = Ledger.open(directory).config.system.smiles
    (many / "broken").mkdir()
    (many / "broken" / "campaign.yaml").write_text("name: [")
    path = table(many, f"name,smiles\nbroken,O\ndone,{smiles}\n")
    answer = command_line("run-many", path, "--dir", many, "--at-once", "1", "--json")
    assert answer.returncode == 2, answer.stderr
    broken, done = json.loads(answer.stdout)["campaigns"]
    assert broken["verdict"].startswith("cannot be read: ")
    assert done["verdict"] == Ledger.open(many / "done").verdict().kind.value
    assert "2 campaigns in" in answer.stderr
    assert "(1 have their verdict)" in answer.stderr
    assert not (many / "done" / LOG).exists()  # it was not run again
    assert (many / "results.md").read_text().count("\n") == 6  # a table of four, and what is broken
