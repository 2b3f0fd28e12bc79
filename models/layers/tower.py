"""A tower: the layers and readouts over one or more paths, from species and neighbours to atomic energies."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from al_engine.config import GATED_KINDS, ModelConfig, PathConfig
from models.graph.graph import NodeSpecies
from models.layers.gated import GatedLayer
from models.layers.geometry import EdgeFeatures
from models.layers.interaction import InteractionLayer
from models.layers.members import apply_weight
from models.layers.parameters import Derived, Initializer, Modules
from models.layers.readouts import LastReadout, Readouts


class Tower(nn.Module):
    """Layers and readouts over one or more paths; the first path sets channels and degree of the features.

    An atomic energy is e_i - e_isolated(Z_i): the sum e_i of the readouts of atom i, minus this sum for an atom of the
    same element without neighbours. An isolated atom then has exactly the energy E0 of its element. (MACE and NequIP
    have no such term.)
    """

    def __init__(
        self,
        paths: Sequence[PathConfig],
        *,
        config: ModelConfig,
        n_species: int,
        mean_neighbours: Sequence[float],
        init: Initializer,
    ) -> None:
        super().__init__()
        channels = paths[0].channels
        l_hidden = min(config.hidden_l_max, paths[0].l_max)
        gated = config.kind in GATED_KINDS

        def layer(k: int) -> InteractionLayer | GatedLayer:
            l_in = l_hidden if k else 0
            l_out = l_hidden if k + 1 < config.layers else 0
            if gated:
                return GatedLayer(
                    paths,
                    l_hidden=l_in,
                    l_out=l_out,
                    self_connection=k > 0,
                    n_basis=config.bessel_functions,
                    n_species=n_species,
                    mean_neighbours=mean_neighbours,
                    init=init,
                )
            return InteractionLayer(
                paths,
                l_hidden=l_in,
                l_out=l_out,
                residual=k > 0 or config.first_layer == "residual",
                correlation=config.correlation,
                n_basis=config.bessel_functions,
                n_species=n_species,
                mean_neighbours=mean_neighbours,
                init=init,
            )

        self.frozen = False
        self._isolated: Derived[Tensor] | None = None
        self.embedding = init.normal(n_species, channels, std=1.0)
        self.layers: Modules[InteractionLayer | GatedLayer] = Modules(layer(k) for k in range(config.layers))
        self.readouts = (
            LastReadout(channels, init=init)
            if gated
            else Readouts(config.layers, channels, config.readout_hidden, init=init)
        )

    def features(
        self,
        species: NodeSpecies,
        neighbours: Sequence[Tensor],
        edges: Sequence[EdgeFeatures],
    ) -> list[Tensor]:
        """Features of the receivers after every layer, ((l+1)², T, C) each."""
        h = apply_weight(species.one_hot, self.embedding).unsqueeze(0)  # (1, T, C)
        features = []
        for layer in self.layers:
            h = layer(h, species, neighbours, edges)
            features.append(h)
        return features

    def forward(
        self,
        species: NodeSpecies,
        neighbours: Sequence[Tensor],
        edges: Sequence[EdgeFeatures],
    ) -> Tensor:
        """Atomic energies (T, 1) in the network's units, zero for an atom without neighbours."""
        return self.readouts(self.features(species, neighbours, edges)) - apply_weight(
            species.one_hot, self.isolated_energies()
        )

    def isolated_energies(self) -> Tensor:
        """Sum of the readouts for an atom of each species without neighbours, shape (S, 1).

        The message A of such an atom is zero in every layer. With M stacked members the shape is (M, S, 1).
        """
        if self._isolated is not None and self._isolated.valid:
            return self._isolated.value
        value = self._compute_isolated_energies()
        weights = list(self.parameters())
        if self.frozen and not any(weight.requires_grad for weight in weights):
            self._isolated = Derived(value, weights)
        return value

    def _compute_isolated_energies(self) -> Tensor:
        n_species = self.embedding.shape[-2]
        h = self.embedding.flatten(0, -2).unsqueeze(0)  # (1, S, C), or (1, M S, C)
        one_hot = torch.eye(n_species, dtype=h.dtype, device=h.device).repeat(h.shape[1] // n_species, 1)
        features = []
        for layer in self.layers:
            h = layer.without_neighbours(h, one_hot)
            features.append(h)
        return self.readouts(features).view(*self.embedding.shape[:-1], 1)

    def freeze(self) -> None:
        """From now on, compute tensors derived from the weights once, and again only after the weights have changed."""
        self.frozen = True
        for layer in self.layers:
            layer.freeze()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._isolated = None  # `assign=True` replaces the tensors that `Derived` watches
        super()._load_from_state_dict(*args, **kwargs)
