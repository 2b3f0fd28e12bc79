"""Ctrl-C and SIGTERM that are never lost: Prefect drops some while it winds up a run, and stumbles over others.

It also puts a SIGTERM handler of its own around every flow. So it is not a handler that remembers them here, but what
CPython writes for every signal that has any. While Prefect is imported, they wait.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
_MOST_BYTES = 65536  # a pipe holds no more


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM take effect when the block ends; other threads are never interrupted by them.

    For code that makes an error of its own of an interrupt: Prefect's import, in which pydantic builds its models, and
    h5py's calls.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in INTERRUPTS}
    heeded = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in heeded:
        signal.signal(number, lambda seen, _: arrived.append(seen))
    try:
        yield
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)
    if arrived:
        signal.raise_signal(arrived[0])


class Interrupts:
    """Remembers Ctrl-C and SIGTERM while its block runs, whoever handles them; to be entered by the main thread."""

    def __enter__(self) -> Self:
        self._seen = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._before)
        os.close(self._reader)
        os.close(self._writer)

    def request(self) -> None:
        """Ask for a stop, as Ctrl-C does; from any thread."""
        self._seen = True

    def check(self) -> None:
        """Stop if a stop was asked for; from any thread.

        Raises:
            KeyboardInterrupt: If there was a Ctrl-C or a SIGTERM.
        """
        with suppress(BlockingIOError):
            arrived = os.read(self._reader, _MOST_BYTES)  # a byte for each signal, its number
            self._seen = self._seen or any(number in arrived for number in INTERRUPTS)
        if self._seen:
            raise KeyboardInterrupt
