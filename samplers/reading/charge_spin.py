"""Total charge and unpaired electrons of a system, from the config and the molecule, and of frames together."""

from collections.abc import Iterable

import numpy as np

from al_engine.config import LabelsConfig
from al_engine.errors import InputError
from al_engine.structures.frames import Frame, IntArray


def resolve_charge_and_spin(
    *,
    numbers: IntArray,
    molecules: int,
    charge: int | None,
    unpaired_electrons: int | None,
    molecule_charge: int = 0,
    molecule_formal_charge: int | None = None,
    molecule_radical_electrons: int = 0,
    molecule_unpaired_electrons: int | None = None,
    molecule_open_shell: str = "",
    source: str = "the system",
    section: str = "system",
) -> tuple[int, int]:
    """Determine the total charge and the number of unpaired electrons of a system that consists of equal molecules.

    If the user does not state the number of unpaired electrons, it is the sum of those that the molecules' file states,
    as if all spins were parallel. If the file does not state it either, it is 0. This is refused for an odd number of
    electrons, for radicals, for ions with a partly filled d shell and for O2 and the like, whose spin has to be stated.

    Args:
        numbers: Atomic numbers of the whole system, shape (N,).
        molecules: Number of copies of the molecule.
        charge: Total charge that the user states, e; None: `molecule_charge` times the number of copies.
        unpaired_electrons: Number of unpaired electrons of the system that the user states, or None.
        molecule_charge: Charge of a copy, e.
        molecule_formal_charge: Sum of the formal charges of a copy in its SMILES or bond orders, e; None if unknown.
        molecule_radical_electrons: Number of radical electrons of a copy in its SMILES or bond orders.
        molecule_unpaired_electrons: Number of unpaired electrons of a copy that the molecule's file states, or None.
        molecule_open_shell: Why the bond orders of the molecule do not tell its unpaired electrons; empty if they do.
        source: Name of the molecule in messages.
        section: Section of the config whose options the messages name.

    Returns:
        Total charge (e) and number of unpaired electrons.

    Raises:
        InputError: If the number of unpaired electrons does not fit the number of electrons, the charge contradicts the
            formal charges or exceeds the number of protons, or the spin of a radical is not stated.
    """
    named = f"{source} x {molecules}" if molecules > 1 else source
    if charge is not None and molecule_formal_charge and charge != molecules * molecule_formal_charge:
        raise InputError(
            f"{section}.charge: {charge:+d} e contradicts the formal charges of {named}, "
            f"{molecules * molecule_formal_charge:+d} e in all; remove {section}.charge, or correct the molecule's "
            "charges"
        )
    total_charge = molecules * molecule_charge if charge is None else charge
    electrons = int(sum(int(n) for n in numbers)) - total_charge
    if electrons < 0:
        raise InputError(
            f"{section}.charge: {total_charge:+d} e is more than the {electrons + total_charge} protons of {named}"
        )
    odd = electrons % 2
    if unpaired_electrons is None and molecule_unpaired_electrons is not None:
        unpaired_electrons = molecules * molecule_unpaired_electrons
    if unpaired_electrons is None:
        _refuse_unstated_spin(
            named,
            electrons,
            charge=total_charge,
            radicals=molecules * molecule_radical_electrons,
            open_shell=molecule_open_shell,
            section=section,
        )
        return total_charge, 0
    if unpaired_electrons > electrons:
        raise InputError(
            f"{section}.unpaired_electrons: {unpaired_electrons} is more than the {electrons} electrons of {named}"
        )
    if unpaired_electrons % 2 != odd:
        raise InputError(
            f"{section}.unpaired_electrons: {unpaired_electrons} does not fit {named}: at charge {total_charge:+d} it "
            f"has {electrons} electrons, so the number must be {'odd' if odd else 'even'}"
        )
    return total_charge, unpaired_electrons


def _refuse_unstated_spin(
    named: str, electrons: int, *, charge: int, radicals: int, open_shell: str, section: str
) -> None:
    """Refuse a system whose number of unpaired electrons is not stated, if it is not 0 for certain.

    Args:
        named: Name of the system in messages.
        electrons: Number of electrons.
        charge: Total charge, e.
        radicals: Number of radical electrons.
        open_shell: As in `resolve_charge_and_spin`.
        section: As in `resolve_charge_and_spin`.

    Raises:
        InputError: If the number is odd, or there are radicals or an open shell.
    """
    spin = "system.unpaired_electrons (--unpaired-electrons)"
    if section != "system":
        spin = f"{section}.unpaired_electrons (or --unpaired-electrons, of the whole system)"
    if open_shell:
        raise InputError(f"{named} has {open_shell}; set {spin}")
    if electrons % 2:
        raise InputError(
            f"{named} at charge {charge:+d} has {electrons} electrons, an odd number; set {section}.charge if it is an "
            f"ion, or {spin} if it is a radical, e.g. to {radicals if radicals % 2 else 1}"
        )
    if radicals:
        raise InputError(
            f"{named} has {radicals} radical electrons; set {spin} to {radicals} (high spin) or 0 (all paired)"
        )


def refuse_mixed_electrons(frames: Iterable[tuple[str, Frame]], labels: LabelsConfig) -> None:
    """Refuse frames of the same atoms that differ in charge or spin, which the models do not see.

    With `labels.ase_charge_and_spin: parameters`, which sets charge and spin for all frames, all frames must agree.

    Args:
        frames: The frames, each with the name of its source in messages.
        labels: Settings of the labels.

    Raises:
        InputError: If frames differ; the message names both sources.
    """
    fixed = labels.backend == "ase" and labels.ase_charge_and_spin == "parameters"
    first: dict[bytes, tuple[str, Frame]] = {}
    for source, frame in frames:
        key = b"" if fixed else np.sort(frame.numbers).tobytes()
        other_source, other = first.setdefault(key, (source, frame))
        if (frame.charge, frame.unpaired_electrons) == (other.charge, other.unpaired_electrons):
            continue
        difference = (
            f"a frame of {source} has charge {frame.charge:+d} and {frame.unpaired_electrons} unpaired electrons, a "
            f"frame of {other_source} has {other.charge:+d} and {other.unpaired_electrons}"
        )
        if fixed:
            raise InputError(
                f"labels.ase_charge_and_spin: `parameters` sets the same charge and spin for all frames, but "
                f"{difference}; set it to `auto` or `atoms`"
            )
        raise InputError(
            f"{difference}, and both have the same atoms ({frame.to_atoms().get_chemical_formula()}). The models do "
            "not see charge and spin: make a campaign for each, or correct the charges"
        )
