"""GFN2-xTB labels against the other backend, the packages' own ASE interfaces, finite differences and symmetry."""

import numpy as np
import pytest
from ase.build import molecule
from ase.collections import g2, s22
from scipy.spatial.transform import Rotation

from al_engine.config import LabelsConfig
from al_engine.structures.frames import Frame
from labelers import LabelError, LabelReason, create_labeler

NAMES = ["water", "ethanol", "ammonium", "acetate", "methyl", "oxygen", "C12F27N"]
BACKENDS = ["xtb", "tblite"]


def labeler(backend, **settings):
    return create_labeler(LabelsConfig(backend=backend, **settings))


LABELERS = {backend: labeler(backend) for backend in BACKENDS}


def central_difference(label, frame, atom, axis, step):
    energies = []
    for sign in (+1, -1):
        positions = frame.positions.copy()
        positions[atom, axis] += sign * step
        energies.append(label(frame.with_positions(positions))[0])
    return -(energies[0] - energies[1]) / (2 * step)


@pytest.mark.parametrize("name", NAMES)
def test_backends_agree_within_1_mev_and_2_mev_per_ang(molecules, name):
    frame = molecules[name]
    (energy_x, forces_x), (energy_t, forces_t) = (labeler(backend).label(frame)[:2] for backend in BACKENDS)
    assert abs(energy_x - energy_t) < 1e-3
    assert np.abs(forces_x - forces_t).max() < 2e-3
    assert np.abs(forces_x).max() > 0.1  # the frame is off equilibrium, so that agreement means something


@pytest.mark.parametrize("collection", [g2, s22], ids=["g2", "s22"])
def test_backends_agree_on_published_geometries_whose_atoms_share_coordinates(collection):
    worst = {}
    for name in collection.names:
        atoms = collection[name]
        unpaired = round(abs(atoms.get_initial_magnetic_moments().sum()))
        frame = Frame(numbers=atoms.numbers, positions=atoms.positions, unpaired_electrons=unpaired)
        (energy_x, forces_x), (energy_t, forces_t) = (LABELERS[backend].label(frame)[:2] for backend in BACKENDS)
        assert abs(energy_x - energy_t) < 1e-3, name
        worst[name] = np.abs(forces_x - forces_t).max()
    assert max(worst.values()) < 1e-3, max(worst, key=worst.get)


@pytest.mark.parametrize("decimals", [1, 2, 3])
def test_backends_agree_on_clusters_rounded_as_files_round_them(molecules, decimals):
    molecule = molecules["C12F27N"]
    shifts = np.array([[0.0, 0, 0], [11.0, 0, 0]])
    cluster = Frame(
        numbers=np.tile(molecule.numbers, 2),
        positions=np.round((molecule.positions[None] + shifts[:, None]).reshape(-1, 3), decimals),
    )
    forces_x, forces_t = (LABELERS[backend].label(cluster)[1] for backend in BACKENDS)
    assert np.abs(forces_x - forces_t).max() < 2e-3


def test_libxtb_without_rotation_is_wrong_on_hydrazine():
    from ase.units import Bohr, Hartree
    from xtb import interface
    from xtb.libxtb import VERBOSITY_MUTED

    frame = Frame.from_atoms(molecule("N2H4"))
    calculator = interface.Calculator(interface.Param.GFN2xTB, frame.numbers, frame.positions / Bohr)
    calculator.set_verbosity(VERBOSITY_MUTED)
    bare = -calculator.singlepoint().get_gradient() * Hartree / Bohr
    assert np.abs(bare - LABELERS["tblite"].label(frame)[1]).max() > 0.3


def test_forces_with_a_net_torque_are_made_in_another_orientation_or_refused(molecules, monkeypatch):
    labeler_x = labeler("xtb")
    right = labeler_x.label(molecules["ethanol"])
    torn = np.zeros((9, 3))
    torn[0, 0], torn[5, 0] = 0.2, -0.2  # a pair of forces that does not lie along the pair's axis
    calculate = labeler_x._calculate

    def faulty_in(orientations):
        calls = iter(range(10))

        def faulty(*arguments):
            energy, forces = calculate(*arguments)
            return energy, forces + (torn if next(calls) < orientations else 0.0)

        return faulty

    monkeypatch.setattr(labeler_x, "_calculate", faulty_in(2))
    energy, forces, _ = labeler_x.label(molecules["ethanol"])
    assert energy == pytest.approx(right[0], abs=1e-6)
    np.testing.assert_allclose(forces, right[1], atol=1e-3)
    monkeypatch.setattr(labeler_x, "_calculate", faulty_in(10))
    with pytest.raises(LabelError, match="net torque"):
        labeler_x.label(molecules["ethanol"])


def test_electronic_temperature_means_the_same_to_both_backends():
    stretched = Frame.from_atoms(molecule("N2"))
    stretched = stretched.with_positions(1.6 * stretched.positions)
    cold, hot = (
        [labeler(backend, electronic_temperature_kelvin=kelvin, accuracy=0.1).label(stretched) for backend in BACKENDS]
        for kelvin in (300.0, 5000.0)
    )
    assert abs(hot[0][0] - hot[1][0]) < 1e-3
    assert np.abs(hot[0][1] - hot[1][1]).max() < 2e-3
    assert cold[0][0] - hot[0][0] > 0.5  # smearing matters here, so a wrong unit would show


