"""Interaction layer of MS-NequIP: messages of all paths fused before NequIP's gate."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from al_engine.config import PathConfig
from models.graph.graph import NodeSpecies
from models.graph.operations import concatenate
from models.layers.geometry import EdgeFeatures
from models.layers.interaction import FusedPaths
from models.layers.linear import SILU_GAIN, SpeciesLinear
from models.layers.message import leading_atoms, leading_degrees
from models.layers.parameters import Initializer


class GatedLayer(FusedPaths):
    """h_i' = Gate(A_i + FullyConnected(h_i, Z_i)), A_i as in `FusedPaths`; the first layer has no FullyConnected.

    Batzner et al., NequIP, Nat. Commun. 13, 2453 (2022). In the gate, scalars x become SiLU(x), and features of higher
    degree are multiplied by SiLU(g): each channel of each degree has a separate scalar g, which A and the
    self-connection carry behind the scalars. SiLU is scaled to unit variance, as in e3nn.

    With a single path this is the layer of nequip 0.19 with `parity: false`, to rounding;
    `models.interop.convert_nequip` lists which of its models can be represented, and the differences of the others.
    """

    def __init__(
        self,
        paths: Sequence[PathConfig],
        *,
        l_hidden: int,
        l_out: int,
        self_connection: bool,
        n_basis: int,
        n_species: int,
        mean_neighbours: Sequence[float],
        init: Initializer,
    ) -> None:
        """A layer from features of degrees up to `l_hidden` to degrees up to `l_out`.

        Without a self-connection, an atom without neighbours gets zeros; with a self-connection, `l_out` is at most
        `l_hidden`.
        """
        channels = paths[0].channels
        c_out = [channels * (1 + l_out)] + [channels] * l_out
        super().__init__(
            paths,
            l_hidden=l_hidden,
            l_message=l_out,
            c_out=c_out,
            n_basis=n_basis,
            mean_neighbours=mean_neighbours,
            init=init,
        )
        self.channels, self.l_out = channels, l_out
        self.skip = SpeciesLinear(l_out, channels, c_out, n_species, init=init) if self_connection else None

    def forward(
        self,
        h: Tensor,
        species: NodeSpecies,
        neighbours: Sequence[Tensor],
        edges: Sequence[EdgeFeatures],
    ) -> Tensor:
        """Features h ((l_hidden+1)², N, C) of N nodes to h' ((l_out+1)², T, C) of T receivers."""
        degrees = self.fused(h, neighbours, edges)
        if self.skip is not None:
            own = leading_atoms(leading_degrees(h, self.l_out), degrees[0].shape[1])
            alone = self.skip.map_species(own, species.one_hot)
            degrees = [message + skip for message, skip in zip(degrees, alone, strict=True)]
        return self._gate(degrees)

    def without_neighbours(self, h: Tensor, one_hot: Tensor) -> Tensor:
        """Output for atoms without neighbours, shape ((l_out+1)², T, C)."""
        if self.skip is None:
            return h.new_zeros((self.l_out + 1) ** 2, h.shape[1], self.channels)
        return self._gate(self.skip.map_species(leading_degrees(h, self.l_out), one_hot))

    def freeze(self) -> None:
        """No weights are folded here."""

    def _gate(self, degrees: Sequence[Tensor]) -> Tensor:
        """Gate features given degree by degree, scalars and gates first, (1, T, C (1 + l_out))."""
        scalars, *gates = (SILU_GAIN * F.silu(degrees[0])).split(self.channels, dim=2)
        return concatenate([scalars, *(part * gate for part, gate in zip(degrees[1:], gates, strict=True))])
