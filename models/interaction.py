"""One layer of MS-MACE: messages of every path, fused before the product basis, and the update of the atoms."""

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor, nn

from al_engine.config import PathConfig
from models.geometry import EdgeFeatures
from models.linear import DegreeLinear, ScalarNetwork, SpeciesLinear
from models.operations import concatenate
from models.parameters import Initializer, Modules
from models.product import ProductBasis
from models.recursive import RecursiveProduct
from models.spherical import clebsch_gordan, degree_sizes


def leading_degrees(h: Tensor, l_max: int) -> Tensor:
    """Features ((l_max + 1)², T, C) of the degrees up to `l_max`."""
    n = (l_max + 1) ** 2
    return h if n == len(h) else h[:n]


class PathMessage(nn.Module):
    """Sum over neighbours of one path: Σ_j R(r_ij) · (Y(r̂_ij) ⊗ W_up h_j).

    A coupling p = (l1, l2) -> l3 has a radial function R_p of its own per channel (MACE, eq. 8):

        m_{i,p,l3m3,c} = Σ_{m1,m2} CG^{l3m3}_{l1m1,l2m2} Σ_j R_{p,c}(r_ij) Y_{l1m1}(r̂_ij) (W h_j)_{l2m2,c}

    Neighbours are summed first, by a batched matrix product per l1 of Y and R·h; Clebsch-Gordan coefficients then act
    once per atom instead of once per pair, as one constant matrix.
    """

    def __init__(
        self,
        path: PathConfig,
        *,
        l_hidden: int,
        hidden_channels: int,
        l_message: int,
        n_basis: int,
        init: Initializer,
    ) -> None:
        super().__init__()
        self.channels = path.channels
        self.l_source = min(l_hidden, path.l_max)
        self.l_used = min(path.l_max, self.l_source + l_message)  # higher harmonics couple to no message that is wanted
        unused = (path.l_max + 1) ** 2 - (self.l_used + 1) ** 2
        self.harmonic_sizes = degree_sizes(self.l_used) + [unused] * bool(unused)
        self.source_sizes = degree_sizes(self.l_source)
        self.couplings = [
            (l1, l2, l3)
            for l1 in range(self.l_used + 1)
            for l2 in range(self.l_source + 1)
            for l3 in range(abs(l1 - l2), min(l1 + l2, l_message) + 1)
            if (l1 + l2 + l3) % 2 == 0
        ]
        # radial functions side by side: first by l1, then by l2, as the loops of `forward` consume them
        self.blocks = [(key, len(list(group))) for key, group in groupby(self.couplings, key=lambda p: p[:2])]

        self.up = DegreeLinear(self.l_source, hidden_channels, path.channels, init=init)
        self.radial = ScalarNetwork(
            n_basis,
            path.radial_mlp,
            len(self.couplings) * path.channels,
            init=init,
            input_gain=(path.cutoff_ang**3 / 3)
            ** 0.5,  # one over the Bessel functions' RMS in the sphere of the cut-off
        )
        matrix, self.message_sizes = _coupling_matrix(self.couplings, self.blocks)
        self.row_counts = [n * (2 * degree + 1) for degree, n in enumerate(self.message_sizes)]
        self.clebsch_gordan: Tensor
        self.register_buffer("clebsch_gordan", matrix.to(init.dtype), persistent=False)
        self.widths = [n * path.channels for n in self.message_sizes]

    def forward(self, h: Tensor, neighbours: Tensor, edges: EdgeFeatures) -> list[Tensor]:
        """Messages from node features h ((l_hidden+1)², T, C), degree by degree: (2l + 1, T, widths[l]) each."""
        T, K = neighbours.shape
        source = self.up(leading_degrees(h, self.l_source)).transpose(0, 1).flatten(1)  # (T, (l_source+1)² * c)
        h_j = source.index_select(0, neighbours.flatten()).view(T, K, 1, -1, self.channels)
        h_j = h_j.split(self.source_sizes, dim=3) if self.l_source else (h_j,)
        R = self.radial(edges.basis).view(T, K, -1, 1, self.channels).split([n for _, n in self.blocks], dim=2)
        Y = edges.harmonics.transpose(1, 2).split(self.harmonic_sizes, dim=1)  # (T, 2 l1 + 1, K) each

        weighted: list[list[Tensor]] = [[] for _ in range(self.l_used + 1)]
        for ((l1, l2), _), R_block in zip(self.blocks, R, strict=True):
            weighted[l1].append((R_block * h_j[l2]).flatten(2))  # (T, K, n * (2 l2 + 1) * c)
        summed = [
            torch.bmm(Y_l, concatenate(parts, dim=2)).view(T, -1, self.channels)  # (T, (m1, p, m2), c)
            for Y_l, parts in zip(Y, weighted, strict=False)
        ]
        if self.l_source == 0:  # (l, 0) -> l is the identity
            return [part.transpose(0, 1) for part in summed[: len(self.widths)]]
        M = concatenate(summed, dim=1).transpose(0, 1)  # ((l1 m1, p, m2), T, c)
        coupled = self.clebsch_gordan @ M.flatten(1)  # ((l3 m3, p), T * c)
        return [
            part.view(2 * degree + 1, n, T, -1).transpose(1, 2).flatten(2)  # (2 l3 + 1, T, p * c)
            for degree, (n, part) in enumerate(zip(self.message_sizes, coupled.split(self.row_counts), strict=True))
        ]


