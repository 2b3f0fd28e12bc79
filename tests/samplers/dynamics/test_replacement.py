"""Trajectories that are stopped, the reasons, and the trajectories that replace them."""

import gc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from langevin_runs import flat_run

from al_engine.committee.deviation import net_force_deviation
from al_engine.structures.frames import Frame
from al_engine.units import BOLTZMANN_EV_PER_KELVIN
from samplers.dynamics.limits import StopReason, largest_energy_jump
from samplers.dynamics.replacement import KEPT_FRAMES, LEAD_STRIDES, MAX_REFILLS, RefillPool
from samplers.dynamics.rows import Rows

OPTIONS = {"timestep_fs": 0.5, "friction_per_ps": 10.0, "stride_steps": 10, "stop_deviation": 1e9, "seed": 3}


def diatomic(length=1.2, charge=0):
    return Frame(numbers=np.array([7, 7]), positions=np.array([[0.0, 0, 0], [length, 0, 0]]), charge=charge)


@dataclass
class Faulty:
    """A committee that goes wrong after a number of evaluations, for the diatomics of a batch that `where` selects.

    The driver is asked once at the start, then once per step.
    """

    inner: object
    where: Callable[[list[Frame]], list[bool]]
    fault: str
    after: int
    n_members: int = 2
    evaluations: int = 0

    def bind(self, frames):
        return _Faulty(self.inner.bind(frames), torch.tensor(self.where(frames)), self)


@dataclass
class _Faulty:
    inner: object
    places: torch.Tensor  # (B,)
    faulty: Faulty

    def wrong(self, fault):
        return self.faulty.evaluations > self.faulty.after and self.faulty.fault == fault

    def energy_and_forces(self, positions, member):
        assert torch.isfinite(positions).all()  # a trajectory that is stopped is not asked about at infinity
        self.faulty.evaluations += 1
        energies, forces = self.inner.energy_and_forces(positions, member)
        of_places = forces.view(-1, 2, 3)
        if self.wrong("nan"):
            of_places[self.places] = torch.nan
        if self.wrong("huge"):
            of_places[self.places, 0] = 1e200
        if self.wrong("jump"):
            energies[self.places] += 50.0
        return energies, forces

    def member_forces(self, positions):
        forces = self.inner.member_forces(positions)
        if self.wrong("disagreement"):
            forces[1].view(-1, 2, 3)[self.places, 0] += torch.tensor([0.8, 0.0, 0.0])  # deviation 0.4
        return forces


def charged(frames):
    return [frame.charge != 0 for frame in frames]


def second(frames):
    return [len(frames) == 3 and place == 1 for place in range(len(frames))]


def replica_rows(run, index, name):
    return getattr(run, name)[run.replica == index]


def assert_same_trajectory(mine, theirs, index):
    for name in ("step", "energy", "deviation_norm", "kinetic_kelvin"):
        np.testing.assert_array_equal(replica_rows(mine, index, name), replica_rows(theirs, index, name))
    np.testing.assert_array_equal(mine.final[index].positions, theirs.final[index].positions)


