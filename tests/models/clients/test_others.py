"""OpenMM, i-PI, TorchSim and metatomic with the force field give ASE's numbers, and run."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import openmm
import pytest
import torch
from ase import units
from ase.io import write

from al_engine.errors import InputError
from models import load_committee
from models.clients import openmm as openmm_client

IPI_INPUT = """<simulation verbosity='low'>
  <output prefix='out'>
    <properties stride='1' filename='md'> [ step, conserved{electronvolt}, potential{electronvolt} ] </properties>
    <trajectory filename='deviation' stride='1' extra_type='max_force_deviation' bead='0'> extras </trajectory>
  </output>
  <total_steps> 4 </total_steps>
  <ffdirect name='al'>
    <pes> custom </pes>
    <pes_path> DRIVER </pes_path>
    <parameters> {template: start.xyz, model: MODEL} </parameters>
  </ffdirect>
  <system>
    <initialize nbeads='2'>
      <file mode='ase'> start.xyz </file>
      <velocities mode='thermal' units='kelvin'> 30 </velocities>
    </initialize>
    <forces> <force forcefield='al'/> </forces>
    <motion mode='dynamics'>
      <dynamics mode='nve'> <timestep units='femtosecond'> 0.05 </timestep> </dynamics>
    </motion>
    <ensemble> <temperature units='kelvin'> 30 </temperature> </ensemble>
  </system>
