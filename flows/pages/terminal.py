"""What is printed reaches any terminal: a character that its encoding lacks is written in others that it has.

Where only ASCII is taken, `Å` becomes `A` and `σ` becomes `sigma`. The bytes of a file name that are no text stay.
"""

import codecs
import io
import os
import re
import sys
import unicodedata

from rich.console import Console

HANDLER = "al-engine-readable"
"""The name of the error handler, among Python's own such as `replace`."""
PLAIN = {
    "✓": "v",
    "·": "-",
    "•": "*",
    "–": "-",
    "—": "-",
    "−": "-",
    "×": "x",
    "±": "+-",
    "°": " deg",
    "√": "sqrt",
    "≤": "<=",
    "≥": ">=",
    "→": "->",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "ß": "ss",
    "━": "-",
    "╸": "-",
    "╺": "-",
    "─": "-",
    "│": "|",
}
LETTER = re.compile(r"(?:LATIN|GREEK) (SMALL|CAPITAL) LETTER ([A-Z]+)(?: WITH .*)?")
SPINNER = range(0x2800, 0x2900)
"""Braille patterns, which turn beside a progress bar."""
RAW_BYTES = range(0xDC80, 0xDD00)
"""What Python makes of the bytes of a file name or an argument that are no text (PEP 383)."""


def in_utf8() -> None:
    """Start this process again in Python's UTF-8 mode if it takes file names for ASCII.

    Names in a config are UTF-8, and so are file names: in ASCII they could be neither read nor written. Python does so
    itself under `LC_ALL=C`, unless `PYTHONUTF8=0` forbids it. The terminal keeps its encoding.
    """
    if codecs.lookup(sys.getfilesystemencoding()).name == "ascii":
        terminal = os.environ.get("PYTHONIOENCODING") or sys.stdout.encoding
        environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": terminal}
        os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], environment)  # noqa: S606


def write_readably() -> None:
    """Let stdout and stderr of this process take any text."""
    codecs.register_error(HANDLER, _readable)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def plain_console(*, stderr: bool = False, quiet: bool = False, soft_wrap: bool = False) -> Console:
    """A console that shows text as it is: what looks like markup in a path or a name is part of it."""
    return Console(stderr=stderr, quiet=quiet, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)


def _readable(error: UnicodeError) -> tuple[str | bytes, int]:
    """One character that cannot be encoded, in others that can; where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if ord(character) in RAW_BYTES:
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return in_ascii(character), error.start + 1


def in_ascii(character: str) -> str:
    """A character in ASCII: what it looks like or is called, else its code."""
    if character in PLAIN:
        return PLAIN[character]
    if unicodedata.combining(character):
        return ""
    if ord(character) in SPINNER:
        return "*"
    letter = LETTER.fullmatch(unicodedata.name(character, ""))
    if letter:
        return letter[2].lower() if letter[1] == "SMALL" else letter[2].capitalize()
    like = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return like or character.encode("ascii", "backslashreplace").decode()