@pytest.mark.parametrize(
    ("fault", "reason", "stop_step", "rows"),
    [
        ("nan", StopReason.NOT_FINITE, 124, 12),  # evaluation 123 at step 122; its forces act, and stop, a step later
        ("huge", StopReason.TOO_HOT, 124, 12),
        ("jump", StopReason.ENERGY_JUMP, 130, 13),
        ("disagreement", StopReason.UNTRUSTED, 150, 15),  # the third stride above 0.3 in a row
    ],
)
@pytest.mark.parametrize("refill", [False, True])
def test_a_fault_is_named_at_its_step_and_does_not_change_the_other_replicas(
    *, fault, reason, stop_step, rows, refill, pair_potential
):
    frames = [diatomic(1.22), diatomic(1.25, charge=1), diatomic(1.18)]
    potential = pair_potential("morse", scales=(1.0, 1.0))
    options = OPTIONS | {"steps": 400, "trusted_deviation": 0.3, "stop_strides": 3, "refill": refill}
    alone = flat_run(potential, frames, temperatures_kelvin=[300] * 3, **options)
    faulty = Faulty(potential, charged, fault, after=123)
    run = flat_run(faulty, frames, temperatures_kelvin=[300] * 3, **options)
    assert (run.stop_reason[1], run.stop_step[1], run.slot[1], run.start_step[1]) == (reason, stop_step, 1, 0)
    for index in (0, 2):
        assert run.stop_reason[index] == StopReason.COMPLETED
        assert_same_trajectory(run, alone, index)
    assert len(replica_rows(run, 1, "step")) == rows
    sound = replica_rows(run, 1, "sound")
    before = sound.sum()
    np.testing.assert_array_equal(replica_rows(run, 1, "step")[sound], 10 * np.arange(1, before + 1))
    np.testing.assert_array_equal(replica_rows(run, 1, "energy")[sound], replica_rows(alone, 1, "energy")[:before])
    assert not run.sound[(run.replica == 1) & (run.step > 10 * before)].any()
    np.testing.assert_array_equal(run.final[1].positions, alone.frames[3 * before - 2].positions)
    assert (len(run.slot) > 3) == refill
    assert set(run.slot[3:].tolist()) <= {1}


def test_a_trajectory_among_candidates_ends_soundly_and_another_looks_elsewhere(pair_potential):
    """All frames of one replica are above 0.3 from step 130 on: they are sound, and no trajectory starts from them."""
    frames = [diatomic(1.22), diatomic(1.25, charge=1), diatomic(1.18)]
    potential = pair_potential("morse", scales=(1.0, 1.0))
    faulty = Faulty(potential, charged, "disagreement", after=123)
    options = OPTIONS | {"steps": 400, "known_deviation": 0.3, "saturated_strides": 4, "refill": True}
    run = flat_run(faulty, frames, temperatures_kelvin=[300] * 3, **options)
    assert (run.stop_reason[1], run.stop_step[1]) == (StopReason.SATURATED, 160)
    assert run.sound.all()
    np.testing.assert_array_equal(run.final[1].positions, run.frames[3 * 16 - 2].positions)
    new = np.flatnonzero((run.slot == 1) & (run.start_step > 0))
    assert run.start_step[new].tolist()[0] == 160
    assert all(replica_rows(run, index, "step")[0] == run.start_step[index] + 10 for index in new)


@pytest.mark.parametrize("change", [{"refill": False}, {"trusted_deviation": 0.35}, {"known_deviation": 0.5}])
def test_a_trajectory_goes_on_without_a_replacement_or_without_candidates(pair_potential, change):
    """Its frames, of a deviation of 0.4, have no replacement; are not trusted; are known."""
    frames = [diatomic(1.22), diatomic(1.25, charge=1), diatomic(1.18)]
    faulty = Faulty(pair_potential("morse", scales=(1.0, 1.0)), charged, "disagreement", after=123)
    options = {"steps": 300, "known_deviation": 0.3, "saturated_strides": 4, "refill": True, "stop_strides": 100}
    run = flat_run(faulty, frames, temperatures_kelvin=[300] * 3, **OPTIONS | options | change)
    assert run.stop_reason == (StopReason.COMPLETED,) * 3


def test_a_run_ends_where_it_is_told_to(pair_potential):
    """At the end of a stride, every trajectory is completed; what was sampled is that of the longer run."""
    frames = [diatomic(1.22), diatomic(1.18)]
    potential, asked = pair_potential("morse", scales=(1.0, 1.0)), []

    def finished(done):
        asked.append(done)
        return done >= 50

    whole, short = (
        flat_run(potential, frames, temperatures_kelvin=[300] * 2, **OPTIONS | {"steps": 100, "finished": end})
        for end in (None, finished)
    )
    assert asked == [10, 20, 30, 40, 50]
    assert short.stop_reason == (StopReason.COMPLETED,) * 2
    assert short.stop_step.tolist() == [50, 50]
    np.testing.assert_array_equal(short.energy, whole.energy[:10])


