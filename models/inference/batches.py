"""Frames in batches that fit into memory."""

from collections.abc import Iterator, Sequence

from al_engine.structures.frames import Frame

BATCH_ATOMS = 2000
"""Largest number of atoms of a batch of several frames."""


def batches(frames: Sequence[Frame], *, most_frames: int | None = None) -> Iterator[list[Frame]]:
    """Consecutive frames in batches of at most `BATCH_ATOMS` atoms and at least one frame.

    Args:
        frames: The frames.
        most_frames: Largest number of frames of a batch; None: no limit.
    """
    batch: list[Frame] = []
    for frame in frames:
        full = most_frames is not None and len(batch) >= most_frames
        if batch and (full or sum(map(len, batch)) + len(frame) > BATCH_ATOMS):
            yield batch
            batch = []
        batch.append(frame)
    if batch:
        yield batch
