"""Folders and campaigns of any name: spaces, letters of any language, markup, dashes, line breaks, bytes of no text."""

import os
import re
import shlex
from pathlib import Path

import pytest

from al_engine.errors import InputError, typed
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