def test_refills_start_at_once_from_sound_frames_with_their_own_numbers(pair_potential):
    """The slot goes wrong for good: every trajectory in it is stopped and replaced, up to `MAX_REFILLS` times."""
    frames = [diatomic(1.22), diatomic(1.25), diatomic(1.18)]
    potential = pair_potential("morse", scales=(1.0, 1.0))
    faulty = Faulty(potential, second, "nan", after=205)
    run = flat_run(faulty, frames, temperatures_kelvin=[300] * 3, refill=True, **OPTIONS | {"steps": 1000})
    refills = np.flatnonzero(run.slot == 1)
    assert len(refills) == 1 + MAX_REFILLS
    np.testing.assert_array_equal(run.start_step[refills], [0, *(210 + 10 * np.arange(MAX_REFILLS))])
    assert run.start_step[refills[-1]] < 400
    sampled = {frame.positions.tobytes(): (r, s) for frame, r, s in zip(run.frames, run.replica, run.step, strict=True)}
    origins = [
        sampled[run.final[index].positions.tobytes()] for index in refills[1:]
    ]  # none of the refills had a sound frame
    assert all(
        replica != 1 or step < 206 - 10 * LEAD_STRIDES for replica, step in origins
    )  # but not from its last strides
    assert len(set(origins)) > 1
    assert {replica for replica, _ in origins} > {0}


def test_a_refilled_place_runs_to_the_end(pair_potential):
    """Only the first trajectory of the middle place is wrong: too hot a start."""
    wild = diatomic(0.5)  # compressed: far above 5 T + 1000 K when it comes apart
    potential = pair_potential("morse", scales=(1.0, 1.0))
    runs = [
        flat_run(
            potential,
            [diatomic(1.22), wild, diatomic(1.18)],
            temperatures_kelvin=[300] * 3,
            refill=True,
            **OPTIONS | {"steps": 200},
        )
        for _ in range(2)
    ]
    run = runs[0]
    assert run.stop_reason[1] != StopReason.COMPLETED
    (new,) = np.flatnonzero((run.slot == 1) & (run.start_step > 0))
    assert (run.stop_reason[new], run.stop_step[new], run.start_step[new]) == (
        StopReason.COMPLETED,
        200,
        run.stop_step[1],
    )
    np.testing.assert_array_equal(np.sort(replica_rows(run, new, "step")), np.arange(run.start_step[new] + 10, 201, 10))
    np.testing.assert_array_equal(run.step, np.sort(run.step))  # rows in order of step, then trajectory
    assert all((np.diff(run.replica[run.step == step]) > 0).all() for step in np.unique(run.step))
    for mine, theirs in zip(run.frames, runs[1].frames, strict=True):
        np.testing.assert_array_equal(mine.positions, theirs.positions)


def test_the_pool_is_a_uniform_sample_of_bounded_size():
    """Kept steps of 50 pools: each decile of the run as often as the others (chi squared, 9 degrees of freedom)."""
    n, deciles = 1000, np.zeros(10)
    for seed in range(50):
        pool = RefillPool([diatomic()], seed=[seed])
        for step in range(n):
            pool.offer(diatomic(), trajectory=0, step=step)
        steps = np.array([kept.step for kept in pool._kept])
        assert len(set(steps.tolist())) == KEPT_FRAMES
        deciles += np.histogram(steps, bins=10, range=(0, n))[0]
    expected = 50 * KEPT_FRAMES / 10
    assert ((deciles - expected) ** 2 / expected).sum() < 27.9  # p = 0.001; drawn without replacement: smaller still


def choices(pool, but):
    return {id(pool.choose(excluding=but)) for _ in range(300)}


def test_the_pool_drops_the_frames_that_led_to_the_end():
    mine, other = [diatomic(1.0 + 0.01 * k) for k in range(20)], diatomic(2.0)
    pool = RefillPool([diatomic(3.0)], seed=[0])
    for k, frame in enumerate(mine):
        pool.offer(frame, trajectory=0, step=10 * (k + 1))
    pool.forget(trajectory=0, since=100)
    assert choices(pool, but=diatomic()) == {id(frame) for frame in mine[:9]}
    pool.offer(other, trajectory=1, step=200)
    assert choices(pool, but=mine[0]) == {id(other), *(id(frame) for frame in mine[1:9])}


