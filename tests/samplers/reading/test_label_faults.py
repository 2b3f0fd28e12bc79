"""Labelled frames of other programs: a clean trajectory is taken, and each planted error is named, frame by frame."""

from dataclasses import replace

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from tblite.ase import TBLite

from al_engine.errors import InputError
from al_engine.structures.frames import Frame
from samplers.reading.label_faults import accepted, faults_of
from samplers.reading.label_units import unit_fault
from samplers.reading.labelled_files import FileLabel, LabelNames, forces_in_ev_per_ang, read_labelled_file

FRAMES = 40


@pytest.fixture(scope="module")
def trajectory():
    """MD of ethanol by EMT, as atoms with energy and forces."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = EMT()
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(1))
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    frames = []
    for _ in range(FRAMES):
        dynamics.run(4)
        frames.append(Atoms(atoms.numbers, atoms.positions))
        frames[-1].calc = SinglePointCalculator(
            frames[-1], energy=atoms.get_potential_energy(), forces=atoms.get_forces()
        )
    return frames


@pytest.fixture
def labels(trajectory, tmp_path):
    ase.io.write(tmp_path / "md.xyz", trajectory)
    return list(read_labelled_file(tmp_path / "md.xyz").frames)


def renamed(frames, energy, forces):
    """Frames whose labels have the names of another program."""
    copies = []
    for atoms in frames:
        copy = Atoms(atoms.numbers, atoms.positions)
        copy.info[energy], copy.arrays[forces] = atoms.get_potential_energy(), atoms.get_forces()
        copies.append(copy)
    return copies


# -- names and units --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("energy", "forces"),
    [
        ("REF_energy", "REF_forces"),
        ("MACE_energy", "MACE_forces"),
        ("dft_energy", "dft_forces"),
        ("DFT_total_energy", "DFT_force"),
        ("energy_pbe0", "forces_pbe0"),
    ],
)
def test_the_names_of_other_programs_are_recognised(trajectory, tmp_path, energy, forces):
    ase.io.write(tmp_path / "md.xyz", renamed(trajectory, energy, forces))
    found = read_labelled_file(tmp_path / "md.xyz")
    assert (found.energy_key, found.forces_key) == (energy, forces)
    for label, atoms in zip(found.frames, trajectory, strict=True):
        assert label.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
        assert np.allclose(label.forces, atoms.get_forces(), atol=1e-7)


@pytest.mark.parametrize("prefix", ["", "dft_"])
def test_the_free_energy_is_taken_because_forces_are_its_derivative(trajectory, tmp_path, prefix):
    """ASE writes both for smeared calculations, as of VASP and GPAW; `energy` is extrapolated to no smearing."""
    frames = renamed(trajectory[:3], f"{prefix}energy", f"{prefix}forces")
    for atoms in frames:
        atoms.info[f"{prefix}free_energy"] = atoms.info[f"{prefix}energy"] - 0.5
    ase.io.write(tmp_path / "smeared.xyz", frames)
    read = read_labelled_file(tmp_path / "smeared.xyz")
    assert read.energy_key == f"{prefix}free_energy"
    expected = [atoms.info[f"{prefix}free_energy"] for atoms in frames]
    np.testing.assert_allclose([label.energy for label in read.frames], expected)


@pytest.mark.parametrize("name", ["free_energy", "total_energy", "potential_energy"])
def test_a_kind_of_energy_alone_is_the_energy(trajectory, tmp_path, name):
    ase.io.write(tmp_path / "named.xyz", renamed(trajectory[:3], name, "forces"))
    assert read_labelled_file(tmp_path / "named.xyz").energy_key == name


@pytest.mark.parametrize("order", [("energy", "total_energy"), ("total_energy", "energy")])
def test_two_energies_of_one_method_are_never_chosen_from(trajectory, tmp_path, order):
    """An MD program's `total_energy` has the kinetic energy in it."""
    frames = renamed(trajectory[:3], order[0], "forces")
    for index, atoms in enumerate(frames):
        atoms.info[order[1]] = atoms.info[order[0]] + 0.1 * index
    ase.io.write(tmp_path / "md.xyz", frames)
    with pytest.raises(InputError, match="have different values; choose one with energy_key"):
        read_labelled_file(tmp_path / "md.xyz")
    found = read_labelled_file(tmp_path / "md.xyz", LabelNames(energy_key="energy"))
    expected = [atoms.info["energy"] for atoms in frames]
    np.testing.assert_allclose([label.energy for label in found.frames], expected)


def test_equal_energies_under_two_names_are_one(trajectory, tmp_path):
    frames = renamed(trajectory[:3], "energy", "forces")
    for atoms in frames:
        atoms.info["total_energy"] = atoms.info["energy"]
    ase.io.write(tmp_path / "twice.xyz", frames)
    assert len(read_labelled_file(tmp_path / "twice.xyz").frames) == len(frames)


