"""The force field in every simulation program: the same numbers, time per step, and conservation of energy.

    python benchmarks/clients.py

For three systems (ethanol, two N(CF3)3, a periodic box of water) a committee of four is trained on GFN2-xTB labels for
a minute. Then each program evaluates the same structure, and runs the same NVE trajectory from the same velocities,
with the mean of the committee and one thread.
"""

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import openmm
import torch
import torch_sim
from ase import Atoms, units
from ase.build import molecule
from ase.io import write
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet
from metatomic_ase import MetatomicCalculator
from tblite.ase import TBLite

from al_engine.config import ModelConfig, PathConfig, TrainingConfig
from al_engine.structures.frames import FloatArray, Frame, LabelledFrame
from jobs import log
from machine import circumstances, versions
from models import load_committee
from models.clients.lammps import LammpsForceField, start_lammps
from models.clients.openmm import committee_force
from models.clients.torchsim import CommitteeModel
from models.inference.force_field import Evaluation
from models.interop.metatomic_file import write_metatomic
from models.storage.weights import write_member
from models.training.training import train_member
from pages import origin, page, publish
from pages import parser as page_parser
from result_tables import table
from samplers.building.molecules import molecule_from_smiles

HERE = Path(__file__).resolve().parent
NAME = "clients"
PACKAGES = ("al-engine", "torch", "ase", "lammps", "openmm", "ipi", "torch-sim-atomistic", "metatomic-torch")
MODEL = ModelConfig(
    short=PathConfig(cutoff_ang=4.0, channels=16, l_max=2, radial_mlp=[16]),
    long=PathConfig(cutoff_ang=6.0, channels=8, l_max=1, radial_mlp=[]),
)
FRAMES, UPDATES, MEMBERS = 60, 400, 4
STEPS, TIMESTEP_FS, KELVIN = 200, 0.5, 200.0
WARM_UP = 110
"""Steps before the timed ones: small molecules are traced after a hundred."""
KJ_PER_MOL = openmm.unit.kilojoule_per_mole
Trajectory = tuple[list[float], float]
"""Total energies in eV, one per step, and the time per step in ms."""


def water_box() -> Atoms:
    """Eight waters at 1 g/cm³ in a periodic cube."""
    side = (8 * 18.015 / 0.60221) ** (1 / 3)
    box = Atoms(cell=[side] * 3, pbc=True)
    rng = np.random.default_rng(0)
    for place in np.ndindex(2, 2, 2):
        water = molecule("H2O")
        water.rotate(360 * rng.random(), rng.normal(size=3), center="COM")
        water.translate(np.array(place) * side / 2 - water.get_center_of_mass())
        box += water
    return box


def two_amines() -> Atoms:
    """Two N(CF3)3 side by side."""
    built = molecule_from_smiles("FC(F)(F)N(C(F)(F)F)C(F)(F)F", seed=0)
    single = Atoms(built.numbers, positions=built.positions)
    other = single.copy()
    other.rotate(90, "x", center="COM")
    other.translate([6.2, 0.3, 0.2])
    return single + other


SYSTEMS: Mapping[str, Callable[[], Atoms]] = {
    "ethanol": lambda: molecule("CH3CH2OH"),
    "N(CF3)3 x 2": two_amines,
    "water box": water_box,
}


def prepare(name: str, folder: Path) -> Atoms:
    """Train the committee of a system, unless it is there, and write its metatomic file; returns the structure."""
    folder.mkdir(parents=True, exist_ok=True)
    start = SYSTEMS[name]()
    start.calc = TBLite(method="GFN2-xTB", verbosity=0)
    rng = np.random.default_rng(1)
    if not (folder / "committee.h5").exists():
        labelled = []
        for _ in range(FRAMES):
            atoms = start.copy()
            atoms.calc = start.calc
            atoms.positions += rng.normal(scale=0.06, size=atoms.positions.shape)
            labelled.append(LabelledFrame(Frame.from_atoms(atoms), atoms.get_potential_energy(), atoms.get_forces()))
        training = TrainingConfig(batch_size=10, validation_interval=100)
        members = [
            train_member(frames=labelled, model=MODEL, training=training, seed=k, updates=UPDATES)
            for k in range(MEMBERS)
        ]
        with h5py.File(folder / "committee.h5", "w") as file:
            for k, member in enumerate(members):
                write_member(file.create_group(f"member{k}"), member)
    if not (folder / "committee.pt").exists():
        models = load_committee(folder / "committee.h5").committee.models
        write_metatomic(folder / "committee.pt", models, name=name, description=name, references={})
    start.calc = None
    MaxwellBoltzmannDistribution(start, temperature_K=KELVIN, rng=np.random.default_rng(2))
    Stationary(start)
    start.positions += rng.normal(scale=0.03, size=start.positions.shape)
    return start


