"""Graphs of receivers, nodes and padded neighbour lists: batches of frames, and domains of a large frame.

Inside the network atoms are *nodes*. The nodes of a batch are the atoms of all its frames, sorted by species, so that
weights of a species act on contiguous blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from al_engine.errors import InputError
from al_engine.structures.frames import BoolArray, FloatArray, Frame
from models.graph.neighbours import Pieces, neighbour_table

DENSE_LIMIT = 1000
"""Largest cluster whose neighbours are found from all pairs; for larger clusters a k-d tree is used."""
PADDING = -1
"""Index in unused neighbour slots while lists are being assembled."""


def leading_columns(table: Tensor, columns: Sequence[int]) -> list[Tensor]:
    """The k leading columns of a table (T, K, ...) for each k in `columns`."""
    return [table if k == table.shape[1] else table[:, :k] for k in columns]


def leading_rows(table: Tensor, n: int) -> Tensor:
    """The first n rows of a table (N, ...)."""
    return table if n == table.shape[0] else table[:n]


class NodeSpecies(NamedTuple):
    """Species of T receivers, in the forms that the layers of a model use.

    Attributes:
        kinds: Species of each receiver, ascending, shape (T,).
        one_hot: The same as rows of an identity matrix, shape (T, S).
        counts: Number of receivers of each species, S of them.
    """

    kinds: Tensor
    one_hot: Tensor
    counts: list[int]


@dataclass(frozen=True, slots=True, eq=False)
class AtomBatch:
    """The constants of T moving atoms in B frames, with S species.

    Attributes:
        sizes: Atoms of each frame.
        order: Atom of each node, shape (T,).
        inverse: Node of each atom, shape (T,).
        species: Species of each node, ascending, shape (T,).
        species_counts: Number of nodes of each species, S of them.
        frame_index: Frame of each node, shape (T,).
        cells: Cell vectors in Å, shape (B, 3, 3), on the CPU.
        pbc: Periodicity, shape (B, 3), on the CPU.
        volumes: Volume of each cell in Å³, NaN unless all its axes are periodic, shape (B,), float64.
    """

    sizes: tuple[int, ...]
    order: Tensor
    inverse: Tensor
    species: Tensor
    species_counts: list[int]
    frame_index: Tensor
    cells: FloatArray
    pbc: BoolArray
    volumes: Tensor

    @property
    def n_frames(self) -> int:
        """Number of frames B."""
        return len(self.sizes)

    @classmethod
    def of(cls, frames: Sequence[Frame], elements: Sequence[int], *, device: torch.device | str = "cpu") -> "AtomBatch":
        """Sort the atoms of frames by species.

        Args:
            frames: The frames, at least one.
            elements: Atomic numbers of the species, ascending.
            device: Where the tensors go.

        Raises:
            InputError: If a frame contains an element that is not in `elements`.
        """
        numbers = np.concatenate([frame.numbers for frame in frames])
        species = np.searchsorted(elements, numbers)
        known = np.asarray(elements)[np.minimum(species, len(elements) - 1)] == numbers
        if not known.all():
            atom = int(np.argmin(known))
            raise InputError(
                f"atom {atom} has atomic number {numbers[atom]}, which the model was not trained on "
                f"(it knows {list(elements)}); retrain with frames that contain it"
            )
        order = np.argsort(species, kind="stable")
        frame_index = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
        cells, pbc = np.stack([frame.cell for frame in frames]), np.stack([frame.pbc for frame in frames])
        volumes = torch.linalg.det(torch.from_numpy(cells)).abs()
        volumes[~torch.from_numpy(pbc).all(1)] = torch.nan
        return cls(
            sizes=tuple(len(frame) for frame in frames),
            order=torch.from_numpy(order).to(device),
            inverse=torch.from_numpy(np.argsort(order)).to(device),
            species=torch.from_numpy(species[order]).to(device),
            species_counts=np.bincount(species, minlength=len(elements)).tolist(),
            frame_index=torch.from_numpy(frame_index[order]).to(device),
            cells=cells,
            pbc=pbc,
            volumes=volumes.to(device),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """T receivers, the first of N nodes, with up to K neighbours each among the N; valid for every path of a model.

    In a batch of whole frames every node is an atom of its own and receives: T = N. In a domain of a large frame the
    receivers are the atoms of the domain, and the nodes behind them are its halo: other atoms and periodic images.

    A padded slot of the lists points at a node outside every cut-off (in a batch the receiver itself, shifted): there
    envelopes are exactly zero, so no mask is needed. For the same reason lists may hold more than the neighbours within
    the cut-off.

    Attributes:
        atoms: Atom of each node, shape (N,).
        receivers: Receiver of each atom, the inverse of `atoms`; None in a domain, which lacks atoms of its frame.
        species: Species of each node, ascending among the receivers, shape (N,).
        species_counts: Number of receivers of each species, S of them.
        frame_index: Frame of each receiver, shape (T,).
        n_frames: Number of frames B.
        neighbours: Node of each neighbour, shape (T, K), neighbours within the shortest cut-off first.
        offsets: Shift of each neighbour in Å: periodic image or padding, shape (T, K, 3), float64; None if all are
            zero.
        columns: For each path, by ascending cut-off, the number of leading columns that hold all of its neighbours.
        volumes: Cell volumes in Å³, NaN unless all axes are periodic, shape (B,), float64; None if they are unknown.
    """

    atoms: Tensor
    receivers: Tensor | None
    species: Tensor
    species_counts: list[int]
    frame_index: Tensor
    n_frames: int
    neighbours: Tensor
    offsets: Tensor | None
    columns: tuple[int, ...]
    volumes: Tensor | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """The number of columns of every path except the last, then the number of receivers of every species."""
        return (*self.columns[:-1], *self.species_counts)

    @property
    def kinds(self) -> Tensor:
        """Species of each receiver, shape (T,)."""
        return leading_rows(self.species, self.neighbours.shape[0])

    def receiver_species(self, identity: Tensor) -> NodeSpecies:
        """Species of the receivers, given an identity matrix (S, S) of the network's precision."""
        return NodeSpecies(self.kinds, identity.index_select(0, self.kinds), self.species_counts)

    def to_nodes(self, values: Tensor) -> Tensor:
        """Values (N, ...) of nodes from those of atoms."""
        return values.index_select(0, self.atoms)

    def to_atoms(self, values: Tensor) -> Tensor:
        """Values (T, ...) of the atoms of whole frames from those of nodes."""
        if self.receivers is None:
            raise ValueError("a domain lacks atoms of its frame: add up the values of all domains instead")
        return values.index_select(0, self.receivers)

    def vectors(self, positions: Tensor, *, columns: int | None = None) -> Tensor:
        """Vectors from receivers to neighbours in Å.

        Args:
            positions: Positions of the nodes in Å, shape (N, 3).
            columns: Number of leading columns k; None for all.

        Returns:
            Vectors (T, k, 3).
        """
        neighbours, offsets = self.neighbours, self.offsets
        if columns is not None:
            neighbours = neighbours[:, :columns]
            offsets = None if offsets is None else offsets[:, :columns]
        ends = positions.index_select(0, neighbours.flatten()).view(*neighbours.shape, 3)
        vectors = ends - leading_rows(positions, neighbours.shape[0]).unsqueeze(1)
        return vectors if offsets is None else vectors + offsets

    def forces(self, gradients: Tensor) -> Tensor:
        """Forces on nodes (N, 3) in eV/Å from dE/d(vectors) (T, k, 3) of the k <= K leading columns."""
        (neighbours,) = leading_columns(self.neighbours, gradients.shape[1:2])
        n_nodes, n_receivers = self.species.shape[0], self.neighbours.shape[0]
        pulls = gradients.new_zeros(n_nodes, 3).index_add(0, neighbours.flatten(), gradients.flatten(0, 1))
        on_receivers = gradients.sum(1) - leading_rows(pulls, n_receivers)
        return on_receivers if n_receivers == n_nodes else torch.cat([on_receivers, -pulls[n_receivers:]])

    def virials(self, vectors: Tensor, gradients: Tensor) -> Tensor:
        """Σ r ⊗ dE/dr of each frame in eV, shape (B, 3, 3), from vectors (T, K, 3) and dE/d(vectors) (T, K, 3).

        Thompson, Plimpton and Mattson, J. Chem. Phys. 131, 154107 (2009), up to its sign.
        """
        return self.frame_sums(vectors.transpose(1, 2) @ gradients)

    def frame_sums(self, values: Tensor) -> Tensor:
        """Sums over the receivers of each frame, shape (B, ...), in float64, of values (T, ...)."""
        totals = torch.zeros(self.n_frames, *values.shape[1:], dtype=torch.float64, device=values.device)
        return totals.index_add(0, self.frame_index, values.double())

    def mean_neighbours(self, positions: Tensor, cutoffs: Sequence[float]) -> tuple[float, ...]:
        """Mean number of neighbours of a receiver within each cut-off, at node positions (N, 3) in Å."""
        lengths = torch.linalg.vector_norm(self.vectors(positions), dim=-1)
        return tuple(float((lengths < cutoff).sum(1).double().mean()) for cutoff in cutoffs)


