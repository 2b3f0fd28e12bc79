"""Readouts: energies of atoms from their features."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.layers.linear import ScalarNetwork
from models.layers.parameters import Initializer, Modules


class Readouts(nn.Module):
    """MACE's readouts: e_i = Σ_k R_k(h_i^k), linear in the scalars of each layer, a SiLU network for the last layer.

    Batatia et al., MACE (2022), eq. 13.
    """

    def __init__(self, n_layers: int, channels: int, hidden: int, *, init: Initializer) -> None:
        super().__init__()
        self.linear: Modules[ScalarNetwork] = Modules(
            ScalarNetwork(channels, [], 1, init=init) for _ in range(n_layers - 1)
        )
        self.last = ScalarNetwork(channels, [hidden], 1, init=init)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Energies (T, 1) from every layer's features ((l+1)², T, C)."""
        energies = self.of_layer(layers[-1], following=0)
        for k, h in enumerate(layers[:-1]):
            energies = energies + self.of_layer(h, following=len(layers) - 1 - k)
        return energies

    def of_layer(self, h: Tensor, *, following: int) -> Tensor:
        """Energies (T, 1) read from the features ((l+1)², T, C) of a layer that `following` layers follow."""
        readout = self.linear[len(self.linear) - following] if following else self.last
        energies: Tensor = readout(h[0])
        return energies


class LastReadout(nn.Module):
    """NequIP's readout (Batzner et al., Nat. Commun. 13, 2453 (2022)): linear in the scalars of the last layer."""

    def __init__(self, channels: int, *, init: Initializer) -> None:
        super().__init__()
        self.last = ScalarNetwork(channels, [], 1, init=init)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Energies (T, 1) from every layer's features ((l+1)², T, C)."""
        return self.of_layer(layers[-1], following=0)

    def of_layer(self, h: Tensor, *, following: int) -> Tensor:
        """Energies (T, 1) read from the features ((l+1)², T, C) of a layer that `following` layers follow."""
        energies: Tensor = self.last(h[0])
        return torch.zeros_like(energies) if following else energies
