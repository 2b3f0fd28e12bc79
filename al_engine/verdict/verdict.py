"""The verdict: why a campaign stopped, with one sentence of evidence.

The verdict depends on the records of the finished iterations and on the config alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from al_engine.config import SelectionConfig, StopConfig
from al_engine.selection.fates import Counts
from al_engine.statistics import upper_bound
from al_engine.verdict.evidence import (
    UNSTABLE_SHARE,
    is_exploding,
    judged_together,
    look_confidence,
    missing_evidence,
)
from al_engine.verdict.records import IterationRecord, TemperatureRecord, pooled, total_counts
from al_engine.verdict.unlabelable import without_label

HEALING = 0.9
"""Ratio of the lost share in the last to that in the first of `stop.unstable_iterations` iterations. At or below it the
MD is recovering, and the campaign goes on."""
MIN_LABELS_FOR_FAILURE = 5
"""Fewest labels tried in an iteration for the verdict `failed`: one failure among two labels proves nothing."""


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


def judge(
    history: Sequence[IterationRecord],
    stop: StopConfig,
    *,
    selection: SelectionConfig,
    max_failed_share: float,
    temperatures: Sequence[TemperatureRecord] | None = None,
    trajectory_frames: int | None = None,
) -> Verdict | None:
    """The verdict after the iterations so far; None if the campaign goes on.

    Args:
        history: Finished iterations, oldest first.
        stop: The rules.
        selection: The window and the checks of the selection (`missing_evidence`).
        temperatures: The iterations of `judged_together` with their trajectories joined, one record per temperature;
            None: counted as if no trajectory went on in the next iteration.
        max_failed_share: Share of failed labels in one iteration above which the campaign stops as `failed`.
        trajectory_frames: Sampled frames of a trajectory of `sampling.steps` (`missing_evidence`).
    """
    if not history:
        return None
    failed = _failed(history[-1], max_failed_share) or _failed_audit(history[-1], max_failed_share)
    if failed is not None:
        return failed
    judged = judged_together(history, stop)
    temperatures = pooled(judged) if temperatures is None else temperatures
    missing = missing_evidence(history, temperatures, stop, selection, trajectory_frames=trajectory_frames)
    if not missing:
        return Verdict(VerdictKind.CONVERGED, _proof(judged, temperatures, stop))
    unstable = _unstable(history, stop, trajectory_frames)
    if unstable is not None:
        return unstable
    ended = (
        _budget(history, stop, selection)
        or _stalled(history, stop, selection, trajectory_frames)
        or _max_iterations(history, stop, missing)
    )
    if ended is None:
        return None
    return _exploded(history[-1], stop, ended, trajectory_frames) or ended


def awaits_audit(
    history: Sequence[IterationRecord],
    stop: StopConfig,
    *,
    selection: SelectionConfig,
    max_failed_share: float,
    temperatures: Sequence[TemperatureRecord] | None = None,
    trajectory_frames: int | None = None,
) -> bool:
    """Whether nothing but an audit of the last iteration is missing for `converged`; arguments as in `judge`."""
    if not (history and stop.audit_labels and history[-1].audit is None):
        return False
    verdict = judge(
        history,
        stop.model_copy(update={"audit_labels": 0}),
        selection=selection,
        max_failed_share=max_failed_share,
        temperatures=temperatures,
        trajectory_frames=trajectory_frames,
    )
    return verdict is not None and verdict.kind is VerdictKind.CONVERGED


def _failed(record: IterationRecord, max_failed_share: float) -> Verdict | None:
    """`failed` if too many of an iteration's labels failed."""
    attempts, failures = record.labelled + record.label_failures, record.label_failures
    where = f"in iteration {record.iteration}"
    return _failed_labels(failures, attempts, record.failure_words, where, max_failed_share)


def _failed_audit(record: IterationRecord, max_failed_share: float) -> Verdict | None:
    """`failed` if too many of the audit labels failed."""
    audit = record.audit
    if audit is None:
        return None
    attempts, where = audit.overall.labelled + audit.label_failures, f"in the audit of iteration {audit.iteration}"
    return _failed_labels(audit.label_failures, attempts, audit.failure_words, where, max_failed_share)


