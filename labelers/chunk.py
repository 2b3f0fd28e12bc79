"""A chunk of labels: the unit that a campaign computes, publishes and never computes again."""

from collections.abc import Sequence

from al_engine.config import LabelsConfig
from al_engine.frames import Frame
from al_engine.protocols import Progress, silent
from labelers.pool import LabelPool
from labelers.protocol import LabelOutcome, LabelReason
from labelers.screen import GFN2_MAX_ATOMIC_NUMBER, LAST_ELEMENT, screen_frame


def label_chunk(
    pool: LabelPool,
    frames: Sequence[Frame],
    config: LabelsConfig,
    *,
    min_distance_ang: float,
    progress: Progress = silent,
) -> list[LabelOutcome]:
    """Label frames; those that fail the screen never reach a worker.

    Args:
        pool: Workers made with the same `config`.
        frames: Frames to label.
        config: Settings of the labels.
        min_distance_ang: Frames with two atoms closer than this, periodic images included, are refused, Å.
        progress: Told about every frame that is finished.

    Returns:
        One outcome per frame, in order. They depend on the frames and the config, not on the number of workers.

    Raises:
        InputError: If the workers can't build the labeler.
    """
    gfn2 = config.backend != "ase"
    refusals = [
        screen_frame(
            frame,
            min_distance_ang=min_distance_ang,
            max_atomic_number=GFN2_MAX_ATOMIC_NUMBER if gfn2 else LAST_ELEMENT,
            check_spin=gfn2,
        )
        for frame in frames
    ]
    n_refused = sum(refusal is not None for refusal in refusals)
    if n_refused:
        progress(n_refused, len(frames), f"{n_refused} refused")
    accepted = [frame for frame, refusal in zip(frames, refusals, strict=True) if refusal is None]

    def shifted(done: int, total: int, note: str = "") -> None:
        del total
        progress(n_refused + done, len(frames), note)

    labelled = iter(pool.label(accepted, time_limit_s=config.time_limit_s, progress=shifted))
    return [
        next(labelled) if refusal is None else LabelOutcome(LabelReason.BAD_INPUT, refusal, None, 0.0)
        for refusal in refusals
    ]
