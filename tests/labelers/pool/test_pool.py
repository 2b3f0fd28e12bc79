"""The pool: outcomes keep the order of the frames, do not depend on the workers, and a fault costs a single frame."""

import ast
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from faulty_labelers import Fault

from al_engine.config import LabelsConfig, SelectionConfig
from al_engine.errors import InputError, ResumableError
from al_engine.structures.frames import Frame, dataset_digest
from labelers import LabelPool, LabelReason, create_labeler, label_chunk

CONFIG = LabelsConfig(backend="xtb")


def frame_with(fault=Fault.NONE, tag=0.0):
    return Frame(numbers=[6, 1], positions=[[tag, 0, 0], [0, 0, 1.0]], charge=int(fault))


def assert_right(outcome, frame):
    assert outcome.reason is LabelReason.OK, outcome.message
    assert outcome.labelled.frame is frame
    assert outcome.labelled.energy == frame.positions.sum()
    assert np.array_equal(outcome.labelled.forces, 2.0 * frame.positions)


def rattled(frame, n, seed=0):
    rng = np.random.default_rng(seed)
    return [frame.with_positions(frame.positions + rng.normal(0, 0.05, frame.positions.shape)) for _ in range(n)]


def wait_until_gone(pids, seconds=10.0):
    def running(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:
            return False

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(running(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def report_of(pool):
    (outcome,) = pool.label([frame_with(Fault.REPORT)], time_limit_s=60.0)
    return ast.literal_eval(outcome.message)


@pytest.mark.parametrize("backend", ["xtb", "tblite"])
def test_labels_are_bitwise_the_same_whichever_worker_made_them(molecules, backend):
    config = LabelsConfig(backend=backend)
    frames = rattled(molecules["ethanol"], 8) + rattled(molecules["water"], 4) + [molecules["C12F27N"]]
    with LabelPool(config, workers=1) as one, LabelPool(config, workers=2) as two:
        alone = one.label(frames, time_limit_s=60.0)
        shared = two.label(frames, time_limit_s=60.0)
        backwards = two.label(frames[::-1], time_limit_s=60.0)[::-1]
    digests = {dataset_digest([outcome.labelled for outcome in outcomes]) for outcomes in (alone, shared, backwards)}
    assert len(digests) == 1
    energy, forces, _ = create_labeler(config).label(frames[-1])
    assert alone[-1].labelled.energy == pytest.approx(energy, abs=1e-8)
    np.testing.assert_allclose(alone[-1].labelled.forces, forces, atol=1e-7)


def test_periodic_frames_are_labelled_by_tblite(diamond):
    with LabelPool(LabelsConfig(), periodic=True, workers=1) as pool:
        (outcome,) = label_chunk(pool, [diamond], LabelsConfig(), SelectionConfig())
    energy, forces, _ = create_labeler(LabelsConfig(backend="tblite")).label(diamond)
    assert outcome.labelled.energy == pytest.approx(energy, abs=1e-8)
    np.testing.assert_allclose(outcome.labelled.forces, forces, atol=1e-7)


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        (Fault.SEGFAULT, LabelReason.WORKER_DIED, "SIGSEGV"),
        (Fault.EXIT, LabelReason.WORKER_DIED, "exit status 3"),
        (Fault.HANG, LabelReason.TIME_LIMIT, "no label after 1 s"),
        (Fault.NAN_ENERGY, LabelReason.NON_FINITE, "energy"),
        (Fault.INFINITE_FORCE, LabelReason.NON_FINITE, "atom 0"),
        (Fault.RAISE, LabelReason.BACKEND_ERROR, "ZeroDivisionError: by zero"),
        (Fault.WRONG_SHAPE, LabelReason.BACKEND_ERROR, r"shape (2, 2)"),
        (Fault.ABSURD, LabelReason.ABSURD_FORCES, "above 100 eV/Å"),
        (Fault.NOT_CONVERGED, LabelReason.NOT_CONVERGED, "no luck"),
    ],
)
def test_a_fault_costs_only_its_frame(faulty, fault, reason, words):
    frames = [frame_with(tag=float(index)) for index in range(8)]
    frames[3] = frame_with(fault)
    with LabelPool(CONFIG, workers=2, factory=faulty) as pool:
        outcomes = pool.label(frames, time_limit_s=1.0)
        assert outcomes[3].reason is reason
        assert words in outcomes[3].message
        assert outcomes[3].labelled is None
        for index, (outcome, frame) in enumerate(zip(outcomes, frames, strict=True)):
            if index != 3:
                assert_right(outcome, frame)
        healthy = frame_with(tag=9.0)
        assert_right(pool.label([healthy], time_limit_s=1.0)[0], healthy)


def test_a_crash_does_not_touch_the_frame_another_worker_has(faulty):
    frames = [frame_with(Fault.SLOW)] + [frame_with(Fault.SEGFAULT)] * 3 + [frame_with(Fault.SLOW)]
    with LabelPool(CONFIG, workers=2, factory=faulty) as pool:
        outcomes = pool.label(frames, time_limit_s=30.0)
    assert [outcome.reason for outcome in outcomes] == ["ok", "worker_died", "worker_died", "worker_died", "ok"]


def test_a_worker_that_floods_its_output_still_labels(faulty, capfd):
    frame = frame_with(Fault.FLOOD)
    with LabelPool(CONFIG, workers=1, factory=faulty) as pool:
        assert_right(pool.label([frame], time_limit_s=30.0)[0], frame)
    assert capfd.readouterr() == ("", "")


def test_start_up_does_not_count_as_labelling(faulty):
    frame = frame_with()
    with LabelPool(CONFIG, workers=1, factory=faulty.replace("create", "slow_to_build")) as pool:
        assert_right(pool.label([frame], time_limit_s=0.5)[0], frame)


def test_a_labeler_that_cannot_be_built_is_bad_input(faulty):
    with (
        LabelPool(CONFIG, workers=2, factory=faulty.replace("create", "unbuildable")) as pool,
        pytest.raises(InputError, match="no xtb today"),
    ):
        pool.label([frame_with()], time_limit_s=10.0)


def test_a_check_reports_before_the_first_label_that_the_labeler_can_t_be_built(faulty):
    with LabelPool(CONFIG, workers=1, factory=faulty) as pool:
        pool.check(frame_with())  # a labeler that checks nothing
        assert pool.worker_pids == []
    with (
        LabelPool(CONFIG, workers=1, factory=faulty.replace("create", "unbuildable")) as pool,
        pytest.raises(InputError, match="no xtb today"),
    ):
        pool.check(frame_with())
    with (
        LabelPool(CONFIG, workers=1, factory=faulty.replace("create", "dies_at_start")) as pool,
        pytest.raises(ResumableError, match="SIGSEGV"),
    ):
        pool.check(frame_with())


def test_an_unknown_ase_calculator_is_bad_input():
    config = LabelsConfig(backend="ase", ase_calculator="no_such_code")
    with LabelPool(config, workers=1) as pool, pytest.raises(InputError, match="no_such_code"):
        pool.label([frame_with()], time_limit_s=10.0)


def test_workers_that_die_at_start_end_the_call_instead_of_looping(faulty):
    with (
        LabelPool(CONFIG, workers=2, factory=faulty.replace("create", "dies_at_start")) as pool,
        pytest.raises(ResumableError, match="SIGSEGV"),
    ):
        pool.label([frame_with()] * 4, time_limit_s=10.0)


def test_workers_load_little_use_one_thread_and_keep_the_parent_s_environment(faulty, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    with LabelPool(CONFIG, workers=1, factory=faulty) as pool:
        report = report_of(pool)
    assert report["heavy"] == []
    assert set(report["threads"].values()) == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "5"


def test_a_folder_in_the_working_directory_does_not_shadow_the_package(faulty, monkeypatch, tmp_path):
    (tmp_path / "labelers").mkdir()
    (tmp_path / "labelers" / "__init__.py").write_text("raise SystemExit('wrong package')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    frame = frame_with()
    with LabelPool(CONFIG, workers=1, factory=faulty) as pool:
        assert_right(pool.label([frame], time_limit_s=10.0)[0], frame)


def test_workers_are_started_once_and_outlive_the_thread_that_first_used_them(faulty):
    with LabelPool(CONFIG, workers=2, factory=faulty) as pool:
        assert pool.worker_pids == []
        frames = [frame_with(Fault.SLOW)] * 2
        thread = threading.Thread(target=pool.label, args=(frames,), kwargs={"time_limit_s": 10.0})
        thread.start()
        thread.join()
        first = pool.worker_pids
        time.sleep(0.2)
        assert [outcome.ok for outcome in pool.label(frames, time_limit_s=10.0)] == [True, True]
        assert pool.worker_pids == first
        assert len(first) == 2
    assert wait_until_gone(first, seconds=1.0)


def test_a_worker_killed_between_two_calls_costs_no_frame(faulty):
    frame = frame_with()
    with LabelPool(CONFIG, workers=1, factory=faulty) as pool:
        pool.label([frame], time_limit_s=10.0)
        os.kill(pool.worker_pids[0], signal.SIGKILL)
        assert_right(pool.label([frame], time_limit_s=10.0)[0], frame)


def test_workers_are_replaced_before_a_leak_grows_large(faulty, monkeypatch):
    monkeypatch.setattr("labelers.pool.pool._LABELS_PER_WORKER", 2)
    frames, pids = [frame_with() for _ in range(5)], set()
    with LabelPool(CONFIG, workers=1, factory=faulty) as pool:
        outcomes = pool.label(frames, time_limit_s=10.0, record=lambda *_: pids.update(pool.worker_pids))
    for outcome, frame in zip(outcomes, frames, strict=True):
        assert_right(outcome, frame)
    assert len(pids) == 3


def test_a_frame_that_wants_more_memory_than_allowed_is_a_failure(faulty):
    limited = CONFIG.model_copy(update={"memory_limit_mib": 1024})
    hungry, frame = frame_with(Fault.HUNGRY), frame_with()
    with LabelPool(limited, workers=1, factory=faulty) as pool:
        failed, sound = pool.label([hungry, frame], time_limit_s=20.0)
    assert not failed.ok
    assert "MemoryError" in failed.message or "memory_limit_mib is 1024" in failed.message
    assert_right(sound, frame)


def test_a_worker_killed_from_outside_while_labelling_costs_no_frame(faulty):
    frame = frame_with(Fault.SLOW)
    with LabelPool(CONFIG, workers=1, factory=faulty) as pool:
        pool.label([frame], time_limit_s=10.0)
        threading.Timer(0.1, os.kill, args=(pool.worker_pids[0], signal.SIGKILL)).start()
        outcome = pool.label([frame], time_limit_s=10.0)[0]
        assert outcome.reason is LabelReason.OK


def test_calls_from_two_threads_take_turns(faulty):
    with LabelPool(CONFIG, workers=2, factory=faulty) as pool:
        results = {}

        def call(tag):
            results[tag] = pool.label([frame_with(tag=tag)] * 20, time_limit_s=10.0)

        threads = [threading.Thread(target=call, args=(float(tag),)) for tag in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(len(results[tag]) == 20 for tag in (0.0, 1.0, 2.0))
    assert all(outcome.labelled.energy == tag + 1.0 for tag, outcomes in results.items() for outcome in outcomes)


def test_closing_does_not_wait_for_a_label(faulty):
    """An interrupt closes the pool from another thread, while a label that may take hours is computed."""
    pool = LabelPool(CONFIG, workers=1, factory=faulty)
    pool.label([frame_with()], time_limit_s=10.0)
    errors = []

    def label():
        try:
            pool.label([frame_with(Fault.HANG)] * 3, time_limit_s=3600.0)
        except ResumableError as error:
            errors.append(str(error))

    thread = threading.Thread(target=label)
    pids = pool.worker_pids
    thread.start()
    time.sleep(0.3)  # until the worker has the frame that hangs
    begun = time.monotonic()
    pool.close()
    assert time.monotonic() - begun < 10.0
    thread.join(timeout=10.0)
    assert errors == ["labelling was stopped"]
    assert wait_until_gone(pids)


def test_progress_counts_every_frame_once(faulty):
    seen = []
    frames = [frame_with(), frame_with(Fault.RAISE), frame_with()]
    with LabelPool(CONFIG, workers=2, factory=faulty) as pool:
        pool.label(frames, time_limit_s=10.0, progress=lambda done, total, note="": seen.append((done, total, note)))
        assert pool.label([], time_limit_s=10.0) == []
    assert [(done, total) for done, total, _ in seen] == [(1, 3), (2, 3), (3, 3)]
    assert sorted(note for _, _, note in seen) == ["", "", "backend_error"]


def test_refused_frames_never_reach_a_worker(faulty, molecules):
    water = molecules["water"]
    coincident = water.with_positions(np.zeros((3, 3)))
    uranium = Frame(numbers=[92, 1, 1], positions=water.positions)
    odd = Frame(numbers=water.numbers, positions=water.positions, charge=1)
    nan = water.with_positions(np.full((3, 3), np.nan))
    dummy = Frame(numbers=[0, 1, 1], positions=water.positions)
    seen = []
    with LabelPool(CONFIG, workers=1, factory=faulty) as pool:
        bad = [coincident, uranium, odd, nan, dummy]
        outcomes = label_chunk(
            pool, bad, CONFIG, SelectionConfig(), progress=lambda done, total, _="": seen.append((done, total))
        )
        assert [outcome.reason for outcome in outcomes] == [LabelReason.BAD_INPUT] * 5
        assert all(outcome.message and outcome.labelled is None for outcome in outcomes)
        assert pool.worker_pids == []
        mixed = label_chunk(pool, [bad[0], water, bad[1], water], CONFIG, SelectionConfig())
        assert [outcome.ok for outcome in mixed] == [False, True, False, True]
        assert_right(mixed[1], water)
    assert seen[-1] == (5, 5)


def test_the_distance_gate_is_the_callers(faulty, molecules):
    with LabelPool(CONFIG, workers=1, factory=faulty) as pool:
        (outcome,) = label_chunk(pool, [molecules["water"]], CONFIG, SelectionConfig(min_distance_ang=1.2))
    assert outcome.reason is LabelReason.BAD_INPUT
    assert "1.2 Å" in outcome.message


PARENT = """
    import signal, sys, threading, time
    sys.path.insert(0, {folder!r})
    from al_engine.config import LabelsConfig
    from al_engine.structures.frames import Frame
    from labelers import LabelPool

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    pool = LabelPool(LabelsConfig(backend="xtb"), workers=2, factory="faulty_labelers:create")
    frames = [Frame(numbers=[1], positions=[[0, 0, 0]], charge=charge) for charge in (0, 0, 2, 2)]
    threading.Timer(2.0, lambda: print(*pool.worker_pids, flush=True)).start()
    with pool:
        pool.label(frames, time_limit_s=600.0)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(how, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT).format(folder=str(Path(__file__).parents[1])))
    command = [sys.executable, str(script)]
    parent = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        if how is signal.SIGINT:
            os.killpg(parent.pid, how)  # as a terminal does: to the whole process group
        else:
            parent.kill()
        errors = parent.communicate(timeout=20)[1]
    assert wait_until_gone(pids)
    assert errors.count("Traceback") == (1 if how is signal.SIGINT else 0)  # the parent's own at most