def test_labels_may_have_any_name_that_the_user_gives(trajectory, tmp_path):
    ase.io.write(tmp_path / "short.xyz", renamed(trajectory[:3], "E", "F"))
    with pytest.raises(InputError, match=r"The file has `[EF]`, `[EF]`"):
        read_labelled_file(tmp_path / "short.xyz")
    found = read_labelled_file(tmp_path / "short.xyz", LabelNames(energy_key="E", forces_key="F"))
    assert [label.energy for label in found.frames] == pytest.approx([a.get_potential_energy() for a in trajectory[:3]])
    assert np.allclose(found.frames[2].forces, trajectory[2].get_forces(), atol=1e-7)


def test_an_ase_database_is_read(trajectory, tmp_path):
    ase.io.write(tmp_path / "md.db", trajectory)
    found = read_labelled_file(tmp_path / "md.db")
    assert [label.energy for label in found.frames] == pytest.approx([a.get_potential_energy() for a in trajectory])
    assert np.allclose(found.frames[3].forces, trajectory[3].get_forces())


def test_labels_in_the_data_of_a_database_are_read_in_the_unit_that_it_states(trajectory, tmp_path):
    """As SchNetPack writes them."""
    kcal = units.mol / units.kcal
    database = ase.db.connect(tmp_path / "schnet.db")
    for atoms in trajectory[:3]:
        data = {"energy": np.array([kcal * atoms.get_potential_energy()]), "forces": kcal * atoms.get_forces()}
        database.write(Atoms(atoms.numbers, atoms.positions), data=data)
    database.metadata = {
        "_property_unit_dict": {"energy": "kcal/mol", "forces": "kcal/mol/Angstrom"},
        "_distance_unit": "Ang",
    }
    with pytest.raises(InputError, match="states that its `energy` is in kcal/mol, not in eV; set energy_unit"):
        read_labelled_file(tmp_path / "schnet.db")
    names = LabelNames(energy_unit="kcal/mol", forces_unit="kcal/mol/ang")
    found = read_labelled_file(tmp_path / "schnet.db", names)
    assert [label.energy for label in found.frames] == pytest.approx([a.get_potential_energy() for a in trajectory[:3]])
    assert np.allclose(found.frames[2].forces, trajectory[2].get_forces(), atol=1e-7)
    database.metadata = {"_distance_unit": "Bohr"}
    with pytest.raises(InputError, match="positions are in Bohr"):
        read_labelled_file(tmp_path / "schnet.db")


def test_labels_of_two_methods_are_chosen_by_the_user(trajectory, tmp_path):
    both = renamed(trajectory, "REF_energy", "REF_forces")
    for atoms in both:
        atoms.info["MACE_energy"], atoms.arrays["MACE_forces"] = 1.0, np.zeros((len(atoms), 3))
    ase.io.write(tmp_path / "both.xyz", both)
    with pytest.raises(InputError, match=r"several methods .*REF_energy and REF_forces.*choose with energy_key"):
        read_labelled_file(tmp_path / "both.xyz")
    assert read_labelled_file(tmp_path / "both.xyz", LabelNames(energy_key="REF_energy")).forces_key == "REF_forces"
    with pytest.raises(InputError, match="no frame has `PBE_energy`"):
        read_labelled_file(tmp_path / "both.xyz", LabelNames(energy_key="PBE_energy"))


def test_weights_are_those_of_mace_or_of_the_name_that_the_user_gives(trajectory, tmp_path):
    frames = renamed(trajectory[:4], "REF_energy", "REF_forces")
    frames[1].info["config_weight"], frames[2].info["config_weight"] = 2.5, "heavy"
    frames[3].info["my_weight"] = 7.0
    ase.io.write(tmp_path / "weighted.xyz", frames)
    weights = [label.weight for label in read_labelled_file(tmp_path / "weighted.xyz").frames]
    assert (weights[:2], weights[3]) == ([1.0, 2.5], 1.0)
    assert np.isnan(weights[2])
    own = read_labelled_file(tmp_path / "weighted.xyz", LabelNames(weight_key="my_weight"))
    assert [label.weight for label in own.frames] == [1.0, 1.0, 1.0, 7.0]
    with pytest.raises(InputError, match=r"no frame has `a_weight`.*`config_weight`, `my_weight`"):
        read_labelled_file(tmp_path / "weighted.xyz", LabelNames(weight_key="a_weight"))


def test_weights_of_single_labels_are_refused(trajectory, tmp_path):
    frames = renamed(trajectory[:2], "REF_energy", "REF_forces")
    for atoms in frames:
        atoms.info |= {"config_energy_weight": 1.0, "config_forces_weight": 1.0}
    ase.io.write(tmp_path / "one.xyz", frames)
    assert len(read_labelled_file(tmp_path / "one.xyz").frames) == len(frames)
    frames[1].info["config_energy_weight"] = 0.0
    ase.io.write(tmp_path / "zero.xyz", frames)
    with pytest.raises(InputError, match="single weight for all its labels"):
        read_labelled_file(tmp_path / "zero.xyz")


