"""Interaction energies of two pairs of s22x5 along the distance of the molecules: a committee against GFN2-xTB.

    al-engine run examples/pairs.yaml
    python benchmarks/s22x5.py runs/pairs --updates 4000

With `--updates`, models are trained on the campaign's data with several weights of the energies too.

The campaign has the molecules alone and their pairs as four systems. The geometries of s22x5 (Grafova et al., J. Chem.
Theory Comput. 6, 2365 (2010), as ASE has them) are not among its data. The interaction energy of a geometry is the
energy of the pair minus the energies of its two molecules as they are in the pair.
"""

import argparse
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from al_engine import load_committee
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.scores import read_test
from al_engine.committee.predictions import accuracy
from al_engine.structures.frames import Frame
from al_engine.units import MEV_PER_EV
from machine import circumstances, versions
from pages import HERE, origin, page, publish

if TYPE_CHECKING:
    from ase import Atoms

    from models.inference.committee import Committee

PAIRS = ("Water_dimer", "Formic_acid_dimer")
ENERGY_WEIGHTS = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
SEED = 5
"""Seed of the models with other energy weights."""
DISTANCES = ("0.9", "1.0", "1.2", "1.5", "2.0")
"""Distances of the molecules in units of the equilibrium distance."""
PACKAGES = ("al-engine", "torch", "ase", "tblite", "numpy")


def parts(pair: "Atoms", first: int) -> list["Atoms"]:
    """A pair and its two molecules; the first has the first `first` atoms."""
    return [pair, pair[:first], pair[first:]]


def reference(atoms: "Atoms") -> float:
    """Energy by GFN2-xTB, eV."""
    from tblite.ase import TBLite

    copy = atoms.copy()
    copy.calc = TBLite(method="GFN2-xTB", accuracy=0.1, verbosity=0)
    return float(copy.get_potential_energy())


@cache
def reference_mev(name: str, first: int) -> float:
    """Interaction energy of a geometry by GFN2-xTB, meV; `first`: number of atoms of its first molecule."""
    from ase.data.s22 import create_s22_system

    pair, *molecules = map(reference, parts(create_s22_system(name), first))
    return MEV_PER_EV * (pair - sum(molecules))


def interaction_energies(committee: "Committee") -> list[dict[str, Any]]:
    """Interaction energies in meV of all geometries, by a committee, by GFN2-xTB and by CCSD(T) as in s22x5."""
    from ase.data.s22 import create_s22_system, get_interaction_energy_s22x5, get_number_of_dimer_atoms

    rows = []
    for pair in PAIRS:
        for distance in DISTANCES:
            name = f"{pair}_{distance}"
            atoms = create_s22_system(name)
            first, _ = get_number_of_dimer_atoms(name)
            frames = [Frame(part.numbers, part.positions) for part in parts(atoms, first)]
            members, _ = committee.predict(frames)
            by_member = MEV_PER_EV * (members[:, 0] - members[:, 1] - members[:, 2])
            rows.append(
                {
                    "pair": pair,
                    "distance": float(distance),
                    "committee_mev": float(by_member.mean()),
                    "deviation_mev": float(by_member.std()),
                    "gfn2_mev": reference_mev(name, int(first)),
                    "ccsdt_mev": MEV_PER_EV * float(get_interaction_energy_s22x5(name)),
                }
            )
    return rows


def weighted(directory: Path, *, updates: int) -> list[dict[str, Any]]:
    """Errors of models that are trained on a campaign's data with several weights of the energies."""
    from models.inference.committee import Committee
    from models.training.training import train_member

    ledger = Ledger.open(directory)
    config, data, test = ledger.config, ledger.dataset(), read_test(ledger.reader(), ledger.config)
    rows = []
    for weight in ENERGY_WEIGHTS:
        training = config.training.model_copy(update={"energy_weight": weight})
        trained = train_member(frames=data, model=config.model, training=training, seed=SEED, updates=updates)
        committee = Committee([trained.model])
        energies, forces = committee.predict([item.frame for item in test.frames])
        found = accuracy(energies[0], [of_frame[0] for of_frame in forces], test.frames)
        interactions = interaction_energies(committee)
        rows.append(
            {
                "weight": weight,
                "interaction_mae_mev": float(
                    np.mean([abs(row["committee_mev"] - row["gfn2_mev"]) for row in interactions])
                ),
                "energy_mae_mev_per_atom": found.energy_mev_per_atom.mae,
                "force_mae_mev_per_ang": found.forces_mev_per_ang.mae,
            }
        )
    return rows


