"""Evidence for convergence: whether a low acceptance is significant, and how much more MD would make it so.

The latest iterations in a row that are not proven to be above the limit are judged together: their trajectories are
joined where they go on, and counted by temperature. Each iteration has its own committee, so the bounds hold for the
mean acceptance of these committees. Requiring a low acceptance in consecutive iterations guards against a single lucky
iteration.

The acceptance must be below the limit at every temperature: a bound over all temperatures would let one of them stand
above it. The number of decorrelated frames at a temperature sees processes slower than a trajectory
(`al_engine.statistics.decorrelated_frames`). How often the rule is wrong is simulated in benchmarks/verdict.py.

All of this rests on the committee's agreement. So the last piece of evidence is an audit: labels on accurate frames
drawn at random (`al_engine.verdict.audit_labels`). The frames of a failed audit are training data, and the iterations
up to it are not judged again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from al_engine.config import SamplingConfig, SelectionConfig, StopConfig
from al_engine.statistics import frames_needed
from al_engine.verdict.records import IterationRecord, TemperatureRecord, pooled
from al_engine.verdict.unlabelable import without_label

UNSTABLE_SHARE = 0.5
"""Share of frames rejected, or of trajectories stopped, above which most of the MD at a temperature is lost."""
NEAR_CONVERGENCE = 4.0
"""Multiple of `stop.acceptance`. Where a single iteration is judged (`stop.iterations: 1`), its trajectories are
lengthened once the acceptance before it was below this multiple."""
EVIDENCE_MARGIN = 1.5
"""Factor on the frames needed: the candidates of the next iteration may be more than expected."""
WORTH_PROVING = 0.25
"""Highest acceptance, as a share of `stop.acceptance`, for which the frames needed are computed. Nearer to the limit,
more training lowers the acceptance at less cost than the MD that would prove it."""
LEAST_GROWTH = 1.0
"""Least number of frames, as a share of those gathered, that are added as long as they prove nothing."""
EXPECTED_INEFFICIENCY = 3.0
"""Frames per decorrelated frame that are expected before a campaign: as in small molecules at a stride of 10 fs."""
MOST_JUDGED = 10
"""Most iterations that are judged together."""


def judged_together(history: Sequence[IterationRecord], stop: StopConfig) -> Sequence[IterationRecord]:
    """The iterations that are judged together: the latest in a row that are not proven to be above the limit.

    An iteration is proven to be above the limit if it is so at some temperature; its committee was another one. An
    iteration is not left out because its acceptance happens to be above the limit: leaving it out would bias the
    acceptance of those that are judged. They are at least `stop.iterations` iterations, and at most `MOST_JUDGED`. But
    a failed audit of an earlier iteration ends the row: that iteration and those before it are not judged again.
    """
    counted = _after_failed_audits(history)
    possible = takewhile(lambda record: not _proven_above(record, stop), reversed(counted))
    return counted[-max(min(len(list(possible)), MOST_JUDGED), stop.iterations) :]


def _proven_above(record: IterationRecord, stop: StopConfig) -> bool:
    """Whether the lower bound on the acceptance is above the limit at some temperature."""
    return any(t.bounds(stop.confidence)[0] > stop.acceptance for t in record.temperatures)


def _after_failed_audits(history: Sequence[IterationRecord]) -> Sequence[IterationRecord]:
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
        temperatures: The iterations of `judged_together`, one record per temperature.
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
        f"no frame at {t.temperature_kelvin:g} K in iteration {record.iteration}"
        for record in judged
        for t in record.temperatures
        if not t.counts.sampled
    ]
    counted = len(_after_failed_audits(history))
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
    acceptance, kelvin = t.counts.acceptance, f"{t.temperature_kelvin:g} K"
    bound = t.bounds(stop.confidence)[1]
    if bound < stop.acceptance:
        return ""
    if acceptance >= stop.acceptance:
        return f"acceptance {acceptance:.2%} at {kelvin}"
    needed = frames_needed(stop.acceptance, stop.confidence, seen=acceptance)
    return (
        f"{stop.confidence:.0%} bound {bound:.2%} at {kelvin} on {acceptance:.2%} of {t.decorrelated:.0f} decorrelated "
        f"frames, of about {needed} needed"
    )


def _untrusted(temperatures: Sequence[TemperatureRecord], last: IterationRecord, stop: StopConfig) -> list[str]:
    """Temperatures with too many rejected frames or stopped trajectories, and a committee that has collapsed."""
    rejected = [
        f"{t.counts.rejected_share:.2%} of the frames rejected at {t.temperature_kelvin:g} K"
        for t in temperatures
        if t.counts.rejected_share > stop.max_rejected_share
    ]
    stopped = [
        f"{t.stopped} of {t.replicas} trajectories stopped at {t.temperature_kelvin:g} K"
        for t in temperatures
        if t.stopped_share > stop.max_stopped_share
    ]
    collapsed = last.health is not None and last.health.collapsed
    return [*rejected, *stopped, *(["a collapsed committee, whose agreement proves nothing"] if collapsed else [])]


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


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """How an iteration samples a temperature.

    Attributes:
        steps: MD steps of each replica.
        fresh: Number of replica slots whose trajectories start afresh, instead of going on from the iteration before.
    """

    steps: int
    fresh: int = 0


def sampling_plan(
    history: Sequence[IterationRecord],
    temperatures: Sequence[TemperatureRecord],
    sampling: SamplingConfig,
    stop: StopConfig,
    kelvin: float,
) -> SamplingPlan:
    """How the next iteration samples a temperature: `sampling.steps`, or more near convergence, with fresh starts.

    While the acceptance is above the limit, or the MD explodes, the number of steps is `sampling.steps`. It is so after
    a failed audit too, because the evidence is then gathered from the start. Once the acceptance is below the limit,
    the trajectories are lengthened at each temperature as it needs: the iterations that will be judged together shall
    contain the decorrelated frames that the bound requires at the acceptance seen. The number of steps is at most
    `stop.max_extension` times `sampling.steps`. Where a single iteration is judged, it has to be long before its
    acceptance is known: it is lengthened from `NEAR_CONVERGENCE` on.

    An iteration that will be judged together with others starts a share of its trajectories afresh
    (`stop.fresh_share`), so that the evidence does not come from one basin alone.

    Args:
        history: Finished iterations, oldest first.
        temperatures: The iterations of `judged_together`, one record per temperature; may be empty without history.
        sampling: Settings of the sampling.
        stop: The rules.
        kelvin: The temperature, K.
    """
    if not history or any(is_exploding(t, stop) for t in history[-1].temperatures):
        return SamplingPlan(sampling.steps)
    last, judged_alone = history[-1], stop.iterations == 1
    below = [] if last.failed_audit else _last_below(_after_failed_audits(history), stop)
    if not below and not (judged_alone and last.counts.acceptance < NEAR_CONVERGENCE * stop.acceptance):
        return SamplingPlan(sampling.steps)
    here = next((t for t in (temperatures if below else last.temperatures) if t.temperature_kelvin == kelvin), None)
    if here is None or not here.decorrelated:
        return SamplingPlan(sampling.steps)
    counts, gathered = here.counts, here.decorrelated
    # Jeffreys' estimate, which is above zero even if no frame is a candidate.
    seen = (counts.acceptance * gathered + 0.5) / (gathered + 1.0)
    needed = frames_needed(stop.acceptance, stop.confidence, seen=min(seen, WORTH_PROVING * stop.acceptance))
    missing = EVIDENCE_MARGIN * needed - (gathered if below else 0.0)
    if here.bounds(stop.confidence)[1] >= stop.acceptance:
        missing = max(missing, LEAST_GROWTH * gathered)
    frames = missing * counts.sampled / gathered / max(stop.iterations - len(below), 1)
    strides = math.ceil(min(frames / sampling.replicas, stop.max_extension * sampling.steps / sampling.stride_steps))
    return SamplingPlan(
        steps=max(sampling.steps, strides * sampling.stride_steps),
        fresh=math.ceil(stop.fresh_share * sampling.replicas),
    )


def steps_to_prove(stop: StopConfig, sampling: SamplingConfig) -> int:
    """MD steps of each replica that prove an acceptance below the limit at a temperature without any candidate.

    The number of frames per decorrelated frame is not known before the MD; it is taken as `EXPECTED_INEFFICIENCY`.
    """
    frames = EXPECTED_INEFFICIENCY * frames_needed(stop.acceptance, stop.confidence)
    return math.ceil(frames / sampling.replicas) * sampling.stride_steps


def _last_below(history: Sequence[IterationRecord], stop: StopConfig) -> list[IterationRecord]:
    """The latest iterations in a row with an acceptance below the limit, latest first."""
    below = takewhile(lambda record: record.counts.acceptance < stop.acceptance, reversed(history))
    return list(below)
