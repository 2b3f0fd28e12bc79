"""The same structure and trajectory in each simulation program, with a committee on disk.

Each function takes a structure with momenta and the folder of the committee, and returns `energy` (eV), `forces`
(eV/Å, shape (N, 3)), `stress` (eV/Å³, shape (3, 3), of periodic structures, where the program has it), `deviation`
(eV/Å, shape (N,)), and the trajectory.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import metatomic.torch as metatomic
import numpy as np
import openmm
import torch
import torch_sim
from ase import Atoms, units
from ase.io import write
from metatomic_ase import MetatomicCalculator
from openmm import app
from openmmml import MLPotential

from models import load_committee
from models.clients.ipi import CommitteeDriver
from models.clients.lammps import LammpsForceField, start_lammps
from models.clients.openmm import committee_force
from models.clients.torchsim import CommitteeModel
from models.inference.calculator import CommitteeCalculator
from models.inference.force_field import Evaluation
from programs.trajectory import BLOCK, KELVIN, STEPS, TIMESTEP_FS, WARM_UP, Trajectory, deviation_of, timed, times_of
from programs.trajectory import by_ase as run_in_ase

HERE = Path(__file__).resolve().parent
KJ_PER_MOL = openmm.unit.kilojoule_per_mole
DEVIATION = "al-engine::force_deviation"
Results = Mapping[str, Any]


def by_ase(atoms: Atoms, folder: Path) -> tuple[Results, Trajectory]:
    """The committee as an ASE calculator."""
    calculator = _committee(folder)
    deviation = calculator.get_property("force_deviation", atoms).copy()
    results, trajectory = run_in_ase(atoms, calculator)
    return results | {"deviation": deviation}, trajectory


def _committee(folder: Path) -> CommitteeCalculator:
    return load_committee(folder / "committee.h5", device="cpu")


def by_metatomic(atoms: Atoms, folder: Path) -> tuple[Results, Trajectory]:
    """The metatomic file in ASE, by metatomic's calculator."""
    calculator = MetatomicCalculator(str(folder / "committee.pt"))
    found = calculator.run_model([atoms], {DEVIATION: metatomic.ModelOutput(sample_kind="atom")})
    deviation = found[DEVIATION].block().values.detach().numpy()[:, 0]
    results, trajectory = run_in_ase(atoms, calculator)
    return results | {"deviation": deviation}, trajectory


def by_mace(atoms: Atoms, folder: Path, python: Path) -> tuple[Results, Trajectory]:
    """mace-torch's calculator in mace-torch's environment.

    Args:
        atoms: The structure.
        folder: The folder, with mace-torch's models `mace-0.model`, ...
        python: Interpreter of the environment.
    """
    models = sorted(str(path.resolve()) for path in folder.glob("mace-*.model"))
    with TemporaryDirectory() as work:
        write(f"{work}/structure.traj", atoms)
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "PYTHONWARNINGS": "ignore"}
        command = [str(python), "-P", "-m", "programs.mace", f"{work}/structure.traj", f"{work}/results.npz", *models]
        subprocess.run(command, check=True, capture_output=True, env=environment)  # noqa: S603
        with np.load(f"{work}/results.npz") as stored:
            found = {name: stored[name] for name in stored.files}
    results = {name: found[name] for name in ("energy", "forces", "stress", "deviation") if name in found}
    times = {name: float(found[name]) for name in ("wall_ms", "cpu_ms")}
    return results, (found["totals"].tolist(), times)


