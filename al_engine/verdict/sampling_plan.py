"""How an iteration samples each state point: in search of candidates, or near convergence as evidence.

Training costs more than MD and labels, so an iteration should bring many new labels. At state points with an acceptance
above the limit, the MD therefore goes on until enough different candidates are found, or until its cost reaches a share
of the training's cost (`sampling.cost_share`). The plan is made in numbers of steps and frames, never by the clock, so
that a campaign can be repeated.

Once the acceptance is below the limit, the MD is evidence. Its length is planned before it starts, from the acceptance
of the iterations before.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from al_engine.config import SamplingConfig, StatePoint, StopConfig, hotter_half
from al_engine.statistics import frames_needed
from al_engine.verdict.evidence import (
    after_failed_audits,
    all_fit,
    is_exploding,
    judged_together,
    look_confidence,
    proven_above,
)
from al_engine.verdict.records import IterationRecord, TemperatureRecord

NEAR_CONVERGENCE = 4.0
"""Multiple of `stop.acceptance`, for rules that judge a single iteration (`stop.iterations: 1`). Once the acceptance of
an iteration is below this multiple, the trajectories of the next iteration are lengthened."""
EVIDENCE_MARGIN = 1.5
"""Factor on the number of frames needed, because the next iteration may have more candidates than expected."""
WORTH_PROVING = 0.25
"""Highest acceptance, as a share of `stop.acceptance`, for which the number of frames needed is computed; for a higher
acceptance, the number for this acceptance is used. Near the limit, more training costs less than the MD that would
prove the acceptance to be below the limit."""
LARGEST_GROWTH = 4.0
"""Largest length of the MD at a state point, as a multiple of its length in the iteration before. An acceptance that
was below the limit by chance shows in an iteration of four times the length as well, whose labels make the next
committee better. An iteration with all the evidence may take half an hour to show it."""
LEAST_GROWTH = 1.0
"""Smallest number of decorrelated frames to add, as a share of the gathered decorrelated frames, as long as the
gathered frames do not prove an acceptance below the limit."""
TRAINED_FRAME_COST = 3.0
"""Cost of one frame in a training update, in evaluations of energy and forces. The forces are a gradient themselves, so
that the gradient of their loss by the weights costs about two more evaluations."""
LARGEST_SHARE = 2.0
"""Largest share of the cost of a search for one state point, as a multiple of its share if all state points search. A
state point is sampled by one worker, so that a larger share would leave the other workers without work."""
CHOICE = 2.0
"""Number of candidates to find for each label: the selection takes the most novel ones, and some can't be labelled."""
EXPECTED_INEFFICIENCY = 3.0
"""Frames per decorrelated frame that are assumed before a campaign; typical of small molecules at a stride of 10 fs."""


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """How an iteration samples a state point.

    Attributes:
        steps: MD steps of each replica.
        fresh: Number of replica slots whose trajectories start afresh, instead of going on from the iteration before.
        most_steps: If the MD goes on after `steps` in search of candidates, the MD steps of each replica at which it
            ends in any case. 0: the MD does not go on.
        enough: Number of different candidates at which the search ends.
    """

    steps: int
    fresh: int = 0
    most_steps: int = 0
    enough: int = 0

    @property
    def longest(self) -> int:
        """Largest number of MD steps of each replica."""
        return max(self.steps, self.most_steps)


@dataclass(frozen=True, slots=True)
class Search:
    """How far the MD of an iteration may go on in search of candidates.

    Attributes:
        most_steps: MD steps of each replica that can be afforded if every state point searches (`affordable_steps`).
        max_labels: Largest number of labels of the iteration.
        points: Number of state points of the campaign.
    """

    most_steps: int
    max_labels: int
    points: int

    def plan(self, sampling: SamplingConfig, searching: int) -> SamplingPlan:
        """The plan of a state point that searches.

        The state points that search share the affordable cost and the labels equally. The MD at a state point goes on
        until it has found `CHOICE` candidates for each label of its share, or until it has used up its share of the
        cost (at most `LARGEST_SHARE`).

        Args:
            sampling: Settings of the sampling.
            searching: Number of state points that search.
        """
        share = min(self.points / searching, LARGEST_SHARE)
        strides = int(share * self.most_steps / sampling.stride_steps)
        if strides * sampling.stride_steps <= sampling.steps:
            return SamplingPlan(sampling.steps)
        return SamplingPlan(
            sampling.steps,
            most_steps=strides * sampling.stride_steps,
            enough=math.ceil(CHOICE * self.max_labels / searching),
        )


