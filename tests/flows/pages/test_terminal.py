"""Whatever the terminal takes, every command writes to it: readably, without an error."""

import io
import json
import os
import pty
import re
import subprocess
import sys

import pytest

from flows.pages.terminal import in_ascii, plain_console, write_readably

TERMINALS = {
    "the C locale": {"LC_ALL": "C", "PYTHONUTF8": "0"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "strict ascii": {"PYTHONIOENCODING": "ascii:strict"},
}
LIGHT = {"status --help": "the state of a campaign", "status": "meV/A", "verify": "sound", "status --json": "evidence"}
HEAVY = {"evaluate --what errors": "forces / meV/A"}
"""What loads torch, tried on one terminal."""


@pytest.fixture(scope="module")
def campaign(finished, tmp_path_factory):
    """A finished campaign in a folder whose name has an umlaut, and what looks like markup."""
    _, directory, _ = finished
    folder = tmp_path_factory.mktemp("länger [bold]")
    link = folder / "tiny"
    link.symlink_to(directory)
    return link


def run(commands, terminal, *arguments):
    """A command on a terminal: exit status, and what was written to stdout and stderr, as it can be read there."""
    environment = {**commands.environment, **TERMINALS[terminal]}
    process = subprocess.run(commands.command(*arguments), env=environment, capture_output=True, check=False)
    encoding = "latin-1" if terminal == "latin-1" else "ascii"
    written = [part.decode(encoding).replace("Å", "A") for part in (process.stdout, process.stderr)]
    assert "Traceback" not in written[1]
    return process.returncode, *written


@pytest.mark.parametrize("terminal", TERMINALS)
def test_every_command_writes_to_every_terminal(terminal, finished, campaign, tmp_path):
    commands, _, _ = finished
    for command, said in {**LIGHT, **(HEAVY if terminal == "strict ascii" else {})}.items():
        verb, *options = command.split()
        output = ["--output", tmp_path] if verb == "evaluate" else []
        status, text, errors = run(commands, terminal, verb, campaign, *options, *output)
        assert status == 0, errors
        assert said in text
        if "--json" in options:
            assert json.loads(text)["directory"] == str(campaign)
    status, _, errors = run(commands, terminal, "status", campaign.parent / "nowhere [red]")
    assert status == 2
    assert re.search(r"l[aä]nger \[bold\].*/nowhere \[red\]: no campaign directory", errors)


def test_bars_on_a_terminal_that_takes_ascii_alone():
    """A real terminal, on which bars and spinners are drawn."""
    code = (
        "from flows.pages.terminal import write_readably; from flows.pages.display import Display\n"
        "import time; write_readably()\n"
        "with Display() as display, display.step('Å [bold]σ') as progress:\n"
        "    for done in range(1, 5): progress(done, 4, '[red]Å'); time.sleep(0.1)\n"
        "    display.say('  ', ('✓', 'green'), ' läuft')\n"
    )
    leader, follower = pty.openpty()
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen([sys.executable, "-c", code], stderr=follower, env=environment)
    os.close(follower)
    shown = b""
    with open(leader, "rb", buffering=0) as terminal:  # noqa: PTH123 (a descriptor)
        try:
            while piece := terminal.read(4096):
                shown += piece
        except OSError:  # how the end of a terminal reads
            pass
    assert process.wait() == 0, shown
    assert shown.isascii()
    assert b"A [bold]sigma" in shown
    assert b"[red]A" in shown
    assert b" lauft" in shown


@pytest.mark.parametrize(
    ("character", "plain"),
    [("Å", "A"), ("σ", "sigma"), ("Δ", "Delta"), ("²", "2"), ("ß", "ss"), ("ł", "l"), ("✓", "v"), ("日", "\\u65e5")],
)
def test_characters_in_ascii(character, plain):
    assert in_ascii(character) == plain


def test_bytes_of_a_file_name_that_are_no_text_stay(monkeypatch):
    for encoding in ("ascii", "utf-8", "latin-1"):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        write_readably()
        plain_console().print(os.fsdecode(b"a\xff b"))
        assert written.getvalue() == b"a\xff b\n"


def test_a_stream_that_is_no_file_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    write_readably()
    sys.stdout.write("Å")
    assert sys.stdout.getvalue() == "Å"
