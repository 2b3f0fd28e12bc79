"""Evidence for convergence: whether a low acceptance is significant.

The latest iterations in a row that are not proven to be above the limit are judged together: their trajectories are
joined where they go on, and counted by state point: by temperature, and by system if there are several. Each iteration
has its own committee, so the bounds hold for the mean acceptance of these committees. Requiring a low acceptance in
consecutive iterations guards against a single lucky iteration.

The acceptance must be below the limit at every state point: a bound over all of them would let one stand above it. The
number of decorrelated frames at a state point sees processes slower than a trajectory
(`al_engine.statistics.decorrelated_frames`). How often the rule is wrong is simulated in benchmarks/verdict.py.

All of this rests on the committee's agreement. So the last piece of evidence is an audit: labels on accurate frames
drawn at random (`al_engine.verdict.audit_labels`). The frames of a failed audit are training data, and the iterations
up to it are not judged again.
"""

from collections.abc import Sequence
from itertools import takewhile

from al_engine.config import SelectionConfig, StatePoint, StopConfig
from al_engine.statistics import frames_needed
from al_engine.verdict.records import IterationRecord, TemperatureRecord, pooled
from al_engine.verdict.unlabelable import without_label

UNSTABLE_SHARE = 0.5
"""Share of frames rejected, or of trajectories stopped, above which most of the MD at a temperature is lost."""
MOST_JUDGED = 10
"""Most iterations that are judged together."""


def judged_together(
    history: Sequence[IterationRecord], stop: StopConfig, *, coming: int = 0
) -> Sequence[IterationRecord]:
    """The iterations that are judged together: the latest in a row that are not proven to be above the limit.

    An iteration is proven to be above the limit if it is so at some temperature; its committee was another one. An
    iteration is not left out because its acceptance happens to be above the limit: leaving it out would bias the
    acceptance of those that are judged. An iteration with a saturated trajectory ends the row, and so does a failed
    audit of an earlier iteration: that iteration and those before it are not judged. The row has at least
    `stop.iterations` iterations, and at most `MOST_JUDGED`.

    Once there are more than `stop.iterations` iterations, iteration 0 is left out, unless `stop.judge_first` is set.
    This is decided before its acceptance is known, and so does not bias the acceptance of the others.

    Args:
        history: Finished iterations, oldest first.
        stop: The rules.
        coming: Number of iterations that will be judged together with these, but are not finished.
    """
    counted = after_failed_audits(history)
    if not stop.judge_first and counted and counted[0].iteration == 0 and len(counted) + coming > stop.iterations:
        counted = counted[1:]
    possible = takewhile(lambda record: not _unfit(record, stop), reversed(counted))
    return counted[-max(min(len(list(possible)), MOST_JUDGED), stop.iterations) :]


def proven_above(temperatures: Sequence[TemperatureRecord], stop: StopConfig) -> set[StatePoint]:
    """The state points at which the lower bound on the acceptance is above the limit."""
    return {t.point for t in temperatures if t.bounds(stop.confidence)[0] > stop.acceptance}


def all_fit(records: Sequence[IterationRecord], stop: StopConfig) -> bool:
    """Whether each of these iterations can be evidence."""
    return not any(_unfit(record, stop) for record in records)


def _unfit(record: IterationRecord, stop: StopConfig) -> bool:
    """Whether an iteration cannot be evidence: it is proven to be above the limit, or has a saturated trajectory.

    The end of a saturated trajectory hides the candidates that would have followed, so the acceptance is too low.
    """
    return bool(proven_above(record.temperatures, stop)) or any(t.saturated for t in record.temperatures)


def look_confidence(stop: StopConfig) -> float:
    """Confidence of the upper bounds of a single verdict, of which `stop.verdicts` hold together (Bonferroni)."""
    return 1.0 - (1.0 - stop.confidence) / stop.verdicts


def after_failed_audits(history: Sequence[IterationRecord]) -> Sequence[IterationRecord]:
    """The iterations after the last failed audit; an audit of the last iteration is not considered."""
    failed = [index for index, record in enumerate(history[:-1]) if record.failed_audit]
    return history[failed[-1] + 1 :] if failed else history


