"""Bond orders and formal charges of a structure from its elements, positions and, if known, its total charge.

Each bonded fragment gets the Lewis structure of least penalty. The structure is the solution of an integer program:
every atom takes one of the valence states of its element (`valences`), every bond an order of one to three, and the
orders at an atom add up to its valence. Ions get their charges, so that salts and solutions are read correctly.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from al_engine.structures.bonds import BondGraph
from al_engine.structures.frames import FloatArray, IntArray
from samplers.building.valences import STATES, TRANSITION_METALS, UNLIKELY, State

CHARGE_EFFORT = 2.0
"""Largest sum of penalties, in excess of the smallest sum, that several fragments may take to reach the total charge.

A structure of a single fragment may take any penalty.
"""
LARGEST_FRAGMENT = 2000
"""Largest number of atoms of a fragment whose bond orders are determined."""
_TIME_LIMIT_S = 20.0
"""Longest solution of an integer program, s."""
_TIE_BREAK = 1e-3
"""Penalty of a bond, per unit of its order and of its length in units of the sum of covalent radii.

Among otherwise equivalent structures, short bonds therefore get the high orders.
"""
_LONGEST_SHARE = {2: 0.985, 3: 0.85}
"""Largest length of a bond by its order, in units of the sum of covalent radii.

C#C has 0.79, C=O 0.85, C=C 0.88, and double bonds of aromatic rings up to 0.96.
"""
_ORDER_NAMES = {2: "double", 3: "triple"}
ORDINARY = frozenset({6, 7, 8})
"""Atomic numbers of the elements whose multiple bonds are checked against `_LONGEST_SHARE`."""
_SMALLEST_LINEAR_DEGREES = 140.0
"""Smallest bond angle of an atom that its bond orders make linear, degrees."""


@dataclass(frozen=True, slots=True, eq=False)
class Perceived:
    """The bond orders and charges of a structure.

    Attributes:
        rdkit: The RDKit molecule with the atoms in the structure's order and explicit hydrogens; None if it could not
            be made.
        charge: Sum of formal charges, e.
        radicals: Number of radical electrons.
        fragments: Number, formula and charge of each kind of fragment as text, such as "2 x H4N (+1), H2O".
        doubt: Message about valences that are not satisfied or bonds that are impossible; empty if there are none.
    """

    rdkit: Any
    charge: int
    radicals: int
    fragments: str
    doubt: str


@dataclass(frozen=True, slots=True, eq=False)
class _Lewis:
    """A Lewis structure of a fragment: state of each atom, order of each bond, and sum of the states' penalties."""

    states: tuple[State, ...]
    orders: tuple[int, ...]
    penalty: float

    @property
    def charge(self) -> int:
        return sum(state.charge for state in self.states)

    @property
    def radicals(self) -> int:
        return sum(state.radicals for state in self.states)


def perceived(
    numbers: IntArray, positions: FloatArray, bonds: IntArray, *, charge: int | None, radicals_allowed: bool
) -> Perceived:
    """Determine the bond orders and formal charges of a structure.

    Args:
        numbers: Atomic numbers, shape (N,).
        positions: Positions in Å, shape (N, 3); molecules are whole.
        bonds: Bonded pairs, shape (n_bonds, 2).
        charge: Total charge in e; None if it is not known: each fragment gets the charge of its least penalty.
        radicals_allowed: Whether unpaired electrons were stated, so that radicals are no reason for doubt.

    Returns:
        The bond orders and charges. `rdkit` is None if an element has no tabulated valences, if a transition metal has
        bonds, if no charges of the fragments add up to the total, if a fragment has more than `LARGEST_FRAGMENT` atoms,
        or if RDKit does not accept the result.
    """
    fragments = _fragments(numbers, positions, bonds)
    lewis = _lewis_of(fragments, charge)
    if lewis is None:
        return Perceived(None, 0 if charge is None else charge, 0, _formulas(fragments, None), "")
    doubt = "" if radicals_allowed else _unsatisfied(fragments, lewis)
    doubt = doubt or _impossible_bonds(fragments, lewis, positions)
    return Perceived(
        rdkit=_rdkit(fragments, lewis, numbers, positions),
        charge=sum(structure.charge for structure in lewis),
        radicals=sum(structure.radicals for structure in lewis),
        fragments=_formulas(fragments, lewis),
        doubt=doubt,
    )