def neighbour_graph(atoms: AtomBatch, positions: Tensor, *, cutoffs: Sequence[float], skin: float = 0.0) -> Graph:
    """Find all neighbours within cut-off + skin.

    Args:
        atoms: The batch.
        positions: Atom positions (not node positions) in Å, shape (T, 3), float64.
        cutoffs: Cut-off of each path in Å, ascending.
        skin: Extra distance in Å; the lists stay valid until an atom has moved by half of it.
    """
    reaches = [cutoff + skin for cutoff in cutoffs]
    lists: list[_Lists] = []
    starts = np.concatenate([[0], np.cumsum(atoms.sizes)[:-1]])
    for dense, members in _group_by_kind(atoms):
        if dense:
            index = torch.from_numpy(np.add.outer(starts[members], np.arange(atoms.sizes[members[0]])))
            lists.append(_dense_neighbours(index.to(positions.device), positions, reaches=reaches))
        else:
            lists.extend(_tree_neighbours(atoms, f, int(starts[f]), positions, reaches=reaches) for f in members)
    columns = tuple(max(widths) for widths in zip(*(found.columns for found in lists), strict=True))
    width = columns[-1]

    centres = torch.cat([found.centres for found in lists])
    found_atoms = torch.cat([_fit(found.neighbours, width, fill=PADDING) for found in lists])
    padded = found_atoms == PADDING
    found_atoms = torch.where(padded, centres.unsqueeze(1), found_atoms)
    offsets: Tensor | None = None
    if any(found.offsets is not None for found in lists) or bool(padded.any()):
        offsets = torch.cat(
            [
                _fit(positions.new_zeros(*found.neighbours.shape, 3) if found.offsets is None else found.offsets, width)
                for found in lists
            ]
        )
        outside = offsets.new_tensor([2.0 * reaches[-1], 0.0, 0.0])
        offsets = torch.where(padded.unsqueeze(-1), outside, offsets)
    row = torch.empty_like(centres).scatter_(0, centres, torch.arange(len(centres), device=centres.device))
    row = row.index_select(0, atoms.order)  # rows of the lists above, in the order of nodes
    neighbours = atoms.inverse[found_atoms.index_select(0, row)]
    return Graph(
        atoms=atoms.order,
        receivers=atoms.inverse,
        species=atoms.species,
        species_counts=atoms.species_counts,
        frame_index=atoms.frame_index,
        n_frames=atoms.n_frames,
        neighbours=neighbours,
        offsets=None if offsets is None else offsets.index_select(0, row),
        columns=columns,
        volumes=atoms.volumes,
    )