</simulation>
"""


def test_openmm_has_the_same_energy_and_forces_and_conserves_energy(atoms, calculator):
    system, evaluations = openmm.System(), []
    for mass in atoms.get_masses():
        system.addParticle(mass)
    periodic = bool(atoms.pbc.any())
    if periodic:
        system.setDefaultPeriodicBoxVectors(*(atoms.cell.array / 10))
    force = openmm_client.committee_force(calculator, atoms.numbers, periodic=periodic, watch=evaluations.append)
    system.addForce(force)
    integrator = openmm.VerletIntegrator(0.00005)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(atoms.positions / 10)
    state = context.getState(energy=True, forces=True)
    kj = units.kJ / units.mol
    energy = state.getPotentialEnergy().value_in_unit(openmm.unit.kilojoule_per_mole) * kj
    forces = state.getForces(asNumpy=True).value_in_unit(openmm.unit.kilojoule_per_mole / openmm.unit.angstrom) * kj
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
    np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-8)
    np.testing.assert_allclose(evaluations[0].deviation, atoms.calc.results["force_deviation"], atol=1e-10)
    if periodic:
        return
    totals, potentials = [], []
    for _ in range(20):
        integrator.step(5)
        state = context.getState(energy=True)
        potentials.append(state.getPotentialEnergy()._value)
        totals.append(potentials[-1] + state.getKineticEnergy()._value)
    assert np.ptp(totals) < 0.02 * np.ptp(potentials)


@pytest.mark.parametrize("atoms", ["molecule"], indirect=True)
def test_openmm_can_move_a_part_of_the_particles_by_the_committee(atoms, calculator):
    system = openmm.System()
    for mass in [39.9, *atoms.get_masses()]:
        system.addParticle(mass)
    chosen = range(1, len(atoms) + 1)
    system.addForce(openmm_client.committee_force(calculator, atoms.numbers, particles=chosen))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(np.concatenate([[[5.0, 5.0, 5.0]], atoms.positions / 10]))
    forces = context.getState(forces=True).getForces(asNumpy=True)
    forces = forces.value_in_unit(openmm.unit.kilojoule_per_mole / openmm.unit.angstrom) * units.kJ / units.mol
    np.testing.assert_allclose(forces[1:], atoms.get_forces(), atol=1e-8)
    assert not forces[0].any()
    with pytest.raises(InputError, match="2 particles with 12 atomic numbers"):
        openmm_client.committee_force(calculator, atoms.numbers, particles=[0, 1])
    with pytest.raises(InputError, match="atom 0 has atomic number 18"):
        openmm_client.committee_force(calculator, [18])


def test_the_driver_of_ipi_gives_energy_forces_virial_and_the_committee(atoms, committee_file, tmp_path):
    pytest.importorskip("ipi")
    from models.clients.ipi import CommitteeDriver

    write(tmp_path / "start.xyz", atoms, format="extxyz")
    driver = CommitteeDriver(template=str(tmp_path / "start.xyz"), model=str(committee_file))
    cell = (atoms.cell.array if atoms.pbc.any() else 20.0 * np.eye(3)).T / units.Bohr
    energy, forces, virial, extras = driver(cell, atoms.positions / units.Bohr)
    assert energy * units.Hartree == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
    np.testing.assert_allclose(forces * units.Hartree / units.Bohr, atoms.get_forces(), atol=1e-7)
    if atoms.pbc.any():
        stress = -virial * units.Hartree / atoms.get_volume()
        np.testing.assert_allclose(stress, atoms.get_stress(voigt=False), atol=1e-8)
    found = json.loads(extras)
    expected = atoms.calc.results
    assert found["max_force_deviation"] == pytest.approx(expected["max_force_deviation"], abs=1e-8)
    members = np.reshape(found["committee_force"], expected["member_forces"].shape) * units.Hartree / units.Bohr
    np.testing.assert_allclose(members, expected["member_forces"], atol=1e-7)
    np.testing.assert_allclose(np.array(found["committee_pot"]) * units.Hartree, expected["member_energies"], atol=1e-6)


@pytest.mark.parametrize("atoms", ["molecule"], indirect=True)
def test_the_driver_of_ipi_takes_an_iteration_and_a_device(atoms, committee_file, tmp_path):
    pytest.importorskip("ipi")
    from models.clients.ipi import CommitteeDriver

    write(tmp_path / "start.xyz", atoms, format="extxyz")
    campaign = tmp_path / "campaign.h5"
    with h5py.File(committee_file) as source, h5py.File(campaign, "w") as file:
        for iteration, members in enumerate([("member0", "member1"), ("member1", "member2")]):
            for k, member in enumerate(members):
                source.copy(member, file.require_group(f"iterations/{iteration:03d}"), f"member{k}")
    found = []
    for iteration in ("0", 1, None):
        driver = CommitteeDriver(
            template=str(tmp_path / "start.xyz"), model=str(campaign), iteration=iteration, device="cpu"
        )
        found.append(driver(20.0 * np.eye(3) / units.Bohr, atoms.positions / units.Bohr)[0] * units.Hartree)
        atoms.calc = load_committee(campaign, iteration=driver.iteration, device="cpu")
        assert found[-1] == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
    assert found[0] != pytest.approx(found[1], abs=1e-3)
    assert found[2] == found[1]
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="torch finds no GPU"):
            CommitteeDriver(template=str(tmp_path / "start.xyz"), model=str(campaign), device="cuda")


@pytest.mark.parametrize("atoms", ["molecule"], indirect=True)
@pytest.mark.parametrize("stride", [1, 3])
def test_ipi_runs_path_integrals(atoms, committee_file, tmp_path, stride):
    pytest.importorskip("ipi")
    atoms.center(vacuum=8.0)
    write(tmp_path / "start.xyz", atoms, format="extxyz")
    driver = subprocess.run([sys.executable, "-m", "models.clients.ipi"], check=True, capture_output=True, text=True)
    text = IPI_INPUT.replace("DRIVER", driver.stdout.strip()).replace("MODEL", f"{committee_file}, stride: {stride}")
    (tmp_path / "input.xml").write_text(text)
    program = Path(sys.executable).with_name("i-pi")
    run = subprocess.run([program, "input.xml"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    rows = np.loadtxt(tmp_path / "out.md")
    assert rows.shape == (5, 3)
    energy = atoms.get_potential_energy() if stride == 1 else atoms.calc.get_property("member_energies", atoms)[0]
    assert rows[0, 2] == pytest.approx(energy, rel=1e-6)  # i-PI has its own Hartree
    assert np.ptp(rows[:, 1]) < 0.05 * np.ptp(rows[:, 2])
    lines = next(tmp_path.glob("out.deviation*")).read_text().splitlines()
    deviations = [float(line) for line in lines if "#" not in line]
    assert deviations[0] == pytest.approx(atoms.calc.results["max_force_deviation"], rel=1e-6)
    assert np.isnan(deviations).any() == (stride > 1)


def test_torchsim_has_the_same_numbers_in_a_batch(atoms, calculator, committee_file):
    torch_sim = pytest.importorskip("torch_sim")
    from models.clients.torchsim import CommitteeModel

    model = CommitteeModel(committee_file, device="cpu")
    batch = [atoms.copy(), atoms.copy()]
    batch[1].positions += 0.05 * np.random.default_rng(0).normal(size=atoms.positions.shape)
    state = torch_sim.initialize_state(batch, device=torch.device("cpu"), dtype=torch.float64)
    found = model(state)
    for k, single in enumerate(batch):
        single.calc = calculator
        own = (state.system_idx == k).numpy()
        assert float(found["energy"][k]) == pytest.approx(single.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(found["forces"][own], single.get_forces(), atol=1e-9)
        np.testing.assert_allclose(found["force_deviation"][own], calculator.results["force_deviation"], atol=1e-9)
        if atoms.pbc.any():
            np.testing.assert_allclose(found["stress"][k], single.get_stress(voigt=False), atol=1e-9)


@pytest.fixture(scope="module")
def metatomic_file(committee_file, tmp_path_factory, tiny_model, tiny_config):
    """The committee as a metatomic file, the second that this process writes."""
    pytest.importorskip("metatomic.torch")
    from models.inference.calculator import load_models
    from models.interop.metatomic_file import write_metatomic

    path = tmp_path_factory.mktemp("metatomic") / "committee.pt"
    other = tiny_model(tiny_config("mace", layers=1, correlation=1))
    write_metatomic(path.with_name("other.pt"), [other], name="other", description="", references={})
    models = load_models(committee_file, iteration=None, device=torch.device("cpu"))
    write_metatomic(path, models, name="tiny", description="untrained", references={"model": ["none"]})
    return path


WITHOUT_AL_ENGINE = """
import sys
import numpy as np
from ase.io import read
from metatomic_ase import MetatomicCalculator