# -- fragments --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Fragment:
    """A bonded fragment of a structure, in hashable form.

    Attributes:
        atoms: Indices of the atoms in the structure, shape (n,).
        numbers: Atomic numbers.
        bonds: Pairs of indices into `atoms`.
        lengths: Lengths of the bonds in units of the sum of covalent radii.
    """

    atoms: IntArray
    numbers: tuple[int, ...]
    bonds: tuple[tuple[int, int], ...]
    lengths: tuple[float, ...]


def _fragments(numbers: IntArray, positions: FloatArray, bonds: IntArray) -> list[_Fragment]:
    """The bonded fragments of a structure, in order of their first atoms."""
    from ase.data import covalent_radii

    vectors = positions[bonds[:, 0]] - positions[bonds[:, 1]]
    relative = np.linalg.norm(vectors, axis=1) / covalent_radii[numbers[bonds]].sum(axis=1)
    return [
        _Fragment(
            atoms=part.atoms,
            numbers=tuple(numbers[part.atoms].tolist()),
            bonds=tuple((int(i), int(j)) for i, j in part.pairs),
            lengths=tuple(relative[part.bonds].tolist()),
        )
        for part in BondGraph(len(numbers), bonds).fragments()
    ]


def _formulas(fragments: Sequence[_Fragment], lewis: Sequence[_Lewis] | None) -> str:
    """Number, formula and charge of each kind of fragment as text; without Lewis structures, no charges."""
    from ase.formula import Formula

    charges = [0] * len(fragments) if lewis is None else [structure.charge for structure in lewis]
    names: Counter[str] = Counter()
    for fragment, charge in zip(fragments, charges, strict=True):
        formula = Formula.from_list([_symbol(number) for number in fragment.numbers]).format("hill")
        names[formula + (f" ({charge:+d})" if charge else "")] += 1
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in names.items())


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    return str(chemical_symbols[number])


# -- Lewis structures -------------------------------------------------------------------------------------------


def _lewis_of(fragments: Sequence[_Fragment], charge: int | None) -> list[_Lewis] | None:
    """The Lewis structure of every fragment, with charges that add up to the total; None if there is no solution.

    Fragments of equal elements and bonds get equal Lewis structures for a charge.
    """
    if any(len(fragment.numbers) > LARGEST_FRAGMENT for fragment in fragments):
        return None
    solved: dict[Any, _Lewis | None] = {}

    def solve(fragment: _Fragment, wanted: int | None) -> _Lewis | None:
        key = (fragment.numbers, fragment.bonds, wanted)
        if key not in solved:
            solved[key] = _solve(fragment, wanted)
        return solved[key]

    if len(fragments) == 1:
        only = solve(fragments[0], charge)
        return None if only is None else [only]
    best = [solve(fragment, None) for fragment in fragments]
    lewis = [structure for structure in best if structure is not None]
    if len(lewis) < len(fragments):
        return None
    missing = 0 if charge is None else charge - sum(structure.charge for structure in lewis)
    if missing:
        return _shifted(fragments, lewis, missing, solve)
    return lewis


def _shifted(fragments: Sequence[_Fragment], lewis: list[_Lewis], missing: int, solve: Any) -> list[_Lewis] | None:
    """The Lewis structures of least total penalty whose total charge is higher by `missing` e; None if there are none.

    This is dynamic programming over the fragments. For every change of the total charge that the fragments so far can
    reach, the cheapest choice of their structures is kept.

    Args:
        fragments: The fragments.
        lewis: The Lewis structure of least penalty of each fragment.
        missing: Change of the total charge, e.
        solve: Gives the Lewis structure of a fragment at a charge, or None.
    """
    by_charge: list[dict[int, _Lewis]] = []
    for fragment, best in zip(fragments, lewis, strict=True):
        choices = {best.charge: best}
        for wanted in range(best.charge - 3, best.charge + 4):
            found = solve(fragment, wanted)
            if found is not None and found.penalty - best.penalty <= CHARGE_EFFORT:
                choices[wanted] = found
        by_charge.append(choices)
    reached: dict[int, tuple[float, list[_Lewis]]] = {0: (0.0, [])}
    for best, choices in zip(lewis, by_charge, strict=True):
        following: dict[int, tuple[float, list[_Lewis]]] = {}
        for shift, (penalty, chosen) in reached.items():
            for wanted, choice in choices.items():
                total = shift + wanted - best.charge
                cost = penalty + choice.penalty - best.penalty
                if abs(total) <= abs(missing) + 3 and (total not in following or cost < following[total][0]):
                    following[total] = (cost, [*chosen, choice])
        reached = following
    solution = reached.get(missing)
    return None if solution is None or solution[0] > CHARGE_EFFORT else solution[1]


