"""A limit on wall-clock time, for queues that kill jobs: at the limit the process sends itself SIGTERM."""

import os
import re
import signal
import threading
import time
from types import TracebackType
from typing import Self

from al_engine.errors import InputError

UNITS_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
"""Length of the units of a duration, s."""
DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
"""A duration; it has a group for each unit, in the order of `UNITS_S`."""


def parse_duration(text: str) -> float:
    """Convert a duration such as `7h50m`, `90m` or `1d` to seconds.

    Raises:
        InputError: If the text is not a duration, or the duration is zero.
    """
    match = DURATION.fullmatch(text.strip())
    seconds = 0.0
    if match:
        seconds = sum(int(number or 0) * unit for number, unit in zip(match.groups(), UNITS_S.values(), strict=True))
    if seconds <= 0.0:
        raise InputError(
            f"--time-limit {text}: not a duration; write days, hours, minutes and seconds as in 7h50m or 1d"
        )
    return seconds


class TimeLimit:
    """A context manager that sends this process SIGTERM at the limit, unless its block has ended before.

    The time counts from the construction of the object on; several blocks may follow one another.

    Args:
        seconds: The limit, s; None: no limit.

    Attributes:
        reached: Whether the limit was reached.
    """

    def __init__(self, seconds: float | None) -> None:
        self.reached = False
        self._ended, self._ending = False, threading.Lock()
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        self._ended = False
        if self._deadline is not None:
            self._timer = threading.Timer(max(0.0, self._deadline - time.monotonic()), self._end)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._ending:  # a timer that has just fired sends its signal before this line, or not at all
            self._ended = True

    def _end(self) -> None:
        with self._ending:
            if not self._ended:
                self.reached = True
                os.kill(os.getpid(), signal.SIGTERM)
