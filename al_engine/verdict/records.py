"""Records of finished iterations: counts, errors and sizes, stored in the append part and shown by `status`."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from al_engine.committee.calibration import Calibration
from al_engine.committee.health import CommitteeHealth
from al_engine.config import StatePoint
from al_engine.selection.fates import CANDIDATE_FATES, Counts, count, count_candidates
from al_engine.selection.window import Window
from al_engine.statistics import decorrelated_frames, lower_bound, split_r_hat, upper_bound
from al_engine.structures.frames import FloatArray
from al_engine.verdict.audit_labels import AuditResult


@dataclass(frozen=True, slots=True)
class TemperatureRecord:
    """Counts at one state point, in one iteration or in several iterations taken together.

    Attributes:
        temperature_kelvin: Temperature of the thermostat.
        counts: Numbers of accurate, candidate and rejected frames.
        decorrelated: Number of independent frames with the same information on the acceptance.
        replicas: Trajectories started, including those that replaced a stopped trajectory.
        stopped: Trajectories stopped before their end, because they broke a limit.
        seen: What the trajectories are worth as evidence; None in records of older versions.
        candidate_fates: Number of candidates with each fate, by its name in lower case; None in records of older
            versions.
        saturated: Trajectories that were ended after many candidates in a row.
        system: Name of the system; empty in a campaign of one system.
    """

    temperature_kelvin: float
    counts: Counts
    decorrelated: float
    replicas: int
    stopped: int
    seen: "TrajectoryEvidence | None" = None
    candidate_fates: Mapping[str, int] | None = None
    saturated: int = 0
    system: str = ""

    @property
    def point(self) -> StatePoint:
        """The state point."""
        return StatePoint(self.system, self.temperature_kelvin)

    def stopped_share(self, trajectory_frames: int | None = None) -> float:
        """Share of trajectories that were stopped before their end.

        A trajectory counts as often as it is longer than `sampling.steps`. Otherwise the share would be the higher the
        longer the MD is that the engine itself asks for as evidence.

        Args:
            trajectory_frames: Sampled frames of a trajectory of `sampling.steps`; None: every trajectory counts once.
        """
        lengths = 0.0 if trajectory_frames is None else self.counts.sampled / trajectory_frames
        return self.stopped / max(self.replicas, lengths) if self.replicas else 0.0

    @property
    def lost(self) -> int:
        """Frames lost: the rejected frames, or the stopped trajectories if there were more of them.

        A trajectory stopped by a non-finite number may leave no rejected frame, and still counts.
        """
        return max(self.counts.rejected, self.stopped)

    def lost_share(self, trajectory_frames: int | None = None) -> float:
        """Share of the MD that is not trusted: of frames rejected or of trajectories stopped, whichever is larger.

        Args:
            trajectory_frames: As in `stopped_share`.
        """
        return max(self.counts.rejected_share, self.stopped_share(trajectory_frames))

    def bounds(self, confidence: float) -> tuple[float, float]:
        """One-sided lower and upper bound on the acceptance."""
        return _bounds(self.counts.acceptance, self.decorrelated, confidence)


@dataclass(frozen=True, slots=True)
class TrajectoryEvidence:
    """What the trajectories at one temperature can have seen of slow processes.

    Attributes:
        trajectories: Independent trajectories. A trajectory that goes on in the next iteration is one trajectory.
        with_candidate: Trajectories that hold a candidate.
        picoseconds: Mean length of a trajectory, ps.
        r_hat: Split R-hat of the logarithm of the deviation (`split_r_hat`); None if it cannot be computed.
    """

    trajectories: int
    with_candidate: int
    picoseconds: float
    r_hat: float | None


@dataclass(frozen=True, slots=True)
class SystemErrors:
    """Errors of the committee's mean on the test frames of one of several systems."""

    system: str
    test_force_mae_mev_per_ang: float | None
    test_energy_mae_mev_per_atom: float | None