def _solve(fragment: _Fragment, charge: int | None) -> _Lewis | None:
    """The Lewis structure of least penalty at a charge (None: at any charge); None if none is found in time.

    The variables of the integer program are, atom after atom, a 0 or 1 for each state of the atom, then the order of
    each bond.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    if any(number not in STATES for number in fragment.numbers):
        return None
    states = [STATES[number] for number in fragment.numbers]
    first = np.cumsum([0, *(len(possible) for possible in states)])  # variable of each atom's first state
    n_atoms, n_states, n_bonds = len(states), int(first[-1]), len(fragment.bonds)
    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []

    def add(row: int, column: int, value: float) -> None:
        rows.append(row)
        columns.append(column)
        values.append(value)

    for atom, possible in enumerate(states):
        for k, state in enumerate(possible):
            add(atom, first[atom] + k, 1.0)  # each atom takes exactly one state
            add(n_atoms + atom, first[atom] + k, -state.valence)  # orders at an atom add up to its valence
            if charge is not None:
                add(2 * n_atoms, first[atom] + k, state.charge)
    for bond, pair in enumerate(fragment.bonds):
        for atom in pair:
            add(n_atoms + atom, n_states + bond, 1.0)
    right = np.concatenate([np.ones(n_atoms), np.zeros(n_atoms), [] if charge is None else [float(charge)]])
    matrix = coo_array((values, (rows, columns)), shape=(len(right), n_states + n_bonds)).tocsr()
    cost = np.concatenate(
        [[state.penalty for possible in states for state in possible], _TIE_BREAK * np.asarray(fragment.lengths)]
    )
    low = np.concatenate([np.zeros(n_states), np.ones(n_bonds)])
    high = np.concatenate([np.ones(n_states), np.full(n_bonds, 3.0)])
    found = milp(
        cost,
        constraints=LinearConstraint(matrix, right, right),
        integrality=np.ones(n_states + n_bonds),
        bounds=Bounds(low, high),
        options={"time_limit": _TIME_LIMIT_S},
    )
    if not found.success:
        return None
    values_found = np.round(found.x).astype(int)
    chosen = [possible[int(np.argmax(values_found[first[k] : first[k + 1]]))] for k, possible in enumerate(states)]
    penalty = sum(state.penalty for state in chosen)
    return _Lewis(tuple(chosen), tuple(values_found[n_states:].tolist()), penalty)


# -- doubts -----------------------------------------------------------------------------------------------------


def _unsatisfied(fragments: Sequence[_Fragment], lewis: Sequence[_Lewis]) -> str:
    """The message that names the atoms in states of an `UNLIKELY` penalty; empty without such atoms.

    Carbocations such as tropylium are ordinary molecules, so their carbon atoms are not named.
    """
    atoms = [
        f"{_symbol(fragment.numbers[k])}{fragment.atoms[k]}"
        for fragment, structure in zip(fragments, lewis, strict=True)
        for k, state in enumerate(structure.states)
        if state.penalty >= UNLIKELY and not _is_carbocation(fragment, k, state)
    ]
    if not atoms:
        return ""
    shown = ", ".join(atoms[:8]) + (", ..." if len(atoms) > 8 else "")  # noqa: PLR2004 -- a line
    return f"the valences of {shown} are not satisfied"


def _is_carbocation(fragment: _Fragment, atom: int, state: State) -> bool:
    """Whether an atom is a carbon with a positive charge and three neighbours, as in tropylium."""
    neighbours = sum(atom in pair for pair in fragment.bonds)
    return fragment.numbers[atom] == 6 and state.charge > 0 and neighbours == 3  # noqa: PLR2004


def _impossible_bonds(fragments: Sequence[_Fragment], lewis: Sequence[_Lewis], positions: FloatArray) -> str:
    """The message about a multiple bond that is too long or a linear atom that is bent; empty without such a bond.

    Both are signs of missing hydrogens.
    """
    for fragment, structure in zip(fragments, lewis, strict=True):
        names = [f"{_symbol(number)}{atom}" for number, atom in zip(fragment.numbers, fragment.atoms, strict=True)]
        for (i, j), order, relative in zip(fragment.bonds, structure.orders, fragment.lengths, strict=True):
            ordinary = {fragment.numbers[i], fragment.numbers[j]} <= ORDINARY
            if order > 1 and ordinary and relative > _LONGEST_SHARE[order]:
                length = relative * _sum_of_radii(fragment.numbers[i], fragment.numbers[j])
                return f"a {_ORDER_NAMES[order]} bond between {names[i]} and {names[j]} would be {length:.2f} Å long"
        for centre, (i, j) in _linear_atoms(fragment, structure).items():
            arms = positions[fragment.atoms[[i, j]]] - positions[fragment.atoms[centre]]
            cosine = float(arms[0] @ arms[1]) / float(np.prod(np.linalg.norm(arms, axis=1)))
            angle = float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
            if angle < _SMALLEST_LINEAR_DEGREES:
                return f"{names[centre]} would be linear, but its bonds make an angle of {angle:.0f}°"
    return ""


def _sum_of_radii(first: int, second: int) -> float:
    """Sum of two elements' covalent radii, Å."""
    from ase.data import covalent_radii

    return float(covalent_radii[first] + covalent_radii[second])


