"""Evidence for convergence: whether a low acceptance is significant, and how much more MD would make it so.

The last `stop.iterations` iterations are judged together, as one sample per temperature. Each iteration has its own
committee, so the bound holds for the mean acceptance of these committees. Requiring a low acceptance in consecutive
iterations guards against a single lucky one.

The bound is tested after every iteration, so a campaign is called converged by chance more often than a single test
would allow. If the acceptance stayed at exactly the limit, the chance within ten iterations would be 1 in 4; at 1.25
times the limit 1 in 20, at 1.5 times 1 in 100 (simulated in tests/al_engine/verdict/test_evidence.py).
"""

import math
from collections.abc import Sequence
from itertools import takewhile

from al_engine.config import SamplingConfig, StopConfig
from al_engine.selection.fates import Counts
from al_engine.statistics import frames_needed, lower_bound, upper_bound
from al_engine.verdict.records import IterationRecord, TemperatureRecord, decorrelated_over, pooled, total_counts

UNSTABLE_SHARE = 0.5
"""Share of frames rejected, or of trajectories stopped, above which most of the MD at a temperature is lost."""
NEAR_CONVERGENCE = 4.0
"""Multiple of `stop.acceptance`. Where a single iteration is judged (`stop.iterations: 1`), its trajectories are
lengthened once the acceptance before it was below this multiple."""
EVIDENCE_MARGIN = 1.25
"""Factor on the frames needed: the correlation time of the next iteration is unknown, and estimated from the last."""
WORTH_PROVING = 0.5
"""Highest acceptance, as a share of `stop.acceptance`, for which the frames needed are computed. Nearer to the limit,
more training lowers the acceptance at less cost than the MD that would prove it."""
LONGEST_EXTENSION = 8
"""Most MD steps of an iteration, as a multiple of `sampling.steps`."""


def missing_evidence(
    history: Sequence[IterationRecord], stop: StopConfig, *, lower_mev_per_ang: float = math.inf
) -> list[str]:
    """List what keeps a campaign from counting as converged.

    Args:
        history: Finished iterations, oldest first, at least one.
        stop: The rules.
        lower_mev_per_ang: Lower end of the window that the force field is meant to reach, meV/Å. An adaptive window may
            still have a higher lower end.

    Returns:
        One phrase with its numbers for each missing piece of evidence; empty if the campaign has converged.
    """
    judged = history[-stop.iterations :]
    temperatures = pooled(judged)
    above = [
        f"acceptance {record.counts.acceptance:.2%} in iteration {record.iteration}"
        for record in judged
        if record.counts.acceptance >= stop.acceptance
    ]
    missing = [
        f"no frame at {t.temperature_kelvin:g} K in iteration {record.iteration}"
        for record in judged
        for t in record.temperatures
        if not t.counts.sampled
    ]
    if len(judged) < stop.iterations:
        missing.append(f"{len(judged)} of {stop.iterations} iterations in a row")
    return [
        *above,
        *missing,
        *([] if above else _unproven(temperatures, stop)),
        *_untrusted(temperatures, judged[-1], stop),
        *_blind(judged, lower_mev_per_ang),
    ]


def acceptance_and_bound(judged: Sequence[IterationRecord], confidence: float) -> tuple[Counts, float, float]:
    """Counts and decorrelated frames of several iterations together, and the upper bound on their acceptance."""
    strata = [t for record in judged for t in record.temperatures]
    counts, decorrelated = total_counts(t.counts for t in strata), decorrelated_over(strata)
    return counts, decorrelated, upper_bound(counts.acceptance, decorrelated, confidence)


def _unproven(temperatures: Sequence[TemperatureRecord], stop: StopConfig) -> list[str]:
    """Bounds that speak against convergence: the upper one over all temperatures, the lower one at each temperature."""
    missing = []
    counts, decorrelated = total_counts(t.counts for t in temperatures), decorrelated_over(temperatures)
    bound = upper_bound(counts.acceptance, decorrelated, stop.confidence)
    if bound >= stop.acceptance:
        needed = ""
        if counts.acceptance < stop.acceptance:
            frames = frames_needed(stop.acceptance, stop.confidence, seen=counts.acceptance)
            needed = f", of about {frames} needed"
        missing.append(
            f"{stop.confidence:.0%} bound {bound:.2%} on {counts.acceptance:.2%} of {decorrelated:.0f} decorrelated "
            f"frames{needed}"
        )
    for t in temperatures:
        at_least = lower_bound(t.counts.acceptance, t.decorrelated, stop.confidence)
        if at_least > stop.acceptance:
            missing.append(f"acceptance at least {at_least:.2%} at {t.temperature_kelvin:g} K")
    return missing


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


def sampling_steps(history: Sequence[IterationRecord], sampling: SamplingConfig, stop: StopConfig) -> int:
    """MD steps of each replica in the next iteration: `sampling.steps`, or more near convergence.

    While the acceptance is above the limit, or the MD explodes, the number is `sampling.steps`. Once the acceptance is
    below the limit, the trajectories are lengthened: the iterations that will be judged together shall contain the
    decorrelated frames that the bound requires at the acceptance seen. The decorrelated frames per step are those of
    the last iteration, and the number of steps is at most `LONGEST_EXTENSION` times `sampling.steps`. Where a single
    iteration is judged, it has to be long before its acceptance is known: it is lengthened from `NEAR_CONVERGENCE` on.
    """
    if not history or any(is_exploding(t, stop) for t in history[-1].temperatures):
        return sampling.steps
    last, judged_alone = history[-1], stop.iterations == 1
    counting = [] if judged_alone else _last_below(history[1 - stop.iterations :], stop)
    if not counting and not (judged_alone and last.counts.acceptance < NEAR_CONVERGENCE * stop.acceptance):
        return sampling.steps
    counts, gathered, _ = acceptance_and_bound(counting or [last], stop.confidence)
    # Jeffreys' estimate, which is above zero even if no frame is a candidate.
    seen = (counts.acceptance * gathered + 0.5) / (gathered + 1.0)
    needed = frames_needed(stop.acceptance, stop.confidence, seen=min(seen, WORTH_PROVING * stop.acceptance))
    missing = EVIDENCE_MARGIN * needed - (gathered if counting else 0.0)
    rate = max(last.decorrelated, 1.0) / (last.steps or sampling.steps)
    wanted = missing / (stop.iterations - len(counting)) / rate
    strides = math.ceil(min(wanted, LONGEST_EXTENSION * sampling.steps) / sampling.stride_steps)
    return max(sampling.steps, strides * sampling.stride_steps)


def _last_below(history: Sequence[IterationRecord], stop: StopConfig) -> list[IterationRecord]:
    """The latest iterations in a row with an acceptance below the limit; the next iteration is judged with them."""
    below = takewhile(lambda record: record.counts.acceptance < stop.acceptance, reversed(history))
    return list(below)
