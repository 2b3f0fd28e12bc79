"""Interaction layer of MS-MACE: messages of all paths fused before the product basis, and the update of features."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from al_engine.config import PathConfig
from models.graph.graph import NodeSpecies
from models.graph.operations import concatenate
from models.layers.geometry import EdgeFeatures
from models.layers.linear import DegreeLinear, SpeciesLinear
from models.layers.message import PathMessage, leading_atoms, leading_degrees
from models.layers.parameters import Initializer, Modules
from models.layers.product import ProductBasis


class FusedPaths(nn.Module):
    """Fused messages of all paths: A_i = W_S m_S + W_L m_L, with matrices W for each path and degree.

    In MS-MACE (Hu, Zhou and Jiang, arXiv:2312.09490) A_i = (W_S m_S / N_S + W_L m_L / N_L) / 2, with mean neighbour
    counts N. Here the factors 1 / N and 1 / 2 are absorbed into the learned weights, and only set the initial standard
    deviation of the weights. It has sqrt(N) in place of N, because the terms of a sum over neighbours initially have
    random signs.
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
        # W_S on top of W_L, a matrix for each degree
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
        """A of T receivers from features h ((l_hidden+1)², N, C), degree by degree: (2l + 1, T, c_out[l]) each."""
        degrees: list[list[Tensor]] = [[] for _ in self.fuse.sizes]
        for message, lists, features in zip(self.messages, neighbours, edges, strict=True):
            # not strict: the messages of the long path may end at a lower degree
            for parts, part in zip(degrees, message(h, lists, features), strict=False):
                parts.append(part)
        return self.fuse.map_degrees([concatenate(parts, dim=2) for parts in degrees])


class InteractionLayer(FusedPaths):
    """h_i' = ProductBasis_ν(A_i; Z_i) + FullyConnected(h_i, Z_i), A_i as in `FusedPaths`.

    Batatia et al., MACE (2022), eqs. 10-12, with fused messages: terms of mixed range exist at every body order. A
    layer that is not residual has no skip connection; a map of the message by species takes its place (mace-torch's
    RealAgnosticInteractionBlock, for first layers): h_i' = ProductBasis_ν(FullyConnected(A_i, Z_i); Z_i).
    """

    def __init__(
        self,
        paths: Sequence[PathConfig],
        *,
        l_hidden: int,
        l_out: int,
        residual: bool,
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
        self.product = ProductBasis(
            l_max=l_message,
            l_out=l_out,
            correlation=correlation,
            channels=channels,
            n_species=n_species,
            init=init,
        )
        self.l_skip = min(l_hidden, l_out)
        self.missing = (l_out + 1) ** 2 - (self.l_skip + 1) ** 2
        self.residual = residual
        if residual:
            self.skip = SpeciesLinear(self.l_skip, channels, channels, n_species, init=init)
        else:
            self.species_map = SpeciesLinear(l_message, channels, channels, n_species, init=init)

    def forward(
        self,
        h: Tensor,
        species: NodeSpecies,
        neighbours: Sequence[Tensor],
        edges: Sequence[EdgeFeatures],
    ) -> Tensor:
        """Features h ((l_hidden+1)², N, C) of N nodes to h' ((l_out+1)², T, C) of T receivers."""
        A = concatenate(self.fused(h, neighbours, edges))  # ((l_message+1)², T, C)
        if not self.residual:
            return self.product(self.species_map.forward_species(A, species.one_hot), species)
        return self.product(A, species) + self.without_neighbours(leading_atoms(h, A.shape[1]), species.one_hot)

    def without_neighbours(self, h: Tensor, one_hot: Tensor) -> Tensor:
        """Output for atoms without neighbours: the skip connection, or zeros; shape ((l_out+1)², T, C)."""
        if not self.residual:
            return h.new_zeros((self.l_skip + 1) ** 2 + self.missing, *h.shape[1:])
        skip = self.skip.forward_species(leading_degrees(h, self.l_skip), one_hot)
        if not self.missing:
            return skip
        # not `pad`, which would make T a constant of the traced graph
        return concatenate([skip, skip.new_zeros(self.missing, *skip.shape[1:])])

    def freeze(self) -> None:
        """Fold weights once, and again only after they have changed."""
        self.product.freeze()
