"""Total charge and unpaired electrons of a system, from the config and the molecule."""

from al_engine.errors import InputError
from al_engine.structures.frames import IntArray


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
    source: str = "the system",
    section: str = "system",
) -> tuple[int, int]:
    """Determine the total charge and the number of unpaired electrons of a system of equal molecules.

    Args:
        numbers: Atomic numbers of the whole system, shape (N,).
        molecules: Number of copies of the molecule.
        charge: Total charge that the user gave, e; None: `molecule_charge` times the number of copies.
        unpaired_electrons: Number of unpaired electrons that the user gave; None: for a single molecule the number in
            its file, else 0, which is refused for an odd number of electrons and for radicals.
        molecule_charge: Charge of a single molecule, e.
        molecule_formal_charge: Sum of the formal charges in the molecule's SMILES or bond orders, e; None: unknown.
        molecule_radical_electrons: Radical electrons of a single molecule in its SMILES or bond orders.
        molecule_unpaired_electrons: Unpaired electrons of a single molecule as its file states them, or None.
        source: Name of the molecule in messages.
        section: Section of the config that the options of the messages belong to.

    Returns:
        Total charge (e) and number of unpaired electrons.

    Raises:
        InputError: If the unpaired electrons do not fit the number of electrons, the charge contradicts the formal
            charges or exceeds the number of protons, or the spin of a radical is not stated.
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
    if unpaired_electrons is None and molecules == 1:
        unpaired_electrons = molecule_unpaired_electrons
    if unpaired_electrons is None:
        radicals = molecules * molecule_radical_electrons
        if odd:
            raise InputError(
                f"{named} at charge {total_charge:+d} has {electrons} electrons, an odd number; set {section}.charge "
                f"if it is an ion, or {section}.unpaired_electrons if it is a radical, e.g. "
                f"{max(1, radicals if radicals % 2 else 1)}"
            )
        if radicals:
            raise InputError(
                f"{named} has {radicals} radical electrons; set {section}.unpaired_electrons: {radicals} (high spin) "
                "or 0 (all paired)"
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
