"""Domain decomposition: a large frame in pieces of so many atoms, each with everything its atoms see.

Around a piece (`models.graph.neighbours`) lies its halo: all atoms, and periodic images of atoms, that may be within
the cut-off of one of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from al_engine.structures.frames import Frame, IntArray
from models.graph.graph import NodeSpecies
from models.graph.neighbours import Pieces, neighbour_table


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """T atoms of a frame, sorted by species, and their neighbours: N nodes, of which these atoms are the first.

    Padding points at the last node, which is no atom and out of every cut-off of these, so no mask is needed.

    Attributes:
        nodes: Atom of each node, shape (N,).
        positions: Of the nodes in Å, shape (N, 3), float64.
        species: Of the T atoms.
        neighbours: Node of each neighbour, those within the shortest cut-off first, shape (T, K).
        columns: For each cut-off, how many leading columns hold all neighbours within it.
    """

    nodes: Tensor
    positions: Tensor
    species: NodeSpecies
    neighbours: Tensor
    columns: tuple[int, ...]

    @property
    def atoms(self) -> Tensor:
        """The T atoms."""
        return self.nodes[: len(self.neighbours)]

    @property
    def kept_bytes(self) -> int:
        """Memory of a domain whose lists are kept, neighbours as 32-bit integers."""
        one_hot = self.species.one_hot
        tensors = (self.nodes, self.positions, self.species.kinds, one_hot)
        return 4 * self.neighbours.numel() + sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def vectors(self, n_columns: int) -> Tensor:
        """Vectors to the neighbours of the leading columns in Å, shape (T, n_columns, 3)."""
        heads = self.neighbours[:, :n_columns]
        ends = self.positions.index_select(0, heads.flatten()).view(*heads.shape, 3)
        return ends - self.positions[: len(heads), None]


class DomainDecomposition:
    """The domains of a frame; each is made when asked for, and only its lists are kept, if anything."""

    def __init__(
        self,
        frame: Frame,
        species: IntArray,
        *,
        cutoffs: Sequence[float],
        size: int,
        identity: Tensor,
        keep_lists: bool = False,
    ) -> None:
        """Split a frame.

        Args:
            frame: The frame.
            species: Species of its atoms, shape (N,).
            cutoffs: Cut-offs in Å, ascending.
            size: Largest number of atoms in a domain.
            identity: An identity matrix, as many rows as there are species; domains go to its device.
            keep_lists: Find neighbours once, for `Domain.kept_bytes`, and not each time.
        """
        self.species, self.cutoffs, self.identity = species, cutoffs, identity
        self.pieces = Pieces(frame.positions, frame.cell, frame.pbc, size=size)
        self._kept: dict[int, Domain] | None = {} if keep_lists else None

    def __len__(self) -> int:
        """Number of domains."""
        return len(self.pieces.atoms)

    def __iter__(self) -> Iterator[Domain]:
        """One domain after another."""
        return (self.domain(k) for k in range(len(self)))

    def densest(self) -> int:
        """Which domain has the most atoms per volume of its bounding box."""
        volumes = np.prod(self.pieces.highest - self.pieces.lowest + self.cutoffs[-1], axis=1)
        return int(np.argmax([len(piece) for piece in self.pieces.atoms] / volumes))

    def domain(self, k: int) -> Domain:
        """Domain k."""
        if self._kept is None:
            return self._find(k)
        if k not in self._kept:
            found = self._find(k)
            self._kept[k] = replace(found, neighbours=found.neighbours.int())
        return replace(self._kept[k], neighbours=self._kept[k].neighbours.long())

    def _find(self, k: int) -> Domain:
        piece = self.pieces.atoms[k]
        own = piece[np.argsort(self.species[piece], kind="stable")]
        halo, halo_positions = self.pieces.surroundings(k, self.cutoffs[-1])
        points = np.concatenate([self.pieces.positions[own], halo_positions])
        neighbours, columns = neighbour_table(points, len(own), self.cutoffs, padding=len(points))
        far = self.pieces.highest[k] + 2.0 * self.cutoffs[-1]
        nodes, positions = np.concatenate([own, halo, own[:1]]), np.concatenate([points, far[None]])
        device = self.identity.device
        kinds = torch.from_numpy(self.species[own]).to(device)
        return Domain(
            nodes=torch.from_numpy(nodes).to(device),
            positions=torch.from_numpy(positions).to(device),
            species=NodeSpecies(
                kinds,
                self.identity.index_select(0, kinds),
                np.bincount(self.species[own], minlength=len(self.identity)).tolist(),
            ),
            neighbours=torch.from_numpy(neighbours).to(device),
            columns=columns,
        )
