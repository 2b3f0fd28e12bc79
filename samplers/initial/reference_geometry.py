"""Equilibrium geometries by the reference method, and their comparison with those of a classical force field.

A classical force field may give a wrong geometry. RDKit fills missing MMFF94 parameters by rule, which gives CO2 bonds
of 1.42 Å and N2 a bond of 1.46 Å; UFF moves the neighbours of hypervalent atoms too close together. Frames made from
such a geometry teach nothing about the molecule, and every trajectory of a model trained on them explodes. The
comparison takes 10 to 100 single-point calculations and finds the fault before hundreds of frames are made.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from al_engine.config import SystemConfig
from al_engine.errors import InputError
from al_engine.protocols import Reference
from al_engine.structures.bonds import BondGraph, fragment_of_atom
from al_engine.structures.frames import FloatArray, Frame, IntArray
from samplers.building.bonds_by_distance import bonds_from_radii
from samplers.building.electrons import unpaired_of
from samplers.building.mixtures import mixture
from samplers.building.molecules import Molecule, shortened
from samplers.building.system import System, packed_system, unpaired_of_copy

CALM_EV_PER_ANG = 2.0
"""Largest force at the classical minimum at which the methods count as agreeing; ordinary organic molecules have 0.1 to
2 eV/Å."""
WRONG_EV_PER_ANG = 5.0
"""Largest force at the classical minimum above which the methods disagree, for a molecule that is not relaxed; CO2 has
13 eV/Å, SO2 8 eV/Å."""
BOND_SHARE = 0.08
"""Largest relative difference of two bond lengths that count as equal; in ordinary molecules it is up to 4 %."""
ENERGY_EV_PER_ATOM = 0.2
"""Largest reference energy of the classical minimum, relative to the reference method's minimum, at which the minima
count as equal; kT at 2000 K is 0.17 eV."""
RELAX_STEPS = 100
"""Largest number of steps of a relaxation."""
RELAXED_EV_PER_ANG = 0.05
"""Largest force on an atom at which a relaxation ends, eV/Å."""
_LONGEST_MOVE_ANG = 0.1
"""Largest displacement of an atom in a step, Å."""
_WILD_EV_PER_ANG = 20.0
"""Largest force on an atom, eV/Å, above which a relaxation may start from the spread-out atoms instead."""
_BROKEN_FACTOR = 1.3
"""Length after relaxation, in units of the length before, from which a bond counts as broken."""
_SPREAD_STEPS = 200
"""Largest number of steps of the minimisation in `spread_out`."""


@dataclass(frozen=True, slots=True, eq=False)
class Relaxed:
    """The result of a relaxation by the reference method.

    Attributes:
        frame: The relaxed frame.
        energy_drop: Energy before relaxation minus energy after it, eV; infinite if the method fails on the frame
            before relaxation.
        largest_force: Largest force on an atom before relaxation, eV/Å; infinite if the method fails on this frame.
    """

    frame: Frame
    energy_drop: float
    largest_force: float


def relaxed(frame: Frame, bonds: IntArray, reference: Reference, *, steps: int = RELAX_STEPS) -> Relaxed | None:
    """Relax a frame by the reference method with BFGS.

    If the method fails on the frame, or the largest force is above 20 eV/Å, the relaxation starts from the spread-out
    atoms (`spread_out`) instead, provided that the method gives them an energy, and a lower one than the frame's. The
    atoms of periodic frames are not spread out.

    Args:
        frame: The frame.
        bonds: Bonded pairs, shape (n_bonds, 2).
        reference: The reference method.
        steps: Largest number of steps.

    Returns:
        The relaxed frame; None if the reference method fails on both the frame and the spread-out atoms.
    """
    first = reference([frame])[0]
    start, label = frame, first
    if not frame.is_periodic and (label is None or _largest(label[1]) > _WILD_EV_PER_ANG):
        spread = frame.with_positions(spread_out(frame, bonds))
        of_spread = reference([spread])[0]
        if of_spread is not None and (label is None or of_spread[0] < label[0]):
            start, label = spread, of_spread
    if label is None:
        return None
    end, energy = _minimised(start, label[0], reference, steps=steps)
    if first is None:
        return Relaxed(end, np.inf, np.inf)
    return Relaxed(end, first[0] - energy, _largest(first[1]))


def _largest(forces: FloatArray) -> float:
    """Largest force on an atom, eV/Å."""
    return float(np.linalg.norm(forces, axis=1).max())


def _minimised(frame: Frame, energy: float, reference: Reference, *, steps: int) -> tuple[Frame, float]:
    """The frame of lowest energy along a minimisation by BFGS, and its energy in eV.

    The minimisation ends early if the reference method fails on a frame.

    Args:
        frame: The frame from which the minimisation starts.
        energy: Energy of this frame, eV.
        reference: The reference method.
        steps: Largest number of steps.
    """
    from ase.calculators.calculator import Calculator, CalculatorError, all_changes
    from ase.optimize import BFGS

    class ReferenceCalculator(Calculator):
        implemented_properties = ("energy", "forces")

        def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes) -> None:
            super().calculate(atoms, properties, system_changes)
            label = reference([frame.with_positions(self.atoms.positions)])[0]
            if label is None:
                raise CalculatorError("the reference method fails")
            self.results = {"energy": label[0], "forces": label[1]}
            evaluated.append((label[0], frame.with_positions(self.atoms.positions)))

    evaluated = [(energy, frame)]
    atoms = frame.to_atoms()
    atoms.calc = ReferenceCalculator()
    with suppress(CalculatorError):  # the best frame before the failure is good enough
        BFGS(atoms, logfile=None, maxstep=_LONGEST_MOVE_ANG).run(fmax=RELAXED_EV_PER_ANG, steps=steps)
    energy, best = min(evaluated, key=lambda pair: pair[0])
    return best, energy


def spread_out(frame: Frame, bonds: IntArray) -> FloatArray:
    """Move bonded atoms to the distances of single bonds, and push all other pairs of atoms apart.

    The positions minimise a function made for this purpose: 10 * sum (d - l)² over the bonds plus sum d⁻⁴ over all
    other pairs, where d are distances and l sums of covalent radii (Cordero et al., Dalton Trans. 2832 (2008)), in Å.
    The neighbours of a hypervalent atom then form an octahedron or a bipyramid, which force fields without parameters
    for such atoms do not give.

    Args:
        frame: The frame, without a cell.
        bonds: Bonded pairs, shape (n_bonds, 2).

    Returns:
        Positions in Å, shape (N, 3).
    """
    from ase.data import covalent_radii
    from scipy.optimize import minimize

    i, j = np.asarray(bonds, dtype=np.int64).reshape(-1, 2).T
    lengths = covalent_radii[frame.numbers[i]] + covalent_radii[frame.numbers[j]]
    first, second = np.triu_indices(len(frame), 1)
    bonded = set(zip(i.tolist(), j.tolist(), strict=True))
    apart = np.array([(a, b) not in bonded for a, b in zip(first.tolist(), second.tolist(), strict=True)], dtype=bool)
    first, second = first[apart], second[apart]
    # Small random displacements: atoms that lie in a plane or on top of each other would stay there.
    start = frame.positions + np.random.default_rng(0).normal(0.0, 0.05, frame.positions.shape)

    def strain(flat: FloatArray) -> tuple[float, FloatArray]:
        """The minimised function and its gradient."""
        x = flat.reshape(-1, 3)
        gradient = np.zeros_like(x)
        stretched = x[i] - x[j]
        distance = np.maximum(np.linalg.norm(stretched, axis=1), 1e-6)
        pull = 20.0 * (distance - lengths)
        force = (pull / distance)[:, None] * stretched
        np.add.at(gradient, i, force)
        np.add.at(gradient, j, -force)
        between = x[first] - x[second]
        gap = np.maximum(np.linalg.norm(between, axis=1), 0.1)
        push = (-4.0 / gap**6)[:, None] * between
        np.add.at(gradient, first, push)
        np.add.at(gradient, second, -push)
        return float(10.0 * ((distance - lengths) ** 2).sum() + (1.0 / gap**4).sum()), gradient.ravel()

    found = minimize(strain, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _SPREAD_STEPS})
    positions: FloatArray = found.x.reshape(-1, 3)
    return positions


def relaxed_system(reference: Reference, system: System, config: SystemConfig, *, seed: int) -> System:
    """Relax a copy of each molecule of the system by the reference method, and pack the system anew from the copies.

    Args:
        reference: The reference method.
        system: The system.
        config: The `system` section, which names the shape and the density.
        seed: Seed of the packing.

    Raises:
        InputError: If the reference method fails on a molecule, or the molecules cannot be packed.
    """
    if system.molecule.components:
        components = [
            (relaxed_molecule(molecule, unpaired_of(molecule), reference), count)
            for molecule, count in system.molecule.components
        ]
        molecule = mixture(components, seed=seed)
    else:
        molecule = relaxed_molecule(system.molecule, unpaired_of_copy(system), reference)
    return packed_system(molecule, config, count=system.n_molecules, seed=seed)


def relaxed_molecule(molecule: Molecule, unpaired_electrons: int, reference: Reference) -> Molecule:
    """The molecule, relaxed by the reference method; a single atom, or a molecule of which a bond breaks, is unchanged.

    A zwitterion is unchanged because one of its protons moves in vacuum, but not in a solution.

    Raises:
        InputError: If the reference method fails on the molecule.
    """
    if len(molecule) == 1:
        return molecule
    found = relaxed(_frame(molecule, unpaired_electrons), molecule.bonds, reference)
    if found is None:
        raise InputError(
            f"the reference method fails on {molecule.source}; check its structure, charge and unpaired_electrons"
        )
    return replace(molecule, positions=found.frame.positions) if _intact(molecule, found.frame.positions) else molecule


def _intact(molecule: Molecule, positions: FloatArray) -> bool:
    """Whether no bond of a molecule is broken at other positions of its atoms (`_BROKEN_FACTOR`), Å, shape (n, 3)."""
    before, after = _lengths(molecule.positions, molecule.bonds), _lengths(positions, molecule.bonds)
    return bool((after < _BROKEN_FACTOR * before).all())


class Outcome(StrEnum):
    """What becomes of a molecule when the reference method relaxes it."""

    KEPT = "kept"
    """It keeps all its bonds."""
    REARRANGED = "rearranged"
    """An atom has moved to another place, and the molecule holds together: the proton of a zwitterion in vacuum."""
    APART = "apart"
    """It falls apart, or the reference method fails on it."""


def relaxation_outcome(system: System, reference: Reference) -> Outcome:
    """What becomes of a copy of the system's molecule when the reference method relaxes it."""
    molecule = system.molecule
    found = relaxed(_frame(molecule, unpaired_of_copy(system)), molecule.bonds, reference)
    if found is None:
        return Outcome.APART
    if _intact(molecule, found.frame.positions):
        return Outcome.KEPT
    frame = found.frame
    bonds = bonds_from_radii(frame.numbers, frame.positions, frame.cell, frame.pbc)
    before, after = (int(fragment_of_atom(len(frame), each).max()) for each in (molecule.bonds, bonds))
    return Outcome.REARRANGED if after <= before else Outcome.APART


