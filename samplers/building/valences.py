"""Table of the valence states of atoms, from which `perception` chooses the Lewis structure of least penalty.

A state consists of a valence (sum of bond orders), a formal charge, a number of radical electrons, and a penalty.
Ordinary states have the penalty 0. The other penalties are chosen so that known molecules and ions get the Lewis
structures that chemists draw. Penalties rise slightly from N+ to N- to O-. Nitro groups and azides are therefore
neutral, because two anions would cost more than N+ and an anion, and bis(sulfonyl)imides carry their charge on N.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class State:
    """A valence state of an atom.

    Attributes:
        valence: Sum of the orders of the atom's bonds.
        charge: Formal charge, e.
        penalty: Penalty of the state; `perception` minimises the sum over a fragment.
        radicals: Number of radical electrons.
    """

    valence: int
    charge: int
    penalty: float
    radicals: int = 0


RADICAL = 6.0
"""Penalty of a radical electron."""
UNLIKELY = 5.0
"""Smallest penalty of states that suggest missing hydrogens, or a charge or spin that was not stated."""

# The arguments of a state are valence, charge, penalty and, if there are any, radical electrons.
_CARBON = (State(4, 0, 0), State(3, -1, 4), State(3, 1, 5), State(2, 0, 10), State(3, 0, RADICAL, 1))
_SILICON = (State(4, 0, 0), State(5, -1, 2), State(6, -2, 3), State(3, -1, 4), State(3, 0, RADICAL, 1))
_PHOSPHORUS = (
    *(State(3, 0, 0), State(5, 0, 0.5), State(4, 1, 1.5), State(6, -1, 2), State(2, -1, 3), State(2, 0, RADICAL, 1)),
    State(4, 0, RADICAL + 1, 1),
)
_SULFUR = (
    *(State(2, 0, 0), State(4, 0, 0.5), State(6, 0, 0.5), State(1, -1, 1), State(3, 1, 1.5), State(5, 1, 4)),
    *(State(1, 0, RADICAL, 1), State(3, 0, RADICAL + 1, 1), State(0, -2, 3)),
)
_HEAVY_HALOGEN = (
    *(State(1, 0, 0), State(0, -1, 0.5), State(3, 0, 1), State(5, 0, 1), State(7, 0, 1), State(2, -1, 2)),
    *(State(2, 1, 4), State(4, -1, 4), State(0, 0, RADICAL, 1), State(2, 0, RADICAL + 1, 1)),
)
_BORON = (State(3, 0, 0), State(4, -1, 1), State(2, 0, RADICAL, 1))
_NOBLE = (State(0, 0, 0), State(2, 0, 1), State(4, 0, 1), State(6, 0, 1))


def _metal(*charges: int) -> tuple[State, ...]:
    """States of a metal as a bare ion with one of its usual charges (e)."""
    return tuple(State(0, charge, 0.0) for charge in charges)


STATES: dict[int, tuple[State, ...]] = {
    1: (State(1, 0, 0), State(0, 1, 8), State(0, -1, 8), State(0, 0, RADICAL, 1)),
    5: _BORON,
    6: _CARBON,
    7: (
        *(State(3, 0, 0), State(4, 1, 0.95), State(2, -1, 1.05), State(1, -2, 8), State(2, 1, 8)),
        *(State(2, 0, RADICAL, 1), State(3, 1, RADICAL + 1, 1), State(1, 0, 2 * RADICAL, 2)),
    ),
    8: (
        *(State(2, 0, 0), State(1, -1, 1.1), State(3, 1, 4), State(0, -2, 4)),
        *(State(1, 0, RADICAL, 1), State(0, 0, 2 * RADICAL, 2)),
    ),
    9: (State(1, 0, 0), State(0, -1, 0.5), State(0, 0, RADICAL, 1)),
    13: (State(3, 0, 0), State(4, -1, 1), State(6, -3, 3), State(0, 3, 0)),
    14: _SILICON,
    15: _PHOSPHORUS,
    16: _SULFUR,
    31: (State(3, 0, 0), State(4, -1, 1), State(0, 3, 0)),
    32: _SILICON,
    33: _PHOSPHORUS,
    34: _SULFUR,
    50: (*_SILICON, State(0, 2, 1), State(0, 4, 1)),
    51: _PHOSPHORUS,
    52: _SULFUR,
    **dict.fromkeys((17, 35, 53), _HEAVY_HALOGEN),
    **dict.fromkeys((2, 10, 18, 36, 54, 86), _NOBLE),
    **dict.fromkeys((3, 11, 19, 37, 55), (State(0, 1, 0), State(1, 0, 1), State(0, 0, RADICAL, 1))),
    **dict.fromkeys((4, 12, 20, 38, 56), (State(0, 2, 0), State(2, 0, 1), State(1, 1, 2))),
    **dict.fromkeys((21, 24, 39, *range(57, 72)), _metal(3)),
    22: _metal(4, 3),
    **dict.fromkeys((23, 25, 26, 27), _metal(2, 3)),
    **dict.fromkeys((28, 30, 48, 80), (*_metal(2), State(2, 0, 1))),
    **dict.fromkeys((29,), _metal(2, 1)),
    **dict.fromkeys((40, 72), _metal(4)),
    **dict.fromkeys((46, 78), _metal(2, 4)),
    47: _metal(1),
    49: _metal(3),
    79: _metal(1, 3),
    81: _metal(1, 3),
    82: (*_metal(2), State(4, 0, 1)),
    83: (*_metal(3), State(3, 0, 0)),
}
"""States by atomic number. Lewis structures of other elements are not determined."""

IONIC_METALS = frozenset({3, 11, 19, 37, 55, 12, 20, 38, 56})
"""Atomic numbers of metals that are ions beside electronegative atoms: no distance to them counts as a bond."""
ELECTRONEGATIVE = frozenset({7, 8, 9, 16, 17, 34, 35, 52, 53})
"""Atomic numbers of the elements with which `IONIC_METALS` form ions."""
NOBLE_GASES = frozenset({2, 10, 18, 36, 54, 86})
TRANSITION_METALS = frozenset((*range(21, 31), *range(39, 49), *range(57, 81), *range(89, 113)))
