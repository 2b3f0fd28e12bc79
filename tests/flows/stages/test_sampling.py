"""A sample part from the parts before it: what stands in it, and where the next iteration's trajectories start."""

from contextlib import nullcontext
from dataclasses import asdict, dataclass, field

import numpy as np
import pytest
import torch

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.samples import COMPLETED, sampled_steps, stored_plans
from al_engine.campaign.starts import starting_frames
from al_engine.config import ModelConfig, PathConfig, StatePoint
from al_engine.config.reader import parse_config
from al_engine.files.frames_hdf5 import read_frames, write_frames
from al_engine.files.part_file import open_part, write_part
from al_engine.selection.fates import Fate
from al_engine.selection.window import Window
from al_engine.structures.frames import Frame
from al_engine.verdict.sampling_plan import SamplingPlan
from flows.compute.stage_call import InlineExecutor, Output, StageCall
from flows.stages.search import sampling
from flows.stages.search.sample_writer import CHUNK_FRAMES, SampleWriter
from flows.stages.search.sampling import WRITTEN
from models.inference.committee import ALL_PAIRS_ATOMS, Committee
from models.ms_mace import MSMACE, ModelConstants
from samplers.dynamics.langevin import run_langevin
from samplers.dynamics.limits import StopReason
from samplers.dynamics.rows import COLUMNS, Ends, Rows, Sampled
from samplers.dynamics.settings import Integration, StopRules, Surroundings
from samplers.dynamics.walls import SphericalWall

WATERS = np.array(
    [[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0], [3.0, 0, 0], [3.96, 0, 0], [2.76, 0.93, 0]]
)  # two of them
NUMBERS = np.array([8, 1, 1, 8, 1, 1])
BONDS = np.array([[0, 1], [0, 2], [3, 4], [3, 5]])
KELVINS = (300.0, 900.0)
CONFIG = """
name: sampled
seed: 5
system: {{smiles: O, molecules: 2}}
sampling: {{temperatures_kelvin: [300, 900], replicas: 3, steps: 60, stride_steps: 10{more}}}
"""


def shaken(seed):
    return Frame(numbers=NUMBERS, positions=WATERS + np.random.default_rng(seed).normal(scale=0.02, size=(6, 3)))


@dataclass
class Springs:
    """Two members: springs between the two waters' atoms, the second a tenth stiffer."""

    n_members: int = 2
    device: str = "cpu"

    def bind(self, frames):
        del frames
        return self

    def energy_and_forces(self, positions, member):
        apart = positions.view(-1, 6, 3) - torch.from_numpy(WATERS)
        apart = apart - apart.mean(1, keepdim=True)
        stiffness = {0: 2.0, 1: 2.2, None: 2.1}[member]
        return 0.5 * stiffness * apart.square().sum((1, 2)), -stiffness * apart.view(-1, 3)

    def member_forces(self, positions):
        return torch.stack([self.energy_and_forces(positions, member)[1] for member in (0, 1)])


@pytest.fixture
def make_ledger(tmp_path):
    def make(more="", molecule_of_atom=(0, 0, 0, 1, 1, 1)):
        ledger = Ledger(tmp_path, parse_config(CONFIG.format(more=more), source="test"))
        ledger.write_config()
        ledger.parts_directory.mkdir(exist_ok=True)
        with write_part(ledger.part_path(names.INITIAL_FRAMES), kind="", key="") as root:
            write_frames(root.create_group("system"), [shaken(0)])
            write_frames(root.create_group("starts"), [shaken(k) for k in range(1, 8)])
            root["starts"]["temperature_kelvin"] = np.linspace(1000, 280, 7)
            root["bonds"], root["molecule_of_atom"] = BONDS, np.array(molecule_of_atom)
            root["bond_lengths"] = np.linalg.norm(WATERS[BONDS[:, 0]] - WATERS[BONDS[:, 1]], axis=1)
        return ledger

    return make


@pytest.fixture
def sample(monkeypatch):
    monkeypatch.setattr(sampling, "load_committee", lambda *_, **__: Springs())

    def run(ledger, index=0, window=None, **planned):
        name = names.sample(0, KELVINS[index])
        arguments = {
            "iteration": 0,
            "index": index,
            "plans": [asdict(SamplingPlan(**{"steps": 60, **planned}))] * 2,
            "trusted_mev_per_ang": 300.0,
            "window": window,
        }
        readable = (names.INITIAL_FRAMES,)
        call = StageCall((Output(name, key=""),), "flows.stages.search.sampling:sample", readable, arguments, "compute")
        InlineExecutor(ledger.directory, label_pool=nullcontext).run(call)
        with open_part(ledger.part_path(name)) as root:
            return ledger.part_path(name), dict(root.attrs)

    return run


