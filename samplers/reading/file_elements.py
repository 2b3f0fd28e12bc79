"""Elements of atoms in file formats that have labels of atoms: symbols, names of atoms, or numbered types.

The elements come from the file or from the user's `system.elements`; they are never guessed.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from al_engine.errors import InputError
from al_engine.structures.frames import FloatArray, IntArray

LONGEST_COUNT = 18
"""Largest number of digits in a file's number of atoms."""
ISOTOPES = ("D", "T")
"""Labels of isotopes of hydrogen."""
GHOSTS = ("BQ", "GH", "GHOST", "XX", "X")
"""Labels of ghost and dummy atoms."""
ATOM_NAMES = ("CA", "CD", "CE", "HE", "HG", "ND", "NE", "SG")
"""Names of atoms of biomolecules that are also symbols in capitals: CA is an alpha carbon or calcium."""
_COORDINATES = 3
"""Number of coordinates in a line of a .gro file."""


def element_of(label: str, elements: Mapping[str, str]) -> int | None:
    """Find the atomic number for a label: that of the user's element for the label, else of the label as a symbol.

    Args:
        label: Label of an atom in a file.
        elements: The user's elements by label.

    Returns:
        The atomic number; None if the label is neither in `elements` nor an element's symbol.

    Raises:
        InputError: If the user's element for the label is not an element's symbol.
    """
    from ase.data import atomic_numbers

    if label in elements:
        symbol = elements[label]
        if symbol not in atomic_numbers or symbol == "X":
            raise InputError(f"system.elements: '{symbol}', given for '{label}', is not an element's symbol")
        return int(atomic_numbers[symbol])
    number = atomic_numbers.get(label.capitalize())
    return None if number in (None, 0) else int(number)


def elements_needed(labels: Iterable[str], source: str, kind: str) -> InputError:
    """The error that asks the user for the elements of labels, which `kind` calls `types` or `atoms named`."""
    names = list(dict.fromkeys(labels))
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")  # noqa: PLR2004 -- a line
    example = ", ".join(f"{name}: ?" for name in names[:4])
    return InputError(
        f"{source}: gives no elements for the {kind} {shown}; give them in system.elements: {{{example}}} "
        f"(`al-engine init --elements {names[0]}=?,...`)"
    )


# -- XYZ --------------------------------------------------------------------------------------------------------


def xyz_with_elements(
    lines: Iterable[str], elements: Mapping[str, str], *, source: str, size: int | None
) -> str | None:
    """Check an XYZ file before it is parsed, and replace labels by the user's elements.

    Args:
        lines: The lines of the file.
        elements: The user's elements by label.
        source: Name of the file in messages.
        size: Size of the file in bytes, which bounds its number of atoms; None if unknown.

    Returns:
        The file's text with elements in place of labels; None if `elements` is empty and the file can be read as it is.

    Raises:
        InputError: If a label is not an element, or is an isotope or a ghost atom, if a comment line may hold an
            unnamed charge, or if a number of atoms is impossible. The message names the line.
    """
    unknown: dict[str, int] = {}
    written: list[str] = []
    for number, text, column in _xyz_rows(lines, source, size):
        words = text.split()
        if column is not None and len(words) > column:
            symbol = _xyz_symbol(words[column], elements, f"{source}, line {number}")
            if symbol is None:
                unknown.setdefault(words[column], number)
            elif symbol != words[column]:
                written.append(" ".join([*words[:column], symbol, *words[column + 1 :]]))
                continue
        if elements:
            written.append(text)
    if unknown:
        raise elements_needed(unknown, f"{source}, line {min(unknown.values())}", "atoms named")
    return "\n".join(written) + "\n" if elements else None


def _xyz_rows(lines: Iterable[str], source: str, size: int | None) -> Iterator[tuple[int, str, int | None]]:
    """Yield number (from 1) and text of each line, and the column of the element or None for a line without an atom.

    Raises:
        InputError: If a number of atoms is impossible, or a comment line may hold an unnamed charge.
    """
    n_atoms = atoms_left = column = 0
    expecting_comment = False
    for number, line in enumerate(lines, start=1):
        text, column_here = line.rstrip("\n"), None
        if atoms_left:
            atoms_left, column_here = atoms_left - 1, column
        elif expecting_comment:
            expecting_comment, atoms_left, column = False, n_atoms, _species_column(text)
            _refuse_bare_numbers(text, f"{source}, line {number}")
        elif text.strip().isdecimal():
            word = text.strip()
            if len(word) > LONGEST_COUNT or (size is not None and int(word) > size):
                raise InputError(f"{source}, line {number}: the file is too short for {word[:LONGEST_COUNT]} atoms")
            expecting_comment, n_atoms = True, int(word)
        yield number, text, column_here


