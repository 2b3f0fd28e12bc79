"""A look at a batch: which frames are sampled, with which values, and which trajectories are stopped, and why."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from al_engine.committee.deviation import net_force_deviation
from al_engine.structures.frames import Frame
from samplers.dynamics.inspection import inspect
from samplers.dynamics.integrator import Batch
from samplers.dynamics.limits import StopReason, hottest_kelvin
from samplers.dynamics.settings import StopRules, Surroundings
from samplers.dynamics.trajectory import Trajectory


@pytest.mark.parametrize("degrees_of_freedom", [1, 3, 6, 12, 24, 357])
@pytest.mark.parametrize("kelvin", [300.0, 900.0, 2000.0])
def test_no_sound_frame_is_too_hot(degrees_of_freedom, kelvin):
    """The kinetic energy in equilibrium has the gamma distribution: SciPy's tail is not above 1e-9."""
    limit = hottest_kelvin(kelvin, degrees_of_freedom)
    assert chi2.sf(degrees_of_freedom * limit / kelvin, degrees_of_freedom) < 1e-9
    if degrees_of_freedom >= 24:
        assert limit == 5 * kelvin + 1000


NEVER = StopRules(stop_deviation=np.inf)


def frame(length):
    return Frame(numbers=[7, 7, 7], positions=[[0.0, 0, 0], [length, 0, 0], [0.0, 1.3, 0.4]])


def batch_of(committee, frames, stop=NEVER):
    trajectories = [
        Trajectory.begin(
            start,
            index=index,
            slot=index,
            attempt=0,
            step=0,
            target_kelvin=300.0,
            stop=stop,
            surroundings=Surroundings(),
            seed=1,
        )
        for index, start in enumerate(frames)
    ]
    return Batch(committee, trajectories, member=0, wall=None)


@pytest.fixture
def committee(pair_potential):
    return pair_potential("morse", scales=(1.0, 1.2))


def test_rows_hold_the_committees_values(committee):
    batch, fragments = batch_of(committee, [frame(1.1), frame(1.4)]), np.array([0, 0, 1])
    rows, stopped = inspect(batch, step=7, stop=NEVER, fragment_of_atom=fragments)
    columns = rows.arrays()
    assert stopped == []
    assert columns["step"].tolist() == [7, 7]
    for place, sampled in enumerate(rows.frames):
        forces = committee.bind([sampled]).member_forces(torch.from_numpy(sampled.positions.copy())).numpy()
        apart = np.linalg.norm(forces[1] - forces[0], axis=1) / 2
        assert columns["deviation_norm"][place] == pytest.approx(apart.max(), rel=1e-12)
        assert columns["worst_atom"][place] == apart.argmax()
        nets = net_force_deviation(forces, fragments)
        assert columns["net_force_deviation"][place] == pytest.approx(nets.max(), rel=1e-12)
        assert columns["worst_molecule"][place] == nets.argmax()
        assert batch.trajectories[place].last is sampled


def test_every_fault_has_its_reason_and_its_step(committee):
    """In a single batch: sound, frozen, not finite, two atoms too close; an empty place is not looked at."""
    batch = batch_of(committee, [frame(1.2), frame(1.2), frame(1.2), frame(0.2), frame(1.2)])
    batch.frozen_at[1] = 4
    batch.positions[6, 0] = torch.nan
    batch.empty.add(4)
    rows, stopped = inspect(batch, step=9, stop=NEVER, fragment_of_atom=None)
    assert stopped == [1, 2, 3]
    assert [(trajectory.reason, trajectory.stop_step) for trajectory in batch.trajectories] == [
        (StopReason.COMPLETED, 9),
        (StopReason.TOO_HOT, 4),
        (StopReason.NOT_FINITE, 9),
        (StopReason.TOO_CLOSE, 9),
        (StopReason.COMPLETED, 0),
    ]
    columns = rows.arrays()
    assert columns["replica"].tolist() == [0, 3]
    assert columns["sound"].tolist() == [True, False]
    assert np.isnan(columns["net_force_deviation"]).all()
    assert columns["worst_molecule"].tolist() == [-1, -1]


@pytest.mark.parametrize("kind", ["norm", "component"])
def test_limits_are_of_the_deviation_that_is_configured(kind, committee):
    """Successive frames that are not trusted are counted; a trusted frame begins the count anew."""
    rows, _ = inspect(batch_of(committee, [frame(1.4)]), step=1, stop=NEVER, fragment_of_atom=None)
    values = {name: rows.arrays()[f"deviation_{name}"][0] for name in ("norm", "component")}
    assert values["component"] < 0.99 * values["norm"]
    at = 0.999 * values[kind]
    stop = StopRules(stop_deviation=np.inf, trusted_deviation=at, stop_strides=2, deviation=kind)
    batch = batch_of(committee, [frame(1.4)], stop)
    seen = []
    for step, trusted in enumerate([at, 1e9, at, at], start=1):
        rules = StopRules(stop_deviation=np.inf, trusted_deviation=trusted, stop_strides=2, deviation=kind)
        seen.append(inspect(batch, step=step, stop=rules, fragment_of_atom=None)[1])
    assert seen == [[], [], [], [0]]
    assert batch.trajectories[0].reason == StopReason.UNTRUSTED
    strict = StopRules(stop_deviation=at, deviation=kind)
    batch = batch_of(committee, [frame(1.4)], strict)
    assert inspect(batch, step=1, stop=strict, fragment_of_atom=None)[1] == [0]
    assert batch.trajectories[0].reason == StopReason.DEVIATION
