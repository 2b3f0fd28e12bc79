"""What a campaign's tasks share inside one process: its stages and its display, found without being passed around.

Prefect records a task's arguments, so those are numbers; the pools and the ledger travel in a context variable, which
Prefect copies into the threads of its tasks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from flows.pages.display import Display
from flows.session.interrupts import Interrupts
from flows.stages.campaign import Campaign


@dataclass(frozen=True, slots=True)
class Session:
    """One process's run of one campaign."""

    campaign: Campaign
    display: Display
    interrupts: Interrupts


_SESSION: ContextVar[Session] = ContextVar("session")


def session() -> Session:
    """The session this code runs in.

    Raises:
        LookupError: Outside `in_session`.
    """
    return _SESSION.get()


@contextmanager
def in_session(current: Session) -> Iterator[None]:
    """Make a session the current one while the block runs."""
    token = _SESSION.set(current)
    try:
        yield
    finally:
        _SESSION.reset(token)