def missing_evidence(
    history: Sequence[IterationRecord],
    temperatures: Sequence[TemperatureRecord],
    stop: StopConfig,
    selection: SelectionConfig,
) -> list[str]:
    """List what keeps a campaign from counting as converged.

    Args:
        history: Finished iterations, oldest first, at least one.
        temperatures: The iterations of `judged_together`, one record per state point.
        stop: The rules.
        selection: The window that the force field is meant to reach, whose lower end an adaptive window may not have
            reached, and the checks that candidates must pass before they are labelled.

    Returns:
        One phrase with its numbers for each missing piece of evidence; empty if the campaign has converged.
    """
    judged = judged_together(history, stop)
    above = [
        f"acceptance {record.counts.acceptance:.2%} in iteration {record.iteration}"
        for record in history[-stop.iterations :]
        if record.counts.acceptance >= stop.acceptance
    ]
    missing = [
        f"no frame at {t.point} in iteration {record.iteration}"
        for record in judged
        for t in record.temperatures
        if not t.counts.sampled
    ]
    counted = len(after_failed_audits(history))
    if counted < stop.iterations:
        missing.append(f"{counted} of {stop.iterations} iterations in a row")
    unproven = [] if above else [text for t in temperatures if (text := _unproven(t, stop))]
    unlabelable = without_label(temperatures, selection) if above or unproven else ""
    found = [
        *above,
        *missing,
        *unproven,
        *([unlabelable] if unlabelable else []),
        *_untrusted(pooled(judged[-stop.iterations :]), judged[-1], stop),
        *_blind(judged, selection.lower_mev_per_ang),
    ]
    return found or _unaudited(judged[-1], stop)


def _unaudited(record: IterationRecord, stop: StopConfig) -> list[str]:
    """What is missing of the audit, which is made when no other evidence is missing."""
    if record.audit is not None:
        return record.audit.shortcomings()
    return [f"no audit labels of iteration {record.iteration}"] if stop.audit_labels else []


def _unproven(t: TemperatureRecord, stop: StopConfig) -> str:
    """Why the acceptance at a temperature is not proven to be below the limit; empty if it is."""
    acceptance = t.counts.acceptance
    confidence = look_confidence(stop)
    bound = t.bounds(confidence)[1]
    if bound < stop.acceptance:
        return ""
    if acceptance >= stop.acceptance:
        return f"acceptance {acceptance:.2%} at {t.point}"
    needed = frames_needed(stop.acceptance, confidence, seen=acceptance)
    return (
        f"{100 * confidence:.4g}% bound {bound:.2%} at {t.point} on {acceptance:.2%} of {t.decorrelated:.0f} "
        f"decorrelated frames, of about {needed} needed"
    )


def _untrusted(temperatures: Sequence[TemperatureRecord], last: IterationRecord, stop: StopConfig) -> list[str]:
    """Temperatures with too many rejected frames or stopped trajectories, and a committee that has collapsed."""
    rejected = [
        f"{t.counts.rejected_share:.2%} of the frames rejected at {t.point}"
        for t in temperatures
        if t.counts.rejected_share > stop.max_rejected_share
    ]
    stopped = [
        f"{t.stopped} of {t.replicas} trajectories stopped at {t.point}"
        for t in temperatures
        if t.stopped_share > stop.max_stopped_share
    ]
    saturated = [
        f"{t.saturated} of {t.replicas} trajectories ended at {t.point} after many candidates in a row"
        for t in temperatures
        if t.saturated
    ]
    collapsed = last.health is not None and last.health.collapsed
    return [
        *rejected,
        *stopped,
        *saturated,
        *(["a collapsed committee, whose agreement proves nothing"] if collapsed else []),
    ]


def _blind(judged: Sequence[IterationRecord], lower_mev_per_ang: float) -> list[str]:
    """Say so if a window had a higher lower end than the force field is meant to reach."""
    highest = max((r.window.lower_mev_per_ang for r in judged if r.window is not None), default=0.0)
    if highest <= lower_mev_per_ang:
        return []
    return [f"the lower end of the window is {highest:.0f} meV/Å, above the target of {lower_mev_per_ang:g} meV/Å"]


def is_exploding(record: TemperatureRecord, stop: StopConfig) -> bool:
    """Whether trajectories at a temperature leave the trusted region, or jump over the window instead of crossing it.

    That is so if most of the MD is lost (`UNSTABLE_SHARE`), or if the lost frames outnumber both the candidates and the
    frames that `stop.max_rejected_share` allows to be rejected.
    """
    allowed = stop.max_rejected_share * record.counts.sampled
    return record.lost_share > UNSTABLE_SHARE or record.lost > max(record.counts.candidate, allowed)