@pytest.mark.parametrize("name", ["ethanol", "acetate", "oxygen"])
def test_tblite_units_match_its_own_ase_calculator(molecules, name):
    from tblite.ase import TBLite

    frame = molecules[name]
    atoms = frame.to_atoms()
    atoms.calc = TBLite(charge=frame.charge, multiplicity=frame.unpaired_electrons + 1, verbosity=0)
    energy, forces, _ = labeler("tblite").label(frame)
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-9)


@pytest.mark.parametrize("name", ["ethanol", "acetate", "oxygen"])
def test_xtb_units_match_its_own_ase_calculator(molecules, name):
    from xtb.ase.calculator import XTB

    frame = molecules[name]
    atoms = frame.to_atoms()
    atoms.set_initial_charges(np.full(len(frame), frame.charge / len(frame)))
    atoms.set_initial_magnetic_moments(np.full(len(frame), frame.unpaired_electrons / len(frame)))
    atoms.calc = XTB(method="GFN2-xTB")
    energy, forces, _ = labeler("xtb").label(frame)
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-3)  # the calculator turns no frame


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["ethanol", "acetate", "methyl"])
def test_forces_are_minus_the_energy_gradient(molecules, backend, name):
    frame = molecules[name]
    tight = labeler(backend, accuracy=0.01)
    _, forces, _ = tight.label(frame)
    for atom, axis in [(0, 0), (1, 1), (2, 2), (3, 0)]:
        assert forces[atom, axis] == pytest.approx(
            central_difference(tight.label, frame, atom, axis, step=1e-3), abs=2e-4
        )


def test_periodic_forces_are_minus_the_energy_gradient(diamond):
    tight = labeler("tblite", accuracy=0.01)
    _, forces, _ = tight.label(diamond)
    assert np.abs(forces).max() > 0.5
    along = np.array([[0.6, 0.0, 0.0], [0.0, 0.0, -0.8]])  # of both atoms at once: a label takes seconds
    ends = [tight.label(diamond.with_positions(diamond.positions + step * along))[0] for step in (2e-3, -2e-3)]
    assert np.abs(forces * along).sum(axis=1).min() > 0.05
    assert (forces * along).sum() == pytest.approx((ends[1] - ends[0]) / 4e-3, abs=5e-4)


def test_periodic_energy_does_not_depend_on_which_image_an_atom_is_in(diamond):
    shifts = np.zeros((2, 3))
    shifts[1] = diamond.cell[0] - diamond.cell[2]
    energy, forces, _ = labeler("tblite").label(diamond)
    energy_shifted, forces_shifted, _ = labeler("tblite").label(diamond.with_positions(diamond.positions + shifts))
    assert energy_shifted == pytest.approx(energy, abs=1e-5)
    np.testing.assert_allclose(forces_shifted, forces, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rotation_and_translation_rotate_the_forces_only(molecules, backend):
    frame = molecules["acetate"]
    turn = Rotation.from_euler("xyz", [0.3, -1.1, 2.0]).as_matrix()
    energy, forces, _ = labeler(backend).label(frame)
    energy_turned, forces_turned, _ = labeler(backend).label(
        frame.with_positions(frame.positions @ turn.T + [3.0, 0, -5.0])
    )
    assert energy_turned == pytest.approx(energy, abs=1e-6)
    np.testing.assert_allclose(forces_turned, forces @ turn.T, atol=1e-4)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_charge_and_spin_reach_the_backend(molecules, backend):
    water, acetate = molecules["water"], molecules["acetate"]
    triplet = Frame(numbers=water.numbers, positions=water.positions, unpaired_electrons=2)
    radical = Frame(numbers=acetate.numbers, positions=acetate.positions, unpaired_electrons=1)
    assert labeler(backend).label(triplet)[0] > labeler(backend).label(water)[0] + 3.0  # excitation of water
    assert labeler(backend).label(radical)[0] > labeler(backend).label(acetate)[0] + 2.0  # electron affinity


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_label_does_not_remember_the_label_before_it(molecules, backend):
    reused = labeler(backend)
    first = reused.label(molecules["ethanol"])
    reused.label(molecules["water"])
    with pytest.raises(LabelError):
        reused.label(molecules["water"].with_positions(np.zeros((3, 3))))
    again = reused.label(molecules["ethanol"])
    assert first[0] == again[0]
    assert np.array_equal(first[1], again[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_scf_cut_short_is_not_converged(molecules, backend):
    with pytest.raises(LabelError) as caught:
        labeler(backend, max_scf_iterations=2).label(molecules["ethanol"])
    assert caught.value.reason is LabelReason.NOT_CONVERGED


def test_xtb_refuses_periodic_frames_and_names_tblite(diamond):
    with pytest.raises(LabelError, match="tblite") as caught:
        labeler("xtb").label(diamond)
    assert caught.value.reason is LabelReason.BAD_INPUT


def test_tblite_refuses_partial_periodicity(diamond):
    slab = Frame(numbers=diamond.numbers, positions=diamond.positions, cell=diamond.cell, pbc=np.array([1, 1, 0]))
    with pytest.raises(LabelError, match="all directions") as caught:
        labeler("tblite").label(slab)
    assert caught.value.reason is LabelReason.BAD_INPUT


@pytest.mark.parametrize("backend", BACKENDS)
def test_labels_print_no_output(molecules, backend, capfd):
    labeler(backend).label(molecules["water"])
    with pytest.raises(LabelError):
        labeler(backend, max_scf_iterations=2).label(molecules["ethanol"])
    assert capfd.readouterr() == ("", "")
