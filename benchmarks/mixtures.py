"""Campaigns on mixtures, salts, a periodic box and several systems at once, and their labels computed again.

Runs a campaign for each by `al-engine run`, one after another, to its verdict or to a limit of iterations, and writes
`results/mixtures.json` and `mixtures.md`. Afterwards labels of every campaign are computed again by tblite, with the
charge that the composition of the frame demands. Every campaign is a directory under `--data`: the same command resumes
an interrupted benchmark, one with more `--iterations` goes on with campaigns that ended at fewer, and `--report` makes
the page from the campaigns as they are.

    python benchmarks/mixtures.py
    python benchmarks/mixtures.py --only 'NaCl in 15 water' --iterations 4
"""

import argparse
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from ase.data import atomic_numbers
from ase.formula import Formula
from tblite.ase import TBLite

from al_engine.campaign.ledger import Ledger
from al_engine.files.atomic import write_file
from al_engine.structures.frames import Frame, IntArray, LabelledFrame
from al_engine.units import MEV_PER_EV
from flows.pages.status import campaign_status
from jobs import log
from machine import circumstances, versions
from molecules import PACKAGES, PERCENT, RESULT, result_of, run
from pages import origin, page, publish
from pages import parser as page_parser
from result_tables import table

HERE = Path(__file__).resolve().parent
NAME = "mixtures"
CAMPAIGNS: Mapping[str, Sequence[str] | Path] = {
    "10 water + 3 methanol": ("--smiles=10 O", "--smiles=3 CO"),
    "NaCl in 15 water": ("--smiles=15 O", "--smiles=[Na+].[Cl-]"),
    "[EMIM][BF4] x 2": ("--smiles=CCn1cc[n+](C)c1.F[B-](F)(F)F", "--molecules=2"),
    "choline chloride + 2 urea": ("--smiles=C[N+](C)(C)CCO.[Cl-]", "--smiles=2 NC(=O)N"),
    "water box": ("--smiles=16 O", "--shape=box", "--density=1.0"),
    "acetamide: monomer, dimer, liquid": HERE.parent / "examples" / "amide.yaml",
}
"""Options of `al-engine init`, or a config, by the name on the page."""
CHARGES = {"H2O": 0, "CH4O": 0, "NaCl": 0, "C6H11N2": 1, "BF4": -1, "C5H14NO": 1, "Cl": -1, "CH4N2O": 0, "C2H5NO": 0}
"""Charge in e of each species by its formula. Sodium chloride is one species, because its ions stay together."""
SPECIES: Mapping[str, Sequence[str]] = {
    "10 water + 3 methanol": ("H2O", "CH4O"),
    "NaCl in 15 water": ("H2O", "NaCl"),
    "[EMIM][BF4] x 2": ("C6H11N2", "BF4"),
    "choline chloride + 2 urea": ("C5H14NO", "Cl", "CH4N2O"),
    "water box": ("H2O",),
    "acetamide: monomer, dimer, liquid": ("C2H5NO",),
}
RECOMPUTED = 40
"""Labels of each campaign that are computed again."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = page_parser(__doc__ or "", name=NAME, data=HERE / ".cache" / NAME)
    parser.add_argument("--only", nargs="+", metavar="CAMPAIGN", choices=list(CAMPAIGNS), help="run only these")
    parser.add_argument("--iterations", type=int, default=3, help="limit of iterations")
    return parser.parse_args(arguments)


def charge_of(numbers: IntArray, species: Sequence[str]) -> int:
    """Charge in e of a cluster from its composition alone: that of the whole molecules and ions which it consists of.

    Raises:
        ValueError: If it does not consist of whole molecules of the species.
    """
    counts = Counter(numbers.tolist())
    formulas = [{atomic_numbers[el]: n for el, n in Formula(each).count().items()} for each in species]
    elements = sorted({*counts, *(number for formula in formulas for number in formula)})
    matrix = np.array([[formula.get(number, 0) for formula in formulas] for number in elements], dtype=float)
    wanted = np.array([counts.get(number, 0) for number in elements], dtype=float)
    found = np.rint(np.linalg.lstsq(matrix, wanted)[0])
    if not np.array_equal(matrix @ found, wanted):
        raise ValueError(f"{Atoms(numbers).get_chemical_formula()} does not consist of whole molecules")
    return int(sum(n * CHARGES[each] for n, each in zip(found, species, strict=True)))


def recomputed(frames: Sequence[LabelledFrame], species: Sequence[str]) -> dict[str, Any]:
    """The largest differences of labels from tblite's own ASE calculator, with the charge of the composition.

    Args:
        frames: Labelled frames; `RECOMPUTED` of them are drawn.
        species: Formulas of the species.
    """
    drawn = np.random.default_rng(0).permutation(len(frames))[:RECOMPUTED]
    charges: Counter[int] = Counter()
    other_charge, not_converged, energies, forces = 0, 0, [], []
    for frame in (frames[index] for index in drawn):
        charge = charge_of(frame.frame.numbers, species)
        charges[charge] += 1
        other_charge += charge != frame.frame.charge
        atoms = _atoms(frame.frame)
        atoms.calc = TBLite(method="GFN2-xTB", charge=charge, verbosity=0, accuracy=0.1)
        try:
            energy = atoms.get_potential_energy()
        except CalculationFailed:  # the engine repeats such a label from other starts
            not_converged += 1
            continue
        energies.append(abs(energy - frame.energy) / len(atoms))
        forces.append(np.abs(atoms.get_forces() - frame.forces).max())
    return {
        "labels": len(drawn),
        "charges": {str(charge): n for charge, n in sorted(charges.items())},
        "other_charge": other_charge,
        "not_converged": not_converged,
        "energy_mev_per_atom": MEV_PER_EV * float(max(energies)),
        "force_mev_per_ang": MEV_PER_EV * float(max(forces)),
    }


def _atoms(frame: Frame) -> Atoms:
    return Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)


def figures(name: str, folder: Path) -> dict[str, Any]:
    """The figures of a campaign that has ended, of each of its systems, and of the labels that are computed again."""
    found = result_of(folder)
    if "stage_seconds" not in found:
        return found
    status = campaign_status(folder / "campaign")
    systems: defaultdict[str, dict[str, Any]] = defaultdict(lambda: {"acceptance": []})
    for iteration in status["iterations"]:
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for each in iteration["temperatures"]:
            counts[each["system"]].update({key: each[key] for key in ("accurate", "candidate", "rejected")})
        for system, count in counts.items():
            systems[system]["acceptance"].append(count["candidate"] / max(count.total(), 1))
        whole = [{"system": "", **{key: iteration[key] for key in iteration if key.startswith("test_")}}]
        for errors in iteration["systems"] or whole:
            systems[errors["system"]]["force"] = errors["test_force_mae_mev_per_ang"]
            systems[errors["system"]]["energy"] = errors["test_energy_mae_mev_per_atom"]
    again = recomputed(Ledger.open(folder / "campaign").dataset(), SPECIES[name])
    return {**found, "systems": dict(systems), "recomputed": again}


def markdown(result: Mapping[str, Any], *, reading: str) -> str:
    """The page."""
    rows, again = [], []
    for name, found in result["campaigns"].items():
        for number, (system, each) in enumerate(found.get("systems", {"": {}}).items()):
            campaign = [found["verdict"], f"{found['minutes']:.0f}", str(found.get("labels", ""))]
            rows.append(
                [
                    f"{name}: {system}" if system else name,
                    *([""] * len(campaign) if number else campaign),
                    ", ".join(f"{PERCENT * acceptance:.2f}" for acceptance in each.get("acceptance", [])),
                    *(f"{each[key]:.1f}" if each.get(key) is not None else "" for key in ("force", "energy")),
                ]
            )
        if "recomputed" in found:
            labels = found["recomputed"]
            charges = ", ".join(f"{n} of {int(charge):+d}" for charge, n in labels["charges"].items())
            cells = (f"{labels['energy_mev_per_atom']:.1g}", f"{labels['force_mev_per_ang']:.1g}")
            counts = (str(labels[key]) for key in ("other_charge", "not_converged"))
            again.append([name, charges, *counts, *cells])
    limits = sorted({found["limit"] for found in result["campaigns"].values()})
    head = ["", "verdict", "min", "labels", "acceptance, %", "test forces, meV/Å", "test energies, meV/atom"]
    check = [
        "",
        "labels of charge",
        "stored with another charge",
        "SCF not converged",
        "energy, meV/atom",
        "force, meV/Å",
    ]
    return page(
        [
            "# Mixtures, salts, a box and several systems",
            "",
            (
                "A campaign from one command each on two cores, with the preset `quick` (acetamide: "
                "`examples/amide.yaml`), to its verdict or to a limit of iterations "
                f"({', '.join(str(limit) for limit in limits)}). Acceptance: over all temperatures, iteration by "
                "iteration. Test errors: of the newest committee's mean."
            ),
            "",
            table(head, rows),
            "",
            (
                "Labels computed again by the ASE calculator of tblite at a tighter accuracy, with the charge that "
                "follows from the composition of the frame; largest differences. An SCF that does not converge from "
                "the calculator's own start has no difference:"
            ),
            "",
            table(check, again),
            "",
            *origin(result["about"]),
        ],
        reading=reading,
    )


def main() -> None:
    """Run the campaigns one after another, and write the page after each."""
    options = parse_arguments()
    (options.output / "results").mkdir(parents=True, exist_ok=True)
    stored = options.output / "results" / f"{NAME}.json"
    result: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {"campaigns": {}}
    result |= {"about": {**circumstances(), "versions": versions(PACKAGES)}}
    limit = {"max_iterations": options.iterations}
    for name in options.only or CAMPAIGNS:
        own, origin_of = options.data / _folder_name(name), CAMPAIGNS[name]
        if not options.report and not _is_run(own, options.iterations):
            log(f"{name}: begins")
            init: Sequence[str] = ()
            if isinstance(origin_of, Path):
                config = own / "campaign" / "campaign.yaml"
                config.parent.mkdir(parents=True, exist_ok=True)
                if not config.exists():  # a begun campaign has written down all of its options there
                    shutil.copy(origin_of, config)
            else:
                init = origin_of
            run(own, HERE.parent, *init, change=limit)
            write_file(own / RESULT, json.dumps({**figures(name, own), "limit": options.iterations}).encode())
        if (own / RESULT).exists():
            result["campaigns"][name] = json.loads((own / RESULT).read_text())
            written = publish(result, markdown, output=options.output, name=NAME)
            log(f"{name}: {result['campaigns'][name]['verdict']}; written: {written}")
    if options.json:
        print(json.dumps(result, indent=1))


def _is_run(folder: Path, limit: int) -> bool:
    """Whether a campaign has a verdict other than a smaller limit of iterations."""
    if not (folder / RESULT).exists():
        return False
    found = json.loads((folder / RESULT).read_text())
    return bool(found["verdict"] != "max_iterations" or found["limit"] >= limit)


def _folder_name(name: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name).split())


if __name__ == "__main__":
    main()