def by_lammps(atoms: Atoms, folder: Path) -> tuple[Results, Trajectory]:
    """LAMMPS."""
    symbols = sorted(set(atoms.get_chemical_symbols()))
    placed = atoms.copy()
    if not atoms.pbc.any():
        placed.center(vacuum=10.0)
    engine = start_lammps(("-screen", "none", "-log", "none"))
    with TemporaryDirectory() as work:
        write(f"{work}/data", placed, format="lammps-data", specorder=symbols, masses=True, velocities=True)
        engine.commands_string(
            f"units metal\natom_style atomic\nboundary {'p p p' if atoms.pbc.any() else 's s s'}\n"
            f"read_data {work}/data\n"
            "pair_style zero 3.0\npair_coeff * *\nfix ff all external pf/callback 1 1"
        )
    client = LammpsForceField(engine, "ff", _committee(folder).force_field, elements=symbols)
    engine.commands_string(
        f"fix_modify ff energy yes virial yes\nfix nve all nve\ntimestep {TIMESTEP_FS * 1e-3}\n"
        "compute s all pressure NULL virial\n"
        "thermo_style custom step etotal pe c_s[1] c_s[2] c_s[3] c_s[4] c_s[5] c_s[6]\nrun 0"
    )
    order = np.argsort(engine.numpy.extract_atom("id")[: len(atoms)])
    results = {
        "energy": engine.get_thermo("pe"),
        "forces": engine.numpy.extract_atom("f")[: len(atoms)][order].copy(),
        "deviation": engine.numpy.extract_atom("d_force_deviation")[: len(atoms)][order].copy(),
    }
    if atoms.pbc.any():
        xx, yy, zz, xy, xz, yz = -engine.numpy.extract_compute("s", 0, 1) * units.bar  # global, a vector
        results["stress"] = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    totals: list[float] = []

    def run(steps: int) -> None:
        for _ in range(steps):
            engine.command("run 1 pre no post no")
            totals.append(engine.get_thermo("etotal"))

    times = timed(run)
    client.raise_problem()
    engine.close()
    return results, (totals, times)


def by_openmm(atoms: Atoms, folder: Path) -> tuple[Results, Trajectory]:
    """OpenMM, Reference platform."""
    system = openmm.System()
    evaluations: list[Evaluation] = []
    for mass in atoms.get_masses():
        system.addParticle(mass)
    periodic = bool(atoms.pbc.any())
    if periodic:
        system.setDefaultPeriodicBoxVectors(*(atoms.cell.array / 10))
    calculator = _committee(folder)
    system.addForce(committee_force(calculator, atoms.numbers, periodic=periodic, watch=evaluations.append))
    return _in_openmm(atoms, system, evaluations)


def by_openmm_ml(atoms: Atoms, folder: Path) -> tuple[Results, Trajectory]:
    """OpenMM with a system of OpenMM-ML."""
    topology = app.Topology()
    residue = topology.addResidue("ANY", topology.addChain())
    for symbol in atoms.get_chemical_symbols():
        topology.addAtom(symbol, app.Element.getBySymbol(symbol), residue)
    if atoms.pbc.any():
        topology.setPeriodicBoxVectors([openmm.Vec3(*row) for row in atoms.cell.array / 10] * openmm.unit.nanometer)
    evaluations: list[Evaluation] = []
    potential = MLPotential("al-engine", model=folder / "committee.h5", device="cpu")
    system = potential.createSystem(topology, removeCMMotion=False, watch=evaluations.append)
    return _in_openmm(atoms, system, evaluations)


def _in_openmm(atoms: Atoms, system: Any, evaluations: list[Evaluation]) -> tuple[Results, Trajectory]:
    """A system whose force appends to `evaluations`.

    The steps that are timed come first: OpenMM evaluates the force once more for every energy that is asked for.
    """
    integrator = openmm.VerletIntegrator(TIMESTEP_FS * 1e-3)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(atoms.positions / 10)
    context.setVelocities(atoms.get_velocities() * units.fs * 100)  # nm/ps
    kj = units.kJ / units.mol
    state = context.getState(energy=True, forces=True)
    results = {
        "energy": state.getPotentialEnergy().value_in_unit(KJ_PER_MOL) * kj,
        "forces": state.getForces(asNumpy=True).value_in_unit(KJ_PER_MOL / openmm.unit.nanometer) * kj / 10,
        "deviation": evaluations[0].deviation,
    }
    times = timed(integrator.step)
    totals: list[float] = []
    for _ in range(WARM_UP + STEPS):
        integrator.step(1)
        state = context.getState(energy=True)
        totals.append((state.getPotentialEnergy() + state.getKineticEnergy()).value_in_unit(KJ_PER_MOL) * kj)
    return results, (totals, times)


