"""The verdict: why a campaign stopped, with one sentence of evidence. Pure functions of the finished iterations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from al_engine.config import SamplingConfig, StopConfig
from al_engine.records import IterationRecord
from al_engine.statistics import frames_needed, upper_bound

UNSTABLE_SHARE = 0.5  # most frames rejected, or most trajectories stopped
MIN_LABELS_FOR_FAILURE = 5  # one failure among two labels is no evidence of a broken set-up
NEAR_CONVERGENCE = 4.0  # times the acceptance to stop at: from here on the sampling gathers evidence
EVIDENCE_MARGIN = 1.25  # the correlation time of the next iteration is not known, only the last one's
LONGEST_EXTENSION = 8  # times `sampling.steps`


class VerdictKind(StrEnum):
    """Why a campaign stopped."""

    CONVERGED = "converged"
    MAX_ITERATIONS = "max_iterations"
    STALLED = "stalled"
    UNSTABLE = "unstable"
    BUDGET = "budget"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a campaign stopped, and the evidence in one sentence."""

    kind: VerdictKind
    evidence: str


def missing_evidence(record: IterationRecord, stop: StopConfig) -> list[str]:
    """What keeps an iteration with low acceptance from counting as converged; empty: nothing."""
    counts = record.counts
    missing = []
    if counts.rejected_share > stop.max_rejected_share:
        missing.append(f"{counts.rejected_share:.2%} of the frames rejected")
    needed = frames_needed(stop.acceptance, stop.confidence)
    if record.decorrelated < needed:
        missing.append(f"{record.decorrelated:.0f} decorrelated frames of the {needed} needed")
    stopped = [f"{t.stopped} of {t.replicas} at {t.temperature_kelvin:g} K" for t in record.temperatures if t.stopped]
    if stopped:
        missing.append("trajectories stopped early: " + ", ".join(stopped))
    return missing


def judge(history: Sequence[IterationRecord], stop: StopConfig, *, max_failed_share: float) -> Verdict | None:
    """The verdict after the iterations so far, or None to go on.

    Args:
        history: Finished iterations, oldest first.
        stop: The rules.
        max_failed_share: Share of failed labels in one iteration that stops the campaign.
    """
    if not history:
        return None
    record = history[-1]
    attempts = record.labelled + record.label_failures
    if attempts >= MIN_LABELS_FOR_FAILURE and record.label_failures > max_failed_share * attempts:
        return Verdict(
            VerdictKind.FAILED,
            f"{record.label_failures} of {attempts} labels failed in iteration {record.iteration}, more than the "
            f"{max_failed_share:.0%} allowed; the reasons stand in its label parts",
        )
    for rule in (_converged, _unstable, _budget, _stalled, _max_iterations):
        verdict = rule(history, stop)
        if verdict is not None:
            return verdict
    return None


def _converged(history: Sequence[IterationRecord], stop: StopConfig) -> Verdict | None:
    record, counts = history[-1], history[-1].counts
    if not counts.sampled or counts.acceptance >= stop.acceptance or missing_evidence(record, stop):
        return None
    bound = upper_bound(counts.acceptance, record.decorrelated, stop.confidence)
    worst = record.worst_temperature
    return Verdict(
        VerdictKind.CONVERGED,
        f"{counts.candidate} of {counts.sampled} frames ({counts.acceptance:.2%}) were candidates in iteration "
        f"{record.iteration}, below {stop.acceptance:.2%}; {record.decorrelated:.0f} decorrelated frames "
        f"({stop.confidence:.0%} bound {bound:.2%}), {counts.rejected} rejected, no trajectory stopped; worst at "
        f"{worst.temperature_kelvin:g} K ({worst.counts.acceptance:.2%})",
    )


def _unstable(history: Sequence[IterationRecord], stop: StopConfig) -> Verdict | None:
    recent = history[-stop.unstable_iterations :]
    broken = [max(r.counts.rejected_share, r.stopped_share) > UNSTABLE_SHARE for r in recent]
    if len(recent) < stop.unstable_iterations or not all(broken):
        return None
    last = recent[-1]
    return Verdict(
        VerdictKind.UNSTABLE,
        f"in each of the last {len(recent)} iterations most of the MD was not trusted; in the last one "
        f"{last.counts.rejected_share:.0%} of the frames were rejected and {last.stopped_share:.0%} of the "
        "trajectories stopped early. More initial frames, lower temperatures or more training may help",
    )


def _budget(history: Sequence[IterationRecord], stop: StopConfig) -> Verdict | None:
    spent = sum(record.labelled + record.label_failures for record in history)
    if stop.max_labels is None or spent < stop.max_labels:
        return None
    return Verdict(VerdictKind.BUDGET, f"{spent} labels were computed, stop.max_labels is {stop.max_labels}")


def _stalled(history: Sequence[IterationRecord], stop: StopConfig) -> Verdict | None:
    recent, before = history[-stop.stall_iterations :], history[: -stop.stall_iterations]
    if not before:
        return None
    # Low acceptance that lacks evidence is not a stall: the sampling grows until the evidence is there.
    if any(r.counts.acceptance < stop.acceptance for r in recent):
        return None
    if all(r.labelled == 0 for r in recent):
        return Verdict(VerdictKind.STALLED, f"no new label in the last {len(recent)} iterations")
    best_before = min(r.counts.acceptance for r in before)
    best_recent = min(r.counts.acceptance for r in recent)
    if best_recent < best_before:
        return None
    return Verdict(
        VerdictKind.STALLED,
        f"the acceptance has not fallen in the last {len(recent)} iterations "
        f"(best {best_recent:.2%}, before {best_before:.2%})",
    )


def _max_iterations(history: Sequence[IterationRecord], stop: StopConfig) -> Verdict | None:
    if len(history) < stop.max_iterations:
        return None
    record = history[-1]
    acceptance = record.counts.acceptance
    if acceptance >= stop.acceptance:
        reason = f"not below {stop.acceptance:.2%}"
    else:
        reason = f"below {stop.acceptance:.2%}, but not to be believed: {'; '.join(missing_evidence(record, stop))}"
    return Verdict(
        VerdictKind.MAX_ITERATIONS,
        f"stopped at the limit (stop.max_iterations: {stop.max_iterations}) with an acceptance of {acceptance:.2%}, "
        f"{reason}; raise it and resume to go on",
    )


def sampling_steps(history: Sequence[IterationRecord], sampling: SamplingConfig, stop: StopConfig) -> int:
    """MD steps of the next iteration: near convergence, as many as its evidence takes.

    While the acceptance is far above the threshold, `sampling.steps` find enough to learn. Once it comes near, the
    trajectories are made long enough for the decorrelated frames that the verdict needs, by the last iteration's rate.
    """
    if not history or history[-1].counts.acceptance >= NEAR_CONVERGENCE * stop.acceptance:
        return sampling.steps
    before = sampling_steps(history[:-1], sampling, stop)
    needed = EVIDENCE_MARGIN * frames_needed(stop.acceptance, stop.confidence)
    wanted = before * needed / max(history[-1].decorrelated, 1.0)
    strides = math.ceil(min(wanted, LONGEST_EXTENSION * sampling.steps) / sampling.stride_steps)
    return max(sampling.steps, strides * sampling.stride_steps)
