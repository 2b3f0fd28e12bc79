"""How an iteration samples each temperature: in search of candidates, or near convergence as evidence.

A training costs more than MD and labels, so an iteration should bring many new labels. The MD goes on at the
temperatures with an acceptance above the limit until enough different candidates are found, or until it costs as much
as the training (`sampling.cost_share`). All of this is planned in numbers of steps and frames, never by the clock, so
that a campaign can be repeated.

Once the acceptance is below the limit, the MD is evidence: its length is planned beforehand, from the acceptance seen.
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
"""Multiple of `stop.acceptance`. Where a single iteration is judged (`stop.iterations: 1`), its trajectories are
lengthened once the acceptance before it was below this multiple."""
EVIDENCE_MARGIN = 1.5
"""Factor on the frames needed: the candidates of the next iteration may be more than expected."""
WORTH_PROVING = 0.25
"""Highest acceptance, as a share of `stop.acceptance`, for which the frames needed are computed. Nearer to the limit,
more training lowers the acceptance at less cost than the MD that would prove it."""
LEAST_GROWTH = 1.0
"""Least number of frames, as a share of those gathered, that are added as long as they prove nothing."""
TRAINED_FRAME_COST = 3.0
"""Cost of a frame of a training update in evaluations of energy and forces: the gradient by the weights of a loss with
forces, which are a gradient themselves, takes about two evaluations more."""
LARGEST_SHARE = 2.0
"""Largest share of the cost of a search at one temperature, in units of the share if all temperatures search. A
temperature is sampled by one worker, so that a larger share would leave the other workers without work."""
CHOICE = 2.0
"""Number of candidates to find for each label: the selection chooses the most novel, and some cannot be labelled."""
EXPECTED_INEFFICIENCY = 3.0
"""Frames per decorrelated frame that are expected before a campaign: as in small molecules at a stride of 10 fs."""


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """How an iteration samples a temperature.

    Attributes:
        steps: MD steps of each replica.
        fresh: Number of replica slots whose trajectories start afresh, instead of going on from the iteration before.
        most_steps: MD steps of each replica up to which the MD goes on until enough candidates are found; 0: it does
            not go on.
        enough: Number of different candidates that are enough.
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
    """How far an iteration may go on in search of candidates.

    Attributes:
        most_steps: MD steps of each replica at every state point that cost as much as the training may
            (`affordable_steps`).
        max_labels: Largest number of labels of the iteration.
        points: Number of state points of the campaign.
    """

    most_steps: int
    max_labels: int
    points: int

    def plan(self, sampling: SamplingConfig, searching: int) -> SamplingPlan:
        """The plan of each state point that searches; these state points share the cost and the labels.

        Each state point goes on until it has found `CHOICE` times its share of the labels, or until its share of the
        cost is reached, which is at most `LARGEST_SHARE` times the share it has if all state points search.

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

    While the acceptance is above the limit, over all temperatures or provenly at one temperature, in the last iteration
    or in the judged iterations together, the number of steps is `sampling.steps`. At temperatures with such an
    acceptance, the MD goes on as `search` says; in iteration 0, when no acceptance is known, it does so at the hotter
    half of the temperatures, where most candidates are. After a failed audit
    the number of steps is `sampling.steps` too, because the evidence is then gathered from the start. If the MD
    explodes, it does not go on.

    Once the acceptance is below the limit, the trajectories are lengthened at each temperature as it needs: the
    iterations that will be judged together shall contain the decorrelated frames that the bound requires at the
    acceptance seen. The number of steps is at most `stop.max_extension` times `sampling.steps`. It does not depend on
    the candidates that the iteration finds, because that would bias the acceptance. Where a single iteration is judged,
    it has to be long before its acceptance is known: it is lengthened from `NEAR_CONVERGENCE` on, although its
    acceptance may still be above the limit.

    An iteration that will be judged together with others starts a share of its trajectories afresh
    (`stop.fresh_share`), so that the evidence does not come from one basin alone.

    Args:
        history: Finished iterations, oldest first.
        temperatures: The iterations that will be judged together with the next one (`judged_together` with one coming
            iteration), one record per state point; may be empty without history.
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
    if any(is_exploding(t, stop) for t in last.temperatures):
        return shortest
    below = [] if last.failed_audit else _last_below(after_failed_audits(history), stop)
    # The judged iterations may include one that is no evidence; what it has gathered does not count.
    gathered_in = (
        temperatures if below and all_fit(judged_together(history, stop, coming=1), stop) else last.temperatures
    )
    hopeless = proven_above(gathered_in, stop)
    above = {t.point for t in last.temperatures if t.counts.acceptance >= stop.acceptance} | hopeless
    searching = shortest if search is None or point not in above else search.plan(sampling, len(above))
    near = judged_alone and last.counts.acceptance < NEAR_CONVERGENCE * stop.acceptance
    if not (below or near) or (hopeless and not near):
        return searching
    here = next((t for t in gathered_in if t.point == point), None)
    if here is None or not here.decorrelated:
        return searching
    counts, gathered = here.counts, here.decorrelated
    # Jeffreys' estimate, which is above zero even if no frame is a candidate.
    seen = (counts.acceptance * gathered + 0.5) / (gathered + 1.0)
    confidence = look_confidence(stop)
    needed = frames_needed(stop.acceptance, confidence, seen=min(seen, WORTH_PROVING * stop.acceptance))
    missing = EVIDENCE_MARGIN * needed - (gathered if below else 0.0)
    if here.bounds(confidence)[1] >= stop.acceptance:
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
    frames = EXPECTED_INEFFICIENCY * frames_needed(stop.acceptance, look_confidence(stop))
    return math.ceil(frames / sampling.replicas) * sampling.stride_steps


def affordable_steps(sampling: SamplingConfig, *, trained_frames: float, members: int, points: int) -> int:
    """MD steps of each replica, at every state point, that cost a share of `sampling.cost_share` of a training.

    Costs are counted in evaluations of one frame of the MD by one member: an MD step takes one evaluation, or `members`
    if the mean drives; a sampled frame takes `members`; a frame of a training update takes `TRAINED_FRAME_COST`.

    Args:
        sampling: Settings of the sampling.
        trained_frames: Number of frames in all batches of all members in an iteration, in units of the size of a frame
            of the MD.
        members: Number of members of the committee.
        points: Number of state points.

    Returns:
        A multiple of `sampling.stride_steps`.
    """
    driving = members if sampling.driver == "mean" else 1
    stride = sampling.stride_steps * driving + members
    strides_of_all = sampling.cost_share * TRAINED_FRAME_COST * trained_frames / stride
    trajectories = sampling.replicas * points
    return int(strides_of_all / trajectories) * sampling.stride_steps


def _last_below(history: Sequence[IterationRecord], stop: StopConfig) -> list[IterationRecord]:
    """The latest iterations in a row with an acceptance below the limit, latest first."""
    below = takewhile(lambda record: record.counts.acceptance < stop.acceptance, reversed(history))
    return list(below)
