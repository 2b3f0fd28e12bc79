"""Charge and multiplicity in the text of programs' input and output files, for formats whose ASE reader drops them."""

import re
from collections.abc import Mapping

NUMBER = r"([-+]?\d+(?:\.\d*)?(?:[eEdD][-+]?\d+)?)"
"""Regular expression of a number; the exponent may have Fortran's letter `d`."""
CHARGE_IN_INPUT = re.compile(
    r"(?:^|[\s,;$\"'])((?:tot_|total|net|excess|cell|scf\.system\.)?charge)[\"']?\s*[:=\s]\s*[\"']?"
    + NUMBER
    + r"(?![\w.])",
    re.IGNORECASE | re.MULTILINE,
)
"""A keyword of the charge and its value, such as `tot_charge = 1`, `ExcessCharge=1`, `charge 1`, `"totalCharge": 1`."""
MULTIPLICITY_IN_INPUT = re.compile(
    r"(?:^|[\s,;$\"'])((?:spin)?multiplicity|mult|unpaired)[\"']?\s*[:=\s]\s*[\"']?(\d+)(?![\w.])",
    re.IGNORECASE | re.MULTILINE,
)
"""A keyword of the multiplicity or the number of unpaired electrons, and its value."""
COMMENT = re.compile(r"[#!].*")
"""A comment in an input file."""
INPUTS = frozenset(
    {
        "abinit-in", "acemolecule-input", "castep-cell", "cjson", "cp2k-restart", "dftb", "elk", "espresso-in",
        "nwchem-in", "octopus-in", "onetep-in", "sys", "turbomole",
    }
)  # fmt: skip
"""Input formats whose keywords are searched for."""
PATTERNS: Mapping[str, Mapping[str, str]] = {
    "abinit-out": {"charge": rf"(?m)^\s*(?:cell)?charge\s+{NUMBER}"},
    "aims-output": {"charge": rf"(?m)^\s*Charge\s*=\s*{NUMBER}\s*:"},
    "castep-castep": {"charge": rf"net charge of system\s*:\s*{NUMBER}"},
    "gamess-us-out": {
        "charge": rf"CHARGE OF MOLECULE\s*=\s*{NUMBER}",
        "multiplicity": r"SPIN MULTIPLICITY\s*=\s*(\d+)",
    },
    "gaussian-in": {"charge": r"(?m)^\s*(-?\d+)[ ,\t]+\d+\s*$", "multiplicity": r"(?m)^\s*-?\d+[ ,\t]+(\d+)\s*$"},
    "gaussian-out": {"charge": r"Charge\s*=\s*(-?\d+)", "multiplicity": r"Multiplicity\s*=\s*(\d+)"},
    "gpaw-out": {"charge": rf"(?i)total charge:\s*{NUMBER}"},
    "nwchem-out": {
        "charge": r"(?m)^\s*Charge\s*:\s*(-?\d+)\s*$",
        "multiplicity": r"(?m)^\s*Spin multiplicity\s*:\s*(\d+)\s*$",
    },
    "onetep-out": {"charge": rf"(?im)^\s*charge\s*[:=]?\s*{NUMBER}\s*$"},
    "orca-output": {
        "charge": r"Total Charge\s+Charge\s+\.+\s+(-?\d+)",
        "multiplicity": r"Multiplicity\s+Mult\s+\.+\s+(\d+)",
    },
}
"""Regular expressions of charge and multiplicity in other formats, by ASE's name of the format."""


def has_charge_in_text(kind: str) -> bool:
    """Whether files of a format (ASE's name) are searched for charge and multiplicity."""
    return kind in INPUTS or kind in PATTERNS


def charge_in_text(text: str, kind: str) -> dict[str, str]:
    """Find charge and multiplicity in a program's input or output file.

    Args:
        text: The text of the file.
        kind: ASE's name of the format.

    Returns:
        Values as text. For the formats in `INPUTS` they are named by the keyword in the file, for other formats by
        `charge` and `multiplicity`.
    """
    if kind in INPUTS:
        text = "\n".join(COMMENT.sub("", line) for line in text.splitlines())
        found = [*CHARGE_IN_INPUT.findall(text), *MULTIPLICITY_IN_INPUT.findall(text)]
        return {name: _number(value) for name, value in found}
    patterns = PATTERNS.get(kind, {})
    matches = {name: re.search(pattern, text) for name, pattern in patterns.items()}
    return {name: _number(match[1]) for name, match in matches.items() if match}


def _number(text: str) -> str:
    """The number with the exponent letter `e` in place of Fortran's `d`."""
    return text.lower().replace("d", "e")
