"""Workers: what a job reports goes to the parent, and a worker that is killed costs no job."""

import logging
import threading
import time
from queue import SimpleQueue

import pytest
from worker_jobs import chatty_job, fatal_job, slow_job

from al_engine.errors import ResumableError
from flows.compute.local import ComputePool, _Channel, _run


def noisy_job(*, progress, name):
    """Report, log, and return."""
    logging.getLogger("models.inference.compiled").info("compiling")
    progress(3, 7, "force error 40 meV/Å")
    logging.getLogger("models.inference.compiled").info("compiled in %d s", 42)
    logging.getLogger("another.library").warning("nobody wants to know")
    return name


def test_notes_come_from_progress_and_from_the_log(monkeypatch):
    messages = SimpleQueue()
    monkeypatch.setattr(_Channel, "messages", messages)
    assert _run(noisy_job, 5, {"name": "done"}) == "done"
    logging.getLogger("models.inference.compiled").info("after the job")
    expected = [(5, 0, 0, "compiling"), (5, 3, 7, "force error 40 meV/Å"), (5, 3, 7, "compiled in 42 s")]
    assert [messages.get() for _ in expected] == expected
    assert messages.empty()


def test_a_job_whose_worker_is_killed_is_done_by_another(tmp_path):
    with ComputePool(2) as pool:
        first = pool.run(slow_job, seconds=0.0)
        assert pool.run(fatal_job, folder=str(tmp_path), deaths=1) != first
        assert pool.run(slow_job, seconds=0.0) > 0


def test_a_job_that_kills_every_worker_ends_the_campaign_resumable(tmp_path):
    with ComputePool(1) as pool, pytest.raises(ResumableError, match="a worker process died"):
        pool.run(fatal_job, folder=str(tmp_path), deaths=10)


def test_jobs_side_by_side_survive_the_death_of_one_s_worker(tmp_path):
    """The executor kills all its workers when one dies."""
    done, seen = {}, []
    with ComputePool(2) as pool:

        def work(name, job, **arguments):
            done[name] = pool.run(job, progress=lambda *place: seen.append(place), **arguments)

        threads = [
            threading.Thread(target=work, args=("slow", slow_job), kwargs={"seconds": 2.0}),
            threading.Thread(target=work, args=("fatal", fatal_job), kwargs={"folder": str(tmp_path), "deaths": 1}),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert set(done) == {"slow", "fatal"}
    assert (1, 2, "") in seen


def test_killed_on_purpose_nothing_is_started_again():
    with ComputePool(1) as pool:
        pool.run(slow_job, seconds=0.0)
        threading.Timer(0.5, pool.kill).start()
        start = time.monotonic()
        with pytest.raises(ResumableError):
            pool.run(slow_job, seconds=60.0)
        assert time.monotonic() - start < 10.0


@pytest.mark.timeout(60)
def test_a_worker_killed_while_it_reports_holds_up_nobody():
    """It may die with the lock of the pipe in its hands."""
    for _ in range(5):
        with ComputePool(1) as pool:
            timer = threading.Timer(0.5, pool.kill)
            timer.start()
            with pytest.raises(ResumableError):
                pool.run(chatty_job)
            timer.join()
