"""Config section `systems`: the systems of a campaign of several systems, and the state points that are simulated."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, PositiveInt, StringConstraints

from al_engine.config.base import Temperature
from al_engine.config.system import SystemConfig


class NamedSystemConfig(SystemConfig):
    """A system of a campaign of several systems, with the options that may differ between these systems."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,32}$")] = Field(
        description="Name of the system: at most 32 letters, digits or underscores."
    )
    temperatures_kelvin: list[Temperature] | None = Field(
        None,
        min_length=1,
        description="Temperatures of the MD of this system. null: `sampling.temperatures_kelvin`.",
    )
    pressure_bar: float | None = Field(
        None, ge=-1e6, le=1e6, description="`sampling.pressure_bar` of this system. null: constant volume."
    )
    cut_molecules: PositiveInt | None = Field(
        None, description="`selection.cut_molecules` of this system. null: its frames are labelled whole."
    )
    initial: dict[str, Any] = Field(
        default_factory=dict,
        description="Options of `initial` that differ for this system, such as `{frames: 200, test_frames: 20}`.",
    )


@dataclass(frozen=True, slots=True)
class StatePoint:
    """A system at a temperature. The trajectories of an iteration are grouped by state point.

    Attributes:
        system: Name of the system; empty in a campaign of one system.
        temperature_kelvin: Temperature of the thermostat, K.
    """

    system: str
    temperature_kelvin: float

    def __str__(self) -> str:
        return f"{self.system}, {self.temperature_kelvin:g} K" if self.system else f"{self.temperature_kelvin:g} K"


def hotter_half(points: Iterable[StatePoint]) -> list[StatePoint]:
    """The state points at the hotter half of each system's temperatures; of an odd number, the middle one is included.

    Args:
        points: State points of one or several systems, in any order.

    Returns:
        The hotter state points, system after system, the coldest first.
    """
    ladders: dict[str, list[StatePoint]] = {}
    for point in points:
        ladders.setdefault(point.system, []).append(point)
    hotter = []
    for ladder in ladders.values():
        ladder.sort(key=lambda point: point.temperature_kelvin)
        hotter += ladder[len(ladder) // 2 :]
    return hotter