def test_a_part_has_every_column_of_every_frame(make_ledger, sample):
    path, attributes = sample(make_ledger(), index=1)
    assert (attributes["temperature_kelvin"], attributes["steps"], attributes["driver"]) == (900.0, 60, "1")
    with open_part(path, verify=True) as root:
        frames = read_frames(root["frames"])
        assert len(frames) == 18
        assert {name: len(root[name]) for name in WRITTEN} == dict.fromkeys(WRITTEN, 18)
        np.testing.assert_array_equal(root["step"], np.repeat(np.arange(10, 61, 10), 3))
        np.testing.assert_array_equal(root["replica"], np.tile(np.arange(3), 6))
        assert [len(read_frames(root["final"])), *(len(root[k]) for k in ("stop_reason", "slot", "start_step"))] == [
            3
        ] * 4
        for row, frame in enumerate(frames):
            forces = Springs().member_forces(torch.from_numpy(frame.positions.copy())).numpy()
            apart = 0.5 * (forces[1] - forces[0])
            assert root["deviation_norm"][row] == pytest.approx(np.linalg.norm(apart, axis=1).max(), rel=1e-9)
            nets = np.linalg.norm(apart.reshape(2, 3, 3).sum(1), axis=1)
            assert root["net_force_deviation"][row] == pytest.approx(nets.max(), rel=1e-6, abs=1e-12)


def test_net_forces_are_of_bonded_fragments(make_ledger, sample):
    """Two molecules read from a file as a single copy, as a mixture is: the net force on the copy would say nothing."""
    found = []
    for copies in [(0, 0, 0, 1, 1, 1), (0,) * 6]:
        path, _ = sample(make_ledger(molecule_of_atom=copies))
        with open_part(path) as root:
            found.append((root["net_force_deviation"][()], root["worst_molecule"][()], root.attrs["content_hash"]))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert found[0][0].min() > 1e-6
    assert found[0][2] == found[1][2]


def test_the_mean_is_a_driver_of_its_own(make_ledger, sample):
    assert sample(make_ledger(more=", driver: mean"))[1]["driver"] == "mean"


def test_equal_parts_from_equal_seeds(make_ledger, sample):
    hashes = set()
    for _ in range(2):
        path, _ = sample(make_ledger())
        with open_part(path) as root:
            hashes.add(root.attrs["content_hash"])
    assert len(hashes) == 1


@pytest.mark.parametrize(("enough", "steps"), [(3, 60), (9, 110), (1000, 200)])
def test_the_search_ends_with_enough_candidates_or_at_the_last_step(make_ledger, sample, enough, steps):
    """Every frame is a candidate, so each of three replicas brings one every five strides, from the first on.

    No trajectory ends among candidates, because no frame is known from which another could start.
    """
    window = Window(0.0, 1e6).to_attributes()
    path, attributes = sample(make_ledger(), window=window, most_steps=200, enough=enough)
    assert attributes["steps"] == 60
    with open_part(path) as root:
        assert root["step"][()].max() == root["stop_step"][()].max() == steps
        assert set(root["stop_reason"][()]) == {COMPLETED}
    ledger = make_ledger()
    assert sampled_steps(ledger.reader(), path.stem) == steps
    made = SamplingPlan(60, most_steps=200, enough=enough)
    assert stored_plans(ledger.reader(), path.stem) == [made, made]


def test_the_key_of_a_part_holds_the_search_but_not_the_cost(make_ledger):
    plans = [SamplingPlan(60), SamplingPlan(60, most_steps=200, enough=9)]
    ledger = make_ledger()
    free = make_ledger(more=", cost_share: 0.5")
    keys = [[sampling.plan(each, 0, 0, [plan] * 2).inputs for plan in plans] for each in (ledger, free)]
    assert keys[0] == keys[1]
    assert keys[0][0] != keys[0][1]
    assert "most_steps" not in keys[0][0]


