"""Longer runs in simulation programs: `make clients` (minutes). MD of picoseconds, path integrals, metadynamics.

Their committee is trained here on GFN2-xTB labels of ethanol.
"""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import openmm
import pytest
from ase.build import molecule
from ase.io import write
from openmm import app
from tblite.ase import TBLite

from al_engine.config import ModelConfig, PathConfig, TrainingConfig
from al_engine.structures.frames import Frame, LabelledFrame
from models import load_committee
from models.clients.lammps import run_script
from models.clients.openmm import committee_force
from models.storage.weights import write_member
from models.training.training import train_member

MODEL = ModelConfig(
    short=PathConfig(cutoff_ang=4.0, channels=16, l_max=2, radial_mlp=[16]),
    long=PathConfig(cutoff_ang=6.0, channels=8, l_max=1, radial_mlp=[]),
)
TORSION = (0, 1, 2, 3)  # C-C-O-H in ASE's ethanol, whose first four atoms are C, C, O, H


@pytest.fixture(scope="session")
def ethanol(tmp_path_factory):
    """A file of two members, and the structure."""
    rng, atoms = np.random.default_rng(0), molecule("CH3CH2OH")
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    labelled = []
    for _ in range(150):
        moved = atoms.copy()
        moved.calc = atoms.calc
        moved.positions += rng.normal(scale=rng.choice([0.03, 0.08]), size=atoms.positions.shape)
        labelled.append(LabelledFrame(Frame.from_atoms(moved), moved.get_potential_energy(), moved.get_forces()))
    path = tmp_path_factory.mktemp("ethanol") / "committee.h5"
    with h5py.File(path, "w") as file:
        for k in range(2):
            training = TrainingConfig(batch_size=10, validation_interval=100)
            member = train_member(frames=labelled, model=MODEL, training=training, seed=k, updates=800)
            write_member(file.create_group(f"member{k}"), member)
    atoms.calc = None
    return path, atoms


def lammps_head(folder, atoms):
    placed = atoms.copy()
    placed.center(vacuum=10.0)
    write(folder / "data", placed, format="lammps-data", specorder=["H", "C", "O"], masses=True)
    return f"""
units metal
atom_style atomic
atom_modify map yes
boundary s s s
read_data {folder / "data"}
pair_style zero 5.0
pair_coeff * *
fix ff all external pf/callback 1 1
fix_modify ff energy yes virial yes
timestep 0.0005
thermo 100
"""


def lammps_arguments(folder):
    """Where LAMMPS writes its log: without it, `log.lammps` in the present folder."""
    return ("-screen", "none", "-log", str(folder / "log"))


def thermo(folder, columns):
    """Rows of the log with this number of columns."""
    rows = [line.split() for line in (folder / "log").read_text().splitlines()]
    return np.array([row for row in rows if len(row) == columns and row[0].isdigit()], dtype=float)


def test_ten_picoseconds_in_lammps_conserve_energy(ethanol, tmp_path):
    """One member drives; the whole committee is evaluated at every hundredth step."""
    path, atoms = ethanol
    script = tmp_path / "in.md"
    md = "fix nve all nve\nvelocity all create 300 1 dist gaussian loop all\n"
    script.write_text(lammps_head(tmp_path, atoms) + md + "thermo_style custom step pe etotal f_ff[1]\nrun 20000\n")
    force_field = load_committee(path, members=[0], stride=100).force_field
    found = run_script(force_field, script, elements=["H", "C", "O"], arguments=lammps_arguments(tmp_path))
    assert found.evaluations == 201
    rows = thermo(tmp_path, 4)
    assert len(rows) == 201
    drift = np.polyfit(rows[:, 0] * 0.5e-3, rows[:, 2], 1)[0]
    assert abs(1000 * drift / len(atoms)) < 0.1  # meV per atom and ps
    assert np.ptp(rows[:, 2]) < 0.1 * np.ptp(rows[:, 1])


def test_metadynamics_with_colvars_in_lammps(ethanol, tmp_path):
    """A bias on the torsion of the hydroxyl group: hills are deposited, and the torsion moves."""
    path, atoms = ethanol
    colvars = tmp_path / "in.colvars"
    groups = "\n".join(f"  group{k} {{\n   atomNumbers {atom + 1}\n  }}" for k, atom in enumerate(TORSION, start=1))
    colvars.write_text(
        f"colvarsTrajFrequency 20\ncolvar {{\n name torsion\n dihedral {{\n{groups}\n }}\n}}\n"
        "metadynamics {\n colvars torsion\n hillWeight 0.02\n newHillFrequency 20\n hillWidth 10\n}\n"
    )
    script = tmp_path / "in.md"
    bias = (
        "fix nve all nve\nfix bath all langevin 300 300 0.05 7\nvelocity all create 300 1 dist gaussian loop all\n"
        f"fix bias all colvars {colvars} output {tmp_path / 'out'}\n"
    )
    script.write_text(lammps_head(tmp_path, atoms) + bias + "thermo_style custom step pe f_bias f_ff[1]\nrun 4000\n")
    run_script(load_committee(path).force_field, script, elements=["H", "C", "O"], arguments=lammps_arguments(tmp_path))
    bias_energy = thermo(tmp_path, 4)[:, 2]
    assert bias_energy[0] == 0
    assert bias_energy.max() > 0.05
    torsion = np.loadtxt(tmp_path / "out.colvars.traj")[:, 1]
    assert np.ptp(torsion) > 60


