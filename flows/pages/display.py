"""Progress on stderr: bars with rate and remaining time on a terminal, otherwise a line every `LINE_INTERVAL_S`."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self, TypeAlias

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from al_engine.protocols import Progress
from flows.pages.terminal import plain_console

LINE_INTERVAL_S = 15.0
"""Shortest time between two lines of progress if stderr is not a terminal, s."""
Piece: TypeAlias = str | tuple[str, str]
"""A text, or a text with its style."""


class RateColumn(ProgressColumn):
    """A column with units per second, or with seconds per unit if the rate is below 1/s."""

    def render(self, task: Task) -> Text:
        """Draw the column."""
        return Text(rate_text(task.finished_speed or task.speed or 0.0), style="cyan")


def rate_text(per_second: float) -> str:
    """A rate as text: units per second, or seconds per unit; empty for no rate."""
    if per_second <= 0:
        return ""
    return f"{per_second:.1f}/s" if per_second >= 1 else f"{1 / per_second:.1f} s each"


def duration_text(seconds: float) -> str:
    """A duration as short text, in seconds, minutes or hours."""
    if seconds < 600:  # noqa: PLR2004 (ten minutes)
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def number_text(value: float | None, form: str = ".1f") -> str:
    """A number in a format, or a dash for None."""
    return "-" if value is None else format(value, form)


class Display:
    """A context manager that shows the steps of a campaign on stderr.

    Args:
        quiet: Whether nothing is shown.

    Attributes:
        console: The console on stderr.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = plain_console(stderr=True, quiet=quiet)
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            RateColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def say(self, *pieces: Piece) -> None:
        """Print a line, joined from pieces of text, above the bars."""
        self.console.print(Text.assemble(*pieces), soft_wrap=True)

    @contextmanager
    def step(self, name: str) -> Iterator[Progress]:
        """Show one step while the block runs.

        Args:
            name: Name of the step.

        Yields:
            The function that receives the progress of the step; it may be called from several threads.
        """
        start = time.monotonic()
        bar = self._bars.add_task(name, total=None, note="")
        last_line = start  # time of the last line

        def progress(done: int, total: int, note: str = "") -> None:
            nonlocal last_line
            self._bars.update(bar, completed=done, total=total or None, note=note)
            now = time.monotonic()
            with self._lock:
                waits = done == total == 0 and bool(note)  # such as for a machine of a cluster
                due = not self.console.is_terminal and now - last_line > LINE_INTERVAL_S and (waits or 0 < done < total)
                if due:
                    last_line = now
            if due and waits:
                self.say(f"  {name}: {note}")
            elif due:
                rate = done / (now - start)
                left = duration_text((total - done) / rate)
                self.say(f"  {name}: {done}/{total}, {rate_text(rate)}, {left} left {note}".rstrip())

        try:
            yield progress
        finally:
            self._bars.remove_task(bar)
