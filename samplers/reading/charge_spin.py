"""Charge and spin of the whole system from what the user said and what the molecule implies."""

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
) -> tuple[int, int]:
    """Total charge (e) and number of unpaired electrons of a system of equal molecules.

    Args:
        numbers: Atomic numbers of the whole system, shape (N,).
        molecules: Copies of the molecule in it.
        charge: Total charge the user gave, or None: the molecule's formal charge times the copies.
        unpaired_electrons: What the user gave, or None: 0, if that is possible and nothing speaks against it.
        molecule_charge: Charge of one molecule, e.
        molecule_formal_charge: Sum of the formal charges of its SMILES or bond orders, e, where there are any.
        molecule_radical_electrons: Radical electrons of its SMILES or bond orders.
        molecule_unpaired_electrons: Unpaired electrons of one molecule that its file states, or None.
        source: How a message names the molecule.

    Raises:
        InputError: If electrons and spin do not fit, the charge contradicts formal charges, or the spin of a radical is
            not said.
    """
    named = f"{source} x {molecules}" if molecules > 1 else source
    if charge is not None and molecule_formal_charge and charge != molecules * molecule_formal_charge:
        raise InputError(
            f"system.charge: {charge:+d} e contradicts the formal charges of {named}, "
            f"{molecules * molecule_formal_charge:+d} e in all; leave it out, or write the molecule as it is meant"
        )
    total_charge = molecules * molecule_charge if charge is None else charge
    electrons = int(sum(int(n) for n in numbers)) - total_charge
    if electrons < 0:
        raise InputError(
            f"system.charge: {total_charge:+d} e is more than the {electrons + total_charge} protons there are"
        )
    odd = electrons % 2
    if unpaired_electrons is None and molecules == 1:
        unpaired_electrons = molecule_unpaired_electrons
    if unpaired_electrons is None:
        radicals = molecules * molecule_radical_electrons
        if odd:
            raise InputError(
                f"{named} at charge {total_charge:+d} has {electrons} electrons, an odd number: say system.charge if "
                "it is an ion, or system.unpaired_electrons if it is a radical, e.g. "
                f"{max(1, radicals if radicals % 2 else 1)}"
            )
        if radicals:
            raise InputError(
                f"{named} has {radicals} radical electrons: say system.unpaired_electrons: {radicals} (high spin) or "
                "0 (all paired)"
            )
        return total_charge, 0
    if unpaired_electrons > electrons:
        raise InputError(
            f"system.unpaired_electrons: {unpaired_electrons} is more than the {electrons} electrons of {named}"
        )
    if unpaired_electrons % 2 != odd:
        raise InputError(
            f"system.unpaired_electrons: {unpaired_electrons} does not fit {named}: at charge {total_charge:+d} it has "
            f"{electrons} electrons, so the number must be {'odd' if odd else 'even'}"
        )
    return total_charge, unpaired_electrons
