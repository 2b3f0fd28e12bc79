"""Bond stretching (arXiv:2312.09490): a random bond's length times U(shortest, longest), one fragment moved rigidly."""

import numpy as np

from al_engine.frames import Frame, IntArray


def smaller_fragment(n_atoms: int, bonds: IntArray, bond: int) -> IntArray | None:
    """The atoms on the side of a bond that has fewer of them, or None if the bond closes a ring.

    On a tie it is the side of the bond's second atom.

    Args:
        n_atoms: Number of atoms.
        bonds: Bonded pairs, shape (n_bonds, 2).
        bond: Index of the bond.

    Returns:
        Sorted atom indices.
    """
    neighbours: list[list[int]] = [[] for _ in range(n_atoms)]
    for place, (i, j) in enumerate(np.asarray(bonds).tolist()):
        if place != bond:
            neighbours[i].append(j)
            neighbours[j].append(i)

    def side(root: int) -> set[int]:
        seen, stack = {root}, [root]
        while stack:
            for other in neighbours[stack.pop()]:
                if other not in seen:
                    seen.add(other)
                    stack.append(other)
        return seen

    first, second = (int(atom) for atom in bonds[bond])
    from_first = side(first)
    if second in from_first:
        return None
    from_second = side(second)
    return np.array(sorted(from_first if len(from_first) < len(from_second) else from_second), dtype=np.int64)


def stretchable_bonds(n_atoms: int, bonds: IntArray) -> list[int]:
    """Indices of the bonds that are in no ring: those with two separate sides."""
    return [bond for bond in range(len(bonds)) if smaller_fragment(n_atoms, bonds, bond) is not None]


def stretched_bond(frame: Frame, bonds: IntArray, bond: int, factor: float) -> Frame:
    """The frame with one bond's length times a factor: its smaller fragment is moved rigidly along the bond.

    Raises:
        ValueError: If the bond is in a ring.
    """
    moving = smaller_fragment(len(frame), bonds, bond)
    if moving is None:
        raise ValueError(f"bond {bond} is in a ring: it has no fragment to move")
    first, second = (int(atom) for atom in bonds[bond])
    towards, away = (first, second) if second in moving else (second, first)
    positions = frame.positions.copy()
    positions[moving] += (factor - 1.0) * (frame.positions[away] - frame.positions[towards])
    return frame.with_positions(positions)


def stretch_random_bond(
    frame: Frame, bonds: IntArray, *, shortest_factor: float, longest_factor: float, rng: np.random.Generator
) -> Frame:
    """Stretch one bond, drawn evenly from those in no ring, by a factor drawn from U(shortest, longest).

    Bonds must not cross a periodic boundary (molecules are whole). A frame that has only ring bonds, or none, comes
    back unchanged.
    """
    candidates = stretchable_bonds(len(frame), bonds)
    if not candidates:
        return frame
    bond = candidates[int(rng.integers(len(candidates)))]
    return stretched_bond(frame, bonds, bond, float(rng.uniform(shortest_factor, longest_factor)))