def _failed_labels(failures: int, attempts: int, words: str, where: str, max_failed_share: float) -> Verdict | None:
    if attempts < MIN_LABELS_FOR_FAILURE or failures <= max_failed_share * attempts:
        return None
    return Verdict(
        VerdictKind.FAILED,
        f"{failures} of {attempts} labels failed {where}, more than the {max_failed_share:.0%} allowed, "
        f"{words or 'for the reasons stored in its label parts'}; once the cause is removed, `al-engine resume DIR "
        "--retry-failed-labels` computes these labels again and continues",
    )


def _proof(judged: Sequence[IterationRecord], temperatures: Sequence[TemperatureRecord], stop: StopConfig) -> str:
    """The evidence for convergence in a few sentences."""
    counts = total_counts(t.counts for t in temperatures)
    confidence = look_confidence(stop)
    worst = max(temperatures, key=lambda t: t.bounds(confidence)[1])
    stopped = sum(t.stopped for t in temperatures)
    systems = " of every system" if worst.system else ""
    rejected = "1 frame" if counts.rejected == 1 else f"{counts.rejected} frames"
    return (
        f"{counts.candidate} of {counts.sampled} frames ({counts.acceptance:.2%}) were candidates in "
        f"{_iterations(judged)}, below {stop.acceptance:.2%}; at every temperature{systems} the acceptance is below "
        f"{worst.bounds(confidence)[1]:.2%} at {100 * confidence:.4g}% confidence: highest at "
        f"{worst.point}, with {worst.counts.candidate} of {worst.counts.sampled} frames, equivalent "
        f"to {worst.decorrelated:.0f} decorrelated frames{_trajectories(worst, stop)}; {rejected} rejected, "
        f"{stopped or 'no'} {'trajectories' if stopped > 1 else 'trajectory'} stopped; {_audited(judged[-1], counts)}"
    )


def _audited(last: IterationRecord, counts: Counts) -> str:
    """The result of the audit; the words say so if there was none."""
    if last.audit is None:
        return "no accurate frame was audited (stop.audit_labels: 0)"
    return last.audit.statement(counts.accurate / counts.sampled)


def _trajectories(t: TemperatureRecord, stop: StopConfig) -> str:
    """How many trajectories were seen at a temperature, how long, and how many hold a candidate."""
    if t.seen is None:
        return ""
    seen = t.seen
    bound = upper_bound(seen.with_candidate / seen.trajectories, seen.trajectories, stop.confidence)
    r_hat = "" if seen.r_hat is None else f", split R-hat {seen.r_hat:.2f}"
    return (
        f", in {seen.trajectories} trajectories of {seen.picoseconds:.3g} ps ({seen.with_candidate} of them with a "
        f"candidate, below {bound:.0%}{r_hat}); slower processes than these trajectories may be unseen"
    )


def _iterations(records: Sequence[IterationRecord]) -> str:
    first, last = records[0].iteration, records[-1].iteration
    return f"iteration {last}" if first == last else f"iterations {first} to {last}"


def _unstable(history: Sequence[IterationRecord], stop: StopConfig, trajectory_frames: int | None) -> Verdict | None:
    """`unstable` if most of the MD at some temperature was lost in each recent iteration, without recovery."""
    recent = history[-stop.unstable_iterations :]
    broken = all(_most_lost(r, trajectory_frames).lost_share(trajectory_frames) > UNSTABLE_SHARE for r in recent)
    if len(recent) < stop.unstable_iterations or not broken:
        return None
    first, last = _lost_share(recent[0], trajectory_frames), _lost_share(recent[-1], trajectory_frames)
    if len(recent) > 1 and last <= HEALING * first:
        return None
    return Verdict(
        VerdictKind.UNSTABLE,
        f"in each of the last {len(recent)} iterations most of the MD at some temperature was rejected or stopped, "
        f"without improvement; {_loss(_most_lost(recent[-1], trajectory_frames))} in the last iteration; {_REMEDY}",
    )


_REMEDY = "in a fork (`al-engine fork`), more initial frames, lower temperatures or more training may help"


def _most_lost(record: IterationRecord, trajectory_frames: int | None) -> TemperatureRecord:
    return max(record.temperatures, key=lambda t: t.lost_share(trajectory_frames))


def _lost_share(record: IterationRecord, trajectory_frames: int | None) -> float:
    """Mean lost share over the temperatures; it also falls when the MD recovers at some temperatures only."""
    return sum(t.lost_share(trajectory_frames) for t in record.temperatures) / len(record.temperatures)


