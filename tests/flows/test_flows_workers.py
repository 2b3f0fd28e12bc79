"""What a worker's job reports goes to its parent, and so does what models log meanwhile."""

import logging
from queue import SimpleQueue

from flows.workers import _Channel, _run


def noisy_job(*, progress, name):
    """Report, log, and return."""
    logging.getLogger("models.compiled").info("compiling")
    progress(3, 7, "force error 40 meV/Å")
    logging.getLogger("models.compiled").info("compiled in %d s", 42)
    logging.getLogger("another.library").warning("nobody wants to know")
    return name


def test_notes_come_from_progress_and_from_the_log(monkeypatch):
    messages = SimpleQueue()
    monkeypatch.setattr(_Channel, "messages", messages)
    assert _run(noisy_job, 5, {"name": "done"}) == "done"
    logging.getLogger("models.compiled").info("after the job")
    expected = [(5, 0, 0, "compiling"), (5, 3, 7, "force error 40 meV/Å"), (5, 3, 7, "compiled in 42 s")]
    assert [messages.get() for _ in expected] == expected
    assert messages.empty()