def test_without_a_sound_frame_a_refill_starts_where_another_trajectory_started():
    starts = [diatomic(1.1), diatomic(1.2), diatomic(1.3)]
    assert choices(RefillPool(starts, seed=[0]), but=starts[1]) == {id(starts[0]), id(starts[2])}
    assert choices(RefillPool(starts[:1], seed=[0]), but=starts[0]) == {id(starts[0])}


def test_energy_jumps_leave_room_for_heat_and_a_bond():
    """A canonical energy of f oscillators is a gamma variate; no two of a million draws differ by the limit."""
    for kelvin, dof in ((300.0, 24), (900.0, 3), (900.0, 357)):
        kt = BOLTZMANN_EV_PER_KELVIN * kelvin
        draws = kt * np.random.default_rng(0).gamma(dof / 2, size=1_000_000)
        assert np.ptp(draws) + 5.0 < largest_energy_jump(kelvin, dof)


def test_net_forces_of_molecules_are_watched(pair_potential, rng):
    potential = pair_potential("morse", scales=(1.0, 1.3))
    frame = Frame(numbers=np.array([7, 7, 8, 8]), positions=rng.normal(size=(4, 3)) + 1.2 * np.eye(4, 3))
    molecules = np.array([0, 0, 1, 1])
    options = OPTIONS | {"steps": 20, "timestep_fs": 0.01}
    run = flat_run(potential, [frame] * 2, temperatures_kelvin=[1] * 2, fragment_of_atom=molecules, **options)
    assert len(run.frames) == 4
    for row, sampled in enumerate(run.frames):
        forces = potential.bind([sampled]).member_forces(torch.from_numpy(sampled.positions.copy())).numpy()
        expected = net_force_deviation(forces, molecules)
        assert run.net_force_deviation[row] == pytest.approx(expected.max(), rel=1e-9)
    without = flat_run(potential, [frame], temperatures_kelvin=[1], **options)
    assert np.isnan(without.net_force_deviation).all()
    assert (without.worst_molecule == -1).all()


def test_the_mean_drives(pair_potential):
    """Members with forces F and 3 F: their mean moves atoms as a single member with 2 F does."""
    frames = [diatomic(1.3)] * 2
    options = OPTIONS | {"steps": 40, "stop_deviation": 1e9}
    mean = flat_run(
        pair_potential("morse", scales=(1.0, 3.0)), frames, temperatures_kelvin=[300] * 2, driver=None, **options
    )
    single = flat_run(pair_potential("morse", scales=(2.0,)), frames, temperatures_kelvin=[300] * 2, **options)
    np.testing.assert_allclose(mean.final[1].positions, single.final[1].positions, rtol=0, atol=1e-11)
    np.testing.assert_allclose(mean.energy, single.energy, rtol=0, atol=1e-10)


def test_the_sampler_keeps_no_frames_that_the_sink_took(pair_potential):
    """Python's own count of frames while 400 strides of 4 replicas stream out."""

    def alive():
        return sum(type(item) is Frame for item in gc.get_objects())

    counts, sizes = [], []

    def sink(rows: Rows):
        sizes.append(len(rows))
        if len(sizes) % 50 == 0:
            gc.collect()
            counts.append(alive())

    before = alive()
    run = flat_run(
        pair_potential("morse"),
        [diatomic()] * 4,
        temperatures_kelvin=[300] * 4,
        refill=True,
        sink=sink,
        **OPTIONS | {"steps": 800, "stride_steps": 2},
    )
    assert (len(sizes), sum(sizes), len(run.frames)) == (400, 1600, 0)
    assert max(counts) - before <= KEPT_FRAMES + 4 * 5  # the pool; starts, present, last and sampled ones
    assert counts[-1] <= counts[2]