def _species_column(comment: str) -> int:
    """Index of the column of element symbols, from the comment line of an XYZ frame.

    Without `Properties`, as in plain XYZ, it is 0. If `Properties` has no species, it is greater than any index.
    """
    match = re.search(r'Properties="?([^\s"]+)', comment)
    if match is None:
        return 0
    fields, column = match[1].split(":"), 0
    for name, _, width in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        if name.lower() == "species":
            return column
        column += int(width) if width.isdecimal() else 1
    return 10**6


def _xyz_symbol(label: str, elements: Mapping[str, str], where: str) -> str | None:
    """The symbol that replaces a label: the user's element, or the label itself; None if its element is unknown.

    Raises:
        InputError: If the label is an isotope or a ghost atom.
    """
    from ase.data import chemical_symbols

    number = None if label in ATOM_NAMES and label not in elements else element_of(label, elements)
    if number is not None:
        return chemical_symbols[number] if label in elements else label
    if label.upper() in ISOTOPES:
        raise InputError(
            f"{where}: '{label}' is an isotope of hydrogen; isotopes are not simulated, because a force field does not "
            "depend on them: write H"
        )
    if label.upper() in GHOSTS:
        raise InputError(f"{where}: '{label}' is a ghost or dummy atom; remove it")
    if re.fullmatch(r"[+-]?\d*\.?\d*([eE][+-]?\d+)?", label) and not label.isdecimal():
        return label  # a number in place of an element: the parser reports the fault of the line
    return None


def _refuse_bare_numbers(comment: str, where: str) -> None:
    """Refuse a comment line such as `1 2`, which some programs write for charge and multiplicity.

    Raises:
        InputError: If the comment line is a pair of integers other than `0 1`.
    """
    match = re.fullmatch(r"\s*([+-]?\d{1,2})[\s,]+(\d{1,2})\s*", comment)
    if match and (int(match[1]), int(match[2])) != (0, 1):
        raise InputError(
            f"{where}: the comment `{comment.strip()}` may mean charge and multiplicity; write "
            f"charge={int(match[1])} multiplicity={int(match[2])}, or remove it"
        )


# -- names of atoms ---------------------------------------------------------------------------------------------


def _number_by_name(name: str, elements: Mapping[str, str]) -> int | None:
    """Atomic number for an atom's name: of the user's element, or of a letter C, F, H, N, O, P or S before any digits.

    Other names are ambiguous (CA is a carbon atom or calcium) and give None.
    """
    if name in elements:
        return element_of(name, elements)
    match = re.fullmatch(r"([CFHNOPS])\d*", name)
    return None if match is None else element_of(match[1], {})


def elements_of_pdb(lines: Iterable[str], elements: Mapping[str, str], *, source: str) -> tuple[IntArray, FloatArray]:
    """Read the elements and formal charges of a PDB file, from columns 77-78 and 79-80 of the wwPDB format 3.30.

    If columns 77-78 are empty, the element is read from an atom name that consists of one of the letters C, F, H, N, O,
    P and S and optional digits.

    Args:
        lines: The lines of the file.
        elements: The user's elements by atom name.
        source: Name of the file in messages.

    Returns:
        Atomic numbers and formal charges (e) of the atoms of all models in order, each of shape (N,).

    Raises:
        InputError: If an atom has no element, has an occupancy other than 0 or 1, has an alternative position, or is an
            isotope; or if a charge is invalid.
    """
    numbers, charges, unknown = [], [], []
    for count, line in enumerate(lines, start=1):
        if not line.startswith(("ATOM  ", "HETATM")):
            continue
        where = f"{source}, line {count}"
        name, symbol = line[12:16].strip(), line[76:78].strip()
        if line[16:17].strip():
            text = f"{where}: atom {name} is in alternative position '{line[16]}'"
            raise InputError(f"{text}; keep a single position of each atom and clear column 17")
        occupancy = line[54:60].strip()
        if occupancy and _number(occupancy, where) not in (0.0, 1.0):
            raise InputError(f"{where}: atom {name} has an occupancy of {occupancy}; give a single ordered structure")
        if symbol.upper() in ISOTOPES:
            raise InputError(f"{where}: '{symbol}' is an isotope of hydrogen, which is not simulated: write H")
        number = element_of(symbol, {}) if symbol and name not in elements else _number_by_name(name, elements)
        if number is None:
            unknown.append(symbol or name)
        numbers.append(number or 0)
        charges.append(_pdb_charge(line[78:80].strip(), where))
    if unknown:
        raise elements_needed(unknown, source, "atoms named")
    return np.array(numbers, dtype=np.int64), np.array(charges, dtype=np.float64)


