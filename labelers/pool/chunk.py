"""Labelling of a chunk: frames that are labelled together, after they have been screened.

All frames of a campaign that are labelled come here: chunks of labels that are published together and never labelled
again, frames of MD and relaxations by the reference method, and frames of simulations.
"""

from collections.abc import Mapping, Sequence

from al_engine.campaign.labels import LabelOutcome, LabelReason
from al_engine.config import LabelsConfig, SelectionConfig
from al_engine.protocols import Progress, silent
from al_engine.structures.frames import Frame
from al_engine.structures.sanity import screen_frame
from labelers.pool.pool import LabelPool, Record, forget


def label_chunk(
    pool: LabelPool,
    frames: Sequence[Frame],
    config: LabelsConfig,
    selection: SelectionConfig,
    *,
    done: Mapping[int, LabelOutcome] | None = None,
    record: Record = forget,
    progress: Progress = silent,
) -> list[LabelOutcome]:
    """Label the frames of a chunk. Frames with a `refusal` reach no worker and get the reason `bad_input`.

    Args:
        pool: The pool, made with the same `config`.
        frames: Frames to label.
        config: Settings of the labels.
        selection: Settings of the selection, which name the smallest allowed distances of two atoms.
        done: Known outcomes by index of the frame; these frames are not labelled again. A frame with a
            `refusal` is refused all the same.
        record: Called with the index and the outcome of a frame as soon as a worker has finished it, in any order.
        progress: Called for every finished frame.

    Returns:
        The outcome of each frame, in order. Outcomes depend on the frames and the config, not on the number of workers.

    Raises:
        InputError: If the workers can't build the labeler.
        ResumableError: If workers repeatedly die before they are ready.
    """
    refusals = [refusal(frame, config, selection) for frame in frames]
    outcomes = dict(done or {})
    outcomes.update(
        (index, LabelOutcome(LabelReason.BAD_INPUT, reason, None, 0.0))
        for index, reason in enumerate(refusals)
        if reason is not None
    )
    todo = [index for index in range(len(frames)) if index not in outcomes]
    n_known = len(outcomes)
    if n_known:
        progress(n_known, len(frames))
    new = pool.label(
        [frames[index] for index in todo],
        time_limit_s=config.time_limit_s,
        record=lambda position, outcome: record(todo[position], outcome),
        progress=lambda finished, _, note="": progress(n_known + finished, len(frames), note),
    )
    outcomes |= dict(zip(todo, new, strict=True))
    return [outcomes[index] for index in range(len(frames))]


def refusal(frame: Frame, config: LabelsConfig, selection: SelectionConfig) -> str | None:
    """Find the reason why a campaign does not label a frame: it fails `screen_frame` with the limits of the campaign.

    Args:
        frame: The frame.
        config: Settings of the labels.
        selection: Settings of the selection, which name the smallest allowed distances of two atoms.

    Returns:
        The reason in words, or None if the frame is fit to be labelled.
    """
    return screen_frame(
        frame,
        min_distance_ang=selection.min_distance_ang,
        min_contact_factor=selection.min_contact_factor,
        gfn2=config.backend != "ase",
    )