# -- programs -------------------------------------------------------------------------------------------------------


def by_ase(atoms: Atoms, calculator: Any) -> tuple[dict[str, Any], Trajectory]:
    """A calculator in ASE: results and an NVE trajectory."""
    atoms = atoms.copy()
    atoms.calc = calculator
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if atoms.pbc.any():
        results["stress"] = atoms.get_stress(voigt=False)
    if "force_deviation" in calculator.results:
        results["deviation"] = calculator.results["force_deviation"]
    dynamics = VelocityVerlet(atoms, TIMESTEP_FS * units.fs)
    totals: list[float] = []
    dynamics.attach(lambda: totals.append(atoms.get_total_energy()))
    return results, (totals, _timed(dynamics.run))


def by_lammps(atoms: Atoms, folder: Path) -> tuple[dict[str, Any], Trajectory]:
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
    client = LammpsForceField(engine, "ff", load_committee(folder / "committee.h5").force_field, elements=symbols)
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

    elapsed = _timed(run)
    client.raise_problem()
    engine.close()
    return results, (totals, elapsed)


def by_openmm(atoms: Atoms, folder: Path) -> tuple[dict[str, Any], Trajectory]:
    """OpenMM, Reference platform."""
    system = openmm.System()
    evaluations: list[Evaluation] = []
    for mass in atoms.get_masses():
        system.addParticle(mass)
    periodic = bool(atoms.pbc.any())
    if periodic:
        system.setDefaultPeriodicBoxVectors(*(atoms.cell.array / 10))
    calculator = load_committee(folder / "committee.h5")
    system.addForce(committee_force(calculator, atoms.numbers, periodic=periodic, watch=evaluations.append))
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
    totals: list[float] = []

    def run(steps: int) -> None:
        for _ in range(steps):
            integrator.step(1)
            state = context.getState(energy=True)
            total = state.getPotentialEnergy() + state.getKineticEnergy()
            totals.append(total.value_in_unit(KJ_PER_MOL) * kj)

    return results, (totals, _timed(run))


def by_torchsim(atoms: Atoms, folder: Path) -> tuple[dict[str, Any], Trajectory]:
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

    return results, (totals, _timed(run))


IPI = """<simulation verbosity='quiet'>
<output prefix='out'><properties stride='1' filename='md'> [ conserved{electronvolt} ] </properties></output>
<total_steps> STEPS </total_steps>
<ffdirect name='al'><pes> custom </pes><pes_path> DRIVER </pes_path>
<parameters> {template: start.xyz, model: MODEL} </parameters></ffdirect>
<system><initialize nbeads='1'><file mode='ase'> start.xyz </file>
<velocities mode='thermal' units='kelvin'> KELVIN </velocities></initialize>
<forces><force forcefield='al'/></forces>
<motion mode='dynamics'><dynamics mode='nve'><timestep units='femtosecond'> TIMESTEP </timestep></dynamics></motion>
<ensemble><temperature units='kelvin'> KELVIN </temperature></ensemble></system>
</simulation>
"""


def by_ipi(atoms: Atoms, folder: Path) -> tuple[dict[str, Any], Trajectory]:
    """i-PI with the driver in its process; its velocities are its own."""
    from models.clients.ipi import CommitteeDriver

    with TemporaryDirectory() as work:
        placed = atoms.copy()
        if not atoms.pbc.any():
            placed.center(vacuum=10.0)
        write(f"{work}/start.xyz", placed, format="extxyz")
        model = (folder / "committee.h5").resolve()
        driver = CommitteeDriver(template=f"{work}/start.xyz", model=str(model))
        energy, forces, virial, extras = driver(placed.cell.array.T / units.Bohr, atoms.positions / units.Bohr)
        results = {"energy": energy * units.Hartree, "forces": forces * units.Hartree / units.Bohr}
        members = np.array(json.loads(extras)["committee_force"]).reshape(MEMBERS, -1, 3) * units.Hartree / units.Bohr
        results["deviation"] = np.sqrt(((members - members.mean(0)) ** 2).mean(0).sum(1))
        if atoms.pbc.any():
            results["stress"] = -virial * units.Hartree / atoms.get_volume()
        path = Path(sys.modules[CommitteeDriver.__module__].__file__ or "")
        seconds = []
        for steps in (WARM_UP, WARM_UP + STEPS):
            values = {"STEPS": steps, "DRIVER": path, "MODEL": model, "KELVIN": KELVIN, "TIMESTEP": TIMESTEP_FS}
            text = IPI
            for key, value in values.items():
                text = text.replace(key, str(value))
            Path(work, "input.xml").write_text(text)
            begun = time.perf_counter()
            command = [str(Path(sys.executable).with_name("i-pi")), "input.xml"]
            subprocess.run(command, cwd=work, check=True, capture_output=True)  # noqa: S603
            seconds.append(time.perf_counter() - begun)
        totals = np.loadtxt(f"{work}/out.md").tolist()
    return results, (totals, 1000 * (seconds[1] - seconds[0]) / STEPS)