def _coupling_matrix(
    couplings: Sequence[tuple[int, int, int]], blocks: Sequence[tuple[tuple[int, ...], int]]
) -> tuple[Tensor, list[int]]:
    """Clebsch-Gordan coefficients of all couplings as one matrix, and the number of couplings to each degree l3.

    Rows run over (l3, m3, coupling), columns over (l1, m1, coupling, m2): the order in which `PathMessage` sums
    neighbours.
    """
    counts = [sum(p[2] == degree for p in couplings) for degree in range(max(p[2] for p in couplings) + 1)]
    row_start = [sum(counts[d] * (2 * d + 1) for d in range(degree)) for degree in range(len(counts))]
    n_rows = sum(n * (2 * degree + 1) for degree, n in enumerate(counts))
    n_columns = sum((2 * l1 + 1) * (2 * l2 + 1) for l1, l2, _ in couplings)
    matrix = torch.zeros(n_rows, n_columns, dtype=torch.float64)
    seen = [0] * len(counts)
    l1_start = 0
    for l1 in range(max(p[0] for p in couplings) + 1):
        width = sum(n * (2 * l2 + 1) for (b1, l2), n in blocks if b1 == l1)
        column = 0
        for _, l2, l3 in (p for p in couplings if p[0] == l1):
            coefficients = clebsch_gordan(l1, l2, l3)
            rows = row_start[l3] + torch.arange(2 * l3 + 1) * counts[l3] + seen[l3]
            for m1 in range(2 * l1 + 1):
                start = l1_start + m1 * width + column
                matrix[rows, start : start + 2 * l2 + 1] = coefficients[m1].T
            seen[l3] += 1
            column += 2 * l2 + 1
        l1_start += (2 * l1 + 1) * width
    return matrix, counts


