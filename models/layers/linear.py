"""Maps of features: equivariant linear maps, also with weights for each species, and perceptrons on invariants."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from models.graph.operations import concatenate
from models.graph.spherical import degree_sizes
from models.layers.members import apply_weight
from models.layers.parameters import Initializer

SILU_GAIN = 1.6791767923989418
"""1 / sqrt(<silu(x)²>) for a standard normal x: restores unit second moment after SiLU (e3nn's `normalize2mom`)."""


class DegreeLinear(nn.Module):
    """The map h'_lmc = Σ_c' W_l,c'c h_lmc' of degrees l up to `l_max`: e3nn's `Linear` for natural parity."""

    def __init__(
        self,
        l_max: int,
        c_in: int | Sequence[int],
        c_out: int | Sequence[int],
        *,
        init: Initializer,
        std: Sequence[float | Tensor] | None = None,
    ) -> None:
        """Make a map with random weights.

        Args:
            l_max: Highest degree.
            c_in: Number of channels of the input, the same for all degrees or a number for each degree.
            c_out: Number of channels of the output, likewise.
            init: Draws the weights.
            std: Standard deviation of the weights (c_in, c_out) of each degree, a number or a tensor that broadcasts
                against them; None: 1 / sqrt(c_in).
        """
        super().__init__()
        self.sizes = degree_sizes(l_max)
        fan_in = [c_in] * (l_max + 1) if isinstance(c_in, int) else c_in
        fan_out = [c_out] * (l_max + 1) if isinstance(c_out, int) else c_out
        self.weights = nn.ParameterList(
            init.normal(n_in, n_out, std=spread)
            for n_in, n_out, spread in zip(fan_in, fan_out, std or [n**-0.5 for n in fan_in], strict=True)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map features ((l_max + 1)², T, c_in) to ((l_max + 1)², T, c_out), with the same c_out for all degrees."""
        if len(self.sizes) == 1:
            return apply_weight(features, self.weights[0], nodes=1)
        return concatenate(self.map_degrees(features.split(self.sizes)))

    def map_degrees(self, degrees: Sequence[Tensor]) -> list[Tensor]:
        """Map features given degree by degree, (2l + 1, T, c_in[l]) each, to (2l + 1, T, c_out[l]) each."""
        return [apply_weight(part, weight, nodes=1) for part, weight in zip(degrees, self.weights, strict=True)]


class SpeciesLinear(DegreeLinear):
    """FullyConnected(h, Z): the map h'_lmc = Σ_c' W_l,Z,c'c h_lmc', with separate weights for each species Z.

    It is e3nn's `FullyConnectedTensorProduct` of the features and the one-hot species, as MACE and NequIP use it. It is
    computed as a `DegreeLinear` of the features times the one-hot species, which have S c_in channels.
    """

    def __init__(self, l_max: int, c_in: int, c_out: int | Sequence[int], n_species: int, *, init: Initializer) -> None:
        std = [c_in**-0.5] * (l_max + 1)  # of the S c_in terms of the sum, only those of one species are not zero
        super().__init__(l_max, n_species * c_in, c_out, init=init, std=std)

    def forward_species(self, features: Tensor, one_hot: Tensor) -> Tensor:
        """Map features ((l_max + 1)², T, c_in) of atoms with one-hot species (T, S) to ((l_max + 1)², T, c_out)."""
        return concatenate(self.map_species(features, one_hot))

    def map_species(self, features: Tensor, one_hot: Tensor) -> list[Tensor]:
        """The result of `forward_species`, degree by degree: (2l + 1, T, c_out[l]) each."""
        spread = features.unsqueeze(2) * one_hot.unsqueeze(2)  # ((l_max + 1)², T, S, c_in)
        return self.map_degrees(spread.flatten(2).split(self.sizes))


class ScalarNetwork(nn.Module):
    """A perceptron on invariants, with SiLU and without biases, so that zero maps to zero.

    Without hidden layers it is a linear map.
    """

    def __init__(
        self,
        n_in: int,
        hidden: Sequence[int],
        n_out: int,
        *,
        init: Initializer,
        input_gain: float = 1.0,
    ) -> None:
        """Make a network with random weights; outputs have unit variance if inputs times `input_gain` have."""
        super().__init__()
        gains = [input_gain] + [SILU_GAIN] * len(hidden)
        self.weights = nn.ParameterList(
            init.normal(fan_in, n_next, std=gain / math.sqrt(fan_in))
            for gain, (fan_in, n_next) in zip(gains, pairwise([n_in, *hidden, n_out]), strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (T, ..., n_in) to (T, ..., n_out)."""
        x, last = self.before_last(x)
        return apply_weight(x, last)

    def before_last(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs (T, ..., n) of the last layer for x (T, ..., n_in), and its weights (n, n_out).

        The last layer is linear, so its product can be taken elsewhere.
        """
        *hidden, last = self.weights
        for weight in hidden:
            x = F.silu(apply_weight(x, weight))
        return x, last
