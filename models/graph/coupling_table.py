"""Wigner 3j symbols, read from a file that e3nn has written.

e3nn computes them in milliseconds, but to import it takes seconds in every process that builds a model, because it
loads PyTorch's compiler. `python -m models.graph.coupling_table` writes the file again.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FILE = Path(__file__).with_name("coupling_table.npz")
HIGHEST = 4
"""Highest degree of spherical harmonics that a config may ask for."""


def tabulated() -> list[tuple[int, int, int]]:
    """Degrees (l1, l2, l3) in the file: those with at least two degrees up to `HIGHEST`."""
    return [
        (l1, l2, l3)
        for l1 in range(2 * HIGHEST + 1)
        for l2 in range(2 * HIGHEST + 1)
        for l3 in range(abs(l1 - l2), min(l1 + l2, 2 * HIGHEST) + 1)
        if sorted((l1, l2, l3))[1] <= HIGHEST
    ]


def wigner_3j(l1: int, l2: int, l3: int) -> Tensor:
    """The Wigner 3j symbol of real spherical harmonics as `e3nn.o3.wigner_3j` gives it, in float64.

    Args:
        l1: First degree.
        l2: Second degree.
        l3: Third degree.

    Returns:
        Shape (2 l1 + 1, 2 l2 + 1, 2 l3 + 1).
    """
    name = _name(l1, l2, l3)
    known = _table()
    return torch.from_numpy(known[name].copy()) if name in known else computed_3j(l1, l2, l3)


def computed_3j(l1: int, l2: int, l3: int) -> Tensor:
    """The same by e3nn itself."""
    from e3nn import o3

    symbol: Tensor = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
    return symbol


def write_table() -> None:
    """Write the file."""
    symbols: dict[str, Any] = {_name(*degrees): computed_3j(*degrees).numpy() for degrees in tabulated()}
    np.savez_compressed(FILE, **symbols)


@cache
def _table() -> dict[str, np.ndarray]:
    with np.load(FILE, allow_pickle=False) as stored:
        return dict(stored)


def _name(l1: int, l2: int, l3: int) -> str:
    return f"{l1}_{l2}_{l3}"


if __name__ == "__main__":
    write_table()