class FusedPaths(nn.Module):
    """The messages of all paths as one: A_i = (W_S m_S / N_S + W_L m_L / N_L) / 2, a matrix W per path and degree.

    The factors 1 / N and 1 / 2 are constants in front of weights that are learned: they are part of W_S and W_L, whose
    initial size they set (with sqrt(N) for N: the terms of a sum over neighbours start with random signs).
    """

    def __init__(
        self,
        paths: Sequence[PathConfig],
        *,
        l_hidden: int,
        l_message: int,
        c_out: int | Sequence[int],
        n_basis: int,
        mean_neighbours: Sequence[float],
        init: Initializer,
    ) -> None:
        super().__init__()
        self.messages: Modules[PathMessage] = Modules(
            PathMessage(
                path,
                l_hidden=l_hidden,
                hidden_channels=paths[0].channels,
                l_message=l_message,
                n_basis=n_basis,
                init=init,
            )
            for path in paths
        )
        # W_S on top of W_L, one matrix per degree
        widths, std = [], []
        for degree in range(l_message + 1):
            parts = [message.widths[degree] if degree < len(message.widths) else 0 for message in self.messages]
            norms = [len(paths) * (n * width) ** 0.5 for n, width in zip(mean_neighbours, parts, strict=True)]
            widths.append(sum(parts))
            std.append(
                torch.cat([torch.full((width, 1), 1 / norm) for width, norm in zip(parts, norms, strict=True) if width])
            )
        self.fuse = DegreeLinear(l_message, widths, c_out, init=init, std=std)

    def fused(self, h: Tensor, neighbours: Sequence[Tensor], edges: Sequence[EdgeFeatures]) -> list[Tensor]:
        """A from features h ((l_hidden+1)², T, C), degree by degree: (2l + 1, T, c_out[l]) each."""
        degrees: list[list[Tensor]] = [[] for _ in self.fuse.sizes]
        for message, heads, features in zip(self.messages, neighbours, edges, strict=True):
            for parts, part in zip(
                degrees, message(h, heads, features), strict=False
            ):  # long may end at a lower degree
                parts.append(part)
        return self.fuse.map_degrees([concatenate(parts, dim=2) for parts in degrees])


class InteractionLayer(FusedPaths):
    """h_i' = ProductBasis_ν(A_i; Z_i) + FullyConnected(h_i, Z_i), A_i as in `FusedPaths`.

    The paths are fused before the product basis, so terms of mixed range exist at every body order.
    """

    def __init__(
        self,
        paths: Sequence[PathConfig],
        *,
        l_hidden: int,
        l_out: int,
        product: Literal["symmetric", "recursive"],
        correlation: int,
        n_basis: int,
        n_species: int,
        mean_neighbours: Sequence[float],
        init: Initializer,
    ) -> None:
        channels, l_message = paths[0].channels, paths[0].l_max
        super().__init__(
            paths,
            l_hidden=l_hidden,
            l_message=l_message,
            c_out=channels,
            n_basis=n_basis,
            mean_neighbours=mean_neighbours,
            init=init,
        )
        basis = RecursiveProduct if product == "recursive" else ProductBasis
        self.product = basis(
            l_max=l_message,
            l_out=l_out,
            correlation=correlation,
            channels=channels,
            n_species=n_species,
            init=init,
        )
        self.l_skip = min(l_hidden, l_out)
        self.skip = SpeciesLinear(self.l_skip, channels, channels, n_species, init=init)
        self.missing = (l_out + 1) ** 2 - (self.l_skip + 1) ** 2

    def forward(
        self,
        h: Tensor,
        species_one_hot: Tensor,
        species_counts: list[int],
        neighbours: Sequence[Tensor],
        edges: Sequence[EdgeFeatures],
    ) -> Tensor:
        """Features h ((l_hidden+1)², T, C) to h' ((l_out+1)², T, C)."""
        A = concatenate(self.fused(h, neighbours, edges))  # ((l_message+1)², T, C)
        return self.product(A, species_counts) + self.without_neighbours(h, species_one_hot)

    def without_neighbours(self, h: Tensor, species_one_hot: Tensor) -> Tensor:
        """What the layer makes of an atom alone: the skip connection, shape ((l_out+1)², T, C)."""
        skip = self.skip.forward_species(leading_degrees(h, self.l_skip), species_one_hot)
        return nn.functional.pad(skip, (0, 0, 0, 0, 0, self.missing)) if self.missing else skip

    def freeze(self) -> None:
        """The weights will not change any more."""
        self.product.freeze()