def test_a_stress_is_that_of_a_box(trajectory, tmp_path):
    """Calculators write zeros for molecules, and a virial of zero would be learnt."""
    atoms = trajectory[0].copy()
    boxed = Atoms(atoms.numbers, atoms.positions, cell=[9, 9, 9], pbc=True)
    for image in (atoms, boxed):
        image.calc = SinglePointCalculator(image, energy=1.0, forces=np.ones((len(image), 3)), stress=np.zeros(6))
    ase.io.write(tmp_path / "stress.xyz", [atoms, boxed], format="extxyz")
    alone, periodic = read_labelled_file(tmp_path / "stress.xyz").frames
    assert alone.stress is None
    assert periodic.stress.tolist() == np.zeros((3, 3)).tolist()


@pytest.mark.parametrize("unit", ["eV/ang3", "GPa", "kbar", "hartree/bohr3", "eV"])
def test_stresses_under_other_names_and_in_other_units(unit, tmp_path):
    stress = np.array([[1.0, 0.2, 0.0], [0.2, -2.0, 0.1], [0.0, 0.1, 0.5]]) * 1e-2
    atoms = molecule("H2O", cell=[5, 6, 7], pbc=True)
    atoms.arrays["REF_forces"] = np.array([[0, 0.1, -0.2], [0, 0.1, 0.1], [0, -0.2, 0.1]])
    atoms.info["REF_energy"] = -1.0
    factor = {
        "eV/ang3": 1,
        "GPa": 1 / units.GPa,
        "kbar": 10 / units.GPa,
        "hartree/bohr3": units.Bohr**3 / units.Hartree,
        "eV": -210,
    }
    atoms.info["REF_stress"] = stress * factor[unit]
    ase.io.write(tmp_path / "box.xyz", atoms)
    names = LabelNames(stress_key="REF_stress", stress_unit=unit)
    (label,) = read_labelled_file(tmp_path / "box.xyz", names).frames
    np.testing.assert_allclose(label.stress, stress, rtol=1e-7)
    unnamed = read_labelled_file(tmp_path / "box.xyz")
    assert unnamed.unused == ("REF_stress",)
    assert unnamed.frames[0].stress is None
    with pytest.raises(InputError, match="the file has `REF_stress`"):
        read_labelled_file(tmp_path / "box.xyz", LabelNames(stress_key="REF_virial"))


def test_no_labels_are_said_to_be_none(trajectory, tmp_path):
    ase.io.write(tmp_path / "bare.xyz", [Atoms(a.numbers, a.positions) for a in trajectory])
    with pytest.raises(InputError, match="were not found; name them with energy_key and forces_key"):
        read_labelled_file(tmp_path / "bare.xyz")


def test_units_are_those_of_ase():
    assert forces_in_ev_per_ang("hartree/bohr") == pytest.approx(51.42208619, rel=1e-6)
    assert forces_in_ev_per_ang("kcal/mol/ang") == pytest.approx(0.0433641, rel=1e-5)
    assert forces_in_ev_per_ang("rydberg/bohr") == pytest.approx(51.42208619 / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("energy", "forces", "words"),
    [
        (1 / units.Hartree, 1.0, "energies in hartree"),
        (1.0, units.Bohr / units.Hartree, "energies in eV and forces in hartree/bohr"),
        (1 / units.Hartree, units.Bohr / units.Hartree, "energies in hartree and forces in hartree/bohr"),
        (units.mol / units.kcal, 1.0, "energies in kcal/mol"),
    ],
)
def test_energies_that_do_not_fit_the_forces_are_in_another_unit(labels, energy, forces, words):
    assert unit_fault(labels) == ""
    scaled = [replace(label, energy=energy * label.energy, forces=forces * label.forces) for label in labels]
    assert words in unit_fault(scaled)


# -- faults -----------------------------------------------------------------------------------------------------


def without(label, **changes):
    return replace(label, **changes)


def moved(label):
    """The frame rotated and shifted, with its forces rotated."""
    axes = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    frame = label.frame.with_positions(label.frame.positions @ axes + 1.0)
    return replace(label, frame=frame, forces=label.forces @ axes)


def shuffled(label):
    forces = label.forces.copy()
    forces[2] = 0.0
    forces[0] += 2.0
    return replace(label, forces=forces)


def on_top(label):
    """The frame with an atom at the place of another."""
    positions = label.frame.positions.copy()
    positions[8] = positions[7]
    return replace(label, frame=label.frame.with_positions(positions))


