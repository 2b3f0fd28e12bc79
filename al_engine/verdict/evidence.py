"""Evidence: whether a low acceptance is to be believed, and how much MD it takes until it is.

The last `stop.iterations` iterations are judged together: as one sample per temperature. Each is by a committee of its
own, so that what is bounded is the mean acceptance of those committees; that it was low in each of them, in a row,
speaks against a lucky one.

The bound is asked for after every iteration, and being asked often it errs more often than once: a campaign whose
acceptance stayed at exactly the limit would be called converged in 1 of 4 cases within ten iterations; at 1.25 times
the limit in 1 of 20, at 1.5 times in 1 of 100 (tests/al_engine/verdict/test_evidence.py simulates them).
"""

import math
from collections.abc import Sequence
from itertools import takewhile

from al_engine.config import SamplingConfig, StopConfig
from al_engine.selection.fates import Counts
from al_engine.statistics import frames_needed, lower_bound, upper_bound
from al_engine.verdict.records import IterationRecord, TemperatureRecord, decorrelated_over, pooled, total_counts

UNSTABLE_SHARE = 0.5
"""Of the frames rejected, or of the trajectories stopped: most of the MD at a temperature is not trusted."""
NEAR_CONVERGENCE = 4.0
"""Times the acceptance to stop at: from here on a single iteration that is judged alone gathers evidence."""
EVIDENCE_MARGIN = 1.25
"""The correlation time of the next iteration is not known, only the last one's."""
WORTH_PROVING = 0.5
"""Share of the limit: nearer to it, more training lowers the acceptance for less than it costs to prove it."""
LONGEST_EXTENSION = 8
"""Times `sampling.steps`."""


def missing_evidence(
    history: Sequence[IterationRecord], stop: StopConfig, *, lower_mev_per_ang: float = math.inf
) -> list[str]:
    """What keeps a campaign from counting as converged, each with its numbers; empty: nothing.

    Args:
        history: Finished iterations, oldest first, at least one.
        stop: The rules.
        lower_mev_per_ang: Lower end of the window that the campaign's force field is meant to reach; a window that
            moves by itself may stand above.
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
    """Counts over some iterations taken together, their decorrelated frames, and the upper bound on the acceptance."""
    strata = [t for record in judged for t in record.temperatures]
    counts, decorrelated = total_counts(t.counts for t in strata), decorrelated_over(strata)
    return counts, decorrelated, upper_bound(counts.acceptance, decorrelated, confidence)


def _unproven(temperatures: Sequence[TemperatureRecord], stop: StopConfig) -> list[str]:
    """Where the bounds are: over all temperatures from above, at each from below."""
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
    """Where frames were rejected or trajectories stopped, and a committee that can't be asked."""
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
    """A window whose lower end stands above the one asked for."""
    highest = max((r.window.lower_mev_per_ang for r in judged if r.window is not None), default=0.0)
    if highest <= lower_mev_per_ang:
        return []
    return [f"the window begins at {highest:.0f} meV/Å, above the {lower_mev_per_ang:g} asked for"]


def is_exploding(record: TemperatureRecord, stop: StopConfig) -> bool:
    """Whether trajectories at a temperature leave the trusted region, or jump over the window instead of through it.

    Most of the MD there is lost; or more was thrown away than there was to learn from, and more than the guard allows.
    """
    allowed = stop.max_rejected_share * record.counts.sampled
    return record.lost_share > UNSTABLE_SHARE or record.lost > max(record.counts.candidate, allowed)


def sampling_steps(history: Sequence[IterationRecord], sampling: SamplingConfig, stop: StopConfig) -> int:
    """MD steps of the next iteration: near convergence, as many as its evidence takes.

    While the acceptance is above the limit, `sampling.steps` find enough to learn. Once it is below, the trajectories
    are made so long that the iterations that will be judged together have the decorrelated frames that the bound asks
    for at the acceptance seen, by the last iteration's rate; no longer than `LONGEST_EXTENSION` times. Where one
    iteration alone is judged, it has to be long before its acceptance is known: from `NEAR_CONVERGENCE` on.
    """
    if not history or any(is_exploding(t, stop) for t in history[-1].temperatures):
        return sampling.steps
    last, alone = history[-1], stop.iterations == 1
    counting = [] if alone else _last_below(history[1 - stop.iterations :], stop)
    if not counting and not (alone and last.counts.acceptance < NEAR_CONVERGENCE * stop.acceptance):
        return sampling.steps
    counts, gathered, _ = acceptance_and_bound(counting or [last], stop.confidence)
    seen = (counts.acceptance * gathered + 0.5) / (gathered + 1.0)  # Jeffreys' estimate: none seen is not none at all
    needed = frames_needed(stop.acceptance, stop.confidence, seen=min(seen, WORTH_PROVING * stop.acceptance))
    missing = EVIDENCE_MARGIN * needed - (gathered if counting else 0.0)
    rate = max(last.decorrelated, 1.0) / (last.steps or sampling.steps)
    wanted = missing / (stop.iterations - len(counting)) / rate
    strides = math.ceil(min(wanted, LONGEST_EXTENSION * sampling.steps) / sampling.stride_steps)
    return max(sampling.steps, strides * sampling.stride_steps)


def _last_below(history: Sequence[IterationRecord], stop: StopConfig) -> list[IterationRecord]:
    """The last iterations in a row with an acceptance below the limit: the next one is judged together with them."""
    below = takewhile(lambda record: record.counts.acceptance < stop.acceptance, reversed(history))
    return list(below)