def _lengths(positions: FloatArray, bonds: IntArray) -> FloatArray:
    """Lengths in Å, shape (n_bonds,), of bonds, shape (n_bonds, 2)."""
    lengths: FloatArray = np.linalg.norm(positions[bonds[:, 0]] - positions[bonds[:, 1]], axis=1)
    return lengths


def _frame(molecule: Molecule, unpaired_electrons: int) -> Frame:
    """The molecule as a frame."""
    return Frame(
        numbers=molecule.numbers,
        positions=molecule.positions,
        cell=molecule.cell,
        pbc=molecule.pbc,
        charge=molecule.charge,
        unpaired_electrons=unpaired_electrons,
    )


# -- the classical force field ----------------------------------------------------------------------------------


def covalent_kinds(molecule: Molecule) -> list[Molecule]:
    """Divide a molecule with bond orders into its bonded fragments, and return a molecule for each kind of fragment.

    Fragments of the same kind have the same elements and bonds in the same order. Single atoms are left out. A fragment
    that is the whole molecule keeps the molecule's charge and spin; other fragments have their formal charge. Each
    molecule of a mixture is divided by itself.
    """
    from rdkit import Chem

    if molecule.components:
        return [kind for part, _ in molecule.components for kind in covalent_kinds(part)]
    kinds: dict[tuple[bytes, bytes], Molecule] = {}
    for own in BondGraph(len(molecule), molecule.bonds).fragments():
        atoms, bonds = own.atoms, own.pairs
        if len(atoms) == 1:
            continue
        key = (molecule.numbers[atoms].tobytes(), bonds.tobytes())
        if key in kinds:
            continue
        mol = Chem.Mol(Chem.GetMolFrags(molecule.rdkit, asMols=True)[_fragment_with(molecule.rdkit, int(atoms[0]))])
        is_whole = len(atoms) == len(molecule)
        name = molecule.source if is_whole else shortened(Chem.MolToSmiles(Chem.RemoveHs(mol)))
        charge = molecule.charge if is_whole else Chem.GetFormalCharge(mol)
        kinds[key] = Molecule(
            numbers=molecule.numbers[atoms],
            positions=molecule.positions[atoms],
            bonds=bonds,
            charge=charge,
            formal_charge=Chem.GetFormalCharge(mol),
            radical_electrons=sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()),
            unpaired_electrons=molecule.unpaired_electrons if is_whole else None,
            source=name,
            rdkit=mol,
        )
    return list(kinds.values())