@dataclass(frozen=True, slots=True)
class IterationRecord:
    """One finished iteration. A value that is not finite, such as the error of a diverged model, is stored as None.

    Attributes:
        iteration: Number of the iteration, from 0.
        temperatures: One record per state point.
        labelled: New labels that joined the data set.
        label_failures: Chosen frames whose label failed.
        dataset_size: Labelled frames after this iteration, test set not counted.
        error_before_training_mev_per_ang: Force MAE, on the new labels, of the committee that chose them; of clusters
            cut from boxes, over the atoms that stand for the box; None without new labels.
        test_force_mae_mev_per_ang: Force MAE of the committee mean on the test set.
        test_energy_mae_mev_per_atom: Energy MAE of the committee mean on the test set.
        steps: MD steps of each replica, at the temperature with the most. Older versions stored neither this field nor
            those below: None or empty.
        window: The window of the iteration.
        calibration: True force error at a given deviation; None in older versions.
        health: Spread and errors of the committee's members; None with too few labels.
        failure_words: Most frequent reason and message of the failed labels; empty if no label failed.
        warnings: What is wrong with labels, committee or thresholds, one sentence each.
        audit: The audit of the iteration's committee; None if there was none. It is made after the record is stored,
            and is stored in the part `iterNNN-audited`.
        systems: Test errors of each system; empty in a campaign of one system.
        test_stress_mae_gpa: MAE of the stress components of the committee mean on the test set; None without stresses.
    """

    iteration: int
    temperatures: tuple[TemperatureRecord, ...]
    labelled: int
    label_failures: int
    dataset_size: int
    error_before_training_mev_per_ang: float | None
    test_force_mae_mev_per_ang: float | None
    test_energy_mae_mev_per_atom: float | None
    steps: int | None = None
    window: Window | None = None
    calibration: Calibration | None = None
    health: CommitteeHealth | None = None
    failure_words: str = ""
    warnings: tuple[str, ...] = ()
    audit: AuditResult | None = None
    systems: tuple[SystemErrors, ...] = ()
    test_stress_mae_gpa: float | None = None

    @property
    def counts(self) -> Counts:
        """Counts over all temperatures."""
        return total_counts(t.counts for t in self.temperatures)

    @property
    def candidate_fates(self) -> Mapping[str, int] | None:
        """Number of candidates with each fate over all temperatures; None in records of older versions."""
        return _fates_if_stored(self.temperatures)

    @property
    def decorrelated(self) -> float:
        """Decorrelated frames over all temperatures (`decorrelated_over`)."""
        return decorrelated_over(self.temperatures)

    @property
    def stopped_share(self) -> float:
        """Share of trajectories that were stopped before their end."""
        replicas = sum(t.replicas for t in self.temperatures)
        return sum(t.stopped for t in self.temperatures) / replicas if replicas else 0.0

    def bounds(self, confidence: float) -> tuple[float, float]:
        """One-sided lower and upper bound on the acceptance."""
        return _bounds(self.counts.acceptance, self.decorrelated, confidence)

    def to_json(self) -> str:
        """The record as JSON, without the audit; of one system, as earlier versions wrote it, without its name."""
        values = {name: value for name, value in asdict(self).items() if name != "audit"}
        if self.test_stress_mae_gpa is None:
            del values["test_stress_mae_gpa"]
        if not self.systems:
            del values["systems"]
            values["temperatures"] = [_without_system(record) for record in values["temperatures"]]
        return json.dumps(numbers_only(values), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "IterationRecord":
        """The inverse of `to_json`."""
        return _PARSER.validate_json(text)

    @property
    def failed_audit(self) -> bool:
        """Whether the committee was audited and failed."""
        return self.audit is not None and not self.audit.passed

    def summary(self) -> Mapping[str, Any]:
        """The iteration as `status --json` shows it: counts over all temperatures, then each temperature."""
        counts = self.counts
        return {
            "iteration": self.iteration,
            "sampled": counts.sampled,
            "accurate": counts.accurate,
            "candidate": counts.candidate,
            "rejected": counts.rejected,
            "acceptance": counts.acceptance,
            "candidate_fates": self.candidate_fates,
            "labelled": self.labelled,
            "label_failures": self.label_failures,
            "dataset_size": self.dataset_size,
            "error_before_training_mev_per_ang": self.error_before_training_mev_per_ang,
            "test_force_mae_mev_per_ang": self.test_force_mae_mev_per_ang,
            "test_energy_mae_mev_per_atom": self.test_energy_mae_mev_per_atom,
            "decorrelated": self.decorrelated,
            "stopped_trajectories": sum(t.stopped for t in self.temperatures),
            "test_stress_mae_gpa": self.test_stress_mae_gpa,
            "systems": [numbers_only(asdict(errors)) for errors in self.systems],
            "steps": self.steps,
            "window": None if self.window is None else self.window.to_attributes(),
            "temperatures": [numbers_only(_temperature_summary(t)) for t in self.temperatures],
            "calibration": numbers_only(None if self.calibration is None else asdict(self.calibration)),
            "health": numbers_only(None if self.health is None else asdict(self.health)),
            "warnings": list(self.warnings),
            "audit": None if self.audit is None else self.audit.summary(),
        }


_PARSER = TypeAdapter(IterationRecord)


def _without_system(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "system" or value}


def _temperature_summary(record: TemperatureRecord) -> dict[str, Any]:
    counts = {**asdict(record.counts), "acceptance": record.counts.acceptance}
    return {**{key: value for key, value in asdict(record).items() if key != "counts"}, **counts}


def numbers_only(value: Any) -> Any:
    """Nested values with None in place of floats that are not finite, because JSON has no NaN."""
    if isinstance(value, dict):
        return {key: numbers_only(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [numbers_only(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def total_counts(parts: Iterable[Counts]) -> Counts:
    """The sum of several counts."""
    counts = list(parts)
    return Counts(
        sampled=sum(c.sampled for c in counts),
        accurate=sum(c.accurate for c in counts),
        candidate=sum(c.candidate for c in counts),
        rejected=sum(c.rejected for c in counts),
    )


def total_fates(temperatures: Iterable[TemperatureRecord]) -> dict[str, int]:
    """The sum of the numbers of candidates with each fate; records of older versions, without fates, are left out."""
    total: Counter[str] = Counter()
    for record in temperatures:
        total.update(record.candidate_fates or {})
    return dict(total)


def _fates_if_stored(temperatures: Sequence[TemperatureRecord]) -> dict[str, int] | None:
    """`total_fates`; None if a record has no fates."""
    return None if any(t.candidate_fates is None for t in temperatures) else total_fates(temperatures)


def _bounds(acceptance: float, decorrelated: float, confidence: float) -> tuple[float, float]:
    return lower_bound(acceptance, decorrelated, confidence), upper_bound(acceptance, decorrelated, confidence)


def pooled(records: Sequence[IterationRecord]) -> tuple[TemperatureRecord, ...]:
    """Several iterations taken together: one record per state point, system after system, coldest first."""
    systems = list(dict.fromkeys(t.system for record in records for t in record.temperatures))
    points = {t.point for record in records for t in record.temperatures}
    pooled_records = []
    for point in sorted(points, key=lambda p: (systems.index(p.system), p.temperature_kelvin)):
        here = [t for record in records for t in record.temperatures if t.point == point]
        pooled_records.append(
            TemperatureRecord(
                system=point.system,
                temperature_kelvin=point.temperature_kelvin,
                counts=total_counts(t.counts for t in here),
                decorrelated=decorrelated_over(here),
                replicas=sum(t.replicas for t in here),
                stopped=sum(t.stopped for t in here),
                candidate_fates=_fates_if_stored(here),
                saturated=sum(t.saturated for t in here),
            )
        )
    return tuple(pooled_records)


def decorrelated_over(strata: Sequence[TemperatureRecord]) -> float:
    """Decorrelated frames of several strata (temperatures, iterations) taken together.

    The result is the number of frames divided by a weighted mean of the strata's statistical inefficiencies. The weight
    of a stratum is its number of candidates plus its share of all frames, as if one more candidate were spread over all
    frames. The plain sum of decorrelated frames would overstate the evidence: candidates come from the strata with the
    largest inefficiency, and bounds from that sum miss the true acceptance in 15 % of cases instead of 5 %.
    """
    strata = [s for s in strata if s.counts.sampled]
    if any(s.decorrelated <= 0 for s in strata):
        return 0.0
    sampled = sum(s.counts.sampled for s in strata)
    candidates = sum(s.counts.candidate for s in strata)
    inefficiency = sum(
        (s.counts.candidate + s.counts.sampled / sampled) / (candidates + 1) * s.counts.sampled / s.decorrelated
        for s in strata
    )
    return sampled / inefficiency if strata else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """The frames of one trajectory at one state point, in order of time.

    Attributes:
        deviation: Force deviations, eV/Å, shape (n,).
        fates: Fates of the frames, shape (n,).
    """

    deviation: FloatArray
    fates: NDArray[np.integer]


def temperature_record(
    point: StatePoint,
    trajectories: Sequence[Trajectory],
    *,
    replicas: int,
    stopped: int,
    saturated: int = 0,
    lower: float,
    limit: float = 0.0,
    stride_ps: float,
) -> TemperatureRecord:
    """Summarise the trajectories at one state point, of one iteration or of several that are judged together.

    Args:
        point: The state point.
        trajectories: The trajectories; a trajectory that goes on in the next iteration is one trajectory.
        replicas: Trajectories started.
        stopped: Trajectories stopped before their end, because they broke a limit.
        saturated: Trajectories that were ended after many candidates in a row.
        lower: Lower end of the window, eV/Å.
        limit: Limit of the acceptance, see `decorrelated_frames`.
        stride_ps: Time between two frames, ps.
    """
    started = [trajectory for trajectory in trajectories if len(trajectory.fates)]
    deviation = [trajectory.deviation for trajectory in started]
    candidate = [np.isin(trajectory.fates, CANDIDATE_FATES) for trajectory in started]
    fates = np.concatenate([trajectory.fates for trajectory in started] or [np.empty(0, dtype=np.int8)])
    with np.errstate(divide="ignore", invalid="ignore"):
        r_hat = split_r_hat([np.log(series[np.isfinite(series)]) for series in deviation])
    return TemperatureRecord(
        system=point.system,
        temperature_kelvin=point.temperature_kelvin,
        counts=count(fates),
        decorrelated=decorrelated_frames(deviation, candidate, lower=lower, limit=limit),
        replicas=replicas,
        stopped=stopped,
        seen=TrajectoryEvidence(
            trajectories=len(started),
            with_candidate=sum(bool(series.any()) for series in candidate),
            picoseconds=stride_ps * len(fates) / max(len(started), 1),
            r_hat=r_hat if math.isfinite(r_hat) else None,
        ),
        candidate_fates=count_candidates(fates),
        saturated=saturated,
    )