def _linear_atoms(fragment: _Fragment, structure: _Lewis) -> dict[int, tuple[int, int]]:
    """The two neighbours of each carbon or nitrogen atom that has a triple bond or two double bonds, by the atom."""
    pi: Counter[int] = Counter()
    around = BondGraph(len(fragment.numbers), fragment.bonds).neighbours
    for pair, order in zip(fragment.bonds, structure.orders, strict=True):
        for atom in pair:
            pi[atom] += order - 1
    return {
        atom: (around[atom][0], around[atom][1])
        for atom, count in pi.items()
        if count > 1 and len(around[atom]) == 2 and fragment.numbers[atom] in (6, 7)  # noqa: PLR2004
    }


# -- RDKit ------------------------------------------------------------------------------------------------------


def _rdkit(
    fragments: Sequence[_Fragment], lewis: Sequence[_Lewis], numbers: IntArray, positions: FloatArray
) -> Any | None:
    """The structure as an RDKit molecule; None if RDKit refuses the molecule, or a transition metal has bonds."""
    from rdkit import Chem, rdBase
    from rdkit.Geometry import Point3D

    orders = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
    mol = Chem.RWMol()
    conformer = Chem.Conformer(len(numbers))
    for index, (number, position) in enumerate(zip(numbers.tolist(), positions.tolist(), strict=True)):
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)  # noqa: FBT003 -- RDKit's signature
        mol.AddAtom(atom)
        conformer.SetAtomPosition(index, Point3D(*position))
    for fragment, structure in zip(fragments, lewis, strict=True):
        for k, state in enumerate(structure.states):
            atom = mol.GetAtomWithIdx(int(fragment.atoms[k]))
            atom.SetFormalCharge(state.charge)
            atom.SetNumRadicalElectrons(state.radicals)
        for (i, j), order in zip(fragment.bonds, structure.orders, strict=True):
            mol.AddBond(int(fragment.atoms[i]), int(fragment.atoms[j]), orders[order])
    mol.AddConformer(conformer)
    if any(len(fragment.numbers) > 1 and TRANSITION_METALS & set(fragment.numbers) for fragment in fragments):
        return None
    with rdBase.BlockLogs():
        made = Chem.Mol(mol)
        try:
            Chem.SanitizeMol(made)
            Chem.AssignStereochemistryFrom3D(made)
        except (ValueError, RuntimeError):
            return None
    return made
