"""How a batch is split for its forces: the rule, and halving where the memory is too small."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from langevin_runs import flat_run

from al_engine.errors import InputError
from al_engine.structures.frames import Frame
from samplers.dynamics.batches import CPU_ATOMS, SplitForces, cpu_parts
from samplers.dynamics.limits import StopReason

OPTIONS = {"steps": 40, "timestep_fs": 0.5, "friction_per_ps": 10.0, "stride_steps": 10, "stop_deviation": 9.0}


@dataclass
class SmallMemory:
    """A committee for which a device has room for so many frames at a time; where it is asked for more, it raises."""

    committee: object
    most: int
    bound: list[int] = field(default_factory=list)
    member_forces_need: int = 1

    @property
    def n_members(self):
        return self.committee.n_members

    def bind(self, frames):
        self.bound.append(len(frames))
        return _Small(self.committee.bind(frames), len(frames), self)


@dataclass
class _Small:
    inner: object
    size: int
    memory: SmallMemory

    def _refuse(self, need):
        if need * self.size > self.memory.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 TiB")

    def energy_and_forces(self, positions, member):
        self._refuse(1)
        return self.inner.energy_and_forces(positions, member)

    def member_forces(self, positions):
        self._refuse(self.memory.member_forces_need)
        return self.inner.member_forces(positions)


@pytest.fixture
def frames(rng):
    triangle = np.array([[0.0, 0, 0], [1.2, 0, 0], [0.6, 1.04, 0]])
    return [Frame(numbers=np.array([8, 6, 7]), positions=triangle + 0.05 * rng.normal(size=(3, 3))) for _ in range(11)]


@pytest.mark.parametrize("sizes", [[9] * 8, [26] * 64, [120] * 8, [520] * 3, [700, 30, 30], [1]])
def test_parts_are_even_consecutive_and_of_the_size_that_is_fast(sizes):
    parts = cpu_parts(sizes)
    assert [place for part in parts for place in part] == list(range(len(sizes)))
    atoms = [sum(sizes[place] for place in part) for part in parts]
    assert all(total <= CPU_ATOMS + max(sizes) for total in atoms)
    if len(set(sizes)) == 1:
        assert max(atoms) - min(atoms) <= max(sizes)
        assert len(parts) <= -(-sum(sizes) // CPU_ATOMS)


def test_parts_that_do_not_fit_are_halved_for_the_rest_of_the_run(pair_potential, frames):
    potential = pair_potential("morse", scales=(1.0, 1.2))
    positions = torch.from_numpy(np.concatenate([frame.positions for frame in frames]))
    whole = SplitForces(potential, frames)
    memory = SmallMemory(potential, most=3)
    split = SplitForces(memory, frames)
    for _ in range(2):
        for mine, theirs in zip(
            split.energy_and_forces(positions, 1), whole.energy_and_forces(positions, 1), strict=True
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(split.member_forces(positions), whole.member_forces(positions), rtol=1e-12, atol=0)
    assert [len(part) for part in split.parts] == [2, 3, 3, 3]
    assert memory.bound == [11, 5, 2, 3, 6, 3, 3]  # nothing is bound twice


def test_a_single_frame_that_does_not_fit_is_an_error_with_a_remedy(pair_potential, frames):
    split = SplitForces(SmallMemory(pair_potential("morse"), most=0), frames[:2])
    with pytest.raises(InputError, match=r"3 atoms do not fit.*CUDA out of memory.*execution\.device: cpu"):
        split.energy_and_forces(torch.zeros(6, 3), 0)


def test_a_run_on_a_small_device_gives_the_same_trajectories(pair_potential, frames):
    """The committee on the stride needs more room than the driver: halved in the middle of the run."""
    potential = pair_potential("morse", scales=(1.0, 1.1))
    hot = [300.0] * len(frames)
    free = flat_run(potential, frames, temperatures_kelvin=hot, seed=3, **OPTIONS)
    memory = SmallMemory(potential, most=6, member_forces_need=2)
    tight = flat_run(memory, frames, temperatures_kelvin=hot, seed=3, **OPTIONS)
    assert max(memory.bound) > 6
    assert memory.bound[-1] <= 3
    assert set(tight.stop_reason) == {StopReason.COMPLETED}
    for mine, theirs in zip(tight.frames, free.frames, strict=True):
        np.testing.assert_allclose(mine.positions, theirs.positions, rtol=0, atol=1e-11)
    np.testing.assert_allclose(tight.deviation_norm, free.deviation_norm, rtol=1e-9)


def test_places_that_stay_together_are_not_bound_again(pair_potential, frames):
    memory = SmallMemory(pair_potential("morse"), most=6)
    split = SplitForces(memory, frames, parts=[[0, 1, 2], [3, 4], [5], [6, 7, 8, 9, 10]])
    positions = torch.from_numpy(np.stack([frame.positions for frame in frames]))
    before = split.energy_and_forces(positions.flatten(0, 1), 0)[1].view(-1, 3, 3)
    memory.bound.clear()
    kept = [0, 1, 2, 4, 6, 7, 8, 9, 10]
    split.keep(kept)
    after = split.energy_and_forces(positions[kept].flatten(0, 1), 0)[1].view(-1, 3, 3)
    assert split.parts == [[0, 1, 2], [3], [4, 5, 6, 7, 8]]
    assert memory.bound == [1]
    torch.testing.assert_close(after, before[kept], rtol=1e-12, atol=0)