def _fragment_with(mol: Any, atom: int) -> int:
    """Index of the fragment, in RDKit's order, that an atom belongs to."""
    from rdkit import Chem

    return next(k for k, atoms in enumerate(Chem.GetMolFrags(mol)) if atom in atoms)


def geometry_disagreement(
    molecule: Molecule,
    classical_positions: FloatArray,
    *,
    field: str,
    unpaired_electrons: int,
    reference: Reference,
    relax: bool = True,
) -> str:
    """Compare a molecule's geometry at the minimum of a classical force field with the reference method.

    The methods agree if the reference method's forces at the classical minimum are small. Otherwise the molecule is
    relaxed by the reference method, and bond lengths and energies before and after relaxation are compared.

    Args:
        molecule: A molecule of one bonded fragment.
        classical_positions: The molecule's positions at the classical minimum in Å, shape (n, 3).
        field: Name of the force field.
        unpaired_electrons: Number of unpaired electrons of the molecule.
        reference: The reference method.
        relax: Whether the molecule may be relaxed, which takes up to `RELAX_STEPS` labels; otherwise only the forces
            are judged.

    Returns:
        The disagreement as a sentence for the user; empty if the methods agree.
    """
    frame = replace(
        _frame(molecule, unpaired_electrons),
        positions=classical_positions,
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, bool),
    )
    label = reference([frame])[0]
    if label is not None and _largest(label[1]) <= CALM_EV_PER_ANG:
        return ""
    if not relax:
        return _by_forces(molecule, None if label is None else _largest(label[1]), field)
    found = relaxed(frame, molecule.bonds, reference)
    if found is None:
        return f"the reference method fails on {molecule.source} at the minimum of {field}"
    by_field, by_reference = (_lengths(x, molecule.bonds) for x in (classical_positions, found.frame.positions))
    # A bond that the relaxation breaks, because a proton moves, does not show a wrong bond length.
    intact = by_reference < _BROKEN_FACTOR * by_field
    differences = np.where(intact, np.abs(by_field / by_reference - 1.0), 0.0)
    worst = int(np.argmax(differences))
    if differences[worst] > BOND_SHARE:
        return (
            f"the bond {_bond_name(molecule, worst)} of {molecule.source} is {by_field[worst]:.2f} Å long by {field}, "
            f"{by_reference[worst]:.2f} Å by the reference method"
        )
    per_atom = found.energy_drop / len(molecule)
    if per_atom > ENERGY_EV_PER_ATOM:
        return (
            f"the minimum of {field} for {molecule.source} lies {per_atom:.2f} eV per atom above the reference "
            "method's minimum"
        )
    return ""


def _by_forces(molecule: Molecule, largest: float | None, field: str) -> str:
    """The disagreement as a sentence, from the largest force at the classical minimum in eV/Å, or an empty text.

    The force is None if the reference method fails there.
    """
    if largest is None:
        return f"the reference method fails on {molecule.source} at the minimum of {field}"
    if largest > WRONG_EV_PER_ANG:
        return f"at the minimum of {field}, {molecule.source} has forces of {largest:.1f} eV/Å by the reference method"
    return ""


def _bond_name(molecule: Molecule, bond: int) -> str:
    """Elements and indices of a bond's atoms, such as `C0-O1`."""
    from ase.data import chemical_symbols

    return "-".join(f"{chemical_symbols[molecule.numbers[atom]]}{atom}" for atom in molecule.bonds[bond])
