"""Label candidates of some temperatures while others are still sampled (`execution.overlap`).

The labels go into the cache of labels, where the label stage of the iteration finds them. No part is written, so that
the results of a campaign do not depend on the overlap.
"""

from collections.abc import Sequence
from typing import Any

from al_engine.campaign import names
from al_engine.campaign.labels import LevelOfTheory
from al_engine.campaign.ledger import Ledger
from flows.compute.stage_call import StageCall, Work
from flows.stages.labels.labelling import cache_path, label_cache
from flows.stages.search.selecting import find_candidates
from labelers.pool.chunk import label_chunk


def plan(ledger: Ledger, level: LevelOfTheory, iteration: int, points: Sequence[int]) -> StageCall | None:
    """The call that labels the candidates of state points that are already sampled.

    Args:
        ledger: The campaign.
        level: The level of theory.
        iteration: The iteration.
        points: Indices of the state points.

    Returns:
        The call; None if candidates or their structures depend on the samples that do not exist yet, or if the campaign
        has no cache of labels that jobs share.
    """
    selection = ledger.config.selection
    depends = selection.adaptive.enabled or selection.cut_centre == "random"
    if depends or cache_path(ledger.directory, ledger.config) is None:
        return None
    sampled = names.samples(iteration, [ledger.config.state_points[index] for index in points])
    readable = [
        *names.initial_sources(ledger.config),
        *sampled,
        *ledger.dataset_before(iteration),
        *(names.selection(k) for k in range(iteration)),
    ]
    arguments = {"iteration": iteration, "points": list(points), "level": level.to_dict()}
    return StageCall((), f"{__name__}:{label_ahead.__name__}", tuple(readable), arguments, "labels")


def label_ahead(work: Work, *, iteration: int, points: Sequence[int], level: dict[str, Any]) -> None:
    """Label the candidates of some state points into the cache of labels.

    Does nothing if there are more candidates than labels are allowed: the choice among them needs the samples of all
    state points.
    """
    config = work.config
    state_points = [config.state_points[index] for index in points]
    frames = find_candidates(work.parts, config, iteration, state_points).still_open()
    if len(frames) > config.selection.max_labels:
        return
    with work.label_pool() as pool, label_cache(work.directory, config, LevelOfTheory(**level)) as cache:
        label_chunk(
            pool,
            frames,
            config.labels,
            config.selection,
            done=cache.find(frames),
            record=lambda _, outcome: cache.keep([outcome]),
            progress=work.progress,
        )