def _number(text: str, where: str) -> float:
    """The number in a text; raises `InputError` if the text is not a number."""
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{where}: '{text}' is not a number; correct the line") from None


def _pdb_charge(text: str, where: str) -> int:
    """The charge in e in a text such as `1-` or `+2`; 0 for an empty text.

    Raises:
        InputError: If the text is not a charge.
    """
    if not text:
        return 0
    match = re.fullmatch(r"(\d)([+-])|([+-])(\d)|0", text)
    if match is None:
        raise InputError(
            f"{where}: columns 79-80 hold '{text}', which is not a charge such as 1- or 2+; correct or clear them"
        )
    digit, sign = match[1] or match[4] or "0", match[2] or match[3] or "+"
    return int(sign + digit)


def elements_of_gro(lines: Iterable[str], elements: Mapping[str, str], *, source: str) -> list[Any]:
    """Read all frames of a GROMACS .gro file, which has atom names but no elements.

    Args:
        lines: The lines of the file.
        elements: The user's elements by atom name.
        source: Name of the file in messages.

    Returns:
        The frames as `ase.Atoms`, in Å.

    Raises:
        InputError: If the element of an atom name is ambiguous, or a line does not follow the format.
    """
    rows = [line.rstrip("\n") for line in lines]
    images, title = [], 0  # a frame is a title, the number of atoms, a line for each atom, and a line for the box
    while title + 1 < len(rows) and rows[title + 1].strip():
        count = rows[title + 1].strip()
        if not count.isdecimal() or title + 2 + int(count) >= len(rows):
            raise InputError(f"{source}, line {title + 2}: '{count[:20]}' is not the number of atoms that follow")
        box = title + 2 + int(count)
        images.append(_gro_frame(rows[title + 2 : box], rows[box], elements, source=source, first_line=title + 3))
        title = box + 1
    return images


def _gro_frame(rows: list[str], box: str, elements: Mapping[str, str], *, source: str, first_line: int) -> Any:
    """A frame of a .gro file, from its line for the box and the lines of its atoms, which begin at `first_line`."""
    from ase import Atoms

    names = [row[10:15].strip() for row in rows]
    numbers = [_number_by_name(name, elements) for name in names]
    unknown = [name for name, number in zip(names, numbers, strict=True) if number is None]
    if unknown:
        raise elements_needed(unknown, source, "atoms named")
    positions = [_gro_position(row, f"{source}, line {first_line + k}") for k, row in enumerate(rows)]
    edges = [_number(word, f"{source}, line {first_line + len(rows)}") for word in box.split()]
    cell = np.diag([*edges, 0.0, 0.0, 0.0][:3])
    if len(edges) == 9:  # noqa: PLR2004 -- v1(x) v2(y) v3(z) v1(y) v1(z) v2(x) v2(z) v3(x) v3(y)
        cell.flat[[1, 2, 3, 5, 6, 7]] = edges[3:]
    return Atoms(numbers, 10.0 * np.array(positions).reshape(-1, 3), cell=10.0 * cell, pbc=bool(np.any(edges)))


def _gro_position(row: str, where: str) -> list[float]:
    """The position in a line of a .gro file, nm. The width of a column is the distance between two decimal points."""
    points = [20 + match.start() for match in re.finditer(r"\.", row[20:])]
    if len(points) < _COORDINATES:
        raise InputError(f"{where}: has fewer than three coordinates from column 21 on; correct the line")
    width = points[1] - points[0]
    return [_number(row[20 + k * width : 20 + (k + 1) * width].strip(), where) for k in range(3)]
