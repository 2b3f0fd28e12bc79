"""The choice over parts of a campaign: every frame with the fate it was made for, nothing labelled twice."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.samples import trusted_mev_per_ang
from al_engine.config.reader import parse_config
from al_engine.files.frames_hdf5 import read_frames, write_frames, write_labelled
from al_engine.files.part_file import open_part, write_part
from al_engine.selection.fates import Fate, count
from al_engine.selection.window import Window
from al_engine.structures.frames import Frame, LabelledFrame
from al_engine.structures.identity import duplicates, same_structure
from flows.stages.search.selecting import select_frames

METHANOL = np.array(
    [[-0.36, -0.01, 0.02], [0.90, 0.06, -0.11], [-0.60, 0.92, 0.50], [-0.61, -0.91, 0.62], [-0.78, -0.01, -0.98],
     [1.20, -0.74, 0.46]]
)  # fmt: skip
NUMBERS = np.array([6, 8, 1, 1, 1, 1])
BONDS = np.array([[0, 1], [0, 2], [0, 3], [0, 4], [1, 5]])
LENGTHS = np.linalg.norm(METHANOL[BONDS[:, 0]] - METHANOL[BONDS[:, 1]], axis=1)
CONFIG = """
name: choice
seed: {seed}
system: {{smiles: CO}}
sampling: {{temperatures_kelvin: [300, 900], replicas: 2, steps: 400, stride_steps: 10}}
selection: {{max_labels: {max_labels}, diversity: {diversity}, min_separation_strides: {separation}{more}}}
labels: {{backend: tblite}}
"""
COMMON_DEVIATION = 0.2


def shaken(seed, scale=0.05):
    return Frame(
        numbers=NUMBERS, positions=METHANOL + np.random.default_rng(seed).normal(scale=scale, size=METHANOL.shape)
    )


def copied(frame, seed=0):
    """Turned, shifted, its hydrogens renumbered."""
    rng = np.random.default_rng(seed)
    order = np.concatenate([[0, 1], 2 + rng.permutation(4)])
    positions = frame.positions[order] @ Rotation.random(rng=rng).as_matrix().T + rng.uniform(-5, 5, 3)
    return frame.with_positions(positions)


def moved(frame, atom, position):
    positions = frame.positions.copy()
    positions[atom] = position
    return frame.with_positions(positions)


def distances_of_atoms(frames):
    """A descriptor simple enough to see through: sorted distances of every atom to all others."""
    for frame in frames:
        yield np.sort(np.linalg.norm(frame.positions[:, None] - frame.positions[None], axis=-1), axis=1)


class Made:
    """A ledger whose parts are written by hand."""

    def __init__(self, directory, *, seed=5, max_labels=100, diversity="farthest_point", separation=1, more=""):
        text = CONFIG.format(seed=seed, max_labels=max_labels, diversity=diversity, separation=separation, more=more)
        self.ledger = Ledger(directory, parse_config(text, source="test"))
        self.ledger.write_config()
        self.ledger.parts_directory.mkdir(exist_ok=True)
        self.train, self.test = [shaken(k) for k in range(100, 110)], [shaken(k) for k in range(200, 205)]
        with write_part(self.ledger.part_path(names.INITIAL_FRAMES), kind="", key="") as root:
            write_frames(root.create_group("train"), self.train)
            write_frames(root.create_group("test"), self.test)
            write_frames(root.create_group("system"), self.train[:1])
            root["bonds"], root["bond_lengths"] = BONDS, LENGTHS
            root["molecule_of_atom"] = np.zeros(6, dtype=int)
        with write_part(self.ledger.part_path(names.INITIAL_DATASET), kind="", key="") as root:
            write_labelled(root.create_group("labelled"), [labelled(frame) for frame in self.train])

    def sample(self, frames, *, iteration=0, kelvin=300.0, **columns):
        size = len(frames)
        arrays = {
            "deviation_norm": np.full(size, COMMON_DEVIATION),
            "deviation_component": np.full(size, 0.01),
            "net_force_deviation": np.zeros(size),
            "worst_atom": np.zeros(size, dtype=int),
            "worst_molecule": np.zeros(size, dtype=int),
            "sound": np.ones(size, dtype=bool),
            "replica": np.zeros(size, dtype=int),
            "step": 10 * (1 + np.arange(size)),
        }
        with write_part(self.ledger.part_path(names.sample(iteration, kelvin)), kind="", key="") as root:
            write_frames(root.create_group("frames"), frames)
            for name, values in (arrays | columns).items():
                root[name] = values

    def select(self, iteration=0):
        selection = select_frames(self.ledger.reader(), self.ledger.config, iteration, describe=distances_of_atoms)
        with write_part(self.ledger.part_path(names.selection(iteration)), kind="", key="") as root:
            selection.write(root)
        return selection


def labelled(frame):
    return LabelledFrame(frame=frame, energy=0.0, forces=np.zeros((len(frame), 3)))


def test_every_frame_has_the_fate_it_was_made_for(tmp_path):
    made = Made(tmp_path)
    stretched = METHANOL[1] + 2.6 * (METHANOL[5] - METHANOL[1])
    cases = [
        (shaken(0), Fate.LABELLED, {}),
        (shaken(1), Fate.ACCURATE, {"deviation_norm": 0.09}),
        (shaken(2), Fate.REJECTED, {"deviation_norm": 0.31}),
        (shaken(3), Fate.REJECTED, {"deviation_norm": np.nan}),
        (shaken(4), Fate.UNSOUND, {"sound": False}),
        (moved(shaken(5), 5, METHANOL[4] + [0.3, 0.0, 0.0]), Fate.TOO_CLOSE, {}),
        (moved(shaken(6), 5, stretched), Fate.FRAGMENTED, {}),
        (Frame(numbers=NUMBERS, positions=METHANOL, charge=1), Fate.REFUSED, {}),
        (copied(made.test[2]), Fate.DUPLICATE, {}),
        (copied(made.train[7]), Fate.DUPLICATE, {}),
        (copied(shaken(0)), Fate.DUPLICATE, {}),
    ]
    changes = {
        name: np.array([case[2].get(name, default) for case in cases])
        for name, default in (("deviation_norm", COMMON_DEVIATION), ("sound", True))
    }
    made.sample([frame for frame, _, _ in cases], **changes)
    made.sample([shaken(50), shaken(51)], kelvin=900.0)
    selection = made.select()
    assert [Fate(fate).name for fate in selection.fates] == [fate.name for _, fate, _ in cases] + ["LABELLED"] * 2
    counts = count(selection.fates)
    assert (counts.sampled, counts.accurate, counts.candidate, counts.rejected) == (13, 1, 9, 3)
    with open_part(tmp_path / "parts" / "iter000-selection.h5") as root:
        chosen = read_frames(root["selected"])
        assert root["source"][()].tolist() == [[0, k] for k in range(11)] + [[1, 0], [1, 1]]
        assert root["chosen"][()].tolist() == [0, 11, 12]
        assert [root.attrs["fates"][fate] for fate in root["fate"][()]][8] == "duplicate"
        assert Window.from_attributes(root.attrs) == Window(100.0, 300.0)
    for frame, expected in zip(chosen, [shaken(0), shaken(50), shaken(51)], strict=True):
        np.testing.assert_array_equal(frame.positions, expected.positions)


@pytest.mark.parametrize("diversity", ["farthest_point", "random"])
def test_nothing_is_labelled_twice_over_iterations(tmp_path, diversity):
    """Pools of which half are copies: of the data set, the test set, each other, and of what was chosen, but failed."""
    made = Made(tmp_path, max_labels=6, diversity=diversity)
    pool = [shaken(k) for k in range(20)]
    known = [*made.train, *made.test]
    for iteration in range(3):
        copies = [copied(frame, seed) for seed, frame in enumerate([*pool, *known])]
        order = np.random.default_rng(iteration).permutation(len(copies))
        fresh = shaken(40 + iteration)
        made.sample([copies[k] for k in order], iteration=iteration)
        made.sample([fresh], iteration=iteration, kelvin=900.0)
        selection = made.select(iteration)
        new = [frame for frame in [*pool, fresh] if not any(same_structure(frame, other) for other in known)]
        assert (selection.fates != Fate.DUPLICATE).sum() == len(new)
        assert len(selection.selected) == 6
        assert not duplicates(selection.selected, known).any()
        known += selection.selected
        with write_part(made.ledger.part_path(names.append(iteration)), kind="", key="") as root:
            write_labelled(root.create_group("labelled"), [labelled(frame) for frame in selection.selected[1:]])


def test_candidates_of_a_trajectory_are_kept_apart_in_time(tmp_path):
    """The farthest into the window first; another replica and another temperature are other trajectories."""
    made = Made(tmp_path, separation=3)
    deviation = np.array([0.11, 0.12, 0.25, 0.13, 0.14, 0.20, 0.15, 0.11])
    made.sample(
        [shaken(k) for k in range(8)],
        deviation_norm=deviation,
        replica=np.array([0, 0, 0, 0, 0, 0, 1, 1]),
        step=np.array([10, 20, 30, 40, 50, 60, 40, 60]),
    )
    made.sample([shaken(10), shaken(11)], kelvin=900.0, step=np.array([30, 60]))
    selection = made.select()
    assert selection.separation_strides == (3, 3)
    assert selection.chosen.tolist() == [2, 5, 6, 8, 9]
    assert np.flatnonzero(selection.fates == Fate.CORRELATED).tolist() == [0, 1, 3, 4, 7]


def test_the_separation_is_the_deviations_own_correlation_time(tmp_path):
    """An AR(1) series of correlation phi has an inefficiency of (1 + phi) / (1 - phi): 9 for 0.8, 1 for noise."""
    made = Made(tmp_path, separation="null")
    rng = np.random.default_rng(0)
    noise, slow = rng.normal(size=4000), np.empty(4000)
    slow[0] = noise[0]
    for k in range(1, 4000):
        slow[k] = 0.8 * slow[k - 1] + 0.6 * noise[k]
    outside = 0.05 + 1e-3 * np.column_stack([slow, noise])
    outside[::200] = 0.2  # the only candidates
    frames = [shaken(0)] * 4000
    made.sample(frames, deviation_norm=outside[:, 0])
    made.sample(frames, kelvin=900.0, deviation_norm=outside[:, 1])
    before = made.select()
    clean = 0.05 + 1e-3 * np.column_stack([slow, noise])
    made.sample(frames, iteration=1, deviation_norm=clean[:, 0])
    made.sample(frames, iteration=1, kelvin=900.0, deviation_norm=clean[:, 1])
    after = made.select(1)
    assert before.separation_strides == (1, 1)  # peaks without memory hide the rest
    assert 7 <= after.separation_strides[0] <= 11
    assert after.separation_strides[1] == 1


def test_more_candidates_than_labels(tmp_path):
    """Farthest point: three odd geometries among a crowd are taken before any other; ranks tell the whole order."""
    made = Made(tmp_path, max_labels=3)
    odd = [moved(shaken(k), 1, METHANOL[1] + [0.1 * k, 0.0, 0.0]) for k in (3, 5, 7)]
    made.sample([*(shaken(k, scale=0.01) for k in range(20)), *odd])
    made.sample([], kelvin=900.0)
    selection = made.select()
    assert selection.chosen.tolist() == [20, 21, 22]
    assert sorted(selection.rank.tolist()) == list(range(23))
    assert set(selection.rank[[20, 21, 22]].tolist()) == {0, 1, 2}
    assert (selection.fates == Fate.OVER_CAP).sum() == 20


def test_a_smaller_cap_would_have_chosen_the_first_ranks(tmp_path):
    """What `rank` is stored for."""
    chosen = {}
    for cap in (4, 9):
        made = Made(tmp_path / str(cap), max_labels=cap)
        made.sample([shaken(k) for k in range(20)])
        made.sample([shaken(k) for k in range(20, 30)], kelvin=900.0)
        chosen[cap] = made.select()
    assert set(chosen[4].chosen.tolist()) == set(np.flatnonzero((r := chosen[9].rank) >= 0)[r[r >= 0] < 4].tolist())


def test_lots_are_the_seeds(tmp_path):
    chosen = []
    for directory, seed in (("a", 1), ("b", 1), ("c", 2)):
        made = Made(tmp_path / directory, max_labels=8, diversity="random", seed=seed)
        made.sample([shaken(k) for k in range(40)])
        made.sample([], kelvin=900.0)
        chosen.append(made.select().chosen.tolist())
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(set(chosen[0])) == 8


def test_an_adaptive_window_looks_back_and_is_stored(tmp_path):
    """Sound frames of this iteration and the one before, both temperatures: 0, 1, ..., 400 meV/Å; median 200."""
    more = ", adaptive: {enabled: true, lower_quantile: 0.5, upper_factor: 1.5, iterations: 2}"
    made = Made(tmp_path, more=more)
    milli = np.random.default_rng(0).permutation(401) / 1000.0
    frames = [shaken(k) for k in range(101)]
    wild = np.array([5.0] * 100)
    old = np.full(100, 9.0)  # three iterations ago
    for iteration, (cold, hot) in enumerate([(old, old), (milli[:100], milli[100:200]), (milli[200:300], milli[300:])]):
        sound = np.concatenate([np.ones(len(cold), dtype=bool), np.zeros(len(wild), dtype=bool)])
        made.sample(
            frames[: len(cold)] + [frames[0]] * 100,
            iteration=iteration,
            deviation_norm=np.concatenate([cold, wild]),
            sound=sound,
        )
        made.sample(frames[: len(hot)], iteration=iteration, kelvin=900.0, deviation_norm=hot)
        selection = made.select(iteration)
    with open_part(tmp_path / "parts" / "iter002-selection.h5") as root:
        window = Window.from_attributes(root.attrs)
        deviation, fates = root["deviation_norm"][()], root["fate"][()]
    assert window.lower_mev_per_ang == pytest.approx(200.0)
    assert window.upper_mev_per_ang == pytest.approx(300.0)
    inside = (deviation >= 0.2 - 1e-12) & (deviation <= 0.3 + 1e-12)
    np.testing.assert_array_equal(~np.isin(fates, [Fate.ACCURATE, Fate.REJECTED, Fate.UNSOUND]), inside)
    assert selection.window == window
    trusted = [trusted_mev_per_ang(made.ledger.reader(), made.ledger.config, k) for k in (0, 3)]
    assert trusted == [made.ledger.config.sampling.stop_deviation_mev_per_ang, window.upper_mev_per_ang]
    fixed = Made(tmp_path / "fixed").ledger
    assert trusted_mev_per_ang(fixed.reader(), fixed.config, 3) == 300.0


def test_net_forces_have_a_window_of_their_own(tmp_path):
    made = Made(tmp_path, more=", net_force_lower_mev_per_ang: 20, net_force_upper_mev_per_ang: 60")
    made.sample([shaken(k) for k in range(3)], deviation_norm=np.full(3, 0.01), net_force_deviation=[0.01, 0.03, 0.07])
    made.sample([], kelvin=900.0)
    assert made.select().fates.tolist() == [Fate.ACCURATE, Fate.LABELLED, Fate.REJECTED]


def test_nothing_sampled_and_nothing_in_the_window(tmp_path):
    made = Made(tmp_path)
    made.sample([shaken(0)], deviation_norm=np.array([0.01]))
    made.sample([], kelvin=900.0)
    selection = made.select()
    assert selection.fates.tolist() == [Fate.ACCURATE]
    assert selection.selected == []
