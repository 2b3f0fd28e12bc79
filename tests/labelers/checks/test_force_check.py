"""Forces that are not the derivative of the energy are found, located, and distinguished from noise."""

import numpy as np
import pytest
from ase.build import molecule

from al_engine.config import LabelsConfig
from al_engine.structures.frames import Frame, LabelledFrame
from labelers import create_labeler
from labelers.checks.force_check import check_forces

TOLERANCE = 0.010
GFN2 = create_labeler(LabelsConfig(backend="tblite"))


class Springs:
    """Atoms on anharmonic springs to their places: an energy whose derivative is known."""

    def __init__(self, frame):
        self._places = frame.positions + 0.3

    def energy(self, frame):
        moved = frame.positions - self._places
        return float((5.0 * moved**2 + 3.0 * moved**3).sum())

    def energies(self, frames):
        return [self.energy(frame) for frame in frames]

    def label(self, frame, wrong=0.0):
        moved = frame.positions - self._places
        return LabelledFrame(frame, self.energy(frame), -(10.0 * moved + 9.0 * moved**2) + wrong)


@pytest.fixture
def cluster():
    rng = np.random.default_rng(3)
    return Frame(numbers=np.full(60, 6), positions=rng.normal(0, 4.0, (60, 3)))


def energies_of(labeler):
    return lambda frames: [labeler.label(frame)[0] for frame in frames]


def test_right_forces_pass_to_within_rounding(cluster):
    springs = Springs(cluster)
    (check,) = check_forces([springs.label(cluster)], springs.energies, tolerance_ev_per_ang=TOLERANCE)
    assert check.fault is None
    assert check.done
    assert check.worst_ev_per_ang < 1e-6


@pytest.mark.parametrize("atom", range(0, 60, 7))
@pytest.mark.parametrize("size", [0.05, -3.0])
def test_a_single_wrong_component_among_180_is_located_with_both_numbers(cluster, atom, size):
    springs = Springs(cluster)
    wrong = np.zeros((60, 3))
    wrong[atom, atom % 3] = size
    (check,) = check_forces([springs.label(cluster, wrong)], springs.energies, tolerance_ev_per_ang=TOLERANCE)
    assert check.fault is not None
    assert (check.fault.atom, check.fault.axis) == (atom, atom % 3)
    assert check.fault.force_ev_per_ang - check.fault.difference_ev_per_ang == pytest.approx(size, abs=1e-6)


def test_noise_along_a_direction_does_not_hide_a_fault_along_the_other(cluster):
    springs = Springs(cluster)
    wrong = np.zeros((60, 3))
    wrong[7, 1] = 0.5
    noise = 0.2 * np.array([-1, 1, -1, 1, -1, 1])  # in the first call only, along the first direction

    def energies(frames):
        nonlocal noise
        values = np.array(springs.energies(frames))
        values[: len(noise)] += noise
        noise = np.zeros(0)
        return values.tolist()

    (check,) = check_forces([springs.label(cluster, wrong)], energies, tolerance_ev_per_ang=TOLERANCE)
    assert check.fault is not None
    assert (check.fault.atom, check.fault.axis) == (7, 1)


def test_noise_below_the_tolerance_on_every_component_is_no_fault(cluster):
    springs = Springs(cluster)
    noise = np.random.default_rng(0).normal(0, 0.3 * TOLERANCE, (60, 3))
    (check,) = check_forces([springs.label(cluster, noise)], springs.energies, tolerance_ev_per_ang=TOLERANCE)
    assert check.worst_ev_per_ang > TOLERANCE
    assert check.fault is None


@pytest.mark.parametrize("seed", range(5))
def test_energies_in_single_precision_are_too_coarse_to_accuse_anybody(cluster, seed):
    springs, rng = Springs(cluster), np.random.default_rng(seed)

    def coarse(frames):
        return [energy + rng.normal(0, 1e-3) for energy in springs.energies(frames)]

    (check,) = check_forces([springs.label(cluster)], coarse, tolerance_ev_per_ang=TOLERANCE)
    assert check.fault is None


def test_a_frame_without_energies_is_not_checked_and_the_next_frame_is(cluster):
    springs = Springs(cluster)
    other = cluster.with_positions(cluster.positions + 1.0)
    wrong = np.full((60, 3), 0.5)

    def failing(frames):
        return [
            None if frame.positions[0, 0] < cluster.positions[0, 0] + 0.5 else springs.energy(frame) for frame in frames
        ]

    checks = check_forces(
        [springs.label(cluster, wrong), springs.label(other, wrong)], failing, tolerance_ev_per_ang=TOLERANCE
    )
    assert [check.done for check in checks] == [False, True]
    assert [check.fault is not None for check in checks] == [False, True]


def test_gfn2_passes_on_ordinary_and_on_symmetric_molecules():
    frames = [Frame.from_atoms(molecule(name)) for name in ("N2H4", "trans-butane", "CH3OH", "CO2", "SO2", "C6H6")]
    labels = [LabelledFrame(frame, *GFN2.label(frame)) for frame in frames]
    checks = check_forces(labels, energies_of(GFN2), tolerance_ev_per_ang=TOLERANCE)
    assert [check.fault for check in checks] == [None] * len(frames)
    assert max(check.worst_ev_per_ang for check in checks) < 0.002


def test_the_fault_of_libxtb_is_found_where_frames_are_not_turned(monkeypatch):
    xtb = create_labeler(LabelsConfig(backend="xtb"))
    monkeypatch.setattr(xtb, "_orientations", [np.eye(3)])
    monkeypatch.setattr(xtb, "_torque_ev", np.inf)
    frame = Frame.from_atoms(molecule("N2H4"))
    label = LabelledFrame(frame, *xtb.label(frame))
    (check,) = check_forces([label], energies_of(xtb), tolerance_ev_per_ang=TOLERANCE)
    right = GFN2.label(frame)[1]
    assert check.fault is not None
    assert check.fault.difference_ev_per_ang == pytest.approx(right[check.fault.atom, check.fault.axis], abs=2e-3)
    assert abs(check.fault.force_ev_per_ang - check.fault.difference_ev_per_ang) > 0.1
