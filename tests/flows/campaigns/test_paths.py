"""Folders and campaigns of any name: spaces, letters of any language, markup, dashes, line breaks, bytes of no text."""

import os
import re
import shlex
from pathlib import Path

import pytest
from flow_runs import SMALLER, CommandLine, api

from al_engine.errors import ExitStatus, InputError, typed
from flows.cli.init import init_campaign

FOLDERS = {
    "my run": "my run",
    "läuf 2": "läuf 2",
    "la\u0308uf": "läuf",  # as some systems write it: the letter, then the dots
    "日本": "日本",
    "a[bold]b": "a-bold-b",
    "-x": "x",
    "new\nline": "new-line",
    os.fsdecode(b"b\xff\xfe"): "b",
    "...": "campaign",
    "a:b|c*": "a-b-c",
    "x" * 200: "x" * 64,
}


def init(directory, **options):
    return init_campaign(directory, system={"smiles": "C"}, structure=None, preset="quick", **options).config


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_campaign_is_named_after_its_folder(folder, tmp_path):
    assert init(tmp_path / folder).name == FOLDERS[folder]


def test_a_campaign_is_named_as_told(tmp_path):
    assert init(tmp_path / "a", name="Aceton, 3 Moleküle").name == "Aceton, 3 Moleküle"
    with pytest.raises(InputError, match="`name`: got 'a/b'; use 1-64 letters"):
        init(tmp_path / "b", name="a/b")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_path_can_be_typed_as_it_is_shown(folder):
    (word,) = shlex.split(typed(Path(folder)))
    assert Path(word) == Path(folder)
    assert not word.startswith("-")


def test_what_init_says_to_type_works(command_line):
    for folder in ("my [bold] run", "-x"):
        answer = command_line("init", f"./{folder}", "--smiles", "C", "--preset", "quick")
        assert answer.returncode == 0, answer.stderr
        name, *arguments = shlex.split(re.search(r"`(al-engine run .*)`", answer.stdout)[1])
        assert name == "al-engine"
        status = command_line("status", *arguments[1:])
        assert "continue with: " in status.stdout, status.stderr


@pytest.mark.parametrize("verb", ["run", "status", "verify", "check", "resume", "init"])
def test_a_name_that_no_file_system_takes(verb, command_line):
    answer = command_line(verb, "x" * 300, *(["--smiles", "C"] if verb == "init" else []))
    assert answer.returncode == 2
    assert re.match(r"error: x+\S*: File name too long; ", answer.stderr), answer.stderr


def test_a_whole_campaign(prefect_server, tmp_path):
    folder = tmp_path / os.fsdecode("mein [bold]ordner\n-é ".encode() + b"\xff")
    folder.mkdir()
    commands = CommandLine(prefect_server, folder)
    name = "Fluß, 2. Lauf (é=+@)"
    config = SMALLER.replace("name: smaller", f"name: '{name}'").replace("max_iterations: 2", "max_iterations: 1")
    (folder / "my config.yaml").write_text(config)
    answer = commands("run", "my config.yaml")
    assert answer.returncode in (ExitStatus.DONE, ExitStatus.NOT_CONVERGED), answer.stderr
    assert answer.stderr.startswith(f"campaign {name} in runs/{name}\n")
    assert f"al-engine status {shlex.quote(f'runs/{name}')}\n" in answer.stdout
    state = commands.status(f"runs/{name}")
    assert (state["campaign"], state["state"]) == (name, "finished")
    assert commands("verify", f"runs/{name}").returncode == 0
    ours = {"flow_runs": {"tags": {"all_": [f"campaign:{name}"]}}}
    runs = api(prefect_server, "/flow_runs/filter", ours)
    assert {run["name"] for run in runs} == {name, f"{name} · initial set", f"{name} · iteration 0"}
    assert {run["state_type"] for run in runs} == {"COMPLETED"}
