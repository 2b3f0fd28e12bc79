"""Interrupts that other code drops or turns into errors are not lost."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from flows.session.interrupts import INTERRUPTS, Interrupts, interrupts_wait


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.getsignal(number) for number in INTERRUPTS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", INTERRUPTS)
def test_a_dropped_interrupt_is_raised_at_every_check(number):
    """Also if another handler has been installed, as Prefect's flows do."""
    with Interrupts() as interrupts:
        interrupts.check()
        signal.signal(number, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                interrupts.check()


@pytest.mark.parametrize("number", INTERRUPTS)
def test_an_interrupt_during_an_import_takes_effect_after_it(number):
    signal.signal(number, signal.default_int_handler)
    done = []

    def imported():
        with interrupts_wait():
            os.kill(os.getpid(), number)
            done.append(number)

    with pytest.raises(KeyboardInterrupt):
        imported()
    assert done == [number]
    assert signal.getsignal(number) is signal.default_int_handler


def test_other_signals_are_no_interrupts():
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGUSR1)
        interrupts.check()
    signal.signal(signal.SIGUSR1, before)


def test_background_jobs_still_ignore_it():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupts() as interrupts, interrupts_wait():
        os.kill(os.getpid(), signal.SIGINT)
        interrupts.check()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_an_interrupt_that_prefect_stumbles_over_is_known(prefect_server):
    """Prefect's task engine then raises an error about a missing run, which would look like a bug."""
    script = Path(__file__).parents[1] / "stumbling_flow.py"
    answer = subprocess.run(
        [sys.executable, script], env=prefect_server, capture_output=True, text=True, timeout=120, check=False
    )
    assert answer.stdout.splitlines() == ["SIGTERM: ValueError, known", "SIGINT: ValueError, known"], answer.stderr


def test_a_thread_that_is_not_the_main_one_imports_without_touching_signals():
    before = [signal.getsignal(number) for number in INTERRUPTS]

    def handlers_within():
        with interrupts_wait():
            return [signal.getsignal(number) for number in INTERRUPTS]

    with ThreadPoolExecutor() as threads:
        assert threads.submit(handlers_within).result() == before