def _group_by_kind(atoms: AtomBatch) -> list[tuple[bool, list[int]]]:
    """Frames whose neighbours are found together: clusters of equal size (True); all other frames (False)."""
    clusters: dict[int, list[int]] = {}
    others: list[int] = []
    for k, size in enumerate(atoms.sizes):
        if atoms.pbc[k].any() or size > DENSE_LIMIT:
            others.append(k)
        else:
            clusters.setdefault(size, []).append(k)
    groups = [(True, members) for members in clusters.values()]
    return [*groups, (False, others)] if others else groups


class _Lists(NamedTuple):
    """Neighbours of n atoms.

    Attributes:
        centres: The atoms, shape (n,).
        neighbours: Their neighbours, shape (n, k), ordered by cut-off interval; `PADDING` in unused slots.
        offsets: Shifts of periodic images in Å, shape (n, k, 3), float64; None if all are zero.
        columns: For each cut-off, how many leading columns hold all neighbours within it; the last is k.
    """

    centres: Tensor
    neighbours: Tensor
    offsets: Tensor | None
    columns: tuple[int, ...]


def _dense_neighbours(index: Tensor, positions: Tensor, *, reaches: Sequence[float]) -> _Lists:
    """Neighbours within clusters of equal size, from all pairs; `index` (B, n) numbers their atoms."""
    n = index.shape[1]
    x = positions[index]  # (B, n, 3)
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")  # (B, n, n)
    distances.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    counts = torch.stack([(distances < reach).sum(2).max() for reach in reaches]).tolist()
    columns = tuple(max(1, count) for count in counts)  # at least 1, so that no shape is empty
    nearest, which = torch.sort(distances, dim=2, stable=True)
    nearest, which = nearest[:, :, : columns[-1]], which[:, :, : columns[-1]]
    neighbours = torch.gather(index.unsqueeze(1).expand(-1, n, -1), 2, which)
    neighbours = torch.where(nearest < reaches[-1], neighbours, PADDING)
    return _Lists(index.flatten(), neighbours.flatten(0, 1), None, columns)


