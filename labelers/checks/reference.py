"""The reference method of the labels as a function from frames to energies and forces."""

from collections.abc import Sequence
from typing import Self

import numpy as np

from al_engine.campaign.labels import LabelOutcome
from al_engine.config import LabelsConfig, SelectionConfig
from al_engine.protocols import Progress, silent
from al_engine.structures.frames import Frame
from labelers.pool.cache import LabelCache
from labelers.pool.chunk import label_chunk
from labelers.pool.pool import LabelPool


class ReferenceMethod:
    """The reference method as a callable (`al_engine.protocols.Reference`); a context manager.

    Frames that a campaign would not label, such as frames with atoms too close to each other, get no label here either.

    Args:
        config: Settings of the labels.
        selection: Settings of the selection, which name the smallest allowed distances of two atoms.
        periodic: Whether the frames are periodic.
        workers: Number of worker processes; None: a worker per usable core.
        cache: Cache in which labels are looked up and new labels are stored, or None.
        remember: Whether new outcomes are collected in `made`.
        progress: Called with the number of frames labelled so far.

    Attributes:
        made: The outcomes of all frames that were not in the cache, if `remember` is set.
        failure: Reason code and message of the last failed frame; empty if no frame has failed.

    Raises:
        InputError: If the backend is not installed or can't label periodic frames.
    """

    def __init__(
        self,
        config: LabelsConfig,
        selection: SelectionConfig,
        *,
        periodic: bool,
        workers: int | None = None,
        cache: LabelCache | None = None,
        remember: bool = False,
        progress: Progress = silent,
    ) -> None:
        self._pool = LabelPool(config, periodic=periodic, workers=workers)
        self._config, self._selection, self._cache, self._progress = config, selection, cache, progress
        self._remember, self._count = remember, 0
        self.made: list[LabelOutcome] = []
        self.failure = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def check(self, frame: Frame) -> None:
        """Build the labeler in a worker and let it check a frame, without labelling the frame.

        Raises:
            InputError: If the labeler can't be built, or can't label such frames.
            ResumableError: If the worker dies or is not ready in time.
        """
        self._pool.check(frame)

    def __call__(self, frames: Sequence[Frame]) -> list[tuple[float, np.ndarray] | None]:
        """Label frames, or take their labels from the cache.

        Args:
            frames: The frames.

        Returns:
            Energy in eV and forces in eV/Å, shape (N, 3), of each frame; None for a frame that can't be labelled.

        Raises:
            InputError: If the labeler can't be built, or the cache is damaged.
            ResumableError: If workers repeatedly die before they are ready, the method is closed by another thread, or
                the cache can't be read or written.
        """
        found = {} if self._cache is None else self._cache.find(frames)
        outcomes = label_chunk(self._pool, frames, self._config, self._selection, done=found)
        new = [outcome for index, outcome in enumerate(outcomes) if index not in found]
        if self._cache is not None:
            self._cache.keep(new)
        if self._remember:
            self.made += new
        self._count += len(new)
        self._progress(self._count, 0, "labels")
        failed = [outcome for outcome in outcomes if outcome.labelled is None]
        if failed:
            self.failure = failed[-1].failure
        labels = [outcome.labelled for outcome in outcomes]
        return [None if label is None else (label.energy, label.forces) for label in labels]
