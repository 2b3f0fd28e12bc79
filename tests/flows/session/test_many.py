"""Many campaigns: a table of molecules becomes campaigns, which run side by side and go on after an interruption."""

import json
import shutil
import threading
import time

import pytest
import yaml

from al_engine.campaign.ledger import Ledger
from al_engine.errors import InputError
from flows.pages.many import many_table
from flows.session.many import LOG, Runs, make_campaigns, outcome, read_table

TABLE = """name,smiles,count,charge,unpaired_electrons
water,O,2,,
acetate,CC(=O)[O-],,-1,
methyl radical,[CH3],,,1
"""


def table(folder, text):
    path = folder / "molecules.csv"
    path.write_text(text, encoding="utf-8")
    return path


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


def test_an_interruption_stops_all_and_each_can_be_resumed(many, prefect_server, monkeypatch):
    for name, value in prefect_server.items():
        monkeypatch.setenv(name, value)
    for name in ("first", "second"):
        shutil.copytree(many / "done", many / name)
        config = yaml.safe_load((many / name / "campaign.yaml").read_text())
        config["stop"]["max_iterations"] = 50
        config["training"]["updates"] = 60
        (many / name / "campaign.yaml").write_text(yaml.safe_dump(config))
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
    ended = runs.run([many / "first", many / "second", many / "done"], lambda *_: None)
    watch.join()
    assert [ended[many / name] for name in ("first", "second", "done")] == [4, 4, 4]
    for name in ("first", "second"):
        assert "nothing finished is lost" in (many / name / LOG).read_text()
    assert not (many / "done" / LOG).exists()  # it had not begun
