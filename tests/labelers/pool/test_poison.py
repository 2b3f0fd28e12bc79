"""Frames that break backends: none ends the campaign or silently gets a wrong label, and the next frame is labelled.

Each goes through the screen and the workers of a real pool, beside sound frames whose labels must be untouched.
"""

import numpy as np
import pytest
from ase.build import molecule

from al_engine.config import LabelsConfig, SelectionConfig
from al_engine.structures.frames import Frame
from labelers import LabelReason, create_labeler
from labelers.pool.chunk import label_chunk
from labelers.pool.pool import LabelPool

BACKENDS = ["xtb", "tblite"]
LIMITS = SelectionConfig(min_distance_ang=0.5, min_contact_factor=1e-3)
CUBE = np.eye(3)
WATER = Frame.from_atoms(molecule("H2O"))
METHYL = Frame.from_atoms(molecule("CH3"), unpaired_electrons=1)


def atoms(symbols, positions, **others):
    from ase.symbols import symbols2numbers

    return Frame(numbers=symbols2numbers(symbols), positions=np.array(positions, dtype=float), **others)


def water(**changes):
    fields = ("numbers", "positions", "cell", "pbc", "charge", "unpaired_electrons")
    return Frame(**{**{name: getattr(WATER, name) for name in fields}, **changes})


def moved(atom, place):
    positions = WATER.positions.copy()
    positions[atom] = place
    return WATER.with_positions(positions)


