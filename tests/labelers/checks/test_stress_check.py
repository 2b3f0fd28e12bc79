"""The stress of labels is the derivative of their energies, and a wrong stress is found."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from al_engine.config import LabelsConfig
from al_engine.structures.frames import Frame, LabelledFrame
from labelers.backends.registry import create_labeler
from labelers.checks.stress_check import is_wrong, stress_disagreement


def crystal(name, lattice, constant):
    rng = np.random.default_rng(0)
    atoms = bulk(name, lattice, a=constant, cubic=True)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
    return Frame.from_atoms(atoms)


CASES = {
    "GFN2-xTB": (LabelsConfig(backend="tblite"), crystal("NaCl", "rocksalt", 5.6)),
    "EMT by ASE": (LabelsConfig(backend="ase", ase_calculator="emt"), crystal("Cu", "fcc", 3.5)),
}


@pytest.fixture(params=CASES)
def label(request):
    config, frame = CASES[request.param]
    labeler = create_labeler(config, periodic=True)
    return LabelledFrame(frame, *labeler.label(frame)), lambda frames: [labeler.label(each).energy for each in frames]


def test_it_is_the_derivative_of_the_energy(label):
    item, energies = label
    assert np.allclose(item.stress, item.stress.T, atol=1e-6)
    component, disagreement = stress_disagreement(item, energies)
    assert not is_wrong(component, disagreement)
    assert abs(disagreement) < 2e-4


@pytest.mark.parametrize(
    "fault", [lambda s: -s, lambda s: 2.0 * s, lambda s: s + 0.01 * np.eye(3), lambda s: s / 160.2]
)
def test_a_wrong_stress_is_found(label, fault):
    item, energies = label
    assert is_wrong(*stress_disagreement(replace(item, stress=fault(item.stress)), energies))


def test_ases_sign_and_unit():
    """Compression of a crystal: the stress is negative, and that of the calculator itself."""
    config, frame = CASES["EMT by ASE"]
    squeezed = replace(frame, positions=0.95 * frame.positions, cell=0.95 * frame.cell)
    found = create_labeler(config).label(squeezed)
    atoms = squeezed.to_atoms()
    atoms.calc = EMT()
    assert np.allclose(found.stress, atoms.get_stress(voigt=False), atol=1e-12)
    assert np.trace(found.stress) < 0


def test_without_a_stress_there_is_nothing_to_check(label):
    item, energies = label
    assert stress_disagreement(replace(item, stress=None), energies) is None
    config, frame = CASES["GFN2-xTB"]
    assert create_labeler(config.model_copy(update={"stress": False}), periodic=True).label(frame).stress is None
    cluster = replace(frame, pbc=[False] * 3)
    assert create_labeler(config).label(cluster).stress is None
