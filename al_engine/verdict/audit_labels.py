"""The audit: true errors on accurate frames drawn at random test whether these frames are as accurate as claimed.

The committee's agreement decides which frames are accurate, and accurate frames are not labelled otherwise. So before
a campaign counts as converged, some accurate frames of the judged iterations are labelled. At a state point, each
accurate frame is as likely to be drawn as any other. The same number of frames is drawn at every state point, so that
statements over all state points give each of them the same weight.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from al_engine.config import StatePoint
from al_engine.statistics import lower_bound, quantile_bound, upper_bound
from al_engine.structures.frames import FloatArray, IntArray
from al_engine.units import MEV_PER_EV

QUANTILE = 0.95
"""Share of the accurate frames to which the claim of an audit refers: it states an error that this share does not
exceed."""


@dataclass(frozen=True, slots=True)
class AuditedFrames:
    """True errors of the audited frames of one state point, or of all state points.

    The error of a frame is the force error of the committee's mean on its worst atom, max_i |F_i - F_i(label)|.

    Attributes:
        temperature_kelvin: The temperature; None: all state points.
        labelled: Number of audited frames with a label.
        bad: Number of labelled frames with an error that is above the lower end of the window, or not finite.
        quantile_mev_per_ang: Smallest error that a share of `QUANTILE` of the audited frames does not exceed; None if
            it is not finite, or if no frame is labelled.
        bound_mev_per_ang: Upper confidence bound on this quantile; None if there are too few audited frames, or if it
            is not finite.
        largest_mev_per_ang: Largest error of a label; None if it is not finite, or if no frame is labelled.
        system: Name of the system; empty in a campaign of one system.
        failed: Number of audited frames whose label failed. Such a frame counts as a frame with an infinite error: the
            reference method fails above all on structures that the models may have wrong.
    """

    temperature_kelvin: float | None
    labelled: int
    bad: int
    quantile_mev_per_ang: float | None
    bound_mev_per_ang: float | None
    largest_mev_per_ang: float | None
    system: str = ""
    failed: int = 0

    @property
    def where(self) -> str:
        """The state point in words, or "all" for all state points."""
        return "all" if self.temperature_kelvin is None else str(StatePoint(self.system, self.temperature_kelvin))

    @property
    def bad_share(self) -> float:
        """Share of the audited frames that are bad or have no label; 0 if no frame is audited."""
        audited = self.labelled + self.failed
        return (self.bad + self.failed) / audited if audited else 0.0

    def share_bounds(self, confidence: float) -> tuple[float, float]:
        """One-sided lower and upper bound on the share of accurate frames that are bad."""
        audited = self.labelled + self.failed
        return (
            lower_bound(self.bad_share, audited, confidence),
            upper_bound(self.bad_share, audited, confidence),
        )


@dataclass(frozen=True, slots=True)
class AuditResult:
    """Result of an audit of the committee of one iteration.

    Attributes:
        iteration: The iteration whose committee was audited.
        iterations: The iterations that were judged together; the audited frames were drawn from their accurate frames.
        requested: Number of frames that the audit asked for (`stop.audit_labels`).
        reference: Name of the method of the labels.
        cut: Whether clusters cut from the frames were labelled. Only the atoms that stand for the box are then
            compared (`Cutting.interior`).
        lower_mev_per_ang: Lower end of the window, meV/Å. A frame with an error above it is bad.
        max_bad_share: Largest share of bad frames with which the audit is passed (`stop.audit_bad_share`).
        confidence: Confidence of all bounds (`stop.confidence`).
        temperatures: The audited frames of each state point.
        overall: The audited frames of all state points together.
        label_failures: Number of drawn frames whose label failed.
        failure_words: Most frequent reason and message of the failed labels; empty if no label failed.
    """

    iteration: int
    iterations: tuple[int, ...]
    requested: int
    reference: str
    cut: bool
    lower_mev_per_ang: float
    max_bad_share: float
    confidence: float
    temperatures: tuple[AuditedFrames, ...]
    overall: AuditedFrames
    label_failures: int
    failure_words: str

    @property
    def passed(self) -> bool:
        """Whether the claim of the window stands.

        It stands if the share of bad frames over all state points is at most `max_bad_share`. At a single state point
        few frames are audited, so only the lower confidence bound on the share of bad frames must be at most
        `max_bad_share`. Frames whose label failed count as bad. The claim does not stand if no frame is labelled.
        """
        return self.overall.labelled > 0 and self.overall.bad_share <= self.max_bad_share and not self._bad_temperatures

    @property
    def joins(self) -> bool:
        """Whether the audited frames join the training data: they do if the audit failed."""
        return not self.passed

    @property
    def _bad_temperatures(self) -> list[AuditedFrames]:
        """State points at which the lower confidence bound on the share of bad frames is above `max_bad_share`."""
        return [t for t in self.temperatures if t.share_bounds(self.confidence)[0] > self.max_bad_share]

    def shortcomings(self) -> list[str]:
        """Why the audit is not passed, one phrase for each reason; empty if it is passed."""
        if not self.overall.labelled:
            return [f"no accurate frame of iteration {self.iteration} was labelled for its audit{self._failures()}"]
        if self.passed:
            return []
        above = f"a true force error above {self.lower_mev_per_ang:.0f} meV/Å on the worst atom"
        if self.overall.bad_share > self.max_bad_share:
            found = [f"{_ratio(self.overall)} audited accurate frames"]
        else:
            found = [f"{_ratio(t)} audited accurate frames at {t.where}" for t in self._bad_temperatures]
        return [
            f"{frames} of iteration {self.iteration} with {above}, where {self.max_bad_share:.2%} may have it"
            f"{self._failures()}"
            for frames in found
        ]

    def claim(self, accurate_share: float | None = None) -> str:
        """What the audit says of the force field, in one clause: the error that most accurate frames do not exceed.

        Args:
            accurate_share: Share of the accurate frames among all sampled frames; None: the clause does not mention it.
        """
        share = "" if accurate_share is None else f" ({accurate_share:.2%} of all frames)"
        where = "the atoms that stand for the box" if self.cut else "every atom"
        of_all = f"{QUANTILE:.0%} of the accurate frames from this dynamics{share}"
        bound, quantile = self.overall.bound_mev_per_ang, self.overall.quantile_mev_per_ang
        if bound is not None:
            held = f"at {self.confidence:.0%} confidence, {of_all} have forces within {bound:.0f} meV/Å"
        elif quantile is not None:
            held = f"{of_all} have forces within about {quantile:.0f} meV/Å (too few labels for a bound)"
        else:
            return f"the errors of {of_all} are not known: an error is not finite"
        return f"{held} of {self.reference} on {where}"

    def statement(self, accurate_share: float | None = None) -> str:
        """The result in one sentence: the share of bad frames, each state point, the claim, failed labels.

        Args:
            accurate_share: As in `claim`.
        """
        if not self.overall.labelled:
            return self.shortcomings()[0]
        by_temperature = "; ".join(
            f"{t.where}: {_ratio(t)} above it, largest {_number(t.largest_mev_per_ang)} meV/Å"
            for t in self.temperatures
        )
        return (
            f"{_ratio(self.overall)} accurate frames that were drawn at random and labelled have a true force error "
            f"above {self.lower_mev_per_ang:.0f} meV/Å on the worst atom ({by_temperature}); "
            f"{self.claim(accurate_share)}{self._failures()}"
        )

    def _failures(self) -> str:
        """The number of failed labels and their most frequent reason, as a clause; empty if no label failed."""
        if not self.label_failures:
            return ""
        counted = "which count as above it, " if self.overall.failed else ""
        return f"; {self.label_failures} audit labels failed, {counted}{self.failure_words}"

    def summary(self) -> dict[str, Any]:
        """The result as JSON-able values for `status --json`."""
        return {**asdict(self), "passed": self.passed, "statement": self.statement()}

    def to_json(self) -> str:
        """The result as JSON.

        In a campaign of one system, the name of the system is left out, and so is a number of zero failed labels, so
        that the JSON is equal to that of earlier versions.
        """
        values = _PARSER.dump_python(self, mode="json")
        for frames in (*values["temperatures"], values["overall"]):
            for name in ("system", "failed"):
                if not frames[name]:
                    del frames[name]
        return json.dumps(values, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "AuditResult":
        """The inverse of `to_json`."""
        return _PARSER.validate_json(text)


_PARSER = TypeAdapter(AuditResult)


def _ratio(frames: AuditedFrames) -> str:
    """The number of bad frames and the number of labelled frames, in words."""
    return f"{frames.bad} of {frames.labelled}"


def _number(value: float | None) -> str:
    """A number in words; a dash if it is not known or not finite."""
    return "-" if value is None else f"{value:.0f}"


def drawn(accurate: Sequence[int], frames: int, rng: np.random.Generator) -> list[IntArray]:
    """Draw the frames of an audit.

    Args:
        accurate: Number of accurate frames at each state point.
        frames: Number of frames to draw; rounded up to the same number at every state point.
        rng: Source of randomness.

    Returns:
        For each state point, the indices of the drawn frames among its accurate frames, ascending. A state point with
        too few accurate frames gives all of them.
    """
    per_point = math.ceil(frames / len(accurate))
    return [np.sort(rng.choice(number, size=min(per_point, number), replace=False)) for number in accurate]


def audited_frames(
    error: FloatArray, *, lower: float, confidence: float, failed: int = 0, point: StatePoint | None = None
) -> AuditedFrames:
    """Summarise the errors of audited frames.

    Args:
        error: Force error on the worst atom of each labelled frame, eV/Å, shape (F,). A value that is not finite is an
            error larger than all others.
        lower: Lower end of the window, eV/Å.
        confidence: Confidence of the bound.
        failed: Number of frames whose label failed.
        point: State point of the frames; None: they are the frames of all state points.
    """
    error = np.where(np.isfinite(error), error, np.inf)
    audited = np.concatenate([error, np.full(failed, np.inf)])
    # Number of frames that must not exceed the quantile; rounding may make the product slightly larger than an integer.
    within = math.ceil(QUANTILE * len(audited) - 1e-9)
    quantile = float(np.sort(audited)[within - 1]) if len(error) else math.inf
    bound = quantile_bound(audited, QUANTILE, confidence)
    return AuditedFrames(
        system="" if point is None else point.system,
        temperature_kelvin=None if point is None else point.temperature_kelvin,
        labelled=len(error),
        bad=int(np.sum(error > lower)),
        quantile_mev_per_ang=_finite_mev(quantile),
        bound_mev_per_ang=None if bound is None else _finite_mev(bound),
        largest_mev_per_ang=_finite_mev(float(error.max(initial=0.0))) if len(error) else None,
        failed=failed,
    )


def _finite_mev(value: float) -> float | None:
    """A value in eV as meV; None if it is not finite."""
    return MEV_PER_EV * value if math.isfinite(value) else None