def crowd(n_atoms, spacing_ang=3.0):
    """Helium atoms on a grid."""
    side = int(np.ceil(n_atoms ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)[:n_atoms]
    return Frame(numbers=np.full(n_atoms, 2), positions=spacing_ang * grid)


BAD, OK = LabelReason.BAD_INPUT, LabelReason.OK
FAILED = (LabelReason.NOT_CONVERGED, LabelReason.BACKEND_ERROR, LabelReason.NON_FINITE, LabelReason.ABSURD_FORCES)
POISON = {
    "no atoms": (Frame(numbers=[], positions=np.zeros((0, 3))), BAD),
    "coincident atoms": (atoms("CC", [[0, 0, 0], [0, 0, 0]]), BAD),
    "atoms 0.1 Å apart": (atoms("CC", [[0, 0, 0], [0.1, 0, 0]]), BAD),
    "atoms 0.4 Å apart": (atoms("CC", [[0, 0, 0], [0.4, 0, 0]]), BAD),
    "atoms 1e-300 Å apart": (atoms("CC", [[0, 0, 0], [1e-300, 0, 0]]), BAD),
    "a coordinate NaN": (moved(1, [np.nan, 0, 0]), BAD),
    "all coordinates NaN": (WATER.with_positions(np.full((3, 3), np.nan)), BAD),
    "a coordinate infinite": (moved(0, [0, np.inf, 0]), BAD),
    "a coordinate minus infinite": (moved(0, [0, 0, -np.inf]), BAD),
    "Z = 0": (water(numbers=[8, 0, 1]), BAD),
    "Z = -1": (water(numbers=[8, -1, 1]), BAD),
    "Z = 87": (water(numbers=[87, 1, 1], unpaired_electrons=1), BAD),
    "Z = 92": (water(numbers=[92, 1, 1]), BAD),
    "Z = 120": (water(numbers=[120, 1, 1]), BAD),
    "Z = 10^9": (water(numbers=[10**9, 1, 1]), BAD),
    "charge 100": (water(charge=100), BAD),
    "charge -100": (water(charge=-100), BAD),
    "a proton": (atoms("H", [[0, 0, 0]], charge=1), (*FAILED, OK)),
    "200 unpaired electrons": (water(unpaired_electrons=200), BAD),
    "-2 unpaired electrons": (water(unpaired_electrons=-2), BAD),
    "odd electrons, none unpaired": (Frame(METHYL.numbers, METHYL.positions), BAD),
    "odd electrons, two unpaired": (Frame(METHYL.numbers, METHYL.positions, unpaired_electrons=2), BAD),
    "an atom at 1e4 Å": (moved(1, [1e4, 0, 0]), (*FAILED, LabelReason.TIME_LIMIT, OK)),
    "an atom at 1e300 Å": (moved(1, [1e300, 0, 0]), BAD),
    "all atoms far apart": (atoms("OHH", [[0, 0, 0], [50, 0, 0], [0, 50, 0]]), (*FAILED, LabelReason.TIME_LIMIT, OK)),
    "periodic in one direction": (water(cell=10 * CUBE, pbc=[True, False, False]), BAD),
    "periodic without a cell": (water(pbc=[True] * 3), BAD),
    "a flat cell": (water(cell=np.diag([10.0, 10.0, 0.0]), pbc=[True] * 3), BAD),
    "a cell of NaN": (water(cell=np.full((3, 3), np.nan), pbc=[True] * 3), BAD),
    "a cell of 1 Å": (water(cell=CUBE, pbc=[True] * 3), BAD),
    "1000 atoms in 5 s": (crowd(1000), (LabelReason.TIME_LIMIT, LabelReason.WORKER_DIED)),
    "one atom": (atoms("Ne", [[0, 0, 0]]), OK),
    "one atom, far from the origin": (atoms("Ne", [[1e6, 0, 0]]), (*FAILED, OK)),
    "one atom, out of sight": (atoms("Ne", [[1e12, 0, 0]]), BAD),
    "an atom at 1e5 Å": (moved(1, [0, 1.1e5, 0]), BAD),
    "two atoms out of reach": (atoms("HeNe", [[0, 0, 0], [0, 0, 30]]), OK),
    "on a line": (atoms("OCO", [[-1.16, 0, 0], [0, 0, 0], [1.16, 0, 0]]), OK),
    "a triplet": (Frame.from_atoms(molecule("O2"), unpaired_electrons=2), OK),
}
SOUND = [WATER, METHYL, Frame.from_atoms(molecule("CH3CH2OH"))]


@pytest.fixture(scope="module", params=BACKENDS)
def outcomes(request):
    """Outcomes of the poisonous frames, of the sound frames between them and of sound frames only; and the labeler."""
    config = LabelsConfig(backend=request.param, time_limit_s=5.0)
    labeler = create_labeler(config)
    frames = [frame for index, (bad, _) in enumerate(POISON.values()) for frame in (bad, SOUND[index % len(SOUND)])]
    with LabelPool(config, workers=2) as pool:
        sound_only = label_chunk(pool, SOUND, config, LIMITS)
        found = label_chunk(pool, frames, config, LIMITS)
    return dict(zip(POISON, found[::2], strict=True)), found[1::2], sound_only, labeler


def test_there_are_at_least_thirty_poisonous_frames():
    assert len(POISON) >= 30


@pytest.mark.parametrize("name", POISON)
def test_a_poisonous_frame_is_refused_or_fails_with_a_reason(name, outcomes):
    expected = POISON[name][1]
    outcome = outcomes[0][name]
    assert outcome.reason in (expected if isinstance(expected, tuple) else (expected,)), outcome.message
    assert (outcome.labelled is not None) == outcome.ok
    assert bool(outcome.message) != outcome.ok
    assert "\n" not in outcome.message


def test_sound_frames_between_poisonous_frames_have_the_right_labels(outcomes):
    _, between, expected, _ = outcomes
    for index, outcome in enumerate(between):
        assert outcome.ok, outcome.message
        assert outcome.labelled.content_hash() == expected[index % len(SOUND)].labelled.content_hash()


def test_poisonous_frames_with_labels_have_the_right_labels(outcomes):
    """Distant atoms have the sum of their energies and no forces, and an energy does not depend on the position."""
    found, _, _, labeler = outcomes
    neon = labeler.label(atoms("Ne", [[0, 0, 0]]))[0]
    helium = labeler.label(atoms("He", [[0, 0, 0]]))[0]
    assert found["one atom"].labelled.energy == pytest.approx(neon, abs=1e-9)
    far = found["one atom, far from the origin"]
    assert not far.ok or far.labelled.energy == pytest.approx(neon, abs=1e-6)
    assert found["two atoms out of reach"].labelled.energy == pytest.approx(neon + helium, abs=1e-4)
    assert np.abs(found["two atoms out of reach"].labelled.forces).max() < 1e-4
    for name in ("all atoms far apart", "an atom at 1e4 Å"):
        if found[name].ok:
            assert np.abs(found[name].labelled.forces).max() < 5.0