def by_torchsim(atoms: Atoms, folder: Path) -> tuple[Results, Trajectory]:
    """TorchSim: the system in a batch of one."""
    model = CommitteeModel(folder / "committee.h5", device="cpu")
    state = torch_sim.initialize_state([atoms], device=torch.device("cpu"), dtype=torch.float64)
    found = model(state)
    results = {
        "energy": float(found["energy"][0]),
        "forces": found["forces"].numpy(),
        "deviation": found["force_deviation"].numpy(),
    }
    if atoms.pbc.any():
        results["stress"] = found["stress"][0].numpy()
    init, step = torch_sim.integrators.nve(
        model=model,
        dt=torch.tensor(TIMESTEP_FS * 1e-3 * torch_sim.units.MetalUnits.time, dtype=torch.float64),
        kT=torch.tensor(KELVIN * units.kB, dtype=torch.float64),
    )
    current = init(state, seed=0)
    current.momenta = torch.from_numpy(atoms.get_momenta())
    totals: list[float] = []

    def run(steps: int) -> None:
        nonlocal current
        for _ in range(steps):
            current = step(current)
            kinetic = (current.momenta.square().sum(1) / (2 * current.masses)).sum()
            totals.append(float(current.energy[0] + kinetic))

    return results, (totals, timed(run))


IPI = """<simulation verbosity='quiet'>
<output prefix='out'><properties stride='1' filename='md'> [ conserved{electronvolt} ] </properties></output>
<total_steps> STEPS </total_steps>
<ffdirect name='al'><pes> custom </pes><pes_path> timed_driver.py </pes_path>
<parameters> {template: start.xyz, model: MODEL} </parameters></ffdirect>
<system><initialize nbeads='1'><file mode='ase'> start.xyz </file>
<velocities mode='thermal' units='kelvin'> KELVIN </velocities></initialize>
<forces><force forcefield='al'/></forces>
<motion mode='dynamics'><dynamics mode='nve'><timestep units='femtosecond'> TIMESTEP </timestep></dynamics></motion>
<ensemble><temperature units='kelvin'> KELVIN </temperature></ensemble></system>
</simulation>
"""
TIMED_DRIVER = """
import time
from models.clients.ipi import CommitteeDriver

__DRIVER_NAME__, __DRIVER_CLASS__ = "custom", "TimedDriver"

class TimedDriver(CommitteeDriver):
    def compute_structure(self, cell, pos):
        with open("stamps", "a") as file:
            print(time.perf_counter(), time.process_time(), file=file)
        return super().compute_structure(cell, pos)
"""
"""The driver of i-PI that also writes a stamp at every call: a step is the time from one call to the next."""


def by_ipi(atoms: Atoms, folder: Path) -> tuple[Results, Trajectory]:
    """i-PI with the driver in its process; its velocities are its own."""
    with TemporaryDirectory() as work:
        placed = atoms.copy()
        if not atoms.pbc.any():
            placed.center(vacuum=10.0)
        write(f"{work}/start.xyz", placed, format="extxyz")
        model = (folder / "committee.h5").resolve()
        driver = CommitteeDriver(template=f"{work}/start.xyz", model=str(model))
        energy, forces, virial, extras = driver(placed.cell.array.T / units.Bohr, atoms.positions / units.Bohr)
        results = {"energy": energy * units.Hartree, "forces": forces * units.Hartree / units.Bohr}
        members = np.array(json.loads(extras)["committee_force"]).reshape(-1, len(atoms), 3)
        results["deviation"] = deviation_of(members * units.Hartree / units.Bohr)
        if atoms.pbc.any():
            results["stress"] = -virial * units.Hartree / atoms.get_volume()
        values = {"STEPS": WARM_UP + STEPS, "MODEL": model, "KELVIN": KELVIN, "TIMESTEP": TIMESTEP_FS}
        text = IPI
        for key, value in values.items():
            text = text.replace(key, str(value))
        Path(work, "input.xml").write_text(text, encoding="utf-8")
        Path(work, "timed_driver.py").write_text(TIMED_DRIVER, encoding="utf-8")
        command = [str(Path(sys.executable).with_name("i-pi")), "input.xml"]
        subprocess.run(command, cwd=work, check=True, capture_output=True)  # noqa: S603
        totals = np.loadtxt(f"{work}/out.md").tolist()
        stamps = np.loadtxt(f"{work}/stamps")[-1 - STEPS :: BLOCK]
    return results, (totals, times_of(stamps))
