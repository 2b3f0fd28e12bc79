"""Domain decomposition: each domain holds at most `size` atoms, and a halo of one cut-off around them.

The halo of a domain is all other atoms, and periodic images of atoms, that may be within the cut-off of one of its
atoms (`models.graph.neighbours`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from al_engine.structures.frames import Frame, IntArray
from models.graph.graph import Graph
from models.graph.neighbours import Pieces, neighbour_table


class Domain(NamedTuple):
    """A graph whose receivers are atoms of a domain, and the positions of its nodes in Å, shape (N, 3), float64.

    Padding points at the last node, which is no atom and outside every cut-off of the receivers.
    """

    graph: Graph
    positions: Tensor

    @property
    def receiving_atoms(self) -> Tensor:
        """Atoms of the receivers, shape (T,)."""
        return self.graph.atoms[: len(self.graph.neighbours)]

    @property
    def kept_bytes(self) -> int:
        """Memory of a domain whose lists are kept, neighbours as 32-bit integers."""
        graph = self.graph
        tensors = (graph.atoms, self.positions, graph.species, graph.frame_index)
        return 4 * graph.neighbours.numel() + sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def with_neighbours(self, dtype: torch.dtype) -> "Domain":
        """The same domain with neighbours as integers of another size."""
        return Domain(replace(self.graph, neighbours=self.graph.neighbours.to(dtype)), self.positions)


class DomainDecomposition:
    """The domains of a frame. Each domain is made on demand; with `keep_lists` it is made only once and kept."""

    def __init__(
        self,
        frame: Frame,
        species: IntArray,
        *,
        cutoffs: Sequence[float],
        size: int,
        n_species: int,
        device: torch.device,
        keep_lists: bool = False,
    ) -> None:
        """Split a frame.

        Args:
            frame: The frame.
            species: Species of its atoms, shape (N,).
            cutoffs: Cut-offs in Å, ascending.
            size: Largest number of atoms in a domain.
            n_species: Number of species S.
            device: Where the tensors of domains go.
            keep_lists: Whether to store neighbour lists, which takes `Domain.kept_bytes`, instead of finding them anew.
        """
        self.species, self.cutoffs, self.n_species, self.device = species, cutoffs, n_species, device
        self.pieces = Pieces(frame.positions, frame.cell, frame.pbc, size=size)
        self._kept: dict[int, Domain] | None = {} if keep_lists else None

    def __len__(self) -> int:
        """Number of domains."""
        return len(self.pieces.atoms)

    def __iter__(self) -> Iterator[Domain]:
        """Iterate over the domains."""
        return (self.domain(k) for k in range(len(self)))

    def densest(self) -> int:
        """Index of the domain with the most atoms per volume of its bounding box."""
        volumes = np.prod(self.pieces.highest - self.pieces.lowest + self.cutoffs[-1], axis=1)
        return int(np.argmax([len(piece) for piece in self.pieces.atoms] / volumes))

    def domain(self, k: int) -> Domain:
        """Domain k."""
        if self._kept is None:
            return self._find(k)
        if k not in self._kept:
            self._kept[k] = self._find(k).with_neighbours(torch.int32)
        return self._kept[k].with_neighbours(torch.int64)

    def _find(self, k: int) -> Domain:
        piece = self.pieces.atoms[k]
        own = piece[np.argsort(self.species[piece], kind="stable")]
        halo, halo_positions = self.pieces.surroundings(k, self.cutoffs[-1])
        points = np.concatenate([self.pieces.positions[own], halo_positions])
        neighbours, columns = neighbour_table(points, len(own), self.cutoffs, padding=len(points))
        far = self.pieces.highest[k] + 2.0 * self.cutoffs[-1]
        nodes, positions = np.concatenate([own, halo, own[:1]]), np.concatenate([points, far[None]])
        graph = Graph(
            atoms=torch.from_numpy(nodes).to(self.device),
            receivers=None,
            species=torch.from_numpy(self.species[nodes]).to(self.device),
            species_counts=np.bincount(self.species[own], minlength=self.n_species).tolist(),
            frame_index=torch.zeros(len(own), dtype=torch.int64, device=self.device),
            n_frames=1,
            neighbours=torch.from_numpy(neighbours).to(self.device),
            offsets=None,
            columns=columns,
        )
        return Domain(graph, torch.from_numpy(positions).to(self.device))