atoms = read(sys.argv[2])
atoms.calc = MetatomicCalculator(sys.argv[1])
results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
if atoms.pbc.any():
    results["stress"] = atoms.get_stress()
np.savez(sys.argv[3], **results)
assert not {"al_engine", "models"} & set(sys.modules)
"""


def test_a_metatomic_file_gives_the_same_numbers_without_this_package(atoms, metatomic_file, tmp_path):
    pytest.importorskip("metatomic_ase")
    paths = [str(metatomic_file), str(tmp_path / "atoms.traj"), str(tmp_path / "results.npz")]
    plain = atoms.copy()
    plain.write(paths[1])
    subprocess.run([sys.executable, "-P", "-W", "ignore", "-c", WITHOUT_AL_ENGINE, *paths], check=True, cwd=tmp_path)
    found = np.load(paths[2])
    assert found["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(found["forces"], atoms.get_forces(), atol=1e-9)
    if atoms.pbc.any():
        np.testing.assert_allclose(found["stress"], atoms.get_stress(), atol=1e-10)


@pytest.mark.parametrize("atoms", ["box"], indirect=True)
def test_a_metatomic_file_runs_by_the_driver_of_ipi(atoms, metatomic_file, tmp_path):
    """i-PI's own driver for metatomic models, with the ensemble's energies, forces and virials."""
    pytest.importorskip("vesin.metatomic")
    from ipi.pes.metatomic import MetatomicDriver

    write(tmp_path / "start.xyz", atoms, format="extxyz")
    driver = MetatomicDriver(
        str(tmp_path / "start.xyz"), str(metatomic_file), energy_ensemble=True, force_virial_ensemble=True
    )
    cell = (atoms.cell.array if atoms.pbc.any() else 20.0 * np.eye(3)).T / units.Bohr
    energy, forces, virial, extras = driver(cell, atoms.positions / units.Bohr)
    assert energy * units.Hartree == pytest.approx(atoms.get_potential_energy(), rel=2e-7)  # i-PI's own constants
    np.testing.assert_allclose(forces * units.Hartree / units.Bohr, atoms.get_forces(), atol=1e-5)
    if atoms.pbc.any():
        stress = -virial * units.Hartree / atoms.get_volume()
        np.testing.assert_allclose(stress, atoms.get_stress(voigt=False), atol=1e-7)
    atoms.calc.get_property("max_force_deviation", atoms)
    expected = atoms.calc.results["member_forces"]
    members = np.reshape(json.loads(extras)["committee_force"], expected.shape) * units.Hartree / units.Bohr
    np.testing.assert_allclose(members, expected, atol=1e-5)


def test_a_metatomic_file_has_the_committee_and_chosen_atoms(atoms, calculator, metatomic_file):
    """Energies of halves of the atoms add up: programs divide a system among processes in this way."""
    import metatomic.torch as metatomic
    from metatensor.torch import Labels
    from metatomic_ase import MetatomicCalculator

    outputs = {
        name: metatomic.ModelOutput(sample_kind="system")
        for name in ("energy", "energy_ensemble", "energy_uncertainty")
    }
    deviation = "al-engine::force_deviation"
    client = MetatomicCalculator(str(metatomic_file))
    whole = client.run_model([atoms], {**outputs, deviation: metatomic.ModelOutput(sample_kind="atom")})
    atoms.get_forces()
    expected = calculator.results
    values = {name: block.block().values.detach().numpy() for name, block in whole.items()}
    np.testing.assert_allclose(values["energy_ensemble"][0], expected["member_energies"], atol=1e-9)
    assert values["energy_uncertainty"].item() == pytest.approx(expected["energy_std"], abs=1e-9)
    np.testing.assert_allclose(values[deviation][:, 0], expected["force_deviation"], atol=1e-9)
    halves = [
        client.run_model(
            [atoms], outputs, selected_atoms=Labels(["system", "atom"], torch.tensor([[0, k] for k in chosen]))
        )["energy_ensemble"]
        .block()
        .values.detach()
        .numpy()
        for chosen in (range(5), range(5, len(atoms)))
    ]
    np.testing.assert_allclose(halves[0] + halves[1], values["energy_ensemble"], atol=1e-9)
    assert not np.allclose(halves[0], halves[1])
    chosen = Labels(["system", "atom"], torch.tensor([[0, k] for k in range(5)]))
    with pytest.raises(torch.jit.Error, match="leave out selected_atoms"):
        client.run_model([atoms], {deviation: metatomic.ModelOutput(sample_kind="atom")}, selected_atoms=chosen)


@pytest.mark.parametrize("atoms", ["molecule"], indirect=True)
def test_one_member_drives_and_the_rest_are_evaluated_on_a_stride(atoms, committee_file):
    whole = load_committee(committee_file, device="cpu")
    atoms.calc = load_committee(committee_file, device="cpu", members=[1], stride=3)
    seen = []
    for step in range(7):
        atoms.positions += 0.01 * np.sin(np.arange(atoms.positions.size).reshape(-1, 3) + step)
        forces = atoms.get_forces()
        reference = atoms.copy()
        reference.calc = whole
        np.testing.assert_allclose(forces, whole.get_property("member_forces", reference)[1], atol=1e-10)
        seen.append("force_deviation" in atoms.calc.results)
    assert seen == [True, False, False, True, False, False, True]
    atoms.positions += 0.01
    assert atoms.calc.get_property("max_force_deviation", atoms) > 0  # asked for, it is computed at any time