def sampling_plan(
    history: Sequence[IterationRecord],
    temperatures: Sequence[TemperatureRecord],
    sampling: SamplingConfig,
    stop: StopConfig,
    point: StatePoint,
    *,
    points: Sequence[StatePoint],
    search: Search | None = None,
) -> SamplingPlan:
    """How the next iteration samples a state point: in search of candidates, or near convergence as evidence.

    Search: The iteration searches as long as the acceptance of the last iteration is above the limit, or the acceptance
    at some state point is proven to be above it in the judged iterations together. The number of steps is then
    `sampling.steps`, and at state points with such an acceptance the MD goes on as `search` says. In iteration 0, when
    no acceptance is known, it goes on at the hotter half of the temperatures, where most candidates are. After a failed
    audit the iteration searches too, because the evidence is then gathered from the start. If the MD of the last
    iteration exploded, the number of steps is `sampling.steps`, and the MD does not go on.

    Evidence: Once the acceptance is below the limit, the trajectories at each state point are lengthened by what it
    needs (`_evidence_steps`), but to no more than `LARGEST_GROWTH` times the length of the iteration before, unless a
    single iteration is judged. The number of steps does not depend on the candidates that the iteration itself finds,
    because that would bias the acceptance. If a single iteration is judged, it has to be long before its acceptance is
    known; so it is lengthened once the acceptance is below `NEAR_CONVERGENCE` times the limit. A share of the
    trajectories of a lengthened iteration starts afresh (`stop.fresh_share`), so that the evidence does not come from
    one basin alone.

    Args:
        history: Finished iterations, oldest first.
        temperatures: One record per state point of the iterations that will be judged together with the next iteration
            (`judged_together` with one coming iteration); may be empty without history.
        sampling: Settings of the sampling.
        stop: The rules.
        point: The state point.
        points: All state points of the campaign.
        search: How far the MD goes on in search of candidates; None: it does not go on.
    """
    shortest = SamplingPlan(sampling.steps)
    if not history:
        hotter = hotter_half(points)
        return shortest if search is None or point not in hotter else search.plan(sampling, len(hotter))
    last, judged_alone = history[-1], stop.iterations == 1
    if any(is_exploding(t, stop, sampling.trajectory_frames) for t in last.temperatures):
        return shortest
    below = [] if last.failed_audit else _last_below(after_failed_audits(history), stop)
    # The judged iterations may include an iteration that can't be evidence; its frames must not count as gathered.
    all_are_evidence = bool(below) and all_fit(judged_together(history, stop, coming=1), stop)
    # If the last iteration is not judged, its frames show how many frames are needed, but do not count as gathered.
    last_is_judged = bool(temperatures)
    gathered_in = temperatures if all_are_evidence and last_is_judged else last.temperatures
    hopeless = proven_above(gathered_in, stop)
    above = {t.point for t in last.temperatures if t.counts.acceptance >= stop.acceptance} | hopeless
    searching = shortest if search is None or point not in above else search.plan(sampling, len(above))
    near = judged_alone and last.counts.acceptance < NEAR_CONVERGENCE * stop.acceptance
    if not (below or near) or (hopeless and not near):
        return searching
    here = next((t for t in gathered_in if t.point == point), None)
    if here is None or not here.decorrelated:
        return searching
    steps = _evidence_steps(here, sampling, stop, below=len(below) if last_is_judged else 0)
    if not judged_alone:
        steps = min(steps, _longest_now(last, sampling, point))
    return SamplingPlan(steps, fresh=math.ceil(stop.fresh_share * sampling.replicas))