def compare(directory: Path) -> dict[str, Any]:
    """The interaction energies, and what the campaign says of itself."""
    ledger = Ledger.open(directory)
    verdict, last = ledger.verdict(), ledger.history()[-1]
    rows = interaction_energies(load_committee(directory, device="cpu").committee)
    errors = np.array([row["committee_mev"] - row["gfn2_mev"] for row in rows])
    return {
        "campaign": ledger.config.name,
        "verdict": None if verdict is None else verdict.kind.value,
        "evidence": None if verdict is None else verdict.evidence,
        "iterations": len(ledger.history()),
        "data_set": ledger.dataset_size(),
        "systems": [
            {"system": own.system, "forces": own.test_force_mae_mev_per_ang, "energy": own.test_energy_mae_mev_per_atom}
            for own in last.systems
        ],
        "rows": rows,
        "mae_mev": float(np.abs(errors).mean()),
        "largest_mev": float(np.abs(errors).max()),
    }


def markdown(result: Mapping[str, Any], *, reading: str) -> str:
    """The page."""
    outcome = result["verdict"] or "stopped by hand"
    lines = [
        "# Interaction energies of s22x5",
        "",
        "`examples/pairs.yaml` trains one committee on water and formic acid, each alone and as a pair. This table",
        "compares the committee with GFN2-xTB, the method of its labels. The geometries are those of s22x5; none of",
        "them is among the data. Deviation: standard deviation of the members. CCSD(T): the values of s22x5, for",
        "orientation only.",
        "",
        "| pair | distance / equilibrium | committee / meV | deviation | GFN2-xTB | error | CCSD(T) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {row['pair'].replace('_', ' ').lower()} | {row['distance']:g} | {row['committee_mev']:.1f} | "
            f"{row['deviation_mev']:.1f} | {row['gfn2_mev']:.1f} | {row['committee_mev'] - row['gfn2_mev']:+.1f} | "
            f"{row['ccsdt_mev']:.0f} |"
            for row in result["rows"]
        ),
        "",
        f"Mean absolute error {result['mae_mev']:.1f} meV, largest {result['largest_mev']:.1f} meV.",
        "",
        f"The campaign: {outcome} after {result['iterations']} iterations, {result['data_set']} frames.",
        "",
        "| system | force MAE on its test set / meV/Å | energy MAE / meV/atom |",
        "| --- | --- | --- |",
        *(f"| {own['system']} | {own['forces']:.1f} | {own['energy']:.2f} |" for own in result["systems"]),
        "",
        *_weights_table(result),
        *origin(result["about"]),
    ]
    return page(lines, reading=reading)


def _weights_table(result: Mapping[str, Any]) -> list[str]:
    """The errors by weight of the energies; no lines without these models."""
    if not result["weights"]:
        return []
    return [
        "## The weight of the energies",
        "",
        f"One model for each `training.energy_weight`, trained from random weights with {result['updates']} updates on",
        "the data of this campaign. Errors of energies and forces are those on the test sets of all systems.",
        "",
        "| energy weight | interaction energies: MAE / meV | energy MAE / meV/atom | force MAE / meV/Å |",
        "| --- | --- | --- | --- |",
        *(
            f"| {row['weight']:g} | {row['interaction_mae_mev']:.1f} | {row['energy_mae_mev_per_atom']:.2f} | "
            f"{row['force_mae_mev_per_ang']:.1f} |"
            for row in result["weights"]
        ),
        "",
    ]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n", maxsplit=1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="directory of a campaign of examples/pairs.yaml")
    parser.add_argument(
        "--updates", type=int, default=0, help="updates of the models with other energy weights; 0: none"
    )
    parser.add_argument("--output", type=Path, default=HERE, help="folder of s22x5.md and results/s22x5.json")
    parser.add_argument("--json", action="store_true", help="also print the result as JSON")
    options = parser.parse_args()
    about = circumstances() | {"versions": versions(PACKAGES)}
    weights = weighted(options.directory, updates=options.updates) if options.updates else []
    result = compare(options.directory) | {"about": about, "weights": weights, "updates": options.updates}
    print(publish(result, markdown, output=options.output, name="s22x5"))
    if options.json:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
