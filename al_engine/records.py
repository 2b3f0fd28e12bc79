"""What is remembered of an iteration: counts, errors and sizes, as stored in its append part and shown by `status`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from al_engine.frames import FloatArray
from al_engine.selection import Counts, count
from al_engine.statistics import statistical_inefficiency


@dataclass(frozen=True, slots=True)
class TemperatureRecord:
    """One temperature of one iteration.

    Attributes:
        temperature_kelvin: Temperature of the thermostat.
        counts: Where its frames fell.
        decorrelated: Frames divided by the statistical inefficiency of their deviation.
        replicas: Trajectories started.
        stopped: Trajectories stopped before their end.
    """

    temperature_kelvin: float
    counts: Counts
    decorrelated: float
    replicas: int
    stopped: int


@dataclass(frozen=True, slots=True)
class IterationRecord:
    """One finished iteration.

    Attributes:
        iteration: Its number, from 0.
        temperatures: One record per temperature.
        labelled: New labels that joined the data set.
        label_failures: Frames chosen whose label failed.
        dataset_size: Labelled frames after this iteration, test set not counted.
        error_before_training_mev_per_ang: Force MAE on the new labels of the committee that chose them, or None.
        test_force_mae_mev_per_ang: Force MAE of the committee mean on the test set.
        test_energy_mae_mev_per_atom: Energy MAE of the committee mean on the test set.
    """

    iteration: int
    temperatures: tuple[TemperatureRecord, ...]
    labelled: int
    label_failures: int
    dataset_size: int
    error_before_training_mev_per_ang: float | None
    test_force_mae_mev_per_ang: float
    test_energy_mae_mev_per_atom: float

    @property
    def counts(self) -> Counts:
        """Counts over all temperatures."""
        parts = [t.counts for t in self.temperatures]
        return Counts(
            sampled=sum(c.sampled for c in parts),
            accurate=sum(c.accurate for c in parts),
            candidate=sum(c.candidate for c in parts),
            rejected=sum(c.rejected for c in parts),
        )

    @property
    def decorrelated(self) -> float:
        """Decorrelated frames over all temperatures."""
        return sum(t.decorrelated for t in self.temperatures)

    @property
    def stopped_share(self) -> float:
        """Share of trajectories that were stopped before their end."""
        replicas = sum(t.replicas for t in self.temperatures)
        return sum(t.stopped for t in self.temperatures) / replicas if replicas else 0.0

    @property
    def worst_temperature(self) -> TemperatureRecord:
        """The temperature with the highest acceptance."""
        return max(self.temperatures, key=lambda t: t.counts.acceptance)

    def to_json(self) -> str:
        """The record as JSON."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`."""
        data = json.loads(text)
        temperatures = tuple(
            TemperatureRecord(**{**item, "counts": Counts(**item["counts"])}) for item in data.pop("temperatures")
        )
        return cls(temperatures=temperatures, **data)

    def summary(self) -> Mapping[str, Any]:
        """The line of `status --json`: design names, all temperatures together."""
        counts = self.counts
        return {
            "iteration": self.iteration,
            "sampled": counts.sampled,
            "accurate": counts.accurate,
            "candidate": counts.candidate,
            "rejected": counts.rejected,
            "acceptance": counts.acceptance,
            "labelled": self.labelled,
            "label_failures": self.label_failures,
            "dataset_size": self.dataset_size,
            "error_before_training_mev_per_ang": self.error_before_training_mev_per_ang,
            "test_force_mae_mev_per_ang": self.test_force_mae_mev_per_ang,
            "test_energy_mae_mev_per_atom": self.test_energy_mae_mev_per_atom,
            "decorrelated": self.decorrelated,
            "stopped_trajectories": sum(t.stopped for t in self.temperatures),
        }


def temperature_record(
    temperature_kelvin: float,
    *,
    fates: np.ndarray,
    deviation: FloatArray,
    replica: np.ndarray,
    replicas: int,
    stopped: int,
) -> TemperatureRecord:
    """Summarise the frames sampled at one temperature.

    Args:
        temperature_kelvin: Temperature of the thermostat.
        fates: Fates of its S frames, shape (S,).
        deviation: Their deviation in eV/Å, shape (S,), in order of time within each replica.
        replica: Which trajectory each frame is of, shape (S,).
        replicas: Trajectories started.
        stopped: Trajectories stopped before their end.
    """
    series: Sequence[FloatArray] = [deviation[replica == index] for index in range(replicas)]
    return TemperatureRecord(
        temperature_kelvin=temperature_kelvin,
        counts=count(fates),
        decorrelated=len(fates) / statistical_inefficiency(series),
        replicas=replicas,
        stopped=stopped,
    )
