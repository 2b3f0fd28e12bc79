"""Every command, option and make target that the pages name exists."""

import importlib
import re
import shlex

import pytest
import typer.main
from docs_pages import PAGES, ROOT

from flows.cli.app import app

COMMANDS = typer.main.get_command(app).commands
GROUPS = {name: command.commands for name, command in COMMANDS.items() if hasattr(command, "commands")}
OPTIONS = {
    name: {o for each in (command, *GROUPS.get(name, {}).values()) for p in each.params for o in p.opts} | {"--help"}
    for name, command in COMMANDS.items()
}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
CALL = re.compile(r"(?<![-/\w])al-engine +([a-z].*)")
MAKE = re.compile(r"^make((?: +[a-z-]+(?![\w=-]))+)")


def calls(line):
    return [shlex.split(CALL.search(piece)[1]) for piece in re.split(r"&&|;", line) if CALL.search(piece)]


@pytest.mark.parametrize("page", PAGES)
def test_commands_to_type_are_parsed_as_they_stand(page):
    for line in PAGES[page].shell_lines:
        for name, *arguments in calls(line):
            assert name in COMMANDS, line
            command = COMMANDS[name]
            if name in GROUPS:
                name, *arguments = arguments  # noqa: PLW2901 (the command of the group)
                assert name in command.commands, line
                command = command.commands[name]
            command.make_context(name, arguments)  # raises on an unknown option, a missing or a wrong value


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_text_exist_with_their_options(page):
    for piece in PAGES[page].inline:
        for name, *arguments in calls(piece):
            assert name in COMMANDS, piece
            assert {word for word in arguments if word.startswith("--")} <= OPTIONS[name], piece


def test_config_files_name_commands_that_exist():
    for path in (ROOT / "examples").glob("*.yaml"):
        for piece in re.findall(r"`([^`]+)`", path.read_text()):
            for name, *arguments in calls(piece):
                assert {word for word in arguments if word.startswith("--")} <= OPTIONS[name], piece


def test_options_alone_in_the_readme_are_of_some_command():
    known = set().union(*OPTIONS.values())
    alone = {piece.split()[0] for piece in PAGES["README.md"].inline if piece.startswith("--")}
    assert alone
    assert alone <= known


def test_the_readme_names_every_command():
    assert set(COMMANDS) <= set(PAGES["README.md"].inline)


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page):
    named = set()
    for piece in [*PAGES[page].shell_lines, *PAGES[page].inline]:
        named.update(*(match.split() for match in MAKE.findall(piece)))
    assert named <= TARGETS


def test_the_readme_says_how_to_test():
    assert "make test" in PAGES["README.md"].inline


@pytest.mark.parametrize("page", PAGES)
def test_python_on_the_pages_imports_what_there_is(page):
    for code in PAGES[page].blocks("python"):
        compile(code, page, "exec")
        for module, names in re.findall(r"^from (\S+) import (.+)$", code, re.MULTILINE):
            for name in names.split(", "):
                assert hasattr(importlib.import_module(module), name)


def test_a_page_with_a_wrong_option_would_be_found():
    with pytest.raises(Exception, match="--nonsense"):
        COMMANDS["run"].make_context("run", ["runs/mine", "--nonsense"])
    assert calls("cd al-engine && al-engine report runs/mine") == [["report", "runs/mine"]]
    assert "report" not in COMMANDS
