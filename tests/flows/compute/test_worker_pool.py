"""Workers: what a job reports goes to the parent, and a worker that is killed costs no job."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from worker_jobs import chatty_job, device_job, diverging_job, fatal_job, faulty_job, noisy_job, quiet_job, slow_job

from al_engine.errors import InputError, ResumableError
from al_engine.protocols import silent
from flows.compute.worker_pool import ComputePool, request_of


def test_notes_come_from_progress_and_from_the_log():
    messages = []
    with ComputePool(1) as pool:
        result = pool.run(noisy_job, progress=lambda *message: messages.append(message), name="done")
        assert result == ["done", 0.1, None, float("inf")]
        assert messages == [(0, 0, "compiling"), (3, 7, "force error 40 meV/Å"), (3, 7, "compiled in 42 s")]
        messages.clear()
        pool.run(quiet_job, progress=lambda *message: messages.append(message))
        assert messages == [(0, 0, "another job")]


def test_a_job_s_error_is_raised_again_and_its_worker_goes_on():
    with ComputePool(1) as pool:
        worker = pool.run(slow_job, seconds=0.0)
        with pytest.raises(InputError, match="learning_rate"):
            pool.run(diverging_job)
        with pytest.raises(RuntimeError, match=r"(?s)worker_jobs.py.*ZeroDivisionError: a bug of the job"):
            pool.run(faulty_job)
        assert pool.run(slow_job, seconds=0.0) == worker


def test_an_exception_of_whoever_watches_ends_the_job():
    def watch(*_):
        raise KeyboardInterrupt

    with ComputePool(1) as pool:
        first = pool.run(slow_job, seconds=0.0)
        with pytest.raises(KeyboardInterrupt):
            pool.run(slow_job, progress=watch, seconds=60.0)
        assert pool.run(slow_job, seconds=0.0) != first  # the worker of the lost job is not used again


def test_an_idle_worker_that_was_killed_is_replaced():
    with ComputePool(1) as pool:
        first = pool.run(slow_job, seconds=0.0)
        os.kill(first, signal.SIGKILL)
        assert pool.run(slow_job, seconds=0.0) != first


def test_a_job_whose_worker_is_killed_is_done_by_another(tmp_path):
    with ComputePool(2) as pool:
        first = pool.run(slow_job, seconds=0.0)
        assert pool.run(fatal_job, folder=str(tmp_path), deaths=1) != first
        assert pool.run(slow_job, seconds=0.0) > 0


def test_a_job_that_kills_every_worker_ends_the_campaign_resumable(tmp_path):
    with ComputePool(1) as pool, pytest.raises(ResumableError, match="a worker process died"):
        pool.run(fatal_job, folder=str(tmp_path), deaths=10)


def test_jobs_side_by_side_survive_the_death_of_one_s_worker(tmp_path):
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
    """It may die in the middle of a message."""
    for _ in range(5):
        with ComputePool(1) as pool:
            timer = threading.Timer(0.5, pool.kill)
            timer.start()
            with pytest.raises(ResumableError):
                pool.run(chatty_job)
            timer.join()


def test_ctrl_c_does_not_reach_a_worker_that_is_starting():
    """A process group gets the signal while Python starts in the worker, before the worker can ignore it."""
    program = (
        "import os, signal, threading\n"
        "from worker_jobs import slow_job\n"
        "from flows.compute.worker_pool import ComputePool\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "with ComputePool(1) as pool:\n"
        "    for k in range(20):\n"
        "        threading.Timer(0.02 * k, os.killpg, (0, signal.SIGINT)).start()\n"
        "    pid = pool.run(slow_job, seconds=0.5)\n"
        "    assert pool.run(slow_job, seconds=0.0) == pid\n"
    )
    folders = os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])
    answer = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        env={**os.environ, "PYTHONPATH": folders},
        start_new_session=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    assert "KeyboardInterrupt" not in answer.stderr


def test_every_worker_has_a_gpu_of_its_own_and_a_lost_one_is_lent_again(tmp_path):
    with ComputePool(3, gpus=("4", "5", "GPU-6")) as pool, ThreadPoolExecutor(3) as threads:

        def devices():
            return sorted(threads.map(lambda _: pool.run(device_job, seconds=1.0), range(3)))

        assert devices() == ["4", "5", "GPU-6"]
        pool.run(fatal_job, folder=str(tmp_path), deaths=1)
        assert devices() == ["4", "5", "GPU-6"]


def test_without_gpus_workers_see_what_this_process_sees(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with ComputePool(1) as pool:
        assert pool.run(device_job, seconds=0.0) == "7"


def test_a_job_ends_at_its_time_limit_or_when_nobody_waits_for_it():
    with ComputePool(1) as pool:
        start = time.monotonic()
        request = request_of(slow_job, {"seconds": 60.0})
        assert pool.answer(request, silent, time_limit_s=0.5) is None
        assert pool.answer(request, silent, cancelled=lambda: time.monotonic() > start + 2.0) is None
        assert pool.answer(request_of(chatty_job, {}), silent, time_limit_s=0.5) is None
        assert time.monotonic() - start < 10.0
        assert pool.run(slow_job, seconds=0.0) > 0
