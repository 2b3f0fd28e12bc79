"""`al-engine data`: labelled frames in files and campaigns."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from al_engine.errors import ExitStatus
from flows.cli.options import AsJson, answer

data = typer.Typer(
    help="Labelled frames in files and campaigns: summarise, check, merge.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class EnergyUnits(StrEnum):
    """Units of energies in files."""

    EV = "eV"
    HARTREE = "hartree"
    RYDBERG = "rydberg"
    KCAL_MOL = "kcal/mol"
    KJ_MOL = "kJ/mol"


class ForcesUnits(StrEnum):
    """Units of forces in files."""

    EV_ANG = "eV/ang"
    HARTREE_BOHR = "hartree/bohr"
    HARTREE_ANG = "hartree/ang"
    RYDBERG_BOHR = "rydberg/bohr"
    KCAL_MOL_ANG = "kcal/mol/ang"
    KJ_MOL_ANG = "kJ/mol/ang"


class StressUnits(StrEnum):
    """Units of stresses in files; `eV` is that of virials."""

    EV_ANG3 = "eV/ang3"
    GPA = "GPa"
    KBAR = "kbar"
    HARTREE_BOHR3 = "hartree/bohr3"
    EV = "eV"


Sources = Annotated[
    list[Path], typer.Argument(metavar="SOURCE...", help="Files of labelled frames, or campaign directories.")
]
EnergyKey = Annotated[
    str | None, typer.Option("--energy-key", help="Name of the energies, such as REF_energy; default: detected.")
]
ForcesKey = Annotated[
    str | None, typer.Option("--forces-key", help="Name of the forces, such as REF_forces; default: detected.")
]
StressKey = Annotated[
    str | None,
    typer.Option("--stress-key", help="Name of the stresses or virials; default: the stress that ASE reads itself."),
]
WeightKey = Annotated[
    str | None, typer.Option("--weight-key", help="Name of the weights in the loss; default: config_weight.")
]
EnergyUnitOption = Annotated[EnergyUnits, typer.Option("--energy-unit", help="Unit of the energies in files.")]
ForcesUnitOption = Annotated[ForcesUnits, typer.Option("--forces-unit", help="Unit of the forces in files.")]
StressUnitOption = Annotated[
    StressUnits, typer.Option("--stress-unit", help="Unit of the stresses under --stress-key; eV: virials.")
]


@data.command()
def summarise(
    sources: Sources,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    weight_key: WeightKey = None,
    energy_unit: EnergyUnitOption = EnergyUnits.EV,
    forces_unit: ForcesUnitOption = ForcesUnits.EV_ANG,
    stress_unit: StressUnitOption = StressUnits.EV_ANG3,
    as_json: AsJson = False,
) -> None:
    """Summarise each source: compositions, charges, ranges of energies and forces, level of theory."""
    from flows.cli.data import read_source, summary, summary_text
    from samplers.reading.labelled_files import LabelNames

    names = LabelNames(
        energy_key, forces_key, stress_key, weight_key, energy_unit.value, forces_unit.value, stress_unit.value
    )
    found = [summary(read_source(path, names)) for path in sources]
    answer({"sources": found}, "\n".join(map(summary_text, found)), as_json=as_json)


@data.command()
def check(
    sources: Sources,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    weight_key: WeightKey = None,
    energy_unit: EnergyUnitOption = EnergyUnits.EV,
    forces_unit: ForcesUnitOption = ForcesUnits.EV_ANG,
    stress_unit: StressUnitOption = StressUnits.EV_ANG3,
    as_json: AsJson = False,
) -> None:
    """List the frames with faults, which cannot be trained on, and the copies. Exit status 2 if there are faults.

    Several sources are judged together: copies and contradictions are found across them.
    """
    from flows.cli.data import faults_in, read_source, summary, summary_text
    from samplers.reading.label_faults import without_faults
    from samplers.reading.label_units import LEAST_PAIRS, near_pairs
    from samplers.reading.labelled_files import LabelNames

    names = LabelNames(
        energy_key, forces_key, stress_key, weight_key, energy_unit.value, forces_unit.value, stress_unit.value
    )
    read = [read_source(path, names) for path in sources]
    found, lines, sound = [], [], True
    for source, (faults, unit_fault) in zip(read, faults_in(read), strict=True):
        serious = [fault for fault in faults if not fault.drops]
        sound = sound and not serious and not unit_fault
        _, works, _ = near_pairs(without_faults(source.labels, faults))
        found.append(
            {
                "path": str(source.path),
                "frames": len(source.labels),
                "unit": unit_fault or None,
                "compared_pairs": len(works),
                "faults": [
                    {"frame": fault.frame, "kind": fault.kind, "text": fault.text, "left_out": fault.drops}
                    for fault in faults
                ],
            }
        )
        lines.append(summary_text(summary(source)))
        if unit_fault:
            lines.append(f"  {unit_fault}")
        elif len(works) < LEAST_PAIRS:
            lines.append(
                "  energies were not compared with the work of the forces, because fewer than "
                f"{LEAST_PAIRS} pairs of successive frames are near each other: wrong units or signs may go unnoticed"
            )
        lines += [f"  {fault}" for fault in faults]
        lines.append(f"  frames with faults: {len(serious)}; copies: {len(faults) - len(serious)}")
    answer({"sound": sound, "sources": found}, "\n".join(lines), as_json=as_json)
    if not sound:
        raise typer.Exit(ExitStatus.BAD_INPUT)


@data.command()
def merge(
    sources: Sources,
    output: Annotated[
        Path, typer.Option("--output", help="File to write: .xyz, or .h5, which keeps the level of theory.")
    ],
    leave_out_faults: Annotated[
        bool, typer.Option("--leave-out-faults", help="Leave out frames with faults instead of refusing them.")
    ] = False,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    weight_key: WeightKey = None,
    energy_unit: EnergyUnitOption = EnergyUnits.EV,
    forces_unit: ForcesUnitOption = ForcesUnits.EV_ANG,
    stress_unit: StressUnitOption = StressUnits.EV_ANG3,
    as_json: AsJson = False,
) -> None:
    """Write the labelled frames of all sources into one file. Copies of a frame are left out and listed."""
    from flows.cli.data import merge as merged
    from samplers.reading.labelled_files import LabelNames

    names = LabelNames(
        energy_key, forces_key, stress_key, weight_key, energy_unit.value, forces_unit.value, stress_unit.value
    )
    result = merged(sources, output, names, leave_out_faults=leave_out_faults)
    lines = [f"left out: {fault}" for fault in result["left_out"]]
    answer(result, "\n".join([*lines, f"wrote {result['frames']} frames to {output}"]), as_json=as_json)