def _timed(run: Callable[[int], None]) -> float:
    """Run warm-up steps, then steps with a clock; returns ms per step."""
    run(WARM_UP)
    begun = time.perf_counter()
    run(STEPS)
    return 1000 * (time.perf_counter() - begun) / STEPS


# -- the table ------------------------------------------------------------------------------------------------------


def compare(name: str, folder: Path) -> dict[str, Any]:
    """All programs on one system: differences from the ASE calculator, time per step, drift."""
    atoms = prepare(name, folder)
    programs: dict[str, Callable[[], tuple[dict[str, Any], Trajectory]]] = {
        "ASE": lambda: by_ase(atoms, load_committee(folder / "committee.h5")),
        "LAMMPS": lambda: by_lammps(atoms, folder),
        "OpenMM": lambda: by_openmm(atoms, folder),
        "i-PI": lambda: by_ipi(atoms, folder),
        "TorchSim": lambda: by_torchsim(atoms, folder),
        "metatomic, in ASE": lambda: by_ase(atoms, MetatomicCalculator(str(folder / "committee.pt"))),
    }
    rows: dict[str, Any] = {}
    reference: dict[str, Any] = {}
    for program, evaluate in programs.items():
        results, (totals, ms) = evaluate()
        reference = reference or results
        rows[program] = {
            **{
                quantity: float(np.abs(np.asarray(results[quantity]) - reference[quantity]).max())
                for quantity in ("energy", "forces", "stress", "deviation")
                if quantity in results
            },
            "ms_per_step": ms,
            "drift_mev_per_atom_ps": drift(totals, len(atoms)),
        }
        log(f"{name}: {program}: {rows[program]}")
    return {
        "atoms": len(atoms),
        "largest_force": float(np.abs(reference["forces"]).max()),
        "largest_deviation": float(np.max(reference["deviation"])),
        "programs": rows,
    }


def drift(totals: Sequence[float] | FloatArray, n_atoms: int) -> float:
    """Slope of the total energy in meV per atom and ps."""
    picoseconds = np.arange(len(totals)) * TIMESTEP_FS * 1e-3
    return float(np.polyfit(picoseconds, np.asarray(totals), 1)[0]) * 1000.0 / n_atoms


def markdown(result: Mapping[str, Any], *, reading: str) -> str:
    """The page."""
    lines = [
        "# The force field in simulation programs",
        "",
        (
            "Largest differences from the ASE calculator on the same structure (energy in eV, forces and deviation in "
            f"eV/Å, stress in eV/Å³; the networks are in float32), time per step of an NVE run of {STEPS} steps of "
            f"{TIMESTEP_FS} fs with the whole committee of {MEMBERS} on one thread, and the drift of its total energy."
        ),
    ]
    for name, found in result["systems"].items():
        head = ["", "energy", "forces", "stress", "deviation", "ms/step", "drift, meV/atom/ps"]
        rows = [
            [
                program,
                *(f"{row[q]:.0e}" if q in row else "-" for q in ("energy", "forces", "stress", "deviation")),
                f"{row['ms_per_step']:.1f}",
                f"{row['drift_mev_per_atom_ps']:+.2f}",
            ]
            for program, row in found["programs"].items()
        ]
        lines += [
            "",
            f"## {name}",
            "",
            (
                f"{found['atoms']} atoms; largest force {found['largest_force']:.2f} eV/Å, largest deviation "
                f"{found['largest_deviation']:.3f} eV/Å."
            ),
            "",
            table(head, rows),
        ]
    return page([*lines, "", *origin(result["about"])], reading=reading)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = page_parser(__doc__ or "", name=NAME, data=HERE / ".cache" / NAME)
    parser.add_argument("--only", nargs="+", choices=list(SYSTEMS), help="run only these systems")
    return parser.parse_args(arguments)


def main() -> None:
    """Compare all programs on all systems, and write the page after each."""
    warnings.simplefilter("ignore")
    options = parse_arguments()
    torch.set_num_threads(1)
    stored = options.output / "results" / f"{NAME}.json"
    result: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {"systems": {}}
    result["about"] = {**circumstances(), "versions": versions(PACKAGES)}
    for name in options.only or SYSTEMS:
        if not options.report:
            result["systems"][name] = compare(name, options.data / "-".join(name.split()))
        log(f"written: {publish(result, markdown, output=options.output, name=NAME)}")
    if options.json:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
