"""Labelling of a chunk: a group of frames whose labels a campaign publishes together.

A published chunk is never labelled again.
"""

from collections.abc import Mapping, Sequence

from al_engine.campaign.labels import LabelOutcome, LabelReason
from al_engine.config import LabelsConfig
from al_engine.protocols import Progress, silent
from al_engine.structures.frames import Frame
from al_engine.structures.sanity import screen_frame
from labelers.pool.pool import LabelPool, Record, forget


def label_chunk(
    pool: LabelPool,
    frames: Sequence[Frame],
    config: LabelsConfig,
    *,
    min_distance_ang: float,
    min_contact_factor: float = 0.0,
    done: Mapping[int, LabelOutcome] | None = None,
    record: Record = forget,
    progress: Progress = silent,
) -> list[LabelOutcome]:
    """Label the frames of a chunk. Frames that fail `screen_frame` reach no worker and get the reason `bad_input`.

    Args:
        pool: The pool, made with the same `config`.
        frames: Frames to label.
        config: Settings of the labels.
        min_distance_ang: Smallest allowed distance of two atoms, periodic images included, Å.
        min_contact_factor: Smallest allowed distance of two atoms, in units of the sum of their covalent radii.
        done: Known outcomes by index of the frame; these frames are not labelled again. A frame that fails
            `screen_frame` is refused all the same.
        record: Called with the index and the outcome of a frame as soon as a worker has finished it, in any order.
        progress: Called for every finished frame.

    Returns:
        The outcome of each frame, in order. Outcomes depend on the frames and the config, not on the number of workers.

    Raises:
        InputError: If the workers can't build the labeler.
        ResumableError: If workers repeatedly die before they are ready.
    """
    refusals = [
        screen_frame(
            frame,
            min_distance_ang=min_distance_ang,
            min_contact_factor=min_contact_factor,
            gfn2=config.backend != "ase",
        )
        for frame in frames
    ]
    outcomes = dict(done or {})
    outcomes.update(
        (index, LabelOutcome(LabelReason.BAD_INPUT, refusal, None, 0.0))
        for index, refusal in enumerate(refusals)
        if refusal is not None
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
