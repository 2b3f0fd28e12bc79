"""Structures that a benchmark passes to its workers, in an npz file that only numpy is needed to read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """A structure with targets to train on.

    Attributes:
        numbers: Atomic numbers, shape (N,).
        positions: Positions in Å, shape (N, 3).
        cell: Cell vectors as rows in Å, shape (3, 3); zeros without a cell.
        pbc: Periodicity along each cell vector, shape (3,).
        energy: Target in eV.
        forces: Targets in eV/Å, shape (N, 3).
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    energy: NDArray[np.float64]
    forces: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.numbers)


FIELDS = ("numbers", "positions", "cell", "pbc", "energy", "forces")


def write_structures(path: Path, structures: Mapping[str, Structure]) -> None:
    """Write named structures to an npz file."""
    arrays = {f"{name}/{field}": getattr(item, field) for name, item in structures.items() for field in FIELDS}
    np.savez(path, **arrays)


def read_structures(path: Path) -> dict[str, Structure]:
    """Read what `write_structures` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        names = dict.fromkeys(key.split("/")[0] for key in arrays.files)
        return {name: Structure(*(arrays[f"{name}/{field}"] for field in FIELDS)) for name in names}
