"""Readable output on any terminal: a character that the encoding lacks is replaced by characters that it has.

In ASCII, `Å` becomes `A` and `σ` becomes `sigma`. Bytes of a file name that are not text are written unchanged.
"""

import codecs
import io
import os
import re
import sys
import unicodedata

from rich.console import Console

HANDLER = "al-engine-readable"
"""Name under which Python knows our handler of encoding errors, beside its own handlers such as `replace`."""
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
"""ASCII replacements of characters."""
LETTER = re.compile(r"(?:LATIN|GREEK) (SMALL|CAPITAL) LETTER ([A-Z]+)(?: WITH .*)?")
"""Unicode names of letters that are replaced by their name (`alpha`) or their letter without accent (`A`)."""
SPINNER = range(0x2800, 0x2900)
"""Code points of Braille patterns, from which the spinner of a progress bar is made."""
RAW_BYTES = range(0xDC80, 0xDD00)
"""Code points by which Python represents bytes of file names and arguments that are not text (PEP 383)."""


def in_utf8() -> None:
    """Restart this process in Python's UTF-8 mode if its encoding of file names is ASCII.

    Names in configs and names of files are UTF-8; with ASCII, a process could neither read nor write them. Under
    `LC_ALL=C` Python itself uses the UTF-8 mode, unless `PYTHONUTF8=0` forbids it. The terminal keeps its encoding.
    """
    if codecs.lookup(sys.getfilesystemencoding()).name == "ascii":
        terminal = os.environ.get("PYTHONIOENCODING") or sys.stdout.encoding
        environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": terminal}
        os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], environment)  # noqa: S606


def write_readably() -> None:
    """Let stdout and stderr of this process accept any text: characters that they lack are replaced."""
    codecs.register_error(HANDLER, _readable)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def plain_console(*, stderr: bool = False, quiet: bool = False, soft_wrap: bool = False) -> Console:
    """A console that shows text unchanged: brackets in a path or a name are not read as markup."""
    return Console(stderr=stderr, quiet=quiet, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)


def _readable(error: UnicodeError) -> tuple[str | bytes, int]:
    """The replacement of a character that cannot be encoded, and the position at which encoding continues."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if ord(character) in RAW_BYTES:
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return in_ascii(character), error.start + 1


def in_ascii(character: str) -> str:
    """A character in ASCII: a similar character, its name, or its code; empty for a combining accent."""
    if character in PLAIN:
        return PLAIN[character]
    if unicodedata.combining(character):
        return ""
    if ord(character) in SPINNER:
        return "*"
    letter = LETTER.fullmatch(unicodedata.name(character, ""))
    if letter:
        return letter[2].lower() if letter[1] == "SMALL" else letter[2].capitalize()
    similar = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return similar or character.encode("ascii", "backslashreplace").decode()