def _loss(t: TemperatureRecord) -> str:
    return (
        f"at {t.point} {t.counts.rejected_share:.0%} of {t.counts.sampled} frames were rejected and "
        f"{t.stopped} of {t.replicas} trajectories stopped early"
    )


def _exploded(
    record: IterationRecord, stop: StopConfig, ended: Verdict, trajectory_frames: int | None
) -> Verdict | None:
    """`unstable` in place of another verdict if the MD exploded in the last iteration."""
    exploding = [t for t in record.temperatures if is_exploding(t, stop, trajectory_frames)]
    if not exploding:
        return None
    worst = max(exploding, key=lambda t: t.lost_share(trajectory_frames))
    return Verdict(
        VerdictKind.UNSTABLE,
        f"the MD explodes: {_loss(worst)} in iteration {record.iteration}, and {worst.counts.candidate} frames were "
        f"candidates; {_REMEDY} (otherwise the verdict would be `{ended.kind.value}`)",
    )


def _budget(history: Sequence[IterationRecord], stop: StopConfig, selection: SelectionConfig) -> Verdict | None:
    spent = sum(record.labelled + record.label_failures + _audit_labels(record) for record in history)
    if stop.max_labels is None or spent < stop.max_labels:
        return None
    return Verdict(
        VerdictKind.BUDGET,
        f"{spent} labels were computed, and stop.max_labels is {stop.max_labels}; the acceptance is "
        f"{history[-1].counts.acceptance:.2%}{_without_label(history[-stop.iterations :], selection)}",
    )


def _without_label(records: Sequence[IterationRecord], selection: SelectionConfig) -> str:
    """The last clause of the evidence: candidates that bring no label; empty if there are none."""
    text = without_label([t for record in records for t in record.temperatures], selection)
    return f"; {text}" if text else ""


def _audit_labels(record: IterationRecord) -> int:
    """Number of audit labels of an iteration, failed labels included."""
    return 0 if record.audit is None else record.audit.overall.labelled + record.audit.label_failures


def _stalled(
    history: Sequence[IterationRecord], stop: StopConfig, selection: SelectionConfig, trajectory_frames: int | None
) -> Verdict | None:
    """`stalled` if recent iterations brought no new label, or no progress.

    Progress is a smaller share of frames that are not accurate, or a smaller lower end of the window. The acceptance
    would be a wrong measure: it rises while a campaign recovers from iterations in which most frames were rejected.
    """
    recent, before = history[-stop.stall_iterations :], history[: -stop.stall_iterations]
    if not before:
        return None
    # A low acceptance without enough evidence is not a stall: the trajectories are lengthened until there is enough.
    sound = [r for r in recent if _most_lost(r, trajectory_frames).lost_share(trajectory_frames) <= UNSTABLE_SHARE]
    if any(r.counts.acceptance < stop.acceptance for r in sound):
        return None
    unlabelable = _without_label(recent, selection)
    if all(r.labelled == 0 for r in recent):
        return Verdict(
            VerdictKind.STALLED,
            f"no new label in the last {len(recent)} iterations, at an acceptance of "
            f"{history[-1].counts.acceptance:.2%}{unlabelable}",
        )
    best_before, best_recent = (min(_open_share(r) for r in records) for records in (before, recent))
    lowest_before, lowest_recent = (min(_lower_end(r) for r in records) for records in (before, recent))
    if best_recent < best_before or lowest_recent < lowest_before:
        return None
    return Verdict(
        VerdictKind.STALLED,
        f"the share of frames that are not accurate has not fallen in the last {len(recent)} iterations "
        f"(best {best_recent:.2%}, before {best_before:.2%}); the acceptance is {history[-1].counts.acceptance:.2%}"
        f"{unlabelable}",
    )


def _open_share(record: IterationRecord) -> float:
    counts = record.counts
    return 1.0 - counts.accurate / counts.sampled if counts.sampled else 1.0


def _lower_end(record: IterationRecord) -> float:
    return math.inf if record.window is None else record.window.lower_mev_per_ang


def _max_iterations(history: Sequence[IterationRecord], stop: StopConfig, missing: Sequence[str]) -> Verdict | None:
    if len(history) < stop.max_iterations:
        return None
    return Verdict(
        VerdictKind.MAX_ITERATIONS,
        f"stopped at the limit (stop.max_iterations: {stop.max_iterations}; raise it and resume to go on) at an "
        f"acceptance of {history[-1].counts.acceptance:.2%}, which is not converged because of: {'; '.join(missing)}",
    )
