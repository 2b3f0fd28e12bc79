"""Ctrl-C and SIGTERM that are never lost, although Prefect runs in the same process.

Prefect drops some interrupts while it ends a run, and turns others into errors of its own. It also installs its own
SIGTERM handler around every flow, so a signal handler of this module would miss signals. `Interrupts` uses
`signal.set_wakeup_fd` instead: CPython writes a byte for every signal to that file descriptor, whatever handler Prefect
installs. `interrupts_wait` delays interrupts during calls that would turn them into errors, such as the import of
Prefect.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
_MOST_BYTES = 65536  # capacity of a pipe: one read empties it


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the block ends.

    It is used around code that turns an interrupt into another error: the import of Prefect, in which pydantic builds
    its models, and calls of h5py. Signals interrupt only the main thread, so in other threads nothing is delayed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in INTERRUPTS}
    not_ignored = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in not_ignored:
        signal.signal(number, lambda seen, _: arrived.append(seen))
    try:
        yield
    finally:
        for number, handler in not_ignored.items():
            signal.signal(number, handler)
    if arrived:
        signal.raise_signal(arrived[0])


class Interrupts:
    """Remembers Ctrl-C and SIGTERM while its block runs, whatever handler is installed; enter it in the main thread."""

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
        """Ask for a stop, as Ctrl-C does; may be called from any thread."""
        self._seen = True

    def check(self) -> None:
        """Raise if a stop was asked for; may be called from any thread.

        Raises:
            KeyboardInterrupt: If Ctrl-C, SIGTERM or a call of `request` has arrived.
        """
        with suppress(BlockingIOError):
            arrived = os.read(self._reader, _MOST_BYTES)  # one byte per signal: its number
            self._seen = self._seen or any(number in arrived for number in INTERRUPTS)
        if self._seen:
            raise KeyboardInterrupt
