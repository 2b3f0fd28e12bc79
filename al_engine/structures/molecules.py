"""What "molecule" means: the copy that was packed, and the fragment that bonds hold together."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from al_engine.structures.bonds import fragment_of_atom
from al_engine.structures.frames import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class MoleculeTable:
    """The copy and the bonded fragment of each of the N atoms of a system.

    A *copy* is the structure that the config's `system` section describes, packed `system.molecules` times. A copy that
    is read from a file may consist of several fragments: an ion pair, a mixture, a whole box. A *fragment* is a set of
    atoms that bonds hold together, a molecule in the sense of chemistry. Where each copy is a single fragment, the two
    columns are equal.

    Clusters are cut from boxes copy by copy. Net forces, and the rigid moves of a barostat, are of fragments: the net
    force on a copy that is the whole system is zero in every model.

    Attributes:
        copy_of_atom: Index of the copy that each atom belongs to, counted from 0, shape (N,).
        fragment_of_atom: Index of the fragment that each atom belongs to, counted from 0 in order of the fragments'
            first atoms, shape (N,).
    """

    copy_of_atom: IntArray
    fragment_of_atom: IntArray

    @classmethod
    def of(cls, copy_of_atom: IntArray, bonds: IntArray) -> Self:
        """The table of a system whose copies and bonded pairs, shape (n_bonds, 2), are known."""
        copies = np.asarray(copy_of_atom, dtype=np.int64)
        return cls(copies, fragment_of_atom(len(copies), bonds))
