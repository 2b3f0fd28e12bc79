"""Maps of features: equivariant linear maps by degree, optionally by species, and perceptrons on invariants."""

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
"""1 / sqrt(<silu(x)²>) for a standard normal x: keeps unit variance through the activation (e3nn's `normalize2mom`)."""


class DegreeLinear(nn.Module):
    """h'_lmc = Σ_c' W_l,c'c h_lmc', for degrees l up to `l_max`: e3nn's `Linear` for natural parity."""

    def __init__(
        self,
        l_max: int,
        c_in: int | Sequence[int],
        c_out: int | Sequence[int],
        *,
        init: Initializer,
        std: Sequence[float | Tensor] | None = None,
    ) -> None:
        """A map from `c_in` channels to `c_out` channels, each a number for all degrees or a number for each degree.

        The standard deviation of the weights is 1 / sqrt(c_in) unless `std` gives it for each degree.
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
    """FullyConnected(h, Z): h'_lmc = Σ_c' W_l,Z,c'c h_lmc', a `DegreeLinear` with separate weights for each species.

    This is e3nn's `FullyConnectedTensorProduct` of the features and the one-hot species, as MACE and NequIP use it.
    """

    def __init__(self, l_max: int, c_in: int, c_out: int | Sequence[int], n_species: int, *, init: Initializer) -> None:
        std = [c_in**-0.5] * (l_max + 1)  # the one-hot sum over species has a single term
        super().__init__(l_max, n_species * c_in, c_out, init=init, std=std)

    def forward_species(self, features: Tensor, one_hot: Tensor) -> Tensor:
        """Map features ((l_max + 1)², T, c_in) of atoms with species one-hot (T, S) to ((l_max + 1)², T, c_out)."""
        return concatenate(self.map_species(features, one_hot))

    def map_species(self, features: Tensor, one_hot: Tensor) -> list[Tensor]:
        """`forward_species` degree by degree: (2l + 1, T, c_out[l]) each."""
        spread = features.unsqueeze(2) * one_hot.unsqueeze(2)  # ((l_max + 1)², T, S, c_in)
        return self.map_degrees(spread.flatten(2).split(self.sizes))


class ScalarNetwork(nn.Module):
    """A perceptron on invariants with SiLU and without biases: zero for zero input; linear without hidden layers."""

    def __init__(
        self,
        n_in: int,
        hidden: Sequence[int],
        n_out: int,
        *,
        init: Initializer,
        input_gain: float = 1.0,
    ) -> None:
        """A network whose layers have unit variance if the inputs times `input_gain` have unit variance."""
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
        """Inputs (T, ..., n) and weights (n, n_out) of the last layer, which is linear."""
        *hidden, last = self.weights
        for weight in hidden:
            x = F.silu(apply_weight(x, weight))
        return x, last
