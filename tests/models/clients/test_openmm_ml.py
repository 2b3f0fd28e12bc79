"""The force field in OpenMM-ML: whole systems, one molecule in classical water, systems that are copied and written."""

import subprocess
import sys

import numpy as np
import openmm
import pytest
from ase import Atoms, units
from ase.build import molecule
from openmm import app

from al_engine.errors import InputError
from models import load_committee

openmmml = pytest.importorskip("openmmml")
KJ = units.kJ / units.mol
ML_GROUP = 3


@pytest.fixture
def potential(committee_file):
    return openmmml.MLPotential("al-engine", model=committee_file, device="cpu")


def topology_of(atoms, residues):
    """A topology of residues (name, number of atoms), with the bonds that OpenMM knows of them."""
    topology = app.Topology()
    chain, placed = topology.addChain(), iter(atoms.get_chemical_symbols())
    for name, size in residues:
        residue = topology.addResidue(name, chain)
        names = ["O", "H1", "H2"] if name == "HOH" else [f"A{k}" for k in range(size)]
        for each in names:
            topology.addAtom(each, app.Element.getBySymbol(next(placed)), residue)
    topology.createStandardBonds()
    if atoms.pbc.any():
        topology.setPeriodicBoxVectors([openmm.Vec3(*row) for row in atoms.cell.array / 10] * openmm.unit.nanometer)
    return topology


def context_of(system, atoms, *, timestep_ps=0.00005):
    integrator = openmm.VerletIntegrator(timestep_ps)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(atoms.positions / 10)
    return context


def energy_and_forces(context, groups=-1):
    """In eV and eV/Å."""
    state = context.getState(energy=True, forces=True, groups=groups)
    return state.getPotentialEnergy()._value * KJ, state.getForces(asNumpy=True)._value * KJ / 10


@pytest.fixture
def waters():
    """Four waters; the committee's is the second."""
    places = [(0, 0, 0), (3.1, 0.2, 0.1), (0.3, 3.2, -0.2), (3.3, 3.0, 0.4)]
    rng, found = np.random.default_rng(5), Atoms()
    for place in places:
        water = molecule("H2O")
        water.set_distance(0, 1, 0.9572, fix=0)
        water.set_distance(0, 2, 0.9572, fix=0)
        water.set_angle(1, 0, 2, 104.52)  # TIP3P's: its bonds are constraints
        water.rotate(360 * rng.random(), rng.normal(size=3), center="COM")
        water.translate(np.array(place) - water.positions[0])
        found += water
    return found


@pytest.fixture(params=[False, True], ids=["droplet", "box"])
def mixed(request, waters):
    """The waters in TIP3P, with their topology."""
    if request.param:
        waters.set_cell([14.0] * 3)
        waters.pbc = True
    topology = topology_of(waters, [("HOH", 3)] * 4)
    method = app.PME if request.param else app.NoCutoff
    classical = app.ForceField("tip3p.xml").createSystem(
        topology, nonbondedMethod=method, nonbondedCutoff=0.6, removeCMMotion=False
    )
    return waters, topology, classical


CHOSEN = [3, 4, 5]


def test_a_whole_system_has_the_energy_and_forces_of_ase(atoms, calculator, potential):
    topology, evaluations = topology_of(atoms, [("ANY", len(atoms))]), []
    system = potential.createSystem(topology, watch=evaluations.append)
    energy, forces = energy_and_forces(context_of(system, atoms))
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
    np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-8)
    np.testing.assert_allclose(evaluations[0].deviation, calculator.results["force_deviation"], atol=1e-10)
    assert system.getParticleMass(0)._value == pytest.approx(atoms.get_masses()[0], rel=1e-3)


def test_the_committee_acts_on_one_molecule_and_the_classical_force_field_on_the_rest(mixed, calculator, potential):
    waters, topology, classical = mixed
    system = potential.createMixedSystem(topology, classical, CHOSEN, forceGroup=ML_GROUP)
    context = context_of(system, waters)
    alone = waters[CHOSEN]
    alone.calc = calculator
    energy, forces = energy_and_forces(context, {ML_GROUP})
    assert energy == pytest.approx(alone.get_potential_energy(), abs=1e-8)
    np.testing.assert_allclose(forces[CHOSEN], alone.get_forces(), atol=1e-8)
    assert not np.delete(forces, CHOSEN, axis=0).any()
    # what is left is the classical interaction of the molecules: nothing within the committee's, all of the others
    _, rest = energy_and_forces(context, ~(1 << ML_GROUP))
    _, all_classical = energy_and_forces(context_of(classical, waters))
    others = np.delete(np.arange(len(waters)), CHOSEN)
    np.testing.assert_allclose(rest[others], all_classical[others], atol=2e-3)  # PME
    assert system.getNumConstraints() == classical.getNumConstraints() - 3


