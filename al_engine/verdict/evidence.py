"""Evidence for convergence: whether a low acceptance is significant.

The latest iterations in a row whose acceptance is not proven to be above the limit are judged together
(`judged_together`). Their trajectories are joined where they go on in the next iteration, and are counted for each
state point. Each iteration has its own committee, so the bounds hold for the mean acceptance of these committees.
Requiring a low acceptance in consecutive iterations guards against a single lucky iteration.

The acceptance must be below the limit at every state point; a bound over all state points together would tolerate an
acceptance above the limit at one of them. Processes slower than a trajectory lower the number of decorrelated frames at
a state point (`al_engine.statistics.decorrelated_frames`). How often the rule is wrong is simulated in
benchmarks/verdict.py.

The acceptance shows the agreement of the committee, not its error. So the last piece of evidence is an audit: labels on
accurate frames drawn at random (`al_engine.verdict.audit_labels`). If an audit fails, its frames become training data,
and the iterations up to this audit are not judged again.
"""

from collections.abc import Sequence
from itertools import takewhile

from al_engine.config import SelectionConfig, StatePoint, StopConfig
from al_engine.statistics import frames_needed
from al_engine.verdict.records import IterationRecord, TemperatureRecord, pooled
from al_engine.verdict.unlabelable import without_label

UNSTABLE_SHARE = 0.5
"""Share of frames rejected, or of trajectories stopped, above which most of the MD at a state point is lost."""
MOST_JUDGED = 10
"""Largest number of iterations that are judged together, unless `stop.iterations` is larger."""


def judged_together(
    history: Sequence[IterationRecord], stop: StopConfig, *, coming: int = 0
) -> Sequence[IterationRecord]:
    """Choose the iterations that are judged together: the latest iterations in a row that can be evidence.

    The row ends at an iteration that can't be evidence (`_unfit`): its acceptance is proven to be above the limit at
    some state point, or it has a saturated trajectory. It also ends at an earlier iteration with a failed audit. The
    iteration at which the row ends and all iterations before it are not judged. But an iteration is judged if its
    acceptance is above the limit without proof: to leave it out would bias the acceptance of the judged iterations.

    The row has at most `MOST_JUDGED` iterations. The latest `stop.iterations` iterations after the last failed audit
    are judged in any case, even if they can't be evidence.

    Once there are more than `stop.iterations` iterations, iteration 0 is left out, unless `stop.judge_first` is set.
    This rule does not look at its acceptance, and so does not bias the acceptance of the judged iterations.

    Args:
        history: Finished iterations, oldest first.
        stop: The rules.
        coming: Number of iterations that are not finished, but will be judged together with the finished iterations.

    Returns:
        The judged iterations, oldest first.
    """
    counted = after_failed_audits(history)
    if not stop.judge_first and counted and counted[0].iteration == 0 and len(counted) + coming > stop.iterations:
        counted = counted[1:]
    fit_in_a_row = len(list(takewhile(lambda record: not _unfit(record, stop), reversed(counted))))
    judged = max(min(fit_in_a_row, MOST_JUDGED - coming), stop.iterations)
    return counted[-judged:]


def proven_above(temperatures: Sequence[TemperatureRecord], stop: StopConfig) -> set[StatePoint]:
    """The state points at which the lower bound on the acceptance is above the limit."""
    return {t.point for t in temperatures if t.bounds(stop.confidence)[0] > stop.acceptance}


def all_fit(records: Sequence[IterationRecord], stop: StopConfig) -> bool:
    """Whether each of these iterations can be evidence."""
    return not any(_unfit(record, stop) for record in records)


def _unfit(record: IterationRecord, stop: StopConfig) -> bool:
    """Whether an iteration cannot be evidence.

    That is so if its acceptance is proven to be above the limit at some state point, or if it has a saturated
    trajectory. A saturated trajectory was ended after many candidates in a row; without the candidates that would have
    followed, the acceptance is too low.
    """
    return bool(proven_above(record.temperatures, stop)) or any(t.saturated for t in record.temperatures)


def look_confidence(stop: StopConfig) -> float:
    """Confidence of the upper bounds in a single verdict.

    With it, `stop.verdicts` verdicts hold together at the confidence `stop.confidence` (Bonferroni correction).
    """
    return 1.0 - (1.0 - stop.confidence) / stop.verdicts


def after_failed_audits(history: Sequence[IterationRecord]) -> Sequence[IterationRecord]:
    """The iterations after the last iteration with a failed audit; an audit of the newest iteration does not count."""
    failed = [index for index, record in enumerate(history[:-1]) if record.failed_audit]
    return history[failed[-1] + 1 :] if failed else history


