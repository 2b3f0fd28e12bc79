import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from al_engine.errors import InputError
from contestants.counting import count_operations
from contestants.ours import Ours
from contestants.profiling import profile_tables
from contestants.structures import Structure, write_structures
from contestants.worker import _Session
from harness import Conditions, Entry, Spread, Timing, Worker, WorkerError, peak_memory, ratio, take_turns
from peers import python_of

CPU = torch.device("cpu")
MODEL = {
    "kind": "ms-mace",
    "short": {"cutoff_ang": 3.0, "channels": 4, "l_max": 1, "radial_mlp": []},
    "long": {"cutoff_ang": 6.0, "channels": 4, "l_max": 1, "radial_mlp": []},
}
SETTING = {"model": MODEL, "mode": "plain"}
CONDITIONS = Conditions(rounds=3, turn_seconds=0.02)


@pytest.fixture(scope="module")
def molecules():
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(3) * 1.5] * 3), axis=-1).reshape(-1, 3)
    return {
        name: Structure(
            numbers=np.resize([6, 7, 9], len(grid)),
            positions=grid + rng.uniform(-0.1, 0.1, grid.shape),
            cell=np.zeros((3, 3)),
            pbc=np.zeros(3, dtype=bool),
            energy=np.array(rng.normal()),
            forces=rng.normal(size=grid.shape),
        )
        for name in ("train_0", "train_1")
    }


@pytest.fixture(scope="module")
def structures(molecules, tmp_path_factory):
    path = tmp_path_factory.mktemp("structures") / "structures.npz"
    write_structures(path, molecules)
    return path


@pytest.fixture(scope="module")
def entry():
    return Entry("ours", "ours", Path(sys.executable), SETTING)


@pytest.fixture(scope="module")
def worker(entry, structures):
    with Worker(entry, structures, CONDITIONS) as worker:
        yield worker


class Allocating:
    """A contestant whose task allocates the memory that its setting says."""

    def task(self, mebibytes, _):
        return lambda: torch.ones(int(mebibytes) * 2**18).sum()  # float32


def test_a_worker_evaluates_the_model_it_was_told_to(worker, molecules):
    worker.ask("prepare", task="forces", structures=["train_0"])
    found = worker.ask("result")
    energies, forces = Ours(SETTING, list(molecules.values()), CPU).task("forces", [molecules["train_0"]])()
    np.testing.assert_allclose(found["energies"], energies, rtol=1e-6)
    np.testing.assert_allclose(found["forces"], forces, atol=1e-5)
    assert worker.description["versions"]["torch"] == torch.__version__


def test_a_worker_gives_one_time_per_run(worker):
    worker.ask("prepare", task="training", structures=["train_0", "train_1"])
    times = worker.ask("measure", n=4)
    assert {clock: len(values) for clock, values in times.items()} == {"cpu_ms": 4, "wall_ms": 4}
    assert min(times["cpu_ms"]) > 0


def test_everyone_has_as_many_rounds_and_the_dead_have_none(worker, entry, structures):
    worker.ask("prepare", task="neighbours", structures=["train_0"])
    lost = []
    with Worker(entry, structures, CONDITIONS) as dead:
        dead._process.kill()
        timings = take_turns({"a": worker, "dead": dead, "b": worker}, CONDITIONS, lost=lost.append)
    (error,) = lost
    assert "SIGKILL" in error.reason
    assert list(timings) == ["a", "b"]
    assert all(len(timing.rounds["cpu_ms"]) == CONDITIONS.rounds for timing in timings.values())


def test_a_worker_that_fails_says_why(entry, structures):
    with Worker(entry, structures, CONDITIONS) as worker, pytest.raises(WorkerError, match="KeyError: 'nonsense'"):
        worker.ask("prepare", task="nonsense", structures=["train_0"])
    unknown = Entry("ours", "ours", entry.python, {**SETTING, "model": {"kind": "nonsense"}})
    with pytest.raises(WorkerError, match="nonsense"):
        peak_memory(unknown, structures, CONDITIONS, task="forces", names=["train_0"])


@pytest.mark.parametrize("mebibytes", [30, 120])
def test_peak_memory_is_what_the_task_took(mebibytes):
    session = _Session(Allocating(), {}, CPU)
    session.prepare(str(mebibytes), [])
    # the process's resident memory is what is read: a few MiB of other libraries' come and go beside the task's
    assert session.memory(2)["peak_mib"] == pytest.approx(mebibytes, abs=8)


def test_operations_are_those_of_the_matrix_product():
    a, b = torch.ones(7, 5), torch.ones(5, 3)
    counts = count_operations(lambda: torch.mm(a, b).t(), device=CPU)
    assert counts == {"flop": 2 * 7 * 5 * 3, "operators": 1, "bytes": 4 * (7 * 5 + 5 * 3 + 7 * 3)}


def test_a_backward_pass_counts_to_the_module_it_belongs_to():
    modules = {"costly": torch.nn.Linear(600, 600), "cheap": torch.nn.Linear(600, 1)}
    x = torch.ones(400, 600, requires_grad=True)
    tables = profile_tables(
        lambda: modules["cheap"](modules["costly"](x)).sum().backward(), modules=modules, n=3, rows=20, device=CPU
    )
    rows = [line.split(maxsplit=3) for line in tables["modules"].splitlines()[1:]]
    milliseconds = {name: float(first) for first, _, _, name in rows}
    assert set(milliseconds) >= {f"{way}: {name} (Linear)" for way in ("forward", "backward") for name in modules}
    assert milliseconds["backward: costly (Linear)"] > milliseconds["backward: cheap (Linear)"]  # 600 times the work
    assert "aten::addmm" in tables["operators"]


def test_a_ratio_is_taken_within_each_round():
    slow, fast = Timing({"cpu_ms": [20.0, 60.0, 40.0]}), Timing({"cpu_ms": [2.0, 6.0, 1.0]})
    assert ratio(slow, fast, "cpu_ms") == Spread(median=10.0, low=10.0, high=40.0)


def test_the_clock_is_the_processs_own_with_one_thread_alone():
    assert [Conditions(threads=1).clock, Conditions(threads=2).clock] == ["cpu_ms", "wall_ms"]
    assert Conditions(device="cuda").clock == "device_ms"


def test_a_peers_interpreter_is_the_one_given(tmp_path):
    assert python_of("mace", [f"mace={sys.executable}"]) == Path(sys.executable)
    with pytest.raises(InputError, match=r"peers\.py"):
        python_of("mace", [f"mace={tmp_path / 'python'}"])
    with pytest.raises(InputError, match="mace=PATH"):
        python_of("mace", [f"masse={sys.executable}"])