def context_of(path, atoms, integrator, *, more=()):
    system = openmm.System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    system.addForce(committee_force(load_committee(path), atoms.numbers))
    for force in more:
        system.addForce(force)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(atoms.positions / 10)
    return context


def test_path_integrals_in_openmm(ethanol):
    """Beads spread, and their spread is largest for hydrogen."""
    path, atoms = ethanol
    integrator = openmm.RPMDIntegrator(4, 300.0, 10.0, 0.00025)
    context = context_of(path, atoms, integrator)
    for bead in range(4):
        integrator.setPositions(bead, atoms.positions / 10)
    integrator.step(400)
    beads = [integrator.getState(bead, getPositions=True).getPositions(asNumpy=True)._value for bead in range(4)]
    spread = np.sqrt(np.var(beads, axis=0).sum(1))
    hydrogen = atoms.numbers == 1
    assert spread[hydrogen].mean() > 1.5 * spread[~hydrogen].mean() > 0
    del context


def test_metadynamics_in_openmm(ethanol):
    path, atoms = ethanol
    system = openmm.System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    system.addForce(committee_force(load_committee(path), atoms.numbers))
    torsion = openmm.CustomTorsionForce("theta")
    torsion.addTorsion(*TORSION)
    variable = app.metadynamics.BiasVariable(torsion, -np.pi, np.pi, 0.35, periodic=True)
    meta = app.metadynamics.Metadynamics(system, [variable], 300.0, 5.0, 2.0, 20)
    topology = app.Topology()
    residue = topology.addResidue("ETH", topology.addChain())
    for symbol in atoms.get_chemical_symbols():
        topology.addAtom(symbol, app.Element.getBySymbol(symbol), residue)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 10.0, 0.0005)
    simulation = app.Simulation(topology, system, integrator, openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions(atoms.positions / 10)
    meta.step(simulation, 2000)
    energy = meta.getFreeEnergy().value_in_unit(openmm.unit.kilojoule_per_mole)
    assert np.ptp(energy) > 5.0
    assert np.isfinite(energy).all()


def test_path_integrals_in_ipi_conserve_energy(ethanol, tmp_path):
    """Four beads at 300 K with a thermostat: the conserved quantity."""
    path, atoms = ethanol
    placed = atoms.copy()
    placed.center(vacuum=8.0)
    write(tmp_path / "start.xyz", placed, format="extxyz")
    driver = subprocess.run(
        [sys.executable, "-m", "models.clients.ipi"], check=True, capture_output=True, text=True
    ).stdout.strip()
    (tmp_path / "input.xml").write_text(f"""<simulation verbosity='low'>
<output prefix='out'><properties stride='1' filename='md'>
[ step, conserved{{electronvolt}}, potential{{electronvolt}} ] </properties></output>
<total_steps> 300 </total_steps><prng><seed> 1 </seed></prng>
<ffdirect name='al'><pes> custom </pes><pes_path> {driver} </pes_path>
<parameters> {{template: start.xyz, model: {path}}} </parameters></ffdirect>
<system><initialize nbeads='4'><file mode='ase'> start.xyz </file>
<velocities mode='thermal' units='kelvin'> 300 </velocities></initialize>
<forces><force forcefield='al'/></forces>
<motion mode='dynamics'><dynamics mode='nvt'><timestep units='femtosecond'> 0.25 </timestep>
<thermostat mode='pile_l'><tau units='femtosecond'> 100 </tau></thermostat></dynamics></motion>
<ensemble><temperature units='kelvin'> 300 </temperature></ensemble></system></simulation>
""")
    program = Path(sys.executable).with_name("i-pi")
    subprocess.run([program, "input.xml"], cwd=tmp_path, check=True, capture_output=True, timeout=600)
    rows = np.loadtxt(tmp_path / "out.md")
    assert len(rows) == 301
    assert np.ptp(rows[:, 1]) < 0.1 * np.ptp(rows[:, 2])


def test_lammps_with_two_processes_is_refused(ethanol, tmp_path):
    path, atoms = ethanol
    script = tmp_path / "in.md"
    script.write_text(lammps_head(tmp_path, atoms) + "run 0\n")
    code = (
        "from pathlib import Path\nfrom models import load_committee\nfrom models.clients.lammps import run_script\n"
        f"run_script(load_committee({str(path)!r}).force_field, Path({str(script)!r}), elements=['H', 'C', 'O'], "
        "arguments=('-log', 'none'))\n"
    )
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if not mpiexec.exists():
        pytest.skip("no mpiexec beside this Python")
    run = subprocess.run([mpiexec, "-n", "2", sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "runs on several MPI processes" in run.stdout + run.stderr
