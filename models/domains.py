"""Domain decomposition: a large frame in pieces of so many atoms, each with everything its atoms see.

Atoms are split at medians until a piece is small enough, so pieces are compact and equally large whatever the frame's
shape and density. Around a piece lies its halo: all atoms, and periodic images of atoms, that may be within the cut-off
of one of its own. Images are nodes in their own right, so a piece is an open system: any cell is as good as any other,
and a cell may be smaller than the cut-off.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from al_engine.frames import BoolArray, FloatArray, Frame, IntArray
from models.graph import NodeSpecies

ROUNDING = 1e-6
"""In units of the cell: atoms may have been wrapped to either side of a face."""


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
        self.species, self.cutoffs, self.identity = species, np.asarray(cutoffs), identity
        self.pbc = frame.pbc
        self.cell = _complete(frame.cell, frame.pbc)
        self.inverse_cell = np.linalg.inv(self.cell)
        whole_cells = np.floor(frame.positions @ self.inverse_cell) * frame.pbc
        self.positions = frame.positions - whole_cells @ self.cell
        self.pieces = _pieces(self.positions, size)
        self._kept: dict[int, Domain] | None = {} if keep_lists else None
        self.lowest = np.array([self.positions[piece].min(0) for piece in self.pieces])
        self.highest = np.array([self.positions[piece].max(0) for piece in self.pieces])

    def __len__(self) -> int:
        """Number of domains."""
        return len(self.pieces)

    def __iter__(self) -> Iterator[Domain]:
        """One domain after another."""
        return (self.domain(k) for k in range(len(self)))

    def densest(self) -> int:
        """Which domain has the most atoms per volume of its bounding box."""
        reach = self.cutoffs[-1]
        volumes = np.prod(self.highest - self.lowest + reach, axis=1)
        return int(np.argmax([len(piece) for piece in self.pieces] / volumes))

    def domain(self, k: int) -> Domain:
        """Domain k."""
        if self._kept is None:
            return self._find(k)
        if k not in self._kept:
            found = self._find(k)
            self._kept[k] = replace(found, neighbours=found.neighbours.int())
        return replace(self._kept[k], neighbours=self._kept[k].neighbours.long())

    def _find(self, k: int) -> Domain:
        piece = self.pieces[k]
        own = piece[np.argsort(self.species[piece], kind="stable")]
        halo, halo_positions = self._halo(k)
        nodes = np.concatenate([own, halo, own[:1]])
        far = self.highest[k] + 2.0 * self.cutoffs[-1]
        positions = np.concatenate([self.positions[own], halo_positions, far[None]])
        neighbours, columns = _neighbours(positions, len(own), self.cutoffs)
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

    def _halo(self, k: int) -> tuple[IntArray, FloatArray]:
        """Atoms that are not in a domain but in its bounding box grown by the longest cut-off, and where, in Å."""
        low, high = self.lowest[k] - self.cutoffs[-1], self.highest[k] + self.cutoffs[-1]
        corners = np.array(list(product(*zip(low, high, strict=True)))) @ self.inverse_cell
        first = np.floor(corners.min(0) - ROUNDING).astype(int) * self.pbc
        last = np.floor(corners.max(0) + ROUNDING).astype(int) * self.pbc
        atoms, positions = [], []
        for image in product(*(range(a, b + 1) for a, b in zip(first, last, strict=True))):
            shift = np.array(image) @ self.cell
            touching = ((self.lowest + shift <= high) & (self.highest + shift >= low)).all(1)
            if not any(image):
                touching[k] = False
            for piece in np.flatnonzero(touching):
                candidates = self.pieces[piece]
                x = self.positions[candidates] + shift
                inside = ((x >= low) & (x <= high)).all(1)
                atoms.append(candidates[inside])
                positions.append(x[inside])
        if not atoms:
            return np.zeros(0, dtype=np.int64), np.zeros((0, 3))
        return np.concatenate(atoms), np.concatenate(positions)


def _complete(cell: FloatArray, pbc: BoolArray) -> FloatArray:
    """The cell with unit vectors, orthogonal to the periodic ones, along axes that are not periodic."""
    result = np.array(cell)
    _, _, basis = np.linalg.svd(cell[pbc].reshape(-1, 3))
    result[~pbc] = basis[int(pbc.sum()) :]
    return result


def _pieces(positions: FloatArray, size: int) -> list[IntArray]:
    """Atoms in groups of at most `size`, about equally many in each, by cutting across the longest side."""
    pending, done = [np.arange(len(positions))], []
    while pending:
        atoms = pending.pop()
        n_pieces = -(-len(atoms) // size)
        if n_pieces <= 1:
            done.append(atoms)
            continue
        x = positions[atoms]
        cut = len(atoms) * (n_pieces // 2) // n_pieces
        order = np.argpartition(x[:, np.argmax(np.ptp(x, axis=0))], cut)
        pending += [atoms[order[cut:]], atoms[order[:cut]]]
    return done


def _neighbours(positions: FloatArray, n_own: int, cutoffs: FloatArray) -> tuple[IntArray, tuple[int, ...]]:
    """Neighbours of the first points among all but the last, which is the padding.

    Returns:
        Their indices (n_own, K), neighbours within the shortest cut-off first, and for each cut-off the number of
        leading columns that hold all within it.
    """
    from scipy.spatial import cKDTree

    points = cKDTree(positions[:-1])
    pairs = cKDTree(positions[:n_own]).sparse_distance_matrix(points, cutoffs[-1], output_type="ndarray")
    pairs = pairs[pairs["i"] != pairs["j"]]
    i, j = pairs["i"], pairs["j"]
    path = sum((pairs["v"] >= cutoff for cutoff in cutoffs[:-1]), start=np.zeros(len(i), dtype=np.int64))
    key = i * len(cutoffs) + path
    counts = np.bincount(key, minlength=n_own * len(cutoffs)).reshape(n_own, -1).cumsum(1)  # within each cut-off
    columns = tuple(max(1, int(most)) for most in counts.max(0))  # at least one keeps shapes non-empty
    order = np.argsort(key.astype(np.min_scalar_type(n_own * len(cutoffs))), kind="stable")  # few bits: a radix sort
    i, j = i[order], j[order]
    before = counts[:, -1].cumsum() - counts[:, -1]
    table = np.full((n_own, columns[-1]), len(positions) - 1)
    table[i, np.arange(len(i)) - before[i]] = j
    return table, columns
