"""How many trajectories MD by the reference method takes for an initial set, and what they cost; knows no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.config import InitialConfig

REPLICAS = 16
"""Replicas that the frames of the initial set come from, at as many temperatures."""
SETTLING_STRIDES = 4
"""Strides at the start of a trajectory from which no frame is kept."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which replicas run how long.

    Attributes:
        train_kelvin: Temperature of each replica of the training set, K.
        test_kelvin: Temperature of each replica of the test set, K.
        strides: Strides of each, of which the first are for settling.
    """

    train_kelvin: tuple[float, ...]
    test_kelvin: tuple[float, ...]
    strides: int

    @property
    def kelvins(self) -> tuple[float, ...]:
        """Temperature of every replica, K."""
        return self.train_kelvin + self.test_kelvin


def plan(config: InitialConfig, temperatures_kelvin: Sequence[float]) -> Plan:
    """The replicas that give as many frames as the config asks for."""
    count = min(REPLICAS, config.frames)
    kept = -(-config.frames // count)
    per_temperature = -(-config.test_frames // (kept * len(temperatures_kelvin)))
    return Plan(
        train_kelvin=tuple(np.linspace(config.hot_kelvin, config.cold_kelvin, count).tolist()),
        test_kelvin=tuple(kelvin for kelvin in temperatures_kelvin for _ in range(per_temperature)),
        strides=SETTLING_STRIDES + kept,
    )


def single_points(config: InitialConfig, temperatures_kelvin: Sequence[float]) -> int:
    """How many energies and forces of the reference method the frames take."""
    planned = plan(config, temperatures_kelvin)
    return len(planned.kelvins) * planned.strides * config.reference_stride_steps
