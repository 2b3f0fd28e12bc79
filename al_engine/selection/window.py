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
    """The window on the force deviation, and optionally a second window on the net-force deviation.

    The net-force deviation of a frame is the largest deviation of the net force on a molecule (`net_force_deviation`).

    A frame with a deviation equal to an end of the window is a candidate.

    Attributes:
        lower_mev_per_ang: Lower end, meV/Å: a frame with a deviation below it is accurate.
        upper_mev_per_ang: Upper end, meV/Å: a frame with a deviation above it is rejected.
        net_force_lower_mev_per_ang: Lower end for net forces, meV/Å: a frame is accurate only if its net-force
            deviation is also below it. None: no window on net forces.
        net_force_upper_mev_per_ang: Upper end for net forces, meV/Å: a frame with a net-force deviation above it is
            rejected. None: no window on net forces.
    """

    lower_mev_per_ang: float
    upper_mev_per_ang: float
    net_force_lower_mev_per_ang: float | None = None
    net_force_upper_mev_per_ang: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.lower_mev_per_ang <= self.upper_mev_per_ang:
            raise ValueError(
                f"window from {self.lower_mev_per_ang} to {self.upper_mev_per_ang} meV/Å: the lower end must be "
                "at least 0 and at most the upper end"
            )
        if (self.net_force_lower_mev_per_ang is None) != (self.net_force_upper_mev_per_ang is None):
            raise ValueError("the net-force window lacks its lower or its upper end")

    def accurate(self, deviation: FloatArray, net_force: FloatArray) -> BoolArray:
        """Which frames are accurate: those below the lower ends of all windows.

        Args:
            deviation: Force deviation of S frames in eV/Å, shape (S,).
            net_force: Largest deviation of a molecule's net force in eV/Å, shape (S,).

        Returns:
            Whether each frame is accurate, shape (S,). A frame with a NaN is not accurate.
        """
        below = deviation < _ev(self.lower_mev_per_ang)
        if self.net_force_lower_mev_per_ang is not None:
            below &= net_force < _ev(self.net_force_lower_mev_per_ang)
        return np.asarray(below)

    def trusted(self, deviation: FloatArray, net_force: FloatArray) -> BoolArray:
        """Which frames are trusted: those that are not above the upper end of any window.

        Args:
            deviation: As in `accurate`.
            net_force: As in `accurate`.

        Returns:
            Whether each frame is trusted, shape (S,). A frame with a NaN is not trusted.
        """
        within = deviation <= _ev(self.upper_mev_per_ang)
        if self.net_force_upper_mev_per_ang is not None:
            within &= net_force <= _ev(self.net_force_upper_mev_per_ang)
        return np.asarray(within)

    def excess(self, deviation: FloatArray, net_force: FloatArray) -> FloatArray:
        """Ratio of each frame's deviation to the lower end of the window; the larger ratio if there are two windows.

        Args:
            deviation: As in `accurate`.
            net_force: As in `accurate`.

        Returns:
            The ratio, shape (S,).
        """
        excess = deviation / _ev(self.lower_mev_per_ang)
        if self.net_force_lower_mev_per_ang is not None:
            excess = np.maximum(excess, net_force / _ev(self.net_force_lower_mev_per_ang))
        return np.asarray(excess)

    def by_net_force(self, deviation: FloatArray, net_force: FloatArray) -> BoolArray:
        """Whether the window on net forces gives the larger of the two ratios in `excess`.

        Args:
            deviation: As in `accurate`.
            net_force: As in `accurate`.

        Returns:
            Whether the ratio of each frame is the ratio of its net-force deviation, shape (S,).
        """
        return np.asarray(self.excess(deviation, net_force) > deviation / _ev(self.lower_mev_per_ang))

    def to_attributes(self) -> dict[str, float]:
        """The ends in meV/Å by their names, for HDF5 attributes; ends that are None are left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Self:
        """The window from the attributes that `to_attributes` gave; other attributes are ignored."""
        return cls(**{name: float(attributes[name]) for name in cls.__slots__ if name in attributes})


def _ev(mev: float) -> float:
    """Convert meV to eV, by the division that `MEV_PER_EV` recommends."""
    return mev / MEV_PER_EV


def window_of(config: SelectionConfig, deviation: FloatArray) -> Window:
    """The window of an iteration, with the ends that the config gives, or with adaptive ends (`adaptive_ends`).

    Args:
        config: Options of the selection.
        deviation: Force deviations in eV/Å, any shape, of all sound frames of the iterations that an adaptive window
            depends on; not used for a window with fixed ends.
    """
    lower, upper = config.lower_mev_per_ang, config.upper_mev_per_ang
    if config.adaptive.enabled:
        lower, upper = adaptive_ends(config.adaptive, deviation)
    return Window(lower, upper, config.net_force_lower_mev_per_ang, config.net_force_upper_mev_per_ang)


def adaptive_ends(config: AdaptiveConfig, deviation: FloatArray) -> tuple[float, float]:
    """Lower and upper end of an adaptive window in meV/Å.

    The lower end is a quantile of the deviations, but at least the floor. The upper end is a multiple of the lower end.

    Args:
        config: Quantile, factor and floor of the adaptive window.
        deviation: Force deviations in eV/Å, any shape; non-finite values are ignored. Without finite values, the lower
            end is the floor.
    """
    finite = deviation[np.isfinite(deviation)]
    quantile = MEV_PER_EV * float(np.quantile(finite, config.lower_quantile)) if finite.size else 0.0
    lower = max(quantile, config.floor_mev_per_ang)
    return lower, config.upper_factor * lower
