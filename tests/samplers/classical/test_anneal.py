"""An anneal that is interrupted and resumed gives the frames of an uninterrupted anneal, bit for bit."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from al_engine.config import InitialConfig, SystemConfig
from samplers.building.system import build_system
from samplers.classical.anneal import RunState, anneal, constant_temperature_frames
from samplers.classical.anneal_checkpoint import AnnealCheckpoint
from samplers.classical.classical import force_field_of, open_classical_md
from samplers.initial.initial import initial_frames

SHORT = {"frames": 6, "timestep_fs": 0.5, "seed": 3}
ONE = {"system": {"smiles": "CO"}, "duration_ps": 0.4}
UFF = {"system": {"smiles": "B(F)(F)F", "molecules": 2}, "duration_ps": 0.3}
BOX = {  # beyond 200 atoms: OpenMM's CPU platform, single precision and neighbour lists
    "system": {"smiles": "O", "molecules": 67, "shape": "box", "density_g_per_cm3": 0.9},
    "duration_ps": 0.03,
}


@pytest.fixture(autouse=True)
def segment(request, monkeypatch):
    """Segments of so many atom-steps."""
    monkeypatch.setattr("samplers.classical.anneal.SEGMENT_ATOM_STEPS", getattr(request, "param", 1000))
    return getattr(request, "param", 1000)


def system_of(case):
    return build_system(SystemConfig(**case["system"]), base_dir=Path(), seed=1)


def run(case, system, **more):
    options = {**SHORT, "duration_ps": case["duration_ps"], **more}
    if "kelvin" in more:
        return constant_temperature_frames(system, hot_kelvin=900.0, **options)
    return anneal(system, hot_kelvin=900.0, cold_kelvin=300.0, **options)


@pytest.mark.parametrize(
    ("case", "temperatures"),
    [(ONE, {}), (ONE, {"kelvin": 500.0}), (UFF, {}), (BOX, {})],
    ids=["MMFF94", "constant temperature", "UFF", "box"],
)
def test_from_the_end_of_any_segment_on(case, temperatures):
    system = system_of(case)
    assert force_field_of(system) == ("UFF" if case is UFF else "MMFF94")
    states: list[RunState] = []
    alone = run(case, system, save=states.append, **temperatures)
    assert len(states) > 2
    for state in (states[0], states[len(states) // 2], states[-1]):
        resumed = run(case, system, start=state, **temperatures)
        np.testing.assert_array_equal(resumed.temperature_kelvin, alone.temperature_kelvin)
        assert [f.content_hash() for f in resumed.frames] == [f.content_hash() for f in alone.frames]


@pytest.mark.parametrize("case", [ONE, UFF], ids=["MMFF94", "UFF"])
def test_a_restart_forgets_everything_but_the_state(case):
    """After another history, the same state and seed give the same steps; another seed gives others."""
    system = system_of(case)
    md, other = (open_classical_md(system, seed=seed, timestep_fs=0.5) for seed in (1, 2))
    for trajectory in (md, other):
        trajectory.thermalise(300.0)
        trajectory.advance(70, 300.0)
    state = md.positions, md.velocities
    ends = []
    for trajectory, seed in ((md, 8), (other, 8), (other, 9)):
        trajectory.restart(*state, seed=seed)
        trajectory.advance(40, 300.0)
        ends.append(trajectory.positions)
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.abs(ends[0] - ends[2]).max() > 1e-3


def test_a_checkpoint_is_taken_only_for_the_same_inputs(tmp_path):
    path = tmp_path / "part.checkpoint"
    state = RunState(3, np.ones((2, 3)), np.zeros((2, 3)), np.full((4, 2, 3), 0.1))
    AnnealCheckpoint(path, key="a", n_atoms=2).saver("anneal")(state)
    AnnealCheckpoint(path, key="a", n_atoms=2).saver("test0")(state)
    found = AnnealCheckpoint(path, key="a", n_atoms=2)
    for name in ("anneal", "test0"):
        assert found.state(name).segments == 3
        for array in ("positions", "velocities", "kept"):
            np.testing.assert_array_equal(getattr(found.state(name), array), getattr(state, array))
    assert found.state("test1") is None
    for other in ({"key": "b", "n_atoms": 2}, {"key": "a", "n_atoms": 3}):
        assert AnnealCheckpoint(path, **other).state("anneal") is None
    path.write_bytes(path.read_bytes()[:1000])
    assert AnnealCheckpoint(path, key="a", n_atoms=2).state("anneal") is None


INITIAL = """
import sys
from pathlib import Path
import samplers.classical.anneal
from al_engine.config import InitialConfig, SystemConfig
from samplers.initial.initial import initial_frames
from samplers.building.system import build_system

samplers.classical.anneal.SEGMENT_ATOM_STEPS = int(sys.argv[2])
system = build_system(SystemConfig(smiles="CO"), base_dir=Path(), seed=1)
config = InitialConfig(frames=40, test_frames=8, duration_ps=1.5)
initial_frames(system, config, [300.0, 900.0], base_dir=Path(), seed=5, checkpoint=Path(sys.argv[1]), key="k")
"""


@pytest.mark.parametrize("segment", [3000], indirect=True)
def test_killed_and_begun_again(tmp_path, segment):
    path = tmp_path / "initial-frames.checkpoint"
    done = []
    for runs in ("anneal", "test0"):  # killed in the anneal, then in the first test run
        process = subprocess.Popen([sys.executable, "-c", INITIAL, str(path), str(segment)])
        deadline = time.monotonic() + 60
        while not _segments(path, runs) and time.monotonic() < deadline:
            assert process.poll() is None, "ended before it could be killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done.append(_segments(path, runs))
    assert min(done) > 0
    system = build_system(SystemConfig(smiles="CO"), base_dir=Path(), seed=1)
    config = InitialConfig(frames=40, test_frames=8, duration_ps=1.5)
    seen = []
    resumed, alone = (
        initial_frames(
            system, config, [300.0, 900.0], base_dir=Path(), seed=5, checkpoint=checkpoint, key="k", progress=progress
        )
        for checkpoint, progress in ((path, lambda *now: seen.append(now)), (None, lambda *_: None))
    )
    assert seen[0][0] == 40  # the anneal is not run again
    for ours, theirs in ((resumed.train, alone.train), (resumed.test, alone.test)):
        assert [f.content_hash() for f in ours] == [f.content_hash() for f in theirs]


def _segments(path, name):
    """Segments done of a run in a checkpoint that may be replaced at any moment."""
    try:
        with h5py.File(path, "r") as file:
            return int(file[name].attrs["segments"]) if name in file else 0
    except OSError:
        return 0
