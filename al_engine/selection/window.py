"""The window on the deviation: which sampled frames are accurate, which are candidates, which are rejected."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from al_engine.config import AdaptiveConfig, SelectionConfig
from al_engine.structures.frames import BoolArray, FloatArray
from al_engine.units import MEV_PER_EV


@dataclass(frozen=True, slots=True)
class Window:
    """Ends of the window, which belong to it, in meV/Å; a second window, on net forces, is an option.

    Attributes:
        lower_mev_per_ang: Below: accurate.
        upper_mev_per_ang: Above: rejected.
        net_force_lower_mev_per_ang: An accurate frame whose net-force deviation is not below this is a candidate.
        net_force_upper_mev_per_ang: Any frame whose net-force deviation is above this is rejected.
    """

    lower_mev_per_ang: float
    upper_mev_per_ang: float
    net_force_lower_mev_per_ang: float | None = None
    net_force_upper_mev_per_ang: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.lower_mev_per_ang <= self.upper_mev_per_ang:
            raise ValueError(f"a window from {self.lower_mev_per_ang} to {self.upper_mev_per_ang} meV/Å")
        if (self.net_force_lower_mev_per_ang is None) != (self.net_force_upper_mev_per_ang is None):
            raise ValueError("a net-force window has two ends")

    def accurate(self, deviation: FloatArray, net_force: FloatArray) -> BoolArray:
        """Which frames teach nothing.

        Args:
            deviation: Force deviation of S frames in eV/Å, shape (S,).
            net_force: Largest deviation of a molecule's net force in eV/Å, shape (S,).

        Returns:
            Whether each is below the lower end, or both lower ends; shape (S,).
        """
        below = deviation < _ev(self.lower_mev_per_ang)
        if self.net_force_lower_mev_per_ang is not None:
            below &= net_force < _ev(self.net_force_lower_mev_per_ang)
        return np.asarray(below)

    def trusted(self, deviation: FloatArray, net_force: FloatArray) -> BoolArray:
        """Whether each frame is above no upper end; shape (S,). What is not a number is not trusted."""
        within = deviation <= _ev(self.upper_mev_per_ang)
        if self.net_force_upper_mev_per_ang is not None:
            within &= net_force <= _ev(self.net_force_upper_mev_per_ang)
        return np.asarray(within)

    def excess(self, deviation: FloatArray, net_force: FloatArray) -> FloatArray:
        """How many times the lower end a frame's deviation is, or its net force's where that is more; shape (S,)."""
        excess = deviation / _ev(self.lower_mev_per_ang)
        if self.net_force_lower_mev_per_ang is not None:
            excess = np.maximum(excess, net_force / _ev(self.net_force_lower_mev_per_ang))
        return np.asarray(excess)

    def by_net_force(self, deviation: FloatArray, net_force: FloatArray) -> BoolArray:
        """Whether a frame's net forces are further into their window than its forces into theirs; shape (S,)."""
        return np.asarray(self.excess(deviation, net_force) > deviation / _ev(self.lower_mev_per_ang))

    def to_attributes(self) -> dict[str, float]:
        """Its ends by name, to be stored; without the net-force window if there is none."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Self:
        """The inverse of `to_attributes`; other attributes are ignored."""
        return cls(**{name: float(attributes[name]) for name in cls.__slots__ if name in attributes})


def _ev(mev: float) -> float:
    """The quotient is the number nearest the decimal; times 1e-3 would often miss it."""
    return mev / MEV_PER_EV


def window_of(config: SelectionConfig, deviation: FloatArray) -> Window:
    """The window of an iteration.

    Args:
        config: What the user asked for.
        deviation: Force deviation in eV/Å of all sound frames of the iterations that an adaptive window looks back
            on, any shape; a fixed window ignores it.
    """
    lower, upper = config.lower_mev_per_ang, config.upper_mev_per_ang
    if config.adaptive.enabled:
        lower, upper = adaptive_ends(config.adaptive, deviation)
    return Window(lower, upper, config.net_force_lower_mev_per_ang, config.net_force_upper_mev_per_ang)


def adaptive_ends(config: AdaptiveConfig, deviation: FloatArray) -> tuple[float, float]:
    """Both ends of an adaptive window in meV/Å.

    Args:
        config: Quantile, factor and floor.
        deviation: Deviations in eV/Å, any shape; those that are not finite do not count.
    """
    finite = deviation[np.isfinite(deviation)]
    quantile = MEV_PER_EV * float(np.quantile(finite, config.lower_quantile)) if finite.size else 0.0
    lower = max(quantile, config.floor_mev_per_ang)
    return lower, config.upper_factor * lower