PLANTED = {
    "no energy": (3, lambda label: without(label, energy=None), "energy", "has no energy"),
    "NaN energy": (4, lambda label: without(label, energy=float("nan")), "energy", "its energy is nan"),
    "no forces": (5, lambda label: without(label, forces=None), "forces", "has no forces"),
    "NaN force": (6, lambda label: without(label, forces=label.forces * [[np.nan]] * 1), "forces", "not finite"),
    "zero forces": (7, lambda label: without(label, forces=0 * label.forces), "forces", "all its forces are zero"),
    "huge force": (8, lambda label: without(label, forces=1e4 * label.forces), "forces", "above the limit of 100"),
    "missing forces": (9, shuffled, "forces", "its forces add up to"),
    "odd electrons": (10, lambda label: without(label, frame=replace(label.frame, charge=1)), "electrons", "unpaired"),
    "other charge": (11, lambda label: without(label, frame=replace(label.frame, charge=2)), "electrons", "charge +2"),
    "no weight": (15, lambda label: without(label, weight=0.0), "weight", "its weight is 0"),
    "no number": (16, lambda label: without(label, weight=float("nan")), "weight", "its weight is nan"),
    "atom twice": (17, on_top, "positions", "two of its atoms are 0 Å apart"),
    "other method": (12, lambda label: without(label, method="PBE"), "method", "'PBE'"),
    "energy in hartree": (13, lambda label: without(label, energy=label.energy / 27.2 - 500), "outlier", "eV per atom"),
    "forces in kJ/mol": (14, lambda label: without(label, forces=96.5 * label.forces), "outlier", "times as large"),
}


def test_a_clean_trajectory_has_no_faults(labels):
    assert faults_of(labels) == []
    assert len(accepted(labels, [])) == FRAMES


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_named_and_no_other_frame_is(labels, name):
    index, change, kind, words = PLANTED[name]
    labels[index] = change(labels[index])
    (fault,) = faults_of(labels, max_force_ev_per_ang=1e9 if name == "forces in kJ/mol" else 100.0)
    assert (fault.frame, fault.kind, fault.drops) == (index, kind, False)
    assert words in str(fault)
    assert f"frame {index}" in str(fault)
    assert len(accepted(labels, [fault])) == FRAMES - 1


def test_all_planted_errors_are_named_at_once(labels):
    for index, change, _, _ in PLANTED.values():
        labels[index] = change(labels[index])
    labels[20], labels[21] = moved(labels[2]), without(moved(labels[1]), energy=labels[1].energy + 0.5)
    faults = faults_of(labels)
    assert [fault.frame for fault in faults] == [*range(3, 18), 20, 21]
    copy, other = faults[-2:]
    assert copy.drops
    assert "is a copy of" in copy.text
    assert not other.drops
    assert "energy that differs by 0.5 eV" in other.text
    assert len(accepted(labels, faults)) == FRAMES - len(faults)


def test_isolated_atoms_are_no_faults_but_nothing_is_learnt_from_them(labels):
    """As in training files of mace-torch: an atom with an odd number of electrons, zero forces, and no spin stated."""
    atom = FileLabel(Frame([1], [[0.0, 0.0, 0.0]]), "hydrogen", -13.0, np.zeros((1, 3)))
    assert faults_of([*labels, atom]) == []
    (fault,) = faults_of([*labels, atom], atoms=False)
    assert (fault.frame, fault.kind, fault.drops) == (FRAMES, "atom", True)


def test_different_compositions_have_energies_of_their_own(labels):
    """Frames of two sizes are judged by their own energies, not by their mean."""
    water = molecule("H2O")
    small = []
    rng = np.random.default_rng(0)
    for index in range(10):
        atoms = Atoms(water.numbers, water.positions + rng.normal(scale=0.05, size=(3, 3)), calculator=EMT())
        frame = type(labels[0].frame)(atoms.numbers, atoms.positions)
        small.append(FileLabel(frame, f"water {index}", atoms.get_potential_energy() - 2000.0, atoms.get_forces()))
    assert faults_of([*labels, *small]) == []
    broken = replace(small[4], energy=small[4].energy + 30.0)
    (fault,) = faults_of([*labels, *small[:4], broken, *small[5:]])
    assert fault.where == "water 4"


def test_right_units_are_never_refused():
    """Frames displaced at random, by any distance: the work of the forces is less exact the farther they are apart."""
    rng, water = np.random.default_rng(2), molecule("H2O")
    for scale in (0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.2):
        found = []
        for index in range(40):
            atoms = Atoms(water.numbers, water.positions + rng.normal(scale=scale, size=(3, 3)))
            atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
            frame = Frame(atoms.numbers, atoms.positions)
            found.append(FileLabel(frame, f"{index}", atoms.get_potential_energy(), atoms.get_forces()))
        assert unit_fault(found) == ""
