"""An atom's energy from its features."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.linear import ScalarNetwork
from models.parameters import Initializer, Modules


class Readouts(nn.Module):
    """MACE's: linear in the scalars of every layer but the last, a small SiLU network on the last."""

    def __init__(self, n_layers: int, channels: int, hidden: int, *, init: Initializer) -> None:
        super().__init__()
        self.linear: Modules[ScalarNetwork] = Modules(
            ScalarNetwork(channels, [], 1, init=init) for _ in range(n_layers - 1)
        )
        self.last = ScalarNetwork(channels, [hidden], 1, init=init)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Energies (T, 1) from every layer's features ((l+1)², T, C)."""
        scalars = [h[0] for h in layers]
        energies: Tensor = self.last(scalars[-1])
        for readout, x in zip(self.linear, scalars[:-1], strict=True):
            energies = energies + readout(x)
        return energies


class LastReadout(nn.Module):
    """NequIP's: linear in the scalars of the last layer."""

    def __init__(self, channels: int, *, init: Initializer) -> None:
        super().__init__()
        self.last = ScalarNetwork(channels, [], 1, init=init)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Energies (T, 1) from every layer's features ((l+1)², T, C)."""
        energies: Tensor = self.last(layers[-1][0])
        return energies
