"""Ctrl-C that is never lost: Prefect drops one that comes while it winds up a run whose code has ended."""

import signal
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """Remembers Ctrl-C while its block runs, so that a dropped one is raised again before the next stage.

    Attributes:
        seen: Whether there was one.
    """

    def __init__(self) -> None:
        self.seen = False

    def __enter__(self) -> Self:
        self._before = signal.getsignal(signal.SIGINT)
        if self._before is not signal.SIG_IGN:  # as a shell's background jobs and nohup have it
            signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Stop if it was asked for.

        Raises:
            KeyboardInterrupt: If there was a Ctrl-C.
        """
        if self.seen:
            raise KeyboardInterrupt

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.seen = True
        raise KeyboardInterrupt