def test_a_long_run_is_written_in_chunks(make_ledger, tmp_path):
    """What the writer holds is bounded while it is given ten times as much; all of it arrives in order."""
    make_ledger()
    strides, held = 10 * CHUNK_FRAMES // 3, []
    with write_part(tmp_path / "part.h5", kind="", key="", streamed=True) as root:
        writer = SampleWriter(
            root, {name: COLUMNS[name] for name in WRITTEN}, expected_frames=3 * strides, expected_atoms=18 * strides
        )
        for step in range(strides):
            rows = Rows()
            for replica in range(3):
                values = dict.fromkeys(COLUMNS, 0) | {"replica": replica, "step": step}
                rows.add(shaken(step), **values)
            writer.take(rows)
            held.append(len(writer._held))
        ends = Ends((shaken(0),), np.array([0]), np.array([0]), (StopReason.COMPLETED,), np.array([1]))
        writer.finish(Sampled.of(Rows(), ends))
    assert max(held) < CHUNK_FRAMES
    with open_part(tmp_path / "part.h5", verify=True) as root:
        np.testing.assert_array_equal(root["step"], np.repeat(np.arange(strides), 3))
        np.testing.assert_array_equal(root["frames/positions"][-6:], shaken(strides - 1).positions)


def as_set(frames):
    return {frame.positions.tobytes() for frame in frames}


def write_sample(ledger, kelvin, frames, *, reasons, slots, final):
    with write_part(ledger.part_path(names.sample(0, kelvin)), kind="", key="") as root:
        write_frames(root.create_group("frames"), frames)
        write_frames(root.create_group("final"), final)
        root["stop_reason"], root["slot"] = np.array(reasons, dtype="S"), np.array(slots)


def test_a_place_continues_where_its_last_trajectory_ended(make_ledger):
    """Place 0 went on, place 1 was refilled and that went on, place 2 was refilled and stopped again."""
    ledger, final = make_ledger(), [shaken(50 + k) for k in range(5)]
    reasons = ["completed", "too_hot", "deviation", "completed", "untrusted"]
    write_sample(ledger, 300.0, [], reasons=reasons, slots=[0, 1, 2, 1, 2], final=final)
    found = starting_frames(ledger.reader(), ledger.config, iteration=1, point=StatePoint("", 300.0))
    starts = found.frames
    assert found.continues.tolist() == [True, True, False]
    assert starts[0].content_hash() == final[0].content_hash()
    assert starts[1].content_hash() == final[3].content_hash()
    assert as_set(starts[2:]) <= as_set(shaken(k) for k in range(4, 8))  # the colder half


def test_a_place_with_a_saturated_trajectory_starts_afresh(make_ledger):
    """Its replacement ran to the end, but began far from the candidates."""
    ledger, final = make_ledger(), [shaken(50 + k) for k in range(4)]
    reasons = ["saturated", "completed", "completed", "completed"]
    write_sample(ledger, 300.0, [], reasons=reasons, slots=[0, 1, 2, 0], final=final)
    found = starting_frames(ledger.reader(), ledger.config, iteration=1, point=StatePoint("", 300.0))
    assert found.continues.tolist() == [False, True, True]
    assert as_set(found.frames[:1]) <= as_set(shaken(k) for k in range(4, 8))


def test_slots_take_turns_to_start_afresh(make_ledger):
    ledger, final = make_ledger(), [shaken(50 + k) for k in range(3)]
    write_sample(ledger, 300.0, [], reasons=["completed"] * 3, slots=[0, 1, 2], final=final)
    found = starting_frames(ledger.reader(), ledger.config, iteration=1, point=StatePoint("", 300.0), fresh=2)
    assert found.continues.tolist() == [False, True, False]  # iteration 1 begins with slot 2
    assert found.frames[1].content_hash() == final[1].content_hash()
    assert as_set([found.frames[0], found.frames[2]]) <= as_set(shaken(k) for k in range(4, 8))