def missing_evidence(
    history: Sequence[IterationRecord],
    temperatures: Sequence[TemperatureRecord],
    stop: StopConfig,
    selection: SelectionConfig,
    *,
    trajectory_frames: int | None = None,
) -> list[str]:
    """List what keeps a campaign from counting as converged.

    Args:
        history: Finished iterations, oldest first, at least one.
        temperatures: The iterations of `judged_together` taken together, one record per state point.
        stop: The rules.
        selection: Settings of the selection. Their lower end is the target of an adaptive window; their checks decide
            which candidates can be labelled.
        trajectory_frames: Sampled frames of a trajectory of `sampling.steps`, by which longer trajectories are counted
            (`_stopped_too_often`); None: every trajectory counts once.

    Returns:
        One phrase with its numbers for each missing piece of evidence; empty if the campaign has converged.
    """
    judged = judged_together(history, stop)
    above_limit = [
        f"acceptance {record.counts.acceptance:.2%} in iteration {record.iteration}"
        for record in history[-stop.iterations :]
        if record.counts.acceptance >= stop.acceptance
    ]
    without_frames = [
        f"no frame at {t.point} in iteration {record.iteration}"
        for record in judged
        for t in record.temperatures
        if not t.counts.sampled
    ]
    counted = len(after_failed_audits(history))
    too_few = [f"{counted} of {stop.iterations} iterations in a row"] if counted < stop.iterations else []
    unproven = [] if above_limit else [text for t in temperatures if (text := _unproven(t, stop))]
    unlabelable = without_label(temperatures, selection) if above_limit or unproven else ""
    missing = [
        *above_limit,
        *without_frames,
        *too_few,
        *unproven,
        *([unlabelable] if unlabelable else []),
        *_untrusted(pooled(judged[-stop.iterations :]), judged[-1], stop, trajectory_frames),
        *_window_above_target(judged, selection.lower_mev_per_ang),
    ]
    return missing or _unaudited(judged[-1], stop)


def _unaudited(record: IterationRecord, stop: StopConfig) -> list[str]:
    """Evidence that is missing from the audit of an iteration; the audit is made when no other evidence is missing."""
    if record.audit is not None:
        return record.audit.shortcomings()
    return [f"no audit labels of iteration {record.iteration}"] if stop.audit_labels else []


def _unproven(t: TemperatureRecord, stop: StopConfig) -> str:
    """Why the acceptance at a state point is not proven to be below the limit; empty if it is proven."""
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


def _untrusted(
    temperatures: Sequence[TemperatureRecord], last: IterationRecord, stop: StopConfig, trajectory_frames: int | None
) -> list[str]:
    """Reasons not to trust the MD or the committee, one phrase each.

    Args:
        temperatures: The latest `stop.iterations` iterations taken together, one record per state point. Too many of
            their frames may be rejected, or too many of their trajectories stopped or saturated.
        last: The newest iteration. Its committee may have collapsed.
        stop: The rules.
        trajectory_frames: As in `missing_evidence`.
    """
    rejected = [
        f"{t.counts.rejected_share:.2%} of the frames rejected at {t.point}"
        for t in temperatures
        if t.counts.rejected_share > stop.max_rejected_share
    ]
    stopped = [
        f"{t.stopped} of {t.replicas} trajectories stopped at {t.point}"
        for t in temperatures
        if t.stopped_share(trajectory_frames) > stop.max_stopped_share
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


def _window_above_target(judged: Sequence[IterationRecord], lower_mev_per_ang: float) -> list[str]:
    """A phrase for an adaptive window whose lower end is above the target in a judged iteration; empty if none is.

    Above the target, accurate frames are not as accurate as the force field is meant to be.
    """
    highest = max((r.window.lower_mev_per_ang for r in judged if r.window is not None), default=0.0)
    if highest <= lower_mev_per_ang:
        return []
    return [f"the lower end of the window is {highest:.0f} meV/Å, above the target of {lower_mev_per_ang:g} meV/Å"]


def is_exploding(record: TemperatureRecord, stop: StopConfig, trajectory_frames: int | None = None) -> bool:
    """Whether trajectories at a state point leave the trusted region, or jump over the window instead of crossing it.

    That is so if most of the MD is lost (`UNSTABLE_SHARE`). It is also so if more frames are lost than are candidates,
    and more than `stop.max_rejected_share` allows to be rejected.

    Args:
        record: Counts at the state point.
        stop: The rules.
        trajectory_frames: As in `missing_evidence`.
    """
    allowed = stop.max_rejected_share * record.counts.sampled
    return record.lost_share(trajectory_frames) > UNSTABLE_SHARE or record.lost > max(record.counts.candidate, allowed)