def _longest_now(last: IterationRecord, sampling: SamplingConfig, point: StatePoint) -> int:
    """`LARGEST_GROWTH` times the MD steps of each replica at a state point in the last iteration."""
    strides = max((t.counts.sampled / sampling.replicas for t in last.temperatures if t.point == point), default=0.0)
    return max(math.ceil(LARGEST_GROWTH * strides) * sampling.stride_steps, sampling.steps)


def _evidence_steps(gathered: TemperatureRecord, sampling: SamplingConfig, stop: StopConfig, *, below: int) -> int:
    """MD steps of each replica that give the evidence that a state point still needs.

    The iterations that are judged together must contain the number of decorrelated frames for which the bound on the
    acceptance is below the limit, at the acceptance of the gathered frames. The missing frames are divided among the
    iterations that are still needed.

    Args:
        gathered: The frames at the state point that have been gathered so far, with decorrelated frames.
        sampling: Settings of the sampling.
        stop: The rules.
        below: Number of latest iterations in a row with an acceptance below the limit.

    Returns:
        Number of steps, from `sampling.steps` to about `stop.max_extension` times `sampling.steps`.
    """
    counts, decorrelated = gathered.counts, gathered.decorrelated
    # Jeffreys' estimate, which is above zero even if no frame is a candidate.
    seen = (counts.acceptance * decorrelated + 0.5) / (decorrelated + 1.0)
    confidence = look_confidence(stop)
    needed = frames_needed(stop.acceptance, confidence, seen=min(seen, WORTH_PROVING * stop.acceptance))
    missing = EVIDENCE_MARGIN * needed - (decorrelated if below else 0.0)
    if gathered.bounds(confidence)[1] >= stop.acceptance:
        missing = max(missing, LEAST_GROWTH * decorrelated)
    frames = missing * counts.sampled / decorrelated / max(stop.iterations - below, 1)
    strides = math.ceil(min(frames / sampling.replicas, stop.max_extension * sampling.steps / sampling.stride_steps))
    return max(sampling.steps, strides * sampling.stride_steps)


def steps_to_prove(stop: StopConfig, sampling: SamplingConfig) -> int:
    """MD steps of each replica that prove an acceptance below the limit, if a state point has no candidate at all.

    The number of frames per decorrelated frame is not known before the MD. It is assumed to be `EXPECTED_INEFFICIENCY`.
    """
    frames = EXPECTED_INEFFICIENCY * frames_needed(stop.acceptance, look_confidence(stop))
    return math.ceil(frames / sampling.replicas) * sampling.stride_steps


def affordable_steps(sampling: SamplingConfig, *, trained_frames: float, members: int, points: int) -> int:
    """MD steps of each replica for which the MD at all state points costs `sampling.cost_share` of a training.

    The unit of cost is the evaluation of one frame of the MD by one member. An MD step of a replica costs one
    evaluation, or `members` evaluations if the mean of the committee drives the MD. A sampled frame costs `members`
    evaluations more. A frame in a training update costs `TRAINED_FRAME_COST` evaluations.

    Args:
        sampling: Settings of the sampling.
        trained_frames: Number of frames in all batches of all members in an iteration. If labelled structures are
            smaller than frames of the MD, a structure counts as the fraction of a frame that its atoms are.
        members: Number of members of the committee.
        points: Number of state points.

    Returns:
        A multiple of `sampling.stride_steps`.
    """
    step_cost = members if sampling.driver == "mean" else 1
    stride_cost = sampling.stride_steps * step_cost + members
    affordable_strides = sampling.cost_share * TRAINED_FRAME_COST * trained_frames / stride_cost
    replicas = sampling.replicas * points
    return int(affordable_strides / replicas) * sampling.stride_steps


def _last_below(history: Sequence[IterationRecord], stop: StopConfig) -> list[IterationRecord]:
    """The latest iterations in a row with an acceptance below the limit, the newest first."""
    return list(takewhile(lambda record: record.counts.acceptance < stop.acceptance, reversed(history)))
