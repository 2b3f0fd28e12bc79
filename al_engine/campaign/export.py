"""Export of a campaign's labelled frames for other programs."""

from io import StringIO
from pathlib import Path
from typing import Any

from al_engine.campaign.ledger import Ledger
from al_engine.errors import InputError
from al_engine.files.atomic import write_file
from al_engine.structures.frames import LabelledFrame


def labelled_atoms(item: LabelledFrame) -> Any:
    """A labelled frame as `ase.Atoms` with a calculator that holds energy (eV) and forces (eV/Å).

    A weight other than 1 stands in `info` as `config_weight`, the name that mace-torch reads.
    """
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = item.frame.to_atoms()
    stress = {} if item.stress is None else {"stress": item.stress}
    if item.weight != 1.0:
        atoms.info["config_weight"] = item.weight
    atoms.calc = SinglePointCalculator(atoms, energy=item.energy, forces=item.forces, **stress)
    return atoms


def export_extxyz(directory: Path, output: Path) -> int:
    """Write the labelled frames as extended XYZ, which ASE, MACE, NequIP and others read.

    Energies (eV) and forces (eV/Å) are written as ASE writes a calculator's results. The total charge and the unpaired
    electrons stand in the comment line.

    Returns:
        Number of frames written.

    Raises:
        InputError: If the campaign has no labelled frames yet, or the file exists.
    """
    from ase.io import write

    labelled = Ledger.open(directory).dataset()
    if not labelled:
        raise InputError(f"{directory}: has no labelled frames yet; `al-engine run` computes them")
    if output.exists():
        raise InputError(f"{output}: exists already; give another file, or remove it")
    images = [labelled_atoms(item) for item in labelled]
    text = StringIO()
    write(text, images, format="extxyz")
    write_file(output, text.getvalue().encode())
    return len(images)