def test_labelled_frames_of_the_same_temperature_come_first(make_ledger):
    ledger = make_ledger(more=", start: labelled")
    cold, hot = [shaken(60 + k) for k in range(4)], [shaken(70 + k) for k in range(4)]
    final = [shaken(80 + k) for k in range(3)]
    for kelvin, frames in zip(KELVINS, (cold, hot), strict=True):
        write_sample(ledger, kelvin, frames, reasons=["completed"] * 3, slots=[0, 1, 2], final=final)
    source = np.array([[part, row] for part in (0, 1) for row in range(4)])

    def labelled(*rows):
        fates = np.full(8, Fate.ACCURATE)
        fates[list(rows)] = Fate.LABELLED
        with write_part(ledger.part_path(names.selection(0)), kind="", key="") as root:
            root["source"] = source
        with write_part(ledger.part_path(names.append(0)), kind="", key="") as root:
            root["fate"] = fates
        return starting_frames(ledger.reader(), ledger.config, iteration=1, point=StatePoint("", 300.0)).frames

    assert as_set(labelled(0, 1, 2, 3, 5)) < as_set(cold)
    assert as_set(labelled(1, 5, 6, 7)) - as_set([cold[1]]) < as_set(hot[1:])
    some = labelled(2, 4)
    assert as_set(some[:2]) == as_set([cold[2], hot[0]])
    assert some[2].content_hash() == final[2].content_hash()  # too few: the others continue
    assert as_set(labelled()) == as_set(final)
    assert [f.content_hash() for f in labelled(0, 1, 2, 3)] == [f.content_hash() for f in labelled(0, 1, 2, 3)]


@dataclass
class Failing:
    """A committee whose forces on charged frames are NaN after so many evaluations."""

    committee: Committee
    after: int
    evaluations: int = 0
    rebuilt: set[object] = field(default_factory=set)

    @property
    def n_members(self):
        return self.committee.n_members

    def bind(self, frames):
        return _BoundFailing(self.committee.bind(frames), [frame.charge != 0 for frame in frames], self)


@dataclass
class _BoundFailing:
    bound: object
    fails: list[bool]
    owner: Failing

    def energy_and_forces(self, positions, member):
        self.owner.evaluations += 1
        energies, forces = self.bound.energy_and_forces(positions, member)
        self.owner.rebuilt.add(self.bound.graph(positions))  # kept, as an id may be used again
        if self.owner.evaluations > self.owner.after:
            forces = forces.clone()
            forces.view(len(self.fails), -1, 3)[torch.tensor(self.fails)] = torch.nan
        return energies, forces

    def member_forces(self, positions):
        return self.bound.member_forces(positions)


@pytest.mark.parametrize("refill", [False, True])
def test_a_stopped_replica_changes_no_bit_of_the_others_with_a_real_model(*, refill):
    """Kernels and neighbour lists that are rebuilt on the way: a place left empty, or filled from another replica."""
    n_atoms, rng = ALL_PAIRS_ATOMS + 2, np.random.default_rng(0)
    sites = 1.5 * np.stack(np.meshgrid(*[np.arange(4)] * 3), axis=-1).reshape(-1, 3)[:n_atoms]
    numbers = np.resize([6, 8, 6, 7], n_atoms)
    starts = [
        Frame(numbers=numbers, positions=sites + rng.uniform(-0.1, 0.1, (n_atoms, 3)), charge=int(place == 1))
        for place in range(3)
    ]
    config = ModelConfig(
        kind="ms-mace",
        short=PathConfig(cutoff_ang=3.0, channels=4, l_max=1, radial_mlp=[]),
        long=PathConfig(cutoff_ang=4.0, channels=2, l_max=0, radial_mlp=[]),
        zbl=True,
    )
    constants = ModelConstants((6, 7, 8), (0.0, 0.0, 0.0), 0.02, (8.0, 15.0))
    committee = Committee([MSMACE(config, constants, seed=seed) for seed in (0, 1)], skin_ang=0.2)

    def run(fault_after):
        failing = Failing(committee, fault_after)
        return failing, run_langevin(
            failing,
            starts,
            temperatures_kelvin=[300.0] * 3,
            integration=Integration(steps=150, stride_steps=10, timestep_fs=0.5, friction_per_ps=10.0),
            stop=StopRules(stop_deviation=1e9),
            surroundings=Surroundings(wall=SphericalWall(radius_ang=4.0)),
            refill=refill,
            seed=2,
        )

    calm, (failing, hit) = run(10**9)[1], run(47)
    assert (hit.stop_reason[1], hit.stop_step[1]) == (StopReason.NOT_FINITE, 48)
    assert (len(hit.slot) > 3) == refill
    assert len(failing.rebuilt) > 3
    for place in (0, 2):
        assert hit.stop_reason[place] == calm.stop_reason[place] == StopReason.COMPLETED
        mine, theirs = (
            [frame.positions for frame, r in zip(one.frames, one.replica, strict=True) if r == place]
            for one in (hit, calm)
        )
        np.testing.assert_array_equal(mine, theirs)