def test_the_mixed_system_conserves_energy(mixed, potential):
    waters, topology, classical = mixed
    context = context_of(potential.createMixedSystem(topology, classical, CHOSEN), waters)
    context.setVelocitiesToTemperature(200, 1)
    totals, potentials = [], []
    for _ in range(16):
        context.getIntegrator().step(5)
        state = context.getState(energy=True)
        potentials.append(state.getPotentialEnergy()._value)
        totals.append(potentials[-1] + state.getKineticEnergy()._value)
    assert np.ptp(totals) < 0.02 * np.ptp(potentials), (totals, potentials)


@pytest.mark.parametrize("mixed", [False], indirect=True)
def test_a_parameter_leads_from_the_classical_system_to_the_mixed_one(mixed, potential):
    """OpenMM-ML copies the force for it: the copy has the same committee, and is watched."""
    waters, topology, classical = mixed
    evaluations = []
    ends = [classical, potential.createMixedSystem(topology, classical, CHOSEN)]
    system = potential.createMixedSystem(topology, classical, CHOSEN, interpolate=True, watch=evaluations.append)
    context = context_of(system, waters)
    for value, end in enumerate(ends):
        context.setParameter("lambda_interpolate", value)
        expected = energy_and_forces(context_of(end, waters))
        found = energy_and_forces(context)
        assert found[0] == pytest.approx(expected[0], abs=1e-6)
        np.testing.assert_allclose(found[1], expected[1], atol=1e-6)
    assert evaluations


READER = """
import sys
import openmm
system = openmm.XmlSerializer.deserialize(open(sys.argv[1]).read())
context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
context.setPositions([[float(x) for x in line.split()] for line in open(sys.argv[2])])
print(context.getState(energy=True).getPotentialEnergy()._value)
"""


@pytest.mark.parametrize("atoms", ["molecule"], indirect=True)
def test_a_system_is_read_from_xml_by_another_process(atoms, potential, tmp_path):
    system = potential.createSystem(topology_of(atoms, [("ANY", len(atoms))]))
    (tmp_path / "system.xml").write_text(openmm.XmlSerializer.serialize(system))
    np.savetxt(tmp_path / "positions", atoms.positions / 10)
    run = subprocess.run(
        [sys.executable, "-c", READER, tmp_path / "system.xml", tmp_path / "positions"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) * KJ == pytest.approx(atoms.get_potential_energy(), abs=1e-8)


def test_one_member_can_drive(committee_file):
    driven = openmmml.MLPotential("al-engine", model=committee_file, members=[1], stride=3)._impl.calculator
    assert (driven.force_field.members, driven.force_field.stride) == ([1], 3)


def test_what_cannot_be_is_said(potential, waters):
    with pytest.raises(InputError, match='model="runs/ethanol"'):
        openmmml.MLPotential("al-engine")
    with pytest.raises(InputError, match="does not exist"):
        openmmml.MLPotential("al-engine", model="runs/nowhere")
    waters.symbols[0] = "S"
    with pytest.raises(InputError, match="atom 0 has atomic number 16"):
        potential.createSystem(topology_of(waters, [("ANY", 12)]))
    topology = topology_of(waters, [("ANY", 12)])
    next(topology.atoms()).element = None
    with pytest.raises(InputError, match="particle 0 has no element"):
        potential.createSystem(topology)


@pytest.mark.parametrize("atoms", ["molecule"], indirect=True)
def test_a_force_without_a_path_is_not_read_elsewhere(atoms, committee_file):
    from models.clients import openmm as client

    computation = client._Computation(load_committee(committee_file), atoms.numbers, None, None, periodic=False)
    function, arguments = computation.__reduce__()
    assert function(*arguments) is computation
    del client._COMPUTATIONS[computation._name]  # as in another process
    with pytest.raises(InputError, match="another process made this force"):
        function(*arguments)


def test_openmm_ml_is_imported_without_torch():
    code = (
        "import sys, openmmml; assert 'al-engine' in openmmml.MLPotential._implFactories; print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
