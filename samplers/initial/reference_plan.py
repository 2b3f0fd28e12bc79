"""Trajectories of the reference MD that gives an initial set: their number, temperatures, lengths and cost.

This module does not import torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.config import InitialConfig

REPLICAS = 16
"""Largest number of trajectories for the training set; each runs at its own temperature."""
SPARE = 0.1
"""Frames beyond the wanted number, as a share of it: labels fail, and trajectories end early."""
SETTLING_STRIDES = 4
"""Number of strides at the start of a trajectory that give no frames. A stride is the steps between two frames."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Temperatures and length of the trajectories of the reference MD.

    Attributes:
        train_kelvin: Temperature of each trajectory of the training set, K.
        test_kelvin: Temperature of each trajectory of the test set, K.
        strides: Number of strides of each trajectory, including the first `SETTLING_STRIDES`.
    """

    train_kelvin: tuple[float, ...]
    test_kelvin: tuple[float, ...]
    strides: int

    @property
    def kelvins(self) -> tuple[float, ...]:
        """Temperatures of all trajectories, K: training set, then test set."""
        return self.train_kelvin + self.test_kelvin


def plan(config: InitialConfig, temperatures_kelvin: Sequence[float]) -> Plan:
    """Plan trajectories that give the numbers of frames that the config asks for, and `SPARE` more.

    Args:
        config: The `initial` section.
        temperatures_kelvin: Temperatures of the test set, K.
    """
    count = min(REPLICAS, config.frames)
    kept = math.ceil(config.frames / count * (1.0 + SPARE))
    per_temperature = -(-config.test_frames // (kept * len(temperatures_kelvin)))
    return Plan(
        train_kelvin=tuple(np.linspace(config.hot_kelvin, config.cold_kelvin, count).tolist()),
        test_kelvin=tuple(kelvin for kelvin in temperatures_kelvin for _ in range(per_temperature)),
        strides=SETTLING_STRIDES + kept,
    )


def single_points(config: InitialConfig, temperatures_kelvin: Sequence[float]) -> int:
    """Number of single-point calculations (energy and forces) by the reference method in the planned trajectories.

    Arguments are those of `plan`.
    """
    planned = plan(config, temperatures_kelvin)
    return len(planned.kelvins) * planned.strides * config.reference_stride_steps
