"""Messages of one path: sums over the neighbours of an atom, coupled to equivariant features."""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from al_engine.config import PathConfig
from models.graph.operations import concatenate
from models.graph.spherical import Coupling, clebsch_gordan, couplings_of, degree_sizes
from models.layers.geometry import EdgeFeatures
from models.layers.linear import DegreeLinear, ScalarNetwork
from models.layers.members import apply_weight
from models.layers.operators import MessageOperator, Operated
from models.layers.parameters import Initializer


def leading_degrees(h: Tensor, l_max: int) -> Tensor:
    """The components ((l_max + 1)², T, C) of features up to degree `l_max`."""
    n = (l_max + 1) ** 2
    return h if n == len(h) else h[:n]


def leading_atoms(h: Tensor, n_atoms: int) -> Tensor:
    """The features ((l + 1)², T, C) of the first T nodes."""
    return h if n_atoms == h.shape[1] else h[:, :n_atoms]


class PlainMessage(nn.Module):
    """`MessageOperator` in plain torch.

    First, a batched matrix product of Y and R·h for each l1 sums over the neighbours. The Clebsch-Gordan coefficients,
    a constant matrix, then act once for each receiver instead of once for each pair.

    Attributes:
        l_max: Highest degree of the harmonics.
        l_source: Highest degree of the features h.
        l_message: Highest degree of the messages.
        l_used: Highest degree of the harmonics that couple to a message of these degrees.
        channels: Channels C of features and messages.
        n_radial: Inputs H of the last radial layer.
        couplings: The couplings (l1, l2) -> l3 in the order of the radial functions: by l1, then l2, then l3.
        blocks: Each pair (l1, l2), and the number of couplings that have it.
        message_sizes: Number of couplings to each degree.
    """

    def __init__(
        self, *, l_max: int, l_source: int, l_message: int, channels: int, n_radial: int, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.l_max, self.l_source, self.l_message = l_max, l_source, l_message
        self.channels, self.n_radial = channels, n_radial
        self.l_used = min(l_max, l_source + l_message)
        unused = (l_max + 1) ** 2 - (self.l_used + 1) ** 2
        self.harmonic_sizes = degree_sizes(self.l_used) + ([unused] if unused else [])
        self.source_sizes = degree_sizes(l_source)
        self.couplings = couplings_of(self.l_used, l_source, l_message)
        self.blocks = [(key, len(list(group))) for key, group in groupby(self.couplings, key=lambda p: p[:2])]
        matrix, self.message_sizes = _coupling_matrix(self.couplings, self.blocks)
        self.row_counts = [n * (2 * degree + 1) for degree, n in enumerate(self.message_sizes)]
        self.clebsch_gordan: Tensor
        self.register_buffer("clebsch_gordan", matrix.to(dtype), persistent=False)

    def forward(self, Y: Tensor, X: Tensor, W: Tensor, h: Tensor, neighbours: Tensor) -> list[Tensor]:
        """See `MessageOperator`."""
        # in the comments on shapes, p numbers the couplings, and c is the number of channels
        T, K = neighbours.shape
        source = h.transpose(0, 1).flatten(1)  # (N, (l_source+1)² * c)
        gathered = source.index_select(0, neighbours.flatten()).view(T, K, 1, -1, self.channels)
        h_j = gathered.split(self.source_sizes, dim=3) if self.l_source else (gathered,)
        R = apply_weight(X, W).view(T, K, -1, 1, self.channels).split([n for _, n in self.blocks], dim=2)
        by_degree = Y.transpose(1, 2).split(self.harmonic_sizes, dim=1)  # (T, 2 l1 + 1, K) each

        weighted: list[list[Tensor]] = [[] for _ in range(self.l_used + 1)]
        for ((l1, l2), _), R_block in zip(self.blocks, R, strict=True):
            weighted[l1].append((R_block * h_j[l2]).flatten(2))  # (T, K, (p, m2, c))
        summed = [
            torch.bmm(Y_l, concatenate(parts, dim=2)).view(T, -1, self.channels)  # (T, (m1, p, m2), c)
            for Y_l, parts in zip(by_degree, weighted, strict=False)  # without the unused harmonics
        ]
        if self.l_source == 0:  # the coupling (l, 0) -> l is the identity
            return [part.transpose(0, 1) for part in summed[: len(self.message_sizes)]]
        M = concatenate(summed, dim=1).transpose(0, 1)  # ((l1 m1, p, m2), T, c)
        coupled = self.clebsch_gordan @ M.flatten(1)  # ((l3 m3, p), T * c)
        return [
            part.view(2 * degree + 1, n, T, -1).transpose(1, 2).flatten(2)  # (2 l3 + 1, T, p * c)
            for degree, (n, part) in enumerate(zip(self.message_sizes, coupled.split(self.row_counts), strict=True))
        ]


class PathMessage(Operated[MessageOperator]):
    """Sum over neighbours of one path: Σ_j R(r_ij) · (Y(r̂_ij) ⊗ W_up h_j).

    A coupling p = (l1, l2) -> l3 has a radial function R_p for each channel (Batatia et al., MACE (2022), eq. 8):

        m_{i,p,l3m3,c} = Σ_{m1,m2} CG^{l3m3}_{l1m1,l2m2} Σ_j R_{p,c}(r_ij) Y_{l1m1}(r̂_ij) (W_up h_j)_{l2m2,c}
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
        self.l_source = min(l_hidden, path.l_max)
        self.plain = PlainMessage(
            l_max=path.l_max,
            l_source=self.l_source,
            l_message=l_message,
            channels=path.channels,
            n_radial=[n_basis, *path.radial_mlp][-1],
            dtype=init.dtype,
        )
        self.set_reference(self.plain)
        self.couplings, self.channels = self.plain.couplings, path.channels
        self.up = DegreeLinear(self.l_source, hidden_channels, path.channels, init=init)
        self.radial = ScalarNetwork(
            n_basis,
            path.radial_mlp,
            len(self.couplings) * path.channels,
            init=init,
            # reciprocal RMS of the Bessel functions over the volume within the cut-off
            input_gain=(path.cutoff_ang**3 / 3) ** 0.5,
        )
        self.widths = [n * path.channels for n in self.plain.message_sizes]

    def forward(self, h: Tensor, neighbours: Tensor, edges: EdgeFeatures) -> list[Tensor]:
        """Messages to T receivers from features h ((l_hidden+1)², N, C) of nodes, given neighbours (T, K).

        Returns:
            Messages, degree by degree: (2l + 1, T, widths[l]) each.
        """
        source = self.up(leading_degrees(h, self.l_source))  # ((l_source+1)², N, c)
        inputs, weights = self.radial.before_last(edges.basis)
        return self.operator(edges.harmonics, inputs, weights, source, neighbours)


def _coupling_matrix(
    couplings: Sequence[Coupling], blocks: Sequence[tuple[tuple[int, ...], int]]
) -> tuple[Tensor, list[int]]:
    """Clebsch-Gordan coefficients of all couplings as a matrix, and the number of couplings to each degree l3.

    Rows run over (l3, m3, coupling), columns over (l1, m1, coupling, m2), in the order of the sums over neighbours in
    `PlainMessage`.

    Args:
        couplings: The couplings (l1, l2) -> l3, by l1, then l2, then l3.
        blocks: Each pair (l1, l2), and the number of couplings that have it.
    """
    counts = [sum(p[2] == degree for p in couplings) for degree in range(max(p[2] for p in couplings) + 1)]
    row_start = [sum(counts[d] * (2 * d + 1) for d in range(degree)) for degree in range(len(counts))]
    n_rows = sum(n * (2 * degree + 1) for degree, n in enumerate(counts))
    n_columns = sum((2 * l1 + 1) * (2 * l2 + 1) for l1, l2, _ in couplings)
    matrix = torch.zeros(n_rows, n_columns, dtype=torch.float64)
    seen = [0] * len(counts)
    l1_start = 0
    for l1 in range(max(p[0] for p in couplings) + 1):
        width = sum(n * (2 * l2 + 1) for (block_l1, l2), n in blocks if block_l1 == l1)  # columns of l1 and an m1
        column = 0  # first column of a coupling among them
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