def _tree_neighbours(
    atoms: AtomBatch, frame: int, start: int, positions: Tensor, *, reaches: Sequence[float]
) -> _Lists:
    """Neighbours within a frame of any periodicity; an atom whose position is not finite has no neighbours."""
    n = atoms.sizes[frame]
    x = positions[start : start + n].detach().cpu().numpy()
    own = np.flatnonzero(np.isfinite(x).all(1))
    centres = torch.arange(start, start + n, device=positions.device)
    if not len(own):
        return _Lists(centres, torch.full_like(centres, PADDING)[:, None], None, (1,) * len(reaches))
    pieces = Pieces(x[own], atoms.cells[frame], atoms.pbc[frame], size=n)  # a single piece: the whole frame
    images, surroundings = pieces.surroundings(0, reaches[-1])
    points = np.concatenate([pieces.positions, surroundings])
    atom = own[np.concatenate([np.arange(len(own)), images])]
    found, columns = neighbour_table(points, len(own), reaches, padding=len(points))
    table = torch.full((n, columns[-1]), len(points))
    table[own] = torch.from_numpy(found)
    shifts = torch.from_numpy(np.append(points - x[atom], np.zeros((1, 3)), axis=0))  # of each point from its atom
    first = torch.full((n,), len(points)).index_copy_(0, torch.from_numpy(own), torch.arange(len(own)))
    offsets = shifts.index_select(0, table.flatten()).view(*table.shape, 3) - shifts.index_select(0, first)[:, None]
    neighbours = torch.from_numpy(np.append(start + atom, PADDING))[table]
    return _Lists(centres, neighbours.to(positions.device), offsets.to(positions.device), columns)


def _fit(table: Tensor, width: int, *, fill: int = 0) -> Tensor:
    """Cut or pad the columns of a table (n, k, ...) to a width."""
    missing = width - table.shape[1]
    if missing <= 0:
        return table[:, :width]
    pad = table.new_full((table.shape[0], missing, *table.shape[2:]), fill)
    return torch.cat([table, pad], dim=1)
