"""Interrupts that somebody else's code drops, or stumbles over, are not lost."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from flows.interrupts import Interrupts
from flows.runner import _was_interrupted


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


def test_an_interrupt_that_prefect_stumbles_over_is_known_for_one(prefect_server):
    """Its task engine then complains that there is no run yet, which would look like a bug."""
    script = Path(__file__).parent / "stumbling_flow.py"
    answer = subprocess.run(
        [sys.executable, script], env=prefect_server, capture_output=True, text=True, timeout=120, check=False
    )
    expected = [f"{name}: ValueError, interrupted: True" for name in ("SIGTERM", "SIGINT")]
    assert answer.stdout.splitlines() == expected, answer.stderr


def test_other_errors_are_no_interrupts():
    assert not _was_interrupted(ValueError("Task run is not set"))
