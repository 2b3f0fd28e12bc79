"""Ctrl-C that somebody else's code drops is raised again."""

import os
import signal
from contextlib import suppress

import pytest

from flows.interrupts import Interrupts


@pytest.fixture(autouse=True)
def _handlers():
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_dropped_interrupt_is_raised_at_every_check():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Interrupts() as interrupts:
        interrupts.check()
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                interrupts.check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_background_jobs_still_ignore_it():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        interrupts.check()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
