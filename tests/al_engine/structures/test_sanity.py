"""What is refused before a label, and what is not taken for one after it."""

import numpy as np
import pytest

from al_engine.structures.frames import Frame
from al_engine.structures.sanity import gfn2_valence, screen_contacts
from labelers import LabelReason, screen_frame, screen_label

WATER = Frame(numbers=[8, 1, 1], positions=[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
CUBE = np.eye(3) * 3.0


def refusal(frame, **options):
    return screen_frame(frame, **{"min_distance_ang": 0.6, **options})


def variant(frame=WATER, **changes):
    fields = ("numbers", "positions", "cell", "pbc", "charge", "unpaired_electrons")
    return Frame(**{**{name: getattr(frame, name) for name in fields}, **changes})


def moved(atom, position):
    positions = WATER.positions.copy()
    positions[atom] = position
    return WATER.with_positions(positions)


@pytest.mark.parametrize(
    "frame",
    [
        WATER,
        variant(charge=1, unpaired_electrons=1),
        variant(unpaired_electrons=2),
        variant(cell=CUBE * 2, pbc=[True] * 3),
        Frame(numbers=[1], positions=[[0, 0, 0]], charge=1),
        Frame(numbers=[86], positions=[[0, 0, 0]]),
        Frame(numbers=[17], positions=[[0, 0, 0]], charge=-1),
        Frame(numbers=[25], positions=[[0, 0, 0]], unpaired_electrons=5),
    ],
)
def test_sound_frames_pass(frame):
    assert refusal(frame) is None


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (Frame(numbers=[], positions=np.zeros((0, 3))), "no atoms"),
        (moved(1, [np.nan, 0, 0]), "atom 1 .* not finite"),
        (moved(2, [np.inf, 0, 0]), "atom 2 .* not finite"),
        (
            variant(numbers=[92, 1, 1]),
            r"atom 0 is U \(Z = 92\); GFN2-xTB has parameters .* 86.*labels.backend: ase",
        ),
        (variant(numbers=[8, 0, 1]), "atom 1 has Z = 0, which is no element"),
        (variant(numbers=[8, -1, 1]), "Z = -1, which is no element"),
        (moved(2, [0.96, 0, 0]), "atoms 1 and 2 are 0.000"),
        (moved(2, [0.96, 0.59, 0]), "atoms 1 and 2 are 0.590"),
        (variant(charge=1), "both must be even or both odd"),
        (variant(unpaired_electrons=1), "both must be even or both odd"),
        (Frame(numbers=[6, 1, 1, 1], positions=np.eye(4, 3) * 2, unpaired_electrons=2), "both must be even"),
        (variant(unpaired_electrons=-2), "-2 unpaired"),
        (variant(unpaired_electrons=200), "200 unpaired"),
        (variant(unpaired_electrons=6), "do not fit into 6"),
        (variant(charge=-10), "do not fit into 6"),
        (variant(charge=100), "removes more"),
        (variant(charge=10), "removes more"),
        (variant(cell=CUBE, pbc=[True, True, False]), "all directions or in none"),
        (variant(pbc=[True] * 3), "no volume"),
        (variant(cell=np.full((3, 3), np.nan), pbc=[True] * 3), "cell is not finite"),
        (variant(cell=CUBE, pbc=[True] * 3).with_positions([[0, 0, 0], [2.9, 0, 0], [1, 1, 1]]), "0.100 Å apart"),
    ],
)
def test_unsound_frames_are_refused_with_the_cause(frame, words):
    import re

    reason = refusal(frame)
    assert reason is not None
    assert re.search(words, reason), reason


def test_an_atom_too_close_to_its_own_image_is_refused():
    helium = Frame(numbers=[2], positions=[[0, 0, 0]], cell=np.diag([0.5, 5, 5]), pbc=[True] * 3)
    assert "atoms 0 and 0 are 0.500" in refusal(helium)


def test_minimum_distance_matches_ase_in_a_skewed_cell():
    from ase.neighborlist import neighbor_list

    rng = np.random.default_rng(3)
    cell = np.array([[3.0, 0, 0], [2.7, 1.5, 0], [-1.2, 1.0, 2.5]])
    for _ in range(20):
        frame = Frame(numbers=[2] * 4, positions=rng.uniform(-4, 4, (4, 3)), cell=cell, pbc=[True] * 3)
        closest = neighbor_list("d", frame.to_atoms(), 3.0).min()
        assert refusal(frame, min_distance_ang=closest + 1e-6) is not None
        assert refusal(frame, min_distance_ang=closest - 1e-6) is None


@pytest.mark.parametrize(
    ("elements", "distance", "close"),
    [
        ([1, 1], 0.74, False),  # 0.5 x (0.31 + 0.31) is below the smallest distance of 0.6
        ([1, 1], 0.59, True),
        ([6, 1], 0.40, True),
        ([6, 1], 0.61, False),  # 0.5 x (0.76 + 0.31)
        ([6, 9], 0.66, True),  # 0.5 x (0.76 + 0.57) = 0.665
        ([6, 9], 0.67, False),
        ([17, 17], 1.01, True),  # 0.5 x (1.02 + 1.02)
        ([17, 17], 1.03, False),
        ([55, 55], 2.43, True),  # 0.5 x (2.44 + 2.44)
        ([55, 55], 2.45, False),
    ],
)
def test_contacts_element_by_element(elements, distance, close):
    """Covalent radii of Cordero et al. (2008) in the comments."""
    pair = Frame(numbers=elements, positions=[[0, 0, 0], [0, 0, distance]])
    reason = screen_contacts(pair, min_distance_ang=0.6, min_contact_factor=0.5)
    assert (reason is not None) == close
    assert screen_contacts(pair, min_distance_ang=0.1) is None
    assert (refusal(pair, min_contact_factor=0.5, gfn2=False) is not None) == close


def test_of_several_contacts_the_worst_is_named():
    """O-H at 0.5 Å, below 0.6; C-C at 0.6 Å, below 0.76: the latter is further below its limit."""
    frame = Frame(numbers=[8, 1, 6, 6], positions=[[0, 0, 0], [0.5, 0, 0], [9, 0, 0], [9.6, 0, 0]])
    reason = screen_contacts(frame, min_distance_ang=0.6, min_contact_factor=0.5)
    assert reason == "atoms 2 and 3 are 0.600 Å apart, closer than 0.76 Å"


def test_contacts_over_boundaries():
    cell = np.diag([8.0, 9.0, 10.0])
    frame = Frame(numbers=[6, 6], positions=[[0.2, 1, 1], [7.5, 1, 1]], cell=cell, pbc=[True] * 3)
    assert "0.700 Å apart" in screen_contacts(frame, min_distance_ang=0.6, min_contact_factor=0.5)


def test_classical_potentials_are_not_asked_for_electron_parity():
    copper = Frame(numbers=[29], positions=[[0, 0, 0]])
    assert refusal(copper) is not None
    assert refusal(copper, gfn2=False) is None
    assert refusal(variant(numbers=[92, 1, 1]), gfn2=False) is None


def test_valence_of_every_element_is_what_tblite_fills():
    from tblite.exceptions import TBLiteRuntimeError
    from tblite.interface import Calculator

    for number in range(1, 87):
        electrons, orbitals = gfn2_valence(number)
        for unpaired in (0, 1):
            try:
                atom = Calculator("GFN2-xTB", np.array([number]), np.zeros((1, 3)), charge=0, uhf=unpaired)
                atom.set("verbosity", 0)
                atom.set("temperature", 0.05)  # hartree; open shells converge
                atom.set("max-iter", 1000)
                result = atom.singlepoint()
            except TBLiteRuntimeError as error:
                assert "not compatible" in str(error)  # noqa: PT017 - the other parity is tried next
                continue
            assert round(float(result.get("orbital-occupations").sum())) == electrons, number
            assert orbitals <= (2 * atom.get("angular-momenta") + 1).sum(), number
            break
        else:
            pytest.fail(f"tblite has no atom with Z = {number}")


@pytest.mark.parametrize(
    ("energy", "forces", "reason"),
    [
        (-1.0, np.zeros((3, 3)), None),
        (np.nan, np.zeros((3, 3)), LabelReason.NON_FINITE),
        (-np.inf, np.zeros((3, 3)), LabelReason.NON_FINITE),
        (-1.0, np.full((3, 3), np.nan), LabelReason.NON_FINITE),
        (-1.0, [[0, 0, -100.1], [0, 0, 0], [0, 0, 0]], LabelReason.ABSURD_FORCES),
        (-1.0, [[0, 0, -99.9], [0, 0, 0], [0, 0, 0]], None),
        (-1.0, np.zeros((3, 2)), LabelReason.BACKEND_ERROR),
        (-1.0, np.zeros(9), LabelReason.BACKEND_ERROR),
    ],
)
def test_numbers_that_are_no_label(energy, forces, reason):
    fault = screen_label(3, energy, forces, max_force_ev_per_ang=100.0)
    assert (fault and fault[0]) == reason
